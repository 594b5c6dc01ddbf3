"""Commands that draw, render or turn the pictures that data sets are built from and systems measured on."""

import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.commands.configured import Config, with_config
from flows.commands.options import (
    Folder,
    Json,
    Model,
    Scheduler,
    Workers,
    given_model,
    local,
    print_json,
    wrong_setting,
)

app = typer.Typer()


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Folder to write; made when absent.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of every draw.")] = 0,
    identities: Annotated[int, typer.Option(min=1, help="Invented people.")] = 12,
    expressions: Annotated[int, typer.Option(min=1, help="Families of each.")] = 2,
    views: Annotated[int, typer.Option(min=1, max=100, help="Pictures of a family, turned up to profile.")] = 8,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Draw a small sample in 300W-LP's layout. Pictures and .mat files of the built-in model, traps included.

    \b
    facefoundry sample 300W_LP
    facefoundry sample few --identities 2 --expressions 1 --views 3 --seed 7
    """
    from flows.progress import progress_of
    from storage.processes import usable_cores
    from storage.synthetic import write_sample_folder

    with progress_of("sample", unit="families", silent=as_json)(identities * expressions) as report:
        record = write_sample_folder(
            folder,
            seed=seed,
            n_identities=identities,
            n_expressions=expressions,
            n_views=views,
            workers=workers or usable_cores(),
            progress=lambda done, total: report(1),
        )
    if as_json:
        print_json(path=str(folder.absolute()), pictures=record.pictures, families=record.families)
    else:
        print(f"{record.pictures} pictures of {record.families} families in {folder}")


@app.command()
def people(
    out: Annotated[
        Path, typer.Option(callback=local, help="Folder to write; made when absent, gone on with when unfinished.")
    ],
    preset: Annotated[
        Literal["people", "people-frontal", "people-large-pose", "people-perspective", "people-physical"],
        typer.Option(help="How they are drawn and photographed: docs/rendered-people.md."),
    ] = "people",
    n_people: Annotated[int, typer.Option(min=1, help="Invented people.")] = 100,
    expressions: Annotated[int, typer.Option(min=1, max=100, help="Families of each.")] = 2,
    views: Annotated[int, typer.Option(min=1, max=100, help="Pictures of a family.")] = 4,
    side: Annotated[
        int | None, typer.Option(min=64, max=1024, help="Of the pictures in pixels. Default: 450, as builds want it.")
    ] = None,
    validation: Annotated[float, typer.Option(min=0, max=0.99, help="Share of people kept for validation.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every draw.")] = 0,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Render invented people to train on. With hair, glasses and light, as a folder in 300W-LP's layout.

    \b
    facefoundry people --out people --n-people 1000
    facefoundry build 300wlp-posmaps --source people/train
    """
    from flows.progress import progress_of
    from render.people_config import PRESETS
    from render.shaded_view import NoRenderer
    from storage.people import PeoplePlan
    from storage.people_folder import write_people_folder
    from storage.processes import usable_cores

    config = PRESETS[preset]()
    if side is not None:
        config = config.model_copy(update={"side_px": side})
    plan = PeoplePlan(config, seed, n_people, expressions, views, validation)
    with progress_of("people", unit="people", silent=as_json)(n_people) as report:
        try:
            parts = write_people_folder(
                out, plan, workers=workers or usable_cores(), progress=lambda done, total: report(1)
            )
        except NoRenderer as error:
            raise typer.BadParameter(f"--preset {preset}: {error}") from None
    counts = {split: len(members) * expressions * views for split, members in parts.items()}
    if as_json:
        print_json(path=str(out.absolute()), people=n_people, pictures=plan.pictures, **counts)
    else:
        print(f"{plan.pictures} pictures of {n_people} people in {out}: {counts['train']} train, "
              f"{counts['validation']} validation")  # fmt: skip


@app.command(cls=with_config({"": "profile-faces"}))
def profile(
    source: Annotated[
        Path | None,
        typer.Argument(help="300W-LP, or what fit-landmarks or fit wrote. Default: a sample drawn here."),
    ] = None,
    out: Folder = Path("profiles"),
    yaw_step_deg: Annotated[float, typer.Option("--yaw-step", help="Degrees from one view to the next.")] = 5.0,
    max_yaw_deg: Annotated[
        float, typer.Option("--max-yaw", help="No view is turned farther to the side (degrees).")
    ] = 90.0,
    pitch_deg: Annotated[
        list[float] | None,
        typer.Option(
            "--pitch", help="Add a row of views with so many degrees added to the photograph's pitch; repeatable."
        ),
    ] = None,
    sides: Annotated[
        Literal["outward", "both"],
        typer.Option(help="Turn heads on to the side that they look to, as in 300W-LP, or to both."),
    ] = "outward",
    model: Model = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    on_bad: Annotated[
        Literal["quarantine", "fail"], typer.Option(help="List bad photographs and go on, or stop at the first.")
    ] = "quarantine",
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="A larger share of bad photographs stops it.")] = 0.01,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Turn fitted photographs to the side in steps. A folder like 300W-LP, its landmarks right in every file.

    \b
    facefoundry profile datasets/sources/fits/VERSION --out profiles
    facefoundry build 300wlp-posmaps --source profiles
    """
    from pydantic import ValidationError

    from flows.face_profiles import ProfilesConfig
    from flows.profiles import profile_here
    from flows.progress import progress_of

    start = time.monotonic()
    try:
        settings = ProfilesConfig(
            yaw_step_deg=yaw_step_deg, max_yaw_deg=max_yaw_deg, pitch_deg=tuple(pitch_deg or ()), sides=sides
        )
    except ValidationError as error:
        raise typer.BadParameter(wrong_setting(error)) from None
    done = profile_here(
        source,
        out=out,
        config=settings,
        model=given_model(model),
        workers=workers,
        max_bad=max_bad,
        fail_on_first=on_bad == "fail",
        progress=progress_of("profile", unit="photographs", silent=as_json),
        scheduler=scheduler,
    )
    seconds = time.monotonic() - start
    if as_json:
        print_json(
            folder=str(done.folder),
            version=done.version,
            photographs=done.photographs,
            pictures=done.pictures,
            rejected=[{"source_id": r.source_id, "code": r.code, "reason": r.reason} for r in done.rejected],
            licence=done.licence,
            seconds=round(seconds, 3),
        )
        return
    print(f"folder         {done.folder}")
    print(f"pictures       {done.pictures} of {done.photographs} photographs, {seconds:.1f} s")
    print(f"terms          {done.licence}")
    for refusal in done.rejected:
        print(f"facefoundry: {refusal.source_id}: {refusal.reason} [{refusal.code}]", file=sys.stderr)


@app.command()
def florence(
    meshes: Annotated[
        list[str], typer.Argument(metavar="MESH...", help="Mesh files (.obj .ply …), or 'built-in' for invented heads.")
    ],
    out: Folder = Path("florence"),
    size: Annotated[int, typer.Option(min=64, max=4096, help="Side of the pictures in pixels.")] = 450,
    yaw_step: Annotated[int, typer.Option(help="Degrees from one yaw to the next, from -80 to 80.")] = 20,
    people: Annotated[int, typer.Option(min=1, max=999, help="Of built-in: how many invented people.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of built-in: seed of every draw.")] = 0,
    unit: Annotated[
        Literal["um", "mm", "cm", "m", "inch"] | None,
        typer.Option(help="What mesh files' numbers count. Default: mm, in glTF m."),
    ] = None,
    largest: Annotated[
        bool, typer.Option("--largest", help="Keep a mesh file's largest component and drop stray vertices.")
    ] = False,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Render meshes in the Florence protocol's poses. Their ground truth lies beside them, for evaluation.

    \b
    facefoundry florence scans/*.obj --out florence
    facefoundry florence built-in --people 20
    """
    from flows.florence import florence_here
    from flows.progress import progress_of

    folder, pictures = florence_here(
        meshes,
        out=out,
        people=people,
        seed=seed,
        size_px=size,
        yaw_step_deg=yaw_step,
        unit=unit,
        largest=largest,
        workers=workers,
        progress=progress_of("florence", unit="subjects", silent=as_json),
    )
    if as_json:
        print_json(folder=str(folder), pictures=pictures)
    else:
        print(f"{pictures} pictures with their ground truth in {folder}")

"""Commands that build data sets."""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.commands import completion
from flows.commands.configured import Config, with_config
from flows.commands.options import Json, Mask, Model, OutUrl, Scheduler, Workers, given_model, print_json, wrong_setting

if TYPE_CHECKING:
    from flows.config import BuildConfig

app = typer.Typer()


class Preset(StrEnum):
    """A data set that is built by name: its flow's name without `build-`."""

    POSMAPS_300WLP = "300wlp-posmaps"
    DENSEREG_FIELDS = "densereg-fields"
    EAR_FIELDS = "ear-fields"


def _of_other_presets(preset: str) -> set[str]:
    """The options that this one does not take."""
    from flows.presets import PRESETS

    own = {*PRESETS[preset].options, *PRESETS[preset].files}
    of_any = {name for each in PRESETS.values() for name in (*each.options, *each.files)}
    return of_any - own


@app.command(
    cls=with_config(
        {preset.value: f"build-{preset.value}" for preset in Preset},
        chosen_by="preset",
        here_alone=_of_other_presets,
    )
)
def build(
    preset: Annotated[Preset, typer.Argument(help="What to build.")],
    source: Annotated[
        Path | None, typer.Option(help="Folder of annotated photographs. Default: a sample drawn here.")
    ] = None,
    model: Model = None,
    out: OutUrl = "datasets",
    size: Annotated[
        int | None, typer.Option(min=128, max=512, help="Side of crops and maps in pixels. Default: 256.")
    ] = None,
    longest: Annotated[
        int | None,
        typer.Option(min=64, max=1024, help="Longest side of whole photographs; none is enlarged. Default: 800."),
    ] = None,
    maps: Annotated[
        Literal["materialized", "uncompressed", "parametric", "float"] | None,
        typer.Option(
            help="Store parameters that readers decode, or the maps in fixed point (default; or uncompressed) or float32."
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="lossless (default), uncompressed, jpeg:95 (any quality), or source: the source's own files, cut on reading."
        ),
    ] = None,
    atlas: Annotated[
        Literal["auto", "own", "tutte"] | None,
        typer.Option(help="The model's own UV atlas, a computed Tutte map, or what there is (default)."),
    ] = None,
    copies: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Samples of each picture; the first is not jittered. Default: 1."),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.augmentations,
            help="What copies go through in place of the jitter: prnet, densereg, dan, fan3d, mesh_gcn, slight, everything, or a "
            "mixture by weight (prnet:2+dan).",
        ),
    ] = None,
    compat: Annotated[Literal["face3d"] | None, typer.Option(help="Give a published recipe's labels.")] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,NAME",
            autocompletion=completion.target_names,
            help="What is made of each crop: posmap, field, parts, heatmaps. Default: posmap.",
        ),
    ] = None,
    field_atlas: Annotated[
        Literal["cylinder", "maps", "own"] | None,
        typer.Option(
            help="What u and v of fields count in: the unfolded cylinder (default), the position maps' atlas, or, of "
            "densereg-fields, the model's own."
        ),
    ] = None,
    mask: Mask = None,
    smoothing: Annotated[
        float | None,
        typer.Option(min=0, help="Of ear-fields' splines: 0 goes through every landmark, more forgives annotators."),
    ] = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    on_bad: Annotated[
        Literal["quarantine", "fail"], typer.Option(help="List bad samples and go on, or stop at the first.")
    ] = "quarantine",
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="A larger share of bad samples stops the build.")] = 0.01,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Seed of the jitter. Default: 0.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Build a data set and publish it. What is there already is not made again.

    \b
    facefoundry build 300wlp-posmaps
    facefoundry build 300wlp-posmaps --source 300W_LP --model BFM.mat --model BFM_UV.mat --maps parametric
    facefoundry build 300wlp-posmaps --targets posmap,field,parts,heatmaps
    facefoundry build 300wlp-posmaps --copies 4 --augment prnet
    facefoundry build densereg-fields --source PHOTOGRAPHS --mask tattoo.png
    """
    from flows.local import build_here
    from flows.models_at_hand import local_folder
    from flows.presets import PRESETS
    from flows.progress import progress_of
    from storage.store import place_of
    from storage.stores import store_at
    from storage.versions import published_versions

    start = time.monotonic()
    chosen = PRESETS[preset.value]
    options: dict[str, object] = {
        "size": size, "longest": longest, "maps": maps, "images": images, "atlas": atlas, "copies": copies,
        "augment": augment, "compat": compat, "field_atlas": field_atlas, "smoothing": smoothing, "seed": seed,
        "targets": [name for names in targets for name in names.split(",")] if targets else None,
    }  # fmt: skip
    files = {name: path for name, path in (("mask", mask),) if path is not None}
    if files and not set(files) <= set(chosen.files):
        raise typer.BadParameter(f"--mask does not belong to {preset.value}; it takes {chosen.taken}")
    try:
        settings = chosen.config_of({name: value for name, value in options.items() if value is not None})
    except ValueError as error:
        raise typer.BadParameter(wrong_setting(error, chosen.options)) from None
    if source is None and not as_json:
        source = _drawn_sample(settings, local_folder(place_of(out)))
    before = published_versions(store_at(out).folder(settings.name))
    published = build_here(
        settings,
        source=source,
        model=given_model(model),
        out=out,
        files=files,
        workers=workers,
        max_bad=max_bad,
        fail_on_first=on_bad == "fail",
        progress=progress_of(preset.value, silent=as_json),
        scheduler=scheduler,
    )
    seconds = time.monotonic() - start
    was_there = [state for state in before if state.version == published.version]
    if as_json:
        print_json(
            dataset=published.dataset,
            version=published.version,
            path=str(published.path),
            samples=published.samples,
            rejected=published.rejected,
            already_there=bool(was_there),
            seconds=round(seconds, 3),
        )
        return
    for state in was_there:
        again = "" if state.is_latest else ", but that it is the latest again"
        print(f"already there: {published.dataset} {published.version}, nothing to do{again}")
    print(f"data set       {published.path}")
    print(f"contact sheet  {published.contact_sheet}")
    print(f"samples        {published.samples}, {published.rejected} rejected, {seconds:.1f} s")
    readback = published.statistics.get("landmark_readback_px")
    if readback:
        off = f"{readback['mean']:.3f} px off on average, {readback['worst']:.3f} px at worst"
        print(f"landmarks      read back from the maps: {off}")
    if "faces" in published.statistics:
        print(f"faces          {published.statistics['faces']['total']}")


def _drawn_sample(settings: "BuildConfig", out: Path) -> Path:
    """The embedded default source of a data set, drawn with progress where it is missing."""
    from flows.progress import counted, progress_of
    from flows.recipe import recipe_name, recipe_named

    with counted(progress_of("sample set", unit="parts")) as progress:
        return recipe_named(recipe_name(settings)).sample_source(out, progress)

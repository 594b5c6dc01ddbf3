"""The command line. Each command imports what it needs when it runs, so that `--help` answers at once.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 too many bad samples, 4 someone else is building.
"""

import json
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

FAILED, WRONG_USE, TOO_MANY_BAD, ALREADY_BUILDING = 1, 2, 3, 4

_INTERRUPTED = 130
"""What newer typers make of Ctrl-C; older ones let KeyboardInterrupt through."""

_UsageError = typer.BadParameter.__bases__[0]  # click's, wherever typer keeps it

app = typer.Typer(
    help="Dense face alignment training data: 3DMM fits, UV atlases and position maps in Zarr shards.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
model_app = typer.Typer(help="Morphable models: convert them once, look into them.", no_args_is_help=True)
app.add_typer(model_app, name="model")


class Preset(StrEnum):
    """A data set that is built by name: its flow's name without `build-`."""

    POSMAPS_300WLP = "300wlp-posmaps"
    DENSEREG_FIELDS = "densereg-fields"
    EAR_FIELDS = "ear-fields"


class SystemName(StrEnum):
    """A system that is trained by name."""

    DAN = "dan"
    DENSEREG = "densereg"
    FAN3D = "fan3d"
    MESH_GCN = "mesh_gcn"
    PRNET = "prnet"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line and nothing else.")]
Out = Annotated[Path, typer.Option(help="Where data sets lie.")]
OutUrl = Annotated[str, typer.Option(help="Where data sets lie: a folder, or s3://bucket/prefix.")]
Mask = Annotated[
    Path | None, typer.Option(help="A square PNG painted over the fields' atlas, to be carried into every picture.")
]
Model = Annotated[
    list[str] | None,
    typer.Option(
        help="'built-in', or a morphable model's file or folder; give it again for files that belong together."
    ),
]


@app.command()
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
        Literal["parametric", "materialized", "float"] | None,
        typer.Option(help="Store parameters that readers decode, or the maps in fixed point (default) or float32."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="lossless (default), jpeg:95 (any quality), or source: the source's own files, cut on reading."
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
            help="What copies go through in place of the jitter: prnet, densereg, dan, fan3d, mesh_gcn, everything, or a "
            "mixture by weight (prnet:2+dan)."
        ),
    ] = None,
    compat: Annotated[Literal["face3d"] | None, typer.Option(help="Give a published recipe's labels.")] = None,
    targets: Annotated[
        str | None,
        typer.Option(help="What is made of each crop, with commas: posmap, field, parts, heatmaps. Default: posmap."),
    ] = None,
    field_atlas: Annotated[
        Literal["cylinder", "maps", "own"] | None,
        typer.Option(
            help="What u and v of fields count in: the unfolded cylinder (default), the position maps' atlas, or, of "
            "densereg-fields, the model's own."
        ),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="A square PNG painted over the fields' atlas, to be carried into every picture.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0: one for each core.")] = 0,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Let Dask's workers make the shards: tcp://host:8786, or 'local'. Default: processes here."),
    ] = None,
    on_bad: Annotated[
        Literal["quarantine", "fail"], typer.Option(help="List bad samples and go on, or stop at the first.")
    ] = "quarantine",
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="A larger share of bad samples stops the build.")] = 0.01,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Seed of the jitter. Default: 0.")] = None,
    as_json: Json = False,
) -> None:
    """Build a data set and publish it; what is there already is not made again.

    \b
    facefoundry build 300wlp-posmaps
    facefoundry build 300wlp-posmaps --source 300W_LP --model BFM.mat --model BFM_UV.mat --maps parametric
    facefoundry build 300wlp-posmaps --targets posmap,field,parts,heatmaps
    facefoundry build 300wlp-posmaps --copies 4 --augment prnet
    facefoundry build densereg-fields --source PHOTOGRAPHS --mask tattoo.png
    """
    from flows.build import local_folder
    from flows.local import build_here
    from flows.presets import PRESETS
    from flows.progress import shown, silent_for
    from storage.store import place_of

    start = time.monotonic()
    chosen = PRESETS[preset.value]
    options: dict[str, object] = {
        "size": size, "longest": longest, "maps": maps, "images": images, "atlas": atlas, "copies": copies,
        "compat": compat,
        "targets": None if targets is None else targets.split(","), "field_atlas": field_atlas, "seed": seed,
        "augment": augment,
    }  # fmt: skip
    files = {name: path for name, path in (("mask", mask),) if path is not None}
    if files and not set(files) <= set(chosen.files):
        raise typer.BadParameter(f"--mask does not belong to {preset.value}; it takes {chosen.taken}")
    try:
        config = chosen.config_of({name: value for name, value in options.items() if value is not None})
    except ValueError as error:
        raise typer.BadParameter(_wrong_setting(error)) from None
    if source is None and not as_json:
        source = _drawn_sample(config, local_folder(place_of(out)))
    published = build_here(
        config,
        source=source,
        model=_model(model),
        out=out,
        files=files,
        workers=workers,
        max_bad=max_bad,
        fail_on_first=on_bad == "fail",
        progress=silent_for if as_json else lambda total: shown(preset.value, total),
        scheduler=scheduler,
    )
    seconds = time.monotonic() - start
    if as_json:
        _print_json(
            dataset=published.dataset,
            version=published.version,
            path=str(published.path),
            samples=published.samples,
            rejected=published.rejected,
            seconds=round(seconds, 3),
        )
        return
    print(f"data set       {published.path}")
    print(f"contact sheet  {published.contact_sheet}")
    print(f"samples        {published.samples}, {published.rejected} rejected, {seconds:.1f} s")
    readback = published.statistics.get("landmark_readback_px")
    if readback:
        off = f"{readback['mean']:.3f} px off on average, {readback['worst']:.3f} px at worst"
        print(f"landmarks      read back from the maps: {off}")
    if "faces" in published.statistics:
        print(f"faces          {published.statistics['faces']['total']}")


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Folder to write; made when absent.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of every draw.")] = 0,
    identities: Annotated[int, typer.Option(min=1, help="Invented people.")] = 12,
    expressions: Annotated[int, typer.Option(min=1, help="Families of each.")] = 2,
    views: Annotated[int, typer.Option(min=1, max=100, help="Pictures of a family, turned up to profile.")] = 8,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0: one for each core.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw a small folder in 300W-LP's layout from the built-in model: pictures and .mat files, traps included."""
    from flows.local import usable_cores
    from flows.progress import shown, silent_for
    from storage.synthetic import write_sample_folder

    with (silent_for if as_json else lambda total: shown("sample", total, unit="families"))(
        identities * expressions
    ) as report:
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
        _print_json(path=str(folder.absolute()), pictures=record.pictures, families=record.families)
    else:
        print(f"{record.pictures} pictures of {record.families} families in {folder}")


@app.command()
def people(
    out: Annotated[Path, typer.Option(help="Folder to write; made when absent, gone on with when unfinished.")],
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
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0: one for each core.")] = 0,
    as_json: Json = False,
) -> None:
    """Render invented people, with hair, glasses and light, as a folder in 300W-LP's layout to train on.

    \b
    facefoundry people --out people --n-people 1000
    facefoundry build 300wlp-posmaps --source people/train
    """
    from flows.local import usable_cores
    from flows.progress import shown, silent_for
    from render.people_config import PRESETS
    from render.shaded_view import NoRenderer
    from storage.people import PeoplePlan, write_people_folder

    config = PRESETS[preset]()
    if side is not None:
        config = config.model_copy(update={"side_px": side})
    plan = PeoplePlan(config, seed, n_people, expressions, views, validation)
    with (silent_for if as_json else lambda total: shown("people", total, unit="people"))(n_people) as report:
        try:
            parts = write_people_folder(
                out, plan, workers=workers or usable_cores(), progress=lambda done, total: report(1)
            )
        except NoRenderer as error:
            raise typer.BadParameter(f"--preset {preset}: {error}") from None
    counts = {split: len(members) * expressions * views for split, members in parts.items()}
    if as_json:
        _print_json(path=str(out.absolute()), people=n_people, pictures=plan.pictures, **counts)
    else:
        print(f"{plan.pictures} pictures of {n_people} people in {out}: {counts['train']} train, "
              f"{counts['validation']} validation")  # fmt: skip


DatasetPath = Annotated[str, typer.Argument(help="<out>/<name>, or a version's own folder; s3://bucket/… too.")]
DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="<out>/<name>; s3://bucket/… too.")]
Version = Annotated[str | None, typer.Option(help="A version; default: the latest.")]


@app.command()
def show(
    what: Annotated[
        Path, typer.Argument(help="A data set (<out>/<name>, or a version's own folder), or a fit (.fit.json).")
    ],
    index: Annotated[int, typer.Argument(help="Number of the sample.")] = 0,
    version: Version = None,
    save: Annotated[Path | None, typer.Option(help="The PNG to write; default: <name>-<index>.png here.")] = None,
    turn: Annotated[
        float | None, typer.Option(help="Add a shaded view of the mesh, turned by so many degrees.")
    ] = None,
    export: Annotated[
        Literal["obj", "ply", "glb"] | None,
        typer.Option(help="Of a fit: write its mesh too, beside the PNG, with the photograph's colours."),
    ] = None,
    frame: Annotated[
        Literal["picture", "head"],
        typer.Option(help="Of --export: pixels as posed in the picture, y up, or the head's own millimetres."),
    ] = "picture",
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Draw one sample, or one fit, from the stored data alone: image, landmarks, mesh, and what else there is.

    \b
    facefoundry show datasets/300wlp-posmaps 7 --turn 30
    facefoundry show fits/portrait_0.fit.json --export glb
    """
    from render.preview import encode_png
    from storage.fit_files import SUFFIX

    if what.name.endswith(SUFFIX):
        from flows.fit_pictures import draw_fit, fit_of_file

        seen, its_model = fit_of_file(what, _model(model) if model else None)
        path = save or Path(f"{what.name.removesuffix(SUFFIX)}.png")
        _print_drawn(**draw_fit(seen, its_model, path, turn=turn, export=export, frame=frame), as_json=as_json)
        return
    from flows.sheets import sample_sheet
    from storage.dataset import open_dataset

    opened = open_dataset(what, version)
    path = save or Path(f"{opened.manifest.name}-{index}.png")
    if "fitted_px" in opened.schema.names:
        from flows.fit_pictures import draw_fit, fit_of_dataset

        seen, its_model = fit_of_dataset(opened, index, _model(model) if model else None)
        _print_drawn(**draw_fit(seen, its_model, path, turn=turn, export=export, frame=frame), as_json=as_json)
        return
    if export is not None:
        raise typer.BadParameter("--export takes a fit (.fit.json, or a data set of fits)")
    stored = opened[index]
    picture = sample_sheet(opened, index)
    if turn is not None:
        if "position_map" not in stored:
            raise typer.BadParameter("--turn shows the mesh of a position map, and this data set has none")
        picture = _with_turned_mesh(picture, stored, turn)
    path.write_bytes(encode_png(picture))
    if as_json:
        _print_json(path=str(path.absolute()), source_id=stored["source_id"])
    else:
        print(f"{stored['source_id']}: {path}")


Scheme = Annotated[
    str, typer.Option(help="Which landmarks the files hold: ibug-68, 3dfaw-66, inner-51, inner-49, aflw-21, aflw-19.")
]
LandmarksFrame = Annotated[
    Literal["stored", "upright"],
    typer.Option(help="Landmarks count pixels as the file stores them, or of the picture turned as EXIF says."),
]
Contour = Annotated[
    Literal["march", "fixed"] | None,
    typer.Option(help="Jaw points slide along the visible contour, or are fixed vertices. Default: by the scheme."),
]
Loss = Annotated[
    Literal["squares", "huber", "geman_mcclure"] | None,
    typer.Option(
        help="For wrong points among the landmarks: bound the pull of each (huber) or let it go (geman_mcclure). "
        "Default: squares, none are wrong."
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="The detector's 68-point model, shape_predictor_68_face_landmarks.dat (non-commercial use only). Default: "
        "where Debian's libdlib-data puts it. Never downloaded."
    ),
]


@app.command()
def fit(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photographs, JPEG or PNG.")],
    landmarks: Annotated[
        Path | None,
        typer.Option(
            help="One image's .pts, .json or .mat, or a table (.csv, .parquet, .json). Default: a file beside each "
            "image, else the detector."
        ),
    ] = None,
    model: Model = None,
    out: Annotated[Path, typer.Option(help="Folder to write; made when absent.")] = Path("fits"),
    scheme: Scheme = "ibug-68",
    landmarks_frame: LandmarksFrame = "stored",
    contour: Contour = None,
    loss: Loss = None,
    weights: Weights = None,
    same_person: Annotated[
        bool, typer.Option("--same-person", help="All faces are one person's: they share one identity.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fit the morphable model to faces: a .fit.json, the picture, and 300W-LP's .mat of each.

    \b
    facefoundry fit portrait.jpg --landmarks portrait.pts
    facefoundry show fits/portrait_0.fit.json --export glb
    """
    import math

    from flows import presets
    from flows.fit_images import ImageFit, fit_images

    chosen = {name: value for name, value in (("contour", contour), ("loss", loss)) if value}
    outcomes = fit_images(
        images,
        config=presets.landmark_fits(scheme=scheme, landmarks_frame=landmarks_frame, **chosen),
        landmarks=landmarks,
        weights=weights,
        model=_model(model),
        out=out,
        same_person=same_person,
    )
    good = [outcome for outcome in outcomes if isinstance(outcome, ImageFit)]
    bad = [outcome for outcome in outcomes if not isinstance(outcome, ImageFit)]
    for terms in sorted({o.fit.licence for o in good if o.fit.licence}):
        print(f"facefoundry: {terms}", file=sys.stderr)
    if as_json:
        fits = [
            {
                "image": str(o.image),
                "path": str(o.path.absolute()),
                "result": o.fit.result,
                "residual_px": o.fit.mean_residual_px,
                "landmark_origin": o.fit.landmark_origin,
            }
            for o in good
        ]
        refused = [{"image": o.source_id, "code": o.code, "reason": o.reason} for o in bad]
        _print_json(fits=fits, rejected=refused)
    else:
        for o in good:
            sure = math.degrees(max(o.fit.pose_stddev_rad))
            print(
                f"{o.path}: {o.fit.result}, landmarks {o.fit.mean_residual_px:.2f} px from the model on average, "
                f"pose sure to {sure:.1f}°, shape to {o.fit.surface_stddev_mm:.1f} mm"
            )
        for refusal in bad:
            print(f"facefoundry: {refusal.source_id}: {refusal.reason} [{refusal.code}]", file=sys.stderr)
    if bad:
        raise typer.Exit(FAILED)


@app.command(name="fit-landmarks")
def fit_landmarks(
    source: Annotated[
        Path | None, typer.Argument(help="Folder of photographs. Default: those of a sample drawn here.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Landmarks of all of them: .csv, .parquet or .json. Default: files beside them.")
    ] = None,
    model: Model = None,
    out: Out = Path("datasets"),
    scheme: Scheme = "ibug-68",
    landmarks_frame: LandmarksFrame = "stored",
    contour: Contour = None,
    loss: Loss = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Let the detector look at photographs without landmarks.")
    ] = False,
    weights: Weights = None,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0: one for each core.")] = 0,
    on_bad: Annotated[
        Literal["quarantine", "fail"], typer.Option(help="List bad faces and go on, or stop at the first.")
    ] = "quarantine",
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="A larger share of bad faces stops the build.")] = 0.01,
    as_json: Json = False,
) -> None:
    """Fit a folder of photographs: a data set of fits, and a folder that is read as 300W-LP is.

    \b
    facefoundry fit-landmarks 300W/01_Indoor
    facefoundry build 300wlp-posmaps --source datasets/sources/fits/VERSION
    """
    from flows import presets
    from flows.fits import fit_here
    from flows.progress import shown, silent_for

    start = time.monotonic()
    chosen = {name: value for name, value in (("contour", contour), ("loss", loss)) if value}
    published = fit_here(
        presets.landmark_fits(scheme=scheme, landmarks_frame=landmarks_frame, **chosen),
        source=source,
        table=table,
        detect=detect,
        weights=weights,
        model=_model(model),
        out=out,
        workers=workers,
        max_bad=max_bad,
        fail_on_first=on_bad == "fail",
        progress=silent_for if as_json else lambda total: shown("fit-landmarks", total, unit="faces"),
    )
    seconds = time.monotonic() - start
    if as_json:
        _print_json(
            dataset=published.dataset,
            version=published.version,
            path=str(published.path),
            folder=str(published.folder),
            samples=published.samples,
            rejected=published.rejected,
            licence=published.licence,
            seconds=round(seconds, 3),
        )
        return
    print(f"data set       {published.path}")
    print(f"contact sheet  {published.contact_sheet}")
    print(f"as 300W-LP     {published.folder}")
    print(f"faces          {published.samples}, {published.rejected} rejected, {seconds:.1f} s")
    print(f"terms          {published.licence}")


@app.command(name="list")
def list_datasets(
    out: OutUrl = "datasets",
    as_json: Json = False,
) -> None:
    """List data sets and their versions; * marks the latest. Pins are named."""
    from storage.store import store_at
    from storage.versions import published_versions

    store = store_at(out)
    rows = [
        {
            "dataset": name,
            "version": state.version,
            "latest": state.is_latest,
            "published": _utc(state.published_s),
            "pins": list(state.pins),
        }
        for name in store.folders()
        for state in sorted(published_versions(store.folder(name)), key=lambda state: state.version)
    ]
    if as_json:
        _print_json(datasets=rows)
        return
    if not rows:
        print(f"no data sets in {out}", file=sys.stderr)
    for row in rows:
        pins = f"  pinned by {', '.join(row['pins'])}" if row["pins"] else ""
        print(f"{'*' if row['latest'] else ' '} {row['dataset']}  {row['version']}  {row['published']}{pins}")


@app.command()
def info(dataset: DatasetPath, version: Version = None, as_json: Json = False) -> None:
    """Tell what a version holds, from what, and by which config."""
    from storage.dataset import open_dataset

    opened = open_dataset(dataset, version)
    manifest = opened.manifest
    about = {
        "dataset": manifest.name,
        "version": manifest.version,
        "samples": manifest.n_samples,
        "rejected": len(manifest.rejected),
        "bytes": sum(thing.bytes for thing in manifest.objects),
        "model": manifest.model.model_dump(),
        "sources": [source.model_dump(exclude={"details"}) for source in manifest.plan.sources],
        "config": manifest.config,
        "statistics": manifest.statistics,
        "targets": {t.name: f"{t.dtype} {list(t.sample_shape)} {t.unit}".strip() for t in opened.schema.everything},
        "rejected_samples": [hole.model_dump() for hole in manifest.rejected],
    }
    print(json.dumps(about) if as_json else json.dumps(about, indent=2, ensure_ascii=False))


@app.command()
def diff(
    dataset: DatasetName,
    version_a: Annotated[str, typer.Argument(help="A version.")],
    version_b: Annotated[str, typer.Argument(help="Another version.")],
    samples: Annotated[int, typer.Option(min=0, help="Samples named of each kind; all are counted.")] = 5,
    as_json: Json = False,
) -> None:
    """Tell what changes from one version to another: config, model, sources, counts, statistics, targets, samples."""
    from dataclasses import asdict

    from storage.dataset import open_dataset
    from storage.version_diff import diff_versions

    found = diff_versions(open_dataset(dataset, version_a), open_dataset(dataset, version_b))
    if as_json:
        _print_json(equal=found.is_empty, **asdict(found))
        return
    for part in ("config", "model", "sources", "counts", "statistics", "targets"):
        for name, (before, after) in getattr(found, part).items():
            print(f"{part}.{name}: {json.dumps(before)} -> {json.dumps(after)}")
    named = {"added": found.added, "removed": found.removed}
    named |= {f"changed in {target}": names for target, names in found.changed.items()}
    for what, names in named.items():
        if names:
            shown = ", ".join(f"{source_id} ({nth})" for source_id, nth in names[:samples])
            print(f"samples {what}: {len(names)}" + (f": {shown}" if shown else ""))
    print(f"samples the same: {found.n_same}")


@app.command()
def prune(
    dataset: DatasetName,
    keep: Annotated[int, typer.Option(min=1, help="So many versions stay, the latest and then the youngest.")],
    keep_days: Annotated[float, typer.Option(min=0, help="So do those published within so many days.")] = 0,
    as_json: Json = False,
) -> None:
    """Remove old versions; never the latest, a pinned one, one that is open somewhere, or an unfinished build."""
    from storage.store import store_at
    from storage.versions import prune as prune_versions

    done = prune_versions(store_at(dataset), keep=keep, keep_days=keep_days, now_s=time.time())
    if as_json:
        _print_json(removed=list(done.removed), kept=done.kept)
        return
    for version in done.removed:
        print(f"removed  {version}")
    for version, reason in done.kept.items():
        print(f"kept     {version}  {reason}")


@app.command()
def pin(
    dataset: DatasetName,
    version: Annotated[str, typer.Argument(help="The version to keep.")],
    holder: Annotated[str, typer.Argument(help="Who wants it, such as prnet-run-7.")],
    release: Annotated[bool, typer.Option("--release", help="Take the pin away again.")] = False,
) -> None:
    """Keep a version from being pruned until the pin is released, however many processes come and go."""
    from storage import pins
    from storage.store import store_at

    (pins.unpin if release else pins.pin)(store_at(dataset), version, holder)


@app.command()
def verify(
    dataset: DatasetPath,
    version: Version = None,
    fast: Annotated[bool, typer.Option("--fast", help="Names and sizes alone; default: every byte.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make what is damaged again, from the sources, byte for byte.")
    ] = False,
    source: Annotated[
        Path | None, typer.Option(help="Of --repair: where the pictures lie. Default: the sample drawn here.")
    ] = None,
    model: Model = None,
    mask: Mask = None,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes of --repair; 0: one for each core.")] = 0,
    as_json: Json = False,
) -> None:
    """Hold every object of a version against its manifest; exit code 1 when something is wrong and stays so.

    \b
    facefoundry verify datasets/300wlp-posmaps
    facefoundry verify datasets/300wlp-posmaps --repair --source 300W_LP --model BFM.mat
    """
    from flows.progress import shown, silent_for
    from storage import verify as verification
    from storage.dataset import version_store

    store = version_store(dataset, version)

    def look() -> list[verification.Finding]:
        with ExitStack() as stack:
            told = []

            def progress(done: int, total: int) -> None:
                if not told:
                    bar = silent_for(total) if as_json else shown("verify", total, unit="objects")
                    told.append(stack.enter_context(bar))
                told[0](1)

            return verification.verify(store, full=not fast, progress=progress)

    findings, mended = look(), ()
    if repair and findings:
        from flows.repair import repair_here

        files = {} if mask is None else {"mask": mask}
        mended = repair_here(store, findings, source=source, model=_model(model), files=files, workers=workers)
        findings = look()
    if as_json:
        _print_json(
            path=str(store), whole=not findings, mended=sorted(mended), findings=[str(finding) for finding in findings]
        )
    else:
        for key in sorted(mended):
            print(f"{key}: made again")
        for finding in findings:
            print(finding)
        print(f"{store}: {'whole' if not findings else f'{len(findings)} objects are not as published'}")
    if findings:
        raise typer.Exit(FAILED)


@app.command()
def export(
    dataset: DatasetPath,
    to: Annotated[
        Literal["webdataset", "prnet", "huggingface", "parquet", "meshes"],
        typer.Option(help="Tars, PRNet's loose files, a folder for `datasets`, an index to filter by, or meshes."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; it must be new or empty.")],
    version: Version = None,
    format: Annotated[Literal["obj", "ply", "glb"] | None, typer.Option(help="Of meshes. Default: ply.")] = None,
    as_json: Json = False,
) -> None:
    """Write a version in another program's format; the folder appears when it is whole.

    \b
    facefoundry export datasets/300wlp-posmaps --to webdataset --out tars
    facefoundry export datasets/300wlp-posmaps --to meshes --format glb --out meshes
    """
    from functools import partial

    from flows.progress import shown, silent_for
    from storage.dataset import open_dataset
    from storage.exports import meshes, parquet, prnet, webdataset

    if format and to != "meshes":
        raise typer.BadParameter(f"--format belongs to --to meshes, not to {to}")
    exports = {
        "webdataset": webdataset.export,
        "prnet": prnet.export,
        "huggingface": parquet.export_huggingface,
        "parquet": parquet.export_index,
        "meshes": partial(meshes.export, format=format or "ply"),
    }
    opened = open_dataset(dataset, version)
    with (silent_for if as_json else lambda total: shown(f"export to {to}", total))(len(opened)) as report:
        files = exports[to](opened, out, progress=report)
    if as_json:
        manifest = opened.manifest
        _print_json(
            path=str(out.absolute()), dataset=manifest.name, version=manifest.version, samples=len(opened), files=files
        )
    else:
        print(f"{len(opened)} samples in {out}")


@app.command()
def browse(
    dataset: DatasetPath,
    version: Version = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 takes a free one.")] = 8642,
) -> None:
    """Show any sample of a data set in a web browser on this machine, until Ctrl-C.

    \b
    facefoundry browse datasets/300wlp-posmaps
    """
    from flows.browse import serve
    from storage.dataset import open_dataset

    serve(open_dataset(dataset, version), port, lambda address: print(f"{address}  (Ctrl-C ends it)", flush=True))


@app.command()
def train(
    system: Annotated[SystemName, typer.Argument(help="What to train.")],
    data: Annotated[str, typer.Option(help="A data set: <out>/<name>, a version's own folder, or a name in --out.")],
    version: Version = None,
    preset: Annotated[
        Literal["tiny", "paper"], typer.Option(help="tiny learns on a CPU in minutes; paper is the paper's.")
    ] = "tiny",
    out: Annotated[Path, typer.Option(help="Runs lie in runs/<system>/ below it.")] = Path("datasets"),
    validation: Annotated[
        str | None, typer.Option(help="Another data set to validate on. Default: people of --data that are held out.")
    ] = None,
    hold_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the people that is not learnt from; 0: no validation.")
    ] = 0.1,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Change a field of the system's or the run's config; again for more: --set batch_size=8 "
            "--set phases.stage-1.optimiser.learning_rate=1e-4.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of every phase. Default: the preset's.")] = None,
    augment: Annotated[
        str | None,
        typer.Option(help="none, a preset or a mixture (prnet:2+dan). Default: what the system's paper trained with."),
    ] = None,
    pretrained: Annotated[
        Path | None, typer.Option(help="A ResNet's state dict for the backbone; nothing is ever downloaded.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read ahead; 0: the training reads itself.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew; default: go on where the run stopped.")] = False,
    as_json: Json = False,
) -> None:
    """Train a system on a published data set; the same command goes on with a run that was stopped.

    \b
    facefoundry train prnet --data datasets/300wlp-posmaps
    facefoundry train dan --data 300wlp-posmaps --preset paper --set workers=8 --set 'precision="bf16"'
    accelerate launch --num_processes 4 --no_python facefoundry train prnet --data 300wlp-posmaps --preset paper
    """
    from flows.progress import told_once
    from flows.training import progress_line, train_here

    def report(progress) -> None:
        if not as_json:
            print(f"{system.value}: {progress_line(progress)}", file=sys.stderr, flush=True)

    with told_once() as stop:
        done = train_here(
            system.value, data, version=version, preset=preset, out=out, validation=validation, hold_out=hold_out,
            settings=[*(settings or ()), f"workers={workers}"], steps=steps, augment=augment, pretrained=pretrained,
            resume=not fresh, report=report, stop=stop,
        )  # fmt: skip
    if not done.finished:
        raise KeyboardInterrupt
    if not done.is_main:
        return
    if as_json:
        _print_json(
            system=system.value,
            folder=str(done.folder.absolute()),
            checkpoint=str(done.checkpoint.absolute()),
            measure=done.measure,
            validation=done.validation,
            steps=done.steps,
            seconds=round(done.seconds, 3),
        )
        return
    print(f"checkpoint  {done.checkpoint}")
    print(f"card        {done.folder / 'card.md'}")
    if done.validation is not None:
        print(f"validation  {done.measure} {100 * done.validation:.2f} %")
    print(f"steps       {done.steps}, {done.seconds:.1f} s")


@app.command()
def unwrap(
    surface: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_OR_MESH",
            help="'built-in', a model's files or folder, or one mesh file (.obj .ply .stl .off .glb .gltf).",
        ),
    ],
    method: Annotated[
        Literal["tutte", "cylindrical", "optimal"],
        typer.Option(help="A map onto a border; round a cylinder; round a cylinder with its folds laid out."),
    ] = "tutte",
    weights: Annotated[
        Literal["uniform", "mean-value", "conformal"] | None, typer.Option(help="Of tutte. Default: conformal.")
    ] = None,
    boundary: Annotated[
        str | None,
        typer.Option(
            metavar="square|circle|natural|FILE.csv",
            help="Of tutte; a table gives the border's positions, in columns vertex, u, v. Default: square.",
        ),
    ] = None,
    inner_loops: Annotated[
        Literal["fill", "free"] | None, typer.Option(help="Eyes, mouth and other holes, of tutte. Default: fill.")
    ] = None,
    size: Annotated[int, typer.Option(min=2, max=4096, help="Texels along a side that the report counts with.")] = 256,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: unwraps/<name>-<method>.")] = None,
    unit: Annotated[
        Literal["um", "mm", "cm", "m", "inch"] | None,
        typer.Option(help="What a mesh file's numbers count. Default: mm, in glTF m."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Make vertices of a mesh file that lie exactly on each other one.")
    ] = False,
    largest: Annotated[
        bool, typer.Option("--largest", help="Keep a mesh file's largest component and drop stray vertices.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Lay a model's mean face or a mesh flat: the atlas, a checkerboard picture on the mesh, and a report.

    facefoundry unwrap built-in --method optimal
    facefoundry unwrap scan.ply --boundary natural --out scan-uv
    """
    from flows.unwrap import BOUNDARIES, default_folder, read_surface, write_unwrap

    if boundary and boundary not in BOUNDARIES and Path(boundary).suffix.lower() != ".csv":
        raise typer.BadParameter(f"--boundary {boundary} is none of {', '.join(BOUNDARIES)}, nor a .csv file")
    if method != "tutte" and (weights or boundary or inner_loops):
        raise typer.BadParameter(f"--weights, --boundary and --inner-loops belong to --method tutte, not to {method}")
    read = read_surface(surface, unit=unit, merge_coincident=merge or None, largest_component=largest)
    done = write_unwrap(
        read,
        out or default_folder(read, method),
        method=method,
        weights=weights or "conformal",
        boundary=BOUNDARIES.get(boundary or "square") or Path(str(boundary)),
        inner_loops=inner_loops or "fill",
        size=size,
    )
    if as_json:
        _print_json(path=str(done.path.absolute()), sentences=done.sentences, report=done.report.as_dict())
        return
    print(done.path)
    for sentence in done.sentences:
        print(f"  {sentence}")


@app.command()
def profile(
    source: Annotated[
        Path | None,
        typer.Argument(help="300W-LP, or what fit-landmarks or fit wrote. Default: a sample drawn here."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write; made when absent.")] = Path("profiles"),
    yaw_step: Annotated[float, typer.Option(help="Degrees from one view to the next.")] = 5.0,
    max_yaw: Annotated[float, typer.Option(help="No view is turned farther to the side (degrees).")] = 90.0,
    pitch: Annotated[
        list[float] | None,
        typer.Option(help="Add a row of views with so many degrees added to the photograph's pitch; repeatable."),
    ] = None,
    sides: Annotated[
        Literal["outward", "both"],
        typer.Option(help="Turn heads on to the side that they look to, as in 300W-LP, or to both."),
    ] = "outward",
    model: Model = None,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0: one for each core.")] = 0,
    on_bad: Annotated[
        Literal["quarantine", "fail"], typer.Option(help="List bad photographs and go on, or stop at the first.")
    ] = "quarantine",
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="A larger share of bad photographs stops it.")] = 0.01,
    as_json: Json = False,
) -> None:
    """Turn fitted photographs to the side in steps: a folder like 300W-LP, its landmarks right in every file.

    \b
    facefoundry profile datasets/sources/fits/VERSION --out profiles
    facefoundry build 300wlp-posmaps --source profiles
    """
    from pydantic import ValidationError

    from flows.face_profiles import ProfilesConfig
    from flows.profiles import profile_here
    from flows.progress import shown, silent_for

    start = time.monotonic()
    try:
        config = ProfilesConfig(yaw_step_deg=yaw_step, max_yaw_deg=max_yaw, pitch_deg=tuple(pitch or ()), sides=sides)
    except ValidationError as error:
        raise typer.BadParameter(_wrong_setting(error)) from None
    done = profile_here(
        source,
        out=out,
        config=config,
        model=_model(model),
        workers=workers,
        max_bad=max_bad,
        fail_on_first=on_bad == "fail",
        progress=silent_for if as_json else lambda total: shown("profile", total, unit="photographs"),
    )
    seconds = time.monotonic() - start
    if as_json:
        _print_json(
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
    out: Annotated[Path, typer.Option(help="Folder to write; made when absent.")] = Path("florence"),
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
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0: one for each core.")] = 0,
    as_json: Json = False,
) -> None:
    """Render meshes in the Florence protocol's poses, with their ground truth beside them, for evaluation.

    \b
    facefoundry florence scans/*.obj --out florence
    facefoundry florence built-in --people 20
    """
    from flows.florence import florence_here

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
    )
    if as_json:
        _print_json(folder=str(folder), pictures=pictures)
    else:
        print(f"{pictures} pictures with their ground truth in {folder}")


@app.command()
def deploy(
    on: Annotated[
        list[str] | None, typer.Option(help="A flow whose schedules and triggers are switched on; may be repeated.")
    ] = None,
    off: Annotated[list[str] | None, typer.Option(help="The same, switched off. Others stay as they are.")] = None,
    pool: Annotated[
        str | None, typer.Option(help="A work pool for everything. Default: those of prefect.yaml.")
    ] = None,
    pool_type: Annotated[
        str, typer.Option(help="Of pools that are made because they are missing: process, kubernetes, docker.")
    ] = "process",
    infra: Annotated[
        Path | None, typer.Option(help="Folder of prefect.yaml and automations.yaml. Default: the checkout's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Deploy every flow to the Prefect server of PREFECT_API_URL; again and again, nothing else is touched.

    \b
    facefoundry deploy
    facefoundry deploy --on rebuild --on verify
    """
    from dataclasses import asdict

    from flows.deploy import deploy as deploy_all

    deployed, automations = deploy_all(infra, on=on or (), off=off or (), pool=pool, pool_type=pool_type)
    if as_json:
        _print_json(deployments=[asdict(each) for each in deployed], automations=automations)
        return
    for each in deployed:
        print(f"{each.name}  in {each.pool}")
        for name, active in {**each.schedules, **each.triggers}.items():
            print(f"    {'on ' if active else 'off'}  {name}")
    for name, active in automations.items():
        print(f"automation: {name}  {'on' if active else 'off'}")
    print("workers: prefect worker start --pool " + " | ".join(sorted({each.pool for each in deployed})))


@app.command()
def doctor(
    out: OutUrl = "datasets",
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Say what is missing on this machine, and how to get it; exit code 1 when something is broken, not when optional.

    \b
    facefoundry doctor
    facefoundry doctor --model BFM.mat --out s3://faces/datasets
    """
    from dataclasses import asdict

    from flows.doctor import examine

    checks = []
    for check in examine(out=out, model=_model(model) if model else None):
        checks.append(check)
        if not as_json:
            print(
                f"{check.state:7} {check.name}: {check.found}"
                + (f"\n          → {check.remedy}" if check.remedy else "")
            )
    broken = [check.name for check in checks if check.state == "broken"]
    if as_json:
        _print_json(ok=not broken, checks=[asdict(check) for check in checks])
    if broken:
        raise typer.Exit(FAILED)


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="last.pt or best.pt of a training.")],
    data: Annotated[str, typer.Argument(help="A data set, a folder of photographs, a table, or a folder of renders.")],
    protocol: Annotated[
        str | None,
        typer.Option(
            help="dataset, aflw2000, 300w-common, 300w-challenging, 300w-full, 300w-private, menpo, pts, 3dfaw, aflw, "
            "aflw-lfpa, 300vw, ears, florence. Default: what the data are."
        ),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Of a table: the folder that its paths count from. Default: the table's own.")
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|truth|table|centre-46|whole|detector",
            help="Boxes from a table (path, left, top, right, bottom), or by a rule. Default: the protocol's.",
        ),
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="Which points the set has: a scheme's name, or a .json with each point's places.")
    ] = None,
    label_yaw: Annotated[
        Path | None, typer.Option(help="Of aflw2000: a table (path, yaw) of AFLW's labels, for the second yaw bins.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Of aflw2000: the morphable model of its coefficients, to measure every vertex."),
    ] = None,
    passes: Annotated[
        int | None, typer.Option(min=1, max=5, help="Cut the crop again about what was found, so often.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: evaluations/<system>-<…>.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a trained system as its paper does: metrics, error curves, a page of predictions.

    \b
    facefoundry evaluate runs/prnet/best.pt datasets/heldout
    facefoundry evaluate runs/prnet/best.pt AFLW2000
    facefoundry evaluate runs/dan/best.pt 300W --protocol 300w-full --boxes boxes.csv
    """
    from flows.evaluations import evaluate_here
    from flows.progress import shown, silent_for
    from train.evaluation_report import plain, table_lines

    done = evaluate_here(
        checkpoint,
        data,
        protocol=protocol,
        pictures=pictures,
        boxes=boxes,
        scheme=scheme,
        label_yaw=label_yaw,
        model=None if model is None else _model(model),
        passes=passes,
        out=out,
        progress=silent_for if as_json else lambda total: shown("evaluate", total, unit="images"),
    )
    if as_json:
        _print_json(folder=str(done.folder.absolute()), **plain(done.document))
        return
    for line in table_lines(done.document):
        print(line)
    print(done.folder)


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="last.pt or best.pt of a training.")],
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE|FOLDER|VIDEO...", help="Pictures, folders, videos.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write; made when absent.")] = Path("predictions"),
    boxes: Annotated[
        str,
        typer.Option(
            metavar="FILE|auto|landmarks|detector|whole",
            help="A table of boxes, landmarks beside the pictures, dlib's detector, the whole picture, or what there is.",
        ),
    ] = "auto",
    passes: Annotated[int, typer.Option(min=1, max=5, help="Cut the crop again about what was found, so often.")] = 1,
    export: Annotated[
        Literal["obj", "ply", "glb"] | None, typer.Option(help="Write the reconstruction with the picture's colours.")
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Of densereg: fit the morphable model to the predicted field.")
    ] = False,
    dan: Annotated[
        Path | None, typer.Option(help="Of densereg: a checkpoint of dan that starts from its landmarks.")
    ] = None,
    model: Model = None,
    transfer: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="A B", help="Put the face of B onto the one of A, through UV.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Landmarks, pose, meshes, fields and overlays of pictures and videos.

    \b
    facefoundry predict runs/prnet/best.pt portrait.jpg --export glb
    facefoundry predict runs/densereg/best.pt photographs --fit --dan runs/dan/best.pt
    facefoundry predict runs/densereg/best.pt --transfer a.jpg b.jpg
    """
    from flows.predict import PredictOptions, listed, predict_here, transfer_here
    from flows.progress import shown, silent_for

    if transfer is None and not inputs:
        raise typer.BadParameter("give pictures, folders or videos, or --transfer A B")
    options = PredictOptions(out, boxes, passes, export, fit, dan, _model(model))
    if transfer is not None:
        written = transfer_here(checkpoint, *transfer, options)
        if as_json:
            _print_json(path=str(written.absolute()))
        else:
            print(written)
        if not inputs:
            return
    assert inputs is not None
    with (silent_for if as_json else lambda total: shown("predict", total, unit="files"))(
        len(listed(inputs))
    ) as report:
        outcome = predict_here(checkpoint, inputs, options, progress=report)
    refused = [{"path": r.source_id, "code": r.code, "reason": r.reason} for r in outcome.rejected]
    if as_json:
        _print_json(about=outcome.about, predictions=outcome.documents, rejected=refused)
    else:
        about = outcome.about
        print(
            f"{about['system']}, {about['size_mb']} MB: {about['latency_ms']} ms from crop to geometry ({about['device']})"
        )
        print(f"in the paper: {about['in_the_paper']}")
        for document in outcome.documents:
            print(document["file"])
        for refusal in outcome.rejected:
            print(f"facefoundry: {refusal.source_id}: {refusal.reason} [{refusal.code}]", file=sys.stderr)
    if refused:
        raise typer.Exit(FAILED)


@app.command(name="export-onnx")
def export_onnx(
    checkpoint: Annotated[Path, typer.Argument(help="last.pt or best.pt of a training.")],
    out: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    as_json: Json = False,
) -> None:
    """Write a trained system as ONNX, and run it beside torch: the file is kept only when both agree."""
    from train.onnx_export import export_onnx as export_checked
    from train.restore import restore

    done = export_checked(restore(checkpoint), out)
    if as_json:
        _print_json(path=str(done.path.absolute()), size_mb=done.size_mb, differences=dict(done.differences))
        return
    print(f"{done.path}: {done.size_mb:.1f} MB")
    for name, difference in done.differences.items():
        print(f"  {name}: at most {difference:.2g} from torch")


@model_app.command("import")
def import_model(
    files: Annotated[list[str], typer.Argument(help="The model's files or folder.")],
    out: Out = Path("datasets"),
    as_json: Json = False,
) -> None:
    """Convert a morphable model once into a file that opens at once and is shared between processes."""
    from flows.build import model_archive_path
    from geometry import load_model
    from geometry.model_archive import save_model
    from geometry.morphable_model import DenseModel

    loaded = load_model(_model(files))
    if not isinstance(loaded, DenseModel):
        raise ValueError("the built-in model needs no import: it comes with the package")
    path = model_archive_path(loaded, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(loaded, path)
    if as_json:
        _print_json(path=str(path.absolute()), fingerprint=loaded.fingerprint)
    else:
        print(f"{loaded.name} ({loaded.n_vertices} vertices, fingerprint {loaded.fingerprint}): {path}")


@model_app.command("info")
def model_info(
    files: Annotated[list[str], typer.Argument(help="'built-in', or the model's files or folder.")],
    as_json: Json = False,
) -> None:
    """Describe a morphable model: vertices, modes, boundary loops, units, landmarks, licence."""
    from dataclasses import asdict

    from geometry import load_model
    from geometry.models import describe_model

    about = asdict(describe_model(load_model(_model(files))))
    print(json.dumps(about) if as_json else json.dumps(about, indent=2, ensure_ascii=False))


def _drawn_sample(config, out: Path) -> Path:
    """The embedded default source of a data set, drawn with progress where it is missing."""
    from flows.progress import shown
    from flows.recipe import recipe_name, recipe_named

    with ExitStack() as stack:
        reports = []

        def progress(done: int, total: int) -> None:
            if not reports:
                reports.append(stack.enter_context(shown("sample set", total, unit="parts")))
            reports[0](1)

        return recipe_named(recipe_name(config)).sample_source(out, progress)


def _model(files: list[str] | None) -> str | list[str]:
    if not files:
        return "built-in"
    return files[0] if len(files) == 1 else files


def _wrong_setting(error: ValueError) -> str:
    """What is wrong with a config, without pydantic's headings and addresses."""
    if not hasattr(error, "errors"):
        return str(error)
    first = error.errors()[0]
    sentence = first["msg"].removeprefix("Value error, ")
    return f"{first['loc'][-1]} {first['input']}: {sentence}" if first["loc"] else sentence


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _print_json(**values: object) -> None:
    print(json.dumps(values))


def _print_drawn(
    source_id: str, path: Path, mesh: Path | None, residual_px: dict[str, float], notice: str, *, as_json: bool
) -> None:
    """What `show` says of a fit that was drawn."""
    if notice:
        print(f"facefoundry: {notice}", file=sys.stderr)
    if as_json:
        written = None if mesh is None else str(mesh.absolute())
        _print_json(path=str(path.absolute()), source_id=source_id, residual_px=residual_px, mesh=written)
        return
    print(f"{source_id}: {path}")
    print("landmarks, px from the model: " + ", ".join(f"{name} {value:.2f}" for name, value in residual_px.items()))
    if mesh is not None:
        print(f"mesh: {mesh}")


def _with_turned_mesh(picture, stored, degrees: float):
    """The sheet with the stored map's mesh beside it, turned; drawn by pyrender."""
    import numpy as np

    from render.preview import map_mesh
    from render.shaded_view import shaded_view

    vertices, triangles = map_mesh(stored["position_map"], stored["covered"])
    used = np.unique(triangles)
    upright = vertices[used] * (1, -1, 1)  # crop frames are left-handed
    index = np.full(len(vertices), -1)
    index[used] = np.arange(len(used))
    view = shaded_view(upright, index[triangles], yaw=np.radians(degrees), side=picture.shape[0])
    return np.hstack([picture, view])


def main() -> None:
    """Run the command line; a failure is one line on standard error and an exit code."""
    try:
        code = app(prog_name="facefoundry", standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
    except _UsageError as error:
        error.show()
        code = WRONG_USE
    except (KeyboardInterrupt, typer.Abort):
        _end_workers()
        code = _complain("stopped; finished shards are kept, and the same command goes on", FAILED)
    except Exception as error:
        code = _exit_code_of(error)
    sys.exit(code if isinstance(code, int) else 0)


def _end_workers() -> None:
    """After a second Ctrl-C nothing may be waited for: workers still busy are ended."""
    import multiprocessing
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for worker in multiprocessing.active_children():
        worker.kill()


def _exit_code_of(error: Exception) -> int:
    """One line for what a user can mend; a traceback for what only we can."""
    from flows.errors import TooManyBad
    from storage.publish import AlreadyBuilding
    from storage.store import DamagedObject

    if isinstance(error, TooManyBad):
        return _complain(str(error), TOO_MANY_BAD)
    if isinstance(error, AlreadyBuilding):
        return _complain(str(error), ALREADY_BUILDING)
    if isinstance(error, OSError) and error.errno:
        return _complain(_sentence_of(error), FAILED)
    if isinstance(error, ValueError | OSError | LookupError | RuntimeError | DamagedObject):
        return _complain(str(error), FAILED)
    raise error


def _sentence_of(error: OSError) -> str:
    """What the system said, about what, and what to do."""
    import errno

    advice = {
        errno.ENOSPC: "free some space and start the same command again; what is finished is kept",
        errno.EDQUOT: "free some space and start the same command again; what is finished is kept",
        errno.EROFS: "choose an --out that can be written to",
        errno.EACCES: "choose a place that this user may use, or change its permissions",
        errno.ENOENT: "it was moved or removed; put it back and start the same command again",
    }.get(error.errno)
    about = f"{error.filename}: " if error.filename else ""
    return f"{about}{error.strerror or error}" + (f"; {advice}" if advice else "")


def _complain(sentence: str, code: int) -> int:
    print(f"facefoundry: {sentence}", file=sys.stderr)
    return code

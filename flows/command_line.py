"""The command line. Each command imports what it needs when it runs, so that `--help` answers at once.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 too many bad samples, 4 someone else is building.
"""

import json
import sys
import time
from contextlib import ExitStack
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


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line and nothing else.")]
Out = Annotated[Path, typer.Option(help="Where data sets lie.")]
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
        Path | None, typer.Option(help="Folder of 300W-LP or AFLW2000-3D. Default: a sample drawn here.")
    ] = None,
    model: Model = None,
    out: Out = Path("datasets"),
    size: Annotated[int, typer.Option(min=128, max=512, help="Side of crops and maps in pixels.")] = 256,
    maps: Annotated[
        Literal["parametric", "materialized"],
        typer.Option(help="Store parameters that readers decode, or the maps themselves."),
    ] = "materialized",
    atlas: Annotated[
        Literal["auto", "own", "tutte"],
        typer.Option(help="The model's own UV atlas, a computed Tutte map, or what there is."),
    ] = "auto",
    copies: Annotated[
        int, typer.Option(min=1, max=1000, help="Samples of each picture; the first is not jittered.")
    ] = 1,
    compat: Annotated[Literal["face3d"] | None, typer.Option(help="Give a published recipe's labels.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0: one for each core.")] = 0,
    on_bad: Annotated[
        Literal["quarantine", "fail"], typer.Option(help="List bad samples and go on, or stop at the first.")
    ] = "quarantine",
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="A larger share of bad samples stops the build.")] = 0.01,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the jitter.")] = 0,
    as_json: Json = False,
) -> None:
    """Build a data set and publish it; what is there already is not made again.

    \b
    facefoundry build 300wlp-posmaps
    facefoundry build 300wlp-posmaps --source 300W_LP --model BFM.mat --model BFM_UV.mat --maps parametric
    """
    from flows import presets
    from flows.local import build_here
    from flows.progress import shown, silent_for

    start = time.monotonic()
    config = presets.posmaps_300wlp(size_px=size, maps=maps, atlas=atlas, copies=copies, compat=compat, seed=seed)
    if source is None and not as_json:
        source = _drawn_sample(out)
    published = build_here(
        config,
        source=source,
        model=_model(model),
        out=out,
        workers=workers,
        max_bad=max_bad,
        fail_on_first=on_bad == "fail",
        progress=silent_for if as_json else lambda total: shown(preset.value, total),
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


DatasetPath = Annotated[Path, typer.Argument(help="<out>/<name>, or a version's own folder.")]
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
    from render.preview import encode_png, sample_sheet
    from storage.fit_files import SUFFIX

    if what.name.endswith(SUFFIX):
        from flows.fit_pictures import draw_fit, fit_of_file

        seen, its_model = fit_of_file(what, _model(model) if model else None)
        path = save or Path(f"{what.name.removesuffix(SUFFIX)}.png")
        _print_drawn(**draw_fit(seen, its_model, path, turn=turn, export=export, frame=frame), as_json=as_json)
        return
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
    picture = sample_sheet(stored, opened.table("weight_mask"))
    if turn is not None:
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

    chosen = {"contour": contour} if contour else {}
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
    chosen = {"contour": contour} if contour else {}
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
def list_datasets(out: Out = Path("datasets"), as_json: Json = False) -> None:
    """List data sets and their versions; * marks the latest."""
    from storage.publish import LATEST_KEY, latest_version
    from storage.store import DamagedObject, LocalStore

    rows = []
    for folder in sorted(out.iterdir()) if out.is_dir() else ():
        if not (folder / LATEST_KEY).is_file():
            continue
        try:
            latest = latest_version(LocalStore(folder))
        except DamagedObject:
            latest = ""  # the others are listed all the same, and this one's versions too
        for manifest in sorted(folder.glob("*/manifest.json")):
            rows.append(
                {"dataset": folder.name, "version": manifest.parent.name, "latest": manifest.parent.name == latest}
            )
    if as_json:
        _print_json(datasets=rows)
        return
    if not rows:
        print(f"no data sets in {out}", file=sys.stderr)
    for row in rows:
        print(f"{'*' if row['latest'] else ' '} {row['dataset']}  {row['version']}")


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
def verify(
    dataset: DatasetPath,
    version: Version = None,
    fast: Annotated[bool, typer.Option("--fast", help="Names and sizes alone; default: every byte.")] = False,
    as_json: Json = False,
) -> None:
    """Hold every object of a version against its manifest; exit code 1 when something is wrong."""
    from storage import verify as verification
    from storage.dataset import version_folder
    from storage.store import LocalStore

    folder = version_folder(dataset, version)
    findings = verification.verify(LocalStore(folder), full=not fast)
    if as_json:
        _print_json(path=str(folder), whole=not findings, findings=[str(finding) for finding in findings])
    else:
        for finding in findings:
            print(finding)
        print(f"{folder}: {'whole' if not findings else f'{len(findings)} objects are not as published'}")
    if findings:
        raise typer.Exit(FAILED)


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
        Literal["square", "circle", "natural"] | None, typer.Option(help="Of tutte. Default: square.")
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
    from flows.unwrap import default_folder, read_surface, write_unwrap

    if method != "tutte" and (weights or boundary or inner_loops):
        raise typer.BadParameter(f"--weights, --boundary and --inner-loops belong to --method tutte, not to {method}")
    read = read_surface(surface, unit=unit, merge_coincident=merge or None, largest_component=largest)
    done = write_unwrap(
        read,
        out or default_folder(read, method),
        method=method,
        weights=weights or "conformal",
        boundary=boundary or "square",
        inner_loops=inner_loops or "fill",
        size=size,
    )
    if as_json:
        _print_json(path=str(done.path.absolute()), sentences=done.sentences, report=done.report.as_dict())
        return
    print(done.path)
    for sentence in done.sentences:
        print(f"  {sentence}")


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


def _drawn_sample(out: Path) -> Path:
    """The embedded default source, drawn with progress where it is missing."""
    from flows.build import sample_source
    from flows.progress import shown

    with ExitStack() as stack:
        reports = []

        def progress(done: int, total: int) -> None:
            if not reports:
                reports.append(stack.enter_context(shown("sample set", total, unit="families")))
            reports[0](1)

        return sample_source(out, progress)


def _model(files: list[str] | None) -> str | list[str]:
    if not files:
        return "built-in"
    return files[0] if len(files) == 1 else files


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

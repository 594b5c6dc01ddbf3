"""Commands for morphable models and surfaces."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.commands import completion
from flows.commands.options import Json, Out, given_model, local, print_document, print_json

app = typer.Typer()
model_app = typer.Typer(help="Morphable models: convert them once, look into them.", no_args_is_help=True)
app.add_typer(model_app, name="model")


@app.command()
def unwrap(
    surface: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_OR_MESH",
            autocompletion=completion.models,
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
    out: Annotated[
        Path | None, typer.Option(callback=local, help="Folder to write; default: unwraps/<name>-<method>.")
    ] = None,
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
    """Lay a model's mean face or a mesh flat. Writes the atlas, a checkerboard picture on the mesh, and a report.

    \b
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
        print_json(path=str(done.path.absolute()), sentences=done.sentences, report=done.report.as_dict())
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
    """Convert a morphable model once. The file opens at once and is shared between processes.

    \b
    facefoundry model import BFM.mat BFM_UV.mat
    """
    from flows.models_at_hand import model_archive_path
    from geometry import load_model
    from geometry.model_archive import save_model
    from geometry.morphable_model import DenseModel

    loaded = load_model(given_model(files))
    if not isinstance(loaded, DenseModel):
        raise ValueError("the built-in model needs no import: it comes with the package")
    path = model_archive_path(loaded, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(loaded, path)
    if as_json:
        print_json(path=str(path.absolute()), fingerprint=loaded.fingerprint)
    else:
        print(f"{loaded.name} ({loaded.n_vertices} vertices, fingerprint {loaded.fingerprint}): {path}")


@model_app.command("info")
def model_info(
    files: Annotated[
        list[str], typer.Argument(autocompletion=completion.models, help="'built-in', or the model's files or folder.")
    ],
    as_json: Json = False,
) -> None:
    """Describe a morphable model. Vertices, modes, boundary loops, units, landmarks, licence.

    \b
    facefoundry model info built-in
    facefoundry model info BFM.mat BFM_UV.mat --json
    """
    from dataclasses import asdict

    from geometry import load_model
    from geometry.models import describe_model

    about = asdict(describe_model(load_model(given_model(files))))
    print_document(about, as_json=as_json)

"""Commands that show samples and fits."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.commands import completion
from flows.commands.options import DatasetPath, Json, Model, Version, given_model, print_json

if TYPE_CHECKING:
    import numpy as np

    from storage.dataset import ShardedDataset

app = typer.Typer()


@app.command()
def show(
    what: Annotated[
        Path,
        typer.Argument(
            autocompletion=completion.fits,
            help="A data set (<out>/<name>, or a version's own folder), or a fit (.fit.json).",
        ),
    ],
    index: Annotated[str, typer.Argument(metavar="SAMPLE", help="Its number, or its source id.")] = "0",
    version: Version = None,
    save: Annotated[Path | None, typer.Option(help="The PNG to write; default: <name>-<number>.png here.")] = None,
    turn: Annotated[
        float | None,
        typer.Option(min=-180, max=180, help="Add a shaded view of the mesh, turned by so many degrees."),
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
    """Draw one sample or fit from the stored data alone. Image, landmarks, mesh, and what else there is.

    \b
    facefoundry show datasets/300wlp-posmaps 7 --turn 30
    facefoundry show datasets/300wlp-posmaps AFW/astronaut_0
    facefoundry show fits/portrait_0.fit.json --export glb
    """
    from render.preview import encode_png
    from storage.fit_files import SUFFIX

    if what.name.endswith(SUFFIX):
        from flows.fit_pictures import draw_fit, fit_of_file

        seen, its_model = fit_of_file(what, given_model(model) if model else None)
        path = save or Path(f"{what.name.removesuffix(SUFFIX)}.png")
        _print_drawn(**draw_fit(seen, its_model, path, turn=turn, export=export, frame=frame), as_json=as_json)
        return
    from flows.sheets import sample_sheet
    from storage.dataset import open_dataset

    _refuse_what_fit_writes(what, SUFFIX)
    opened = open_dataset(what, version)
    number = _number_of(opened, index)
    path = save or Path(f"{opened.manifest.name}-{number}.png")
    if "fitted_px" in opened.schema.names:
        from flows.fit_pictures import draw_fit, fit_of_dataset

        seen, its_model = fit_of_dataset(opened, number, given_model(model) if model else None)
        _print_drawn(**draw_fit(seen, its_model, path, turn=turn, export=export, frame=frame), as_json=as_json)
        return
    if export is not None:
        raise typer.BadParameter("--export takes a fit (.fit.json, or a data set of fits)")
    stored = opened[number]
    picture = sample_sheet(opened, number)
    if turn is not None:
        if "position_map" not in stored:
            raise typer.BadParameter("--turn shows the mesh of a position map, and this data set has none")
        picture = _with_turned_mesh(picture, stored, turn)
    path.write_bytes(encode_png(picture))
    if as_json:
        print_json(path=str(path.absolute()), source_id=stored["source_id"])
    else:
        print(f"{stored['source_id']}: {path}")


@app.command()
def browse(
    dataset: DatasetPath,
    version: Version = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 takes a free one.")] = 8642,
    as_json: Json = False,
) -> None:
    """Show any sample in a web browser on this machine. Ctrl-C ends it.

    \b
    facefoundry browse datasets/300wlp-posmaps
    facefoundry browse datasets/300wlp-posmaps --port 0 --json
    """
    from flows.browse import serve
    from storage.dataset import open_dataset

    def announce(address: str) -> None:
        if as_json:
            print_json(address=address)
        else:
            print(f"{address}  (Ctrl-C ends it)", flush=True)

    serve(open_dataset(dataset, version), port, announce)


def _refuse_what_fit_writes(what: Path, suffix: str) -> None:
    """Raise BadParameter for a picture, or a folder of fits, in place of a fit."""
    if what.is_file():
        raise typer.BadParameter(f"{what} is neither a data set's folder nor a fit; `fit` writes NAME_0{suffix}")
    if fits := sorted(what.glob(f"*{suffix}")):
        raise typer.BadParameter(f"{what} is a folder of fits; name one of them, such as {fits[0]}")


def _number_of(dataset: "ShardedDataset", sample: str) -> int:
    """The sample's number, given itself or as the source id of which it is the first. Raises BadParameter for neither."""
    from storage.views import source_ids

    if sample.isdecimal():
        return int(sample)
    names = source_ids(dataset)
    if sample not in names:
        such = f", such as {names[0]}" if names else ""
        raise typer.BadParameter(f"no sample is called {sample!r}; give its number, or its source id{such}")
    return names.index(sample)


def _print_drawn(
    source_id: str, path: Path, mesh: Path | None, residual_px: dict[str, float], notice: str, *, as_json: bool
) -> None:
    """What `show` says of a fit that was drawn."""
    if notice:
        print(f"facefoundry: {notice}", file=sys.stderr)
    if as_json:
        written = None if mesh is None else str(mesh.absolute())
        print_json(path=str(path.absolute()), source_id=source_id, residual_px=residual_px, mesh=written)
        return
    print(f"{source_id}: {path}")
    print("landmarks, px from the model: " + ", ".join(f"{name} {value:.2f}" for name, value in residual_px.items()))
    if mesh is not None:
        print(f"mesh: {mesh}")


def _with_turned_mesh(picture: "np.ndarray", stored: "Mapping[str, Any]", degrees: float) -> "np.ndarray":
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

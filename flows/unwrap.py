"""Unwrap a model's mean face or a mesh file and write everything about the result into a folder."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from geometry.atlas_files import save_atlas, save_bfm_uv
from geometry.atlas_report import AtlasReport, report_atlas
from geometry.cylinder import cylindrical_map
from geometry.mesh import Mesh
from geometry.mesh_files import SUFFIXES, Unit, load_mesh
from geometry.models import load_model
from geometry.optimal_cylinder import optimal_cylindrical_map
from geometry.unwrap import Boundary, InnerLoops, Weights, outer_loop, tutte_map
from geometry.uv import UVAtlas
from render.checkerboard import checkerboard_sheet
from render.preview import encode_png

Method = Literal["tutte", "cylindrical", "optimal"]

BOUNDARIES: dict[str, Boundary] = {"square": "square", "circle": "circle", "natural": "natural"}
"""The borders that have a name."""

ATLAS, BFM_UV, PICTURE, REPORT = "atlas.npz", "BFM_UV.mat", "checkerboard.png", "report.json"


@dataclass(frozen=True, slots=True)
class Surface:
    """What is unwrapped: its name, the mesh in millimetres, the model's own closing triangles, and how it was read."""

    name: str
    mesh: Mesh
    closing_triangles: np.ndarray | None
    file_vertices: np.ndarray
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """The folder, the report, and the sentences for people: what was done, then what the atlas is worth."""

    path: Path
    report: AtlasReport
    sentences: tuple[str, ...]


def read_surface(
    files: Sequence[str],
    *,
    unit: Unit | None = None,
    merge_coincident: bool | None = None,
    largest_component: bool = False,
) -> Surface:
    """A mesh file by its name's ending, or anything that `load_model` takes, as its mean face."""
    if len(files) == 1 and Path(files[0]).suffix.lower() in SUFFIXES:
        read = load_mesh(files[0], unit=unit, merge_coincident=merge_coincident, largest_component=largest_component)
        return Surface(Path(files[0]).stem, read.mesh, None, read.file_vertices, read.notes)
    if unit is not None or merge_coincident or largest_component:
        raise ValueError("unit, merging and components are a mesh file's affair; a model brings its own")
    model = load_model(files[0] if len(files) == 1 else list(files))
    mesh = Mesh(model.mean_shape, model.triangles)
    everything = np.arange(model.n_vertices, dtype=np.int32)
    return Surface(model.name, mesh, model.closing_triangles, everything, ())


def boundary_positions(table: Path, surface: Surface) -> Float[np.ndarray, "l 2"]:
    """Where the border's vertices go, from a CSV file with the columns vertex, u, v: one for each of `outer_loop`.

    Vertices have their numbers of the file that the surface came from, counted from 0. Others than the border's may be
    there too, and mean nothing. Raises ValueError, with the line, for what is no such table, and for vertices that
    are missing or there twice.
    """
    rows = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig")))
    if not {"vertex", "u", "v"} <= set(rows.fieldnames or ()):
        raise ValueError(f"{table.name}: the first line names the columns vertex, u and v; it is {rows.fieldnames}")
    places: dict[int, tuple[float, float]] = {}
    for row in rows:
        try:
            vertex, place = int(row["vertex"]), (float(row["u"]), float(row["v"]))
        except (TypeError, ValueError):
            raise ValueError(
                f"{table.name}, line {rows.line_num}: {row} is not a vertex's number with u and v"
            ) from None
        if vertex in places:
            raise ValueError(f"{table.name}, line {rows.line_num}: vertex {vertex} is there twice")
        places[vertex] = place
    border = surface.file_vertices[outer_loop(surface.mesh)].tolist()
    missing = [vertex for vertex in border if vertex not in places]
    if missing:
        raise ValueError(
            f"{table.name} says nothing of vertex {missing[0]} ({len(missing)} of the border's {len(border)} are "
            "missing); vertices are counted from 0, as in the mesh file"
        )
    return np.array([places[vertex] for vertex in border])


def default_folder(surface: Surface, method: Method) -> Path:
    """Where an unwrap goes when nobody says where."""
    return Path("unwraps") / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', surface.name).strip('-')}-{method}"


def unwrap(
    surface: Surface,
    *,
    method: Method,
    weights: Weights,
    boundary: Boundary | Float[np.ndarray, "l 2"],
    inner_loops: InnerLoops,
) -> tuple[UVAtlas, tuple[str, ...]]:
    """The atlas and what there is to say about how it came about; folds are told, not refused."""
    if method == "cylindrical":
        plain = cylindrical_map(surface.mesh)
        return plain.atlas, plain.notes
    if method == "optimal":
        best = optimal_cylindrical_map(surface.mesh, closing_triangles=surface.closing_triangles)
        return best.atlas, best.notes
    laid = tutte_map(
        surface.mesh,
        weights=weights,
        boundary=boundary,
        inner_loops=inner_loops,
        closing_triangles=surface.closing_triangles if inner_loops == "fill" else None,
    )
    notes = list(laid.notes)
    if laid.repair != "none":
        notes.append(f"{weights} weights fold {laid.n_folded_plain} triangles here; repaired: {laid.repair}")
    return laid.atlas, tuple(notes)


def write_unwrap(
    surface: Surface,
    out: Path,
    *,
    method: Method = "tutte",
    weights: Weights = "conformal",
    boundary: Boundary | Path = "square",
    inner_loops: InnerLoops = "fill",
    size: int = 256,
) -> Unwrapped:
    """Write the atlas (`atlas.npz`, `BFM_UV.mat`), `checkerboard.png` and `report.json` into the folder `out`.

    A path as `boundary` is the table of :func:`boundary_positions`.
    """
    border = boundary_positions(boundary, surface) if isinstance(boundary, Path) else boundary
    atlas, notes = unwrap(surface, method=method, weights=weights, boundary=border, inner_loops=inner_loops)
    report = report_atlas(atlas, surface.mesh, size=size)
    sentences = (*surface.notes, *notes, *report.sentences())
    how: dict[str, str] = {"method": method}
    if method == "tutte":
        how |= {"weights": weights, "boundary": str(boundary), "inner_loops": inner_loops}
    out.mkdir(parents=True, exist_ok=True)
    save_atlas(out / ATLAS, atlas, surface.mesh, file_vertices=surface.file_vertices)
    save_bfm_uv(out / BFM_UV, atlas)
    (out / PICTURE).write_bytes(encode_png(checkerboard_sheet(surface.mesh, atlas)))
    told = {"surface": surface.name, **how, "sentences": sentences, "report": report.as_dict()}
    (out / REPORT).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Unwrapped(out, report, sentences)

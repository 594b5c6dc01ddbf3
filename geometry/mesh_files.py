"""Meshes from files: OBJ, PLY, STL, OFF, glTF and GLB, read by trimesh as they are, then checked.

Nothing is repaired in silence. What makes a file no single manifold surface is a :class:`MeshFileError` that says which
triangles or vertices, and what to do.
"""

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph  # noqa: F401 (sp.csgraph)
from jaxtyping import Float, Int, Int32

from geometry.mesh import Mesh, component_count
from geometry.sound_surface import sound_loops

Unit = Literal["um", "mm", "cm", "m", "inch"]
_MM: dict[str, float] = {"um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1000.0, "inch": 25.4}

SUFFIXES = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
"""File names that :func:`load_mesh` reads."""

_IN_METRES = (".glb", ".gltf")
_WITHOUT_SHARED_VERTICES = (".stl", ".glb", ".gltf")
"""Formats that repeat a vertex for every triangle (STL), or for every normal and texture place (glTF)."""

_LIKELY_MM = (20.0, 2000.0)
"""Between these a face's or a head's longest side lies; beyond, the unit is asked about."""


class MeshFileError(ValueError):
    """A mesh file that cannot be used; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class MeshFile:
    """A mesh and how it was read: millimetres, and the unit that the file's numbers were taken for.

    ``file_vertices[i]`` is the place in the file of vertex i (the first, where several that coincide were made one).
    """

    mesh: Mesh
    unit: Unit
    file_vertices: Int32[np.ndarray, " v"]
    notes: tuple[str, ...]


def load_mesh(
    path: str | Path,
    *,
    unit: Unit | None = None,
    merge_coincident: bool | None = None,
    largest_component: bool = False,
) -> MeshFile:
    """Read one surface from a mesh file, in the model frame's axes: x right, y up, z toward the viewer.

    unit                what the file's numbers count; None: metres in glTF, which says so, millimetres elsewhere
    merge_coincident    make vertices with the same coordinates one; None: where a format cannot share them (STL, glTF)
    largest_component   keep the component with most triangles, drop the others and vertices without triangles

    Raises FileNotFoundError, and :class:`MeshFileError` for what is no mesh and for a mesh with coordinates that are
    not finite, vertices that no triangle uses, duplicate triangles, edges with more than two triangles, triangles wound
    against their neighbours or several components.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no mesh file {path}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise MeshFileError(f"{path.name} is no mesh file by its name; readable are {', '.join(SUFFIXES)}")
    if unit is not None and unit not in get_args(Unit):
        raise MeshFileError(f"unit {unit!r} is none of {', '.join(get_args(Unit))}")
    vertices, triangles = _read(path)
    unit = unit or ("m" if suffix in _IN_METRES else "mm")
    vertices = vertices * _MM[unit]
    if not len(triangles):
        raise MeshFileError(f"{path.name} holds no triangles: a cloud of points cannot be unwrapped; mesh it first")
    bad = np.flatnonzero(~np.isfinite(vertices).all(axis=1))
    if len(bad):
        raise MeshFileError(
            f"{path.name}: vertex {bad[0]} ({len(bad)} in all) has coordinates that are not finite; export it again"
        )
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise MeshFileError(
            f"{path.name}: triangles refer to vertices {triangles.min()} to {triangles.max()}, but it has "
            f"{len(vertices)}, counted from 0; the file is damaged or cut off"
        )
    notes: list[str] = []
    file_vertices = np.arange(len(vertices), dtype=np.int32)
    if suffix in _WITHOUT_SHARED_VERTICES if merge_coincident is None else merge_coincident:
        vertices, triangles, file_vertices = _merged(vertices, triangles, notes)
    if largest_component:
        vertices, triangles, file_vertices = _largest(vertices, triangles, file_vertices, notes)
    _check_duplicates(path, triangles)
    mesh = Mesh(vertices, np.ascontiguousarray(triangles, dtype=np.int32))
    try:
        sound_loops(mesh, may_be_closed=True)
    except ValueError as error:
        raise MeshFileError(f"{path.name}: {error}{_advice(mesh)}") from error
    longest = float(np.ptp(vertices, axis=0).max())
    if not _LIKELY_MM[0] <= longest <= _LIKELY_MM[1]:
        notes.append(
            f"the mesh is {longest:.3g} mm across when its numbers are taken for {unit}: "
            "if that is not so, name the unit"
        )
    return MeshFile(mesh, unit, file_vertices, tuple(notes))


def _read(path: Path) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "t 3"]]:
    """All meshes of the file in one, placed as its scene places them."""
    import trimesh  # half a second, for files alone

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # from bounds of coordinates that we find fault with later
            if path.suffix.lower() == ".obj":
                scene = trimesh.load_scene(_bare_obj(path), file_type="obj", process=False, maintain_order=True)
            else:
                scene = trimesh.load_scene(path, process=False)
        parts = []
        for node in scene.graph.nodes_geometry:
            placement, name = scene.graph[node]
            part = scene.geometry[name]
            if isinstance(part, trimesh.Trimesh):
                points = np.asarray(part.vertices, dtype=np.float64)
                parts.append((points @ placement[:3, :3].T + placement[:3, 3], np.asarray(part.faces, dtype=np.int64)))
    except Exception as error:  # trimesh's readers fail in ways of their own for every damaged byte
        why = str(error) or type(error).__name__
        raise MeshFileError(f"{path.name} cannot be read as {path.suffix[1:]} ({why})") from error
    if not parts:
        return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)
    starts = np.cumsum([0, *(len(points) for points, _ in parts[:-1])])
    return (
        np.concatenate([points for points, _ in parts]),
        np.concatenate([faces + start for (_, faces), start in zip(parts, starts, strict=True)]),
    )


def _bare_obj(path: Path) -> io.StringIO:
    """An OBJ's vertices and faces alone: for materials, texture places and normals trimesh would split its vertices."""
    lines = path.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ").splitlines()
    kept = (line.strip() for line in lines)
    return io.StringIO("\n".join(re.sub(r"/\S*", "", line) for line in kept if re.match(r"[vf]\s", line)) + "\n")


def _merged(
    vertices: np.ndarray, triangles: np.ndarray, notes: list[str]
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "s 3"], Int32[np.ndarray, " w"]]:
    """Vertices with the same coordinates made one, in the order of their first; triangles that collapse are dropped."""
    _, first, which = np.unique(vertices + 0.0, axis=0, return_index=True, return_inverse=True)  # + 0.0: −0 is 0
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    joined = rank[which.ravel()][triangles]
    collapsed = (joined == np.roll(joined, 1, axis=1)).any(axis=1)
    if len(order) < len(vertices):
        notes.append(f"{len(vertices):,} vertices of the file lie in {len(order):,} places and were made one in each")
    if collapsed.any():
        notes.append(f"{int(collapsed.sum())} triangles without area were dropped")
    kept = first[order].astype(np.int32)
    return vertices[kept], joined[~collapsed], kept


def _largest(
    vertices: np.ndarray, triangles: np.ndarray, file_vertices: np.ndarray, notes: list[str]
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "s 3"], Int32[np.ndarray, " w"]]:
    """The component with most triangles."""
    n = len(vertices)
    ends = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    graph = sp.coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(n, n))
    _, component = sp.csgraph.connected_components(graph, directed=False)
    counts = np.bincount(component[triangles[:, 0]])
    keep = component == counts.argmax()
    kept = triangles[keep[triangles[:, 0]]]
    if len(kept) < len(triangles):
        notes.append(f"{len(triangles) - len(kept):,} triangles of smaller components were dropped")
    if not keep.all():
        notes.append(f"{int((~keep).sum()):,} vertices that belong to none of the rest were dropped")
    new_index = np.cumsum(keep) - 1
    return vertices[keep], new_index[kept], file_vertices[keep]


def _check_duplicates(path: Path, triangles: np.ndarray) -> None:
    ordered = np.sort(triangles, axis=1)
    _, which, counts = np.unique(ordered, axis=0, return_inverse=True, return_counts=True)
    which = which.ravel()
    if (counts > 1).any():
        first, again = np.flatnonzero(which == which[(counts[which] > 1).argmax()])[:2]
        raise MeshFileError(
            f"{path.name}: triangles {first} and {again} have the same three vertices {ordered[again].tolist()} "
            f"({int((counts - 1).sum())} duplicates in all): remove duplicate faces and back sides first"
        )


def _advice(mesh: Mesh) -> str:
    """How several components and stray vertices come about, and what drops them; nothing where there are none."""
    n_used = len(np.unique(mesh.triangles))
    if n_used == len(mesh.vertices) and component_count(mesh.triangles, len(mesh.vertices)) == 1:
        return ""
    n_places = len(np.unique(mesh.vertices, axis=0))
    if n_places < len(mesh.vertices):
        return (
            f" ({len(mesh.vertices) - n_places} vertices lie exactly on others, as where a file splits them along "
            "texture seams: merge_coincident, or --merge, makes them one)"
        )
    return " (largest_component, or --largest, keeps the one with most triangles and drops stray vertices)"

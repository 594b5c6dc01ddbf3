"""Triangle meshes and the questions about them that the rest asks."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph  # noqa: F401 (sp.csgraph)
from jaxtyping import Bool, Float, Int, Int32


@dataclass(frozen=True, slots=True)
class Mesh:
    """A triangle mesh in the model frame: millimetres, triangles counter-clockwise from outside, indices from zero."""

    vertices: Float[np.ndarray, "v 3"]
    triangles: Int32[np.ndarray, "t 3"]

    def __post_init__(self) -> None:
        """Refuse indices that point outside."""
        check_triangles(self.triangles, len(self.vertices))


def check_triangles(triangles: Int[np.ndarray, "t 3"], n_vertices: int) -> None:
    """Raise ValueError when an index lies outside [0, n_vertices), and for anything but three corners a triangle.

    Compiled loops trust both: they would read beside the array.
    """
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(
            f"triangles come as an array of shape {triangles.shape}; (T, 3) is needed: split polygons first"
        )
    if len(triangles) and triangles.max() >= n_vertices:
        raise ValueError(
            f"triangles refer to vertex {triangles.max()} but the mesh has {n_vertices} vertices; "
            "indices are zero-based (MATLAB files count from one)"
        )
    if len(triangles) and triangles.min() < 0:
        raise ValueError(f"triangles refer to vertex {triangles.min()}; indices start at zero")


def signed_volume(vertices: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"]) -> float:
    """The volume that the triangles enclose with the vertices' centroid: positive when counter-clockwise from outside.

    Right-handed frames only (the model frame); in image and crop frames, which are left-handed, the sign is opposite.
    """
    corners = (vertices - vertices.mean(axis=0))[triangles].astype(np.float64)
    return float(np.einsum("ti,ti->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)


def vertex_normals(vertices: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"]) -> Float[np.ndarray, "v 3"]:
    """Area-weighted outward unit normals in a right-handed frame; (0, 0, 0) at vertices that no triangle uses."""
    from geometry.mesh_kernel import add_triangle_normals, unit_vectors  # here, because most questions need no compiler

    check_triangles(triangles, len(vertices))
    normals = np.zeros((len(vertices), 3))
    add_triangle_normals(np.ascontiguousarray(vertices), np.ascontiguousarray(triangles), normals)
    units = np.empty(normals.shape, dtype=vertices.dtype)
    unit_vectors(normals, units)
    return units


def undirected_edges(triangles: Int[np.ndarray, "t 3"]) -> tuple[Int[np.ndarray, "e 2"], Int[np.ndarray, " e"]]:
    """Every edge once, its lower vertex first, and how many triangles use it (2 inside, 1 on a boundary)."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).astype(np.int64)
    n = int(edges.max()) + 1 if len(edges) else 1
    # one number for an edge: sorting numbers is eight times faster than sorting rows
    keys, counts = np.unique(edges.min(axis=1) * n + edges.max(axis=1), return_counts=True)
    return np.stack([keys // n, keys % n], axis=1).astype(triangles.dtype), counts


def boundary_loops(triangles: Int[np.ndarray, "t 3"]) -> list[Int[np.ndarray, " l"]]:
    """The boundary loops, longest first, each in the direction of its triangles' edges, starting at its lowest vertex.

    Raises ValueError when two loops touch in a vertex or an edge has more than two triangles (a non-manifold mesh).
    """
    directed = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    n = int(triangles.max()) + 1 if len(triangles) else 0
    keys = np.sort(directed[:, 0].astype(np.int64) * n + directed[:, 1])
    repeated = keys[1:][keys[1:] == keys[:-1]]
    if len(repeated):
        a, b = divmod(int(repeated[0]), n)
        raise ValueError(
            f"edge {a}–{b} is used twice in one direction: the mesh is not manifold or not consistently wound"
        )
    opposite = directed[:, 1].astype(np.int64) * n + directed[:, 0]
    place = np.minimum(np.searchsorted(keys, opposite), max(len(keys) - 1, 0))
    open_edges = directed[keys[place] != opposite]
    starts, times = np.unique(open_edges[:, 0], return_counts=True)
    if (times > 1).any():
        raise ValueError(f"two boundary loops touch in vertex {starts[times > 1][0]}: cut or merge them first")
    following = dict(open_edges.tolist())
    loops = []
    while following:
        start = min(following)
        loop, vertex = [start], following.pop(start)
        while vertex != start:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(np.array(loop, dtype=np.int32))
    return sorted(loops, key=lambda loop: (-len(loop), loop[0]))


def component_count(triangles: Int[np.ndarray, "t 3"], n_vertices: int) -> int:
    """Connected components among the vertices that triangles use."""
    edges, _ = undirected_edges(triangles)
    graph = sp.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (n_vertices, n_vertices))
    _, labels = sp.csgraph.connected_components(graph, directed=False)
    return len(np.unique(labels[np.unique(triangles)]))


def submesh(
    triangles: Int[np.ndarray, "t 3"], keep: Bool[np.ndarray, " v"]
) -> tuple[Int32[np.ndarray, "s 3"], Int32[np.ndarray, " v"]]:
    """Triangles whose three corners are kept, re-indexed, and the new index of every old vertex (−1: dropped).

    `keep` is a bool mask over the vertices.
    """
    new_index = np.full(len(keep), -1, dtype=np.int32)
    new_index[keep] = np.arange(int(keep.sum()), dtype=np.int32)
    kept = new_index[triangles]
    return np.ascontiguousarray(kept[(kept >= 0).all(axis=1)]), new_index

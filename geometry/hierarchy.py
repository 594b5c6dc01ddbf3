"""Mesh hierarchies for graph networks: ever coarser selections of a mesh's vertices, with the matrices between them.

Down-sampling picks vertices; up-sampling puts every vertex at a fixed place of the coarser mesh, in barycentric coordinates
(Ranjan et al. 2018, section 3.2; Meng et al. 2022, section III-D). Both are sparse and act on anything per vertex::

    hierarchy = cached_hierarchy(model.mesh(model.neutral()), cache_folder=folder)
    coarse = hierarchy.down[0] @ vertices      # (53215 3) → (16384 3)
    fine = hierarchy.up[0] @ coarse            # and back; vertices that were kept are where they were
"""

import os
import secrets
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int32

from geometry.decimation import Collapses, collapsed, decimate, tidied
from geometry.mesh import Mesh
from geometry.morphable_model import fingerprint_of
from geometry.nearest import walk_to_nearest
from geometry.npz_files import read_npz

PAPER_LEVELS = (16, 64, 256, 1024, 4096, 16384)
"""Vertices of the levels below the whole mesh (Meng et al. 2022, figure 3)."""

_MOST_BYTES = 4 << 30
RECIPE = 2
"""Part of the fingerprint: raised by hand when the same mesh gives other levels or matrices than before."""


@dataclass(frozen=True, slots=True)
class MeshHierarchy:
    """Levels of a mesh, the whole mesh first, and the matrices between neighbours.

    ``kept[i][j]`` is the vertex of the whole mesh that is vertex j of ``meshes[i]``, in ascending order.
    ``down[i]`` (n_{i+1}, n_i) has one 1 in each row; ``up[i]`` (n_i, n_{i+1}) has at most three entries, at least 0, of sum 1.
    ``n_turned[i]`` collapses on the way to level i turned a triangle by more than 78°, because no other was left.
    """

    fingerprint: str
    meshes: tuple[Mesh, ...]
    kept: tuple[Int32[np.ndarray, "_"], ...]
    down: tuple[sp.csr_array, ...]
    up: tuple[sp.csr_array, ...]
    n_turned: tuple[int, ...]


def build_hierarchy(mesh: Mesh, *, levels: Sequence[int] = PAPER_LEVELS) -> MeshHierarchy:
    """Decimate `mesh` to the given numbers of vertices (ascending) and compute the matrices; seconds for 53,215 vertices.

    Coincident vertices count as one: one of them may be kept, all are up-sampled alike. The same mesh gives the same
    hierarchy. Raises ValueError for levels out of order or above the mesh's size, for positions that are not finite,
    for a vertex that no triangle uses, and when the topology does not allow the lowest level (each rim keeps three
    vertices, each closed part four).
    """
    triangles, stands_for = _checked(mesh, levels)
    distinct, rank = np.unique(stands_for, return_inverse=True)  # the vertices that take part, and where each is now
    rank = rank.reshape(-1).astype(np.int32)
    tidy = Mesh(np.ascontiguousarray(mesh.vertices[distinct]), rank[triangles])
    collapses = decimate(tidy, n_vertices=levels[0])
    n_left = len(distinct) - len(collapses.removed)
    if n_left > levels[0]:
        raise ValueError(
            f"decimation ended at {n_left} vertices, above the level of {levels[0]}: each rim keeps three vertices and each "
            "closed part four, so that the topology stays. Leave out the lowest levels, or the mesh's smallest parts"
        )
    return _assembled(mesh, tidy, distinct, rank, collapses, levels)


def cached_hierarchy(mesh: Mesh, *, cache_folder: Path | str, levels: Sequence[int] = PAPER_LEVELS) -> MeshHierarchy:
    """:func:`build_hierarchy`, kept in a file of `cache_folder` (made when missing) that is named by the fingerprint.

    The file appears whole or not at all, and is made again when it is damaged.
    """
    path = Path(cache_folder) / f"mesh-hierarchy-{hierarchy_fingerprint(mesh, levels)}.npz"
    try:
        return _read(path, mesh, levels)
    except (FileNotFoundError, ValueError, TypeError, IndexError):  # another program's arrays, too
        hierarchy = build_hierarchy(mesh, levels=levels)
    _write(path, hierarchy)
    return hierarchy


def hierarchy_fingerprint(mesh: Mesh, levels: Sequence[int] = PAPER_LEVELS) -> str:
    """32 hexadecimal digits of what a hierarchy depends on: positions, triangles, levels and :data:`RECIPE`."""
    return fingerprint_of((mesh.vertices, mesh.triangles, np.array([RECIPE, *levels], dtype=np.int64)))


# ---------------------------------------------------------------- building


def _checked(mesh: Mesh, levels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The tidied triangles and for every vertex the one that stands for it."""
    if not len(levels) or levels[0] < 3 or list(levels) != sorted(set(levels)):
        raise ValueError(f"levels are {list(levels)}: they must ascend from at least 3 vertices, each named once")
    bad = np.flatnonzero(~np.isfinite(mesh.vertices).all(axis=1))
    if len(bad):
        raise ValueError(
            f"vertex {bad[0]} is at {mesh.vertices[bad[0]]}: positions must be finite (of {len(bad)} vertices)"
        )
    triangles, stands_for = tidied(mesh.vertices, mesh.triangles)
    used = np.zeros(len(mesh.vertices), dtype=bool)
    used[triangles] = True
    idle = np.flatnonzero(~used[stands_for])
    if len(idle):
        raise ValueError(
            f"vertex {idle[0]} belongs to no triangle, or only to such whose corners coincide ({len(idle)} such vertices): "
            "a graph network cannot reach it; drop them (geometry.mesh.submesh)"
        )
    n = int((stands_for == np.arange(len(stands_for))).sum())
    if levels[-1] >= n:
        raise ValueError(
            f"a level has {levels[-1]:,} vertices but the mesh only {n:,} distinct ones: give lower levels"
        )
    return triangles, stands_for


def _assembled(
    mesh: Mesh, tidy: Mesh, distinct: np.ndarray, rank: np.ndarray, collapses: Collapses, levels: Sequence[int]
) -> MeshHierarchy:
    """Levels, from fine to coarse, out of one run of collapses."""
    n_all, sizes = len(tidy.vertices), (len(tidy.vertices), *reversed(levels))
    meshes, kept = [mesh], [np.arange(len(mesh.vertices), dtype=np.int32)]
    down: list[sp.csr_array] = []
    up: list[sp.csr_array] = []
    fine = np.arange(n_all)  # the tidy vertices of the finer level
    for size in sizes[1:]:
        became = collapses.followed(n_all, size)
        coarse = np.unique(became)
        place = np.full(n_all, -1, dtype=np.int32)
        place[coarse] = np.arange(size, dtype=np.int32)
        level = Mesh(np.ascontiguousarray(tidy.vertices[coarse]), place[collapsed(tidy.triangles, became)])
        pick = sp.csr_array((np.ones(size), (np.arange(size), np.searchsorted(fine, coarse))), shape=(size, len(fine)))
        spread = up_sampling(tidy.vertices[fine], level, starts=place[became[fine]], kept_as=place[fine])
        if len(up) == 0:  # the whole mesh, with its coincident vertices
            pick = sp.csr_array((np.ones(size), (np.arange(size), distinct[coarse])), shape=(size, len(mesh.vertices)))
            spread = spread[rank]
        meshes.append(level)
        kept.append(distinct[coarse].astype(np.int32))
        down.append(pick)
        up.append(spread)
        fine = coarse
    turned = np.concatenate([[0], np.cumsum(collapses.turned)])
    n_turned = tuple(int(turned[n_all - size]) for size in sizes)
    fingerprint = hierarchy_fingerprint(mesh, levels)
    return MeshHierarchy(fingerprint, tuple(meshes), tuple(kept), tuple(down), tuple(up), n_turned)


def up_sampling(
    fine: Float[np.ndarray, "v 3"], coarse: Mesh, *, starts: Int32[np.ndarray, " v"], kept_as: Int32[np.ndarray, " v"]
) -> sp.csr_array:
    """The matrix that puts every fine vertex at the nearest place of the coarse mesh, walking from vertex ``starts[v]``.

    Vertex v is the coarse mesh's vertex ``kept_as[v]``, unless that is −1.
    """
    nearest = walk_to_nearest(fine, coarse, starts=starts)
    corners, weights = coarse.triangles[nearest.triangles].copy(), nearest.weights
    stays = kept_as >= 0
    corners[stays], weights[stays] = kept_as[stays, None], (1.0, 0.0, 0.0)
    rows = np.repeat(np.arange(len(fine)), 3)
    there = weights.ravel() > 0
    entries = (weights.ravel()[there], (rows[there], corners.ravel()[there]))
    matrix = sp.csr_array(entries, shape=(len(fine), len(coarse.vertices)))
    matrix.sort_indices()
    return matrix


# ---------------------------------------------------------------- the cache


def _write(path: Path, hierarchy: MeshHierarchy) -> None:
    """Under a private name first; nothing of the clock in it, so that the same mesh gives the same bytes."""
    arrays = {"n_turned": np.array(hierarchy.n_turned)}
    for i, matrix in enumerate(hierarchy.up):
        arrays |= {f"kept_{i + 1}": hierarchy.kept[i + 1], f"triangles_{i + 1}": hierarchy.meshes[i + 1].triangles}
        arrays |= {f"indptr_{i}": matrix.indptr, f"indices_{i}": matrix.indices, f"data_{i}": matrix.data}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with zipfile.ZipFile(partial, "x") as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        os.replace(partial, path)  # no fsync: a damaged file is made again
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path, mesh: Mesh, levels: Sequence[int]) -> MeshHierarchy:
    sizes = (len(mesh.vertices), *reversed(levels))
    meshes, kept, down, up = [mesh], [np.arange(len(mesh.vertices), dtype=np.int32)], [], []
    of_level = ("data_{0}", "indices_{0}", "indptr_{0}", "kept_{1}", "triangles_{1}")
    names = [name.format(i, i + 1) for i in range(len(levels)) for name in of_level]
    arrays = read_npz(path, (*names, "n_turned"), limit_bytes=_MOST_BYTES)
    for i, (fine, coarse) in enumerate(pairwise(sizes)):
        here = arrays[f"kept_{i + 1}"]
        meshes.append(Mesh(np.ascontiguousarray(mesh.vertices[here]), arrays[f"triangles_{i + 1}"]))
        columns = np.searchsorted(kept[-1], here)
        down.append(sp.csr_array((np.ones(coarse), (np.arange(coarse), columns)), shape=(coarse, fine)))
        parts = (arrays[f"data_{i}"], arrays[f"indices_{i}"], arrays[f"indptr_{i}"])
        up.append(sp.csr_array(parts, shape=(fine, coarse)))
        kept.append(here)
    n_turned = tuple(arrays["n_turned"].tolist())
    return MeshHierarchy(
        hierarchy_fingerprint(mesh, levels), tuple(meshes), tuple(kept), tuple(down), tuple(up), n_turned
    )

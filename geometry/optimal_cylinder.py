"""The cylindrical unwrap without folds: what the plain cylinder overlaps is unfolded, the rest stays where it was.

A face is no graph over a cylinder: ears, nostrils, lids, lips and the underside of the chin turn away from the axis,
and the plain map (:mod:`geometry.cylinder`) lays them over their neighbours. Booth and Zafeiriou 2014 ("Optimal UV
spaces for facial morphable model construction") ask for contiguous UV spaces that suit the warping of faces, by optimal
cylindrical projection. The aim and the cylinder are theirs; the relaxation is ours, made from convex combination maps,
because these can promise what is wanted: everything that lies well, a little way from any fold, stays *exactly* at its
angle and height; the rest is laid out anew by :func:`geometry.unfolding.unfolded`, which ends without folds and
overlaps for the reason given there, and gets its area back by rounds of stretch relaxation.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph  # noqa: F401 (sp.csgraph)
from jaxtyping import Int, Int32

from geometry.cylinder import Cylinder, fit_cylinder, uv_of_flattened
from geometry.mesh import Mesh, boundary_loops
from geometry.plane_areas import doubled_area
from geometry.sound_surface import check_flattenable, close_holes, sound_loops
from geometry.unfolding import unfolded
from geometry.uv import UVAtlas

_FLATTEST = 0.1
"""Triangles of which the cylinder keeps less than this share of their area are laid out anew: those seen edge-on."""

_ROUNDS = 4
"""At most so many rounds of stretch relaxation: on heads the first takes half of the stretch away, the fifth 1 %."""


@dataclass(frozen=True, slots=True)
class OptimalMap:
    """An unfolded cylindrical atlas and how it came about.

    n_folded          triangles folded in the atlas; 0 but for rounding
    n_folded_before   triangles that the plain cylinder folds or shows edge-on, closing ones too
    crossing          the mesh's triangles that are not in the atlas: they cross the seam, or only hang on by it
    unplaced          vertices all of whose triangles are left out: they have UV but no texel
    kept_share        share of the vertices that are exactly at their angle and height
    stretch           Sander's L² stretch before and after relaxation (1: areas and angles kept)
    n_rounds          rounds of stretch relaxation
    notes             sentences for people
    """

    atlas: UVAtlas
    cylinder: Cylinder
    crossing: Int32[np.ndarray, " c"]
    unplaced: Int32[np.ndarray, " p"]
    n_folded: int
    n_folded_before: int
    kept_share: float
    stretch: tuple[float, float]
    n_rounds: int
    notes: tuple[str, ...]


def optimal_cylindrical(mesh: Mesh, *, closing_triangles: Int[np.ndarray, "c 3"] | None = None) -> UVAtlas:
    """The atlas of :func:`optimal_cylindrical_map`, every triangle with positive area and none over another.

    Raises ValueError as that does, and when triangles fold all the same.
    """
    result = optimal_cylindrical_map(mesh, closing_triangles=closing_triangles)
    if result.n_folded:
        raise ValueError(
            f"{result.n_folded} of {len(result.atlas.triangles)} triangles fold or collapse: a part of the surface is "
            "so long that its end is smaller than rounding; look at it with optimal_cylindrical_map, or cut it off"
        )
    return result.atlas


def optimal_cylindrical_map(mesh: Mesh, *, closing_triangles: Int[np.ndarray, "c 3"] | None = None) -> OptimalMap:
    """Unwrap `mesh` round the cylinder that fits it, unfold what folds, and tell how.

    Triangles that cross the seam behind the axis are left out, holes are closed with triangles (the model's own
    `closing_triangles` where they fit) that become part of the atlas. The surface may be closed: the seam opens it.
    Raises ValueError for what no cylinder fits (:func:`geometry.cylinder.cylindrical_map`) and for what is no single
    manifold surface without handles (:func:`geometry.unwrap.tutte_map`).
    """
    sound_loops(mesh, may_be_closed=True)
    cylinder = fit_cylinder(mesh)
    notes: list[str] = []
    kept = _in_one_piece(mesh.triangles, ~cylinder.crosses_seam(mesh.vertices, mesh.triangles))
    own = np.ascontiguousarray(mesh.triangles[kept])
    if not len(own):
        raise ValueError("every triangle of the mesh crosses the seam: it does not stand round an upright axis")
    loops = boundary_loops(own)
    if not loops:
        raise ValueError("the surface is closed and does not go round its axis, so that no seam opens it; cut it open")
    flat = cylinder.flattened(mesh.vertices)
    sizes = [abs(doubled_area(flat[loop])) for loop in loops]
    border = loops.pop(int(np.argmax(sizes)))
    triangles = close_holes(Mesh(mesh.vertices, own), loops, closing_triangles, notes)
    check_flattenable(triangles, n_vertices=len(np.unique(triangles)), n_loops=1)

    # vertices that no triangle uses would be unknowns without an equation
    used = np.unique(triangles)
    place = np.full(len(mesh.vertices), -1, dtype=np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    result = unfolded(
        flat[used],
        vertices=np.asarray(mesh.vertices, dtype=np.float64)[used],
        triangles=place[triangles],
        border=place[border],
        flattest=_FLATTEST,
        rounds=_ROUNDS,
    )
    flat[used] = result.layout
    atlas = UVAtlas(uv_of_flattened(flat), triangles)
    crossing = np.flatnonzero(~kept).astype(np.int32)
    unplaced = np.setdiff1d(np.arange(len(mesh.vertices), dtype=np.int32), used)
    n_folded = int(atlas.folded.sum())
    kept_share = float((~result.free).mean())
    if len(crossing):
        notes.append(f"{len(crossing)} triangles cross the seam behind the axis and are left out of the atlas")
    if len(unplaced):
        notes.append(f"{len(unplaced)} vertices are in no triangle of the atlas")
    if result.n_folded_before:
        notes.append(
            f"the plain cylinder folds {result.n_folded_before} triangles or shows them edge-on; they were laid out "
            f"anew, and {kept_share:.0%} of the vertices are exactly at their angle and height"
        )
    if result.n_straightened:
        notes.append(
            f"the border crosses itself on the plain cylinder: {result.n_straightened} of its {len(border)} vertices "
            "were moved"
        )
    return OptimalMap(
        atlas=atlas,
        cylinder=cylinder,
        crossing=crossing,
        unplaced=unplaced,
        n_folded=n_folded,
        n_folded_before=result.n_folded_before,
        kept_share=kept_share,
        stretch=result.stretch,
        n_rounds=result.n_rounds,
        notes=tuple(notes),
    )


def _in_one_piece(triangles: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Of the kept triangles those that hold together by edges, and of fans that meet in a vertex alone the larger."""
    kept = kept.copy()
    while True:
        which = np.flatnonzero(kept)
        part = triangles[which]
        first, second = _neighbours(part)
        n = len(part)
        links = sp.coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(n, n))
        _, piece = sp.csgraph.connected_components(links, directed=False)
        inside = piece == np.bincount(piece, minlength=1).argmax() if n else np.zeros(0, dtype=bool)
        kept[which[~inside]] = False
        pinched = _smaller_fans(part, inside)
        if not pinched.any():
            return kept
        kept[which[pinched]] = False


def _neighbours(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of triangles that share an edge."""
    edges = np.sort(np.concatenate([triangles[:, [k, (k + 1) % 3]] for k in range(3)]), axis=1).astype(np.int64)
    keys = edges[:, 0] * (int(edges.max(initial=0)) + 1) + edges[:, 1]
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    owner = np.tile(np.arange(len(triangles)), 3)
    return owner[order[same]], owner[order[same + 1]]


def _smaller_fans(triangles: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Triangles at vertices where two or more fans of the surface meet, but for each vertex's largest fan."""
    result = np.zeros(len(triangles), dtype=bool)
    part = np.flatnonzero(inside)
    own = triangles[part].astype(np.int64)
    n = int(own.max(initial=0)) + 1
    start, end = own.ravel(), np.roll(own, -1, axis=1).ravel()
    rim = start[~np.isin(end * n + start, start * n + end)]  # where boundary edges begin
    vertices, times = np.unique(rim, return_counts=True)
    for vertex in vertices[times > 1].tolist():
        around = np.flatnonzero((own == vertex).any(axis=1))
        first, second = _neighbours_at(own[around], vertex)
        links = sp.coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(len(around),) * 2)
        _, fan = sp.csgraph.connected_components(links, directed=False)
        result[part[around[fan != np.bincount(fan).argmax()]]] = True
    return result


def _neighbours_at(triangles: np.ndarray, vertex: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of triangles that share an edge which ends in `vertex`."""
    others = [set(t.tolist()) - {vertex} for t in triangles]
    pairs = [(i, j) for i in range(len(others)) for j in range(i) if others[i] & others[j]]
    return np.array([p[0] for p in pairs], dtype=np.int64), np.array([p[1] for p in pairs], dtype=np.int64)

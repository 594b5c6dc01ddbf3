"""The template ear: 55 landmarks on the built-in model's ear, and its surface laid flat.

DenseReg has no 3D model of the ear: it brings 602 pictures with 55 landmarks each into correspondence by thin-plate splines
(Güler et al. 2017, section 4.6). The landmarks are those of Zhou and Zafeiriou, "Deformable models of ears in-the-wild for
alignment and recognition" (2017): four curves (:data:`EAR_CURVES`) of thirteen anatomical pieces (:data:`EAR_PIECES`), the
same on either ear.

Here the template is the built-in model's mean right ear as seen from the side, the folds of that view laid open. Landmarks
are semi-landmarks: a curve runs through picked vertices, a few of its landmarks are tied to one of them, and the others
divide the way between two tied ones equally. The left ear is the mirror image, so one (u, v) names one anatomical place,
whichever ear it is on: on a left ear the field is mirrored, not renamed.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int, Int32

from geometry.built_in import BuiltInModel, load_built_in
from geometry.mesh import Mesh, boundary_loops, submesh, undirected_edges
from geometry.morphable_model import SurfacePoints
from geometry.natural_boundary import fitted_to_square
from geometry.nearest import walk_to_nearest
from geometry.unfolding import unfolded
from geometry.uv import UVAtlas

Side = Literal["right", "left"]
"""Which ear of the person it is."""

N_EAR_LANDMARKS = 55

EAR_CURVES: Mapping[str, slice] = MappingProxyType({
    "outer helix": slice(0, 20),
    "inner helix": slice(20, 35),
    "tragus, concha and inferior crus": slice(35, 50),
    "superior crus": slice(50, 55),
})  # fmt: skip
"""The curves that the landmarks run along, from zero."""

EAR_PIECES: Mapping[str, slice] = MappingProxyType({
    "ascending helix": slice(0, 4),
    "descending helix": slice(4, 8),
    "helix": slice(8, 14),
    "lobe": slice(14, 20),
    "ascending inner helix": slice(20, 25),
    "descending inner helix": slice(25, 29),
    "inner helix": slice(29, 35),
    "tragus": slice(35, 39),
    "canal": slice(39, 40),
    "antitragus": slice(40, 43),
    "concha": slice(43, 47),
    "inferior crus": slice(47, 50),
    "superior crus": slice(50, 55),
})  # fmt: skip
"""What the landmarks are called in the data set's description."""

EAR_OUTLINE = tuple(range(20))
"""The landmarks round the ear; from the last, where the lobe meets the cheek, straight back to the first, the helix's root."""

# Vertices of the built-in skin on the right ear along each curve; (landmark, vertex) ties a landmark to a vertex,
# (None, vertex) is passed by. The curves follow ridges of the surface as seen from the side.
_PICKED: tuple[tuple[tuple[int | None, int], ...], ...] = (
    (
        (0, 11253), (None, 32246), (None, 44700), (None, 18577), (None, 18538), (None, 31963), (None, 6085), (None, 18566),
        (None, 6089), (None, 18656), (None, 1354), (None, 44839), (None, 32122), (None, 44784), (None, 19155),
        (None, 32172), (14, 32175), (None, 44848), (None, 44746), (None, 32055), (None, 18557), (None, 45834),
        (None, 19798), (19, 44692),
    ),
    (
        (20, 1425), (None, 11472), (None, 45672), (None, 18841), (None, 1585), (None, 18705), (None, 6187), (None, 6194),
        (None, 32205), (None, 6197), (None, 6202), (None, 18729), (None, 18727), (None, 45343), (34, 1550),
    ),
    (
        (35, 45268), (None, 32274), (None, 45327), (38, 6261), (39, 32291), (40, 19684), (None, 45245), (42, 45666),
        (None, 11345), (None, 45275), (None, 45660), (46, 11452), (None, 46034), (None, 32445), (49, 45322),
    ),
    ((50, 45332), (None, 46041), (None, 44893), (None, 45365), (54, 45370)),
)  # fmt: skip
_IN_CONCHA = 45322  # any vertex well inside the outline
_FLATTEST = 0.3  # walls that the side view shows at less than this share of their area are laid out anew
_SAMPLES_PER_PICK = 40
_MARGIN_MM = 2.0  # the template goes on beyond the outline, so that an outline drawn a little too wide still finds it

SIDE_FROM_MODEL = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""To the axes of a picture of the right ear taken from the person's right: x to the nose, y up, z toward the viewer."""


@dataclass(frozen=True, slots=True)
class EarTemplate:
    """One ear of the built-in model: what a dense field of ears is drawn from.

    vertices       (P) vertices of the built-in skin that the ear's surface has; entry p is vertex p of the atlas
    atlas          the surface laid flat, u to the nose and v up on a right ear; the same numbers on a left one.
                   Its triangles are the surface's own, counter-clockwise from outside on a **right** ear
    landmarks      (55) on the whole skin
    landmarks_uv   (55 2) where they lie in the atlas
    """

    side: Side
    vertices: Int32[np.ndarray, " p"]
    atlas: UVAtlas
    landmarks: SurfacePoints
    landmarks_uv: Float[np.ndarray, "55 2"]


@cache
def load_ear_template(side: Side = "right") -> EarTemplate:
    """The template of one ear. Both sides have the same atlas and the same landmarks in it."""
    right = _right_template()
    if side == "right":
        return right
    mirror = load_built_in().mirror
    assert mirror is not None  # the skin has both halves
    landmarks = SurfacePoints(mirror[right.landmarks.corners], right.landmarks.weights)
    return EarTemplate("left", mirror[right.vertices], right.atlas, landmarks, right.landmarks_uv)


@cache
def _right_template() -> EarTemplate:
    model = load_built_in()
    curves = [_sampled_curve(model, curve) for curve in _PICKED]
    landmarks = _landmarks(model)
    vertices = _surface(model, curves[0])
    kept = np.zeros(model.n_vertices, dtype=bool)
    kept[vertices] = True
    triangles, place = submesh(model.triangles, kept)
    seen_from_side = model.mean_shape[vertices].astype(np.float64) @ SIDE_FROM_MODEL.T
    laid_open = unfolded(
        seen_from_side[:, :2],
        vertices=seen_from_side,
        triangles=triangles,
        border=boundary_loops(triangles)[0],
        flattest=_FLATTEST,
    )
    atlas = UVAtlas(fitted_to_square(laid_open.layout), triangles)
    corners = place[landmarks.corners]
    uv = np.einsum("pk,pkc->pc", landmarks.weights, atlas.uv[corners])
    return EarTemplate("right", vertices, atlas, landmarks, uv)


def _sampled_curve(model: BuiltInModel, picked: tuple[tuple[int | None, int], ...]) -> Float[np.ndarray, "c 3"]:
    """A smooth curve through the picked vertices of the mean ear, ``_SAMPLES_PER_PICK`` places to a stretch."""
    from scipy.interpolate import CubicSpline

    knots = model.mean_shape[[vertex for _, vertex in picked]].astype(np.float64)
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    steps = np.interp(
        np.arange(_SAMPLES_PER_PICK * (len(knots) - 1) + 1) / _SAMPLES_PER_PICK, range(len(knots)), lengths
    )
    return CubicSpline(lengths, knots, bc_type="natural")(steps)


def _landmarks(model: BuiltInModel) -> SurfacePoints:
    """Tied landmarks lie at their vertices; between two of them the way is divided equally, and put on the surface."""
    places = np.zeros((N_EAR_LANDMARKS, 3))
    starts = np.zeros(N_EAR_LANDMARKS, dtype=np.int64)
    for picked in _PICKED:
        curve = _sampled_curve(model, picked)
        way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
        at_pick = way[::_SAMPLES_PER_PICK]
        tied = [(landmark, at_pick[i]) for i, (landmark, _) in enumerate(picked) if landmark is not None]
        numbers = np.arange(tied[0][0], tied[-1][0] + 1)
        along = np.interp(numbers, [landmark for landmark, _ in tied], [place for _, place in tied])
        places[numbers] = np.stack([np.interp(along, way, curve[:, k]) for k in range(3)], axis=1)
        nearest_pick = np.abs(along[:, None] - at_pick).argmin(axis=1)
        starts[numbers] = np.array([vertex for _, vertex in picked])[nearest_pick]
    mesh = Mesh(model.mean_shape.astype(np.float64), model.triangles)
    found = walk_to_nearest(places, mesh, starts=starts)
    return SurfacePoints(model.triangles[found.triangles], found.weights)


def _surface(model: BuiltInModel, outline: Float[np.ndarray, "c 3"]) -> Int32[np.ndarray, " p"]:
    """The vertices inside the outline's way over the mesh, and those within the margin of them."""
    from scipy.spatial import KDTree

    shape = model.mean_shape.astype(np.float64)
    edges, _ = undirected_edges(model.triangles)
    lengths = np.linalg.norm(shape[edges[:, 0]] - shape[edges[:, 1]], axis=1)
    n = model.n_vertices
    graph = sp.csr_array((lengths, (edges[:, 0], edges[:, 1])), shape=(n, n))
    used = np.unique(edges)
    stations = used[KDTree(shape[used]).query(outline)[1]]
    barrier = np.zeros(n, dtype=bool)
    for start, end in itertools.pairwise([*stations, stations[0]]):
        barrier[_shortest_way(graph, int(start), int(end))] = True
    open_edges = edges[~barrier[edges].any(axis=1)]
    open_graph = sp.csr_array((np.ones(len(open_edges)), open_edges.T), shape=(n, n))
    _, component = sp.csgraph.connected_components(open_graph, directed=False)
    inside = barrier | (component == component[_IN_CONCHA])
    away = sp.csgraph.dijkstra(graph, directed=False, indices=np.flatnonzero(inside), min_only=True, limit=_MARGIN_MM)
    return np.flatnonzero(np.isfinite(away)).astype(np.int32)


def _shortest_way(graph: sp.csr_array, start: int, end: int) -> Int[np.ndarray, " w"]:
    """The vertices of the shortest way along edges, both ends included."""
    if start == end:
        return np.array([start])
    _, before = sp.csgraph.dijkstra(graph, directed=False, indices=start, return_predecessors=True, limit=60.0)
    way = [end]
    while way[-1] != start:
        way.append(int(before[way[-1]]))
    return np.array(way)

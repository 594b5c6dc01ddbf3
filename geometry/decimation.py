"""Quadric decimation that selects vertices: every collapse keeps one of the edge's two ends, where it is.

Garland and Heckbert (1997) measure what a vertex stands for by a quadric, the sum of squared distances to the planes of
its triangles; a collapse adds the quadrics of its two ends. Here the vertex stays in one of the two places, so that a
coarse mesh is a *selection* of the fine one's vertices: what graph networks need for one-to-one down-sampling (Ranjan
et al. 2018, section 3.2; Meng et al. 2022, section III-D).

Planes are weighted by area, so that the result does not depend on how finely a region is triangulated. Rims are held by
planes that stand on them (Garland and Heckbert, section 6). Among collapses that are equally good a short edge wins.

Quadrics add up what the surface was near, not what it is now; when a triangle stands for a dozen vertices and more they say
little (below 64 vertices they do no better than farthest-point sampling). From :data:`MEASURED_BELOW` vertices on a
collapse therefore costs the growth of the squared distances of sampled vertices from the surface, as it is: the term
E_dist of Hoppe et al. (1993). From :data:`SEARCHED_BELOW` on a beam search goes from quartering to quartering.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from geometry.mesh import Mesh, undirected_edges
from geometry.nearest import NearestPoints, walk_to_nearest

RIM_WEIGHT = 10.0
"""How much more the planes on a rim count than the surface beside it, per area."""

NEARNESS_WEIGHT = 1e-3
"""How much the squared distance to the vertex itself counts beside that to its planes: decides on flat regions."""

SMALLEST_COSINE = 0.2
"""A collapse that turns a triangle further than this waits until nothing else is left."""


MEASURED_BELOW = 4096
"""From this many vertices on a collapse costs what it does to the surface, measured at a sample of the vertices."""

MOST_SAMPLES = 16384
"""The size of that sample, evenly spaced in the vertices' order."""

SEARCHED_BELOW = 256
"""From here on every quartering is searched: the cheapest of the last dozens of collapses are often not the best ones."""

N_TRIALS = 16
"""Every quartering is tried so many times, each time with another share of the sample."""

LEAST_SHARE = 256
"""A share has so many points or more; of a small sample at most a quarter of it, so that shares differ."""

N_KEPT = 4
"""So many of the best go on to the next quartering, in turn: what is best now may leave nothing good for the next."""


@dataclass(frozen=True, slots=True)
class Collapses:
    """The collapses in their order: vertex ``removed[i]`` went onto its neighbour ``onto[i]``.

    ``turned[i]``: a triangle turned over, because no collapse was left anywhere in which none did.
    """

    removed: Int32[np.ndarray, " n"]
    onto: Int32[np.ndarray, " n"]
    turned: Bool[np.ndarray, " n"]

    def then(self, later: "Collapses") -> "Collapses":
        """These collapses and after them `later` ones, of the same vertices' numbers."""
        return Collapses(
            np.concatenate([self.removed, later.removed]),
            np.concatenate([self.onto, later.onto]),
            np.concatenate([self.turned, later.turned]),
        )

    def followed(self, n_vertices: int, n_left: int) -> Int32[np.ndarray, " v"]:
        """For every one of the `n_vertices` the vertex that it has become when `n_left` are left."""
        became = np.arange(n_vertices, dtype=np.int32)
        n = n_vertices - n_left
        became[self.removed[:n]] = self.onto[:n]
        while (further := became[became]).tobytes() != became.tobytes():
            became = further
        return became


CollapseFunction = Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]


def decimate(
    mesh: Mesh,
    *,
    n_vertices: int,
    locked: Bool[np.ndarray, " v"] | None = None,
    measured_below: int = MEASURED_BELOW,
    collapse: CollapseFunction | None = None,
) -> Collapses:
    """Collapse the cheapest edge that keeps the topology until `n_vertices` are left, or none is left to collapse.

    Every vertex must be used by a triangle, no two may coincide, and no triangle may repeat (:func:`tidied`). Rims stay
    rims, and edges of three and more triangles stay such edges; `locked` vertices stay whatever happens. `collapse`
    swaps the compiled loop for another one (:mod:`geometry.decimation_reference`).
    """
    if collapse is None:
        from geometry.decimation_kernel import collapse as compiled  # Numba loads when it is needed

        collapse = compiled
    surface = _Surface.of(mesh, locked, collapse)
    n_quadrics = max(n_vertices, min(measured_below, surface.n_left))
    surface = surface.collapsed(n_quadrics, sample=None)
    if surface.n_left > n_quadrics:
        return surface.found
    n_measured = max(n_vertices, min(SEARCHED_BELOW, n_quadrics))
    if n_measured < n_quadrics:
        surface = surface.collapsed(n_measured, sample=slice(None))
    best = [surface]
    while (n := best[0].n_left) > n_vertices:
        tried = [
            best[i % len(best)].collapsed(max(n // 4, n_vertices), sample=share)
            for i, share in enumerate(surface.shares())
        ]
        fewest = min(one.n_left for one in tried)
        if fewest == n:
            break  # the topology, or what is locked, allows no more
        best = sorted((one for one in tried if one.n_left == fewest), key=_Surface.badness)[:N_KEPT]
    return best[0].found


@dataclass(frozen=True, slots=True)
class _Surface:
    """What some collapses have left of a mesh; vertex v is the whole mesh's ``names[v]``.

    The errors are measured at `points`, the same ones for every surface; vertex ``beside[p]`` is where point p's walk begins.
    """

    positions: np.ndarray
    triangles: np.ndarray
    locked: np.ndarray
    names: np.ndarray
    points: np.ndarray
    beside: np.ndarray
    found: Collapses
    collapse: CollapseFunction

    @classmethod
    def of(cls, mesh: Mesh, locked: np.ndarray | None, collapse: CollapseFunction) -> "_Surface":
        n = len(mesh.vertices)
        positions = _scaled_to_one(mesh.vertices)
        sample = np.linspace(0, n - 1, min(n, MOST_SAMPLES)).astype(np.int64)
        locked = np.zeros(n, dtype=bool) if locked is None else locked
        none = np.zeros(0, dtype=np.int32)
        found = Collapses(none, none, none.astype(bool))
        return cls(
            positions, mesh.triangles, locked, np.arange(n, dtype=np.int32), positions[sample], sample, found, collapse
        )

    @property
    def n_left(self) -> int:
        return len(self.positions)

    def shares(self) -> list[np.ndarray]:
        """A share of the points for each trial, dealt out by chance, always alike: evenly spread shares all err alike."""
        n = len(self.points)
        dealt = np.argsort(np.random.PCG64(0).random_raw(n), kind="stable")
        hands = [dealt[i::N_TRIALS] for i in range(N_TRIALS)]
        n_hands = min(-(-LEAST_SHARE * N_TRIALS // n), N_TRIALS // 4)
        return [np.concatenate([hands[(i + j) % N_TRIALS] for j in range(n_hands)]) for i in range(N_TRIALS)]

    def collapsed(self, n_vertices: int, *, sample: np.ndarray | slice | None) -> "_Surface":
        """Collapsed down to `n_vertices`: at the least growth of the errors at the `sample`; without one, by quadrics."""
        points, homes = np.zeros((0, 3)), np.zeros(0, dtype=np.int32)
        if sample is not None:
            points, homes = self.points[sample], self._nearest(sample).triangles
        quadrics, n_removals = vertex_quadrics(self.positions, self.triangles), max(self.n_left - n_vertices, 0)
        removed, onto, turned = self.collapse(
            self.positions, self.triangles, quadrics, self.locked, n_removals, SMALLEST_COSINE, points, homes
        )
        became = Collapses(removed, onto, turned).followed(self.n_left, self.n_left - len(removed))
        kept = np.unique(became)
        place = np.full(self.n_left, -1, dtype=np.int32)
        place[kept] = np.arange(len(kept), dtype=np.int32)
        return _Surface(
            np.ascontiguousarray(self.positions[kept]),
            place[collapsed(self.triangles, became)],
            self.locked[kept],
            self.names[kept],
            self.points,
            place[became[self.beside]],
            self.found.then(Collapses(self.names[removed], self.names[onto], turned)),
            self.collapse,
        )

    def badness(self) -> tuple[int, float]:
        """How many triangles were turned, and the sum of the squared distances of every fourth point."""
        return int(self.found.turned.sum()), float((self._nearest(slice(None, None, 4)).distances ** 2).sum())

    def _nearest(self, sample: np.ndarray | slice) -> NearestPoints:
        surface = Mesh(self.positions, self.triangles)
        return walk_to_nearest(self.points[sample], surface, starts=self.beside[sample])


def _scaled_to_one(vertices: np.ndarray) -> np.ndarray:
    """In a box of size one about the origin: costs then mean the same on every mesh, and lose few digits."""
    vertices = vertices.astype(np.float64)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return np.ascontiguousarray((vertices - 0.5 * (low + high)) / (high - low).max())


def collapsed(triangles: Int32[np.ndarray, "t 3"], became: Int32[np.ndarray, " v"]) -> Int32[np.ndarray, "s 3"]:
    """What is left of the triangles, in their order, when every vertex v has become ``became[v]``."""
    a, b, c = moved = became[triangles].T
    return np.ascontiguousarray(moved.T[(a != b) & (b != c) & (c != a)])


def vertex_quadrics(
    positions: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"]
) -> Float[np.ndarray, "v 10"]:
    """Each vertex's quadric, the upper triangle of a symmetric 4 × 4 matrix row by row (xx xy xz xw yy yz yw zz zw ww)."""
    corners = positions[triangles]  # (t 3 xyz)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = _length(normal)
    normal = normal / np.where(double_area > 0, double_area, 1.0)[:, None]
    third = double_area / 6
    quadrics = np.zeros((len(positions), 10))

    surface = _plane_quadrics(normal, corners[:, 0]) * third[:, None]
    for k in range(3):
        _add(quadrics, triangles[:, k], surface + _point_quadrics(corners[:, k]) * (NEARNESS_WEIGHT * third)[:, None])

    open_edge = _edges_of_one_triangle(triangles)  # (t 3): side from corner k to corner k + 1
    for k in range(3):
        t = np.flatnonzero(open_edge[:, k])
        start, along = corners[t, k], corners[t, (k + 1) % 3] - corners[t, k]
        upright = np.cross(along, normal[t])
        length = _length(upright)
        rim = _plane_quadrics(upright / np.where(length > 0, length, 1.0)[:, None], start)
        rim *= (RIM_WEIGHT * length**2)[:, None]
        _add(quadrics, triangles[t, k], rim)
        _add(quadrics, triangles[t, (k + 1) % 3], rim)
    return quadrics


def tidied(
    vertices: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"]
) -> tuple[Int32[np.ndarray, "s 3"], Int32[np.ndarray, " v"]]:
    """Triangles with coincident vertices merged, and for every vertex the one that stands for it: the first in its place.

    Triangles that lose a corner that way go, and so do repetitions of a triangle, in either winding.
    """
    _, first, place = np.unique(vertices + 0.0, axis=0, return_index=True, return_inverse=True)  # −0 is 0
    stands_for = first[place.reshape(-1)].astype(np.int32)
    merged = stands_for[triangles]
    ordered = np.sort(merged, axis=1)
    whole = (ordered[:, 0] < ordered[:, 1]) & (ordered[:, 1] < ordered[:, 2])
    _, once = np.unique(ordered[whole], axis=0, return_index=True)
    return np.ascontiguousarray(merged[whole][np.sort(once)]), stands_for


def _edges_of_one_triangle(triangles: np.ndarray) -> np.ndarray:
    edges, counts = undirected_edges(triangles)
    n = int(triangles.max()) + 1
    alone = (edges[counts == 1].astype(np.int64) * (n, 1)).sum(axis=1)
    after = np.roll(triangles, -1, axis=1)
    keys = np.minimum(triangles, after).astype(np.int64) * n + np.maximum(triangles, after)
    return np.isin(keys, alone)


def _plane_quadrics(normal: np.ndarray, point: np.ndarray) -> np.ndarray:
    """(n 10): the squared distance to the plane through `point`."""
    a, b, c = normal.T
    d = -(a * point[:, 0] + b * point[:, 1] + c * point[:, 2])
    return np.stack([a * a, a * b, a * c, a * d, b * b, b * c, b * d, c * c, c * d, d * d], axis=1)


def _point_quadrics(point: np.ndarray) -> np.ndarray:
    """(n 10): the squared distance to `point`."""
    x, y, z = point.T
    one, none = np.ones(len(point)), np.zeros(len(point))
    return np.stack([one, none, none, -x, one, none, -y, one, -z, x * x + y * y + z * z], axis=1)


def _add(quadrics: np.ndarray, index: np.ndarray, terms: np.ndarray) -> None:
    for k in range(10):
        quadrics[:, k] += np.bincount(index, terms[:, k], len(quadrics))


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2 + vectors[:, 2] ** 2)

"""The intrinsic Delaunay triangulation of a surface: its vertices joined anew by straight lines *within* the surface.

Cotangent weights are negative across an edge whose opposite angles sum to more than π. Flipping such edges, with the
new edge's length measured in the two unfolded triangles, ends in the triangulation in which there is none (Bobenko and
Springborn 2007; Fisher, Springborn, Schröder and Bobenko 2007). The surface itself does not change: lengths stand for
vertices in space.
"""

from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np
from jaxtyping import Float, Int, Int32

_TOLERANCE = 1e-10
"""Cotangent sums above −tolerance count as Delaunay, so that four points on a circle do not flip for ever."""


@dataclass(frozen=True, slots=True)
class IntrinsicTriangulation:
    """Triangles with lengths of their own: ``lengths[t, k]`` is the side from corner k to corner k + 1.

    Two triangles may share all their vertices, and a side may return to the vertex where it starts: the triangulation
    covers the surface, but is not always a mesh in space. `n_flips` edges were flipped to come here.
    """

    triangles: Int32[np.ndarray, "t 3"]
    lengths: Float[np.ndarray, "t 3"]
    n_flips: int


def intrinsic_delaunay(triangles: Int[np.ndarray, "t 3"], lengths: Float[np.ndarray, "t 3"]) -> IntrinsicTriangulation:
    """Flip edges until the cotangent weights of all inner edges are non-negative; boundary edges stay.

    `lengths[t, k]`: side from corner k to k + 1, strict triangle inequality. Raises RuntimeError when rounding keeps
    the flips from ending (never seen; the bound is a hundred flips an edge).
    """
    surface = _HalfEdges(triangles, lengths)
    queue = [h for h, other in enumerate(surface.twin) if other > h]
    waiting = [False] * len(surface.twin)
    for h in queue:
        waiting[h] = True
    n_flips, most = 0, 100 * len(queue) + 100
    while queue:
        h = queue.pop()
        waiting[h] = False
        if surface.twin[h] < 0 or surface.cotangent_sum(h) >= -_TOLERANCE:  # a flip may have put a boundary edge here
            continue
        n_flips += 1
        if n_flips > most:
            raise RuntimeError(
                f"edge flips did not end after {most}: are lengths {lengths.min():g}–{lengths.max():g} sound?"
            )
        for side in surface.flip(h):
            if surface.twin[side] >= 0 and not waiting[side]:
                waiting[side] = True
                queue.append(side)
    origins, sides = np.array(surface.origin, dtype=np.int32), np.array(surface.length)
    return IntrinsicTriangulation(origins.reshape(-1, 3), sides.reshape(-1, 3), n_flips)


class _HalfEdges:
    """Half-edge 3t + k leads from corner k of triangle t to corner k + 1; twin −1: a boundary.

    Plain lists: a flip touches a dozen numbers, where array indexing costs more than the arithmetic.
    """

    def __init__(self, triangles: np.ndarray, lengths: np.ndarray) -> None:
        start, end = triangles.ravel().astype(np.int64), np.roll(triangles, -1, axis=1).ravel().astype(np.int64)
        n = int(triangles.max()) + 1 if len(triangles) else 0
        keys, opposite = start * n + end, end * n + start
        order = np.argsort(keys)
        place = np.minimum(np.searchsorted(keys, opposite, sorter=order), len(keys) - 1)
        found = order[place] if len(keys) else place
        self.origin: list[int] = triangles.ravel().tolist()
        self.length: list[float] = lengths.ravel().astype(np.float64).tolist()
        self.twin: list[int] = np.where(keys[found] == opposite, found, -1).tolist()

    def cotangent_sum(self, h: int) -> float:
        """Cotangents of the two angles opposite edge h."""
        return self._opposite(h)[2] + self._opposite(self.twin[h])[2]

    def _opposite(self, h: int) -> tuple[float, float, float]:
        """The corner opposite h in its triangle, h from (0, 0) along x: x, height and the cotangent of its angle."""
        first = h - h % 3
        a, b, c = self.length[h], self.length[first + (h + 1) % 3], self.length[first + (h + 2) % 3]
        area4 = sqrt(max((a + b + c) * (b + c - a) * (a - b + c) * (a + b - c), 0.0))
        if area4 == 0.0:  # rounding can flatten a needle: its angles are then 0 or π
            area4 = 1e-300
        return (a * a + c * c - b * b) / (2 * a), area4 / (2 * a), (b * b + c * c - a * a) / area4

    def flip(self, h: int) -> tuple[int, int, int, int]:
        """Replace the edge a–b of the triangles a b c and b a d by d–c; returns the four sides around it."""
        g = self.twin[h]
        h1, h2 = h - h % 3 + (h + 1) % 3, h - h % 3 + (h + 2) % 3  # b→c, c→a
        g1, g2 = g - g % 3 + (g + 1) % 3, g - g % 3 + (g + 2) % 3  # a→d, d→b
        c, d = self.origin[h2], self.origin[g2]
        x_c, height_c, _ = self._opposite(h)
        x_d, height_d, _ = self._opposite(g)
        diagonal = hypot(self.length[h] - x_d - x_c, height_c + height_d)
        # the triangles become (d c a) in the places h, h1, h2 and (c d b) in the places g, g1, g2
        moved = {h2: h1, g1: h2, g2: g1, h1: g2}
        sides = {new: (self.origin[old], self.length[old], self.twin[old]) for old, new in moved.items()}
        for new, (origin, length, other) in sides.items():
            self.origin[new], self.length[new] = origin, length
            self.twin[new] = moved.get(other, other)
            if other >= 0 and other not in moved:
                self.twin[other] = new
        self.origin[h], self.origin[g] = d, c
        self.length[h] = self.length[g] = diagonal
        return h1, h2, g1, g2

"""Triangles that close the inner holes of an atlas (the openings of the eyes, the slit of the mouth), none folded.

A position map needs a value at every texel of the face: where the mesh has a hole, the map spans it, as PRNet's
published atlas does with the 114 triangles of its `tri_mouth`. They belong to the atlas alone, never to the surface.
"""

import numpy as np
from jaxtyping import Float, Int, Int32

from geometry.mesh import boundary_loops
from geometry.plane_areas import doubled_area, turn


def close_inner_loops(uv: Float[np.ndarray, "v 2"], triangles: Int[np.ndarray, "t 3"]) -> Int32[np.ndarray, "c 3"]:
    """Triangulate every boundary loop but the outer one, without new vertices, wound like the atlas's own triangles.

    The outer loop is the one that encloses the largest area. Raises ValueError when a loop cannot be filled without a
    fold, which happens only to polygons that cross themselves.
    """
    loops = boundary_loops(triangles)
    areas = [doubled_area(uv[loop]) for loop in loops]
    if len(loops) < 2:
        return np.zeros((0, 3), dtype=np.int32)
    outer = int(np.argmax(np.abs(areas)))
    facing = np.array([np.sign(areas[outer]), 1.0])  # an atlas seen from behind is triangulated as seen from the front
    closed = []
    for index, loop in enumerate(loops):
        if index == outer:
            continue
        hole = loop[::-1]  # the hole lies on the other side of the edges than the triangles do
        corners = triangulate_polygon(uv[hole] * facing)
        if corners is None:
            raise ValueError(
                f"the boundary loop of {len(loop)} vertices from vertex {loop[0]} cannot be closed without a fold: "
                "its outline crosses itself in the atlas; compute another unwrap"
            )
        closed.append(hole[corners])
    return np.concatenate(closed).astype(np.int32)


def triangulate_polygon(polygon: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, "m 3"] | None:
    """The n − 2 triangles that fill a simple counter-clockwise polygon with the roundest shapes, or None where none do.

    Least is the sum of perimeter² / area: across an eye the triangles then run from lid to lid, and none is a needle
    along the rim. Dynamic programming over the diagonals (Klincsek 1980, Minimal triangulations of polygonal domains),
    n³/6 triangles tried. All have positive area; then they cannot overlap either, since together they cover each point
    as often as the outline winds about it.
    """
    n = len(polygon)
    length = np.linalg.norm(polygon[:, None] - polygon[None], axis=-1)
    cost = np.full((n, n), np.inf)  # cost[i, j]: the least sum that fills the outline from i to j
    apex = np.zeros((n, n), dtype=np.int64)
    cost[np.arange(n - 1), np.arange(1, n)] = 0.0
    for gap in range(2, n):
        i = np.arange(n - gap)[:, None]
        j, k = i + gap, i + np.arange(1, gap)
        doubled = turn(polygon[i], polygon[k], polygon[j])  # (n - gap, gap - 1)
        unfolded = doubled > 0
        slenderness = (length[i, k] + length[k, j] + length[i, j]) ** 2 / np.where(unfolded, doubled, 1.0)
        total = np.where(unfolded, cost[i, k] + cost[k, j] + slenderness, np.inf)
        best = total.argmin(axis=1)
        cost[i[:, 0], j[:, 0]], apex[i[:, 0], j[:, 0]] = total[i[:, 0], best], k[i[:, 0], best]
    if n < 3 or not np.isfinite(cost[0, n - 1]):
        return None
    corners, open_diagonals = [], [(0, n - 1)]
    while open_diagonals:
        start, end = open_diagonals.pop()
        if end - start > 1:
            middle = int(apex[start, end])
            corners.append((start, middle, end))
            open_diagonals += [(start, middle), (middle, end)]
    return np.array(corners)

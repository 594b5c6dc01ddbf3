"""Anchors of face profiling: points around a face in its picture, with a depth, that carry the picture's surroundings.

Three kinds, as in Zhu et al. 2015 ("High-Fidelity Pose and Expression Normalization"), whose image meshing the profiling
of 300W-LP (Zhu et al. 2016) takes over: anchors **on the outline** of the fitted surface, which have its depth; anchors
**around it**, here on rings through hair, ears and neck; and anchors **on the picture's border**. Free anchors between
the last two keep triangles small.

When the head turns, outline and rings turn with it, and the border stays. The free anchors are then adjusted: the papers
ask that neighbours keep their places relative to each other, least squares over the mesh's edges,
Σ ‖(p'_a − p'_b) − (p_a − p_b)‖², so displacements are the discrete harmonic function with the given boundary values. The
matrix depends on the source picture alone and is inverted once for all its views.

Ours: rings are level sets of the distance from the outline, and their depth falls off as the side of a ball does, less
below the chin, where the shoulders are.

**No holes.** The anchors' triangles fill the picture, and moved they are a continuous map of it with its border in place:
such a map covers every pixel, and covers it with at least one triangle that is not turned over.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.spatial
from jaxtyping import Bool, Float, Int32

from render.zbuffer import rasterize

_COARSENESS = 2  # pixels of the picture for one of the outline's mask
_OUTLINE_STEP_MM = 3.0
_RINGS_MM = (12.0, 30.0, 55.0)
_RING_STEP_MM = 9.0
_BALL_MM = 75.0  # depth lost from the outline to the last ring: about half a head
_ON_SHOULDERS = 0.3  # share of it below the chin
_FREE_SPACING = 0.09  # of the picture's longer side
_NOT_NEARER_PX = 2.0  # to the border; what lies there or outside is no anchor
_STIFF = 1e-9


@dataclass(frozen=True, slots=True)
class Anchors:
    """The anchors of one picture, and the triangles between them: all of the picture, no hole and no overlap.

    points_px   (a 3) x, y and the estimated z in the picture; the z of border and free anchors is that of the last ring
    triangles   (t 3) counter-clockwise from the viewer, so of negative area in y-down pixels
    turns       (a,) on the outline or a ring: turns with the head
    follow      (f, m) how far each free anchor goes with each turning one; the rest of the row, up to 1, is the border's
    free        (f,) which are free
    """

    points_px: Float[np.ndarray, "a 3"]
    triangles: Int32[np.ndarray, "t 3"]
    turns: Bool[np.ndarray, " a"]
    free: Bool[np.ndarray, " a"]
    follow: Float[np.ndarray, "f m"]

    def moved(self, turned_px: Float[np.ndarray, "m 3"]) -> Float[np.ndarray, "a 3"]:
        """All anchors, when the turning ones go to `turned_px`."""
        moved = self.points_px.copy()
        moved[self.turns] = turned_px
        moved[self.free] += self.follow @ (turned_px - self.points_px[self.turns])
        return moved


def place_anchors(
    surface_px: Float[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    below_chin_px: Float[np.ndarray, "2 2"],
    px_per_mm: float,
    size_hw: tuple[int, int],
) -> Anchors:
    """The anchors around a surface in a picture.

    below_chin_px   two points, from the chin to a place that is as far below it as shoulders are, in the picture
    Raises ValueError for a surface of which nothing is inside the picture.
    """
    outline, rings = _around(surface_px, triangles, px_per_mm, size_hw)
    kinds = [outline]
    nearest = scipy.spatial.cKDTree(outline[:, :2])
    smooth_depth = _smoothed(outline[:, 2])
    for distance_mm, ring in zip(_RINGS_MM, rings, strict=True):
        if len(ring):
            _, place = nearest.query(ring)
            drop = _BALL_MM * px_per_mm * np.sqrt(1 - (1 - distance_mm / _RINGS_MM[-1]) ** 2)
            drop = drop * (1 - (1 - _ON_SHOULDERS) * _share_below(ring, below_chin_px))
            kinds.append(np.column_stack([ring, smooth_depth[place] - drop]))
    turning = _inside(np.concatenate(kinds), size_hw)
    if len(turning) < 3:
        raise ValueError(
            f"the fitted face has no outline inside the picture of {size_hw[1]} × {size_hw[0]} pixels: "
            "fit and picture do not belong together, or the face is cut off"
        )
    depth = float(turning[:, 2].min())
    spacing = _FREE_SPACING * max(size_hw)
    border = _border(size_hw, spacing)
    free = _free(turning[:, :2], surface_px[:, :2], size_hw, spacing)
    points = np.concatenate([turning, *(np.column_stack([p, np.full(len(p), depth)]) for p in (border, free))])
    mesh = _delaunay(points[:, :2])
    number = np.arange(len(points))
    turns, is_free = number < len(turning), number >= len(turning) + len(border)
    return Anchors(points, mesh, turns, is_free, _following(mesh, turns, is_free))


def _around(
    surface_px: np.ndarray, triangles: np.ndarray, px_per_mm: float, size_hw: tuple[int, int]
) -> tuple[Float[np.ndarray, "o 3"], list[Float[np.ndarray, "r 2"]]]:
    """Outline anchors with their depth, and the rings around them; those outside the picture too."""
    height, width = size_hw
    pad = np.array([width, height]) / 2  # a face that the border cuts has an outline outside
    coarse = surface_px.astype(np.float64).copy()
    coarse[:, :2] = (coarse[:, :2] + pad + 0.5) / _COARSENESS - 0.5
    coarse_hw = (2 * height // _COARSENESS, 2 * width // _COARSENESS)
    depth = rasterize(coarse, triangles, size_hw=coarse_hw).depth
    mask = np.isfinite(depth).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return np.zeros((0, 3)), [np.zeros((0, 2)) for _ in _RINGS_MM]
    outline = max(contours, key=len)[:, 0].astype(np.int64)
    outline = outline[:: max(1, round(_OUTLINE_STEP_MM * px_per_mm / _COARSENESS))]
    away = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    rings = []
    for distance_mm in _RINGS_MM:
        beyond = (away <= distance_mm * px_per_mm / _COARSENESS).astype(np.uint8)
        levels, _ = cv2.findContours(beyond, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        ring = max(levels, key=len)[:, 0].astype(np.float64)
        ring = ring[:: max(1, round(_RING_STEP_MM * px_per_mm / _COARSENESS))]
        rings.append((ring + 0.5) * _COARSENESS - 0.5 - pad)
    z = depth[outline[:, 1], outline[:, 0]]
    xy = (outline + 0.5) * _COARSENESS - 0.5 - pad
    return np.column_stack([xy, z]).astype(np.float64), rings


def _smoothed(values: np.ndarray) -> np.ndarray:
    """A running mean along the closed outline: rings do not follow every step of an ear's depth."""
    if len(values) == 0:
        return values
    n = min(len(values), 9)
    return np.convolve(np.concatenate([values[-n:], values, values[:n]]), np.ones(n) / n, mode="same")[n:-n]


def _share_below(points: np.ndarray, below_chin_px: np.ndarray) -> np.ndarray:
    """0 for points at the chin's height and above, 1 from the shoulders' on."""
    chin, shoulders = below_chin_px
    down = shoulders - chin
    return np.clip((points - chin) @ down / (down @ down), 0, 1)


def _inside(points: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    last = np.array(size_hw[::-1]) - 1
    return points[((points[:, :2] >= _NOT_NEARER_PX) & (points[:, :2] <= last - _NOT_NEARER_PX)).all(axis=1)]


def _border(size_hw: tuple[int, int], spacing: float) -> Float[np.ndarray, "b 2"]:
    """Evenly along the pixels' outer edge, corners included, so that every pixel's centre is inside."""
    height, width = size_hw
    n_x, n_y = (max(2, round(extent / spacing)) for extent in (width, height))
    x, y = np.linspace(-0.5, width - 0.5, n_x + 1), np.linspace(-0.5, height - 0.5, n_y + 1)
    across = [np.column_stack([x, np.full(n_x + 1, at)]) for at in (y[0], y[-1])]
    upright = [np.column_stack([np.full(n_y - 1, at), y[1:-1]]) for at in (x[0], x[-1])]
    return np.concatenate(across + upright)


def _free(turning: np.ndarray, surface_xy: np.ndarray, size_hw: tuple[int, int], spacing: float) -> np.ndarray:
    """A grid over the picture, without the places on the face or near a turning anchor."""
    height, width = size_hw
    n_x, n_y = (max(2, round(extent / spacing)) for extent in (width, height))
    x, y = np.linspace(-0.5, width - 0.5, n_x + 1)[1:-1], np.linspace(-0.5, height - 0.5, n_y + 1)[1:-1]
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    both = scipy.spatial.cKDTree(np.concatenate([turning, surface_xy[:: max(1, len(surface_xy) // 2000)]]))
    return grid[both.query(grid)[0] > 0.6 * spacing]


def _delaunay(points: Float[np.ndarray, "a 2"]) -> Int32[np.ndarray, "t 3"]:
    triangles = scipy.spatial.Delaunay(points).simplices.astype(np.int32)
    a, b, c = (points[triangles[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    return np.ascontiguousarray(np.where((area > 0)[:, None], triangles[:, ::-1], triangles)[area != 0])


def _following(triangles: np.ndarray, turns: np.ndarray, free: np.ndarray) -> Float[np.ndarray, "f m"]:
    """L_ff⁻¹ · (−L_fm) of the mesh's graph Laplacian: the least-squares displacement of the free anchors."""
    n = len(turns)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    joined = np.zeros((n, n))
    joined[edges[:, 0], edges[:, 1]] = joined[edges[:, 1], edges[:, 0]] = 1.0
    laplacian = np.diag(joined.sum(axis=1) + _STIFF) - joined
    return np.linalg.solve(laplacian[np.ix_(free, free)], joined[np.ix_(free, turns)])

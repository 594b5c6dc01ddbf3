"""Where a face's outer boundary goes on the atlas: the square's border or a circle, by arc length, the face upright."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

_SQUARE = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
_OUTWARD = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


@dataclass(frozen=True, slots=True)
class SquareBorder:
    """A loop on the border of the unit square, counter-clockwise.

    ``positions[i]`` is the UV of the loop's i-th vertex. ``corners[k]`` is the place *in the loop* of the vertex on the
    square's corner k: lower right, upper right, upper left, lower left; between corners the vertices lie by arc length.
    """

    positions: Float[np.ndarray, "l 2"]
    corners: tuple[int, int, int, int]

    def on_one_side(self, i: Int[np.ndarray, " e"], j: Int[np.ndarray, " e"]) -> Bool[np.ndarray, " e"]:
        """Whether the i-th and the j-th vertex of the loop lie on one side of the square; a corner lies on two."""
        n, together = len(self.positions), np.zeros(len(i), dtype=bool)
        for start, end in zip(self.corners, np.roll(self.corners, -1), strict=True):
            together |= ((i - start) % n <= (end - start) % n) & ((j - start) % n <= (end - start) % n)
        return together


def square_border(
    vertices: Float[np.ndarray, "v 3"], loop: Int[np.ndarray, " l"], *, bulge: float = 0.0
) -> SquareBorder:
    """The loop on the square, its rightmost part (model's +x) on the middle of the right side, +y up.

    Each side is a quarter of the loop's length, to the nearest vertex. With `bulge` b every side is a parabola that
    stands out by b of its length, the whole shrunk into [0, 1]²: then no three vertices lie in line. Raises ValueError
    for a loop of fewer than four vertices.
    """
    n = len(loop)
    if n < 4:
        raise ValueError(f"a boundary of {n} vertices has no four corners to put on a square; use the circle")
    along = _along(vertices, loop)
    targets = (_rightmost(vertices, loop) + np.array([-1, 1, 3, 5]) / 8) % 1
    away = np.abs(along[:, None] - targets)
    corners = np.minimum(away, 1 - away).argmin(axis=0)
    if not _in_cyclic_order(corners, n):  # a few long edges: their ends are the nearest vertices of two corners
        corners = (corners[0] + np.arange(4) * n // 4) % n
    positions = np.empty((n, 2))
    for k in range(4):
        start, end = corners[k], corners[(k + 1) % 4]
        side = (start + np.arange((end - start) % n + 1)) % n
        fraction = (along[side] - along[start]) % 1
        fraction[-1] = fraction[-1] or 1.0
        fraction = (fraction / fraction[-1])[:, None]
        straight = _SQUARE[k] + fraction * (_SQUARE[(k + 1) % 4] - _SQUARE[k])
        positions[side] = straight + bulge * 4 * fraction * (1 - fraction) * _OUTWARD[k]
    lower_right, upper_right, upper_left, lower_left = (int(corner) for corner in corners)
    at_corners = (lower_right, upper_right, upper_left, lower_left)
    return SquareBorder((positions + bulge) / (1 + 2 * bulge), at_corners)


def circle_border(vertices: Float[np.ndarray, "v 3"], loop: Int[np.ndarray, " l"]) -> Float[np.ndarray, "l 2"]:
    """The loop by arc length on the circle that touches the unit square, its rightmost part at the right, +y up."""
    angle = 2 * np.pi * (_along(vertices, loop) - _rightmost(vertices, loop))
    return 0.5 + 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def loop_length(vertices: Float[np.ndarray, "v 3"], loop: Int[np.ndarray, " l"]) -> float:
    """The loop's length in the vertices' unit."""
    return float(_steps(vertices, loop).sum())


def _steps(vertices: np.ndarray, loop: np.ndarray) -> np.ndarray:
    rim = np.asarray(vertices, dtype=np.float64)[loop]
    steps = np.linalg.norm(np.roll(rim, -1, axis=0) - rim, axis=1)
    return np.maximum(steps, 1e-6 * steps.mean())  # coincident vertices still need two places on the border


def _along(vertices: np.ndarray, loop: np.ndarray) -> np.ndarray:
    """How far round the loop each vertex lies, from 0 at the first to below 1."""
    steps = _steps(vertices, loop)
    if not steps.sum() > 0:
        raise ValueError(f"the boundary loop at vertex {loop[0]} has no length: all its vertices coincide")
    return np.concatenate([[0.0], np.cumsum(steps)[:-1]]) / steps.sum()


def _rightmost(vertices: np.ndarray, loop: np.ndarray) -> float:
    """Where round the loop, as :func:`_along` counts, the map's right should lie.

    The first harmonics of x and y over the loop: for a loop that is seen as a circle it is the point of largest x. The
    whole loop decides, not one vertex, and a mirror-symmetric loop gives a mirror-symmetric border. For a neck's rim,
    where y varies little, x alone decides; the front of the neck then lies below, its back above.
    """
    rim, steps, along = np.asarray(vertices, dtype=np.float64)[loop], _steps(vertices, loop), _along(vertices, loop)
    weights = (steps + np.roll(steps, 1)) / (2 * steps.sum())
    x, y = (rim[:, :2] - weights @ rim[:, :2]).T
    harmonic = (weights * (x + 1j * y) * np.exp(-2j * np.pi * along)).sum()
    if abs(harmonic) < 1e-9 * steps.sum():  # seen edge-on from the front: any start is as good, the first vertex is one
        return 0.0
    return float(-np.angle(harmonic) / (2 * np.pi) % 1)


def _in_cyclic_order(corners: np.ndarray, n: int) -> bool:
    gaps = (np.roll(corners, -1) - corners) % n
    return bool((gaps > 0).all() and gaps.sum() == n)

"""Signed areas in the plane, positive where counter-clockwise (x right, y up), in the square of the points' unit."""

import numpy as np
from jaxtyping import Float, Int


def doubled_area(polygon: Float[np.ndarray, "n 2"]) -> float:
    """Twice the area of a closed polygon."""
    (x, y), (x1, y1) = (polygon - polygon[0]).T, (np.roll(polygon, -1, axis=0) - polygon[0]).T
    return float((x * y1 - x1 * y).sum())


def doubled_areas(points: Float[np.ndarray, "v 2"], triangles: Int[np.ndarray, "t 3"]) -> Float[np.ndarray, " t"]:
    """Twice the area of every triangle."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return turn(a, b, c)


def turn(
    a: Float[np.ndarray, "*#n 2"], b: Float[np.ndarray, "*#n 2"], c: Float[np.ndarray, "*#n 2"]
) -> Float[np.ndarray, "..."]:
    """Twice the area of a b c, broadcast: positive where the way from a over b to c turns left, 0 where it is straight."""
    return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])

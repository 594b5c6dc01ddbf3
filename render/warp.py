"""Pictures moved by a similarity, exactly the same on every device.

Places in the source are rounded to 1/64 px and everything after that is whole numbers, here as in the torch twin
(:mod:`train.augmentation`): both give the same bytes, whatever the processor. A picture that shrinks is averaged over
n × n places of each pixel, n = round(1/scale), so that fine patterns do not turn into others. What lies outside the
source is 0.
"""

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from geometry.frames import Similarity2D
from render.warp_kernel import pack, warp, warp_averaged

IDENTITY_LUT = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
IDENTITY_LUT.setflags(write=False)
FRACTION_BITS, WEIGHT_BITS = 32, 6
"""A place is a whole number of 1/2^32 px; between pixels weigh 1/2^6 each way."""


def fixed_point(target_from_source: Similarity2D) -> Int64[np.ndarray, "2 3"]:
    """The way from pixels of the target to places of the source in 1/2^32 px, half of 1/64 px added.

    Raises ValueError for similarities that shrink or move pictures beyond what 31 bits hold.
    """
    (a, b, x), (c, d, y), _ = target_from_source.matrix.tolist()
    determinant = a * d - b * c
    inverse = np.array([[d, -b, b * y - d * x], [-c, a, c * x - a * y]]) / determinant * 2.0**FRACTION_BITS
    if np.abs(inverse).max() >= 2.0**61 or np.abs(inverse[:, :2]).max() >= 2.0**48:
        raise ValueError(
            f"a picture cannot be moved by\n{target_from_source.matrix}\n: its source would lie 2^29 px away, "
            "or 65,536 of its pixels in one"
        )
    whole = np.rint(inverse).astype(np.int64)
    whole[:, 2] += 1 << (FRACTION_BITS - WEIGHT_BITS - 1)
    return whole


def places_per_pixel(target_from_source: Similarity2D) -> int:
    """n: the value of a pixel is the mean of n × n places."""
    return max(1, min(round(1 / target_from_source.scale), 16))


def spread_of_places(matrix: Int64[np.ndarray, "2 3"], n: int) -> Int64[np.ndarray, "m 2"]:
    """Where those n × n places lie about the pixel's middle, evenly over its area, in the source's 1/2^32 px."""
    steps = np.arange(1 - n, n, 2)  # in 1/2n of a pixel
    dx, dy = (d.ravel() for d in np.meshgrid(steps, steps))
    return np.stack([(row[0] * dx + row[1] * dy) // (2 * n) for row in matrix], axis=1)


def warp_exactly(
    picture: UInt8[np.ndarray, "h w 3"],
    target_from_source: Similarity2D,
    *,
    size_hw: tuple[int, int],
    lut: UInt8[np.ndarray, "3 256"] = IDENTITY_LUT,
) -> UInt8[np.ndarray, "a b 3"]:
    """The moved picture, bilinear, its channels then replaced by what `lut` says; memory is laid out as the source's."""
    planes = np.moveaxis(picture, -1, 0)
    matrix, n = fixed_point(target_from_source), places_per_pixel(target_from_source)
    left, right = _reach(matrix[0].tolist(), size_hw, planes.shape[2])
    top, bottom = _reach(matrix[1].tolist(), size_hw, planes.shape[1])
    matrix[:, 2] -= np.array([left, top]) << FRACTION_BITS
    packed = np.empty((bottom - top + 2, right - left + 2), dtype=np.int64)
    pack(planes[:, top:bottom, left:right], packed)
    if planes.flags.c_contiguous:
        out = np.empty((3, *size_hw), dtype=np.uint8)
    else:
        out = np.moveaxis(np.empty((*size_hw, 3), dtype=np.uint8), -1, 0)
    if n == 1:
        warp(packed, matrix.ravel(), lut, *out)
    else:
        warp_averaged(packed, matrix.ravel(), spread_of_places(matrix, n), lut, *out)
    return np.moveaxis(out, 0, -1)


def _reach(row: list[int], size_hw: tuple[int, int], size: int) -> tuple[int, int]:
    """First column (or row) of the source that the target shows and one behind the last, with a margin."""
    across, down, start = row
    ends = [start + across * x + down * y for x in (-1, size_hw[1]) for y in (-1, size_hw[0])]
    low = min(max((min(ends) >> FRACTION_BITS) - 1, 0), size)
    return low, min(max((max(ends) >> FRACTION_BITS) + 3, low), size)


def warp_labels(
    labels: Shaped[np.ndarray, "h w *c"],
    target_from_source: Similarity2D,
    *,
    size_hw: tuple[int, int],
    outside: float | int = 0,
) -> Shaped[np.ndarray, "a b *c"]:
    """Labels moved: each pixel takes the nearest one's value whole; what comes from outside gets `outside`."""
    (a, b, c), (d, e, f) = fixed_point(target_from_source).tolist()
    columns, rows = np.arange(size_hw[1]), np.arange(size_hw[0])[:, None]
    half = (1 << (FRACTION_BITS - 1)) - (1 << (FRACTION_BITS - WEIGHT_BITS - 1))
    x, y = (
        (a * columns + b * rows + (c + half)) >> FRACTION_BITS,
        (d * columns + e * rows + (f + half)) >> FRACTION_BITS,
    )
    inside = (x >= 0) & (y >= 0) & (x < labels.shape[1]) & (y < labels.shape[0])
    moved = labels[np.where(inside, y, 0), np.where(inside, x, 0)]
    moved[~inside] = outside
    return moved

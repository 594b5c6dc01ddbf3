"""The compiled loop of :func:`render.crop.warp_image`."""

import typing

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
@typing.no_type_check
def first_three_bytes(pixels, planes):
    """Fill planes (3, n) uint8 from pixels (n,) uint32, whose lowest byte goes to the first plane.

    Unlike a copy of every fourth byte this becomes vector instructions: a fifth of the time.
    """
    first, second, third = planes[0], planes[1], planes[2]
    for i in range(pixels.shape[0]):
        pixel = pixels[i]
        first[i] = np.uint8(pixel)
        second[i] = np.uint8(pixel >> np.uint32(8))
        third[i] = np.uint8(pixel >> np.uint32(16))

"""The compiled loops that lay faces over one another; :mod:`render.face_buffers` is their interface."""

import typing

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
@typing.no_type_check
def bounds(vertices):
    """(left, top, right, bottom) of the vertices' x and y, NaN where one of them is not finite."""
    left, top = np.float64(vertices[0, 0]), np.float64(vertices[0, 1])
    right, bottom, broken = left, top, 0.0
    for v in range(np.uint32(vertices.shape[0])):
        x, y = np.float64(vertices[v, 0]), np.float64(vertices[v, 1])
        left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
        broken += (x - x) + (y - y)  # 0, or NaN for whatever is not finite
    return left + broken, top + broken, right + broken, bottom + broken


@njit(cache=True, nogil=True)
@typing.no_type_check
def put_behind(
    triangle_id, barycentric, depth, face_index, index, top, left, new_id, new_barycentric, new_depth
):  # fmt: skip
    """Copy a face's buffers to (top, left) of the picture's, but not over pixels that belong to a nearer face."""
    height, width = new_id.shape
    for y in range(np.uint32(height)):
        for x in range(np.uint32(width)):
            to_y, to_x = np.uint32(top + y), np.uint32(left + x)
            if new_id[y, x] < 0 or face_index[to_y, to_x] >= 0:
                continue
            face_index[to_y, to_x] = index
            triangle_id[to_y, to_x] = new_id[y, x]
            depth[to_y, to_x] = new_depth[y, x]
            for k in range(np.uint32(3)):
                barycentric[to_y, to_x, k] = new_barycentric[y, x, k]

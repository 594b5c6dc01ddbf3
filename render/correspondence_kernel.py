"""The compiled loops of the correspondence field; :mod:`render.correspondence` is their interface."""

import typing

import numpy as np
from numba import njit

SURFACE, UNPLACED, OPENING = 0, 1, 2
FACE, BACKGROUND, IGNORE = 1, 0, 255


@njit(cache=True, nogil=True)
@typing.no_type_check
def depth_ranges(triangle_id, depth, face_index, role, low, high):
    """Per face the least and greatest depth of its visible surface; `low` comes in at inf, `high` at −inf."""
    height, width = triangle_id.shape
    for y in range(np.uint32(height)):
        for x in range(np.uint32(width)):
            t = triangle_id[y, x]
            if t >= 0 and role[np.uint32(t)] == SURFACE:
                face = np.uint32(face_index[y, x])
                low[face] = min(low[face], depth[y, x])
                high[face] = max(high[face], depth[y, x])


@njit(cache=True, nogil=True)
@typing.no_type_check
def blank_openings(triangle_id, barycentric, depth, face_index, role):
    """Make every pixel that shows an OPENING background, in place."""
    height, width = triangle_id.shape
    for y in range(np.uint32(height)):
        for x in range(np.uint32(width)):
            t = triangle_id[y, x]
            if t >= 0 and role[np.uint32(t)] == OPENING:
                triangle_id[y, x] = -1
                face_index[y, x] = -1
                depth[y, x] = -np.inf
                for k in range(np.uint32(3)):
                    barycentric[y, x, k] = 0


@njit(cache=True, nogil=True)
@typing.no_type_check
def fill_field(
    triangle_id, barycentric, depth, face_index, triangles, role, uv, part_map, low, per_range, ignored,
    out_uv, out_depth, out_part, out_label, out_face,
):  # fmt: skip
    """Fill the five arrays of a field, which come in empty (0, and −1 for the face's index)."""
    height, width = triangle_id.shape
    last = np.float32(part_map.shape[0] - 1)
    for y in range(np.uint32(height)):
        for x in range(np.uint32(width)):
            t = triangle_id[y, x]
            if t < 0 or role[np.uint32(t)] == OPENING:
                if ignored[y, x]:
                    out_label[y, x] = IGNORE
                continue
            face = np.uint32(face_index[y, x])
            out_face[y, x] = face_index[y, x]
            if role[np.uint32(t)] == UNPLACED:
                out_label[y, x] = IGNORE
                continue
            t = np.uint32(t)
            a, b, c = np.uint32(triangles[t, 0]), np.uint32(triangles[t, 1]), np.uint32(triangles[t, 2])
            w_a, w_b, w_c = barycentric[y, x, 0], barycentric[y, x, 1], barycentric[y, x, 2]
            u = w_a * uv[a, 0] + w_b * uv[b, 0] + w_c * uv[c, 0]
            v = w_a * uv[a, 1] + w_b * uv[b, 1] + w_c * uv[c, 1]
            u = min(max(u, np.float32(0)), np.float32(1))  # rounding of the weights must not leave the square
            v = min(max(v, np.float32(0)), np.float32(1))
            row = (np.float32(1) - v) * last
            out_uv[y, x, 0] = u
            out_uv[y, x, 1] = v
            out_depth[y, x] = (depth[y, x] - low[face]) * per_range[face]
            out_part[y, x] = part_map[np.uint32(row + np.float32(0.5)), np.uint32(u * last + np.float32(0.5))]
            out_label[y, x] = FACE

"""The compiled loops of the one-image z-buffer; :mod:`render.zbuffer` is their interface and checks what goes in.

Everything that decides coverage is an integer: corners lie on a grid of 1/256 px, edge functions are exact in 64 bits.
Depth is float32 and the operations stand in the same order as in the reference, so that both compare the same numbers;
no fast-math flag is set, since a fused multiply-add would round differently.
Indices are unsigned: numba would otherwise test each of them for a negative wrap.
"""

import typing

import numpy as np
from numba import njit

from render.zbuffer_grid import GRID_LIMIT, SUBPIXEL_BITS, SUBPIXELS


@njit(cache=True, nogil=True, error_model="numpy")
@typing.no_type_check
def snap_vertices(vertices, corners, z):
    """Fill the first V rows of `corners` int32 (… 3) and of `z` float32 from `vertices`, floating (V 3).

    x and y become 1/256 px, halves rounded up; the third column of `corners` is left for `z`, which may be a view of
    it. Returns whether a coordinate, or z in single precision, is not finite. The three columns are snapped as one long
    row of numbers, which vectorises; numbers are scaled in their own precision, where a power of two is exact.
    """
    flat, snapped = vertices.reshape(-1), corners.reshape(-1)
    scale, half = flat.dtype.type(SUBPIXELS), flat.dtype.type(0.5)
    border = flat.dtype.type(GRID_LIMIT // SUBPIXELS)
    bad = np.int32(0)
    for i in range(np.uint64(flat.shape[0])):
        bad = np.int32(bad | np.int32(flat[i] - flat[i] != 0))
        place = min(max(flat[i], -border), border) * scale
        low = np.floor(place)
        snapped[i] = np.int32(np.int32(low) + np.int32(place - low >= half))
    for v in range(np.uint64(vertices.shape[0])):
        z[v] = np.float32(vertices[v, np.uint64(2)])
        bad = np.int32(bad | np.int32(z[v] - z[v] != 0))
    return bad != 0


@njit(cache=True, nogil=True)
@typing.no_type_check
def clear_buffers(triangle_id, barycentric, depth):
    """Make three contiguous buffers a background: −1, 0, −inf. These loops become memset, whose stores need no loads."""
    ids, weights, depths = triangle_id.reshape(-1), barycentric.reshape(-1), depth.reshape(-1)
    for i in range(np.uint64(ids.shape[0])):
        ids[i] = -1
    for i in range(np.uint64(weights.shape[0])):
        weights[i] = 0
    for i in range(np.uint64(depths.shape[0])):
        depths[i] = -np.inf


@njit(cache=True, nogil=True, error_model="numpy")
@typing.no_type_check
def draw_triangles(chosen, corners, z, triangles, cull, triangle_id, barycentric, depth):
    """Draw the `chosen` triangles into three buffers that hold what was drawn before (nothing yet: −1, 0, −inf).

    chosen (n,) indices, corners int32 (V 3) and z float32 (V,) as :func:`snap_vertices` leaves them, triangles int32
    (T 3); buffers as in RasterBuffers. The order plays no part: of equal depths the lowest index stays.
    """
    height, width = depth.shape
    for i in range(np.uint64(chosen.shape[0])):
        t = np.uint64(chosen[i])
        a, b, c = np.uint32(triangles[t, 0]), np.uint32(triangles[t, 1]), np.uint32(triangles[t, 2])
        ax, ay = np.int64(corners[a, 0]), np.int64(corners[a, 1])
        bx, by = np.int64(corners[b, 0]), np.int64(corners[b, 1])
        cx, cy = np.int64(corners[c, 0]), np.int64(corners[c, 1])
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0 or (cull and area > 0):
            continue
        first_x = max((min(ax, bx, cx) + (SUBPIXELS - 1)) >> SUBPIXEL_BITS, 0)
        last_x = min(max(ax, bx, cx) >> SUBPIXEL_BITS, width - 1)
        first_y = max((min(ay, by, cy) + (SUBPIXELS - 1)) >> SUBPIXEL_BITS, 0)
        last_y = min(max(ay, by, cy) >> SUBPIXEL_BITS, height - 1)
        if first_x > last_x or first_y > last_y:
            continue
        za, zb, zc = z[a], z[b], z[c]
        column_b, column_c = np.uint32(1), np.uint32(2)
        if area < 0:  # walk the corners the other way round: inside is where all edge functions are positive
            area = -area
            bx, by, zb, cx, cy, zc = cx, cy, zc, bx, by, zb
            column_b, column_c = column_c, column_b

        # Edge functions at the first pixel, each the doubled area opposite one corner, and their steps of one pixel.
        px, py = first_x << SUBPIXEL_BITS, first_y << SUBPIXEL_BITS
        row_a = (cx - bx) * (py - by) - (cy - by) * (px - bx)
        row_b = (ax - cx) * (py - cy) - (ay - cy) * (px - cx)
        row_c = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
        step_x_a, step_x_b, step_x_c = (by - cy) * SUBPIXELS, (cy - ay) * SUBPIXELS, (ay - by) * SUBPIXELS
        step_y_a, step_y_b, step_y_c = (cx - bx) * SUBPIXELS, (ax - cx) * SUBPIXELS, (bx - ax) * SUBPIXELS
        # Zero belongs to the triangle on its top edges (horizontal, inside below) and left edges (upward) alone.
        bias_a = 0 if cy < by or (cy == by and cx > bx) else -1
        bias_b = 0 if ay < cy or (ay == cy and ax > cx) else -1
        bias_c = 0 if by < ay or (by == ay and bx > ax) else -1

        reciprocal = np.float32(1.0) / np.float32(area)
        from_a_to_b, from_a_to_c = zb - za, zc - za
        for y in range(np.uint32(first_y), np.uint32(last_y + 1)):
            edge_a, edge_b, edge_c = row_a, row_b, row_c
            for x in range(np.uint32(first_x), np.uint32(last_x + 1)):
                if ((edge_a + bias_a) | (edge_b + bias_b) | (edge_c + bias_c)) >= 0:
                    weight_b = np.float32(edge_b) * reciprocal
                    weight_c = np.float32(edge_c) * reciprocal
                    nearness = za + weight_b * from_a_to_b + weight_c * from_a_to_c
                    if nearness > depth[y, x] or (nearness == depth[y, x] and np.int32(t) < triangle_id[y, x]):
                        depth[y, x] = nearness
                        triangle_id[y, x] = np.int32(t)
                        barycentric[y, x, 0] = np.float32(edge_a) * reciprocal
                        barycentric[y, x, column_b] = weight_b
                        barycentric[y, x, column_c] = weight_c
                edge_a += step_x_a
                edge_b += step_x_b
                edge_c += step_x_c
            row_a += step_y_a
            row_b += step_y_b
            row_c += step_y_c


@njit(cache=True, nogil=True)
@typing.no_type_check
def interpolate_triangles(triangle_id, barycentric, values, triangles, picture):
    """picture[y, x] = Σ weight · value over the corners of the pixel's triangle; other pixels stay as they are."""
    height, width = triangle_id.shape
    for y in range(np.uint32(height)):
        for x in range(np.uint32(width)):
            if triangle_id[y, x] < 0:
                continue
            t = np.uint32(triangle_id[y, x])
            a, b, c = np.uint32(triangles[t, 0]), np.uint32(triangles[t, 1]), np.uint32(triangles[t, 2])
            weight_a, weight_b, weight_c = barycentric[y, x, 0], barycentric[y, x, 1], barycentric[y, x, 2]
            for k in range(np.uint32(values.shape[1])):
                picture[y, x, k] = weight_a * values[a, k] + weight_b * values[b, k] + weight_c * values[c, k]

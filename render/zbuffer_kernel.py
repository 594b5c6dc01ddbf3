"""The compiled loops of the one-image z-buffer; :mod:`render.zbuffer` is their interface and checks what goes in.

Everything that decides coverage is an integer: corners lie on a grid of 1/256 px, edge functions are exact in 64 bits.
Depth is float32 and the operations stand in the same order as in the reference, so that both compare the same numbers;
no fast-math flag is set, since a fused multiply-add would round differently.
Indices are unsigned: numba would otherwise test each of them for a negative wrap.
"""

import typing

import numpy as np
from numba import njit

SUBPIXEL_BITS = 8
SUBPIXELS = 1 << SUBPIXEL_BITS

# Corner coordinates are held within ±2^21 px: edge functions, differences of two products, then stay below 2^62 and
# cannot overflow. A corner farther out is moved to this border, alike for all triangles that share it.
GRID_LIMIT = 1 << 29


@njit(cache=True, nogil=True)
@typing.no_type_check
def snap_corners(vertices, grid_xy, z):
    """Fill `grid_xy` int32 (V 2), in 1/256 px, and `z` float32 (V,); returns a vertex that is not finite, or −1."""
    bad = np.int64(-1)
    for v in range(np.uint32(vertices.shape[0])):
        z[v] = np.float32(vertices[v, 2])
        finite = np.isfinite(z[v])
        for k in range(np.uint32(2)):
            place = np.floor(np.float64(vertices[v, k]) * SUBPIXELS + 0.5)
            finite = finite and np.isfinite(place)
            grid_xy[v, k] = np.int32(min(max(place, -GRID_LIMIT), GRID_LIMIT)) if np.isfinite(place) else 0
        if not finite and bad < 0:
            bad = np.int64(v)
    return bad


@njit(cache=True, nogil=True)
@typing.no_type_check
def draw_triangles(grid_xy, z, triangles, cull, triangle_id, barycentric, depth):
    """Draw every triangle in order into the three buffers, which come in empty (−1, 0, −inf).

    grid_xy int32 (V 2) in 1/256 px, z float32 (V,), triangles int32 (T 3); buffers as in RasterBuffers.
    """
    height, width = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = np.uint32(triangles[t, 0]), np.uint32(triangles[t, 1]), np.uint32(triangles[t, 2])
        ax, ay = np.int64(grid_xy[a, 0]), np.int64(grid_xy[a, 1])
        bx, by = np.int64(grid_xy[b, 0]), np.int64(grid_xy[b, 1])
        cx, cy = np.int64(grid_xy[c, 0]), np.int64(grid_xy[c, 1])
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
                    if nearness > depth[y, x]:  # equal depth: the earlier triangle, which has the lower index, stays
                        depth[y, x] = nearness
                        triangle_id[y, x] = t
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

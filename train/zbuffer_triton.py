"""The three kernels of the z-buffer on a GPU; :mod:`train.zbuffer` is their interface.

The first takes a block of triangles of one mesh and walks all their boxes together, pixel by pixel, so that a block
takes as many steps as its largest box has pixels; triangles beyond a few pixels would hold the others up and are walked
by themselves, many pixels at a time, by a second form of it. Every covered pixel gets one 64-bit atomic maximum. The
last kernel reads the winners.

Small triangles need 32 bits (a box of 32 px at 1/256 px: products below 2^27). Divisions are rounded as IEEE says and
multiplications are not fused with additions, so depths are those of the CPU to the bit, and with them the winners.
"""

import typing

import torch
import triton
import triton.language as tl
from torch import Tensor

NOTHING = tl.constexpr(-(1 << 63))
SUBPIXEL_BITS = tl.constexpr(8)
_SMALL_PX = 32
_TRIANGLES_AT_ONCE = 128
_PIXELS_AT_ONCE = 256


def draw(
    corners: Tensor, z: Tensor, triangles: Tensor, size_hw: tuple[int, int], cull: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """triangle_id (n h w) int32, barycentric (n h w 3), depth (n h w) of n meshes.

    corners int32 (n v 2) in 1/256 px, z float32 (n v), triangles int32 (t 3), all contiguous on one device.
    """
    (height, width), (n, n_vertices), n_triangles = size_hw, z.shape, len(triangles)
    keys = torch.full((n, height, width), NOTHING.value, dtype=torch.int64, device=z.device)
    large = torch.empty(n * n_triangles, dtype=torch.int64, device=z.device)
    n_large = torch.zeros(1, dtype=torch.int32, device=z.device)
    if n:
        blocks = (triton.cdiv(n_triangles, _TRIANGLES_AT_ONCE), n)
        _draw_small[blocks](
            corners, z, triangles, keys, large, n_large, n_vertices, n_triangles, height, width,
            cull=cull, small=_SMALL_PX, block=_TRIANGLES_AT_ONCE, enable_fp_fusion=False,
        )  # fmt: skip
        if count := int(n_large):
            _draw_large[(count,)](
                corners, z, triangles, keys, large, n_vertices, n_triangles, height, width,
                block=_PIXELS_AT_ONCE, enable_fp_fusion=False,
            )  # fmt: skip
    triangle_id = torch.empty((n, height, width), dtype=torch.int32, device=z.device)
    barycentric = torch.empty((n, height, width, 3), dtype=torch.float32, device=z.device)
    depth = torch.empty((n, height, width), dtype=torch.float32, device=z.device)
    if n:
        _resolve[(triton.cdiv(height * width, _PIXELS_AT_ONCE), n)](
            corners, triangles, keys, triangle_id, barycentric, depth, n_vertices, height, width,
            block=_PIXELS_AT_ONCE, enable_fp_fusion=False,
        )  # fmt: skip
    return triangle_id, barycentric, depth


@triton.jit
@typing.no_type_check
def _load_xy(corners, vertex, mask):
    return tl.load(corners + 2 * vertex, mask, 0), tl.load(corners + 2 * vertex + 1, mask, 0)


@triton.jit
@typing.no_type_check
def _owns(step_x, step_y):
    """1 where zero belongs to the edge: a left edge, or a top edge."""
    return ((step_y < 0) | ((step_y == 0) & (step_x > 0))).to(tl.int32)


@triton.jit
@typing.no_type_check
def _key(depth, t):
    """64 bits in the order of the depths, then of falling indices."""
    bits = (depth + 0.0).to(tl.int32, bitcast=True)  # + 0: there is one zero
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered.to(tl.int64) << 32) | (0xFFFFFFFF - t.to(tl.int64))


@triton.jit
@typing.no_type_check
def _draw_small(
    corners, z, triangles, keys, large, n_large, n_vertices, n_triangles, height, width,
    cull: tl.constexpr, small: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    mesh = tl.program_id(1).to(tl.int64)
    t = tl.program_id(0) * block + tl.arange(0, block)
    exists = t < n_triangles
    corners += mesh * n_vertices * 2
    z += mesh * n_vertices
    keys += mesh * height * width
    a = tl.load(triangles + 3 * t, exists, 0)
    b = tl.load(triangles + 3 * t + 1, exists, 0)
    c = tl.load(triangles + 3 * t + 2, exists, 0)
    ax, ay = _load_xy(corners, a, exists)
    bx, by = _load_xy(corners, b, exists)
    cx, cy = _load_xy(corners, c, exists)
    low_x, high_x = tl.minimum(tl.minimum(ax, bx), cx), tl.maximum(tl.maximum(ax, bx), cx)
    low_y, high_y = tl.minimum(tl.minimum(ay, by), cy), tl.maximum(tl.maximum(ay, by), cy)
    first_x = tl.maximum((low_x + 255) >> SUBPIXEL_BITS, 0)
    first_y = tl.maximum((low_y + 255) >> SUBPIXEL_BITS, 0)
    last_x = tl.minimum(high_x >> SUBPIXEL_BITS, width - 1)
    last_y = tl.minimum(high_y >> SUBPIXEL_BITS, height - 1)
    in_picture = exists & (first_x <= last_x) & (first_y <= last_y)
    is_small = (high_x - low_x < small * 256) & (high_y - low_y < small * 256)
    far = in_picture & (is_small == 0)
    # A large triangle is noted, and drawn later; its area needs 64 bits.
    area_64 = (bx - ax).to(tl.int64) * (cy - ay) - (by - ay).to(tl.int64) * (cx - ax)
    far = far & ((area_64 < 0) if cull else (area_64 != 0))
    slot = tl.atomic_add(n_large + tl.zeros_like(t), 1, far)
    tl.store(large + slot, mesh * n_triangles + t, far)

    area = area_64.to(tl.int32)
    live = in_picture & is_small & ((area < 0) if cull else (area != 0))
    turned = area < 0  # walk the corners the other way round: inside is where all edge functions are positive
    b, c = tl.where(turned, c, b), tl.where(turned, b, c)
    bx, cx = tl.where(turned, cx, bx), tl.where(turned, bx, cx)
    by, cy = tl.where(turned, cy, by), tl.where(turned, by, cy)
    px, py = first_x << SUBPIXEL_BITS, first_y << SUBPIXEL_BITS
    row_a = (cx - bx) * (py - by) - (cy - by) * (px - bx)
    row_b = (ax - cx) * (py - cy) - (ay - cy) * (px - cx)
    row_c = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
    own_a, own_b, own_c = _owns(cx - bx, cy - by), _owns(ax - cx, ay - cy), _owns(bx - ax, by - ay)
    reciprocal = tl.div_rn(1.0, tl.where(live, tl.abs(area), 1).to(tl.float32))
    za = tl.load(z + a, live, 0.0)
    to_b, to_c = tl.load(z + b, live, 0.0) - za, tl.load(z + c, live, 0.0) - za
    columns = tl.where(live, last_x - first_x + 1, 0)
    rows = tl.where(live, last_y - first_y + 1, 0)
    for down in range(0, tl.max(rows, 0)):
        for right in range(0, tl.max(tl.where(down < rows, columns, 0), 0)):
            edge_a = row_a - right * ((cy - by) << SUBPIXEL_BITS) + down * ((cx - bx) << SUBPIXEL_BITS)
            edge_b = row_b - right * ((ay - cy) << SUBPIXEL_BITS) + down * ((ax - cx) << SUBPIXEL_BITS)
            edge_c = row_c - right * ((by - ay) << SUBPIXEL_BITS) + down * ((bx - ax) << SUBPIXEL_BITS)
            covered = (edge_a + own_a > 0) & (edge_b + own_b > 0) & (edge_c + own_c > 0)
            covered = covered & (right < columns) & (down < rows)
            weight_b, weight_c = edge_b.to(tl.float32) * reciprocal, edge_c.to(tl.float32) * reciprocal
            depth = za + weight_b * to_b + weight_c * to_c
            covered = covered & (depth == depth)
            key = _key(depth, t)
            pixel = keys + (first_y + down) * width + first_x + right
            # Most of what lies behind is turned away by a look; a look that comes too early only costs the atomic.
            covered = covered & (key > tl.load(pixel, covered, 0))
            tl.atomic_max(pixel, key, covered, sem="relaxed")


@triton.jit
@typing.no_type_check
def _corner_of(corners, z, triangles, mesh, t, k: tl.constexpr, n_vertices):
    vertex = mesh * n_vertices + tl.load(triangles + 3 * t + k)
    x, y = tl.load(corners + 2 * vertex).to(tl.int64), tl.load(corners + 2 * vertex + 1).to(tl.int64)
    return x, y, tl.load(z + vertex)


@triton.jit
@typing.no_type_check
def _draw_large(
    corners, z, triangles, keys, large, n_vertices, n_triangles, height, width, block: tl.constexpr
):  # fmt: skip
    which = tl.load(large + tl.program_id(0))
    mesh, t = which // n_triangles, which % n_triangles
    ax, ay, za = _corner_of(corners, z, triangles, mesh, t, 0, n_vertices)
    bx, by, zb = _corner_of(corners, z, triangles, mesh, t, 1, n_vertices)
    cx, cy, zc = _corner_of(corners, z, triangles, mesh, t, 2, n_vertices)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area < 0:
        bx, by, zb, cx, cy, zc = cx, cy, zc, bx, by, zb
        area = -area
    first_x = tl.maximum((tl.minimum(tl.minimum(ax, bx), cx) + 255) >> SUBPIXEL_BITS, 0)
    first_y = tl.maximum((tl.minimum(tl.minimum(ay, by), cy) + 255) >> SUBPIXEL_BITS, 0)
    last_x = tl.minimum(tl.maximum(tl.maximum(ax, bx), cx) >> SUBPIXEL_BITS, width - 1)
    last_y = tl.minimum(tl.maximum(tl.maximum(ay, by), cy) >> SUBPIXEL_BITS, height - 1)
    columns = last_x - first_x + 1
    n_pixels = columns * (last_y - first_y + 1)
    own_a, own_b, own_c = _owns(cx - bx, cy - by), _owns(ax - cx, ay - cy), _owns(bx - ax, by - ay)
    reciprocal = tl.div_rn(1.0, area.to(tl.float32))
    for start in range(0, n_pixels, block):
        place = start + tl.arange(0, block)
        x, y = first_x + place % columns, first_y + place // columns
        px, py = x << SUBPIXEL_BITS, y << SUBPIXEL_BITS
        edge_a = (cx - bx) * (py - by) - (cy - by) * (px - bx)
        edge_b = (ax - cx) * (py - cy) - (ay - cy) * (px - cx)
        edge_c = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
        covered = (edge_a + own_a > 0) & (edge_b + own_b > 0) & (edge_c + own_c > 0) & (place < n_pixels)
        weight_b, weight_c = edge_b.to(tl.float32) * reciprocal, edge_c.to(tl.float32) * reciprocal
        depth = za + weight_b * (zb - za) + weight_c * (zc - za)
        covered = covered & (depth == depth)
        key = _key(depth, t + tl.zeros_like(place))
        pixel = keys + (mesh * height + y) * width + x
        covered = covered & (key > tl.load(pixel, covered, 0))
        tl.atomic_max(pixel, key, covered, sem="relaxed")


@triton.jit
@typing.no_type_check
def _resolve(
    corners, triangles, keys, triangle_id, barycentric, depth, n_vertices, height, width, block: tl.constexpr
):  # fmt: skip
    mesh = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * block + tl.arange(0, block)
    exists = place < height * width
    pixel = mesh * height * width + place
    key = tl.load(keys + pixel, exists, NOTHING)
    covered = exists & (key != NOTHING)
    ordered = (key >> 32).to(tl.int32)
    bits = tl.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    t = tl.where(covered, 0xFFFFFFFF - (key & 0xFFFFFFFF), 0)
    corners += mesh * n_vertices * 2
    ax, ay = _load_xy(corners, tl.load(triangles + 3 * t, covered, 0), covered)
    bx, by = _load_xy(corners, tl.load(triangles + 3 * t + 1, covered, 0), covered)
    cx, cy = _load_xy(corners, tl.load(triangles + 3 * t + 2, covered, 0), covered)
    ax, ay, bx, by = ax.to(tl.int64), ay.to(tl.int64), bx.to(tl.int64), by.to(tl.int64)
    cx, cy = cx.to(tl.int64), cy.to(tl.int64)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    px, py = (place % width).to(tl.int64) << SUBPIXEL_BITS, (place // width).to(tl.int64) << SUBPIXEL_BITS
    sign = tl.where(area < 0, -1, 1)
    edge_a = ((cx - bx) * (py - by) - (cy - by) * (px - bx)) * sign
    edge_b = ((ax - cx) * (py - cy) - (ay - cy) * (px - cx)) * sign
    edge_c = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) * sign
    reciprocal = tl.div_rn(1.0, tl.where(covered, area * sign, 1).to(tl.float32))
    tl.store(triangle_id + pixel, tl.where(covered, t, -1).to(tl.int32), exists)
    tl.store(depth + pixel, tl.where(covered, bits.to(tl.float32, bitcast=True), -float("inf")), exists)
    tl.store(barycentric + 3 * pixel, tl.where(covered, edge_a.to(tl.float32) * reciprocal, 0.0), exists)
    tl.store(barycentric + 3 * pixel + 1, tl.where(covered, edge_b.to(tl.float32) * reciprocal, 0.0), exists)
    tl.store(barycentric + 3 * pixel + 2, tl.where(covered, edge_c.to(tl.float32) * reciprocal, 0.0), exists)

"""The z-buffer's twin in torch, for pictures that are made on the device where they are used.

The same integers as :mod:`render.zbuffer` decide: corners snapped to 1/256 px, exact edge functions, the top-left rule.
Every triangle puts forward a 64-bit number at each pixel that it covers, its depth in the upper half and its index,
complemented, in the lower; the greatest stays (one atomic maximum, in whatever order they come), and of equal depths
therefore the lowest index. A second pass reads the winners back and works out their weights.

On a CUDA device with Triton three kernels do this (:mod:`train.zbuffer_triton`); elsewhere plain torch does.
docs/zbuffer.md says where either has been run.
"""

import importlib.util
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int, Int32, Int64
from torch import Tensor

from render.zbuffer_grid import GRID_LIMIT, SUBPIXEL_BITS, SUBPIXELS

NOTHING = -(1 << 63)
"""What a pixel holds that no triangle covers; every depth comes out greater."""
_INDEX_MASK = 0xFFFF_FFFF
_PIXELS_AT_ONCE = 1 << 20
"""Pixels tested or resolved in one step of the plain version, and triangles bounded: some 300 MB of intermediates."""


@dataclass(frozen=True, slots=True)
class RasterBuffers:
    """What is seen at each pixel centre of a picture, or of many (leading batch dimensions), as in render.zbuffer.

    triangle_id[y, x] == t    triangle t is nearest at the centre of pixel (x, y); −1: no triangle is there
    barycentric[y, x]         the weights of its three corners, in their own order, ≥ 0 and of sum 1; background 0
    depth[y, x]               its z there, larger is nearer, in the unit of the vertices' z; background −inf
    """

    triangle_id: Int32[Tensor, "*n h w"]
    barycentric: Float32[Tensor, "*n h w 3"]
    depth: Float32[Tensor, "*n h w"]

    @property
    def covered(self) -> Bool[Tensor, "*n h w"]:
        """Where a triangle is seen."""
        return self.triangle_id >= 0


@torch.no_grad()
def rasterize(
    vertices: Float[Tensor, "*n v 3"],
    triangles: Int[Tensor, "t 3"],
    *,
    size_hw: tuple[int, int],
    cull: bool = True,
) -> RasterBuffers:
    """Draw meshes of one topology, given in pixels, on the device where they are; see render.rasterize for the rules.

    No gradient passes through. Raises ValueError for vertices that are not finite, indices that point outside, and an
    empty picture; to find out, it waits for the device.
    """
    n_vertices = vertices.shape[-2]
    _check(vertices, triangles, size_hw)
    meshes = vertices.reshape(vertices.shape[:-2].numel(), n_vertices, 3)
    corners, z = _snapped(meshes)
    triangles = triangles.to(device=vertices.device, dtype=torch.int64)
    if not len(triangles):  # one without area instead, so that there is something to point to
        triangles = triangles.new_zeros((1, 3))
        corners, z = corners.new_zeros((len(meshes), 1, 2)), z.new_zeros((len(meshes), 1))
    draw = _draw_in_triton if _has_triton(vertices.device) else _draw
    buffers = draw(corners, z, triangles, size_hw, cull)
    shape = (*vertices.shape[:-2], *size_hw)
    return RasterBuffers(
        buffers.triangle_id.view(shape), buffers.barycentric.view(*shape, 3), buffers.depth.view(shape)
    )


def interpolate(
    buffers: RasterBuffers, values: Float[Tensor, "*m v c"], triangles: Int[Tensor, "t 3"]
) -> Float[Tensor, "*n h w c"]:
    """Carry per-vertex `values` to pixels, linearly within each triangle; background pixels get 0.

    `values` are one set for all pictures (V C), or one for each (the buffers' batch dimensions, then V C). Gradients
    reach the values.
    """
    lead, (height, width) = buffers.depth.shape[:-2], buffers.depth.shape[-2:]
    each = values.expand(*lead, *values.shape[-2:]).reshape(lead.numel(), *values.shape[-2:])
    if not len(triangles) or not lead.numel():
        return values.new_zeros((*buffers.depth.shape, values.shape[-1]))
    corners = triangles.to(torch.int64)[buffers.triangle_id.clamp(min=0).to(torch.int64)].reshape(lead.numel(), -1, 1)
    picked = each.gather(1, corners.expand(-1, -1, values.shape[-1])).reshape(*lead, height, width, 3, -1)
    return (buffers.barycentric.to(values.dtype)[..., None] * picked).sum(dim=-2)


def _check(vertices: Tensor, triangles: Tensor, size_hw: tuple[int, int]) -> None:
    if min(size_hw) < 1 or max(size_hw) * SUBPIXELS > GRID_LIMIT:
        raise ValueError(f"a picture of {size_hw[0]} rows and {size_hw[1]} columns cannot be drawn")
    if triangles.numel() and (last := int(triangles.max())) >= vertices.shape[-2]:
        raise ValueError(
            f"triangles refer to vertex {last} but the mesh has {vertices.shape[-2]} vertices; "
            "indices are zero-based (MATLAB files count from one)"
        )
    if triangles.numel() and (first := int(triangles.min())) < 0:
        raise ValueError(f"triangles refer to vertex {first}; indices start at zero")
    finite = (vertices.isfinite().all(dim=-1) & vertices[..., 2].to(torch.float32).isfinite()).reshape(-1)
    if not bool(finite.all()):
        place = int((~finite).nonzero()[0])
        mesh, vertex = divmod(place, vertices.shape[-2])
        of_mesh = f" of mesh {mesh}" if len(finite) > vertices.shape[-2] else ""
        raise ValueError(
            f"vertex {vertex}{of_mesh} is {vertices.reshape(-1, 3)[place].tolist()}: "
            "a mesh with a vertex that is not finite, z in single precision, has no picture; "
            "look at the fit's scale and coefficients"
        )


def _snapped(meshes: Float[Tensor, "n v 3"]) -> tuple[Int32[Tensor, "n v 2"], Float32[Tensor, "n v"]]:
    """x and y in 1/256 px, halves rounded up, and z. Scaling by a power of two is exact in either precision."""
    if meshes.dtype not in (torch.float32, torch.float64):
        meshes = meshes.float()
    border = GRID_LIMIT // SUBPIXELS
    place = meshes[..., :2].clamp(-border, border) * SUBPIXELS
    low = place.floor()
    return low.to(torch.int32) + (place - low >= 0.5).to(torch.int32), meshes[..., 2].float().contiguous()


def _has_triton(device: torch.device) -> bool:
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def _draw_in_triton(
    corners: Tensor, z: Tensor, triangles: Tensor, size_hw: tuple[int, int], cull: bool
) -> RasterBuffers:
    from train.zbuffer_triton import draw

    return RasterBuffers(*draw(corners, z, triangles.to(torch.int32), size_hw, cull))


def _draw(
    corners: Int32[Tensor, "n v 2"],
    z: Float32[Tensor, "n v"],
    triangles: Int64[Tensor, "t 3"],
    size_hw: tuple[int, int],
    cull: bool,
) -> RasterBuffers:
    """The plain version: every pixel of every live triangle's box is tested, a million at a time."""
    group = max(1, _PIXELS_AT_ONCE // len(triangles))
    keys = [_nearest(*few, triangles, size_hw, cull) for few in zip(corners.split(group), z.split(group), strict=True)]
    return _resolve(torch.cat(keys), corners, z, triangles)


def _nearest(
    corners: Int32[Tensor, "n v 2"],
    z: Float32[Tensor, "n v"],
    triangles: Int64[Tensor, "t 3"],
    size_hw: tuple[int, int],
    cull: bool,
) -> Int64[Tensor, "n h w"]:
    """The greatest of the numbers that the triangles put forward at each pixel."""
    height, width = size_hw
    n = len(corners)
    keys = torch.full((n * height * width,), NOTHING, dtype=torch.int64, device=corners.device)
    first_xy, columns, rows = _boxes(corners, triangles, size_hw, cull)
    boxes = (columns * rows).nonzero()[:, 0]  # of n·T, those with a pixel in them
    first_xy, columns = first_xy[boxes], columns[boxes]
    ends = (columns * rows[boxes]).cumsum(0)
    n_tests = int(ends[-1]) if len(ends) else 0
    for start in range(0, n_tests, _PIXELS_AT_ONCE):
        test = torch.arange(start, min(start + _PIXELS_AT_ONCE, n_tests), device=corners.device)
        box = torch.searchsorted(ends, test, right=True)
        place = test - torch.where(box > 0, ends[box - 1], 0)
        x = first_xy[box, 0] + place % columns[box]
        y = first_xy[box, 1] + torch.div(place, columns[box], rounding_mode="floor")
        mesh, t = torch.div(boxes[box], len(triangles), rounding_mode="floor"), boxes[box] % len(triangles)
        depth, _, covered = _weigh(corners, z, triangles, mesh, t, x, y)
        key = (_ordered_bits(depth) << 32) | (_INDEX_MASK - t)
        pixel = (mesh * height + y) * width + x
        keys.scatter_reduce_(0, pixel[covered], key[covered], "amax")
    return keys.view(n, height, width)


def _boxes(
    corners: Int32[Tensor, "n v 2"], triangles: Int64[Tensor, "t 3"], size_hw: tuple[int, int], cull: bool
) -> tuple[Int64[Tensor, "b 2"], Int64[Tensor, " b"], Int64[Tensor, " b"]]:
    """First pixel, width and height (0: nothing to see) of the box of every triangle of every mesh, b = n·T."""
    a, b, c = corners[:, triangles].to(torch.int64).unbind(dim=2)
    area = _cross(b - a, c - a)
    last_pixel = torch.tensor([size_hw[1] - 1, size_hw[0] - 1], device=corners.device)
    low = torch.minimum(torch.minimum(a, b), c)
    high = torch.maximum(torch.maximum(a, b), c)
    first = ((low + (SUBPIXELS - 1)) >> SUBPIXEL_BITS).clamp(min=0)
    last = torch.minimum(high >> SUBPIXEL_BITS, last_pixel)
    live = (first <= last).all(dim=-1) & ((area < 0) if cull else (area != 0))
    size = torch.where(live[..., None], last - first + 1, 0).view(-1, 2)
    return first.view(-1, 2), size[:, 0], size[:, 1]


def _weigh(
    corners: Int32[Tensor, "n v 2"],
    z: Float32[Tensor, "n v"],
    triangles: Int64[Tensor, "t 3"],
    mesh: Int64[Tensor, " p"],
    t: Int64[Tensor, " p"],
    x: Int64[Tensor, " p"],
    y: Int64[Tensor, " p"],
) -> tuple[Float32[Tensor, " p"], Float32[Tensor, "p 3"], Bool[Tensor, " p"]]:
    """Depth and weights of triangle t[i] of mesh[i] at pixel (x[i], y[i]), and whether it covers the pixel.

    The operations are those of render.zbuffer's reference, in the same order.
    """
    a, b, c = triangles[t].unbind(dim=-1)
    turned = _cross(corners[mesh, b].long() - corners[mesh, a], corners[mesh, c].long() - corners[mesh, a]) < 0
    b, c = torch.where(turned, c, b), torch.where(turned, b, c)  # after this the inside is where all are positive
    at_a, at_b, at_c = corners[mesh, a].long(), corners[mesh, b].long(), corners[mesh, c].long()
    pixel = torch.stack([x, y], dim=-1) << SUBPIXEL_BITS
    covered = torch.ones_like(turned)
    edges = []
    for start, end in ((at_b, at_c), (at_c, at_a), (at_a, at_b)):
        step = end - start
        edge = _cross(step, pixel - start)
        owns_its_border = (step[:, 1] < 0) | ((step[:, 1] == 0) & (step[:, 0] > 0))  # a left edge, or a top edge
        covered &= edge + owns_its_border.long() > 0
        edges.append(edge)
    reciprocal = 1.0 / _cross(at_b - at_a, at_c - at_a).float()
    weight_a, weight_b, weight_c = (edge.float() * reciprocal for edge in edges)
    za, zb, zc = z[mesh, a], z[mesh, b], z[mesh, c]
    depth = za + weight_b * (zb - za) + weight_c * (zc - za)
    in_own_order = torch.where(turned, weight_c, weight_b), torch.where(turned, weight_b, weight_c)
    return depth, torch.stack([weight_a, *in_own_order], dim=-1), covered & ~depth.isnan()


def _resolve(
    keys: Int64[Tensor, "n h w"], corners: Tensor, z: Tensor, triangles: Int64[Tensor, "t 3"]
) -> RasterBuffers:
    """Read the winners back: whose pixel it is, how near, and with which weights."""
    covered = keys != NOTHING
    ids = torch.where(covered, _INDEX_MASK - (keys & _INDEX_MASK), -1)
    depth = torch.where(covered, _depth_of_bits(keys >> 32), -torch.inf)
    barycentric = torch.zeros((*keys.shape, 3), dtype=torch.float32, device=keys.device)
    for places in covered.nonzero().split(_PIXELS_AT_ONCE):
        mesh, y, x = places.unbind(dim=1)
        barycentric[mesh, y, x] = _weigh(corners, z, triangles, mesh, ids[mesh, y, x], x, y)[1]
    return RasterBuffers(ids.to(torch.int32), barycentric, depth)


def _cross(u: Int64[Tensor, "*n 2"], v: Int64[Tensor, "*n 2"]) -> Int64[Tensor, "*n"]:
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


def _ordered_bits(depth: Float32[Tensor, " p"]) -> Int64[Tensor, " p"]:
    """Integers in the order of the depths: the bits, but for the sign those of a negative number are turned over."""
    bits = (depth + 0.0).view(torch.int32)  # + 0: there is one zero
    return torch.where(bits < 0, bits ^ 0x7FFF_FFFF, bits).to(torch.int64)


def _depth_of_bits(ordered: Int64[Tensor, "*n"]) -> Float32[Tensor, "*n"]:
    bits = ordered.to(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFF_FFFF, bits).view(torch.float32)

"""The z-buffer: which triangle is seen at each pixel, where on it, and how near.

Orthographic, so the mesh comes in pixels already (image or crop frame: x right, y down, z toward the viewer, integers
at pixel centres). Coverage is exact: corners are snapped to 1/256 px, edge functions (Pineda 1988) are integers, and
the top-left rule gives each pixel centre on an edge between two triangles to exactly one of them.

:func:`rasterize_reference` says what is meant, one triangle at a time over the whole picture;
:func:`rasterize` gives the same numbers, compiled.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32

from geometry.mesh import check_triangles
from render.zbuffer_kernel import GRID_LIMIT, SUBPIXELS, draw_triangles, interpolate_triangles, snap_corners


@dataclass(frozen=True, slots=True)
class RasterBuffers:
    """What is seen at each pixel centre of a picture.

    triangle_id[y, x] == t    triangle t is nearest at the centre of pixel (x, y); −1: no triangle is there
    barycentric[y, x]         the weights of its three corners, in their own order, ≥ 0 and of sum 1; background 0
    depth[y, x]               its z there, larger is nearer, in the unit of the vertices' z; background −inf
    """

    triangle_id: Int32[np.ndarray, "h w"]
    barycentric: Float32[np.ndarray, "h w 3"]
    depth: Float32[np.ndarray, "h w"]

    @property
    def covered(self) -> Bool[np.ndarray, "h w"]:
        """Where a triangle is seen."""
        return self.triangle_id >= 0


def rasterize(
    vertices: Float[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    size_hw: tuple[int, int],
    cull: bool = True,
) -> RasterBuffers:
    """Draw a mesh given in pixels; at each pixel the triangle with the largest z is kept.

    A triangle turned toward the viewer runs counter-clockwise from outside, so its area is negative in y-down pixels.
    Others are culled, or kept with ``cull=False``; triangles without area are never seen. Of triangles with the same
    depth (compared as stored, float32) the one with the lowest index is kept. Corners are snapped to 1/256 px, and
    those more than two million pixels away are moved to that border.
    Raises ValueError for vertices that are not finite, indices that point outside, and an empty picture.
    """
    grid_xy, z, triangles = _checked(vertices, triangles, size_hw)
    buffers = _empty(size_hw)
    draw_triangles(grid_xy, z, triangles, cull, buffers.triangle_id, buffers.barycentric, buffers.depth)
    return buffers


def rasterize_reference(
    vertices: Float[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    size_hw: tuple[int, int],
    cull: bool = True,
) -> RasterBuffers:
    """:func:`rasterize` in plain NumPy: every triangle against every pixel, slow and meant to be read.

    The order of the triangles plays no part: a pixel keeps the greatest pair (depth, −index).
    """
    grid_xy, z, triangles = _checked(vertices, triangles, size_hw)
    buffers = _empty(size_hw)
    pixel_x = np.arange(size_hw[1], dtype=np.int64)[None, :] * SUBPIXELS
    pixel_y = np.arange(size_hw[0], dtype=np.int64)[:, None] * SUBPIXELS
    for t, corners in enumerate(triangles):
        area = _doubled_area(*grid_xy[corners].astype(np.int64))
        if area == 0 or (cull and area > 0):
            continue
        order = np.array([0, 1, 2] if area > 0 else [0, 2, 1])  # after this the inside is where all three are positive
        a, b, c = grid_xy[corners[order]].astype(np.int64)
        edges, inside = [], np.ones(size_hw, dtype=bool)
        for (from_x, from_y), (to_x, to_y) in ((b, c), (c, a), (a, b)):
            dx, dy = to_x - from_x, to_y - from_y
            edge = dx * (pixel_y - from_y) - dy * (pixel_x - from_x)
            owns_its_border = dy < 0 or (dy == 0 and dx > 0)  # a left edge, or a top edge
            inside &= (edge >= 0) if owns_its_border else (edge > 0)
            edges.append(edge)
        weights = np.stack(edges, axis=-1).astype(np.float32) * (np.float32(1.0) / np.float32(abs(area)))
        za, zb, zc = z[corners[order]]
        depth = za + weights[..., 1] * (zb - za) + weights[..., 2] * (zc - za)
        tie = (depth == buffers.depth) & (t < buffers.triangle_id)
        seen = inside & ((depth > buffers.depth) | tie)
        buffers.triangle_id[seen] = t
        buffers.depth[seen] = depth[seen]
        buffers.barycentric[seen] = weights[..., np.argsort(order)][seen]
    return buffers


def interpolate(
    buffers: RasterBuffers, values: Float[np.ndarray, "v c"], triangles: Int32[np.ndarray, "t 3"]
) -> Float[np.ndarray, "h w c"]:
    """Carry per-vertex `values` to pixels, linearly within each triangle; background pixels get 0.

    Raises ValueError when the triangles are not those that were drawn (as far as the counts can tell).
    """
    check_triangles(triangles, len(values))
    if (last := int(buffers.triangle_id.max(initial=-1))) >= len(triangles):
        raise ValueError(
            f"the buffers show triangle {last} but there are only {len(triangles)} triangles: "
            "give the list that was drawn"
        )
    picture = np.zeros((*buffers.triangle_id.shape, values.shape[1]), dtype=values.dtype)
    interpolate_triangles(buffers.triangle_id, buffers.barycentric, values, np.ascontiguousarray(triangles), picture)
    return picture


def _checked(
    vertices: np.ndarray, triangles: np.ndarray, size_hw: tuple[int, int]
) -> tuple[Int32[np.ndarray, "v 2"], Float32[np.ndarray, "v"], Int32[np.ndarray, "t 3"]]:
    """Corners on the grid of 1/256 px, z in float32, and the triangles, once they are known to be drawable."""
    if min(size_hw) < 1 or max(size_hw) * SUBPIXELS > GRID_LIMIT:
        raise ValueError(f"a picture of {size_hw[0]} rows and {size_hw[1]} columns cannot be drawn")
    check_triangles(triangles, len(vertices))
    grid_xy, z = np.empty((len(vertices), 2), dtype=np.int32), np.empty(len(vertices), dtype=np.float32)
    if (bad := snap_corners(vertices, grid_xy, z)) >= 0:
        raise ValueError(
            f"vertex {bad} is {vertices[bad].tolist()}: a mesh with a vertex that is not finite has no picture; "
            "look at the fit's scale and coefficients"
        )
    return grid_xy, z, np.ascontiguousarray(triangles)


def _empty(size_hw: tuple[int, int]) -> RasterBuffers:
    return RasterBuffers(
        triangle_id=np.full(size_hw, -1, dtype=np.int32),
        barycentric=np.zeros((*size_hw, 3), dtype=np.float32),
        depth=np.full(size_hw, -np.inf, dtype=np.float32),
    )


def _doubled_area(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> int:
    """Twice the signed area, positive when the corners run clockwise on the screen (y down)."""
    return int((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

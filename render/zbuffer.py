"""The z-buffer: which triangle is seen at each pixel, where on it, and how near.

Orthographic, so the mesh comes in pixels already (image or crop frame: x right, y down, z toward the viewer, integers
at pixel centres). Coverage is exact: corners are snapped to 1/256 px, edge functions (Pineda 1988) are integers, and
the top-left rule gives each pixel centre on an edge between two triangles to exactly one of them.

:func:`rasterize_reference` says what is meant, one triangle at a time over the whole picture. :func:`rasterize` gives
the same numbers, compiled: meshes one by one, or, where there are several of one topology, sixteen at a time.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32

from geometry.mesh import check_triangles
from render.zbuffer_grid import GRID_LIMIT, SUBPIXELS
from render.zbuffer_kernel import clear_buffers, draw_triangles, interpolate_triangles, snap_vertices
from render.zbuffer_lanes import LANES, LARGEST_SIDE, draw_meshes

FEWEST_FOR_LANES = 4
"""Fewer meshes than this are drawn one by one: most lanes would be empty."""


@dataclass(frozen=True, slots=True)
class RasterBuffers:
    """What is seen at each pixel centre of a picture, or of many (leading batch dimensions).

    triangle_id[y, x] == t    triangle t is nearest at the centre of pixel (x, y); −1: no triangle is there
    barycentric[y, x]         the weights of its three corners, in their own order, ≥ 0 and of sum 1; background 0
    depth[y, x]               its z there, larger is nearer, in the unit of the vertices' z; background −inf
    """

    triangle_id: Int32[np.ndarray, "*n h w"]
    barycentric: Float32[np.ndarray, "*n h w 3"]
    depth: Float32[np.ndarray, "*n h w"]

    @property
    def covered(self) -> Bool[np.ndarray, "*n h w"]:
        """Where a triangle is seen."""
        return self.triangle_id >= 0

    def __getitem__(self, index: int | slice | tuple[int, ...]) -> "RasterBuffers":
        """Some of the pictures: views, not copies."""
        return RasterBuffers(self.triangle_id[index], self.barycentric[index], self.depth[index])


def rasterize(
    vertices: Float[np.ndarray, "*n v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    size_hw: tuple[int, int],
    cull: bool = True,
) -> RasterBuffers:
    """Draw a mesh given in pixels, or many of one topology; at each pixel the triangle with the largest z is kept.

    A triangle turned toward the viewer runs counter-clockwise from outside, so its area is negative in y-down pixels.
    Others are culled, or kept with ``cull=False``; triangles without area are never seen. Of triangles with the same
    depth (compared as stored, float32) the one with the lowest index is kept. Corners are snapped to 1/256 px, and
    those more than two million pixels away are moved to that border. A picture does not depend on its company: many
    at once are many pictures, to the bit, only sooner.
    Raises ValueError for vertices that are not finite, indices that point outside, and an empty picture.
    """
    meshes, triangles, buffers = _prepared(vertices, triangles, size_hw)
    remainder = len(meshes) % LANES
    in_lanes = len(meshes) - (remainder if remainder < FEWEST_FOR_LANES else 0)
    if max(size_hw) > LARGEST_SIDE:
        in_lanes = 0
    pictures = _as_list(buffers)
    _draw_in_lanes(meshes[:in_lanes], triangles, cull, pictures[:in_lanes])
    _draw_one_by_one(meshes, triangles, cull, pictures, first=in_lanes)
    return buffers


def rasterize_one_by_one(
    vertices: Float[np.ndarray, "*n v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    size_hw: tuple[int, int],
    cull: bool = True,
) -> RasterBuffers:
    """:func:`rasterize` by the one-image kernel, which it takes for few meshes."""
    meshes, triangles, buffers = _prepared(vertices, triangles, size_hw)
    _draw_one_by_one(meshes, triangles, cull, _as_list(buffers))
    return buffers


def rasterize_in_lanes(
    vertices: Float[np.ndarray, "*n v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    size_hw: tuple[int, int],
    cull: bool = True,
) -> RasterBuffers:
    """:func:`rasterize` by the kernel for sixteen meshes at once, whose lanes may be empty; at most 32,768 px a side."""
    meshes, triangles, buffers = _prepared(vertices, triangles, size_hw)
    _draw_in_lanes(meshes, triangles, cull, _as_list(buffers))
    return buffers


def rasterize_reference(
    vertices: Float[np.ndarray, "*n v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    size_hw: tuple[int, int],
    cull: bool = True,
) -> RasterBuffers:
    """:func:`rasterize` in plain NumPy: every triangle against every pixel, slow and meant to be read.

    The order of the triangles plays no part: a pixel keeps the greatest pair (depth, −index).
    """
    meshes, triangles, buffers = _prepared(vertices, triangles, size_hw)
    for i, mesh in enumerate(meshes):
        corners, z = _snapped(mesh, i, len(meshes))
        _draw_by_definition(corners[:, :2], z, triangles, cull, _as_list(buffers)[i])
    return buffers


def _draw_by_definition(
    grid_xy: Int32[np.ndarray, "v 2"],
    z: Float32[np.ndarray, "v"],
    triangles: Int32[np.ndarray, "t 3"],
    cull: bool,
    buffers: RasterBuffers,
) -> None:
    buffers.triangle_id[:], buffers.barycentric[:], buffers.depth[:] = -1, 0, -np.inf
    height, width = buffers.depth.shape
    pixel_x = np.arange(width, dtype=np.int64)[None, :] * SUBPIXELS
    pixel_y = np.arange(height, dtype=np.int64)[:, None] * SUBPIXELS
    for t, corners in enumerate(triangles):
        area = _doubled_area(*grid_xy[corners].astype(np.int64))
        if area == 0 or (cull and area > 0):
            continue
        order = np.array([0, 1, 2] if area > 0 else [0, 2, 1])  # after this the inside is where all three are positive
        a, b, c = grid_xy[corners[order]].astype(np.int64)
        edges, inside = [], np.ones((height, width), dtype=bool)
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


def _draw_one_by_one(
    meshes: np.ndarray, triangles: Int32[np.ndarray, "t 3"], cull: bool, pictures: RasterBuffers, first: int = 0
) -> None:
    every = np.arange(len(triangles), dtype=np.int32)
    for i in range(first, len(meshes)):
        corners, z = _snapped(meshes[i], i, len(meshes))
        picture = pictures[i]
        clear_buffers(picture.triangle_id, picture.barycentric, picture.depth)
        draw_triangles(every, corners, z, triangles, cull, picture.triangle_id, picture.barycentric, picture.depth)


def _draw_in_lanes(
    meshes: np.ndarray, triangles: Int32[np.ndarray, "t 3"], cull: bool, pictures: RasterBuffers
) -> None:
    if not draw_meshes(
        meshes, triangles, cull=cull,
        triangle_id=pictures.triangle_id, barycentric=pictures.barycentric, depth=pictures.depth,
    ):  # fmt: skip
        for i, mesh in enumerate(meshes):
            _snapped(mesh, i, len(meshes))  # says which one


def interpolate(
    buffers: RasterBuffers, values: Float[np.ndarray, "*m v c"], triangles: Int32[np.ndarray, "t 3"]
) -> Float[np.ndarray, "*n h w c"]:
    """Carry per-vertex `values` to pixels, linearly within each triangle; background pixels get 0.

    `values` are one set for all pictures (V C), or one for each (the buffers' batch dimensions, then V C).
    Raises ValueError when the triangles are not those that were drawn (as far as the counts can tell).
    """
    check_triangles(triangles, values.shape[-2])
    if (last := int(buffers.triangle_id.max(initial=-1))) >= len(triangles):
        raise ValueError(
            f"the buffers show triangle {last} but there are only {len(triangles)} triangles: "
            "give the list that was drawn"
        )
    lead = buffers.triangle_id.shape[:-2]
    if values.shape[:-2] not in ((), lead):
        raise ValueError(
            f"values for a batch of {values.shape[:-2]} meshes do not belong to a batch of {lead} pictures: "
            "give one set for all, or one for each"
        )
    picture = np.zeros((*buffers.triangle_id.shape, values.shape[-1]), dtype=values.dtype)
    triangles = np.ascontiguousarray(triangles)
    for index in np.ndindex(lead):
        interpolate_triangles(
            buffers.triangle_id[index], buffers.barycentric[index], values[index] if values.ndim > 2 else values,
            triangles, picture[index],
        )  # fmt: skip
    return picture


def _prepared(
    vertices: np.ndarray, triangles: np.ndarray, size_hw: tuple[int, int]
) -> tuple[Float[np.ndarray, "n v 3"], Int32[np.ndarray, "t 3"], RasterBuffers]:
    """The meshes as a list, the triangles once they are known to be drawable, and buffers not yet filled."""
    if min(size_hw) < 1 or max(size_hw) * SUBPIXELS > GRID_LIMIT:
        raise ValueError(f"a picture of {size_hw[0]} rows and {size_hw[1]} columns cannot be drawn")
    lead, n_vertices = vertices.shape[:-2], vertices.shape[-2]
    check_triangles(triangles, n_vertices)
    if vertices.dtype not in (np.float32, np.float64):
        vertices = vertices.astype(np.float32)
    meshes = np.ascontiguousarray(vertices).reshape(int(np.prod(lead, dtype=np.int64)), n_vertices, 3)
    shape = (*lead, *size_hw)
    buffers = RasterBuffers(
        triangle_id=np.empty(shape, dtype=np.int32),
        barycentric=np.empty((*shape, 3), dtype=np.float32),
        depth=np.empty(shape, dtype=np.float32),
    )
    return meshes, np.ascontiguousarray(triangles), buffers


def _as_list(buffers: RasterBuffers) -> RasterBuffers:
    """The same pictures with one batch dimension."""
    height, width = buffers.depth.shape[-2:]
    n = int(np.prod(buffers.depth.shape[:-2], dtype=np.int64))
    return RasterBuffers(
        buffers.triangle_id.reshape(n, height, width),
        buffers.barycentric.reshape(n, height, width, 3),
        buffers.depth.reshape(n, height, width),
    )


def _snapped(
    mesh: Float[np.ndarray, "v 3"], index: int, n_meshes: int
) -> tuple[Int32[np.ndarray, "v 3"], Float32[np.ndarray, "v"]]:
    """x and y on the grid of 1/256 px, and z, which is kept as bits in the third column; ValueError if not finite."""
    corners = np.empty((len(mesh), 3), dtype=np.int32)
    z = corners.view(np.float32)[:, 2]
    if snap_vertices(mesh, corners, z):
        with np.errstate(over="ignore"):
            bad = int(np.flatnonzero(~(np.isfinite(mesh).all(axis=1) & np.isfinite(mesh[:, 2].astype(np.float32))))[0])
        raise ValueError(
            f"vertex {bad}{f' of mesh {index}' if n_meshes > 1 else ''} is {mesh[bad].tolist()}: "
            "a mesh with a vertex that is not finite, z in single precision, has no picture; "
            "look at the fit's scale and coefficients"
        )
    return corners, z


def _doubled_area(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> int:
    """Twice the signed area, positive when the corners run clockwise on the screen (y down)."""
    return int((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

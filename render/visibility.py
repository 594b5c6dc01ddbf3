"""Which points of a surface the picture shows: self-occlusion for vertices and for the texels of an atlas."""

import numpy as np
from jaxtyping import Bool, Float, Int32

from geometry.mesh import vertex_normals
from render.atlas_raster import AtlasRaster
from render.face_buffers import FaceBuffers
from render.visibility_kernel import see_vertices
from render.zbuffer import rasterize

_ZOOM = 2  # the z-buffer's pixels for one of the photograph: a head's triangles are smaller than a pixel
_STEEPEST = 0.1  # cosine between normal and view below which a colour is smeared over too much surface


def visible_vertices(
    vertices_px: Float[np.ndarray, "v 3"], triangles: Int32[np.ndarray, "t 3"], *, size_hw: tuple[int, int]
) -> Bool[np.ndarray, " v"]:
    """Which vertices of a mesh in image pixels are seen: inside the picture, turned to the viewer, nothing before them.

    Surface that is seen almost edge-on (more than 84° from the view) counts as hidden: a pixel tells nothing about it.
    """
    normals = vertex_normals(vertices_px.astype(np.float64), triangles)
    return _visible_points(vertices_px, normals, vertices_px, triangles, size_hw)


def visible_texels(
    raster: AtlasRaster,
    vertices_px: Float[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    size_hw: tuple[int, int],
) -> Bool[np.ndarray, "s s"]:
    """Which texels of the atlas the picture shows, as :func:`visible_vertices`; `triangles` are all that may hide them.

    A texel is the surface point at its centre; uncovered texels are not visible.
    """
    normals = vertex_normals(vertices_px.astype(np.float64), triangles)
    covered = raster.covered
    points, point_normals = (raster.apply(values)[covered] for values in (vertices_px, normals))
    visible = np.zeros(covered.shape, dtype=bool)
    visible[covered] = _visible_points(points, point_normals, vertices_px, triangles, size_hw)
    return visible


def vertices_seen_in(
    drawn: FaceBuffers, vertices_px: Float[np.ndarray, "v 3"], triangles: Int32[np.ndarray, "t 3"], *, index: int
) -> Bool[np.ndarray, " v"]:
    """Which vertices of face `index` the picture shows, by the z-buffer that drew it: other faces hide them too.

    As :func:`visible_vertices`, from buffers that are there already and at their own resolution; `triangles` are those
    that normals are taken from. Where the z-buffer shows nothing, at a silhouette, nothing hides a vertex.
    """
    seen = np.zeros(len(vertices_px), dtype=bool)
    see_vertices(
        vertices_px.astype(np.float64), triangles, drawn.buffers.depth, drawn.face_index, index, _STEEPEST,
        np.zeros((len(vertices_px), 3)), seen,
    )  # fmt: skip
    return seen


def _visible_points(
    points_px: Float[np.ndarray, "p 3"],
    normals: Float[np.ndarray, "p 3"],
    vertices_px: Float[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    size_hw: tuple[int, int],
) -> Bool[np.ndarray, " p"]:
    """Points of the surface whose depth is the z-buffer's.

    The z-buffer knows depths at its pixels' centres; a point may lie behind that by what its own slope makes of the way
    to the centre, and by a pixel. `normals` are those of the left-handed image frame, which point inward.
    """
    length = np.linalg.norm(normals, axis=1)
    toward_viewer = -normals[:, 2] / np.where(length > 0, length, 1)
    to_fine, shift = np.array([_ZOOM, _ZOOM, 1.0]), np.array([0.5, 0.5, 0.0])
    fine_size = (_ZOOM * size_hw[0], _ZOOM * size_hw[1])
    depth = rasterize((vertices_px.astype(np.float64) + shift) * to_fine - shift, triangles, size_hw=fine_size).depth
    places = (points_px.astype(np.float64) + shift) * to_fine - shift
    column, row = np.rint(places[:, :2]).astype(np.int64).T
    inside = (column >= 0) & (row >= 0) & (column < fine_size[1]) & (row < fine_size[0])
    candidates = np.flatnonzero(inside & (toward_viewer >= _STEEPEST))
    facing = toward_viewer[candidates].astype(np.float64)
    slope = np.sqrt(np.maximum(1 - facing**2, 0)) / facing
    nearest = depth[row[candidates], column[candidates]]
    seen = np.zeros(len(points_px), dtype=bool)
    seen[candidates] = points_px[candidates, 2] + (1 + slope) / _ZOOM >= nearest
    return seen

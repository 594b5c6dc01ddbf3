"""A photograph's colours on the vertices of a mesh that lies over it, where they can be seen."""

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float, Int32, UInt8

from geometry.mesh import vertex_normals
from render.zbuffer import rasterize

UNSEEN = (190, 190, 190)
"""The colour of vertices that the photograph does not show."""

_ZOOM = 2  # the z-buffer's pixels for one of the photograph: a head's triangles are smaller than a pixel
_STEEPEST = 0.1  # cosine between normal and view below which a colour is smeared over too much surface


def visible_vertices(
    vertices_px: Float[np.ndarray, "v 3"], triangles: Int32[np.ndarray, "t 3"], *, size_hw: tuple[int, int]
) -> Bool[np.ndarray, " v"]:
    """Which vertices of a mesh in image pixels are seen: inside the picture, turned to the viewer, nothing before them.

    The z-buffer knows depths at its pixels' centres; a vertex may lie behind that by what its own slope makes of the
    way to the centre, and by a pixel.
    """
    toward_viewer = -_image_normals(vertices_px, triangles)[:, 2]
    zoomed = (vertices_px.astype(np.float64) + (0.5, 0.5, 0.0)) * (_ZOOM, _ZOOM, 1.0) - (0.5, 0.5, 0.0)
    buffers = rasterize(zoomed, triangles, size_hw=(_ZOOM * size_hw[0], _ZOOM * size_hw[1]))
    column, row = np.rint(zoomed[:, :2]).astype(np.int64).T
    inside = (column >= 0) & (row >= 0) & (column < _ZOOM * size_hw[1]) & (row < _ZOOM * size_hw[0])
    candidates = np.flatnonzero(inside & (toward_viewer >= _STEEPEST))
    facing = toward_viewer[candidates].astype(np.float64)
    slope = np.sqrt(np.maximum(1 - facing**2, 0)) / facing
    nearest = buffers.depth[row[candidates], column[candidates]]
    seen = np.zeros(len(vertices_px), dtype=bool)
    seen[candidates] = vertices_px[candidates, 2] + (1 + slope) / _ZOOM >= nearest
    return seen


def vertex_colors(
    picture: UInt8[np.ndarray, "h w 3"],
    vertices_px: Float[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
) -> tuple[UInt8[np.ndarray, "v 3"], Bool[np.ndarray, " v"]]:
    """The picture's colour at each visible vertex (bilinear), :data:`UNSEEN` at the others, and which are visible."""
    size_hw = (picture.shape[0], picture.shape[1])
    seen = visible_vertices(vertices_px, triangles, size_hw=size_hw)
    colors = np.tile(np.array(UNSEEN, dtype=np.uint8), (len(vertices_px), 1))
    places = vertices_px[seen, 1::-1].T  # rows, columns
    for channel in range(3):
        sampled = scipy.ndimage.map_coordinates(
            picture[..., channel].astype(np.float32), places, order=1, mode="nearest"
        )
        colors[seen, channel] = np.rint(sampled).astype(np.uint8)
    return colors, seen


def _image_normals(vertices_px: np.ndarray, triangles: np.ndarray) -> Float[np.ndarray, "v 3"]:
    """Normals in the left-handed image frame, where the cross product points inward: z < 0 is toward the viewer."""
    return vertex_normals(vertices_px.astype(np.float64), triangles)

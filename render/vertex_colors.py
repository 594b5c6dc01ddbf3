"""A photograph's colours on the vertices of a mesh that lies over it, where they can be seen."""

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float, Int32, UInt8

from render.visibility import visible_vertices

UNSEEN = (190, 190, 190)
"""The colour of vertices that the photograph does not show."""


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

"""Several faces in one picture: each drawn by itself, the nearer ones over the farther.

Under scaled orthographic projection a face's z is known up to a constant: two fits of one photograph say nothing about
which head stands before the other. Their scales do. A head of known size that is s pixels per millimetre large stands
at a distance f/s, so **the face with the larger scale is nearer**, as a whole: at a pixel where both are seen, the
nearer face is kept whatever its z. Faces of one scale are kept in the order of the list, the first one on top.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int16, Int32

from render.face_buffers_kernel import bounds, put_behind
from render.zbuffer import RasterBuffers, rasterize


@dataclass(frozen=True, slots=True)
class FaceBuffers:
    """What is seen at each pixel, and of whom.

    buffers       triangle, barycentric weights and depth; depths of two faces are not comparable
    face_index    (H W) whose triangle it is: the index in the list of faces; −1: nobody's
    n_faces       how many faces there are, hidden ones and those outside the picture too
    """

    buffers: RasterBuffers
    face_index: Int16[np.ndarray, "h w"]
    n_faces: int

    @classmethod
    def of_one(cls, buffers: RasterBuffers) -> "FaceBuffers":
        """The picture of a single face."""
        return cls(buffers, np.where(buffers.covered, np.int16(0), np.int16(-1)), 1)


def draw_faces(
    faces_px: Sequence[Float[np.ndarray, "v 3"]],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    size_hw: tuple[int, int],
    scales: Sequence[float] | None = None,
) -> FaceBuffers:
    """Draw faces of one topology, given in pixels of the picture (y down, z toward the viewer).

    `scales` are the cameras' scales (px/mm; a negative one, as a real fit has it, counts by its size); without them the
    list runs from the nearest to the farthest. No face at all is an empty picture.
    Raises ValueError where :func:`render.zbuffer.rasterize` does, and for scales that do not fit the faces.
    """
    order = _nearest_first(len(faces_px), scales)
    if order:
        picture = rasterize(faces_px[order[0]], triangles, size_hw=size_hw)
        face_index = np.where(picture.covered, np.int16(order[0]), np.int16(-1))
    else:
        picture = rasterize(np.zeros((1, 3)), np.zeros((0, 3), dtype=np.int32), size_hw=size_hw)
        face_index = np.full(size_hw, -1, dtype=np.int16)
    for index in order[1:]:
        box = _box_of(faces_px[index], size_hw)
        if box is None:
            continue
        top, left, height, width = box
        moved = faces_px[index].astype(np.float64) - (left, top, 0)  # by whole pixels: the grid of corners stays
        seen = rasterize(moved, triangles, size_hw=(height, width))
        put_behind(
            picture.triangle_id, picture.barycentric, picture.depth, face_index, index, top, left,
            seen.triangle_id, seen.barycentric, seen.depth,
        )  # fmt: skip
    return FaceBuffers(picture, face_index, len(faces_px))


def _nearest_first(n_faces: int, scales: Sequence[float] | None) -> list[int]:
    if scales is None:
        return list(range(n_faces))
    if len(scales) != n_faces or not np.isfinite(scales).all():
        raise ValueError(f"{n_faces} faces need as many finite scales to know who is nearer, not {list(scales)}")
    return sorted(range(n_faces), key=lambda index: (-abs(scales[index]), index))


def _box_of(vertices_px: Float[np.ndarray, "v 3"], size_hw: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """First row and column, height and width of what the face can reach of the picture; None where that is nothing."""
    if not len(vertices_px):
        return None
    left, top, right, bottom = bounds(vertices_px)
    if np.isnan(left):  # the z-buffer says which vertex is wrong
        return 0, 0, size_hw[0], size_hw[1]
    first_x, first_y = max(np.floor(left), 0), max(np.floor(top), 0)
    last_x, last_y = min(np.ceil(right), size_hw[1] - 1), min(np.ceil(bottom), size_hw[0] - 1)
    if first_x > last_x or first_y > last_y:
        return None
    return int(first_y), int(first_x), int(last_y - first_y) + 1, int(last_x - first_x) + 1

"""What the visible surface is like at each pixel: PNCC, normals, depth, albedo, parts, from one set of buffers.

Every map is a per-vertex (or per-triangle) quantity of the faces drawn, carried to pixels; background is 0.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8

from geometry.mesh import vertex_normals
from render.face_buffers import FaceBuffers
from render.zbuffer import RasterBuffers, interpolate

_IMAGE_FROM_CAMERA = np.array([1.0, -1.0, 1.0])  # y is down in pictures


def normalized_coordinates(mean_shape: Float[np.ndarray, "v 3"]) -> Float32[np.ndarray, "v 3"]:
    """NCC: every axis of the mean face scaled to [0, 1] by itself (3DDFA, Zhu et al. 2016).

    A vertex has the same colour (x red, y green, z blue) in every picture. 300W-LP's own `pncc_code` is made of the
    mean identity alone, without the mean expression.
    """
    low, high = mean_shape.min(axis=0), mean_shape.max(axis=0)
    if not (high > low).all():
        raise ValueError("the mean face is flat along an axis: normalised coordinates divide by its extent")
    return ((mean_shape - low) / (high - low)).astype(np.float32)


def carry(
    drawn: FaceBuffers, values: Sequence[Float[np.ndarray, "v c"]], triangles: Int32[np.ndarray, "t 3"]
) -> Float32[np.ndarray, "h w c"]:
    """Per-vertex values of each face at its visible pixels; one entry of `values` serves all faces.

    Raises ValueError for another number of entries than faces.
    """
    if len(values) not in (1, drawn.n_faces):
        raise ValueError(f"{len(values)} sets of values for {drawn.n_faces} faces: give one for each, or one for all")
    if drawn.n_faces == 0:
        return np.zeros((*drawn.face_index.shape, values[0].shape[1]), dtype=np.float32)
    if len(values) == 1:
        return interpolate(drawn.buffers, values[0].astype(np.float32), triangles)
    picture = np.zeros((*drawn.face_index.shape, values[0].shape[1]), dtype=np.float32)
    for index, of_face in enumerate(values):
        mine = drawn.face_index == index
        if mine.any():
            rows, columns = (slice(int(k.min()), int(k.max()) + 1) for k in np.nonzero(mine))
            seen = drawn.buffers
            part = RasterBuffers(
                np.where(mine, seen.triangle_id, -1)[rows, columns],
                np.ascontiguousarray(seen.barycentric[rows, columns]),
                np.ascontiguousarray(seen.depth[rows, columns]),
            )
            picture[rows, columns] += interpolate(part, of_face.astype(np.float32), triangles)
    return picture


def pncc_map(
    drawn: FaceBuffers, codes: Float32[np.ndarray, "v 3"], triangles: Int32[np.ndarray, "t 3"]
) -> Float32[np.ndarray, "h w 3"]:
    """The projected normalised coordinate code: :func:`normalized_coordinates` at each pixel, in [0, 1]."""
    return carry(drawn, [codes], triangles)


def normal_map(
    drawn: FaceBuffers, faces_px: Sequence[Float[np.ndarray, "v 3"]], triangles: Int32[np.ndarray, "t 3"]
) -> Float32[np.ndarray, "h w 3"]:
    """Outward unit normals in the camera's axes (x right, **y up**, z toward the viewer), smooth over the surface.

    `triangles` are those drawn; normals of vertices are weighted by area, then mixed and made unit again.
    """
    normals = [vertex_normals(face.astype(np.float64) * _IMAGE_FROM_CAMERA, triangles) for face in faces_px]
    mixed = carry(drawn, normals or [np.zeros((1, 3))], triangles)
    length = np.linalg.norm(mixed, axis=-1, keepdims=True)
    return mixed / np.where(length > 0, length, np.float32(1))


def depth_map(drawn: FaceBuffers) -> Float32[np.ndarray, "h w"]:
    """z in pixels, larger is nearer; comparable within a face, not between faces. 0 in the background."""
    return np.where(drawn.buffers.covered, drawn.buffers.depth, np.float32(0))


def albedo_map(
    drawn: FaceBuffers, albedos: Sequence[Float[np.ndarray, "v 3"]], triangles: Int32[np.ndarray, "t 3"]
) -> Float32[np.ndarray, "h w 3"]:
    """Colour without light of each face (one for each, or one for all), in the albedos' own range."""
    return carry(drawn, albedos, triangles)


def label_map(
    drawn: FaceBuffers, labels: UInt8[np.ndarray, " v"], triangles: Int32[np.ndarray, "t 3"]
) -> UInt8[np.ndarray, "h w"]:
    """The label of the vertex that counts most at each pixel, without any atlas between; 0 in the background."""
    buffers = drawn.buffers
    corner = buffers.barycentric.argmax(axis=-1)
    vertex = np.take_along_axis(triangles[buffers.triangle_id], corner[..., None], axis=-1)[..., 0]
    return np.where(buffers.covered, labels[vertex], np.uint8(0))

"""The faces of a shard in their pictures: what follows from an annotation alone, worked out for all of them at once.

Numbers of one picture are so few that NumPy's calls cost more than its sums; and the views of a photograph share a
shape, which is evaluated once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Float32, Float64

from flows.face_products import FaceProducts
from geometry.camera import ScaledOrthographicCamera
from geometry.morphable_model import LinearRows, MorphableModel
from geometry.rotation import euler_from_rotation, yaw_from_rotation
from storage.annotations import Annotation


@dataclass(frozen=True, slots=True)
class PlacedFace:
    """One face: its shape in the model frame (mm), and where its camera puts it in the picture (px)."""

    vertices: Float32[np.ndarray, "v 3"]
    landmarks: Float64[np.ndarray, "68 3"]
    read_landmarks: Float64[np.ndarray, "68 3"]
    """The landmarks as they are read back from a position map."""
    image_from_model: Float64[np.ndarray, "3 4"]
    landmarks_in_image: Float64[np.ndarray, "68 3"]
    pose: Float64[np.ndarray, "7"]
    """:attr:`geometry.camera.ScaledOrthographicCamera.pose`."""
    yaw: float
    """:func:`geometry.rotation.yaw_from_rotation`."""


def placed_faces(
    annotations: Sequence[Annotation], model: MorphableModel, landmarks: LinearRows, readback: sp.csr_matrix
) -> Iterator[PlacedFace]:
    """The faces in order. `landmarks` are the model's 68, `readback` (68 V) mixes vertices to what a map gives for them."""
    if not annotations:
        return
    products = FaceProducts(model, [annotation.coefficients for annotation in annotations])
    of_distinct = [landmarks.positions(coefficients) for coefficients in products.distinct]
    of_each = np.stack([of_distinct[number] for number in products.numbers])
    cameras = [annotation.camera for annotation in annotations]
    image_from_model = np.stack([camera.image_from_model for camera in cameras])
    in_image = of_each @ image_from_model[:, :, :3].swapaxes(-1, -2) + image_from_model[:, None, :, 3]
    poses, yaws = _poses(cameras)
    known = -1
    for place, number in enumerate(products.numbers):
        if number != known:
            known, vertices = number, products.vertices(number)
            read = (readback @ vertices).astype(np.float64)
        yield PlacedFace(
            vertices, of_distinct[number], read, image_from_model[place], in_image[place], poses[place], yaws[place]
        )


def _poses(cameras: Sequence[ScaledOrthographicCamera]) -> tuple[Float[np.ndarray, "n 7"], list[float]]:
    """The cameras' poses, all at once, and their yaws."""
    rotations = np.stack([camera.rotation for camera in cameras])
    translations = np.stack([camera.translation_px for camera in cameras])
    scales = np.array([camera.scale for camera in cameras])
    poses = np.column_stack([*euler_from_rotation(rotations), translations, scales])
    return poses, yaw_from_rotation(rotations).tolist()

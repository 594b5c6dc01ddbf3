"""The cameras that show a face at a place and size in the picture: what a draw of both is made into."""

import numpy as np
from jaxtyping import Float

from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera


def _box(points_px: Float[np.ndarray, "68 3"]) -> tuple[Float[np.ndarray, "2"], float]:
    """The middle and the longer side of the landmarks' box."""
    low, high = points_px[:, :2].min(axis=0), points_px[:, :2].max(axis=0)
    return (low + high) / 2, float((high - low).max())


def orthographic_camera(
    landmarks: Float[np.ndarray, "68 3"],
    rotation: Float[np.ndarray, "3 3"],
    *,
    face_px: float,
    middle: Float[np.ndarray, "2"],
    depth_px: float,
) -> ScaledOrthographicCamera:
    """The one under which the landmarks' box is `face_px` large, its middle at `middle`, the origin at `depth_px`."""
    _, extent_mm = _box(ScaledOrthographicCamera(1.0, rotation, np.zeros(3)).project(landmarks))
    scale = face_px / extent_mm
    at_origin, _ = _box(ScaledOrthographicCamera(scale, rotation, np.zeros(3)).project(landmarks))
    return ScaledOrthographicCamera(scale, rotation, np.array([*(middle - at_origin), depth_px]))


def perspective_camera(
    landmarks: Float[np.ndarray, "68 3"],
    rotation: Float[np.ndarray, "3 3"],
    *,
    face_px: float,
    middle: Float[np.ndarray, "2"],
    distance_mm: float,
    side_px: int,
) -> PerspectiveCamera:
    """The lens at a distance from the model's origin, of the focal length that shows the face as large as asked for."""
    centre = np.full(2, (side_px - 1) / 2)
    focal, place_mm = face_px / 140 * distance_mm, np.zeros(2)
    for _ in range(8):  # size and place depend a little on each other; each round leaves a tenth of the error or less
        camera = PerspectiveCamera(focal, centre, rotation, np.array([*place_mm, -distance_mm]))
        found, extent = _box(camera.project(landmarks))
        place_mm = place_mm + (middle - found) * (1, -1) / camera.scale
        focal *= face_px / extent
    return PerspectiveCamera(focal, centre, rotation, np.array([*place_mm, -distance_mm]))

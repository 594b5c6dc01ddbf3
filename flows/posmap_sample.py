"""A sample of position maps: as it is read, and as it is made, before it is encoded."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from geometry.morphable_model import Coefficients
from storage.annotations import Annotation


@dataclass(frozen=True, slots=True)
class Picture:
    """One photograph as its file's bytes (decoded when its turn comes), and its annotation."""

    source_id: str
    image_bytes: bytes
    annotation: Annotation


@dataclass(frozen=True, slots=True)
class PosmapSample:
    """One sample before it is encoded. Frames: crop pixels; `pose` is (pitch, yaw, roll, t_x, t_y, t_z, scale) of the camera."""

    source_id: str
    copy_index: int
    seed: int
    image: UInt8[np.ndarray, "s s 3"]
    position_map: Float32[np.ndarray, "s s 3"] | None  # None: parametric
    landmarks_px: Float32[np.ndarray, "68 3"]
    coefficients: Coefficients
    pose: Float64[np.ndarray, "7"]
    crop_from_image: Float64[np.ndarray, "3 3"]
    crop_from_model: Float64[np.ndarray, "3 4"]
    z_offset_px: float
    landmark_residual_px: float  # NaN where the file gives no landmarks of its own
    readback_error_px: Float64[np.ndarray, "68"]  # landmarks read from the map, against the landmarks
    yaw: float
    photograph: bytes | None = None  # the source's file, where it is stored in the image's place
    mirrored: bool = False
    vertices_px: Float32[np.ndarray, "v 3"] | None = None  # for other families of targets; None: there are none
    others: Mapping[str, object] = field(default_factory=dict)  # their targets, as they are stored

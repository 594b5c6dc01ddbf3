"""A sample of a whole photograph: as it is read, and as it is made, before it is encoded."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from storage.annotations import Annotation


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph as its file's bytes (decoded when its turn comes), its faces, and boxes of all that were detected."""

    source_id: str
    image_bytes: bytes
    faces: tuple[Annotation, ...]
    boxes_px: Float64[np.ndarray, "b 4"]


@dataclass(frozen=True, slots=True)
class PhotographSample:
    """One sample before it is encoded, in pixels of the scaled photograph; arrays of faces are padded already."""

    source_id: str
    stored: Mapping[str, object]
    landmark_residuals_px: tuple[float, ...]  # of each face, in pixels of the file's photograph
    yaws: tuple[float, ...]
    face_share: float  # of the pixels
    ignored_share: float

"""The crop: from the landmarks' box to the square picture that a network sees.

Box and jitter as in PRNet (Feng et al. 2018, sec. 3.3) and its published recipe: the box of the 68 projected landmarks,
side 1.5 × the mean of its width and height; jitter of ±10 % of that mean per axis and a scale in [0.9, 1.1].
"""

import hashlib

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from pydantic import BaseModel, Field

from geometry.frames import Similarity2D


class CropConfig(BaseModel, frozen=True, extra="forbid"):
    """How faces are cut out."""

    size_px: int = Field(256, ge=16, le=1024, description="Side of the crop and of its position map.")
    margin: float = Field(
        1.5, gt=0, description="Side of the box over the mean of the landmark box's width and height."
    )
    jitter_translation: float = Field(
        0.1, ge=0, description="Shift of copies 1, 2, … per axis, over that mean: ± this much."
    )
    jitter_scale: float = Field(0.1, ge=0, lt=1, description="Box of copies 1, 2, … is 1 ± this much as large.")


def sample_seed(seed: int, source_id: str, copy_index: int) -> int:
    """63 bits that depend on nothing but the build's seed, the source and the copy: any sample can be redrawn alone."""
    digest = hashlib.sha256(f"{seed}\n{copy_index}\n{source_id}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def crop_from_landmarks(
    landmarks_px: Float[np.ndarray, "68 d"], config: CropConfig, *, rng: np.random.Generator | None = None
) -> Similarity2D:
    """The similarity that takes the landmarks' box to the crop: its corners go to 0 and S − 1, scale (S − 1)/side.

    With `rng` the box is jittered. Raises ValueError when the landmarks span no box.
    """
    points = landmarks_px[:, :2].astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    mean_side = float((high - low).mean())
    return _crop_from_box((low + high) / 2, mean_side * config.margin, mean_side, config, rng)


def crop_from_landmarks_face3d(
    landmarks_px: Float[np.ndarray, "68 d"], config: CropConfig, *, rng: np.random.Generator | None = None
) -> Similarity2D:
    """The crop of face3d's published recipe: landmarks cut to integers, the side of the box too."""
    whole = landmarks_px[:, :2].astype(np.int32)
    low, high = (whole.min(axis=0).astype(np.float64), whole.max(axis=0).astype(np.float64))
    mean_side = float((high - low).mean())
    return _crop_from_box((low + high) / 2, float(int(mean_side * config.margin)), mean_side, config, rng)


def _crop_from_box(
    centre: np.ndarray, side: float, mean_side: float, config: CropConfig, rng: np.random.Generator | None
) -> Similarity2D:
    if not (np.isfinite(side) and side >= 1):
        raise ValueError(f"the landmarks span a box of {side:.3g} px: no face can be cut out")
    if rng is not None:
        reach = config.jitter_translation * mean_side
        centre = centre + rng.uniform(-reach, reach, 2)
        side = side * rng.uniform(1 - config.jitter_scale, 1 + config.jitter_scale)
    scale = (config.size_px - 1) / side
    corner = centre - side / 2
    return Similarity2D.of(scale=scale, translation_px=(-scale * corner[0], -scale * corner[1]))


def warp_image(
    image: UInt8[np.ndarray, "h w c"], crop_from_image: Similarity2D, *, size_px: int
) -> UInt8[np.ndarray, "s s 3"]:
    """The crop of a picture, bilinear; what lies outside the picture is black. Its memory has the channels first.

    Of RGBA the fourth channel counts for nothing: OpenCV warps four channels in half the time of three.
    """
    from render.crop_kernel import first_three_bytes  # here, because boxes need no compiler

    with_fourth = image if image.shape[2] == 4 else cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    warped = cv2.warpAffine(
        with_fourth,
        crop_from_image.matrix[:2],
        (size_px, size_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    planes = np.empty((3, size_px, size_px), dtype=np.uint8)
    first_three_bytes(warped.reshape(-1).view("<u4"), planes.reshape(3, -1))
    return planes.transpose(1, 2, 0)

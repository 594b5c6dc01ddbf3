"""The boxes and crops of each paper, as similarities ``crop_from_image``; PRNet's stands in :mod:`render.crop`.

DAN (Kowalski et al. 2017): 112 × 112 grey, the current landmarks brought onto a canonical mean shape.
3DFAW (Bulat and Tzimiropoulos 2016): 384 × 384 of the face's box, extended by 20 to 25 %.
DenseReg (Güler et al. 2017): photographs with a longest side of 800, crops of 321 at one of five scales.

Where a paper leaves it open, box corners go to the first and last pixel's centre (0 and S − 1), as for PRNet, and
resized photographs keep their borders (x' + ½ = scale · (x + ½)), as pixels have an area.
"""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from geometry.frames import Similarity2D, nearest_similarity
from render.windows import Window

DAN_SIZE_PX, DAN_MARGIN = 112, 0.25
DAN_TRANSLATION, DAN_ROTATION, DAN_SCALE = 0.2, np.deg2rad(20.0), 0.25
FAN3D_SIZE_PX, FAN3D_EXTENSION = 384, (0.20, 0.25)
DENSEREG_LONGEST_PX, DENSEREG_CROP_PX = 800, 321
DENSEREG_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)


def similarity_between(source: Float[np.ndarray, "p 2"], target: Float[np.ndarray, "p 2"]) -> Similarity2D:
    """The similarity, never mirrored, that brings `source` nearest to `target` (least squares over all points).

    Raises ValueError when either shape is a point, or they are mirror images that no turning brings together.
    """
    spreads = [float(((shape - shape.mean(axis=0)) ** 2).sum()) for shape in (source, target)]
    if np.isfinite(spreads).all() and min(spreads) > 0:
        linear, shift = nearest_similarity(source, target)
        if np.hypot(*linear[:, 0]) * np.sqrt(spreads[0]) > 1e-9 * np.sqrt(spreads[1]):
            return Similarity2D(np.vstack([np.column_stack([linear, shift]), [0.0, 0.0, 1.0]]))
    raise ValueError("no similarity brings these landmarks together: one of the shapes is a point, NaN or mirrored")


def canonical_shape(
    mean_landmarks: Float[np.ndarray, "p 2"], *, size_px: int = DAN_SIZE_PX, margin: float = DAN_MARGIN
) -> Float[np.ndarray, "p 2"]:
    """DAN's S₀: a mean shape (y down) in the crop, its longer side (1 − 2·margin) of it, its centroid in the middle.

    The middle is (S − 1)/2; the released code has S/2, half a pixel farther right and down.
    """
    longest = float((mean_landmarks.max(axis=0) - mean_landmarks.min(axis=0)).max())
    if not (np.isfinite(longest) and longest > 0):
        raise ValueError("a mean shape that is a point or has unknown landmarks is no canonical shape")
    scale = size_px * (1 - 2 * margin) / longest
    return (mean_landmarks - mean_landmarks.mean(axis=0)) * scale + (size_px - 1) / 2


def dan_crop(landmarks_px: Float[np.ndarray, "p 2"], canonical: Float[np.ndarray, "p 2"]) -> Similarity2D:
    """DAN's transform T: the similarity that brings the current landmarks onto the canonical shape (sec. 3.2)."""
    return similarity_between(landmarks_px, canonical)


def shape_in_box(mean_landmarks: Float[np.ndarray, "p 2"], box_px: Float[np.ndarray, "4"]) -> Float[np.ndarray, "p 2"]:
    """DAN's start: the mean shape in a detector's box (left, top, right, bottom), centred.

    As in the released code the scale is the mean of what width and height ask for.
    """
    low, high = mean_landmarks.min(axis=0), mean_landmarks.max(axis=0)
    sides = box_px[2:] - box_px[:2]
    if not (sides > 0).all():
        raise ValueError(f"the box {box_px.tolist()} has no area; boxes are (left, top, right, bottom)")
    scale = float((sides / (high - low)).mean())
    return (mean_landmarks - (low + high) / 2) * scale + (box_px[:2] + box_px[2:]) / 2


def perturbed_shape(shape_px: Float[np.ndarray, "p 2"], *, rng: np.random.Generator) -> Float[np.ndarray, "p 2"]:
    """One of DAN's disturbed starts: shifted (σ 0.2 of the shape's box), turned (σ 20°) and scaled (1 ± σ 0.25).

    Normal draws about the centroid. The released code takes the box of the canonical shape, 56 px, whatever the face's
    size in its photograph. A scale below 0.25 (three σ) is drawn again: a shape must not vanish or turn over.
    """
    shift = rng.normal(0, DAN_TRANSLATION, 2) * (shape_px.max(axis=0) - shape_px.min(axis=0))
    angle = rng.normal(0, DAN_ROTATION)
    while (scale := rng.normal(1, DAN_SCALE)) < 1 - 3 * DAN_SCALE:
        pass
    centre = shape_px.mean(axis=0)
    return Similarity2D.of(scale=scale, angle=angle).apply(shape_px - centre) + centre + shift


def grey_crop(
    image: UInt8[np.ndarray, "h w 3"], crop_from_image: Similarity2D, *, size_px: int = DAN_SIZE_PX
) -> UInt8[np.ndarray, "s s"]:
    """The crop in grey, the mean of the three channels as in DAN's code, bilinear; outside the photograph is black."""
    grey = np.rint(image.mean(axis=-1)).astype(np.uint8)
    return cv2.warpAffine(grey, crop_from_image.matrix[:2], (size_px, size_px), flags=cv2.INTER_LINEAR)


def fan3d_crop(
    box_px: Float[np.ndarray, "4"], *, size_px: int = FAN3D_SIZE_PX, rng: np.random.Generator | None = None
) -> Similarity2D:
    """3DFAW's crop: the square about the box (left, top, right, bottom), its side the longer one extended by 22.5 %.

    With `rng` the extension is drawn from the paper's 20 to 25 %, so half of it lies on either side.
    """
    sides = box_px[2:] - box_px[:2]
    if not (np.isfinite(box_px).all() and (sides > 0).all()):
        raise ValueError(f"the box {box_px.tolist()} has no area; boxes are (left, top, right, bottom)")
    extension = float(np.mean(FAN3D_EXTENSION)) if rng is None else rng.uniform(*FAN3D_EXTENSION)
    side = float(sides.max()) * (1 + extension)
    scale = (size_px - 1) / side
    left, top = ((box_px[:2] + box_px[2:] - side) / 2).tolist()
    return Similarity2D.of(scale=scale, translation_px=(-scale * left, -scale * top))


def densereg_photograph(size_hw: tuple[int, int], *, longest_px: int = DENSEREG_LONGEST_PX) -> Window:
    """DenseReg's sample: the whole photograph, its longest side brought to 800 px, smaller ones enlarged too.

    Both sides are scaled alike and the shorter one is rounded to whole pixels, so up to half a pixel at its end is cut
    off or lies outside.
    """
    if min(size_hw) < 1:
        raise ValueError(f"a photograph of {size_hw[0]} × {size_hw[1]} pixels is empty")
    scale = longest_px / max(size_hw)
    height, width = (max(round(scale * side), 1) for side in size_hw)
    shift = (scale - 1) / 2
    return Window(Similarity2D.of(scale=scale, translation_px=(shift, shift)), (height, width))


def densereg_crop(
    size_hw: tuple[int, int],
    *,
    rng: np.random.Generator,
    crop_px: int = DENSEREG_CROP_PX,
    scales: tuple[float, ...] = DENSEREG_SCALES,
) -> Window:
    """A training crop: one of the scales, then a square of 321 px anywhere in the scaled photograph.

    Along an axis where the scaled photograph is shorter than the crop, it lies whole somewhere inside it. The square's
    corner is a whole pixel of the scaled photograph.
    """
    scale = float(rng.choice(scales))
    corner = []
    for side in size_hw:
        spare = max(round(scale * side), 1) - crop_px
        corner.append(int(rng.integers(min(spare, 0), max(spare, 0) + 1)))
    shift = (scale - 1) / 2
    placed = Similarity2D.of(scale=scale, translation_px=(shift - corner[1], shift - corner[0]))
    return Window(placed, (crop_px, crop_px))

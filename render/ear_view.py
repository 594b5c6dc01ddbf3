"""Pictures of ear fields for people: the curves of the landmarks, a chequered (u, v), and the parts. u8 RGB throughout."""

from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from geometry.ear import EAR_CURVES
from render.ear_field import EAR_PARTS

Picture = UInt8[np.ndarray, "_ _ 3"]

PANELS = ("image", "landmarks", "u and v", "parts")

_CURVE_COLORS = ((90, 220, 90), (255, 170, 40), (70, 150, 255), (255, 100, 200))
_SUBPIXEL_BITS = 4
_SQUARES = 16  # of the chequers across [0, 1]


def draw_curves(picture: Picture, landmarks_px: Float[np.ndarray, "55 2"], *, enlarge: float | int = 1) -> Picture:
    """The landmarks of each curve joined in its colour; unknown ones (NaN) are passed by."""
    height, width = picture.shape[:2]
    drawn_wh = (max(round(width * enlarge), 1), max(round(height * enlarge), 1))
    canvas = cv2.resize(picture, drawn_wh, interpolation=cv2.INTER_LINEAR if enlarge >= 1 else cv2.INTER_AREA)
    # Pixel x reaches from x − ½ to x + ½, before and after: its centre goes to (x + ½)·factor − ½.
    centres = (landmarks_px + 0.5) * np.divide(drawn_wh, (width, height)) - 0.5
    radius = round(max(max(drawn_wh) / 200, 1.0) * 2**_SUBPIXEL_BITS)
    for curve, color in zip(EAR_CURVES.values(), _CURVE_COLORS, strict=True):
        known = centres[curve][np.isfinite(centres[curve]).all(axis=1)]
        fixed = np.rint(np.clip(known, -1e6, 1e6) * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.polylines(canvas, [fixed], isClosed=False, color=color, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
        for point in fixed:
            cv2.circle(canvas, point.tolist(), radius, color, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas


def chequered(uv: Float[np.ndarray, "h w 2"], is_ear: Bool[np.ndarray, "h w"]) -> Picture:
    """u as red and v as green, every other square of a sixteenth of the template darker; black where nothing is."""
    odd = np.floor(np.minimum(uv, 1 - 1e-6) * _SQUARES).sum(axis=-1) % 2
    colors = np.concatenate([uv, np.full((*odd.shape, 1), 0.35, dtype=uv.dtype)], axis=-1)
    return np.rint(colors * (255 - 80 * odd)[..., None] * is_ear[..., None]).astype(np.uint8)


def colored_parts(part: UInt8[np.ndarray, "h w"]) -> Picture:
    """Each part in a colour of its own; black where there is none."""
    hues = np.zeros((1, len(EAR_PARTS) + 1, 3), dtype=np.uint8)
    hues[0, 1:] = [[180 * k // len(EAR_PARTS), 150, 255 - 60 * (k % 2)] for k in range(len(EAR_PARTS))]
    return cv2.cvtColor(hues, cv2.COLOR_HSV2RGB)[0][part]


def ear_panels(sample: Mapping[str, np.ndarray], *, side: int) -> list[Picture]:
    """One picture for each of :data:`PANELS`, `side` × `side`, from a stored sample."""
    image, is_ear = sample["image"], sample["label"] == 1
    enlarge = side / len(image)
    smooth = cv2.INTER_AREA if enlarge < 1 else cv2.INTER_LINEAR

    def over(colors: Picture) -> Picture:
        mixed = np.where(is_ear[..., None], np.rint(0.3 * image + 0.7 * colors), image).astype(np.uint8)
        return cv2.resize(mixed, (side, side), interpolation=smooth)

    return [
        cv2.resize(image, (side, side), interpolation=smooth),
        draw_curves(image, sample["landmarks_px"].astype(np.float64), enlarge=enlarge),
        over(chequered(sample["uv"], is_ear)),
        over(colored_parts(sample["part"])),
    ]

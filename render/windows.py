"""Windows on a photograph: pictures, fields and labels cut through one similarity, of any size.

For the square crops of position maps see :func:`render.crop.warp_image`, for what torch has to repeat to the bit
:mod:`render.warp`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

from geometry.frames import Similarity2D
from render.correspondence import CorrespondenceField
from render.quantization import IGNORE


@dataclass(frozen=True, slots=True)
class Window:
    """A picture to be made from another: where its pixels come from, and how many rows and columns there are."""

    crop_from_image: Similarity2D
    size_hw: tuple[int, int]


def cut_picture(image: UInt8[np.ndarray, "h w 3"], window: Window) -> UInt8[np.ndarray, "a b 3"]:
    """The picture in a window, bilinear, after smoothing what shrinks; outside the photograph is black."""
    scale = window.crop_from_image.scale
    if scale < 1:  # pixels of the window cover several of the photograph: without this, fine patterns turn into others
        sigma = 0.5 * np.sqrt(1 / scale**2 - 1)
        image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    height, width = window.size_hw
    return cv2.warpAffine(image, window.crop_from_image.matrix[:2], (width, height), flags=cv2.INTER_LINEAR)


def cut_field(field: CorrespondenceField, window: Window) -> CorrespondenceField:
    """The field in a window: each pixel takes the nearest one's values whole, and outside the photograph is IGNORE.

    Coordinates are never mixed: half-way between a face and the background, or between two faces, lies neither.
    `depth_range_px` is scaled with the picture.
    """
    places = _nearest_pixels(field.label.shape, window)

    def taken(values: Shaped[np.ndarray, "h w *c"], outside: int) -> Shaped[np.ndarray, "a b *c"]:
        return _taken(values, places, outside)

    return CorrespondenceField(
        uv=taken(field.uv, 0),
        depth=taken(field.depth, 0),
        part=taken(field.part, 0),
        label=taken(field.label, IGNORE),
        face_index=taken(field.face_index, -1),
        depth_range_px=field.depth_range_px * np.float32(window.crop_from_image.scale),
    )


def cut_labels(labels: Shaped[np.ndarray, "h w *c"], window: Window, *, outside: int) -> Shaped[np.ndarray, "a b *c"]:
    """Labels in a window, each the nearest pixel's; `outside` is what there is beyond the photograph."""
    return _taken(labels, _nearest_pixels(labels.shape, window), outside)


def _nearest_pixels(shape: tuple[int, ...], window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel of a window the row and column it comes from, and whether that is inside the photograph."""
    height, width = window.size_hw
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    places = window.crop_from_image.inverse.apply(np.stack([columns, rows], axis=-1))
    x, y = np.moveaxis(np.floor(places + 0.5).astype(np.int64), -1, 0)
    inside = (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
    return np.where(inside, y, 0), np.where(inside, x, 0), inside


def _taken(values: np.ndarray, places: tuple[np.ndarray, np.ndarray, np.ndarray], outside: int) -> np.ndarray:
    rows, columns, inside = places
    result = values[rows, columns]
    result[~inside] = outside
    return result

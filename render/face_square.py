"""The square of a photograph around a face, brought to the size of 300W-LP's pictures.

300W-LP cuts a square around the face and resizes it to 450 × 450; `roi` records it. Here the square has whole pixels,
so that `roi` says all of it, and may reach outside the photograph, where the picture is black.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from geometry.frames import Similarity2D

_FARTHEST_PX = 32_000  # `roi` is stored in 16 bits


@dataclass(frozen=True, slots=True)
class FaceSquare:
    """The pixels [left, left + side) × [top, top + side) of a photograph, and the side of the picture made of them.

    A side of more than `size_px` is a multiple of :attr:`block`.
    """

    left: int
    top: int
    side: int
    size_px: int

    def __post_init__(self) -> None:
        """Refuse squares that cannot be stored or cut."""
        if self.side < 1 or self.size_px < 1 or self.side % self.block:
            raise ValueError(f"a square of {self.side} pixels cannot be cut into {self.size_px} × {self.size_px}")
        if min(self.left, self.top) < -_FARTHEST_PX or max(self.left, self.top) + self.side > _FARTHEST_PX:
            raise ValueError(f"the square at ({self.left}, {self.top}) of {self.side} px is no part of a photograph")

    @property
    def block(self) -> int:
        """How many photograph pixels a side are averaged first, so that a large square takes little memory."""
        return max(1, self.side // self.size_px)

    @property
    def roi(self) -> Int[np.ndarray, "4"]:
        """[left, top, right, bottom] as 300W-LP stores it: inclusive, counted from one."""
        return np.array([self.left + 1, self.top + 1, self.left + self.side, self.top + self.side], dtype=np.int64)

    @property
    def picture_from_photograph(self) -> Similarity2D:
        """From the photograph's pixels to the picture's: x' + ½ = scale · (x − left + ½), since pixels have an area."""
        scale = self.size_px / self.side
        shift = (scale * (0.5 - self.left) - 0.5, scale * (0.5 - self.top) - 0.5)
        return Similarity2D.of(scale=scale, translation_px=shift)


def square_around(landmarks_px: Float[np.ndarray, "p d"], *, margin: float, size_px: int) -> FaceSquare:
    """The square about the box of the points, its side `margin` times the box's longer one.

    Raises ValueError when the points span no box, or one that is no part of a photograph.
    """
    low, high = landmarks_px[:, :2].min(axis=0), landmarks_px[:, :2].max(axis=0)
    longest = float((high - low).max())
    if not (np.isfinite(longest) and longest >= 1):
        raise ValueError(f"the landmarks span a box of {longest:.3g} px: no face can be cut out")
    if longest * margin > 2 * _FARTHEST_PX or np.abs([low, high]).max() > 2 * _FARTHEST_PX:
        raise ValueError(f"the landmarks span a box of {longest:.0f} px far from any photograph")
    side = max(round(margin * longest), 1)
    side -= side % max(1, side // size_px)
    left, top = (round(float(centre) - (side - 1) / 2) for centre in (low + high) / 2)
    return FaceSquare(left, top, side, size_px)


def cut_square(photograph: UInt8[np.ndarray, "h w 3"], square: FaceSquare) -> UInt8[np.ndarray, "s s 3"]:
    """The picture: shrunk by averaging, enlarged by cubic interpolation; what lies outside the photograph is black."""
    block = square.block
    n = square.side // block
    height, width = photograph.shape[:2]
    # The blocks that the photograph reaches into, and their pixels.
    columns = max(0, -square.left // block), min(n, -((square.left - width) // block))
    rows = max(0, -square.top // block), min(n, -((square.top - height) // block))
    canvas = np.zeros((n, n, 3), dtype=np.uint8)
    if columns[0] < columns[1] and rows[0] < rows[1]:
        left, right = (square.left + column * block for column in columns)
        top, bottom = (square.top + row * block for row in rows)
        inside = photograph[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
        whole = cv2.copyMakeBorder(
            inside,
            max(-top, 0),
            max(bottom - height, 0),
            max(-left, 0),
            max(right - width, 0),
            cv2.BORDER_CONSTANT,
            value=(0, 0, 0),
        )
        size = (columns[1] - columns[0], rows[1] - rows[0])
        canvas[slice(*rows), slice(*columns)] = (
            whole if block == 1 else cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
        )
    if n == square.size_px:
        return canvas
    smooth = cv2.INTER_AREA if n > square.size_px else cv2.INTER_CUBIC
    return cv2.resize(canvas, (square.size_px, square.size_px), interpolation=smooth)

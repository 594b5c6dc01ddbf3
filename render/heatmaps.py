"""Landmarks as pictures: what DAN is given to look at, and what 3DFAW's networks learn to paint.

All places are pixels of the crop, integers at pixel centres, and none is rounded. A landmark that is NaN is unknown:
DAN's heatmap goes on without it, its own map is empty.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32

DAN_RADIUS_PX = 16.0
DAN_WINDOW_HALF = 8  # the released code's window: 17 × 17
_DAN_SQUARE_SLACK = 1e-6  # under the released code's root, so that its gradient is finite

FAN3D_RADIUS_PX, FAN3D_FACE_PX = 7.0, 220.0
FAN3D_SIGMA_PX = 6.0


def distance_heatmap(
    landmarks_px: Float[np.ndarray, "p 2"], *, size_hw: tuple[int, int], compat: Literal["dan"] | None = None
) -> Float32[np.ndarray, "h w"]:
    """DAN's heatmap: 1 / (1 + distance to the nearest landmark) within 16 px of one, 0 elsewhere (eq. 3).

    With ``compat="dan"`` as in the released code: a window of 17 × 17 about each landmark's integer part in place of
    the circle, landmarks moved inside so that the window fits, and 1e-6 added under the root.
    Raises ValueError for a picture that is smaller than that window.
    """
    known = landmarks_px[np.isfinite(landmarks_px).all(axis=1)].astype(np.float64)
    heat = np.zeros(size_hw, dtype=np.float32)
    if compat == "dan":
        if min(size_hw) <= 2 * DAN_WINDOW_HALF:
            raise ValueError(f"a picture of {size_hw[0]} × {size_hw[1]} pixels cannot hold a window of 17 × 17")
        known = np.clip(known, DAN_WINDOW_HALF, np.array(size_hw[::-1]) - 1 - DAN_WINDOW_HALF)
    reach = DAN_WINDOW_HALF if compat == "dan" else int(DAN_RADIUS_PX) + 1
    for x, y in known.tolist():
        left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
        right, bottom = min(int(x) + reach + 1, size_hw[1]), min(int(y) + reach + 1, size_hw[0])
        if left >= right or top >= bottom:
            continue
        squared = (np.arange(left, right) - x) ** 2 + (np.arange(top, bottom)[:, None] - y) ** 2
        if compat == "dan":
            values = 1 / (1 + np.sqrt(squared + _DAN_SQUARE_SLACK))
        else:
            values = np.where(squared <= DAN_RADIUS_PX**2, 1 / (1 + np.sqrt(squared)), 0)
        window = heat[top:bottom, left:right]
        np.maximum(window, values, out=window, casting="same_kind")
    return heat


def disc_radius(face_height_px: float) -> float:
    """3DFAW's radius of a part, 7 px for a face whose box is 220 px high, scaled with the face (sec. 2.1)."""
    if not (np.isfinite(face_height_px) and face_height_px > 0):
        raise ValueError(f"a face {face_height_px} px high has no parts")
    return FAN3D_RADIUS_PX * face_height_px / FAN3D_FACE_PX


def part_discs(
    landmarks_px: Float[np.ndarray, "p 2"], *, size_hw: tuple[int, int], radius_px: float
) -> Bool[np.ndarray, "p h w"]:
    """For each landmark the pixels within `radius_px` of it (border included): 3DFAW's binary maps."""
    squared_x, squared_y = _squared_offsets(landmarks_px, size_hw)
    return squared_y[:, :, None] + squared_x[:, None, :] <= radius_px**2  # NaN compares false


def gaussian_heatmaps(
    landmarks_px: Float[np.ndarray, "p 2"], *, size_hw: tuple[int, int], sigma_px: float = FAN3D_SIGMA_PX
) -> Float32[np.ndarray, "p h w"]:
    """For each landmark exp(−d²/2σ²): 1 on the landmark itself, never cut off (3DFAW, sec. 2.2: σ = 6)."""
    if not sigma_px > 0:
        raise ValueError(f"a Gaussian of σ = {sigma_px} px cannot be drawn")
    known = np.isfinite(landmarks_px).all(axis=1)
    squares = _squared_offsets(np.where(known[:, None], landmarks_px, np.inf), size_hw)
    along_x, along_y = (np.exp(-square / (2 * sigma_px**2)).astype(np.float32) for square in squares)
    return along_y[:, :, None] * along_x[:, None, :]


def z_targets(landmarks_px: Float[np.ndarray, "p 3"]) -> Float32[np.ndarray, " p"]:
    """z of each landmark in the crop's pixels, less their mean: orthographic pictures tell no absolute depth.

    Give landmarks that the crop's similarity moved, so that z is scaled with x and y; unknown ones stay NaN.
    """
    z = landmarks_px[:, 2]
    known = np.isfinite(z)
    if not known.any():
        return np.full(len(z), np.nan, dtype=np.float32)
    return (z - z[known].mean()).astype(np.float32)


def _squared_offsets(
    landmarks_px: Float[np.ndarray, "p 2"], size_hw: tuple[int, int]
) -> tuple[Float[np.ndarray, "p w"], Float[np.ndarray, "p h"]]:
    x, y = landmarks_px.astype(np.float64).T
    return (np.arange(size_hw[1]) - x[:, None]) ** 2, (np.arange(size_hw[0]) - y[:, None]) ** 2

"""Panels of targets that this project did not declare (the families of other packages): pictures where they look like ones."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Shaped

from render.preview import Picture, color_values, in_square

_LEAST_SIDE = 16
"""Smaller arrays are numbers to be read, such as matrices."""
_LINE_PX, _LETTERS, _LONGEST = 20, 46, 4

OWN_TARGETS = frozenset(
    {
        "augmentation", "augmented_from_crop", "copy_index", "covered", "crop_from_image", "crop_from_model", "dan_heatmap",
        "depth", "depth_range_px", "expression", "face_box_px", "face_index", "fitted_px", "identity", "image", "label",
        "landmark_discs", "landmark_heatmaps", "landmark_origin", "landmark_residual_px", "landmark_visible", "landmark_z",
        "landmarks_px", "mask", "mirrored", "model_landmarks_px", "n_faces", "occluded", "part", "photograph",
        "photograph_hw", "picture_from_model", "picture_from_photograph", "pose", "pose_stddev", "position_map",
        "residual_px", "residual_uv", "result", "roi", "seed", "side", "size_hw", "smallest_determinant", "smoothing",
        "source_id", "surface_stddev_mm", "uv", "vertex_visible", "z_offset_px",
    }
)  # fmt: skip
"""The targets that other functions draw, or that say nothing to the eye."""


def other_panels(sample: Mapping[str, Any], *, side: int) -> dict[str, Picture]:
    """A panel for each array (h w) or (h w 3) among the others, and one that lists the rest."""
    panels, rest = {}, []
    for name, value in sample.items():
        if name in OWN_TARGETS:
            continue
        array = np.asarray(value)
        if is_picture(array):
            panels[name] = in_square(colored(array), side)
        else:
            rest.append(f"{name}: {shown(array)}")
    return panels | ({"others": written(rest, side)} if rest else {})


def is_picture(array: Shaped[np.ndarray, "..."]) -> bool:
    """Whether an array is one value, or three, for each pixel of something that can be seen."""
    flat = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    return flat and min(array.shape[:2]) >= _LEAST_SIDE and array.dtype.kind in "buif"


def colored(array: Shaped[np.ndarray, "h w *three"]) -> Picture:
    """Three bytes a pixel as they are; other numbers from the least to the greatest, what is not finite black."""
    if array.ndim == 3 and array.dtype == np.uint8:
        return array
    values = array.astype(np.float64)
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    levels = np.where(finite, values - low, 0) / (high - low if high > low else 1.0)
    if array.ndim == 3:
        return np.rint(255 * levels).astype(np.uint8)
    return np.where(finite[..., None], color_values(levels.astype(np.float32)), 0).astype(np.uint8)


def shown(array: Shaped[np.ndarray, "..."]) -> str:
    """A short array in full, of a longer one its kind, its shape and its first numbers."""
    values = [f"{value:.4g}" if array.dtype.kind == "f" else str(value) for value in array.ravel()[:_LONGEST].tolist()]
    if array.ndim == 0:
        return values[0]
    if array.size <= _LONGEST:
        return f"[{', '.join(values)}]"
    return f"{array.dtype} {' x '.join(map(str, array.shape))} [{', '.join(values)}, ...]"


def written(lines: Iterable[str], side: int) -> Picture:
    """Lines as a picture, cut where they do not fit."""
    panel = np.full((side, side, 3), 30, dtype=np.uint8)
    for number, line in enumerate(_broken(lines)):
        place = (6, _LINE_PX * (number + 1))
        cv2.putText(panel, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return panel


def _broken(lines: Iterable[str]) -> Sequence[str]:
    return [line[start : start + _LETTERS] for line in lines for start in range(0, len(line), _LETTERS)]

"""Crops and scales of whole photographs, drawn when they are read (DenseReg, sec. 4.1: five scales, 321² px).

A sample of a photographs' data set holds the whole picture once; every epoch sees other parts of it. The similarity of
a crop is part of what comes back, so nothing that was applied is lost. Pictures are interpolated after smoothing, fields
take the nearest pixel's values whole: a coordinate half-way between two places of a silhouette is nowhere. A nearest
pixel lies at most half a stored pixel away, so u and v are those of a place up to √½ px off, and as exact as ever at
scale 1, where pixels fall on pixels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from render.correspondence import CorrespondenceField
from render.paper_crops import densereg_crop
from render.windows import Window, cut_field, cut_labels, cut_picture

Sample = Mapping[str, Any]


def field_of_sample(sample: Sample) -> CorrespondenceField:
    """The field of a stored sample, without its padding; a crop's sample has one face."""
    rows, columns = _inside(sample)
    label = sample["label"][rows, columns]
    single = "face_index" not in sample
    index = np.where(label == 1, 0, -1).astype(np.int16) if single else sample["face_index"][rows, columns]
    return CorrespondenceField(
        uv=sample["uv"][rows, columns],
        depth=sample["depth"][rows, columns],
        part=sample["part"][rows, columns] if "part" in sample else np.zeros(label.shape, np.uint8),
        label=label,
        face_index=index,
        depth_range_px=sample["depth_range_px"].reshape(-1, 2),
    )


def draw_crop(sample: Sample, *, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One of DenseReg's training crops: a scale and a square of 321 px anywhere in the scaled photograph."""
    rows, columns = _inside(sample)
    return crop_of_sample(sample, densereg_crop((rows.stop, columns.stop), rng=rng))


def crop_of_sample(sample: Sample, window: Window) -> dict[str, np.ndarray]:
    """What a window shows of a sample: `image`, `uv`, `depth`, `label`, `part`, `face_index`, the `mask` if any.

    `landmarks_px` are moved along, and `crop_from_picture` (3 3) is the similarity that was applied. Outside the
    photograph the label is 255, ignore, and the picture black.
    """
    rows, columns = _inside(sample)
    field = cut_field(field_of_sample(sample), window)
    crop = {
        "image": cut_picture(np.ascontiguousarray(sample["image"][rows, columns]), window),
        "uv": field.uv,
        "depth": field.depth,
        "label": field.label,
        "part": field.part,
        "face_index": field.face_index,
        "depth_range_px": field.depth_range_px,
        "landmarks_px": window.crop_from_image.apply(sample["landmarks_px"].astype(np.float64)).astype(np.float32),
        "crop_from_picture": window.crop_from_image.matrix,
    }
    if "mask" in sample:
        crop["mask"] = cut_labels(sample["mask"][rows, columns], window, outside=0)
    return crop


def _inside(sample: Sample) -> tuple[slice, slice]:
    """The rows and columns of the photograph itself."""
    height, width = (int(n) for n in sample.get("size_hw", sample["label"].shape))
    return slice(0, height), slice(0, width)

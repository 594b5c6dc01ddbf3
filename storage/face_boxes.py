"""Boxes of the faces that a detector saw in a photograph: ``NAME.faces.json`` or ``NAME.faces.csv`` beside it.

JSON: ``{"boxes": [[left, top, right, bottom], …]}``. CSV: a header ``left,top,right,bottom`` and a line for each box.
Numbers are pixels of the photograph as its file stores it, integers at pixel centres, first pixel (0, 0).
"""

import csv
import io
import json
from typing import Any

import numpy as np
from jaxtyping import Float64

from storage.bad_sample import BadSample

COLUMNS = ("left", "top", "right", "bottom")
_MOST_BOXES = 1000
_FARTHEST_PX = 1e6


def parse_face_boxes(content: bytes, *, name: str) -> Float64[np.ndarray, "b 4"]:
    """The boxes of a file named `name`. Raises BadSample for one that says something else."""
    try:
        text = content.decode("utf-8-sig")
        rows = _of_csv(text) if name.lower().endswith(".csv") else _of_json(text)
        boxes = np.array([[float(value) for value in row] for row in rows], dtype=np.float64).reshape(len(rows), 4)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, csv.Error) as error:
        raise BadSample(
            "boxes.format",
            f"the boxes are no list of (left, top, right, bottom) ({type(error).__name__}); write them as "
            '{"boxes": [[left, top, right, bottom]]}, or as CSV with these names above',
        ) from None
    if len(boxes) > _MOST_BOXES:
        raise BadSample("boxes.range", f"{len(boxes)} boxes of faces; at most {_MOST_BOXES} are read")
    if not (np.abs(boxes) <= _FARTHEST_PX).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise BadSample(
            "boxes.range", "a box's right or bottom lies before its left or top, or far outside any photograph"
        )
    return boxes


def _of_json(text: str) -> list[Any]:
    content = json.loads(text)
    rows = content["boxes"]
    if not isinstance(rows, list):
        raise TypeError("boxes is no list")
    return rows


def _of_csv(text: str) -> list[list[str]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    return [[row[column] for column in COLUMNS] for row in reader]

"""Where a face is before anything has looked for it: boxes from a file, or by a rule that has a name.

A result means little without it: a network that starts from the true box starts from a part of the answer. Each source of
boxes has a sentence, which is printed with every figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from storage.bad_sample import BadSample
from storage.evaluation_sets import EvaluationFace
from storage.images import MAX_IMAGE_FILE_BYTES, stored_size
from storage.landmark_tables import read_table_rows
from storage.regular_files import read_regular_file

Rule = Literal["truth", "table", "centre-46", "whole"]
COLUMNS = ("left", "top", "right", "bottom")

RULES: Mapping[Rule, str] = {
    "truth": "tight boxes of the true points",
    "table": "the boxes that the table gives",
    "centre-46": "a square in the middle of the picture, 46 % of its height a side (Kowalski et al. 2017, section 4.2)",
    "whole": "the whole picture, whose face is taken to fill it",
}
"""What each rule says of itself beside a result."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """A box for each face, (left, top, right, bottom) in pixels of its picture, None where there is none."""

    source: str
    boxes_px: tuple[Float[np.ndarray, "4"] | None, ...]


def boxes_by_rule(faces: Sequence[EvaluationFace], rule: Rule) -> Boxes:
    """A box for every face by a named rule; None where the rule gives none."""
    return Boxes(RULES[rule], tuple(_box(face, rule) for face in faces))


def boxes_of_file(faces: Sequence[EvaluationFace], path: str | Path) -> Boxes:
    """Boxes from a table (:func:`read_boxes`). Raises ValueError for one that has none of the faces."""
    found = read_boxes(path)
    given = [found.get(face.source_id) or found.get(face.source_id.rpartition("/")[2]) for face in faces]
    boxes = tuple(None if box is None else box[0] for box in given)
    if all(box is None for box in boxes):
        raise ValueError(
            f"{path} has boxes of {len(found)} pictures and none of {faces[0].source_id!r} or the others: paths count from the "
            "folder of the pictures"
        )
    return Boxes(f"the file {Path(path).name}", boxes)


def read_boxes(path: str | Path) -> dict[str, list[Float[np.ndarray, "4"]]]:
    """The boxes of a table (CSV or Parquet) with columns ``path, left, top, right, bottom``, by the path without suffix.

    With a column ``face`` its value is added to the path, as in a table of points. Raises ValueError for a file that is no
    such table.
    """
    path = Path(path)
    header, rows = read_table_rows(path)
    columns = {column.strip().lower(): place for place, column in enumerate(header)}
    lacking = [column for column in ("path", *COLUMNS) if column not in columns]
    if lacking:
        raise ValueError(f"{path} has no column {lacking[0]}: boxes are path, left, top, right, bottom")
    found: dict[str, list[np.ndarray]] = {}
    for number, row in enumerate(rows, 1):
        if isinstance(row, BadSample):
            raise ValueError(f"{path}, row {number}: {row.sentence}")
        picture = Path(str(row[columns["path"]]))
        if not picture.name:
            raise ValueError(f"{path}, row {number}: the path {str(picture)!r} names no picture")
        stem = picture.with_suffix("").as_posix()
        face = str(row[columns["face"]] or "").strip() if "face" in columns else ""
        try:
            box = np.array([float(row[columns[column]]) for column in COLUMNS])  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ValueError(f"{path}, row {number}: a side of the box is no number") from None
        if not (np.isfinite(box).all() and (box[2:] > box[:2]).all()):
            raise ValueError(f"{path}, row {number}: the box {box.tolist()} has no area")
        found.setdefault(f"{stem}_{face}" if face else stem, []).append(box)
    return found


def _box(face: EvaluationFace, rule: Rule) -> Float[np.ndarray, "4"] | None:
    if rule == "truth":
        points = face.points_px[np.isfinite(face.points_px[:, :2]).all(axis=1), :2]
        return np.concatenate([points.min(axis=0), points.max(axis=0)])
    if rule == "table":
        return face.box_px
    try:
        height, width = stored_size(
            read_regular_file(face.picture, limit_bytes=MAX_IMAGE_FILE_BYTES, follow_links=True)
        )
    except BadSample:
        return None
    if rule == "whole":
        return np.array([0.0, 0.0, width - 1.0, height - 1.0])
    side = 0.46 * height
    left, top = (width - 1 - side) / 2, (height - 1 - side) / 2
    return np.array([left, top, left + side, top + side])

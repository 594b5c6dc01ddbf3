"""Landmarks of many pictures in one table: CSV, Parquet or JSON.

Coordinates are true pixels of the picture as its file stores it, **counted from zero**, x right, y down; an empty cell,
null or NaN is a missing point. Columns of CSV and Parquet, in any order; others are ignored:

=====  ==================================================================================================
wide   ``path, x0, y0, x1, y1, …, x67, y67``: a row for each face; ``x_0`` is ``x0``
long   ``path, point, x, y``: a row for each point, numbered from zero; points that are left out are missing
both   ``face``, if there: which face of the picture, where it shows several
=====  ==================================================================================================

JSON is a list of ``{"path": …, "landmarks_px": [[x, y], …]}``, ``"face"`` likewise. ``path`` is the picture's, relative
to the folder that is given with the table, with ``/``.

A table that cannot be read at all is an error; a bad row is a bad sample and stops nothing.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from geometry.extras import how_to_get
from geometry.landmarks import N_LANDMARKS
from storage.bad_sample import BadSample
from storage.folder_walk import split_suffix
from storage.landmark_files import checked_landmarks, points_of_json
from storage.regular_files import read_regular_file

TABLE_SUFFIXES = ("csv", "parquet", "json")
MAX_TABLE_BYTES = 1 << 30

_WIDE_COLUMN = re.compile(r"([xy])_?(\d{1,3})", re.ASCII)

Row = Sequence[object] | BadSample


class MissingParquet(RuntimeError):
    """A Parquet table was given, and the package that reads it is not installed."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """The landmarks of one face (p 2), or what is wrong with them; `face` is "" where the table has no such column."""

    path: str
    face: str
    landmarks_px: Float[np.ndarray, "p 2"] | BadSample


def read_landmark_table(path: str | os.PathLike[str], *, n_points: int = N_LANDMARKS) -> list[TableRow]:
    """Every face of a table, in the order of first mention.

    Raises ValueError for a file that is no such table, MissingParquet, and OSError.
    """
    path = Path(path)
    try:
        content = read_regular_file(path, limit_bytes=MAX_TABLE_BYTES, follow_links=True)
    except BadSample as bad:
        raise ValueError(f"{path}: {bad.sentence}") from None
    return parse_landmark_table(content, name=path.name, n_points=n_points)


def read_table_rows(path: str | os.PathLike[str]) -> tuple[list[str], Iterator[Row]]:
    """Column names and rows of any CSV or Parquet table; a bad row is a BadSample in its place.

    Raises ValueError for another kind of file, MissingParquet, and OSError.
    """
    path = Path(path)
    try:
        content = read_regular_file(path, limit_bytes=MAX_TABLE_BYTES, follow_links=True)
    except BadSample as bad:
        raise ValueError(f"{path}: {bad.sentence}") from None
    match split_suffix(path.name)[1]:
        case "csv":
            return _csv(content, path.name)
        case "parquet":
            return _parquet(content, path.name)
        case suffix:
            raise ValueError(f"{path}: a table is .csv or .parquet, not .{suffix}")


def parse_landmark_table(content: bytes, *, name: str, n_points: int) -> list[TableRow]:
    """The same from the file's bytes; `name` says by its suffix what they are."""
    match split_suffix(name)[1]:
        case "csv":
            header, rows = _csv(content, name)
        case "parquet":
            header, rows = _parquet(content, name)
        case "json":
            return _json(content, name, n_points)
        case suffix:
            raise ValueError(f"{name}: a table of landmarks is .csv, .parquet or .json, not .{suffix}")
    columns = {column.strip().lower(): place for place, column in enumerate(header)}
    if "path" not in columns:
        raise ValueError(f"{name} has no column path; its columns are {', '.join(header)[:200]!r}{_SAY}")
    if {"point", "x", "y"} <= columns.keys():
        return _long(rows, columns, n_points)
    return _wide(rows, columns, n_points, name)


_SAY = ", and path, x0, y0, x1, y1, … or path, point, x, y are expected, separated by commas"


# ------------------------------------------------------------------------------------------------ wide and long


def _wide(rows: Iterable[Row], columns: dict[str, int], n_points: int, name: str) -> list[TableRow]:
    named = {(m[1], int(m[2])): place for column, place in columns.items() if (m := _WIDE_COLUMN.fullmatch(column))}
    n_found = 1 + max((point for _, point in named), default=-1)
    lacking = [f"{axis}{point}" for point in range(n_found) for axis in "xy" if (axis, point) not in named]
    if not named or lacking:
        raise ValueError(f"{name} has no column {(lacking or ['x0'])[0]}{_SAY}")
    if n_found != n_points:
        raise ValueError(f"{name} has columns for {n_found} points where {n_points} are expected: another scheme?")
    order = [named[axis, point] for point in range(n_points) for axis in "xy"]
    found: list[TableRow] = []
    for number, row in enumerate(rows, 1):
        if isinstance(row, BadSample):
            found.append(TableRow("", "", row.about(f"row {number}")))
            continue
        picture, face = _identity(row, columns)
        try:
            numbers = _numbers([row[place] for place in order], number)
            found.append(TableRow(picture, face, checked_landmarks(numbers.reshape(-1, 2), n_points)))
        except BadSample as bad:
            found.append(TableRow(picture, face, bad))
    return found


def _long(rows: Iterable[Row], columns: dict[str, int], n_points: int) -> list[TableRow]:
    faces: dict[tuple[str, str], np.ndarray] = {}
    bad_faces: dict[tuple[str, str], BadSample] = {}
    for number, row in enumerate(rows, 1):
        if isinstance(row, BadSample):
            bad_faces["", f"row {number}"] = row.about(f"row {number}")
            continue
        key = _identity(row, columns)
        points = faces.setdefault(key, np.full((n_points, 3), np.nan))  # x, y, and whether it was given
        try:
            index, x, y = _numbers([row[columns[column]] for column in ("point", "x", "y")], number)
            if index not in range(n_points):
                raise BadSample("table.point", f"row {number}: point {index:g} is none of 0 to {n_points - 1}")
            if points[int(index), 2] == 1:
                raise BadSample("table.point", f"row {number}: point {index:g} of the face was given before")
            points[int(index)] = x, y, 1
        except BadSample as bad:
            bad_faces.setdefault(key, bad)
    found = [TableRow(*key, bad) for key, bad in bad_faces.items() if key not in faces]
    for key, points in faces.items():
        try:
            found.append(TableRow(*key, bad_faces.get(key) or checked_landmarks(points[:, :2], n_points)))
        except BadSample as bad:
            found.append(TableRow(*key, bad))
    return found


def _identity(row: Sequence[object], columns: dict[str, int]) -> tuple[str, str]:
    face = row[columns["face"]] if "face" in columns else ""
    if isinstance(face, float) and face.is_integer():  # what Parquet's writers make of whole numbers with gaps
        face = int(face)
    return str(row[columns["path"]] or "").strip(), "" if face is None else str(face).strip()


def _numbers(cells: Sequence[object], row_number: int) -> Float[np.ndarray, "c"]:
    """The cells as numbers, NaN where empty. Raises BadSample."""
    try:
        return np.array([np.nan if cell is None or cell == "" else cell for cell in cells]).astype(np.float64)
    except (ValueError, TypeError):
        for cell in cells:
            if not _is_numeric(cell):
                raise BadSample("table.number", f"row {row_number}: {str(cell)[:40]!r} is no number") from None
        raise


def _is_numeric(cell: object) -> bool:
    try:
        float("nan" if cell is None or cell == "" else cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


# ------------------------------------------------------------------------------------------------------ formats


def _csv(content: bytes, name: str) -> tuple[list[str], Iterator[Row]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is no text (UTF-8) at byte {error.start}: save it as CSV in UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise ValueError(f"{name} is no CSV ({error})") from None

    def rows() -> Iterator[Row]:
        try:
            for row in reader:
                if len(row) == len(header):
                    yield row
                elif row:
                    sentence = f"{len(row)} cells where the header has {len(header)}"
                    yield BadSample("table.row", sentence)
        except csv.Error as error:
            raise ValueError(f"{name}, line {reader.line_num}: {error}") from None

    return header, rows()


def _parquet(content: bytes, name: str) -> tuple[list[str], Iterator[Row]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingParquet(
            f"{name} is Parquet, which needs pyarrow: {how_to_get('parquet')}, or save the table as CSV"
        ) from None
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        header = list(file.schema_arrow.names)
        batches = [batch.to_pylist() for batch in file.iter_batches()]
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name} cannot be read as Parquet ({error}); write it again") from None
    return header, (tuple(row.values()) for batch in batches for row in batch)


def _json(content: bytes, name: str, n_points: int) -> list[TableRow]:
    try:
        entries = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON ({type(error).__name__}: {error}); write it again") from None
    if not (isinstance(entries, list) and all(isinstance(entry, dict) and "path" in entry for entry in entries)):
        raise ValueError(f'{name} is no list of {{"path": …, "landmarks_px": [[x, y], …]}}')
    rows = []
    for entry in entries:
        face = entry.get("face")
        try:
            landmarks: np.ndarray | BadSample = checked_landmarks(points_of_json(entry), n_points)
        except BadSample as bad:
            landmarks = bad
        rows.append(TableRow(str(entry["path"]), "" if face is None else str(face), landmarks))
    return rows

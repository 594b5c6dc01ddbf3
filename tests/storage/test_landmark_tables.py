"""Tables of landmarks: CSV, Parquet and JSON say the same, and a bad row is a bad sample."""

import csv
import io
import json
import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geometry.extras import how_to_get
from storage.bad_sample import BadSample
from storage.landmark_tables import MissingParquet, TableRow, parse_landmark_table, read_landmark_table

RNG = np.random.default_rng(11)
FACES = {("a.jpg", "0"): RNG.uniform(0, 500, (68, 2)), ("sub/b.png", "1"): RNG.uniform(0, 500, (68, 2))}
FACES["sub/b.png", "1"][30] = np.nan
WIDE = ["path", "face", *(f"{axis}{point}" for point in range(68) for axis in "xy")]


def cells(points: np.ndarray) -> list:
    return [None if np.isnan(value) else float(value) for value in points.ravel()]


def as_csv(header: list[str], rows: list[list]) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerows([header, *rows])
    return stream.getvalue().encode()


def as_parquet(header: list[str], rows: list[list]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(header)}), stream)
    return stream.getvalue()


def wide_rows() -> list[list]:
    return [[path, face, *cells(points)] for (path, face), points in FACES.items()]


def long_rows() -> list[list]:
    rows = [
        [path, face, point, *xy]
        for (path, face), points in FACES.items()
        for point, xy in enumerate(points.tolist())
        if not np.isnan(xy[0])
    ]
    return [rows[i] for i in RNG.permutation(len(rows))]


LONG = ["path", "face", "point", "x", "y"]


def check(rows: list[TableRow]) -> None:
    assert {(row.path, row.face) for row in rows} == FACES.keys()
    for row in rows:
        np.testing.assert_array_equal(row.landmarks_px, FACES[row.path, row.face])


@pytest.mark.parametrize("write", [as_csv, as_parquet])
def test_wide_and_long_tables_say_the_same(write):
    name = "t.csv" if write is as_csv else "t.parquet"
    check(parse_landmark_table(write(WIDE, wide_rows()), name=name, n_points=68))
    check(parse_landmark_table(write(LONG, long_rows()), name=name, n_points=68))


def test_json_tables_say_the_same(tmp_path):
    entries = [
        {"path": path, "face": int(face), "landmarks_px": [[x, y] if x == x else None for x, y in points.tolist()]}
        for (path, face), points in FACES.items()
    ]
    (tmp_path / "t.json").write_text(json.dumps(entries))
    check(read_landmark_table(tmp_path / "t.json"))


def test_columns_may_stand_in_any_order_among_others():
    header = [*reversed(WIDE), "confidence"]
    rows = [[*reversed(row), 0.9] for row in wide_rows()]
    underscored = [name[0] + "_" + name[1:] if name[0] in "xy" else name.upper() for name in header]
    check(parse_landmark_table(as_csv(header, rows), name="t.csv", n_points=68))
    check(parse_landmark_table(as_csv(underscored, rows), name="t.csv", n_points=68))


def test_a_table_without_the_column_face_has_one_face_a_picture():
    rows = parse_landmark_table(
        as_csv(["path", "x0", "y0", "x1", "y1"], [["p.jpg", 1, 2, 3, ""]]), name="t.csv", n_points=2
    )
    assert (rows[0].path, rows[0].face) == ("p.jpg", "")
    np.testing.assert_array_equal(rows[0].landmarks_px, [[1, 2], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("row", "code", "says"),
    [
        (["p", 1, 2, 3], "table.row", "row 2: 4 cells where the header has 5"),
        (["p", 1, "two", 3, 4], "table.number", "row 2: 'two'"),
        (["p", 1, "inf", 3, 4], "landmarks.range", "inf"),
        (["p", "", "", "", ""], "landmarks.unknown", "none of the points"),
    ],
)
def test_a_bad_row_is_a_bad_sample_and_its_neighbours_are_read(row, code, says):
    content = as_csv(["path", "x0", "y0", "x1", "y1"], [["a", 1, 2, 3, 4], row, ["b", 5, 6, 7, 8]])
    first, bad, last = parse_landmark_table(content, name="t.csv", n_points=2)
    assert isinstance(bad.landmarks_px, BadSample)
    assert bad.landmarks_px.code == code
    assert says in bad.landmarks_px.sentence
    assert first.landmarks_px.tolist() == [[1, 2], [3, 4]]
    assert last.landmarks_px.tolist() == [[5, 6], [7, 8]]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (["a", 2, 1, 1], "point 2 is none of 0 to 1"),
        (["a", 0.5, 1, 1], "point 0.5"),
        (["a", 0, 1, 1], "point 0 of the face was given before"),
        (["a", "chin", 1, 1], "'chin' is no number"),
    ],
)
def test_a_bad_point_of_a_long_table_makes_its_face_bad_alone(row, says):
    rows = [["a", 0, 1, 2], row, ["b", 0, 5, 6], ["b", 1, 7, 8]]
    content = as_csv(["path", "point", "x", "y"], rows)
    found = {read.path: read.landmarks_px for read in parse_landmark_table(content, name="t.csv", n_points=2)}
    assert says in found["a"].sentence
    assert found["b"].tolist() == [[5, 6], [7, 8]]


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (b"", "t.csv", "has no column path"),
        (b"path;x0;y0\na;1;2\n", "t.csv", "separated by commas"),
        (b"path,x0,y0,x1\na,1,2,3\n", "t.csv", "no column y1"),
        (b"path,x0,y0\na,1,2\n", "t.csv", "columns for 1 points where 68"),
        (b"path,confidence\na,1\n", "t.csv", "no column x0"),
        (b'path,x0,y0\n"a,1,2\n', "t.csv", "t.csv"),
        (b"\xff\xfe", "t.csv", "no text"),
        (b"PAR1 and no more", "t.parquet", "cannot be read as Parquet"),
        (b"{}", "t.json", "is no list"),
        (b"[1]", "t.json", "is no list"),
        (b"[", "t.json", "is not JSON"),
        (b"", "t.xlsx", "not .xlsx"),
    ],
)
def test_what_is_no_table_is_an_error(content, name, says):
    with pytest.raises(ValueError, match=".*") as raised:
        list(parse_landmark_table(content, name=name, n_points=68))
    assert says in str(raised.value)


def test_parquet_without_pyarrow_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingParquet, match=re.escape(f"{how_to_get('parquet')}, or save the table as CSV")):
        parse_landmark_table(as_parquet(WIDE, wide_rows()), name="t.parquet", n_points=68)


def test_an_empty_file_is_an_error_too(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        read_landmark_table(tmp_path / "t.csv")

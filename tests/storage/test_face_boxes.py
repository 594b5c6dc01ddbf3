"""Boxes of detected faces: two ways to write the same, and nothing else is believed."""

import json

import numpy as np
import pytest

from storage.bad_sample import BadSample
from storage.face_boxes import parse_face_boxes

BOXES = [[10.5, -3.0, 40.0, 60.25], [0, 0, 0, 0]]


def test_json_and_csv_say_the_same():
    written = json.dumps({"boxes": BOXES}).encode()
    table = "\r\n".join(["left,top,right,bottom,score", *(",".join(map(str, [*box, 0.9])) for box in BOXES)]).encode()
    for content, name in ((written, "a.faces.json"), (table, "a.faces.CSV"), (b"\xef\xbb\xbf" + table, "a.faces.csv")):
        np.testing.assert_array_equal(parse_face_boxes(content, name=name), BOXES)


def test_no_face_is_no_box():
    for content, name in ((b'{"boxes": []}', "a.json"), (b"left,top,right,bottom\n", "a.csv")):
        assert parse_face_boxes(content, name=name).shape == (0, 4)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"boxes": 3}', b'{"boxes": [3]}', b'{"boxes": [[1, 2, 3]]}', b'{"boxes": [[1, 2, 3, "x"]]}', b"\xff",
     b'{"boxes": ' + b"[" * 100_000, b'{"boxes": [[1, 2, 3, ' + b"9" * 400 + b"]]}"],
)  # fmt: skip
def test_what_is_no_list_of_boxes_is_refused_with_the_way_to_write_it(content):
    with pytest.raises(BadSample, match="write them as") as refusal:
        parse_face_boxes(content, name="a.json")
    assert refusal.value.code == "boxes.format"


@pytest.mark.parametrize("box", [[10, 0, 9, 5], [0, 10, 5, 9], [0, 0, 1e9, 1], [float("nan"), 0, 1, 1]])
def test_boxes_that_are_turned_round_or_nowhere_are_refused(box):
    with pytest.raises(BadSample) as refusal:
        parse_face_boxes(json.dumps({"boxes": [box]}).encode(), name="a.json")
    assert refusal.value.code == "boxes.range"


def test_too_many_boxes_are_refused():
    with pytest.raises(BadSample, match="at most 1000"):
        parse_face_boxes(json.dumps({"boxes": [[0, 0, 1, 1]] * 1001}).encode(), name="a.json")

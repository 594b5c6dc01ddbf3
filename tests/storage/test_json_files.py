"""JSON beside strangers' pictures: an object, nothing, or a sentence with the file's name."""

import json
import os

import numpy as np
import pytest

from storage.json_files import parse_json, plain, read_json_object


def test_an_object_is_read_and_a_missing_file_is_none(tmp_path):
    (tmp_path / "a.json").write_text('{"b": [1, 2.5, null, "ü"]}')
    assert read_json_object(tmp_path / "a.json") == {"b": [1, 2.5, None, "ü"]}
    assert read_json_object(tmp_path / "b.json") is None
    assert read_json_object(tmp_path / "a.json" / "c.json") is None


BAD = {
    "not closed": '{"a": 1',
    "a web page": "<html>",
    "deep": "[" * 100_000,
    "deep and closed": '{"a":' * 300 + "1" + "}" * 300,
    "NaN": '{"a": NaN}',
    "infinity": '{"a": -Infinity}',
    "more than any number": '{"a": 1e999}',
    "digits without end": '{"a": ' + "9" * 5000 + "}",
    "half a character": '{"a": "\\ud800"}',
    "a list": "[1]",
    "a number": "1",
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_json_object_is_refused_with_its_name(tmp_path, what):
    (tmp_path / "a.json").write_text(BAD[what])
    with pytest.raises(ValueError, match=r"a\.json.*; make the folder again"):
        read_json_object(tmp_path / "a.json")


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(ValueError, match="is not JSON"):
        parse_json(b'{"a": "\xff\xfe"}')


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "zero"):
        with pytest.raises(ValueError, match=f"{name}.json"):
            read_json_object(tmp_path / f"{name}.json")


def test_a_file_beyond_the_limit_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"a": "' + "x" * 1000 + '"}')
    with pytest.raises(ValueError, match="at most 100 are expected"):
        read_json_object(tmp_path / "a.json", limit_bytes=100)


def test_numpys_numbers_become_jsons_and_what_json_has_not_is_null():
    values = {1: np.float32(0.5), "b": (np.int64(2), [float("nan"), np.float64("-inf")]), "c": {"d": np.bool_(True)}}
    assert json.loads(json.dumps(plain(values), allow_nan=False)) == {
        "1": 0.5,
        "b": [2, [None, None]],
        "c": {"d": True},
    }

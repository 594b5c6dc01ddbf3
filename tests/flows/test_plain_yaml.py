"""YAML of deployments: words stay words, and what makes a small file endless or ambiguous is refused."""

import pytest

from flows.plain_yaml import read_document


@pytest.fixture
def read(tmp_path):
    def read(text: str | bytes) -> dict:
        path = tmp_path / "a.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_document(path)

    return read


def test_words_and_numbers_are_what_they_look_like(read):
    found = read(
        "a: 1e-3\nb: no\nc: 010\nd: 12:30\ne: true\nf: null\ng: 1.10\nh: -2\ni: 'x'\nj: 2026-01-02\nk: on\nl: .5\n"
    )
    assert found == {
        "a": 0.001, "b": "no", "c": 10, "d": "12:30", "e": True, "f": None, "g": 1.1, "h": -2, "i": "x", "j": "2026-01-02",
        "k": "on", "l": 0.5,
    }  # fmt: skip


BAD = {
    "a Python object": ("x: !!python/object/apply:os.system ['true']", "python/object"),
    "an alias": ("a: &a [1]\nb: *a", "an alias"),
    "a merge": ("a: &a {x: 1}\nb: {<<: *a}", "an alias"),
    "a key twice": ("a: 1\nb: 2\na: 3", "the key 'a' is there twice"),
    "a key twice below": ("a: {x: 1, x: 2}", "the key 'x' is there twice"),
    "not closed": ("a: [1", "not YAML"),
    "deep": ("[" * 20_000, "not YAML"),
    "no text": (b"a: \xff\xfe", "not YAML"),
    "a list": ("- 1", "no mapping"),
    "nothing": ("", "no mapping"),
    "too long": ("a: " + "x" * 70_000, "70,003 bytes"),
    "a list as a key": ("? [1]\n: 2", "not YAML"),
}


@pytest.mark.parametrize("what", BAD)
def test_everything_else_is_refused_with_the_files_name(read, what):
    text, words = BAD[what]
    with pytest.raises(ValueError, match=rf"a\.yaml.*{words}"):
        read(text)

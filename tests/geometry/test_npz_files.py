"""Arrays from `.npz` files that may be damaged: whole, or one error, and never more than was allowed."""

import contextlib
import zipfile

import numpy as np
import pytest

from geometry.npz_files import NpzError, read_npz

ARRAYS = {"a": np.arange(2000.0), "b": np.arange(12, dtype=np.int32).reshape(3, 4)}
LIMIT = 1 << 20


@pytest.fixture(params=[np.savez, np.savez_compressed])
def path(request, tmp_path):
    request.param(tmp_path / "arrays.npz", **ARRAYS)
    return tmp_path / "arrays.npz"


def test_arrays_come_back(path):
    found = read_npz(path, ("b", "a"), limit_bytes=LIMIT)
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(found[name], value)


def test_no_changed_byte_gives_other_numbers_or_another_error(path):
    content = path.read_bytes()
    rng = np.random.default_rng(2)
    places = [*rng.integers(0, len(content), 150), *range(len(content) - 40, len(content))]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with contextlib.suppress(NpzError):
            found = read_npz(path, tuple(ARRAYS), limit_bytes=LIMIT)
            np.testing.assert_array_equal(found["a"], ARRAYS["a"])
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(NpzError):
            read_npz(path, tuple(ARRAYS), limit_bytes=LIMIT)


def test_a_hole_is_no_error_of_the_system(path):
    """A place before the file's beginning: the system's OSError is the file's fault."""
    content = path.read_bytes()
    path.write_bytes(content[:100] + content[612:])
    with pytest.raises(NpzError):
        read_npz(path, tuple(ARRAYS), limit_bytes=LIMIT)


def test_more_than_is_expected_is_not_unpacked(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(1 << 20, np.uint8))
    with pytest.raises(NpzError, match=r"would unpack to 1,048,[\d]+ bytes, and 1,000,000 are the most"):
        read_npz(tmp_path / "bomb.npz", ("a",), limit_bytes=1_000_000)


def test_two_arrays_of_one_name_are_refused(path):
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a.npy", b"x")
    with pytest.raises(NpzError, match="two arrays of one name"):
        read_npz(path, ("a",), limit_bytes=LIMIT)


def test_a_missing_array_and_a_missing_file_are_told(path, tmp_path):
    with pytest.raises(NpzError, match="it has no c"):
        read_npz(path, ("c",), limit_bytes=LIMIT)
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "nowhere.npz", ("a",), limit_bytes=LIMIT)

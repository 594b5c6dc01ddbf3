from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.whole_files import write_atomically


def test_threads_that_write_one_file_at_once_leave_the_whole_of_one_of_them(tmp_path):
    contents = [bytes([letter]) * 200_000 for letter in b"abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            list(pool.map(lambda content: write_atomically(tmp_path / "one", content), contents))
            assert (tmp_path / "one").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_file_that_cannot_take_its_name_leaves_what_is_there(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "old").write_bytes(b"old")
    with pytest.raises(IsADirectoryError) as refused:
        write_atomically(tmp_path / "taken", b"new")
    assert refused.value.filename == str(tmp_path / "taken")
    assert (tmp_path / "taken" / "old").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]

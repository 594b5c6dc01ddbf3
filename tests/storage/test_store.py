"""The store is a dictionary of bytes that is on disk, whole or not at all."""

import errno
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storage.local_store import LocalStore
from storage.store import DamagedObject, ExchangedObject, MissingObject, check_key

ROOT = Path(__file__).resolve().parents[2]
KEYS = ["a", "b.json", "image/c.0.0", "image/c.1.0", "image2/c.0.0", "image/deep/zarr.json"]


class StoreIsADictionary(RuleBasedStateMachine):
    """Whatever is done to the store and to a dictionary leaves them equal."""

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.store = LocalStore(self.folder.name)
        self.model: dict[str, bytes] = {}

    def teardown(self):
        self.folder.cleanup()

    @rule(key=st.sampled_from(KEYS), parts=st.lists(st.binary(max_size=40), max_size=3))
    def put(self, key, parts):
        self.store.put(key, parts)
        self.model[key] = b"".join(parts)

    @rule(key=st.sampled_from(KEYS), data=st.binary(max_size=40))
    def put_if_absent(self, key, data):
        assert self.store.put_if_absent(key, data) == (key not in self.model)
        self.model.setdefault(key, data)

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key):
        self.store.delete(key)
        self.model.pop(key, None)

    @rule(key=st.sampled_from(KEYS), start=st.integers(0, 40), length=st.integers(0, 40))
    def get_some(self, key, start, length):
        if key not in self.model:
            with pytest.raises(MissingObject, match=f"object {key} is missing"):
                self.store.get(key, (start, start + length))
        elif length and start + length > len(self.model[key]):
            with pytest.raises(DamagedObject):
                self.store.get(key, (start, start + length))
        else:
            assert self.store.get(key, (start, start + length)) == self.model[key][start : start + length]

    @rule(prefix=st.sampled_from(["", "image", "image/", "image/c", "im", "nothing/", "b"]))
    def list_some(self, prefix):
        assert list(self.store.list(prefix)) == sorted(key for key in self.model if key.startswith(prefix))

    @invariant()
    def equal(self):
        assert {key: self.store.get(key) for key in self.store.list()} == self.model
        assert {key: self.store.size(key) for key in self.model} == {key: len(data) for key, data in self.model.items()}


StoreIsADictionary.TestCase.settings = settings(settings.get_profile("ci"), max_examples=12, stateful_step_count=15)
test_a_store_is_a_dictionary = StoreIsADictionary.TestCase


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../other", "a/../b", "a//b", "a/", ".lock", "a/.b", "a\\b", "a\0b", "a b", "~x", "C:/x"]
)
def test_a_key_never_leaves_the_store(key, tmp_path):
    with pytest.raises(ValueError, match="is not a key"):
        check_key(key)
    store = LocalStore(tmp_path)
    for act in (
        store.get,
        store.size,
        store.delete,
        lambda k: store.put(k, b""),
        lambda k: store.put_if_absent(k, b""),
    ):
        with pytest.raises(ValueError, match="is not a key"):
            act(key)


def test_of_many_writers_of_an_absent_object_one_wins(tmp_path):
    store = LocalStore(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda i: store.put_if_absent("manifest.json", bytes([i]) * 1000), range(16)))
    assert sum(won) == 1
    assert store.get("manifest.json") == bytes([won.index(True)]) * 1000


@pytest.mark.parametrize("dies_at", ["the sync", "the rename"])
def test_a_killed_writer_leaves_the_old_object_and_litter_that_nobody_sees(tmp_path, dies_at):
    place = {"the sync": "os.fsync", "the rename": "pathlib.Path.replace"}[dies_at]
    store = LocalStore(tmp_path)
    store.put("a/b", b"old")
    killed = (
        "import os, pathlib, sys\n"
        "from storage.local_store import LocalStore\n"
        f"{place} = lambda *_: os._exit(9)\n"
        "LocalStore(sys.argv[1]).put('a/b', [b'new', b'er'])"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(tmp_path)], cwd=ROOT, check=False).returncode == 9
    assert store.get("a/b") == b"old"
    assert list(store.list()) == ["a/b"]
    assert store.remove_leftovers() == 1
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.parametrize("told", [("the disk is full",), (errno.ENOSPC, "the disk is full")])
def test_a_failed_write_leaves_nothing_behind_and_names_the_object_where_it_can(tmp_path, monkeypatch, told):
    def full(_):
        raise OSError(*told)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=rf"full: '{tmp_path}/a'$" if len(told) > 1 else "full$"):
        LocalStore(tmp_path).put("a", b"half")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_an_objects_place_is_named_and_not_the_private_name_beside_it(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError) as refused:
        LocalStore(tmp_path).put("a", b"data")
    assert refused.value.filename == str(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_cut_short_while_it_is_open_is_an_error_and_not_a_crash(tmp_path):
    store = LocalStore(tmp_path)
    store.put("shard", bytes(100_000))
    reader = store.open("shard")
    (tmp_path / "shard").write_bytes(bytes(10))
    with pytest.raises(DamagedObject, match="object shard has 10 bytes, and bytes 50000 to 60000 were asked for"):
        reader.read(50_000, 60_000)


def test_a_folder_in_the_place_of_an_object_is_no_object(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(MissingObject):
        LocalStore(tmp_path).size("a")
    LocalStore(tmp_path).put("x", b"")
    with pytest.raises(MissingObject):
        LocalStore(tmp_path).get("x/y")


@pytest.fixture(params=["past the cache", "a file system that cannot", "a system that cannot"])
def way_of_reading(request, monkeypatch):
    """The ways in which pieces may come; what comes is the same."""
    if request.param == "a system that cannot":
        monkeypatch.delattr(os, "O_DIRECT")
    elif request.param == "a file system that cannot":
        opened = os.open

        def refuse(path, flags, *args, **kwargs):
            if flags & os.O_DIRECT:
                raise OSError(errno.EINVAL, "Invalid argument", path)
            return opened(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", refuse)


@pytest.mark.usefixtures("way_of_reading")
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, (1 << 20) - 1, 1 << 20, (2 << 20) + 4097])
def test_the_pieces_of_an_object_are_the_object(tmp_path, size):
    data = os.urandom(size)
    store = LocalStore(tmp_path)
    store.put("a", data)
    assert b"".join(bytes(piece) for piece in store.open("a").pieces()) == data


@pytest.mark.usefixtures("way_of_reading")
def test_an_object_cut_short_between_two_pieces_is_damaged(tmp_path):
    store = LocalStore(tmp_path)
    store.put("a", bytes((3 << 20) + 5))
    pieces = store.open("a").pieces()
    next(pieces)
    os.truncate(tmp_path / "a", (1 << 20) + 7)
    with pytest.raises(DamagedObject, match="has 1048583 bytes"):
        list(pieces)


def test_pieces_are_never_those_of_an_object_that_took_its_place(tmp_path):
    store = LocalStore(tmp_path)
    store.put("a", bytes(5))
    reader = store.open("a")
    store.put("a", b"other")
    with pytest.raises(ExchangedObject):
        list(reader.pieces())

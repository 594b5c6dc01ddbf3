"""Publishing is one moment: before it there is no data set, after it a whole one, and a death between costs nothing."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from storage.dataset import open_dataset
from storage.local_store import LocalStore
from storage.manifest import MANIFEST_KEY, NewerFormat, ObjectInfo, Unpublished, receipt_key
from storage.phases import Phase, observed, reach
from storage.publish import (
    AlreadyBuilding,
    builders_lock,
    draft_manifest,
    finished_shards,
    forget_damaged,
    is_published,
    latest_version,
    publish,
    put_unpublished,
    start_version,
)
from storage.store import DamagedObject, MissingObject
from storage.verify import verify

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


@pytest.fixture
def unpublished(tmp_path, plan, tables, write_shard):
    """All shards are done, and nothing is published."""
    store = LocalStore(tmp_path / "toy" / plan().version)
    start_version(store, plan(), tables)
    for shard in range(3):
        write_shard(store, plan(), shard, (3, 8))
    return store


class Killed(BaseException):
    """Stands for the end of the process in tests that stay in one."""


# ------------------------------------------------------------------------------------------------------------ the lock


def test_a_second_builder_leaves_at_once_and_names_the_first(tmp_path):
    holder = "import sys, time\nfrom pathlib import Path\nfrom storage.publish import builders_lock\n"
    holder += "with builders_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path / "toy")], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        began = time.monotonic()
        match = f"process {process.pid} is building toy at this moment"
        with pytest.raises(AlreadyBuilding, match=match) as refusal, builders_lock(tmp_path / "toy"):
            pass
        assert time.monotonic() - began < 2
        assert refusal.value.pid == process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    with builders_lock(tmp_path / "toy"):  # a dead holder holds nothing
        assert (tmp_path / "toy" / ".lock").read_text() == f"{os.getpid()}\n"
    with builders_lock(tmp_path / "toy"):
        pass


def test_the_lock_is_given_back_when_the_build_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), builders_lock(tmp_path):
        raise ZeroDivisionError
    with (
        builders_lock(tmp_path),
        pytest.raises(AlreadyBuilding, match=f"process {os.getpid()}"),
        builders_lock(tmp_path),
    ):
        pass


def test_the_lock_is_not_inherited_by_other_programs(tmp_path):
    with builders_lock(tmp_path):
        listed = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, check=True)
    assert ".lock" not in listed.stdout


def test_the_next_builder_removes_what_a_dead_one_left(tmp_path):
    litter = tmp_path / "toy" / "0123" / "image" / ".c.0.0.0.0.77-deadbeef.partial"
    litter.parent.mkdir(parents=True)
    litter.write_bytes(b"half")
    with builders_lock(tmp_path / "toy"):
        assert not litter.exists()


# ----------------------------------------------------------------------------------------------------- byte identity


def test_two_builds_are_byte_identical_and_know_nothing_of_place_or_time(tmp_path, build, files_of, monkeypatch):
    build(tmp_path / "here")
    monkeypatch.setattr("time.time", lambda: 0.0)
    monkeypatch.chdir(tmp_path)
    build(Path("a/longer/place/elsewhere"))
    assert files_of(tmp_path / "here") == files_of(tmp_path / "a/longer/place/elsewhere")


def test_building_twice_does_it_once(tmp_path, build, files_of):
    first = build(tmp_path)
    before = files_of(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "toy" / first.version).rglob("*") if path.is_file()}
    assert build(tmp_path) == first
    assert files_of(tmp_path) == before
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_a_build_that_died_at_any_phase_is_finished_by_the_next(tmp_path, build, files_of):
    build(tmp_path / "unbroken")
    steps = []
    with observed(lambda phase, what: steps.append((phase, what))):
        build(tmp_path / "counted")
    assert {phase for phase, _ in steps} == set(Phase) - {Phase.TRAINING}
    for step in range(len(steps)):
        out = tmp_path / f"broken_{step}"
        countdown = iter(range(step, -1, -1))

        def die(phase, what, countdown=countdown):
            if next(countdown) == 0:
                raise Killed

        with pytest.raises(Killed), observed(die):
            build(out)
        if steps[step][0] != Phase.EVENT:
            with pytest.raises(Unpublished):
                open_dataset(out / "toy")
        build(out)
        assert files_of(out) == files_of(tmp_path / "unbroken")


KILLED_AT_EVERY_SYNC = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from conftest import build_toy, tree

out, synced = Path(sys.argv[3]), 0

def killed_after(n):
    def fsync(descriptor):
        global synced
        synced += 1
        if synced > n:
            os._exit(9)
    return fsync

def code_of_child(n, folder):
    pid = os.fork()
    if pid == 0:
        os.fsync = killed_after(n)
        build_toy(folder, targets=("position_map", "seed"), n_slots=6)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

assert code_of_child(10**6, out / "unbroken") == 0
whole = tree(out / "unbroken")
n = 0
while code_of_child(n, out / str(n)) == 9:
    assert code_of_child(n // 2, out / str(n)) in (0, 9)  # the second attempt may die too
    assert code_of_child(10**6, out / str(n)) == 0
    assert tree(out / str(n)) == whole, n
    assert not list((out / str(n)).rglob("*.partial"))
    n += 1
print(n)
"""


def test_a_builder_killed_before_any_sync_to_disk_is_finished_by_the_next(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_SYNC, str(ROOT), str(HERE), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 30  # every object is synced, and so is its folder


# ------------------------------------------------------------------------------------------------------------ receipts


def test_receipts_are_believed_while_their_objects_are_there(unpublished, plan):
    assert sorted(finished_shards(unpublished, plan(), full=True)) == [0, 1, 2]
    unpublished.delete("seed/c.1")
    assert sorted(finished_shards(unpublished, plan())) == [0, 2]


def test_a_truncated_object_or_receipt_makes_a_shard_unfinished(unpublished, plan):
    for key, shard in (("image/c.0.0.0.0", 0), (receipt_key(2), 2)):
        path = unpublished.root / key
        path.write_bytes(path.read_bytes()[:-2])
        assert shard not in finished_shards(unpublished, plan())
    assert sorted(finished_shards(unpublished, plan())) == [1]


def test_a_flipped_bit_is_found_by_the_full_look(unpublished, plan):
    path = unpublished.root / "seed/c.0"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert 0 in finished_shards(unpublished, plan())
    assert 0 not in finished_shards(unpublished, plan(), full=True)


def test_a_shard_with_a_flipped_bit_is_forgotten_and_made_again(unpublished, plan, tables, write_shard, files_of):
    whole = files_of(unpublished.root)
    for key in ("seed/c.1", "image/c.2.0.0.0"):
        data = bytearray(unpublished.get(key))
        data[len(data) // 2] ^= 1
        (unpublished.root / key).write_bytes(data)
    unpublished.delete(receipt_key(0))
    assert forget_damaged(unpublished, plan()) == [0, 1, 2]
    assert finished_shards(unpublished, plan()) == {}
    for shard in range(3):
        write_shard(unpublished, plan(), shard, (3, 8))
    assert forget_damaged(unpublished, plan()) == []
    assert files_of(unpublished.root) == whole


def test_a_published_version_can_be_mended_once_its_manifest_is_removed(tmp_path, build, plan, files_of):
    manifest = build(tmp_path)
    before = files_of(tmp_path)
    store = LocalStore(tmp_path / "toy" / manifest.version)
    with pytest.raises(ValueError, match=r"is published, and a published version never changes: remove its manifest"):
        forget_damaged(store, plan())
    data = bytearray(store.get("seed/c.1"))
    data[-1] ^= 128
    (store.root / "seed/c.1").write_bytes(data)
    (store.root / "tables/weight_mask/c.0.0").write_bytes(b"")
    store.delete(MANIFEST_KEY)
    assert forget_damaged(store, plan()) == [1]
    build(tmp_path)
    assert files_of(tmp_path) == before


def test_receipts_of_another_plan_or_shard_are_not_believed(unpublished, plan):
    assert finished_shards(unpublished, plan(recipe_version=2)) == {}
    unpublished.put(receipt_key(1), unpublished.get(receipt_key(0)))
    assert sorted(finished_shards(unpublished, plan())) == [0, 2]


# ---------------------------------------------------------------------------------------------------------- publishing


def test_nothing_is_published_while_a_shard_is_missing_or_wrong(unpublished, plan):
    draft = draft_manifest(unpublished, plan())
    receipt = unpublished.get(receipt_key(1))
    unpublished.delete(receipt_key(1))
    with pytest.raises(MissingObject, match=r"receipts/00001\.json"):
        draft_manifest(unpublished, plan())
    unpublished.put(receipt_key(1), receipt)

    good = unpublished.get("seed/c.0")
    unpublished.put("seed/c.0", good[:-1] + b"!")
    with pytest.raises(DamagedObject, match=r"seed/c\.0 is not what the shard's receipt says"):
        publish(unpublished, draft)
    unpublished.delete("seed/c.0")
    with pytest.raises(MissingObject, match=r"seed/c\.0"):
        publish(unpublished, draft)
    unpublished.put("seed/c.0", good)
    unpublished.put("seed/c.7", b"whose?")
    with pytest.raises(ValueError, match=r"seed/c\.7 belongs to no shard of this plan"):
        publish(unpublished, draft)
    assert not is_published(unpublished, plan())
    unpublished.delete("seed/c.7")
    publish(unpublished, draft)
    assert is_published(unpublished, plan())


@pytest.mark.parametrize("key", ["tables/weight_mask/c.0.0", "seed/zarr.json", "zarr.json", "receipts/00001.json"])
def test_what_no_shard_answers_for_is_not_published_damaged_either(unpublished, plan, key):
    """A bit that turned after the draft: publishing it would give the damage a digest of its own."""
    draft = draft_manifest(unpublished, plan())
    whole = (unpublished.root / key).read_bytes()
    for damaged in (whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:], None):
        if damaged is None:
            unpublished.delete(key)
        else:
            (unpublished.root / key).write_bytes(damaged)
        with pytest.raises((DamagedObject, MissingObject)):
            publish(unpublished, draft)
        assert MANIFEST_KEY not in set(unpublished.list())
    unpublished.put(key, whole)
    assert publish(unpublished, draft).n_samples


def test_a_draft_can_be_read_and_what_is_drawn_from_it_is_published_too(unpublished, plan):
    from storage.dataset import ShardedDataset

    draft = draft_manifest(unpublished, plan())
    assert not (unpublished.root / MANIFEST_KEY).exists()
    unpublished.put("contact_sheet.png", ShardedDataset(unpublished.root, draft)[0]["image"].tobytes())
    manifest = publish(unpublished, draft)
    assert "contact_sheet.png" in {info.key for info in manifest.objects}
    assert verify(unpublished) == []


def test_what_is_shown_is_put_read_again_and_published(unpublished, plan):
    draft = draft_manifest(unpublished, plan())
    unpublished.put("card.html", b"of an attempt that ended before the manifest")
    manifest = publish(unpublished, draft, shown=lambda: {"card.html": b"new", "contact_sheet.png": b"a picture"})
    assert [info.key for info in manifest.objects] == sorted(key for key in unpublished.list() if key != MANIFEST_KEY)
    assert {key: unpublished.get(key) for key in ("card.html", "contact_sheet.png")} == {
        "card.html": b"new",
        "contact_sheet.png": b"a picture",
    }
    assert verify(unpublished) == []


def test_what_is_shown_is_held_to_what_was_made(unpublished, plan, monkeypatch):
    draft, put = draft_manifest(unpublished, plan()), unpublished.put

    def put_with_a_turned_bit(key: str, data: bytes) -> None:
        put(key, b"Made" if key == "card.html" else data)

    monkeypatch.setattr(unpublished, "put", put_with_a_turned_bit)
    with pytest.raises(DamagedObject, match=r"card\.html is not what this build has written"):
        publish(unpublished, draft, shown=lambda: {"card.html": b"made"})
    assert not is_published(unpublished, plan())


def test_a_damaged_shard_is_noticed_while_what_is_shown_is_made(unpublished, plan):
    draft = draft_manifest(unpublished, plan())
    good = unpublished.get("seed/c.0")
    unpublished.put("seed/c.0", good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(DamagedObject, match=r"seed/c\.0 is not what the shard's receipt says"):
        publish(unpublished, draft, shown=lambda: {"card.html": b"made"})
    assert not is_published(unpublished, plan())


def test_where_there_is_no_lock_what_contradicts_its_own_checksum_is_put_again(tmp_path, plan):
    class Bucket(LocalStore):
        has_lock = False
        damaged = True

        def get(self, key, range=None):
            if key == "card.html" and self.damaged:
                raise DamagedObject(key, "has another checksum than it was stored with")
            return super().get(key, range)

        def put(self, key, data):
            self.damaged = False
            super().put(key, data)

    store = Bucket(tmp_path)
    LocalStore(tmp_path).put("card.html", b"turned")
    info = ObjectInfo(key="card.html", bytes=4, sha256=hashlib.sha256(b"made").hexdigest())
    put_unpublished(store, plan(), info, b"made")
    assert store.get("card.html") == b"made"


@pytest.mark.parametrize("key", ["manifest.json", "zarr.json", "image/zarr.json", "seed/c.0", "seed/c.7", "receipts/x"])
def test_what_is_shown_takes_no_objects_name(unpublished, plan, key):
    before = {key: unpublished.get(key) for key in unpublished.list()}
    with pytest.raises(ValueError, match="is an object already|belongs to no shard"):
        publish(unpublished, draft_manifest(unpublished, plan()), shown=lambda: {key: b"drawn"})
    assert {key: unpublished.get(key) for key in unpublished.list()} == before


def test_a_picture_that_cannot_be_made_ends_publishing(unpublished, plan):
    def shown() -> dict[str, bytes]:
        raise MissingObject("image/c.0")

    with pytest.raises(MissingObject):
        publish(unpublished, draft_manifest(unpublished, plan()), shown=shown)
    assert not is_published(unpublished, plan())


def test_a_published_version_never_changes(tmp_path, build, plan, tables):
    manifest = build(tmp_path)
    store = LocalStore(tmp_path / "toy" / manifest.version)
    start_version(store, plan(), tables)
    publish(store, draft_manifest(store, plan(), statistics={"mean": 1.5}))
    with pytest.raises(ValueError, match="is already published and holds something else; a version never changes"):
        publish(store, draft_manifest(store, plan(), statistics={"mean": 2.5}))
    assert verify(store) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format_version": 1}', b"\xff\xfe"])
def test_a_version_with_a_damaged_manifest_is_built_again_and_is_what_it_was(tmp_path, build, plan, files_of, damage):
    manifest = build(tmp_path)
    before = files_of(tmp_path)
    store = LocalStore(tmp_path / "toy" / manifest.version)
    (store.root / MANIFEST_KEY).write_bytes(damage)
    assert not is_published(store, plan())
    assert build(tmp_path) == manifest
    assert files_of(tmp_path) == before


def test_a_manifest_of_a_later_format_is_left_alone(tmp_path, build, plan, tables):
    manifest = build(tmp_path)
    store = LocalStore(tmp_path / "toy" / manifest.version)
    (store.root / MANIFEST_KEY).write_bytes(b'{"format_version": 2}')
    with pytest.raises(NewerFormat, match="update facefoundry"):
        is_published(store, plan())
    with pytest.raises(NewerFormat):
        start_version(store, plan(), tables)
    assert store.get(MANIFEST_KEY) == b'{"format_version": 2}'


def test_a_stray_file_is_named_by_its_path_with_what_to_do(unpublished, plan):
    draft = draft_manifest(unpublished, plan())
    stray = unpublished.root / "image" / "Thumbs db.tmp"
    stray.write_bytes(b"whose?")
    for attempt in (lambda: draft_manifest(unpublished, plan()), lambda: publish(unpublished, draft)):
        with pytest.raises(ValueError, match="Thumbs db.tmp is no part of a data set: remove it") as refusal:
            attempt()
        assert str(refusal.value).startswith(str(stray))
    stray.unlink()
    assert publish(unpublished, draft) == draft


def test_tables_are_the_plans(tmp_path, plan, tables):
    with pytest.raises(ValueError, match="are not the ones that the plan was made for"):
        start_version(LocalStore(tmp_path), plan(), {**tables, "weight_mask": np.zeros((5, 7), np.float32)})


def test_versions_stand_side_by_side_and_latest_is_the_one_built_last(tmp_path, build):
    old = build(tmp_path)
    new = build(tmp_path, recipe_version=2)
    dataset = LocalStore(tmp_path / "toy")
    assert old.version != new.version == latest_version(dataset)
    assert verify(LocalStore(tmp_path / "toy" / old.version)) == []
    build(tmp_path)
    assert latest_version(dataset) == old.version


def test_a_broken_pointer_is_an_error(tmp_path):
    store = LocalStore(tmp_path)
    with pytest.raises(Unpublished, match="has no published version"):
        latest_version(store)
    for content in (b"{}", b"[" * 100_000, b"[1]", b"\xff"):
        store.put("latest", content)
        with pytest.raises(DamagedObject, match="does not name a version"):
            latest_version(store)


def test_observers_are_told_only_while_they_watch():
    seen = []
    with observed(lambda phase, what: seen.append((phase, what))):
        reach(Phase.EVENT, "inside")
    reach(Phase.EVENT, "outside")
    assert seen == [(Phase.EVENT, "inside")]

"""The fault table: what each fault ends in. In none of them is a wrong sample read without a word.

docs/storage.md has the same table in words. Kills at every sync to the disk are in test_publish.py, damage of single
objects in test_verify.py and test_dataset.py, faults of a network in test_object_store.py, all of it mixed in test_trust.py.
"""

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from storage.dataset import open_dataset
from storage.local_store import LocalStore
from storage.manifest import MANIFEST_KEY, Unpublished
from storage.phases import Phase, observed
from storage.publish import finished_shards
from storage.store import DamagedObject, MissingObject
from storage.verify import MendingStore, damage_of, verify
from storage.versions import prune

ROOT, HERE = Path(__file__).resolve().parents[2], Path(__file__).resolve().parent
LOUD = (MissingObject, DamagedObject, Unpublished)
GOOD = (0, 1, 2, 4, 5, 6, 7, 9)
NOBODY = 65534

BUILDER = """
import sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from conftest import build_toy
{before}
print("begun", flush=True)
build_toy(Path(sys.argv[3]))
"""


def start_builder(out: Path, before: str = "") -> subprocess.Popen:
    arguments = [sys.executable, "-c", BUILDER.format(before=before), str(ROOT), str(HERE), str(out)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, build, files_of) -> dict[str, bytes]:
    """The files of an undisturbed build."""
    out = tmp_path_factory.mktemp("whole")
    build(out)
    return files_of(out)


def every_sample_is_right_or_an_error(folder: Path, sample) -> int:
    """How many were right."""
    right = 0
    with contextlib.suppress(*LOUD):
        dataset = open_dataset(folder)
        for index, slot in enumerate(GOOD):
            with contextlib.suppress(*LOUD):
                read = dataset[index]
                for name, value in sample(slot).items():
                    if name == "position_map":
                        assert np.abs(read[name] - value).max() <= 1 / 128
                    else:
                        np.testing.assert_array_equal(read[name], value)
                right += 1
    return right


# -------------------------------------------------------------------------------------------------------- dying builders


def test_builders_killed_at_random_moments_leave_nothing_half_and_the_next_ends_as_an_unbroken_one(
    tmp_path, build, whole, files_of
):
    """Each toy build syncs about a hundred times; slowed down to a millisecond each, so that kills meet it anywhere."""
    slow = "import os, time\nos.fsync = lambda _: time.sleep(0.001)"
    rng, kills = np.random.default_rng(5), 0
    for attempt in range(8):
        builder = start_builder(tmp_path / "out", slow)
        assert builder.stdout.readline() == "begun\n"
        time.sleep(rng.uniform(0, 0.12))
        kills += builder.poll() is None
        builder.send_signal(signal.SIGKILL)
        builder.communicate()
        if (tmp_path / "out" / "toy" / "latest").exists():
            assert files_of(tmp_path / "out") == whole
            (tmp_path / "out").rename(tmp_path / f"done-{attempt}")
        elif (tmp_path / "out" / "toy").exists():
            with contextlib.suppress(Unpublished):  # published, and killed before the pointer was written
                open_dataset(tmp_path / "out" / "toy", next(iter(whole)).split("/")[1])
    assert kills > 3
    build(tmp_path / "out")
    assert files_of(tmp_path / "out") == whole
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_of_two_racing_builders_one_builds_the_other_leaves_and_there_is_one_valid_version(tmp_path, whole, files_of):
    builders = [start_builder(tmp_path, "import os, time\nos.fsync = lambda _: time.sleep(0.003)") for _ in range(2)]
    ends = [(builder.communicate()[1], builder.returncode) for builder in builders]
    refused = [error for error, code in ends if code]
    assert len(refused) <= 1  # none: the second began when the first had ended, and found everything done
    assert all("AlreadyBuilding" in error for error in refused)
    assert files_of(tmp_path) == whole


# ------------------------------------------------------------------------------------------------------------- no space


def test_a_full_disk_ends_a_build_with_its_error_and_space_lets_it_go_on(tmp_path, build, whole, files_of):
    """A limit on the size of files stands in for the disk (the real one is the next test, which needs root)."""
    before = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    before += "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))"
    builder = start_builder(tmp_path, before)
    error = builder.communicate()[1]
    assert builder.returncode == 1
    assert re.search(rf"{os.strerror(errno.EFBIG)}: '{re.escape(str(tmp_path))}/toy/\w+/[\w/.]+'", error), error
    with pytest.raises(Unpublished):
        open_dataset(tmp_path / "toy")
    assert not list(tmp_path.rglob("*.partial"))
    build(tmp_path)
    assert files_of(tmp_path) == whole


@pytest.mark.root
def test_a_full_tmpfs_ends_a_build_with_its_error_and_space_lets_it_go_on(tmp_path, build, whole, files_of):
    disk = tmp_path / "disk"
    disk.mkdir()
    for size, ends in (("40k", errno.ENOSPC), ("4m", 0)):
        option = "remount,size=" if ends == 0 else "size="
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{option}{size}", "tmpfs", str(disk)], check=True)
        try:
            if ends:
                with pytest.raises(OSError, match=rf"{os.strerror(ends)}: '{re.escape(str(disk))}/toy/"):
                    build(disk)
                with pytest.raises(Unpublished):
                    open_dataset(disk / "toy")
            else:
                build(disk)
                assert files_of(disk) == whole
        except BaseException:
            subprocess.run(["umount", str(disk)], check=False)
            raise
    subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_may_not_be_written_to_is_read_and_pinned_but_not_built_in_or_pruned(
    tmp_path, tmp_path_factory, build
):
    """As root every folder may be written to, so a child becomes nobody first."""
    build(tmp_path)
    build(tmp_path, recipe_version=2)
    open_dataset(tmp_path / "toy")[
        0
    ]  # imports what reading needs: the interpreter's folder may not be nobody's to read
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    base = tmp_path_factory.getbasetemp()
    base = base.parent if base.name.startswith("popen-") else base  # of one process of several
    for parent in tmp_path.parents:  # pytest's own folders are for their owner alone
        made = parent.is_relative_to(base) or parent.name.startswith("pytest-")
        if made and parent.stat().st_uid == os.getuid():
            parent.chmod(0o755)
    results = _as_nobody(tmp_path, lambda: open_dataset(tmp_path / "toy")[0]["seed"] == 0)
    assert results == "True"
    assert _as_nobody(tmp_path, lambda: build(tmp_path, recipe_version=3)) == "PermissionError"
    assert _as_nobody(tmp_path, lambda: prune(LocalStore(tmp_path / "toy"), keep=1, now_s=0)) == "PermissionError"
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert verify(LocalStore(open_dataset(tmp_path / "toy").path)) == []


def _as_nobody(folder: Path, act) -> str:
    """What `act` gives, or the name of what it raises, in a child without rights."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            answer = str(act())
        except BaseException as error:
            answer = type(error).__name__
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


# -------------------------------------------------------------------------------------------------------- damaged bytes


KINDS = ("image/c.1.0.0.0", "position_map/c.0.0.0.0", "seed/c.1", "source_id/c.2.0", "seed/zarr.json", "zarr.json",
         "tables/weight_mask/c.0.0", "tables/weight_mask/zarr.json", "receipts/00001.json", MANIFEST_KEY)  # fmt: skip
"""Every kind of object of a version."""


@pytest.mark.parametrize("key", KINDS)
def test_a_flipped_bit_anywhere_is_found_and_no_sample_is_wrong(tmp_path, build, sample, key):
    store = LocalStore(tmp_path / "toy" / build(tmp_path).version)
    content, rng = store.get(key), np.random.default_rng(len(key))
    for place in rng.integers(0, 8 * len(content), 12).tolist():
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        (store.root / key).write_bytes(flipped)
        assert [finding.key for finding in verify(store)] == [key]
        every_sample_is_right_or_an_error(store.root, sample)
    (store.root / key).write_bytes(content)
    assert every_sample_is_right_or_an_error(store.root, sample) == len(GOOD)


@pytest.mark.parametrize("key", KINDS)
def test_an_object_cut_short_anywhere_or_missing_is_found_by_size_alone_and_no_sample_is_wrong(
    tmp_path, build, sample, key
):
    store = LocalStore(tmp_path / "toy" / build(tmp_path).version)
    content = store.get(key)
    for length in (0, 1, len(content) // 2, len(content) - 2):  # without its last line break a manifest is the same
        (store.root / key).write_bytes(content[:length])
        assert [finding.key for finding in verify(store, full=False)] == [key]
        every_sample_is_right_or_an_error(store.root, sample)
    store.delete(key)
    if key == MANIFEST_KEY:
        with pytest.raises(Unpublished):
            open_dataset(store.root)
    else:
        assert [finding.problem for finding in verify(store, full=False)] == ["missing"]
        every_sample_is_right_or_an_error(store.root, sample)


def test_two_shards_that_changed_places_are_found_mended_and_never_read(tmp_path, build, sample, write_shard, files_of):
    manifest = build(tmp_path)
    store, before = LocalStore(tmp_path / "toy" / manifest.version), files_of(tmp_path)
    first, second = (store.root / "seed" / name for name in ("c.0", "c.1"))
    first.rename(store.root / "x")
    second.rename(first)
    (store.root / "x").rename(second)
    findings = verify(store)
    assert {(finding.key, finding.problem) for finding in findings} == {
        ("seed/c.0", "swapped"),
        ("seed/c.1", "swapped"),
    }
    assert every_sample_is_right_or_an_error(store.root, sample) == 1  # the third shard's
    damage = damage_of(manifest, findings)
    assert (damage.shards, damage.beyond_repair) == ((0, 1), ())
    for shard in damage.shards:
        write_shard(MendingStore(store, manifest, damage.keys), manifest.plan, shard, (3, 8))
    assert files_of(tmp_path) == before


# ---------------------------------------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize("jump_s", [-400 * 86_400, 400 * 86_400])
def test_no_build_lock_or_version_depends_on_the_clock(tmp_path, build, whole, files_of, monkeypatch, jump_s):
    """The clock as this process sees it jumps between any two looks; the machine's is left alone."""
    now = [time.time()]

    def jumping() -> float:
        now[0] += jump_s
        return now[0]

    monkeypatch.setattr("time.time", jumping)
    build(tmp_path)
    assert files_of(tmp_path) == whole
    version = open_dataset(tmp_path / "toy").manifest.version
    stamps = [path for path in (tmp_path / "toy" / version).rglob("*") if path.is_file()]
    for path in stamps:  # and files say that they were written at any time
        os.utime(path, times=(max(0.0, jumping()),) * 2)
    build(tmp_path)
    assert files_of(tmp_path) == whole
    assert sorted(finished_shards(LocalStore(tmp_path / "toy" / version), open_dataset(tmp_path / "toy").manifest.plan))


# --------------------------------------------------------------------------------------------------------------- mending


def test_readers_read_on_while_a_shard_is_mended(tmp_path, build, sample, write_shard):
    manifest = build(tmp_path)
    store = LocalStore(tmp_path / "toy" / manifest.version)
    reader = open_dataset(store.root)
    victim = store.root / "image/c.0.0.0.0"
    content = bytearray(victim.read_bytes())
    content[60] ^= 1
    victim.write_bytes(content)
    with pytest.raises(DamagedObject):
        reader[0]
    damage = damage_of(manifest, verify(store))
    read_meanwhile = []

    def read(phase: Phase, what: str) -> None:
        read_meanwhile.append(reader[4]["seed"])

    with observed(read):
        write_shard(MendingStore(store, manifest, damage.keys), manifest.plan, 0, (3, 8))
    assert read_meanwhile
    np.testing.assert_array_equal(
        reader[0]["image"], sample(0)["image"]
    )  # the same reader, and the object is opened anew
    assert verify(store) == []


def test_a_repair_that_would_write_other_bytes_is_refused_and_writes_nothing(tmp_path, build, write_shard, files_of):
    from storage.verify import NotAsPublished

    manifest = build(tmp_path)
    store = LocalStore(tmp_path / "toy" / manifest.version)
    (store.root / "seed/c.0").write_bytes(b"")
    before, damage = files_of(tmp_path), damage_of(manifest, verify(store))
    with pytest.raises(NotAsPublished, match="made again, is not what was published, so it was left as it is"):
        write_shard(MendingStore(store, manifest, damage.keys), manifest.plan, 0, holes=())
    assert files_of(tmp_path) == before
    for act in (lambda s: s.delete("seed/c.1"), lambda s: s.swap("seed/c.1", b"", b"")):
        with pytest.raises(NotAsPublished):
            act(MendingStore(store, manifest, damage.keys))


def test_what_no_source_can_mend_is_named(tmp_path, build):
    manifest = build(tmp_path)
    store = LocalStore(tmp_path / "toy" / manifest.version)
    store.put("seed/c.7", b"whose?")
    (store.root / "receipts/00002.json").write_bytes(b"{}")
    damage = damage_of(manifest, verify(store))
    assert (damage.shards, damage.keys) == ((2,), {"receipts/00002.json"})
    assert [finding.key for finding in damage.beyond_repair] == ["seed/c.7"]

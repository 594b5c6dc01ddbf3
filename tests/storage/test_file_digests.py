"""Laws of hashing many files: the digests do not depend on who hashes, and what goes wrong is told as one process would."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage import file_digests as module
from storage.bad_sample import BadSample
from storage.file_digests import file_digests


@pytest.fixture
def samples(tmp_path):
    """Samples of one to three files; more than go to a child at once."""
    made = []
    for n in range(600):
        paths = [tmp_path / f"{n}.{k}" for k in range(1 + n % 3)]
        for path in paths:
            path.write_bytes(os.urandom(1 + n * 7))
        made.append([(str(path), 5000) for path in paths])
    return made


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_digests_stand_in_the_order_of_the_files(samples, processes):
    found = file_digests(samples, processes=processes)
    for sample, digests in zip(samples, found, strict=True):
        contents = [Path(path).read_bytes() for path, _ in sample]
        assert digests == [(hashlib.sha256(content).hexdigest(), len(content)) for content in contents]


def test_a_child_tells_what_this_process_would(samples, tmp_path):
    os.unlink(samples[3][0][0])
    os.symlink("/etc/passwd", samples[3][0][0])
    samples[300] = [(samples[300][0][0], 10)]
    undecodable = os.fsdecode(os.fsencode(tmp_path) + b'/\xff\n"')
    os.rename(samples[599][0][0], undecodable)
    samples[599][0] = (undecodable, 5000)
    here, there = (file_digests(samples, processes=n) for n in (1, 2))
    bad = {place: (one.code, one.sentence) for place, one in enumerate(there) if isinstance(one, BadSample)}
    assert {place: code for place, (code, _) in bad.items()} == {3: "file.link", 300: "file.too_large"}
    assert bad == {place: (one.code, one.sentence) for place, one in enumerate(here) if isinstance(one, BadSample)}
    assert [one for one in here if isinstance(one, list)] == [one for one in there if isinstance(one, list)]


def test_children_know_the_folder_that_paths_count_from(samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = [[(os.path.basename(path), limit) for path, limit in sample] for sample in samples]
    assert file_digests(relative, processes=2) == file_digests(samples, processes=1)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_missing_file_is_the_worlds_failure_and_is_named(samples, processes):
    missing = samples[400][0][0]
    os.unlink(missing)
    with pytest.raises(FileNotFoundError) as failure:
        file_digests(samples, processes=processes)
    assert failure.value.filename == missing


def test_a_child_that_is_killed_is_told(samples, monkeypatch):
    monkeypatch.setattr(module, "_COMMAND", ("/bin/sh", "-c", "read line; kill -9 $$"))
    with pytest.raises(RuntimeError, match="was killed, perhaps for want of memory"):
        file_digests(samples, processes=2)


def test_many_files_go_to_several_processes_and_few_stay_here(samples, monkeypatch):
    monkeypatch.setattr(module, "_COMMAND", ("/bin/false",))
    assert len(file_digests(samples)) == len(samples)
    monkeypatch.setattr(module, "_FEW", 500)
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    with pytest.raises(RuntimeError, match="a process that hashes files"):
        file_digests(samples)


def test_the_child_loads_nothing_but_the_standard_library():
    """And of our own folders no more than their lazy names, and what it works with."""
    program = (
        "import sys; before = set(sys.modules); import storage.file_digests; "
        "new = [m for m in sys.modules.keys() - before if m.partition('.')[0] not in sys.stdlib_module_names]; "
        "print(*sorted(set(new) - {'__mp_main__'}))"
    )
    root = Path(module.__file__).parent.parent
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    ours = "bad_sample", "file_digests", "processes", "regular_files"
    assert set(run.stdout.split()) <= {"geometry", "geometry.kernel_cache", "geometry.lazy_names", "storage"} | {
        f"storage.{name}" for name in ours
    }

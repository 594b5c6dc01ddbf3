"""What a build and a reader take from the machine, what they give back, and where they run: limits, leaks, odd places."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from flows.local import build_here
from storage.synthetic import write_sample_folder
from tests.hardening.builders import SMALL, files_of
from tests.hardening.leaks import rebuild, taken

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20

BUILD = """
import json, sys
from pathlib import Path
from flows.config import PosmapConfig
from flows.local import build_here
from storage.dataset import open_dataset
if __name__ == "__main__":
    config, source, out, workers = json.loads(sys.argv[1])
    published = build_here(PosmapConfig.model_validate(config), source=source, out=out, workers=workers)
    # not ru_maxrss, which begins with what the process that started this one held
    (peak,) = [int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    print(json.dumps({"path": str(published.path), "peak_kib": peak}))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "sample"
    write_sample_folder(folder, n_identities=1, n_expressions=1, n_views=2)
    return folder


@pytest.fixture(scope="module")
def usual(source, tmp_path_factory) -> dict[str, str]:
    """The bytes of a build where nothing is odd."""
    out = tmp_path_factory.mktemp("usual")
    build_here(SMALL, source=source, out=out, workers=1)
    return files_of(out)


def in_a_process(
    source: Path, out: Path, *, workers: int = 1, prefix: tuple[str, ...] = (), config=SMALL, **process: object
) -> dict[str, object]:
    """A build in a process of its own; what it printed. Raises AssertionError with its error when it fails."""
    import json

    arguments = json.dumps([config.model_dump(mode="json"), str(source), str(out), workers])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **process.pop("env", {})}
    for name in process.pop("without", ()):
        environment.pop(name, None)
    command = [*prefix, sys.executable, "-c", BUILD, arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False, **process)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------------------------------------------------------- leaks


def test_twenty_rebuilds_and_readings_in_one_process_leave_no_descriptor_thread_process_or_file(
    source, tmp_path, monkeypatch
):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    rebuild(source, tmp_path / "out", shards_too=True)
    before = taken(tmp_path / "out")
    for number in range(1, 21):
        rebuild(source, tmp_path / "out", shards_too=number % 4 == 0)
    assert taken(tmp_path / "out") == before


# --------------------------------------------------------------------------------------------------------------- memory


def test_memory_does_not_grow_with_the_number_of_samples(source, tmp_path):
    """4 n copies of the same pictures in shards of the same size: the peak is that of one shard, and a little of lists."""
    peaks = []
    for copies in (2, 8):
        config = SMALL.model_copy(update={"copies": copies, "shard_size": 8})
        told = in_a_process(source, tmp_path / str(copies), config=config)
        peaks.append(told["peak_kib"] / 1024)
    assert peaks[1] < 1.1 * peaks[0], f"{peaks[0]:.0f} MiB for 12 samples, {peaks[1]:.0f} MiB for 48"
    assert peaks[1] < 700, f"{peaks[1]:.0f} MiB"


def test_a_build_ends_within_a_limit_of_its_address_space(source, usual, tmp_path):
    limit = 4 << 30  # of addresses, which libraries map freely; resident it is a tenth

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    in_a_process(source, tmp_path, preexec_fn=limited)
    assert files_of(tmp_path) == usual


READ = """
import sys
from storage.dataset import open_dataset
dataset = open_dataset(sys.argv[1])
for _ in range(int(sys.argv[2])):
    for index in range(len(dataset)):
        dataset[index]
with open("/proc/self/status") as status:
    print(*(line.split()[1] for line in status if "VmHWM" in line))
"""


def test_reading_over_and_over_takes_no_more_memory_than_reading_twice(source, tmp_path):
    path = build_here(SMALL, source=source, out=tmp_path, workers=1).path

    def peak_mib(rounds: int) -> float:
        command = [sys.executable, "-c", READ, str(path), str(rounds)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout) / 1024

    twice, often = peak_mib(2), peak_mib(120)
    assert often < twice + 16, f"{twice:.0f} MiB, then {often:.0f} MiB"


# ---------------------------------------------------------------------------------------------------------- odd places


def test_on_one_core_and_with_64_workers_asked_for_the_bytes_are_the_same(source, usual, tmp_path):
    core = str(min(os.sched_getaffinity(0)))
    in_a_process(source, tmp_path / "one", workers=0, prefix=("taskset", "-c", core))
    assert files_of(tmp_path / "one") == usual
    in_a_process(source, tmp_path / "many", workers=64)
    assert files_of(tmp_path / "many") == usual


@pytest.mark.parametrize("locale", ["C", "POSIX", "tr_TR.UTF-8"])
def test_neither_locale_nor_a_missing_home_nor_a_strange_place_changes_a_byte(source, usual, tmp_path, locale):
    """Everything odd at once: what it changes would show in the bytes, whichever of them it was."""
    place = tmp_path / "Ordner mit Räumen 顔 $HOME;'\""
    place.mkdir()
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    env = {"LC_ALL": locale, "LANG": locale, "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7", "HOME": str(home)}
    without = ("HOME", "PREFECT_HOME", "XDG_CACHE_HOME") if locale == "C" else ()
    in_a_process(source, place / "out", cwd=place, env=env, without=without, umask=0o027)
    assert files_of(place / "out") == usual
    assert list(home.iterdir()) == []


def test_a_source_in_a_strange_place_is_the_same_source(source, usual, tmp_path):
    import shutil

    moved = tmp_path / "père Noël\n100 % 顔"
    shutil.copytree(source, moved)
    in_a_process(moved, tmp_path / "out", cwd="/")
    assert files_of(tmp_path / "out") == usual


@pytest.mark.root
def test_a_build_needs_nothing_writable_but_its_output_and_the_folder_for_temporary_files(source, usual, tmp_path):
    """The containers' promise: a mount namespace of our own, in which all the rest is read-only."""
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    out.mkdir()
    temporary.mkdir()
    script = 'mount --bind "$0" "$0" && mount --bind "$1" "$1" && mount -o remount,ro,bind / && shift && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, str(out), str(temporary))
    env = {"TMPDIR": str(temporary), "HOME": str(temporary), "NUMBA_CACHE_DIR": str(temporary / "numba")}
    in_a_process(source, out, env=env, prefix=prefix, workers=2)
    assert files_of(out) == usual

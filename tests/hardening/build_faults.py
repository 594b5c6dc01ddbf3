"""Every fault at every phase of a build, each with the end that is promised: docs/faults.md is this table.

``python -m tests.hardening.build_faults [--only FAULT …] [--phases PHASE …]`` tries all of it and says what it saw.

A trial is a build in a process of its own with one fault at one phase, and then looks: what is published is whole; what is
not whole cannot be opened; every sample that can be read is right; and the same command, without the fault, ends with the
bytes of a build that nobody disturbed, and with nothing left over.
"""

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from storage.dataset import open_dataset
from storage.local_store import LocalStore
from storage.manifest import MANIFEST_KEY, Unpublished
from storage.store import DamagedObject, MissingObject
from storage.synthetic import write_sample_folder
from storage.verify import verify
from tests.hardening.builders import (
    SMALL,
    build,
    build_with_faulty_workers,
    digest_of_sample,
    files_of,
    forkserver,
    repair,
    samples_of,
)
from tests.hardening.faults import FaultPlan, Room, read_only, seed_between

BUILD_PHASES = ("plan", "shard", "receipt", "verify", "publish", "event")
LOUD = (MissingObject, DamagedObject, Unpublished)
PATIENCE_S = 600.0

WHOLE, KILLED, DAMAGED = "whole", "killed", "whole, then damaged"
"""Ends: published with the right bytes; died by a signal; published, and what the fault damaged afterwards is named."""


def _error(*names: str) -> str:
    return "error: " + " or ".join(names)


def _stops(*names: str) -> dict[str, str]:
    return dict.fromkeys(BUILD_PHASES, _error(*names))


_ALL_WHOLE = dict.fromkeys(BUILD_PHASES, WHOLE)
_FOUND_IN_TIME = _ALL_WHOLE | {"publish": DAMAGED, "event": DAMAGED}
_SOURCE = _ALL_WHOLE | dict.fromkeys(("plan", "shard", "receipt"), _error("SourceChanged"))

PROMISED: Mapping[str, Mapping[str, str]] = {
    "kill": dict.fromkeys(BUILD_PHASES, KILLED),
    "terminate": dict.fromkeys(BUILD_PHASES, KILLED),
    "interrupt": _stops("KeyboardInterrupt"),
    "out_of_memory": _stops("MemoryError"),
    "memory_limit": dict.fromkeys(BUILD_PHASES, "whole or error"),
    "no_descriptors": _stops("OSError") | {"shard": "whole or error", "event": _error("OSError")},
    "disk_full": _stops("OSError"),
    "tmpfs_full": _stops("OSError"),
    "input_output_error": _stops("OSError"),
    "read_only": _stops("PermissionError"),
    "slow_disk": _ALL_WHOLE,
    "clock_back": _ALL_WHOLE,
    "clock_on": _ALL_WHOLE,
    "flipped_bit": _FOUND_IN_TIME,
    "flipped_bit_of_a_table": _FOUND_IN_TIME,
    "flipped_bit_of_metadata": _FOUND_IN_TIME,
    "flipped_bit_of_the_list": _FOUND_IN_TIME,
    "cut_short": _FOUND_IN_TIME,
    "lost_object": _FOUND_IN_TIME,
    "swapped_shards": _FOUND_IN_TIME,
    "bad_sample": _SOURCE,
    "poison_sample": _SOURCE,
    "endless_numbers": _SOURCE,
    "another_model": _ALL_WHOLE,
    "second_builder": _ALL_WHOLE,
    "lost_worker": {"shard": _error("WorkerDied"), "receipt": _error("WorkerDied")},
    "lost_dask_worker": {"shard": WHOLE, "receipt": WHOLE},
}
"""What a build with this fault at that phase ends in. A lost worker: there are workers only while shards are made."""
LABELS: Mapping[str, str] = {
    "kill": "kill -9",
    "terminate": "kill (SIGTERM)",
    "interrupt": "Ctrl-C",
    "out_of_memory": "out of memory (`MemoryError`)",
    "memory_limit": "memory limit (24 MiB more)",
    "no_descriptors": "no file can be opened",
    "disk_full": "disk full (file size limit)",
    "tmpfs_full": "disk full (a real small one)",
    "input_output_error": "I/O error",
    "read_only": "read-only, not root",
    "slow_disk": "slow disk",
    "clock_back": "clock back 400 days at every look",
    "clock_on": "clock on 400 days at every look",
    "flipped_bit": "flipped bit in a shard",
    "flipped_bit_of_a_table": "flipped bit in a table",
    "flipped_bit_of_metadata": "flipped bit in a `zarr.json`",
    "flipped_bit_of_the_list": "flipped bit in the list of pictures",
    "cut_short": "shard cut short",
    "lost_object": "shard lost",
    "swapped_shards": "two shards swapped",
    "bad_sample": "source becomes damaged",
    "poison_sample": "source becomes poison",
    "endless_numbers": "source becomes NaN and huge",
    "another_model": "source's model changes",
    "second_builder": "second builder",
    "lost_worker": "worker of the pool killed",
    "lost_dask_worker": "Dask worker killed",
}
"""What the page calls each fault."""
NEEDS_ROOT = {"tmpfs_full"}
AFTER_PUBLISHING = {fault for fault, ends in PROMISED.items() if DAMAGED in ends.values()}


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A build without faults, to hold all others to. `source` is never changed: rooms get copies."""

    source: Path
    version: str
    files: Mapping[str, str]
    samples: list[str]

    @classmethod
    def made(cls, folder: Path, context: ForkServerContext) -> "Undisturbed":
        """Draw the source, if it is not there, and build it."""
        room = Room(folder)
        if not room.source.is_dir():
            write_sample_folder(room.source, n_identities=1, n_expressions=1, n_views=2)
        end_of(_started(context, build, room))
        dataset = room.out / SMALL.name
        version = open_dataset(dataset).manifest.version
        return cls(room.source, version, files_of(room.out), samples_of(dataset))


@dataclass(frozen=True, slots=True)
class Seen:
    """How a trial ended: in which of the promised ways, with which sentence, after how many seconds."""

    end: str
    sentence: str
    seconds: float


def trial(fault: str, phase: str, undisturbed: Undisturbed, folder: Path, context: ForkServerContext) -> Seen:
    """One fault at one phase. Raises AssertionError when anything is not whole, silent, or not mended by the next build."""
    room = Room(folder)
    room.folder.mkdir(parents=True)
    room.folder.chmod(0o755)
    room.out.mkdir()
    shutil.copytree(undisturbed.source, room.source)
    with _small_disk(room, fault):
        begin = time.monotonic()
        code = end_of(_faulty_build(fault, phase, room, context))
        seconds = time.monotonic() - begin
        struck, ends, sentences = room.told("struck"), room.told("ended"), room.told("sentence")
        assert struck == ([] if fault in ("lost_worker", "lost_dask_worker") and not struck else struck)
        assert struck, f"{fault} never struck at {phase}"
        _undo(room, fault, undisturbed)
        damaged = _look_at(room, undisturbed)
        end = _end(code, ends, damaged)
        if fault == "second_builder":
            assert room.told("second") == ["AlreadyBuilding"], "the second builder was not sent away"
        if damaged:
            assert fault in AFTER_PUBLISHING, f"a published version is not whole: {damaged}"
            assert end_of(_started(context, repair, room, undisturbed.version)) == 0, room.told("sentence")
        assert end_of(_started(context, build, room)) == 0, f"the next build failed: {room.told('sentence')[-1:]}"
        assert files_of(room.out) == undisturbed.files, "the next build ended with other bytes"
        left = [path for path in room.out.rglob(".*") if path.name != ".lock"]
        assert not left, f"left over: {left}"
    return Seen(end, sentences[0].splitlines()[0] if sentences and sentences[0] else "", seconds)


def holds(promised: str, seen: Seen) -> bool:
    """Whether an end is one that was promised."""
    if promised == "whole or error":
        return seen.end == WHOLE or seen.end.startswith("error: ")
    if promised.startswith("error: "):
        return seen.end.startswith("error: ") and seen.end[7:] in promised[7:].split(" or ")
    return seen.end == promised


def _faulty_build(fault: str, phase: str, room: Room, context: ForkServerContext) -> ForkServerProcess:
    at = {"shard": (0.05, (16, 28)), "receipt": (0.4, (1, 1))}
    if PROMISED[fault] is _SOURCE:  # while the second shard is stored, the last one has been read
        at = {"shard": (0.05, (2, 12)), "receipt": (0.4, (0, 0))}
    probability, (first, last) = at.get(phase, (1.0, (0, 0)))
    if fault in ("lost_worker", "lost_dask_worker"):
        plan = FaultPlan({phase: {"kill": probability}}, seed_between(probability, 0, 12 if phase == "shard" else 0))
        scheduler = "local" if fault == "lost_dask_worker" else None
        return _started(context, build_with_faulty_workers, room, plan, scheduler=scheduler)
    plan = FaultPlan({phase: {fault: probability}}, seed_between(probability, first, last))
    return _started(context, build, room, plan=plan, as_nobody=fault == "read_only")


def _started(context: ForkServerContext, target: object, *arguments: object, **options: object) -> ForkServerProcess:
    child = context.Process(target=target, args=arguments, kwargs=options)
    child.start()
    return child


def end_of(child: ForkServerProcess) -> int:
    """The exit code of a child; none may hang."""
    child.join(PATIENCE_S)
    hangs = child.is_alive()
    if hangs:
        child.kill()
        child.join()
    code = child.exitcode
    child.close()
    assert not hangs, f"a build hung for {PATIENCE_S:.0f} s"
    return code


def _end(code: int, ends: list[str], damaged: list[str]) -> str:
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        return KILLED
    if code != 0:
        return f"error: {ends[-1] if ends else f'exit code {code} without a word'}"  # no memory was left for one
    return DAMAGED if damaged else WHOLE


def _look_at(room: Room, undisturbed: Undisturbed) -> list[str]:
    """What a published version has wrong with it; raises AssertionError for a wrong sample, or half a version opened."""
    folder = room.out / SMALL.name / undisturbed.version
    if not (folder / MANIFEST_KEY).exists():
        for place in (folder, folder.parent):
            with contextlib.suppress(Unpublished):
                open_dataset(place)
                raise AssertionError("a version without a manifest was opened")
        return []
    found = sorted(finding.key for finding in verify(LocalStore(folder)))
    dataset = open_dataset(folder)
    assert len(dataset) == len(undisturbed.samples)
    for index, promised in enumerate(undisturbed.samples):
        with contextlib.suppress(*LOUD):
            assert digest_of_sample(dataset[index]) == promised, f"sample {index} is wrong, and nothing said so"
    assert bool(found) == (
        files_of(folder) != {k.partition("/")[2].partition("/")[2]: v for k, v in _version_files(undisturbed)}
    )
    return found


def _version_files(undisturbed: Undisturbed) -> Iterator[tuple[str, str]]:
    inside = f"{SMALL.name}/{undisturbed.version}/"
    return ((key, digest) for key, digest in undisturbed.files.items() if key.startswith(inside))


@contextlib.contextmanager
def _small_disk(room: Room, fault: str) -> Iterator[None]:
    if fault != "tmpfs_full":
        yield
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(room.out)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(room.out)], check=True)


def _undo(room: Room, fault: str, undisturbed: Undisturbed) -> None:
    """What whoever looks after the machine does: make room, give the right to write back, put the source back."""
    (room.out / "filler").unlink(missing_ok=True)
    if fault == read_only.__name__:
        for path in [room.out, *room.out.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(room.source)
    shutil.copytree(undisturbed.source, room.source)


def main() -> int:
    """Try everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="some faults")
    parser.add_argument("--phases", nargs="+", default=BUILD_PHASES)
    given = parser.parse_args()
    context, wrong = forkserver(), 0
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        undisturbed = Undisturbed.made(folder / "undisturbed", context)
        for fault, ends in PROMISED.items():
            if given.only is not None and fault not in given.only:
                continue
            for phase in [phase for phase in ends if phase in given.phases]:
                try:
                    seen = trial(fault, phase, undisturbed, folder / f"{fault}-{phase}", context)
                    right, told = holds(ends[phase], seen), f"{seen.end}, {seen.seconds:.1f} s  {seen.sentence[:150]}"
                except (AssertionError, OSError) as error:
                    right, told = False, f"{type(error).__name__}: {error}"
                wrong += not right
                print(f"{'  ' if right else '! '}{fault:24} {phase:8} {ends[phase]:24} {told}", flush=True)
                shutil.rmtree(folder / f"{fault}-{phase}", ignore_errors=True)
    print(f"{wrong} trials ended otherwise than promised")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

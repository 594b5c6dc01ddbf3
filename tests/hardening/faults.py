"""A seeded hook that puts faults at the named phases of a build: ``{phase: {fault: probability}}`` and a seed.

:func:`injected` is given to :func:`storage.phases.observed` by a process that builds (:mod:`tests.hardening.builders`). A
fault strikes at most once in a process, and says so in the room's log before it does, so that whoever watches from outside
knows. Nothing outside the process and the room (a folder with a copy of the source, and the output) is touched: the clock
that jumps is the process's own, and the memory that ends is its limit.
"""

import contextlib
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from storage.phases import observed

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
_DAYS_400_S = 400 * 86_400
_FILLER = "filler"


@dataclass(frozen=True, slots=True)
class Room:
    """Where a build takes place, and all that faults may touch.

    source   a copy of the sample, for the faults that change files
    out      the builds' output folder
    log      lines of JSON: which faults struck, and how the build ended
    """

    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    def write(self, **told: object) -> None:
        """One line of the log; written at once, and by a handle that was opened before any fault."""
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")

    def told(self, name: str) -> list[str]:
        """What the log says under `name`."""
        if not self.log.exists():
            return []
        lines = (json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines())
        return [line[name] for line in lines if name in line]


Fault = Callable[[Room], None]


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which faults strike where, and how probably; a plan and a seed are always the same faults."""

    at: Mapping[str, Mapping[str, float]]
    seed: int = 0

    @classmethod
    def always(cls, phase: str, fault: str) -> "FaultPlan":
        """The fault at the first moment of that phase."""
        return cls({phase: {fault: 1.0}})


@dataclass(slots=True)
class _Injector:
    plan: FaultPlan
    room: Room
    faults: Mapping[str, Fault]
    struck: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.plan.seed)

    _rng: random.Random = field(init=False)

    def __call__(self, phase: str, what: str) -> None:
        for name, probability in self.plan.at.get(phase, {}).items():
            if name not in self.struck and self._rng.random() < probability:
                self.struck.add(name)
                self.room.write(struck=name, phase=str(phase), what=what)
                self.faults[name](self.room)


def seed_between(probability: float, first: int, last: int) -> int:
    """A seed with which a fault of that probability strikes first at one of the moments `first` … `last`, from 0."""
    for seed in range(100_000):
        rng = random.Random(seed)
        moment = next(moment for moment in range(100_000) if rng.random() < probability)
        if first <= moment <= last:
            return seed
    raise ValueError(f"no seed strikes between {first} and {last} with probability {probability}")


@contextlib.contextmanager
def injected(plan: FaultPlan, room: Room, faults: Mapping[str, Fault] | None = None) -> Iterator[None]:
    """Put the faults of `plan` into what is built while the block runs."""
    with observed(_Injector(plan, room, FAULTS if faults is None else faults)):
        yield


# --------------------------------------------------------------------------------------------- the process and its machine


def kill(room: Room) -> None:
    """``kill -9`` of the process itself."""
    os.kill(os.getpid(), signal.SIGKILL)


def terminate(room: Room) -> None:
    """``kill``, as a service manager ends a process."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)


def interrupt(room: Room) -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt


def out_of_memory(room: Room) -> None:
    """The next allocation fails."""
    raise MemoryError("no memory is left (injected)")


def memory_limit(room: Room) -> None:
    """From now on the address space grows by 24 MiB at most: large allocations and new threads fail wherever they come.

    With nothing at all left, Python 3.11 itself may wait for ever for a thread that died before it had begun.
    """
    with open("/proc/self/statm", encoding="ascii") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (24 << 20), resource.RLIM_INFINITY))


def no_descriptors(room: Room) -> None:
    """From now on no file can be opened."""
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(3, highest), 4096))


def clock_back(room: Room) -> None:
    """The process's clock goes back by 400 days at every look."""
    _jumping(-_DAYS_400_S)


def clock_on(room: Room) -> None:
    """The process's clock goes on by 400 days at every look."""
    _jumping(_DAYS_400_S)


def _jumping(step_s: float) -> None:
    now = time.time()

    def jump() -> float:
        nonlocal now
        now = max(0.0, now + step_s)
        return now

    time.time = jump
    time.time_ns = lambda: int(jump() * 1e9)


# ------------------------------------------------------------------------------------------------------------- the disk


def disk_full(room: Room) -> None:
    """No file may grow beyond 16 bytes: writes end in the middle, with the system's error (Python ignores SIGXFSZ)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, resource.RLIM_INFINITY))


def tmpfs_full(room: Room) -> None:
    """The rest of the room's small file system is taken by somebody else."""
    piece = bytes(1 << 12)
    with open(room.out / _FILLER, "wb", buffering=0) as file:
        while True:
            try:
                file.write(piece)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    return
                raise


def input_output_error(room: Room) -> None:
    """The disk does not do what it was asked for."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def read_only(room: Room) -> None:
    """No folder of the output can be written to any more (the process is not root)."""
    for folder in [room.out, *(path for path in room.out.rglob("*") if path.is_dir())]:
        folder.chmod(0o555)


def slow_disk(room: Room) -> None:
    """The disk stands still for half a second, and every sync takes ten milliseconds from now on."""
    time.sleep(0.5)
    os.fsync = lambda descriptor: time.sleep(0.01)


# ------------------------------------------------------------------------------------------------- what is stored, and read


def flipped_bit(room: Room) -> None:
    """One bit of the largest object that is finished."""
    _flip(_largest(room))


def cut_short(room: Room) -> None:
    """The largest finished object loses its second half."""
    for path in _largest(room):
        os.truncate(path, path.stat().st_size // 2)


def flipped_bit_of_a_table(room: Room) -> None:
    """One bit of a table that all samples share."""
    _flip(sorted(room.out.glob("*/*/tables/weight_mask/c.*"))[-1:])


def flipped_bit_of_metadata(room: Room) -> None:
    """One bit of an array's description, which other programs read it by."""
    _flip(list(room.out.glob("*/*/position_map/zarr.json")))


def flipped_bit_of_the_list(room: Room) -> None:
    """One bit of the list of pictures."""
    _flip(list(room.out.glob("*/*/pictures.json")))


def _flip(paths: list[Path]) -> None:
    for path in paths:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def lost_object(room: Room) -> None:
    """The largest finished object is gone."""
    for path in _largest(room):
        path.unlink()


def swapped_shards(room: Room) -> None:
    """Two finished objects of one array change places, where there are two."""
    shards = sorted(room.out.glob("*/*/image/c.*"))
    if len(shards) > 1:
        aside = shards[0].with_name("aside")
        shards[0].rename(aside)
        shards[1].rename(shards[0])
        aside.rename(shards[1])


def _largest(room: Room) -> list[Path]:
    """The largest object that shards have stored, if there is one."""
    arrays = [path for path in room.out.glob("*/*/*/c.*") if path.is_file()]
    return sorted(arrays, key=lambda path: (path.stat().st_size, path.name))[-1:]


def _last_annotation(room: Room) -> Path:
    return sorted(room.source.rglob("*_0.mat"))[-1]


def bad_sample(room: Room) -> None:
    """An annotation is cut short."""
    path = _last_annotation(room)
    path.write_bytes(path.read_bytes()[:500])


def poison_sample(room: Room) -> None:
    """An annotation becomes one that ends the process that reads it: cells in cells, 5,000 deep."""
    from tests.hardening.poison import nested_cells

    _last_annotation(room).write_bytes(nested_cells(5000))


def endless_numbers(room: Room) -> None:
    """An annotation's pose becomes NaN, infinite and huge."""
    import scipy.io

    path = _last_annotation(room)
    stored = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
    stored["Pose_Para"] = stored["Pose_Para"] * float("nan")
    stored["Shape_Para"] = stored["Shape_Para"] * 1e30
    scipy.io.savemat(path, stored, do_compression=True)


def another_model(room: Room) -> None:
    """The folder's annotations now say that they count in another model."""
    for sidecar in room.source.rglob("model.json"):
        content = json.loads(sidecar.read_text(encoding="utf-8"))
        sidecar.write_text(json.dumps({**content, "fingerprint": "0" * 32}), encoding="utf-8")


def second_builder(room: Room) -> None:
    """Somebody else begins the same build; its end is in the log."""
    command = [sys.executable, "-m", "tests.hardening.builders", str(room.folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FACEFOUNDRY_SECOND": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=120)


FAULTS: Mapping[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill, terminate, interrupt, out_of_memory, memory_limit, no_descriptors, clock_back, clock_on, disk_full, tmpfs_full,
        input_output_error, read_only, slow_disk, flipped_bit, flipped_bit_of_a_table,
        flipped_bit_of_metadata, flipped_bit_of_the_list, cut_short, lost_object, swapped_shards, bad_sample, poison_sample,
        endless_numbers, another_model, second_builder,
    )
}  # fmt: skip


def become_nobody(room: Room) -> None:
    """Give root's rights up, where the process has them; the room is given to nobody first."""
    if os.getuid() == 0:
        for path in [room.folder, *room.folder.rglob("*")]:
            shutil.chown(path, NOBODY, NOBODY)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

"""Builders in processes of their own, that can be killed, watched and told where to fail.

``python -m tests.hardening.builders ROOM`` builds the room's data set once, as a second builder.
"""

import contextlib
import hashlib
import multiprocessing
import os
import resource
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import numpy as np

import flows.local
from flows.build import Job, ShardOutcome, filled_shard
from flows.config import PosmapConfig
from flows.local import build_here
from flows.repair import repair_here
from render.crop import CropConfig
from storage.dataset import open_dataset
from storage.local_store import LocalStore
from storage.verify import verify
from tests.hardening.faults import FaultPlan, Room, become_nobody, injected

SMALL = PosmapConfig(crop=CropConfig(size_px=64), shard_size=2)
"""A data set that is built in a second."""
ENDED, FAILED = 0, 3


def forkserver() -> ForkServerContext:
    """Children that begin with all that building needs loaded, and without their parent's threads and locks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.hardening.builders", "flows.posmaps", "flows.build_300wlp_posmaps"])
    return context


def build(
    room: Room,
    config: PosmapConfig = SMALL,
    *,
    workers: int = 1,
    plan: FaultPlan | None = None,
    max_bad: float = 0.0,
    as_nobody: bool = False,
    scheduler: str | None = None,
) -> None:
    """In a child: build, with the faults of `plan`; the end is in the room's log and in the exit code."""
    if as_nobody:
        _load_all_that_building_needs(room, config)
        become_nobody(room)
    with injected(plan or FaultPlan({}), room):
        try:
            published = build_here(
                config, source=room.source, out=room.out, workers=workers, max_bad=max_bad, scheduler=scheduler
            )
        except BaseException as error:
            _tell_end(room, error)
        else:
            _lift_limits()
            room.write(ended="published", version=published.version)


def _load_all_that_building_needs(room: Room, config: PosmapConfig) -> None:
    """By building once: the interpreter's own folder may not be nobody's to read."""
    aside = room.folder / "aside"
    build_here(config, source=room.source, out=aside, workers=1)
    shutil.rmtree(aside)


@dataclass(frozen=True, slots=True)
class FaultyShards:
    """Makes shards in a pool's worker, with the faults of `plan` there; it travels to the workers by pickling."""

    plan: FaultPlan
    room: Room

    def __call__(self, job: Job, shard: int) -> Callable[[], ShardOutcome]:
        done = set(self.room.told("struck"))  # by a worker that is no more: a fault strikes once
        at = {
            phase: {fault: p for fault, p in faults.items() if fault not in done}
            for phase, faults in self.plan.at.items()
        }
        faults = FaultPlan(at, self.plan.seed + shard)
        with injected(faults, self.room):
            store = filled_shard(job, shard)

        def stored() -> ShardOutcome:
            with injected(faults, self.room):
                return store()

        return stored


def build_with_faulty_workers(room: Room, plan: FaultPlan, *, scheduler: str | None = None) -> None:
    """In a child: build with two workers, which have the faults."""
    flows.local.filled_shard = FaultyShards(plan, room)  # type: ignore[assignment]
    build(room, workers=2, scheduler=scheduler)


def repair(room: Room, version: str, *, plan: FaultPlan | None = None) -> None:
    """In a child: verify a version and repair what is found."""
    with injected(plan or FaultPlan({}), room):
        try:
            store = LocalStore(room.out / SMALL.name / version)
            mended = repair_here(store, verify(store), source=room.source, workers=1)
        except BaseException as error:
            _tell_end(room, error)
        else:
            room.write(ended="repaired", mended=sorted(mended))


def _tell_end(room: Room, error: BaseException) -> None:
    _lift_limits()
    room.write(ended=type(error).__name__, sentence=str(error))
    os._exit(FAILED)


def _lift_limits() -> None:
    """The limits that a fault has set hold for the log too, so they are lifted first (the soft ones can be)."""
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_NOFILE):
        with contextlib.suppress(ValueError):
            resource.setrlimit(limit, (resource.getrlimit(limit)[1],) * 2)


def start(context: ForkServerContext, *arguments: object, **options: object) -> ForkServerProcess:
    """`build` in a child that is running now."""
    child = context.Process(target=build, args=arguments, kwargs=options)
    child.start()
    return child


def files_of(folder: Path) -> dict[str, str]:
    """The sha256 of every object under `folder` by its path: names with a dot (the lock, half-written ones) are none."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    shown = ((path.relative_to(folder), path) for path in files)
    return {
        relative.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for relative, path in shown
        if not any(part.startswith(".") for part in relative.parts)
    }


def samples_of(folder: Path) -> list[str]:
    """A digest of each sample of a published version, as a reader gets it."""
    dataset = open_dataset(folder)
    return [digest_of_sample(dataset[index]) for index in range(len(dataset))]


def digest_of_sample(sample: Mapping[str, object]) -> str:
    """A digest of all targets of one sample."""
    digest = hashlib.sha256()
    for name, value in sample.items():
        array = np.asarray(value)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    here = Room(Path(sys.argv[1]))
    try:
        build_here(SMALL, source=here.source, out=here.out, workers=1)
    except Exception as error:
        here.write(second=type(error).__name__)
    else:
        here.write(second="published")

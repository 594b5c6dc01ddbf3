"""A build on this machine, without a server: the plan here, the shards in worker processes, publishing here again."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from functools import partial
from multiprocessing import forkserver, resource_tracker
from typing import Any, TypeVar

from flows.build import Build, Published, ShardOutcome, check_bad, filled_shard, opened_build, publish_build
from flows.config import BuildConfig
from flows.errors import ShardsDamaged, WorkerDied
from flows.progress import ProgressMaker, silent_for
from flows.recipe import RECIPES
from geometry.models import BUILT_IN
from storage.processes import end_with_parent, usable_cores

_WORKERS_PER_SPARE = 8
"""One process more for each so many, beside the first one more: storing takes a tenth of a shard's time."""

T = TypeVar("T")


def build_here(
    config: BuildConfig,
    *,
    source: str | os.PathLike[str] | None = None,
    model: str | Sequence[str] = "built-in",
    out: str | os.PathLike[str] = "datasets",
    files: Mapping[str, str | os.PathLike[str]] | None = None,
    workers: int = 0,
    max_bad: float = 0.01,
    fail_on_first: bool = False,
    progress: ProgressMaker = silent_for,
    scheduler: str | None = None,
) -> Published:
    """Build and publish a data set; `workers` processes (0: one for each core).

    With `scheduler` (see :func:`flows.dask_workers.on_dask`) shards are made by Dask's workers. Source, model, out and
    files as in :func:`flows.build.opened_build`. `progress(total)` is a context manager that gives the function to
    report to. Raises TooManyBad, AlreadyBuilding, SourceChanged, WorkerDied; whatever ends a
    build, the shards that were finished are kept, and the next call goes on.
    """

    check_scheduler(scheduler)

    def start_ahead(n_pictures: int) -> None:
        if scheduler is None and (workers or usable_cores()) > 1 and n_pictures > config.shard_size:
            start_forkserver(filled_shard, model)

    def attempt() -> Published:
        with opened_build(config, source=source, model=model, out=out, files=files, on_listed=start_ahead) as build:
            make_shards(
                build,
                filled_shard,
                workers=workers,
                max_bad=max_bad,
                fail_on_first=fail_on_first,
                progress=progress,
                scheduler=scheduler,
            )
            return publish_build(build)

    try:
        return attempt()
    except ShardsDamaged:  # they were forgotten: make them again, once
        return attempt()


def make_shards(
    build: Build,
    fill: Callable[..., Callable[[], ShardOutcome]],
    *,
    workers: int,
    max_bad: float,
    fail_on_first: bool,
    progress: ProgressMaker,
    scheduler: str | None = None,
) -> list[ShardOutcome]:
    """Make every missing shard by ``fill(job, shard)()``; the outcomes of all. Raises as :func:`build_here`."""
    outcomes = dict(build.finished)
    n_slots = build.job.plan.n_slots

    def check() -> None:
        check_bad(list(outcomes.values()), n_slots=n_slots, max_bad=max_bad, fail_on_first=fail_on_first)

    check()
    if build.missing_shards:
        with progress(n_slots) as report:
            report(sum(len(build.job.plan.slots(shard)) for shard in outcomes))
            calls = [(build.job, shard) for shard in build.missing_shards]
            if scheduler is None:
                made = storing_behind(fill, calls, workers)
            else:
                made = workers_of(scheduler)(_stored, [(fill, *call) for call in calls], workers)
            for outcome in made:
                outcomes[outcome.shard] = outcome
                report(len(build.job.plan.slots(outcome.shard)))
                check()
    return list(outcomes.values())


def workers_of(scheduler: str | None) -> Callable[[Callable[..., T], Sequence[tuple], int], Iterator[T]]:
    """:func:`in_workers`, or the same on Dask's workers where a scheduler is named."""
    if scheduler is None:
        return in_workers
    from flows.dask_workers import on_dask  # here: needs the extra `cluster`

    return partial(on_dask, scheduler=scheduler)


def check_scheduler(scheduler: str | None) -> None:
    """Raise ValueError where a scheduler is named and Dask is missing: before a source is drawn or listed for it."""
    if scheduler is not None:
        from flows.dask_workers import dask_here

        dask_here()


def in_workers(work: Callable[..., T], calls: Sequence[tuple], workers: int) -> Iterator[T]:
    """``work(*call)`` of every call, as they come, in `workers` processes (0: one for each core)."""
    workers = workers or usable_cores()
    if workers == 1 or len(calls) <= 1:
        yield from (work(*call) for call in calls)
        return
    start_forkserver(work)
    yield from _in_processes(work, calls, workers, end_with_parent)


def storing_behind(fill: Callable[..., Callable[[], T]], calls: Sequence[tuple], workers: int) -> Iterator[T]:
    """``fill(*call)()`` of every call, as they come; `workers` of them (0: one for each core) are filled at a time.

    What `fill` gives waits for the disk or for the network most of the time, and others are filled meanwhile: by this
    process, which leaves it to a thread, or by a process more than there are `workers`.
    """
    workers = workers or usable_cores()
    if workers == 1 or len(calls) <= 1:
        yield from _one_behind(fill, calls)
        return
    start_forkserver(fill)
    turns = multiprocessing.get_context("forkserver").Semaphore(workers)
    n_processes = workers + 1 + workers // _WORKERS_PER_SPARE
    yield from _in_processes(_in_turn, [(fill, *call) for call in calls], n_processes, _take_turns, turns)


def _stored(fill: Callable[..., Callable[[], T]], *call: Any) -> T:
    return fill(*call)()


def _one_behind(fill: Callable[..., Callable[[], T]], calls: Sequence[tuple]) -> Iterator[T]:
    storing: Future[T] | None = None
    with ThreadPoolExecutor(1) as pool:
        for call in calls:
            store = fill(*call)
            if storing is not None:
                yield storing.result()
            storing = pool.submit(store)
        if storing is not None:
            yield storing.result()


_turns: AbstractContextManager[object]
"""In a worker: what so many hold as may fill at a time."""


def _take_turns(turns: AbstractContextManager[object]) -> None:
    global _turns
    end_with_parent()
    _turns = turns


def _in_turn(fill: Callable[..., Callable[[], T]], *call: Any) -> T:
    with _turns:
        store = fill(*call)
    return store()


def _in_processes(
    work: Callable[..., T],
    calls: Sequence[tuple],
    n_processes: int,
    begin: Callable[..., None],
    *beginning: object,
) -> Iterator[T]:
    """``work(*call)`` of every call, as they come, in processes that each ``begin(*beginning)``."""
    # Not fork: the builders' lock and BLAS threads would come along.
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(min(n_processes, len(calls)), context, begin, beginning)
    try:
        futures = [pool.submit(work, *call) for call in calls]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise WorkerDied(
            "a worker process was killed, perhaps for want of memory; finished shards are kept: start the build "
            "again, with fewer --workers if it happens again"
        ) from None
    finally:  # after Ctrl-C or too many bad samples, shards that nobody wants any more are not begun
        pool.shutdown(wait=True, cancel_futures=True)


def _modules_of(work: Callable[..., object], model: str | Sequence[str]) -> list[str]:
    """What a worker will import: the work's module, those of the recipes that were planned with here, and what it begins with."""
    recipes = (place.partition(":")[0] for place in RECIPES.values())
    built_in = ["flows.worker_start_built_in"] if model == BUILT_IN else []
    return [work.__module__, *(name for name in recipes if name in sys.modules), "flows.worker_start", *built_in]


def start_forkserver(work: Callable[..., object], model: str | Sequence[str] = "") -> None:
    """Begin to start the process that workers are forked from, unless it runs; it imports what `work` needs meanwhile.

    It gets this installation's modules: it would look in the current folder first, where another checkout may lie, or
    somebody's own `geometry` or `train`. Ctrl-C is not for it: while it imports it would show where it was interrupted.
    Its workers end by it again (:func:`storage.processes.end_with_parent`).
    """
    forkserver.set_forkserver_preload(_modules_of(work, model))  # imported once, not once for each worker
    resource_tracker.ensure_running()  # first, for it would unblock what is blocked here
    name = "PYTHONSAFEPATH"
    before = os.environ.get(name)
    os.environ[name] = "1"
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before

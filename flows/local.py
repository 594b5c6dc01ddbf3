"""A build on this machine, without a server: the plan here, the shards in worker processes, publishing here again."""

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager

from flows.build import Build, Published, ShardOutcome, build_shard, check_bad, opened_build, publish_build
from flows.config import PosmapConfig
from flows.errors import WorkerDied
from flows.progress import Report, silent_for

ProgressMaker = Callable[[int], AbstractContextManager[Report]]


def build_here(
    config: PosmapConfig,
    *,
    source: str | os.PathLike[str] | None = None,
    model: str | Sequence[str] = "built-in",
    out: str | os.PathLike[str] = "datasets",
    workers: int = 0,
    max_bad: float = 0.01,
    fail_on_first: bool = False,
    progress: ProgressMaker = silent_for,
) -> Published:
    """Build and publish a data set; `workers` processes (0: one for each core).

    `progress(total)` is a context manager that gives the function to report to. Raises TooManyBad, AlreadyBuilding,
    SourceChanged, WorkerDied; whatever ends a build, the shards that were finished are kept, and the next call goes on.
    """
    with opened_build(config, source=source, model=model, out=out) as build:
        outcomes = dict(build.finished)
        n_slots = build.job.plan.n_slots

        def check() -> None:
            check_bad(list(outcomes.values()), n_slots=n_slots, max_bad=max_bad, fail_on_first=fail_on_first)

        check()
        if build.missing_shards:
            with progress(n_slots) as report:
                report(sum(len(build.job.plan.slots(shard)) for shard in outcomes))
                for outcome in _outcomes(build, workers or usable_cores()):
                    outcomes[outcome.shard] = outcome
                    report(len(build.job.plan.slots(outcome.shard)))
                    check()
        return publish_build(build)


def usable_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """For worker processes: end when the process that hands out the work does, however that ends.

    A pool's worker waits for work on a pipe that its fellow workers hold open too, so it would wait for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _outcomes(build: Build, workers: int) -> Iterator[ShardOutcome]:
    """The outcome of every missing shard, as they come."""
    missing = build.missing_shards
    if workers == 1 or len(missing) <= 1:
        yield from (build_shard(build.job, shard) for shard in missing)
        return
    # Not fork: the builders' lock and BLAS threads would come along.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flows.build"])  # imported once, not once for each worker
    with ProcessPoolExecutor(min(workers, len(missing)), mp_context=context, initializer=end_with_parent) as pool:
        futures = [pool.submit(build_shard, build.job, shard) for shard in missing]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise WorkerDied(
                "a worker process was killed, perhaps for want of memory; finished shards are kept: start the build "
                "again, with fewer --workers if it happens again"
            ) from None
        finally:  # Ctrl-C, too many bad samples: do not wait for shards that nobody wants any more
            pool.shutdown(wait=False, cancel_futures=True)

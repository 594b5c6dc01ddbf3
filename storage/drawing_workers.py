"""Drawing in several processes: the workers of folders that are drawn from a seed."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import cv2

from storage.processes import end_with_parent

_Job = TypeVar("_Job")
_Done = TypeVar("_Done")


def drawn_by_workers(draw: Callable[[_Job], _Done], jobs: Iterable[_Job], *, workers: int) -> Iterator[_Done]:
    """`draw` of every job, each handed out when it is done, in order.

    One worker is this process; more are processes of their own, started by forkserver.
    """
    if workers == 1:
        yield from map(draw, jobs)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as pool:
        yield from pool.map(draw, jobs)


def _begin_worker() -> None:
    end_with_parent()
    cv2.setNumThreads(1)

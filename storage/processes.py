"""What every worker process needs, whoever starts it."""

import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def end_with_parent() -> None:
    """For worker processes: end when the process that hands out the work does, however that ends.

    A pool's worker waits for work on a pipe that its fellow workers hold open too, so it would wait for ever. Ctrl-C, which
    the process that it was forked from may not hear, ends it at once: as an exception it may strike where a lock of the
    pool has just been taken, for which the others would wait for ever, and an idle worker would show where it waited.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def usable_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def without_collection() -> Iterator[None]:
    """While a long list is made, whose objects all stay: the search for unused cycles would look at each again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

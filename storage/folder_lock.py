"""Being the only process that works in a folder: the kernel's lock (flock) on ``<folder>/.lock``.

It ends with its holder, however that ends, and never by a clock. It is closed on exec; workers must not be forked while it is
held (forkserver and spawn are right), since a fork would keep it.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = ".lock"


@contextmanager
def only_one_in(folder: Path, refused: Callable[[Path, int | None], Exception]) -> Iterator[None]:
    """Hold the lock of a folder, which is made when absent, while the block runs.

    Raises ``refused(folder, pid)`` at once when someone else holds it; the pid is None where the holder wrote none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refused(folder, _holder(descriptor)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> int | None:
    """The pid that the holder wrote; it may be about to write it."""
    for _ in range(20):
        text = os.pread(descriptor, 32, 0).strip()
        if text.isdigit():
            return int(text)
        time.sleep(0.05)
    return None

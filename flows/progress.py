"""Live progress: a bar with rate and time left on a terminal, a plain line now and then in a pipe."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

Report = Callable[[int], None]
"""``report(n)``: n more samples are done."""

ProgressMaker = Callable[[int], AbstractContextManager[Report]]
"""``with progress(total) as report``: the work begins, and has so many units."""

_SECONDS_BETWEEN_LINES = 5.0


def silent(n: int) -> None:
    """Report nothing."""


@contextmanager
def silent_for(total: int) -> Iterator[Report]:
    """Progress that nobody sees."""
    yield silent


def progress_of(what: str, *, unit: str = "samples", silent: bool = False) -> ProgressMaker:
    """The progress of some work on standard error, or none (:func:`shown`, :func:`silent_for`)."""
    return silent_for if silent else lambda total: shown(what, total, unit=unit)


@contextmanager
def counted(progress: ProgressMaker) -> Iterator[Callable[[int, int], None]]:
    """A function for work that calls ``(done, total)`` after each unit; progress begins with the first call."""
    with ExitStack() as stack:
        before = 0
        report: Report | None = None

        def hear(done: int, total: int) -> None:
            nonlocal before, report
            if report is None:
                report = stack.enter_context(progress(total))
            report(done - before)
            before = done

        yield hear


@contextmanager
def told_once() -> Iterator[Callable[[], bool]]:
    """A function that says whether Ctrl-C was pressed within the block; a second one ends the program as usual.

    The first lets a training write its checkpoint. Off the main thread, where Python hears no signals, nothing changes.
    """
    heard = threading.Event()

    def hear(number: int, frame: object) -> None:
        heard.set()
        signal.signal(signal.SIGINT, before)

    if threading.current_thread() is not threading.main_thread():
        yield heard.is_set
        return
    before = signal.signal(signal.SIGINT, hear)
    try:
        yield heard.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def shown(what: str, total: int, *, unit: str = "samples") -> Iterator[Report]:
    """Show the progress of `total` units of work on standard error until the block ends."""
    if sys.stderr.isatty():
        with _bar(what, total, unit) as report:
            yield report
    else:
        yield _Lines(what, total, unit)


@contextmanager
def _bar(what: str, total: int, unit: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.3g} {unit}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda n: progress.advance(task, n)


class _Lines:
    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done, self._start = 0, time.monotonic()
        self._last_line = self._start

    def __call__(self, n: int) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._last_line < _SECONDS_BETWEEN_LINES and self._done < self._total:
            return
        self._last_line = now
        rate = self._done / max(now - self._start, 1e-9)
        left = f", {rate:.3g}/s, {(self._total - self._done) / rate:.0f} s left" if rate else ""
        print(f"{self._what}: {self._done}/{self._total} {self._unit}{left}", file=sys.stderr, flush=True)

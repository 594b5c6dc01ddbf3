"""Live progress: a bar with rate and time left on a terminal, a plain line every five seconds in a pipe.

The line comes by the clock, not by the work: whoever reads it sees that a program lives, also while one step of its work
takes minutes. Before the work that can be counted has begun, and after it, it comes on a terminal too.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

Report = Callable[[int], None]
"""``report(n)``: n more samples are done."""

ProgressMaker = Callable[[int], AbstractContextManager[Report]]
"""``with progress(total) as report``: the work begins, and has so many units."""

_SECONDS_BETWEEN_LINES = 5.0
_LEAST_SECONDS_OF_A_RATE = 0.2
"""What took less says nothing of how fast the next would be."""
_SECONDS_OF_ONE_PRESS = 0.3
"""Of Ctrl-C: people do not press it twice as fast, and programs that start others send it twice."""


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

    The first lets a training write its checkpoint. What follows at once is the same one: `timeout -s INT` signals a program, and
    then its group. Off the main thread, where Python hears no signals, nothing changes.
    """
    heard = threading.Event()
    heard_at = 0.0

    def hear(number: int, frame: object) -> None:
        nonlocal heard_at
        if not heard.is_set():
            heard_at = time.monotonic()
            heard.set()
        elif time.monotonic() - heard_at > _SECONDS_OF_ONE_PRESS:
            signal.signal(signal.SIGINT, before)
            signal.raise_signal(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield heard.is_set
        return
    before = signal.signal(signal.SIGINT, hear)
    try:
        yield heard.is_set
    finally:
        signal.signal(signal.SIGINT, before)


_speakers: list[Callable[[], str]] = []
"""Who has a line to say, the innermost last."""
_voice = threading.Lock()
_said_at = 0.0


def is_first_process() -> bool:
    """Whether this process is the only one of a training, or the first of several (torch's RANK): of these one speaks."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """One line on standard error, unless it is empty; the five seconds count anew from it."""
    global _said_at
    with _voice:
        if line:
            print(line, file=sys.stderr, flush=True)
        _said_at = time.monotonic()


@contextmanager
def told_meanwhile(line: Callable[[], str]) -> Iterator[None]:
    """Say ``line()`` whenever five seconds have gone by without a word, until the block ends; of nested ones the innermost.

    Nothing is said where it is empty.
    """
    global _said_at
    _speakers.append(line)
    if len(_speakers) > 1:  # the outermost block has the clock
        try:
            yield
        finally:
            _speakers.remove(line)
        return
    _said_at = time.monotonic()
    ended = threading.Event()
    clock = threading.Thread(target=_speak_until, args=(ended,), daemon=True)
    clock.start()
    try:
        yield
    finally:
        ended.set()
        clock.join()
        _speakers.remove(line)


def _speak_until(ended: threading.Event) -> None:
    while not ended.wait(max(_said_at + _SECONDS_BETWEEN_LINES - time.monotonic(), 0.001)):
        if is_due():
            with suppress(OSError, ValueError):  # nobody reads standard error any more
                say(_speakers[-1]())


def is_due() -> bool:
    """Whether five seconds have gone by without a word."""
    return time.monotonic() - _said_at >= _SECONDS_BETWEEN_LINES


def by_a_bar() -> str:
    """What is said beside a bar: nothing."""
    return ""


@contextmanager
def alive(what: str) -> Iterator[None]:
    """Say how long a command has been working, while it shows no other progress."""
    start = time.monotonic()
    if sys.stderr is None:
        yield
        return
    with told_meanwhile(lambda: f"{what}: running for {time.monotonic() - start:.0f} s"):
        yield


@contextmanager
def shown(what: str, total: int, *, unit: str = "samples") -> Iterator[Report]:
    """Show the progress of `total` units of work on standard error until the block ends."""
    if sys.stderr.isatty():
        with told_meanwhile(by_a_bar), _bar(what, total, unit) as report:
            yield report
    else:
        lines = _Lines(what, total, unit)
        with told_meanwhile(lines.line):
            yield lines


@contextmanager
def _bar(what: str, total: int, unit: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.3g} {unit}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda n: progress.advance(task, n)


class _Lines:
    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done, self._start = 0, time.monotonic()

    def __call__(self, n: int) -> None:
        self._done += n
        if self._done >= self._total or is_due():
            say(self.line())

    def line(self) -> str:
        """How far it is."""
        seconds = time.monotonic() - self._start
        rate = self._done / seconds if seconds >= _LEAST_SECONDS_OF_A_RATE else 0
        left = f", {rate:.3g}/s, {(self._total - self._done) / rate:.0f} s left" if rate else ""
        return f"{self._what}: {self._done}/{self._total} {self._unit}{left}"

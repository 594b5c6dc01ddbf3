"""A training's progress on standard error: every five seconds in a pipe, a bar for each phase on a terminal."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from flows.progress import by_a_bar, is_due, is_first_process, say, told_meanwhile

if TYPE_CHECKING:
    from train.run_log import Progress


class Shown:
    """What a training hears from: ``tell`` what it does, ``report`` what its log says, and ``step`` after every step."""

    def __init__(self, system: str, say: Callable[[str], None], bar: Any = None) -> None:
        self._system, self._say, self._bar = system, say, bar
        self._doing, self._began = "starting", time.monotonic()
        self._last: Progress | None = None
        self._since = 0

    def tell(self, doing: str) -> None:
        """What begins now, other than steps."""
        self._doing, self._began, self._last, self._since = doing, time.monotonic(), None, 0
        self._say(f"{self._system}: {doing}")

    def step(self) -> None:
        """A step is done."""
        self._since += 1
        if self._bar is not None and self._last is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._last.step + self._since)

    def report(self, progress: "Progress") -> None:
        """The log has a line; people get it when it validates, ends a phase, or is due."""
        self._last, self._since = progress, 0
        told = progress.validation is not None or progress.step == progress.n_steps
        if self._bar is not None:
            losses = ", ".join(f"{name} {value:.4g}" for name, value in progress.losses.items())
            self._bar.update(
                self._bar.task_ids[0],
                description=f"{self._system} {progress.phase}: {losses}",
                total=progress.n_steps,
                completed=progress.step,
                visible=True,
            )
        if told or (self._bar is None and is_due()):
            self._say(f"{self._system}: {progress_line(progress)}")

    def line(self) -> str:
        """Where it stands, for who asks between two reports."""
        if self._last is not None:
            now = min(self._last.step + self._since, self._last.n_steps)
            return f"{self._system}: {progress_line(replace(self._last, step=now, validation=None))}"
        steps = f"; {self._since} steps" if self._since else ""
        return f"{self._system}: {self._doing}{steps}, {time.monotonic() - self._began:.0f} s"


@contextmanager
def training_shown(system: str, *, silent: bool = False) -> Iterator[Shown]:
    """Show a training's progress until the block ends."""
    if silent or not is_first_process():
        yield Shown(system, lambda line: None)
        return
    if not sys.stderr.isatty():
        shown = Shown(system, say)
        with told_meanwhile(shown.line):
            yield shown
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with told_meanwhile(by_a_bar), Progress(*columns, console=Console(stderr=True)) as bar:
        bar.add_task(system, total=None, visible=False)
        yield Shown(system, partial(bar.console.print, highlight=False, markup=False), bar)


def counting(stop: Callable[[], bool], step: Callable[[], None]) -> Callable[[], bool]:
    """The same question, which a training asks after every step, so that steps are counted by it."""

    def asked() -> bool:
        step()
        return stop()

    return asked


def progress_line(progress: "Progress") -> str:
    """One line for people: where it stands, the losses, the validation, and who waits for whom."""
    losses: Mapping[str, float] = progress.losses
    parts = [
        f"{progress.phase} {progress.step}/{progress.n_steps}",
        ", ".join(f"{name} {value:.4g}" for name, value in losses.items()) + f", rate {progress.rate:.2g}",
    ]
    if progress.validation is not None:
        parts.append(f"{progress.measure} {100 * progress.validation:.2f} %")
    parts.append(
        f"{progress.samples_per_second:.3g} samples/s (network {progress.model_samples_per_second:.3g}, "
        f"reading {progress.loader_samples_per_second:.3g})"
    )
    return "  ".join(parts)

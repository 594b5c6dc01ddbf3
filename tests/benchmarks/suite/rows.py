"""A row of the suite: what we do, beside what a user would otherwise take, timed in turns.

On a busy machine only what was measured side by side can be compared. So the contenders of a row take turns, a ratio is
formed within each round, and the median of the ratios is what counts; its spread says how far to believe it.
"""

import importlib.metadata
import importlib.util
import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of doing a row's work."""

    name: str
    run: Callable[[], object]
    items: int = 1
    """How many of the row's units a call makes."""


@dataclass(frozen=True, slots=True)
class NotInstalled:
    """A way that this machine lacks: it is named, with what to do."""

    name: str
    remedy: str


Baseline = Contender | NotInstalled


@dataclass(frozen=True, slots=True)
class Goal:
    """What was aimed at: `times` as fast as the baseline whose name begins with `beside`, or at most `seconds`."""

    beside: str
    times: float
    seconds: float | None = None
    clock: str = "cpu"
    limit: str = ""
    """What stands in the way where it is not met, in a few words: true of any run that does not meet it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A stage or a whole job."""

    name: str
    unit: str
    """What one item is."""
    ours: Contender
    baselines: Sequence[Baseline]
    why: str
    """What the gap, or its absence, comes from."""
    goals: Sequence[Goal] = ()
    megabytes: float | None = None
    """The least that must be moved for an item: read and written once."""
    megaflops: float | None = None
    """Floating-point operations of an item."""
    is_long: bool = False
    """Whole processes: one call is a turn, and nothing is run beforehand."""
    clock: str = "cpu"
    """What decides; "wall" where workers are not our children, whose processor time nobody counts."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What one item took."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Ratio:
    """A baseline's time over ours, round by round."""

    rounds: Sequence[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles; with fewer than four rounds the extremes."""
        if len(self.rounds) < 4:
            return min(self.rounds), max(self.rounds)
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return low, high


@dataclass(frozen=True)
class Measured:
    """A row's times: of ours and of each baseline that is installed, one entry a round."""

    row: Row
    spent: dict[str, list[Spent]] = field(default_factory=dict)

    def ratio(self, baseline: str, clock: str = "cpu") -> Ratio:
        """`baseline` over ours; `clock` is "cpu" or "wall"."""
        pairs = zip(self.spent[baseline], self.spent[self.row.ours.name], strict=True)
        return Ratio([getattr(theirs, clock) / getattr(ours, clock) for theirs, ours in pairs])

    def seconds(self, name: str, clock: str = "cpu") -> float:
        """Median seconds an item."""
        return statistics.median(getattr(spent, clock) for spent in self.spent[name])


def needing(package: str, distribution: str, make: Callable[[], Contender], name: str) -> Baseline:
    """The contender that `make` gives, or its absence where `package` cannot be imported."""
    if importlib.util.find_spec(package) is None:
        return NotInstalled(name, f"pip install {distribution}")
    contender = make()
    version = importlib.metadata.version(distribution)
    return Contender(f"{name} {version}", contender.run, contender.items)


def named(baselines: Sequence[Baseline], beginning: str) -> str | None:
    """The full name of an installed baseline, which has its version behind it."""
    return next((b.name for b in baselines if isinstance(b, Contender) and b.name.startswith(beginning)), None)


def measure(row: Row, *, turn_s: float, row_s: float, rounds: int) -> Measured:
    """Time the contenders in turns, `rounds` times or until `row_s` seconds are over, and three times at least.

    A turn of a stage repeats its call until about `turn_s` seconds are filled. `rounds` below three means exactly that.
    """
    contenders = [row.ours, *(b for b in row.baselines if isinstance(b, Contender))]
    began = time.perf_counter()
    calls = {one.name: 1 if row.is_long else _calls_in(one, turn_s) for one in contenders}
    spent: dict[str, list[Spent]] = {one.name: [] for one in contenders}
    while True:
        for one in contenders:
            spent[one.name].append(_turn(one, calls[one.name]))
        done = len(spent[row.ours.name])
        if done >= rounds or (done >= 3 and time.perf_counter() - began > row_s):
            return Measured(row, spent)


def _calls_in(contender: Contender, turn_s: float) -> int:
    """How often to call it in a turn. The first call, which may compile or load, is not looked at."""
    contender.run()
    second = _turn(contender, 1)
    return max(1, min(1000, math.ceil(turn_s / max(second.wall * contender.items, 1e-6))))


def _turn(contender: Contender, calls: int) -> Spent:
    cpu, wall = _cpu_seconds(), time.perf_counter()
    for _ in range(calls):
        contender.run()
    wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    n_items = calls * contender.items
    return Spent(max(cpu, 1e-9) / n_items, wall / n_items)


def _cpu_seconds() -> float:
    """Processor time of this process, all its threads, and of the children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime

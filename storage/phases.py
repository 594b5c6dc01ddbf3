"""The named moments of a build, so that a test can put a fault exactly there.

``reach(Phase.RECEIPT, "00003")`` says that the build is about to take that step. With no observer it costs one truth
test. Steps are announced just **before** their durable effect: an observer that kills the process there leaves the
effect undone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

Observer = Callable[["Phase", str], None]


class Phase(StrEnum):
    """The steps of a build, in order; then that of a training that writes a checkpoint."""

    PLAN = "plan"
    SHARD = "shard"
    RECEIPT = "receipt"
    VERIFY = "verify"
    PUBLISH = "publish"
    EVENT = "event"
    TRAINING = "training"


_observers: list[Observer] = []


def reach(phase: Phase, what: str) -> None:
    """Tell the observers that `phase` is about to begin on `what` (a shard's number, an object's key, a version)."""
    if _observers:
        for observer in tuple(_observers):
            observer(phase, what)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Call `observer(phase, what)` at every step while the block runs; what it raises, the build raises."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)

"""Shards are stored behind the one that is filled: all of them, and none twice."""

import threading
from functools import partial

import pytest

from flows.local import storing_behind

POWERS = [(2, n) for n in range(7)]


@pytest.mark.parametrize("workers", [1, 2])
def test_everything_that_is_filled_is_stored(workers):
    powers = storing_behind(partial(partial, pow), POWERS, workers)  # fill(2, n)() is pow(2, n)
    assert sorted(powers) == [2**n for n in range(7)]


def test_one_worker_fills_the_next_while_it_stores():
    filled = [threading.Event() for _ in range(4)]

    def fill(n):
        filled[n].set()
        return lambda: n + 1 == len(filled) or filled[n + 1].wait(timeout=60)

    assert list(storing_behind(fill, [(n,) for n in range(4)], 1)) == [True] * 4


def test_what_was_filled_is_stored_although_the_next_one_fails():
    stored = []

    def fill(n):
        if n == 2:
            raise ValueError("no third one")
        return lambda: stored.append(n)

    with pytest.raises(ValueError, match="no third one"):
        list(storing_behind(fill, [(n,) for n in range(4)], 1))
    assert stored == [0, 1]


def test_what_cannot_be_stored_ends_it():
    filled = []

    def fill(n):
        filled.append(n)
        return partial(pow, 0, -1)

    with pytest.raises(ZeroDivisionError):
        list(storing_behind(fill, [(n,) for n in range(5)], 1))
    assert filled == [0, 1]

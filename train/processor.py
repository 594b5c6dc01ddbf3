"""What networks compute on: a GPU, or so many threads of the CPU."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

_THREADS = "OMP_NUM_THREADS"
_MOST_THREADS = 2**31 - 1
SMALL = 5_000_000
"""A network of fewer learnable parameters is small: every `tiny` preset, none of a paper's."""


def processor_name() -> str:
    """The GPU, or how many threads of the CPU, for people."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return "1 thread" if threads == 1 else f"{threads} threads"


@contextmanager
def threads_for(network: torch.nn.Module, environment: Mapping[str, str]) -> Iterator[str]:
    """On a CPU one thread for a small network within the block, unless the environment says how many. Yields it for people.

    A thread for each core, torch's own choice, is slow for small networks where anything else runs: threads wait for the slowest
    of them many times a step (measured in docs/training.md). And one thread's sums are the same on every machine of a kind.
    """
    if torch.cuda.is_available():
        yield processor_name()
        return
    if _says_how_many(environment.get(_THREADS, "")):
        yield f"{processor_name()}, as {_THREADS} says"
        return
    before = torch.get_num_threads()
    if sum(parameter.numel() for parameter in network.parameters()) < SMALL:
        torch.set_num_threads(1)
    try:
        yield f"{processor_name()} ({_THREADS} takes another number)"
    finally:
        torch.set_num_threads(before)


def _says_how_many(value: str) -> bool:
    """Whether OpenMP understands it, a number or several by commas; of anything else it takes as many as there are cores."""
    numbers = value.split(",")
    return all(number.strip().isdecimal() and 0 < int(number) <= _MOST_THREADS for number in numbers)

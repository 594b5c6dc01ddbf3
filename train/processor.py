"""What a network is trained by: a GPU, or so many threads of the CPU."""

from collections.abc import Mapping

import torch

_THREADS = "OMP_NUM_THREADS"


def processor(environment: Mapping[str, str], *, one_thread: bool) -> str:
    """What it is, for people. On a CPU with `one_thread` it gets one, unless the environment says how many.

    A thread for each core, torch's own choice, is slow for small networks where anything else runs: threads wait for the slowest
    of them many times a step (measured in docs/training.md). And one thread's sums are the same on every machine of a kind.
    """
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if environment.get(_THREADS):
        return f"{_counted(torch.get_num_threads())}, as {_THREADS} says"
    if one_thread:
        torch.set_num_threads(1)
    return f"{_counted(torch.get_num_threads())} ({_THREADS} takes another number)"


def _counted(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"

"""In which order an epoch visits the samples: shuffled, split over ranks, the same every time, and cheap at any size.

Shards are shuffled, cut into groups of a few, and the samples of each group are shuffled together: samples are mixed
over `shards_in_flight` shards, and a reader touches only so many at a time. The order is worked out group by group, so
ten million samples cost no more memory than one group.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int64


@dataclass(frozen=True)
class EpochOrder:
    """The order of one data set's samples in each epoch, a function of (seed, epoch) alone.

    `shard_sizes[s]` is how many samples shard s has; samples are numbered shard by shard. `shards_in_flight` = 0 leaves
    the order of the data set as it is.
    """

    shard_sizes: Int[np.ndarray, " s"]
    seed: int
    shards_in_flight: int = 8

    def __post_init__(self) -> None:
        """Refuse what has no order."""
        if self.seed < 0 or self.shards_in_flight < 0:
            raise ValueError(f"seed {self.seed} and shards_in_flight {self.shards_in_flight} must not be negative")

    def __len__(self) -> int:
        return int(np.sum(self.shard_sizes))

    def indices(self, epoch: int, start: int, stop: int) -> Iterator[Int64[np.ndarray, " n"]]:
        """The samples at places [start, stop) of the epoch's order, in pieces of at most one group.

        Places past the end begin again at the front, which is how ranks are padded to equal length.
        """
        n = len(self)
        while start < stop and n:
            turn, first = divmod(start, n)
            last = min(stop - turn * n, n)
            yield from self._once(epoch, first, last)
            start += last - first

    def _once(self, epoch: int, start: int, stop: int) -> Iterator[np.ndarray]:
        first_of_shard = np.concatenate([[0], np.cumsum(self.shard_sizes)])
        shards = np.arange(len(self.shard_sizes))
        if self.shards_in_flight:
            shards = np.random.default_rng([self.seed, epoch]).permutation(shards)
        group_size = self.shards_in_flight or 1
        place = 0
        for group in range(0, len(shards), group_size):
            members = shards[group : group + group_size]
            size = int(self.shard_sizes[members].sum())
            low, high = max(start - place, 0), min(stop - place, size)
            if low < high:
                samples = np.concatenate([np.arange(first_of_shard[s], first_of_shard[s + 1]) for s in members])
                if self.shards_in_flight:
                    samples = np.random.default_rng([self.seed, epoch, 1 + group]).permutation(samples)
                yield samples[low:high]
            place += size
            if place >= stop:
                return

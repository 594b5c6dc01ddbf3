"""What a training counts between two lines of its log: mean losses, seconds, and how many of them went by waiting."""

import time
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from train.loader import ShardLoader
from train.system import Batch


class LossMeans:
    """Means of the losses since they were last taken; they stay on the device until then."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._n = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Count one batch's."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach().float()
        self._n += 1

    def take(self) -> tuple[list[str], Float[Tensor, " losses"]]:
        """Their names and means; counting begins anew."""
        names, means = list(self._sums), torch.stack(list(self._sums.values())) / self._n
        self._sums, self._n = {}, 0
        return names, means


class BatchClock:
    """Seconds since the last lap, how many of them went by waiting for batches, and the samples that came."""

    def __init__(self) -> None:
        self.samples = 0
        self._waited = 0.0
        self._start = time.perf_counter()

    def batches(self, loader: ShardLoader) -> Iterator[Batch]:
        """The rest of the loader's epoch and then the next ones, without an end; waiting for each is counted."""
        while True:
            batches = iter(loader)
            while (batch := self._waited_for(batches)) is not None:
                yield batch

    def lap(self) -> tuple[float, float]:
        """Seconds since the last lap, and those of them that were waited; both begin anew."""
        now = time.perf_counter()
        seconds, waited = now - self._start, self._waited
        self._start, self._waited = now, 0.0
        return seconds, waited

    def _waited_for(self, batches: Iterator[Batch]) -> Batch | None:
        start = time.perf_counter()
        batch = next(batches, None)
        self._waited += time.perf_counter() - start
        return batch

"""Data sets as batches of tensors: shuffled by shard and within, split over ranks and workers, resumable in mid-epoch.

loader = make_loader("datasets/300wlp-posmaps", batch_size=16, workers=4, seed=0)
for epoch in range(n_epochs):
    loader.set_epoch(epoch)
    for batch in loader:                    # batch["image"]: float32 (n 3 S S) in [0, 1]
        ...

With ``augment="prnet"`` every sample is augmented anew in every epoch (:mod:`train.reading_augmentation`).
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import DataLoader, Dataset, Sampler

from render.augmentation_config import AugmentationConfig, AugmentationMixture
from render.augmentation_presets import as_mixture
from storage.dataset import ShardedDataset, open_dataset
from train.augmentation import DrawnBatch, augment_pictures
from train.device_targets import DeviceTargets, made_on_device
from train.epoch_order import EpochOrder
from train.photograph_crops import PhotographCrops, holds_photographs
from train.reading_augmentation import ReadingAugmentation

Remainder = Literal["pad", "drop"]
Batch = dict[str, Any]


class ShardSampler(Sampler[list[int]]):
    """Batches of sample numbers for one rank of an epoch.

    Each rank gets one stretch of the epoch's order (see :class:`EpochOrder`), so it touches its own share of the
    shards. Every rank has equally many batches. `remainder` says what becomes of the samples that cannot be dealt out
    evenly: with "pad" the first samples of the epoch come again until they can (the last batch may be short), with
    "drop" what does not fill a whole batch on every rank is left out (other samples in every epoch). The workers of a
    rank share its batches, whatever their number, in the same order.
    """

    def __init__(
        self,
        shard_sizes: ShardedDataset | Int[np.ndarray, " s"],
        *,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        shards_in_flight: int = 8,
        remainder: Remainder = "pad",
    ) -> None:
        """`shard_sizes`: good samples by shard, or a data set that knows them; `shards_in_flight` = 0: unshuffled."""
        if batch_size < 1:
            raise ValueError(f"batches of {batch_size} samples hold nothing; at least 1 is needed")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} does not exist in a world of {world_size}; ranks count from zero")
        sizes = shard_sizes.shard_sizes if isinstance(shard_sizes, ShardedDataset) else shard_sizes
        self.order = EpochOrder(np.asarray(sizes), seed=seed, shards_in_flight=shards_in_flight)
        self.batch_size, self.rank, self.world_size, self.remainder = batch_size, rank, world_size, remainder
        self.epoch = 0
        self.samples_done = 0

    @property
    def samples_per_rank(self) -> int:
        """Samples that each rank sees in an epoch."""
        if self.remainder == "drop":
            return len(self.order) // (self.world_size * self.batch_size) * self.batch_size
        return -(-len(self.order) // self.world_size)

    def __len__(self) -> int:
        """Batches that are still to come in this epoch."""
        return -(-(self.samples_per_rank - self.samples_done) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches that are still to come, from :attr:`samples_done` on; iterating changes nothing."""
        first = self.rank * self.samples_per_rank
        pieces = self.order.indices(self.epoch, first + self.samples_done, first + self.samples_per_rank)
        samples = itertools.chain.from_iterable(piece.tolist() for piece in pieces)
        while batch := list(itertools.islice(samples, self.batch_size)):
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Begin `epoch` (from 0); the same epoch is the same order."""
        if epoch < 0:
            raise ValueError(f"epoch {epoch} does not exist; epochs count from zero")
        self.epoch, self.samples_done = epoch, 0

    def advance(self, n_samples: int) -> None:
        """Note that this rank has used `n_samples` more."""
        self.samples_done = min(self.samples_done + n_samples, self.samples_per_rank)

    def state_dict(self) -> dict[str, object]:
        """Where this rank stands, and what that depends on."""
        return {"epoch": self.epoch, "samples_done": self.samples_done, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. Raises ValueError when this sampler would go on with another order.

        The batch size may be another one, unless the remainder is dropped, where the epoch's length depends on it.
        """
        here = self._identity()
        different = [
            f"{name} was {state.get(name)!r} and is {here[name]!r}" for name in here if state.get(name) != here[name]
        ]
        if different:
            raise ValueError(f"the epoch cannot go on in the same order: {'; '.join(different)}")
        self.epoch, self.samples_done = int(state["epoch"]), int(state["samples_done"])

    def _identity(self) -> dict[str, object]:
        return {
            "n_samples": len(self.order),
            "n_shards": len(self.order.shard_sizes),
            "seed": self.order.seed,
            "shards_in_flight": self.order.shards_in_flight,
            "world_size": self.world_size,
            "remainder": self.remainder,
            "dropped_by": self.batch_size if self.remainder == "drop" else None,
        }


class TensorDataset(Dataset[Batch]):
    """A data set whose batches are tensors in torch's layout; it reads whole batches (``__getitems__``)."""

    def __init__(
        self,
        dataset: ShardedDataset,
        targets: Iterable[str] | None = None,
        augmentation: ReadingAugmentation | PhotographCrops | None = None,
    ) -> None:
        """`targets` limits what is read."""
        self.dataset, self.augmentation = dataset, augmentation
        self.targets = tuple(targets) if targets is not None else dataset.schema.names
        self._channels_first = {name for name in self.targets if dataset.schema[name].channels_first}
        if augmentation is not None:
            self._channels_first.add("image")
            augmentation.check(self.targets)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch:
        """A batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The batch of `indices`: pictures (n C H W), texts as a list, everything else as it is stored."""
        return self.read(indices, epoch=0)

    def read(self, indices: Sequence[int], *, epoch: int) -> Batch:
        """The batch as `epoch` sees it, which only augmentation makes another one."""
        if self.augmentation is None:
            arrays = self.dataset.read(indices, self.targets)
        else:
            arrays = self.augmentation.read(indices, self.targets, epoch)
        return {name: self._tensor(name, array) for name, array in arrays.items()}

    def _tensor(self, name: str, array: np.ndarray | DrawnBatch) -> torch.Tensor | list[str] | DrawnBatch:
        if isinstance(array, DrawnBatch):
            return array
        if array.dtype.kind == "U":
            return array.tolist()
        if name in self._channels_first:
            array = np.moveaxis(array, -1, 1)  # back to how it lies in memory: no copy
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))


class _Tasks(Sampler[tuple[int, list[int]]]):
    """A sampler's batches with the epoch that they belong to: workers live longer than an epoch."""

    def __init__(self, sampler: ShardSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        epoch = self.sampler.epoch
        return ((epoch, batch) for batch in self.sampler)


class _TaskReader(Dataset[Batch]):
    """What a worker holds: reads the tasks of :class:`_Tasks`."""

    def __init__(self, dataset: TensorDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, task: tuple[int, list[int]]) -> Batch:
        epoch, indices = task
        return self.dataset.read(indices, epoch=epoch)


class _ReadingThreads:
    """Batches read ahead by threads of this process.

    Reading is decompression and copies outside Python's lock, and a batch stays where it was decoded; between processes
    each costs two passes through shared memory, more than reading it (docs/storage-speed.md).
    """

    def __init__(self, dataset: TensorDataset, sampler: ShardSampler, *, threads: int, pin_memory: bool) -> None:
        self._reader, self._tasks = _TaskReader(dataset), _Tasks(sampler)
        self._threads, self._pin_memory = threads, pin_memory

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(self._threads) as pool:
            tasks = iter(self._tasks)
            ahead = deque(pool.submit(self._read, task) for task in itertools.islice(tasks, 2 * self._threads))
            try:
                while ahead:
                    batch = ahead.popleft().result()
                    ahead.extend(pool.submit(self._read, task) for task in itertools.islice(tasks, 1))
                    yield batch
            finally:
                for waiting in ahead:
                    waiting.cancel()

    def _read(self, task: tuple[int, list[int]]) -> Batch:
        batch = self._reader.__getitems__(task)
        if not self._pin_memory:
            return batch
        return {name: value.pin_memory() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


class ShardLoader:
    """Iterates over what is left of the epoch, and knows where it stands; made by :func:`make_loader`."""

    def __init__(
        self,
        dataset: TensorDataset,
        sampler: ShardSampler,
        *,
        workers: int,
        device: str | torch.device,
        made: DeviceTargets | None = None,
    ) -> None:
        """`workers` = 0 reads when a batch is asked for; otherwise so many read ahead.

        They are threads where they only read, and processes (started by forkserver) where they augment, which is
        Python's work for a good part. `made` adds the targets that are made on the device.
        """
        self.dataset, self.sampler, self.device = dataset.dataset, sampler, torch.device(device)
        self._made = made
        pin_memory = self.device.type == "cuda"
        self._loader: Iterable[Batch]
        if workers and dataset.augmentation is None:
            self._loader = _ReadingThreads(dataset, sampler, threads=workers, pin_memory=pin_memory)
            return
        self._loader = DataLoader(
            _TaskReader(dataset),
            batch_sampler=_Tasks(sampler),  # type: ignore[arg-type]  # whatever a task is, the dataset reads it
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pin_memory,
            multiprocessing_context="forkserver" if workers else None,
            persistent_workers=workers > 0,
        )

    def __len__(self) -> int:
        """Batches that are still to come in this epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of this epoch that are still to come; afterwards the next epoch begins."""
        for batch in self._loader:
            self.sampler.advance(_length(batch))
            moved = to_device(batch, self.device)
            yield moved if self._made is None else self._made(batch, moved)
        self.sampler.set_epoch(self.sampler.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Begin `epoch` from its first batch, unless the loader stands in the middle of that very epoch already."""
        if epoch != self.sampler.epoch:
            self.sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, object]:
        """What :meth:`load_state_dict` needs to go on after the batch that was yielded last, read-ahead not counted."""
        return self.sampler.state_dict() | {"fingerprint": self.dataset.manifest.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. Raises ValueError for another data set or another order."""
        found = self.dataset.manifest.fingerprint
        if state.get("fingerprint") != found:
            raise ValueError(
                f"the state belongs to the data set {str(state.get('fingerprint'))[:16]}, and this is {found[:16]}: "
                "open the version that the run began with"
            )
        self.sampler.load_state_dict(state)


def make_loader(
    source: ShardedDataset | str | Path,
    *,
    batch_size: int,
    workers: int = 0,
    seed: int = 0,
    epoch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    shards_in_flight: int = 8,
    remainder: Remainder = "pad",
    targets: Iterable[str] | None = None,
    device: str | torch.device = "cpu",
    augment: AugmentationMixture | AugmentationConfig | str | None = None,
    augment_on: Literal["worker", "device"] = "worker",
    decode_on: Literal["worker", "device"] = "worker",
) -> ShardLoader:
    """A loader of a data set (or of the path of one): dicts of tensors on `device`, images as float32 in [0, 1].

    Keys are the data set's targets: `image` (n 3 S S), `position_map` (n 3 S S) px, `covered` (n S S) bool,
    `landmarks_px` (n 68 3), …; `source_id` is a list of texts. Memory: (2 · workers + 1) batches.

    `augment` is a preset ("prnet"), a mixture ("prnet:2+fan3d") or a config; labels move along, and the batch has
    `occluded` (n S S), `augmented_from_crop` (n 3 3) and `augmentation` (each draw as JSON) besides. Pictures are
    augmented by the workers, or on `device`, with the same result. Raises ValueError for targets that cannot move.
    With `decode_on` = "device" parametric maps and fields of one face are made there (:mod:`train.device_targets`).
    Of whole photographs, "densereg" is :class:`~train.photograph_crops.PhotographCrops`: batches of crops of 321 px.
    """
    dataset = source if isinstance(source, ShardedDataset) else open_dataset(source)
    sampler = ShardSampler(
        dataset,
        seed=seed,
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
        shards_in_flight=shards_in_flight,
        remainder=remainder,
    )
    sampler.set_epoch(epoch)
    augmentation: ReadingAugmentation | PhotographCrops | None = None
    if holds_photographs(dataset) and augment == "densereg":
        augmentation = PhotographCrops(dataset, seed)
    elif augment is not None:
        augmentation = ReadingAugmentation(dataset, as_mixture(augment), seed, augment_on)
    made = made_on_device(dataset, targets, device) if decode_on == "device" else None
    tensors = TensorDataset(dataset, targets if made is None else made.read, augmentation)
    return ShardLoader(tensors, sampler, workers=workers, device=device, made=made)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on `device`; u8 pictures travel as bytes, are augmented there, and become float32 in [0, 1]."""
    moved = {name: _moved(value, device) for name, value in batch.items()}
    if (drawn := moved.pop("drawn", None)) is not None:
        moved["image"] = augment_pictures(moved["image"], drawn)
    return {name: value.float().div_(255) if _is_picture(value) else value for name, value in moved.items()}


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, DrawnBatch):
        return value.to(device)
    return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value


def _is_picture(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.uint8 and value.ndim == 4


def _length(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def _as_it_is(batch: Any) -> Batch:
    return batch

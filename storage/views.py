"""Parts and mixtures of data sets that are read where they lie: nothing is copied.

Every function gives a :class:`DatasetView`, which is read as a data set is, also by train's loaders::

    ds = open_dataset("datasets/300wlp-posmaps")
    steep = select(ds, lambda index: np.abs(index["yaw_deg"]) > 60)
    sides = split(ds, {"train": 0.9, "test": 0.1})
    both = mix([(ds, 3), (open_dataset("datasets/mine"), 1)], seed=0)

A view is numbers of samples, twelve bytes each, and open data sets; it can be made of views.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, Shaped

from geometry.morphable_model import MorphableModel
from storage.dataset import ShardedDataset, checked_indices
from storage.manifest import DatasetManifest, digest_of
from storage.sample_index import Index, sample_index
from storage.schema import Schema
from storage.source_groups import in_pieces, joined, photograph_of, place_of_group, side_of_300w

_AT_ONCE = 65536


@dataclass(frozen=True, slots=True)
class ViewManifest:
    """What a view is of; the names that users of a data set's manifest ask for mean the same here."""

    name: str
    version: str
    fingerprint: str
    """A digest of the parts' fingerprints and of every number: equal fingerprints read equal samples in equal order."""
    n_samples: int
    sample_schema: Schema
    parts: tuple[DatasetManifest, ...]


def manifests_of(dataset: ShardedDataset) -> tuple[DatasetManifest, ...]:
    """The manifests of the published versions behind a data set: its own, or those of a view's parts."""
    if not isinstance(dataset, DatasetView):
        return (dataset.manifest,)
    return tuple(manifest for part in dataset.parts for manifest in manifests_of(part))


class DatasetView(ShardedDataset):
    """Samples of one or more data sets, in an order of its own; `ds.read(indices)` is the primary call here too.

    Constant tables and the model are those of all parts, which must agree in them when they are asked for: a map would
    be decoded with another's atlas otherwise.
    """

    def __init__(
        self,
        parts: Sequence[ShardedDataset],
        part: Int[np.ndarray, " n"],
        index: Int[np.ndarray, " n"],
        targets: Iterable[str] | None = None,
    ) -> None:
        """Sample i is sample ``index[i]`` of ``parts[part[i]]``; the functions of this module are the usual way."""
        self.parts = tuple(parts)
        self.part_of_sample, self.index_in_part = np.asarray(part, dtype=np.int32), np.asarray(index, dtype=np.int64)
        self._schema = common_schema(self.parts, targets)
        self.manifest = self._described()  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, object]:
        return {"parts": self.parts, "part": self.part_of_sample, "index": self.index_in_part, "names": self._names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["parts"], state["part"], state["index"], state["names"])  # type: ignore[misc]

    def _described(self) -> ViewManifest:
        numbers = hashlib.sha256(
            self.part_of_sample.astype("<i4").tobytes() + self.index_in_part.astype("<i8").tobytes()
        ).hexdigest()
        parts = [part.manifest.fingerprint for part in self.parts]
        fingerprint = digest_of({"view": parts, "targets": list(self._names), "numbers": numbers})
        return ViewManifest(
            name="+".join(dict.fromkeys(part.manifest.name for part in self.parts)),
            version=fingerprint[:16],
            fingerprint=fingerprint,
            n_samples=len(self.index_in_part),
            sample_schema=self._schema,
            parts=tuple(part.manifest for part in self.parts),
        )

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(target.name for target in self._schema.everything)

    @property
    def path(self) -> Any:
        """The version's folder, where all samples are of one."""
        places = {part.path for part in self.parts}
        if len(places) != 1:
            raise ValueError(f"this view is of {len(places)} versions and has no folder of its own; see .parts")
        return places.pop()

    @property
    def schema(self) -> Schema:
        """The targets that all parts have."""
        return self._schema

    @cached_property
    def shard_sizes(self) -> Int[np.ndarray, " n_shards"]:
        """Lengths of the runs of samples that lie in one shard of one part."""
        if not len(self.index_in_part):
            return np.zeros(0, dtype=np.int64)
        ends_by_part = [np.cumsum(part.shard_sizes) for part in self.parts]
        shard = np.empty(len(self.index_in_part), dtype=np.int64)
        for number, ends in enumerate(ends_by_part):
            mine = self.part_of_sample == number
            shard[mine] = np.searchsorted(ends, self.index_in_part[mine], side="right")
        borders = np.flatnonzero((np.diff(self.part_of_sample) != 0) | (np.diff(shard) != 0)) + 1
        return np.diff(np.concatenate([[0], borders, [len(self.index_in_part)]]))

    def read(
        self,
        indices: Sequence[int] | Int[np.ndarray, " n"] | slice,
        targets: Iterable[str] | None = None,
        *,
        threads: int = 1,
    ) -> dict[str, np.ndarray]:
        """As :meth:`ShardedDataset.read`."""
        names = list(self._schema.names if targets is None else targets)
        for name in names:
            self._schema[name]  # an unknown target, or one that a part lacks
        rows = self.slots(indices)
        part, index = self.part_of_sample[rows], self.index_in_part[rows]
        if len(present := np.unique(part)) == 1:
            return self.parts[present[0]].read(index, names, threads=threads)
        batch: dict[str, np.ndarray] = {}
        for number in present if len(present) else range(1):
            mine = np.flatnonzero(part == number)
            for name, values in self.parts[number].read(index[mine], names, threads=threads).items():
                batch[name] = _placed(batch.get(name), values, mine, len(rows))
        return batch

    def slots(self, indices: Sequence[int] | Int[np.ndarray, " n"] | slice) -> Int[np.ndarray, " n"]:
        """The numbers of these samples in this view, checked, counted from the front."""
        return checked_indices(indices, len(self), whole="view")

    def table(self, name: str) -> Shaped[np.ndarray, "..."]:
        """A constant array that all parts share. Raises MissingObject, and ValueError where they have different ones."""
        tables = [part.table(name) for part in self.parts]
        if any(not np.array_equal(tables[0], table) for table in tables[1:]):
            raise ValueError(
                f"the parts of this view have different tables {name}: {self._called()}; their position maps lie in "
                "different atlases and do not belong into one batch"
            )
        return tables[0]

    def model(self) -> MorphableModel:
        """The model that all parts share. Raises MissingModel, and ValueError where they have different ones."""
        if len({part.model().fingerprint for part in self.parts}) != 1:
            raise ValueError(f"the parts of this view have labels of different models: {self._called()}")
        return self.parts[0].model()

    def mark(self, target: Any, slot: int) -> tuple[int, bytes]:
        """As :meth:`ShardedDataset.mark`, of the sample with that number in this view."""
        part = self.parts[int(self.part_of_sample[slot])]
        stored: Any = part.schema[target.name]
        return part.mark(stored, int(part.slots([int(self.index_in_part[slot])])[0]))

    def _called(self) -> str:
        return ", ".join(f"{part.manifest.name} {part.manifest.version}" for part in self.parts)


Which = Sequence[int] | np.ndarray | slice | Callable[[Index], np.ndarray]
"""Numbers of samples, or ``predicate(index) -> bool (n)`` over the columns of :func:`storage.sample_index.sample_index`."""
Group = Literal["photograph", "identity"] | Callable[[str], str]


def select(dataset: ShardedDataset, which: Which, targets: Iterable[str] | None = None) -> DatasetView:
    """The samples of those numbers, in that order, or those of which the predicate is true, in the data set's order.

    `targets` limits what the view has. A predicate gets the whole index, about 1 kB a sample: of millions of samples
    filter the Parquet one (:func:`storage.exports.parquet.export_index`) and give the numbers. Raises IndexError, and
    ValueError for a predicate that gives anything but one truth value a sample.
    """
    if callable(which):
        chosen = np.asarray(which(sample_index(dataset)))
        if chosen.dtype != np.bool_ or chosen.shape != (len(dataset),):
            raise ValueError(
                f"the predicate gave {chosen.dtype} of shape {chosen.shape}, and one bool for each of the "
                f"{len(dataset)} samples is needed, such as abs(index['yaw_deg']) > 60"
            )
        which = np.flatnonzero(chosen)
    return _of_rows([dataset], [checked_indices(which, len(dataset), whole="data set")], targets)


def subset(dataset: ShardedDataset, n_samples: int, *, seed: int = 0) -> DatasetView:
    """So many samples drawn without repetition, in the data set's order. Raises ValueError when there are fewer."""
    return _of_rows([dataset], [_drawn(len(dataset), n_samples, seed, 0)])


def concatenate(datasets: Sequence[ShardedDataset], targets: Iterable[str] | None = None) -> DatasetView:
    """All samples of one after another. Raises ValueError for targets that they do not share; `targets` names some."""
    return _of_rows(datasets, [np.arange(len(dataset)) for dataset in datasets], targets)


def mix(
    weighted: Sequence[tuple[ShardedDataset, float | int]],
    *,
    n_samples: int | None = None,
    seed: int = 0,
    targets: Iterable[str] | None = None,
) -> DatasetView:
    """A set in which each data set has a share of the samples in proportion to its weight.

    By default as large as it can be without a sample twice; with more `n_samples`, every sample of a part comes equally
    often, give or take one. Samples keep the order of their data sets, which loaders shuffle. Raises ValueError for
    weights that are not positive.
    """
    weights = np.array([weight for _, weight in weighted], dtype=np.float64)
    sizes = np.array([len(dataset) for dataset, _ in weighted])
    if not len(weights) or not np.isfinite(weights).all() or (weights <= 0).any() or not sizes.all():
        raise ValueError(f"a mixture needs data sets with samples and positive weights, not {weights.tolist()}")
    if n_samples is None:
        n_samples = int(np.floor((sizes / weights).min() * weights.sum() * (1 + 1e-12)))
    counts = _shares(n_samples, weights)
    rows = []
    for number, (size, count) in enumerate(zip(sizes.tolist(), counts.tolist(), strict=True)):
        whole, rest = divmod(count, size)
        rows.append(np.sort(np.concatenate([np.tile(np.arange(size), whole), _drawn(size, rest, seed, number)])))
    return _of_rows([dataset for dataset, _ in weighted], rows, targets)


def split(
    dataset: ShardedDataset,
    parts: Mapping[str, float | int] | Literal["300w"],
    *,
    by: Group = "photograph",
    seed: int = 0,
) -> dict[str, DatasetView]:
    """Views by name in which nobody is twice; `parts` are shares that add up to 1, or the named split ``300w``.

    `by` says what stays together: "photograph", all views of one and their mirror images
    (:func:`storage.source_groups.photograph_of`); "identity", photographs too whose labels share one identity (as those
    of drawn people and of `fit --same-person` do, bit for bit); or a function from source id to whoever is on it.
    Where a group goes depends on its name and the seed alone: a data set that grows moves nobody. Sizes are therefore
    those of the shares on average.

    ``300w`` is "train" (AFW, the training pictures of LFPW and HELEN), "test" (their test pictures, IBUG), and "other"
    where there are names of neither (:func:`storage.source_groups.side_of_300w`).
    """
    if parts == "300w":
        sides = [side_of_300w(name) or "other" for name in source_ids(dataset)]
        names = ["train", "test", *(["other"] if "other" in sides else [])]
        places = np.array([names.index(side) for side in sides], dtype=np.int64)
    else:
        shares = np.array(list(parts.values()), dtype=np.float64)
        if not len(shares) or (shares < 0).any() or not np.isclose(shares.sum(), 1):
            raise ValueError(f"the shares {shares.tolist()} of a split must not be negative and must add up to 1")
        names = list(parts)
        groups = groups_of(dataset, by)
        place_by_group = {group: place_of_group(group, seed) for group in set(groups)}
        ends = np.cumsum(shares)[:-1]
        places = np.searchsorted(ends, np.array([place_by_group[group] for group in groups]), side="right")
    return {name: select(dataset, np.flatnonzero(places == number)) for number, name in enumerate(names)}


def common_schema(parts: Sequence[ShardedDataset], targets: Iterable[str] | None = None) -> Schema:
    """The schema of the first, checked to read alike in all: same dtype, shape, unit and memory layout.

    How they are stored may differ, and whether they are stored or worked out. Raises ValueError.
    """
    if not parts:
        raise ValueError("a view needs at least one data set")
    first = parts[0].schema
    everything = {target.name: target for target in first.everything}
    names = list(everything) if targets is None else list(dict.fromkeys(targets))
    for part in parts:
        there = {target.name: target for target in part.schema.everything}
        missing = [name for name in names if name not in there]
        extra = [name for name in there if name not in names] if targets is None else []
        if missing or extra:
            raise ValueError(
                f"{part.manifest.name} {part.manifest.version} and {parts[0].manifest.name} differ in the targets "
                f"{', '.join([*missing, *extra])}: name those that you need, targets=[…]"
            )
        for name in names:
            one, other = everything[name], there[name]
            for what in ("dtype", "sample_shape", "unit", "channels_first"):
                if getattr(one, what) != getattr(other, what):
                    raise ValueError(
                        f"target {name} has {what} {getattr(one, what)} in {parts[0].manifest.name} and "
                        f"{getattr(other, what)} in {part.manifest.name}: they do not go into one batch"
                    )
    return Schema(
        targets=tuple(target for target in first.targets if target.name in names),
        derived=tuple(target for target in first.derived if target.name in names),
    )


def _of_rows(
    datasets: Sequence[ShardedDataset], rows: Sequence[np.ndarray], targets: Iterable[str] | None = None
) -> DatasetView:
    """A view of rows of data sets; views among them are replaced by what they are of."""
    parts: list[ShardedDataset] = []
    part_pieces, index_pieces = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    common = common_schema(datasets, targets)
    for dataset, mine in zip(datasets, rows, strict=True):
        flat = dataset if isinstance(dataset, DatasetView) else None
        own = flat.parts if flat else (dataset,)
        part_pieces.append((flat.part_of_sample[mine] if flat else np.zeros(len(mine), np.int32)) + len(parts))
        index_pieces.append(flat.index_in_part[mine] if flat else mine)
        parts += own
    names = [target.name for target in common.everything]
    return DatasetView(parts, np.concatenate(part_pieces), np.concatenate(index_pieces), names)


def _drawn(size: int, count: int, seed: int, number: int) -> np.ndarray:
    if not 0 <= count <= size:
        raise ValueError(f"{count} samples cannot be drawn from {size} without repetition")
    return np.sort(np.random.default_rng([seed, number]).permutation(size)[:count])


def _shares(n_samples: int, weights: np.ndarray) -> np.ndarray:
    """Whole numbers in proportion to `weights` that add up (Hamilton's largest remainders)."""
    exact = n_samples * weights / weights.sum()
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: n_samples - counts.sum()]] += 1
    return counts


def source_ids(dataset: ShardedDataset) -> list[str]:
    """Every sample's, in order."""
    names: list[str] = []
    for piece in in_pieces(len(dataset), _AT_ONCE):
        names += dataset.read(np.array(piece), ["source_id"])["source_id"].tolist()
    return names


def groups_of(dataset: ShardedDataset, by: Group) -> list[str]:
    """The group that each sample belongs to (:func:`split`)."""
    names = source_ids(dataset)
    if callable(by):
        return [by(name) for name in names]
    photographs = [photograph_of(name) for name in names]
    if by == "photograph":
        return photographs
    if "identity" not in dataset.schema.names:
        raise ValueError(f"{dataset.manifest.name} has no target identity to tell people apart by; split by photograph")
    keys: list[list[object]] = []
    for piece in in_pieces(len(dataset), 4096):
        people = dataset.read(np.array(piece), ["identity"])["identity"]
        for place, faces in zip(piece, people.reshape(len(piece), -1, people.shape[-1]), strict=True):
            known = [face.tobytes() for face in faces if np.isfinite(face).all() and face.any()]
            keys.append([photographs[place], *known])
    return [photographs[group] for group in joined(keys)]


def _placed(batch: np.ndarray | None, values: np.ndarray, rows: np.ndarray, n_rows: int) -> np.ndarray:
    """`values` at `rows` of a batch of `n_rows`, in the memory layout of the values; texts widen as needed."""
    if batch is None:
        order = np.argsort([-stride for stride in values.strides], kind="stable")
        shape = (n_rows, *values.shape[1:])
        batch = np.zeros([shape[axis] for axis in order], dtype=values.dtype).transpose(np.argsort(order))
    elif batch.dtype != values.dtype:
        batch = batch.astype(np.promote_types(batch.dtype, values.dtype))
    batch[rows] = values
    return batch

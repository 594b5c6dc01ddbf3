"""Reading a published data set: checked, in batches, without torch and without Zarr."""

import operator
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Int, Shaped

from geometry.morphable_model import MorphableModel
from storage.byte_codes import Jpeg
from storage.codes import FixedPoint
from storage.decoding import Decode, decoder_of, find_model, models_folder_of
from storage.local_store import LocalStore
from storage.manifest import MANIFEST_KEY, DatasetManifest, Unpublished, read_manifest
from storage.pins import ReadersPin
from storage.publish import LATEST_KEY, latest_version, read_table
from storage.schema import DerivedTarget, Schema, Target
from storage.shards import READ_TOGETHER, ShardReader, is_read_together, label
from storage.store import DamagedObject, ExchangedObject, MissingObject, Place, Store, is_key, place_of
from storage.stores import store_at
from storage.zarr_format import DamagedBytes, ShardFormat

if TYPE_CHECKING:
    from storage.views import DatasetView, Which

T = TypeVar("T")

OPEN_OBJECTS = 256
"""Shard objects that a reader holds open at once, each with its index (16 bytes a slot)."""


_WORTH_A_THREAD = 1 << 20
"""Bytes of a batch's target, before compression, below which handing rows to a thread costs more than it saves."""


@lru_cache(maxsize=4)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """This process's own: a fork has no threads of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"read-{process}")


def open_dataset(path: str | Path, version: str | None = None) -> "ShardedDataset":
    """Open a data set: ``<out>/<name>`` (its latest version, or the one named), or a version's own folder.

    `path` may be ``s3://bucket/…`` too. A local version cannot be pruned while it is open (:mod:`storage.pins`). Raises
    Unpublished when there is nothing to read, DamagedObject when the manifest is not what was written, NewerFormat when
    a later program wrote it.
    """
    try:
        return ShardedDataset(version_store(path, version))
    except Unpublished:
        if version is not None:
            raise
        return ShardedDataset(version_store(path))  # pruned between the look and the opening: there is a newer one


def version_store(path: str | Path, version: str | None = None) -> Store:
    """The store of that version, found as :func:`open_dataset` does; the manifest is not read."""
    place = place_of(path)
    if isinstance(place, Path) and not place.is_dir():
        raise Unpublished(
            f"{path} is not a folder; a data set is <out>/<name> or <out>/<name>/<version>, such as datasets/300wlp-posmaps"
            + ("" if Path(path).is_absolute() else f" (looked for from {Path.cwd()})")
        )
    store = store_at(place)
    if _has(store, MANIFEST_KEY):
        if version not in (None, place.name):
            raise Unpublished(f"{path} is version {place.name} itself, and version {version} was asked for")
        return store
    if version is not None and is_key(version) and _has(store, f"{version}/{MANIFEST_KEY}"):
        return store.folder(version)
    versions = [name for name in store.folders() if _has(store, f"{name}/{MANIFEST_KEY}")]
    if version is None and versions and not _has(store, LATEST_KEY):
        raise Unpublished(f"{place.name} does not say which version is the latest; name one of {', '.join(versions)}")
    if version is None and not versions:
        raise Unpublished(
            f"{path} has no {MANIFEST_KEY}, and no folder in it has one: it is neither a data set nor a published "
            "version of one. Give <out>/<name> or <out>/<name>/<version>; an interrupted build goes on where it stopped "
            "when it is started again"
        )
    wanted = version or latest_version(store)
    if wanted not in versions:
        raise Unpublished(f"{place.name} has no published version {wanted}; it has {', '.join(versions) or 'none'}")
    return store.folder(wanted)


def _has(store: Store, key: str) -> bool:
    try:
        store.size(key)
    except MissingObject:
        return False
    return True


def checked_indices(
    indices: Sequence[int] | Shaped[np.ndarray, "..."] | slice, n_samples: int, *, whole: str
) -> Int[np.ndarray, " n"]:
    """Numbers of samples counted from the front. Raises IndexError for what is no number of one of the `whole`'s samples."""
    if isinstance(indices, slice):
        indices = np.arange(*indices.indices(n_samples))
    asked = np.asarray(indices)
    if asked.ndim != 1 or (asked.size and asked.dtype.kind not in "iu"):
        raise IndexError(f"indices are a list of whole numbers, not {asked.dtype} of shape {asked.shape}")
    wrong = (asked < -n_samples) | (asked >= n_samples)
    if wrong.any():
        raise IndexError(f"sample {asked[wrong][0]} is outside this {whole} of {n_samples} samples")
    asked = asked.astype(np.int64)  # not before: 2⁶⁴ − 1 would be the last sample
    return np.where(asked < 0, asked + n_samples, asked)


class ShardedDataset(Sequence):  # of nothing in particular: a type checker that knows the items reads some
    """The good samples of a version, numbered without gaps.

    ``ds.read(indices)`` gives stacked arrays and is the primary call; ``ds[i]`` is its batch of one. Every object's
    size and place and every chunk's checksum are looked at on the way: what comes back is what was written, or an
    exception (MissingObject, DamagedObject). Pictures come as (rows, columns, channels), views of channels-first
    memory.

    Reading is safe from several threads and after a fork; a pickled data set opens its files anew.
    """

    def __init__(self, version: Store | Place, manifest: DatasetManifest | None = None) -> None:
        """A version by its own manifest, or by a draft of it; :func:`open_dataset` is the usual way."""
        self._store = version if isinstance(version, Store) else store_at(version)
        self._is_draft = manifest is not None
        self._pin = self._reader_pin()
        self.manifest = read_manifest(self._store) if manifest is None else manifest
        self._open()

    def _reader_pin(self) -> ReadersPin | None:
        store = self._store
        return ReadersPin(store.root) if isinstance(store, LocalStore) and not self._is_draft else None

    def _open(self) -> None:
        plan = self.manifest.plan
        self._formats: dict[str, ShardFormat] = dict(plan.shard_formats())
        self._bytes = {info.key: info.bytes for info in self.manifest.objects}
        self._holes = np.array([hole.index for hole in self.manifest.rejected], dtype=np.int64)
        self._readers: OrderedDict[tuple[str, int], ShardReader] = OrderedDict()
        self._decoders: dict[str, Decode] = {}
        self._tables: dict[str, np.ndarray] = {}
        self._model: MorphableModel | None = None
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, object]:
        return {"store": self._store, "manifest": self.manifest, "is_draft": self._is_draft}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._store, self.manifest, self._is_draft = state["store"], state["manifest"], state["is_draft"]
        self._pin = self._reader_pin()
        self._open()

    def __repr__(self) -> str:
        return f"<{self.manifest.name} {self.manifest.version}: {len(self)} samples of {', '.join(self.schema.names)}>"

    @property
    def path(self) -> Place:
        """The version's folder."""
        return self._store.place

    @property
    def schema(self) -> Schema:
        """The targets: name, dtype, shape, unit, code."""
        return self.manifest.sample_schema

    @property
    def shard_sizes(self) -> Int[np.ndarray, " n_shards"]:
        """Good samples in each shard, in order: samples of one shard are neighbours."""
        plan = self.manifest.plan
        slots = np.array([len(plan.slots(shard)) for shard in range(plan.n_shards)])
        return slots - np.bincount(self._holes // plan.shard_size, minlength=plan.n_shards)

    def __len__(self) -> int:
        return self.manifest.n_samples

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        """Sample `index` as a dict of arrays; texts and numbers come as Python's."""
        batch = self.read([operator.index(index)])
        return {name: values[0].item() if values.ndim == 1 else values[0] for name, values in batch.items()}

    def read(
        self,
        indices: Sequence[int] | Int[np.ndarray, " n"] | slice,
        targets: Iterable[str] | None = None,
        *,
        threads: int = 1,
    ) -> dict[str, np.ndarray]:
        """The samples at `indices` as stacked arrays by target name, in that order; negative ones count from the end.

        `targets` limits what is read and decoded. `threads` share the work on large targets (they spend most of it
        outside Python's lock); what comes back does not depend on them. Raises IndexError, KeyError for an unknown
        target.
        """
        wanted = [self.schema[name] for name in (self.schema.names if targets is None else targets)]
        slots = self.slots(indices)
        needed = {target.name for target in wanted if isinstance(target, Target)}
        needed |= {name for target in wanted if isinstance(target, DerivedTarget) for name in decoder_of(target).needs}
        stored = {
            target.name: self._read_stored(target, slots, threads)
            for target in self.schema.targets
            if target.name in needed
        }
        return {
            target.name: stored[target.name] if isinstance(target, Target) else self._decode(target, stored, len(slots))
            for target in wanted
        }

    def select(self, which: "Which") -> "DatasetView":
        """Some of the samples as a data set of its own, without copying: see :func:`storage.views.select`."""
        from storage.views import select

        return select(self, which)

    def slots(self, indices: Sequence[int] | Int[np.ndarray, " n"] | slice) -> Int[np.ndarray, " n"]:
        """The plan's slot of each sample: the numbers of a version's rejected samples are left out of the count."""
        dense = checked_indices(indices, len(self), whole="data set")
        return dense + np.searchsorted(self._holes - np.arange(len(self._holes)), dense, side="right")

    def table(self, name: str) -> Shaped[np.ndarray, "..."]:
        """A constant array of the version, such as the weight mask. Raises MissingObject when there is none."""
        with self._lock:
            if name not in self._tables:
                if f"tables/{name}/zarr.json" not in self._bytes:
                    raise MissingObject(f"tables/{name}")
                self._tables[name] = read_table(self._store, name)
            return self._tables[name]

    def model(self) -> MorphableModel:
        """The morphable model of the labels, from ``<out>/models`` or the built-in one. Raises MissingModel."""
        with self._lock:
            if self._model is None:
                self._model = find_model(self.manifest.model, models_folder_of(self.path))
            return self._model

    def _read_stored(self, target: Target, slots: np.ndarray, threads: int) -> np.ndarray:
        chunk = self._formats[target.name].chunk
        shards, places = np.divmod(slots, self.manifest.plan.shard_size)
        decode_into = target.code.decode_into if isinstance(target.code, FixedPoint | Jpeg) else None
        shape, dtype = (chunk.shape, chunk.numpy_dtype) if decode_into is None else (target.memory_shape, target.dtype)
        values = np.empty((len(slots), *shape), dtype=dtype)

        def read_into(row: int, out: np.ndarray) -> None:
            shard, place = int(shards[row]), int(places[row])
            self._with_reader(target.name, shard, lambda reader: reader.read_into(place, out))

        def read_rows(rows: Sequence[int]) -> None:
            codes = np.empty(chunk.shape, dtype=chunk.numpy_dtype)
            for row in rows:
                if decode_into is None:
                    read_into(row, values[row : row + 1].reshape(chunk.shape))  # a view, also of a sample of shape ()
                    continue
                read_into(row, codes)
                try:  # while it is in the processor's cache
                    decode_into(codes, values[row])
                except DamagedBytes as damage:
                    raise DamagedObject(f"{target.name}[{slots[row]}]", str(damage)) from None

        rows = np.argsort(slots, kind="stable")  # in the order of the disk
        if decode_into is None and is_read_together(chunk):
            by_shard = np.split(rows, np.flatnonzero(np.diff(shards[rows])) + 1)
            if len(rows) >= READ_TOGETHER * len(by_shard):
                for some in by_shard:
                    read_many = partial(ShardReader.read_many, places=places[some])
                    values[some] = self._with_reader(target.name, int(shards[some[0]]), read_many)
                return target.decode(values)
        pieces = np.array_split(rows, threads if len(slots) * chunk.n_bytes >= _WORTH_A_THREAD else 1)
        helpers = [_pool(threads - 1, os.getpid()).submit(read_rows, piece.tolist()) for piece in pieces[1:]]
        try:
            read_rows(pieces[0].tolist())
        finally:
            wait(helpers)  # they write to `values`
        for helper in helpers:
            helper.result()
        return target.channels_last(values) if decode_into is not None else target.decode(values)

    def _reader(self, name: str, shard: int) -> ShardReader:
        with self._lock:
            known = self._readers.get((name, shard))
            if known is not None and known.is_current:
                self._readers.move_to_end((name, shard))
                return known
        key = f"{name}/{self._formats[name].key(shard)}"
        if key not in self._bytes:
            raise DamagedObject(MANIFEST_KEY, f"does not mention {key}")
        reader = ShardReader(
            self._store.open(key),
            self._formats[name],
            key=key,
            expected_bytes=self._bytes[key],
            expected_label=label(self.manifest.fingerprint, name, shard),
        )
        with self._lock:
            self._readers[name, shard] = reader
            while len(self._readers) > OPEN_OBJECTS:
                self._readers.popitem(last=False)  # its file is closed when the last thread has done with it
        return reader

    def _with_reader(self, name: str, shard: int, read: Callable[[ShardReader], T]) -> T:
        """What `read` gives. A shard that was exchanged is opened anew, once: its label and its index are looked at."""
        try:
            return read(self._reader(name, shard))
        except DamagedObject as damage:
            self._forget_reader(name, shard)  # the object may be mended, and is to be opened anew then
            if not isinstance(damage, ExchangedObject):
                raise
        try:
            return read(self._reader(name, shard))
        except DamagedObject:
            self._forget_reader(name, shard)
            raise

    def _forget_reader(self, name: str, shard: int) -> None:
        with self._lock:
            self._readers.pop((name, shard), None)

    def mark(self, target: Target, slot: int) -> tuple[int, bytes]:
        """What tells a stored sample from another one of the same format; see :meth:`ShardReader.mark`."""
        shard, place = divmod(slot, self.manifest.plan.shard_size)
        return self._with_reader(target.name, shard, lambda reader: reader.mark(place))

    def _decode(self, target: DerivedTarget, stored: dict[str, np.ndarray], n_samples: int) -> np.ndarray:
        with self._lock:
            if target.name not in self._decoders:
                self._decoders[target.name] = decoder_of(target).prepare(self)
        return self._decoders[target.name](stored, n_samples)

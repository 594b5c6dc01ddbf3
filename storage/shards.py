"""Shards: one object per array and shard, written by one process in one go, read sample by sample.

An object is [label][chunk][chunk]…[index]. The label says which array, shard and plan the object belongs to: two
objects that changed places pass every checksum of their own, and are noticed by it. Zarr's readers never look there,
since the index says where each chunk begins.
"""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from jaxtyping import Int, Shaped, UInt8
from pydantic import JsonValue

from storage.bad_sample import BadSample
from storage.manifest import DatasetPlan, ObjectInfo, Receipt, RejectedSlot, receipt_bytes, receipt_key
from storage.phases import Phase, reach
from storage.publish import put_unpublished
from storage.store import DamagedObject, MissingObject, ObjectReader, Store
from storage.zarr_format import CHECKSUM_BYTES, ChunkFormat, DamagedBytes, ShardFormat, is_hole

T = TypeVar("T")

LABEL_BYTES = 32

READ_TOGETHER = 8
"""So many samples of a shard are worth reading together, where they are small."""
_SMALL_BYTES = 4096
_GAPS_BYTES = 1 << 20
"""So much is read at once although others' samples lie between."""
_THREADS = 4


def label(fingerprint: str, target: str, shard: int) -> bytes:
    """The first bytes of an object: a digest of where it belongs."""
    return hashlib.sha256(f"facefoundry shard\n{fingerprint}\n{target}\n{shard}".encode()).digest()


def is_read_together(chunk: ChunkFormat) -> bool:
    """Whether many chunks are better had by one read: what is small and lies as it is."""
    return chunk.compression == "none" and chunk.n_bytes <= _SMALL_BYTES


class ShardWriter:
    """Collects the samples of one shard, encoded, and stores them with a receipt.

    Memory: the compressed samples of one shard (about 0.4 MB each with image and materialised map of 256²).
    """

    def __init__(self, store: Store, plan: DatasetPlan, shard: int) -> None:
        self._store, self._plan, self._shard = store, plan, shard
        self._slots = plan.slots(shard)
        self._fingerprint = plan.fingerprint
        self._formats = dict(plan.shard_formats())
        self._chunks: dict[int, dict[str, tuple[bytes, bytes]]] = {}
        self._rejected: dict[int, RejectedSlot] = {}

    def add(self, slot: int, sample: Mapping[str, object]) -> None:
        """Encode the sample of `slot` (its number in the whole plan). Raises BadSample, and leaves the slot open."""
        self._check_open(slot)
        encoded = self._plan.sample_schema.encode(sample)
        self._chunks[slot] = {name: self._formats[name].chunk.encode(array) for name, array in encoded.items()}

    def reject(self, slot: int, source_id: str, bad: BadSample) -> None:
        """Leave `slot` empty, and say why."""
        self._check_open(slot)
        self._rejected[slot] = RejectedSlot(index=slot, source_id=source_id, code=bad.code, reason=bad.sentence)

    def finish(self, statistics: Mapping[str, JsonValue] | None = None) -> Receipt:
        """Store one object per array, then the receipt. Raises ValueError while slots are undecided."""
        undecided = [slot for slot in self._slots if slot not in self._chunks and slot not in self._rejected]
        if undecided:
            raise ValueError(
                f"{len(undecided)} slots of shard {self._shard} have neither sample nor reason, first {undecided[0]}"
            )
        objects = self._store_arrays()
        receipt = Receipt(
            fingerprint=self._fingerprint,
            shard=self._shard,
            first=self._slots.start,
            stop=self._slots.stop,
            objects=objects,
            n_samples=len(self._chunks),
            rejected=tuple(self._rejected[slot] for slot in sorted(self._rejected)),
            statistics=dict(statistics or {}),
        )
        data = receipt_bytes(receipt)
        info = ObjectInfo.of(receipt_key(self._shard), [data])
        reach(Phase.RECEIPT, info.key)
        put_unpublished(self._store, self._plan, info, data)
        return receipt

    def _check_open(self, slot: int) -> None:
        if slot not in self._slots:
            raise ValueError(
                f"slot {slot} is not in shard {self._shard}, which has {self._slots.start} to {self._slots.stop - 1}"
            )
        if slot in self._chunks or slot in self._rejected:
            raise ValueError(f"slot {slot} was already given a sample or a reason")

    def _store_arrays(self) -> tuple[ObjectInfo, ...]:
        """One object per array; while one is hashed, others wait for the disk or the network."""
        writings: list[tuple[ObjectInfo, Future[None]]] = []
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                for name, format in self._formats.items():
                    info, parts = self._array(name, format)
                    reach(Phase.SHARD, info.key)
                    writings.append((info, pool.submit(put_unpublished, self._store, self._plan, info, parts)))
                for _, writing in writings:
                    writing.result()
            finally:
                pool.shutdown(cancel_futures=True)  # where one cannot be stored, the others would be tried in vain
        return tuple(info for info, _ in writings)

    def _array(self, name: str, format: ShardFormat) -> tuple[ObjectInfo, list[bytes]]:
        parts = [label(self._fingerprint, name, self._shard)]
        index = format.empty_index()
        position = LABEL_BYTES
        for slot in sorted(self._chunks):
            chunk = self._chunks[slot][name]
            length = sum(map(len, chunk))
            index[slot - self._slots.start] = position, length
            position += length
            parts += chunk
        parts.append(format.encode_index(index))
        if format.chunk.n_bytes <= _SMALL_BYTES:  # thousands of short parts take longer to hash and write than one
            parts = [b"".join(parts)]
        key = f"{name}/{format.key(self._shard)}"
        return ObjectInfo.of(key, parts, first=self._slots.start, stop=self._slots.stop), parts


class ShardReader:
    """Reads samples out of one object, each checked against its checksum. Several threads may use one reader."""

    def __init__(
        self,
        source: ObjectReader,
        format: ShardFormat,
        *,
        key: str,
        expected_bytes: int | None = None,
        expected_label: bytes | None = None,
    ) -> None:
        """Check size, label and index. Raises DamagedObject."""
        self._source, self._format, self._key = source, format, key
        if expected_bytes is not None and source.size != expected_bytes:
            raise DamagedObject(key, f"has {source.size} bytes where the manifest says {expected_bytes}")
        if source.size < format.index_bytes + (LABEL_BYTES if expected_label else 0):
            raise DamagedObject(key, f"has {source.size} bytes, fewer than its index alone")
        if expected_label is not None and not any(
            bytes(source.read(0, LABEL_BYTES)) == expected_label for _ in range(source.attempts)
        ):
            raise DamagedObject(key, "belongs to another array, shard or data set (its label says so)")
        self._end = source.size - format.index_bytes
        self._index = self._decoded(self._end, source.size, format.decode_index)

    @property
    def is_current(self) -> bool:
        """Whether the object that label and index were read from is still there."""
        return self._source.is_current()

    def read_into(self, place: int, out: Shaped[np.ndarray, "..."]) -> None:
        """Write sample `place` of the shard (from 0) into `out`. Raises MissingObject for a hole, DamagedObject."""
        offset, length = self._index[place].tolist()
        if is_hole(offset):
            raise MissingObject(f"{self._key}[{place}]")
        if offset + length > self._end:
            raise DamagedObject(self._key, f"has an index that leads outside it at sample {place}")
        decode = self._format.chunk.decode_into
        self._decoded(offset, offset + length, lambda data: decode(data, out), f"sample {place} ")

    def read_many(self, places: Int[np.ndarray, " n"]) -> Shaped[np.ndarray, "n ..."]:
        """The samples at `places` (increasing), of a chunk that :func:`is_read_together`. Raises as :meth:`read_into`.

        Those that lie close together come by one read, and are then checked one by one.
        """
        chunk = self._format.chunk
        rows = self._rows_at_once(places)
        if rows is not None:
            return rows[:, : chunk.n_bytes].copy().view(chunk.numpy_dtype).reshape(-1, *chunk.shape)
        samples = np.empty((len(places), *chunk.shape), dtype=chunk.numpy_dtype)
        for row, place in enumerate(places.tolist()):
            self.read_into(place, samples[row : row + 1].reshape(chunk.shape))  # a view, also of a sample of shape ()
        return samples

    def _rows_at_once(self, places: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n b"] | None:
        """The chunks' bytes with their checksums; None where one is not as it should be: read singly, it is named."""
        length = self._format.chunk.n_bytes + CHECKSUM_BYTES
        offsets, lengths = self._index[places].T
        if (lengths != length).any() or int(offsets.max()) + length > self._end:
            return None
        start, stop = int(offsets.min()), int(offsets.max()) + length
        if stop - start > max(2 * length * len(places), _GAPS_BYTES):
            return None
        data = np.frombuffer(self._source.read(start, stop), np.uint8)
        rows = np.stack([data[at : at + length] for at in (offsets - np.uint64(start)).tolist()])
        return rows if all(self._format.chunk.is_whole(row) for row in rows) else None

    def mark(self, place: int) -> tuple[int, bytes]:
        """Length and checksum of a sample's stored bytes: equal marks of one format are equal samples. A hole: (0, …)."""
        offset, length = self._index[place].tolist()
        if is_hole(offset):
            return 0, b""
        return length, bytes(self._source.read(offset + length - CHECKSUM_BYTES, offset + length))

    def _decoded(self, start: int, stop: int, decode: Callable[[bytes], T], what: str = "") -> T:
        """What `decode` makes of some bytes; those that fail their checksum are read as often as it may help."""
        for _ in range(self._source.attempts):
            try:
                return decode(bytes(self._source.read(start, stop)))
            except DamagedBytes as error:
                damage = str(error)
        raise DamagedObject(self._key, what + damage)

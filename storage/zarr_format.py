"""Zarr 3 as bytes: the metadata documents, the chunks, and the sharding codec's index.

Written and read here directly, because one sample is one inner chunk and zarr-python takes about half a millisecond a
chunk. The tests hold every byte to zarr-python's own reading and writing: these are plain Zarr 3 arrays
(core specification 3.0, section on metadata; sharding_indexed, blosc, crc32c and bytes codecs).
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import google_crc32c
import numcodecs.blosc as blosc
import numpy as np
from jaxtyping import Shaped, UInt64

Compression = Literal["none", "lz4_shuffle", "lz4_bitshuffle", "zstd_bitshuffle"]

# (library, level, shuffle, block size). Measured on the built-in model's maps and on photographs of 256 × 256:
# fixed-point maps: lz4 and byte shuffle 0.5 ms and 238 kB (with bitshuffle 0.55 ms and 273 kB);
# images: lz4 and bitshuffle 0.26 ms and 157 kB; zstd and bitshuffle 0.57 ms and 131 kB, and twice as long to read.
_BLOSC: dict[Compression, tuple[str, int, str, int]] = {
    "lz4_shuffle": ("lz4", 5, "shuffle", 0),
    "lz4_bitshuffle": ("lz4", 5, "bitshuffle", 0),
    "zstd_bitshuffle": ("zstd", 1, "bitshuffle", 262144),
}
_ROOM_OF_ZSTD = 8 << 20
"""Several times what zstd takes for a block. Blosc stores a block as it is not only where it would not get smaller, but also,
without a word, where zstd was refused its memory: other bytes of the same sample."""
_SHUFFLE = {"shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}
_ALL_PLAIN = 0x02
_NOWHERE = np.uint64(2**64 - 1)
CHECKSUM_BYTES = _CRC = 4
_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


def make_the_lock() -> None:
    """Make the lock of Blosc's that processes forked from this one share; it is never taken here.

    A worker that makes its own and ends by Ctrl-C leaves it behind, of which Python's tracker would warn.
    """
    blosc.get_mutex()


def _has_plain_block(data: bytes) -> bool:
    """Whether Blosc stored any block as it is (Blosc 1's header: flags, sizes, where each block begins; then its length)."""
    flags = data[2]
    n_bytes, block = struct.unpack_from("<II", data, 4)
    if flags & _ALL_PLAIN or not n_bytes:
        return True
    starts = struct.unpack_from(f"<{-(-n_bytes // block)}i", data, 16)
    lengths = (struct.unpack_from("<i", data, start)[0] for start in starts)
    return any(length == min(block, n_bytes - place * block) for place, length in enumerate(lengths))


class DamagedBytes(ValueError):
    """Bytes that do not hold what their checksum or length says."""


@dataclass(frozen=True)
class ChunkFormat:
    """One chunk: an array of `dtype` and `shape`, little-endian, compressed, with its crc32c behind it."""

    dtype: str
    shape: tuple[int, ...]
    compression: Compression = "none"

    @cached_property
    def numpy_dtype(self) -> np.dtype:
        """The dtype in memory and on disk: little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    @cached_property
    def n_bytes(self) -> int:
        """Bytes before compression."""
        return self.numpy_dtype.itemsize * math.prod(self.shape)

    def encode(self, array: Shaped[np.ndarray, "..."]) -> tuple[bytes, bytes]:
        """The chunk's bytes (data and checksum, to lie one behind the other), the same every time.

        Raises ValueError unless `array` has this format's shape and dtype, and MemoryError.
        """
        if array.shape != self.shape or array.dtype != self.numpy_dtype:
            raise ValueError(f"a chunk of {self.dtype} {self.shape} was given {array.dtype} {array.shape}")
        data = array.tobytes() if self.compression == "none" else self._compressed(np.ascontiguousarray(array))
        return data, google_crc32c.value(data).to_bytes(_CRC, "little")

    def _compressed(self, array: Shaped[np.ndarray, "..."]) -> bytes:
        library, level, shuffle, block = _BLOSC[self.compression]

        def pack() -> bytes:
            blosc.use_threads = False  # with threads, blocks lie in the order in which they were ready
            return blosc.compress(
                array, library.encode(), level, _SHUFFLE[shuffle], block, typesize=self.numpy_dtype.itemsize
            )

        data = pack()
        if library == "zstd" and _has_plain_block(data):
            np.empty(_ROOM_OF_ZSTD, dtype=np.uint8)
            data = pack()
        return data

    def decode_into(self, data: bytes, out: Shaped[np.ndarray, "..."]) -> None:
        """Write the chunk into `out` (contiguous). Raises DamagedBytes when checksum or length disagree."""
        packed = np.frombuffer(data, dtype=np.uint8)[:-_CRC] if len(data) > _CRC else np.zeros(0, dtype=np.uint8)
        if google_crc32c.value(packed) != int.from_bytes(data[-_CRC:], "little") or not len(packed):
            raise DamagedBytes("does not match its checksum")
        plain = self.compression == "none"
        length = len(packed) if plain else int.from_bytes(data[4:8], "little")  # Blosc's header: decompressed bytes
        if length != self.n_bytes:
            raise DamagedBytes(f"holds {length} bytes for an array of {self.n_bytes}")
        if plain:
            out[...] = packed.view(self.numpy_dtype).reshape(self.shape)
        else:
            blosc.use_threads = False
            blosc.decompress(packed, out)

    def is_whole(self, data: Shaped[np.ndarray, " b"]) -> bool:
        """Whether a chunk's bytes match the checksum behind them."""
        return bool(google_crc32c.value(data[:-_CRC]) == int.from_bytes(data[-_CRC:], "little"))

    @property
    def codecs(self) -> list[dict[str, object]]:
        """The codec chain of Zarr's metadata."""
        endian = {"configuration": {"endian": "little"}} if self.numpy_dtype.itemsize > 1 else {}
        chain: list[dict[str, object]] = [{"name": "bytes", **endian}]
        if self.compression != "none":
            library, level, shuffle, block = _BLOSC[self.compression]
            settings = {"cname": library, "clevel": level, "shuffle": shuffle, "blocksize": block}
            chain.append({"name": "blosc", "configuration": {"typesize": self.numpy_dtype.itemsize, **settings}})
        return [*chain, {"name": "crc32c"}]

    @property
    def fill_value(self) -> object:
        """What holes read as elsewhere: NaN, or the value that no sample has where the dtype has one to spare."""
        kind = self.numpy_dtype.kind
        if kind == "f":
            return "NaN"
        if kind == "b":
            return False
        if self.dtype == "uint16":
            return 65535
        return int(np.iinfo(self.dtype).min)


@dataclass(frozen=True, slots=True)
class ShardFormat:
    """Many chunks in one object: sample i of a shard is inner chunk i; the index lies at the end."""

    chunk: ChunkFormat
    shard_size: int

    @property
    def index_bytes(self) -> int:
        """Length of the index at the end of the object."""
        return 16 * self.shard_size + _CRC

    def key(self, shard: int) -> str:
        """The object's name inside the array's folder."""
        return ".".join(["c", str(shard), *("0" for _ in self.chunk.shape)])

    def encode_index(self, offsets_and_lengths: UInt64[np.ndarray, "n 2"]) -> bytes:
        """The index of chunks at (offset, length)."""
        data = offsets_and_lengths.astype("<u8").tobytes()
        checksum: int = google_crc32c.value(data)
        return data + checksum.to_bytes(_CRC, "little")

    def decode_index(self, data: bytes) -> UInt64[np.ndarray, "n 2"]:
        """The (offset, length) of every chunk. Raises DamagedBytes when the checksum disagrees."""
        if len(data) != self.index_bytes or google_crc32c.value(data[:-_CRC]) != int.from_bytes(data[-_CRC:], "little"):
            raise DamagedBytes("has an index that does not match its checksum")
        return np.frombuffer(data, dtype="<u8", count=2 * self.shard_size).reshape(-1, 2).astype(np.uint64)

    def empty_index(self) -> UInt64[np.ndarray, "n 2"]:
        """An index of holes."""
        return np.full((self.shard_size, 2), _NOWHERE, dtype=np.uint64)

    def metadata(self, n_slots: int, dimension_names: tuple[str, ...], attributes: dict[str, object]) -> bytes:
        """The array's `zarr.json`."""
        sharding = {
            "chunk_shape": [1, *self.chunk.shape],
            "codecs": self.chunk.codecs,
            "index_codecs": _INDEX_CODECS,
            "index_location": "end",
        }
        return _array_document(
            shape=(n_slots, *self.chunk.shape),
            chunk_shape=(self.shard_size, *self.chunk.shape),
            chunk=self.chunk,
            codecs=[{"name": "sharding_indexed", "configuration": sharding}],
            dimension_names=dimension_names,
            attributes=attributes,
        )


def is_hole(offset: int) -> bool:
    """Whether an index entry says that there is no chunk."""
    return offset == int(_NOWHERE)


def table_metadata(chunk: ChunkFormat, attributes: dict[str, object]) -> bytes:
    """The `zarr.json` of an array that is one chunk."""
    return _array_document(
        shape=chunk.shape,
        chunk_shape=chunk.shape,
        chunk=chunk,
        codecs=chunk.codecs,
        dimension_names=None,
        attributes=attributes,
    )


def table_key(chunk: ChunkFormat) -> str:
    """The name of the only chunk of such an array."""
    return ".".join(["c", *("0" for _ in chunk.shape)])


def group_metadata(attributes: dict[str, object], members: Mapping[str, bytes] | None = None) -> bytes:
    """The `zarr.json` of a group. With `members` (path → their `zarr.json`) it describes all that lies below.

    That is zarr-python's inline consolidated metadata: one read opens a data set, and its readers need not look at what
    else lies in the folder.
    """
    document: dict[str, object] = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    if members is not None:
        metadata = {path: json.loads(data) for path, data in sorted(members.items())}
        document["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": metadata}
    return _document(document)


def chunk_format_of(metadata: bytes) -> ChunkFormat:
    """The format of a one-chunk array that :func:`table_metadata` described. Raises DamagedBytes for any other."""
    try:
        document = json.loads(metadata)
        compressions: tuple[Compression, ...] = ("none", *_BLOSC)
        for compression in compressions:
            chunk = ChunkFormat(document["data_type"], tuple(document["shape"]), compression)
            if (
                chunk.codecs == document["codecs"]
                and list(chunk.shape) == document["chunk_grid"]["configuration"]["chunk_shape"]
            ):
                return chunk
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DamagedBytes(f"is not the metadata of a Zarr array ({error})") from None
    raise DamagedBytes("describes an array that is not one chunk of this project's codecs")


def _array_document(
    *,
    shape: tuple[int, ...],
    chunk_shape: tuple[int, ...],
    chunk: ChunkFormat,
    codecs: list[dict[str, object]],
    dimension_names: tuple[str, ...] | None,
    attributes: dict[str, object],
) -> bytes:
    document: dict[str, object] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": chunk.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": chunk.fill_value,
        "codecs": codecs,
        "attributes": attributes,
        "storage_transformers": [],
    }
    if dimension_names is not None:
        document["dimension_names"] = list(dimension_names)
    return _document(document)


def _document(content: dict[str, object]) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()

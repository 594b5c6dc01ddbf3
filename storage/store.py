"""Where objects lie: a small interface that a local folder and an object store both keep.

An object is there whole or not at all, and its key is a relative POSIX path. Everything above speaks of keys and bytes.
The implementations are :class:`storage.local_store.LocalStore` and :class:`storage.object_store.ObjectStore`;
:func:`storage.stores.store_at` chooses.
"""

import abc
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

Bytes = bytes | bytearray | memoryview

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_REMEDY = "`facefoundry verify --repair` finds what else is wrong and makes it again from the sources"
_OF_BUILDS = ("manifest.json", "latest")
"""What a repair needs whole; a build writes them anew."""
_REMEDY_OF_BUILDS = "The command that built the data set, started again, writes it anew"


class MissingObject(LookupError):
    """An object that should be there is not. Never answered with a fill value."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"object {self.key} is missing; a missing object is never read as zeros. {_remedy(self.key)}"


class DamagedObject(Exception):
    """An object is there, and its bytes are not what they should be."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key, self.problem = key, problem

    def __str__(self) -> str:
        return f"object {self.key} {self.problem}; its data must not be used. {_remedy(self.key)}"


class ExchangedObject(DamagedObject):
    """Another object lies where one was opened; it may be whole, and has to be opened before it is read."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "was exchanged while it was read")

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return ExchangedObject, (self.key,)


def _remedy(key: str) -> str:
    return _REMEDY_OF_BUILDS if key in _OF_BUILDS else _REMEDY


def is_key(key: str) -> bool:
    """Whether `key` is a relative POSIX path of plain names: no `..`, no root, no hidden names."""
    return all(_SEGMENT.fullmatch(segment) for segment in key.split("/"))


def check_key(key: str) -> None:
    """Raise ValueError unless :func:`is_key`."""
    if not is_key(key):
        raise ValueError(
            f"{key!r} is not a key: keys are relative paths such as image/c.0.0.0.0, of letters, digits, '_', '-' and "
            "'.', without '..', without a leading '/' and without names that begin with a dot"
        )


class StoreUrl(str):
    """Where an object store's folder lies, such as ``s3://bucket/faces``; ``/`` leads into it, as in a Path."""

    __slots__ = ()

    def __truediv__(self, name: str) -> "StoreUrl":
        return StoreUrl(f"{self}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.rpartition("/")[2]

    @property
    def parent(self) -> "StoreUrl":
        """What holds it."""
        return StoreUrl(self.rpartition("/")[0])

    def as_uri(self) -> str:
        """As an address."""
        return str(self)


Place = Path | StoreUrl
"""A local folder, or one of an object store."""


def place_of(text: str | os.PathLike[str]) -> Place:
    """The place that somebody named: ``s3://bucket/prefix``, or a local path, made absolute.

    Raises ValueError for an address of another kind.
    """
    if isinstance(text, os.PathLike):
        return Path(text).absolute()
    scheme, mark, rest = text.partition("://")
    if not mark and not text.startswith("s3:"):
        return Path(text).absolute()
    if scheme != "s3" or not rest.strip("/"):
        raise ValueError(f"{text!r} is neither a folder nor of the form s3://bucket/prefix")
    if "@" in rest.partition("/")[0]:  # not repeated: it would stand in logs, and on a server's pages
        raise ValueError(
            "an address s3://… holds no credentials: give them in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    return StoreUrl(f"s3://{rest.rstrip('/')}")


class ObjectReader(abc.ABC):
    """One object held open: several threads may read it, and it is closed when nobody refers to it any more."""

    size: int
    attempts: int = 1
    """How often bytes that fail their checksum are worth reading: a disk gives the same again, a network may not."""
    piece_bytes: int = 1 << 20
    """Who reads all of it reads so much at once: what stays in the processor's cache, and over a network more."""

    @abc.abstractmethod
    def read(self, start: int, stop: int) -> Bytes:
        """Exactly the bytes [start, stop) of the object that was opened, never of another one that took its place.

        Raises DamagedObject when the object ends before, ExchangedObject when it is there no more.
        """

    def pieces(self) -> Iterator[Bytes]:
        """All of it, piece by piece; each is to be used before the next is asked for. Raises as :meth:`read`."""
        for start in range(0, self.size, self.piece_bytes):
            yield self.read(start, min(start + self.piece_bytes, self.size))

    def is_current(self) -> bool:
        """Whether the object is the one that was opened, as far as can be told without reading it."""
        return True


class Store(abc.ABC):
    """A place for objects. All writes are atomic; MissingObject is raised for keys that are not there."""

    attempts: int = 1
    """As of :class:`ObjectReader`."""
    has_lock: bool = True
    """Whether builders exclude each other here by a lock; where not, the first manifest wins."""

    @property
    @abc.abstractmethod
    def place(self) -> Place:
        """Where it lies."""

    @abc.abstractmethod
    def folder(self, name: str) -> "Store":
        """The store of what lies below ``name/``."""

    @abc.abstractmethod
    def folders(self) -> Sequence[str]:
        """The first parts of the keys that have several, sorted."""

    @abc.abstractmethod
    def get(self, key: str, range: tuple[int, int] | None = None) -> bytes:
        """The object's bytes, or exactly those of [start, stop)."""

    @abc.abstractmethod
    def put(self, key: str, data: Bytes | Sequence[Bytes]) -> None:
        """Store `data` (the parts of a sequence one after another), durably; an object of that name is replaced."""

    @abc.abstractmethod
    def put_if_absent(self, key: str, data: Bytes | Sequence[Bytes]) -> bool:
        """Store `data` unless the key exists; say whether this call stored it. Of several writers, one wins."""

    @abc.abstractmethod
    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        """Replace an object that holds `expected` (None: that is not there) by `data`; say whether it was so."""

    @abc.abstractmethod
    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """(key, bytes) of the objects whose keys begin with `prefix`, sorted."""

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, sorted."""
        return (key for key, _ in self.sizes(prefix))

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; removing what is not there is no error."""

    @abc.abstractmethod
    def size(self, key: str) -> int:
        """How many bytes the object has."""

    @abc.abstractmethod
    def modified(self, key: str) -> float:
        """When the object was written, in seconds since 1970, by the clock of whoever keeps it."""

    def open(self, key: str) -> ObjectReader:
        """The object held open for many small reads."""
        return _RangeReader(self, key)


class _RangeReader(ObjectReader):
    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key, self.size = store, key, store.size(key)

    def read(self, start: int, stop: int) -> Bytes:
        return self._store.get(self._key, (start, stop))

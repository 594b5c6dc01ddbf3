"""Where objects lie: a small interface that a local folder and an object store both keep.

An object is there whole or not at all, and its key is a relative POSIX path. Everything above this file speaks of keys
and bytes; the local implementation turns "whole or not at all" into a private name, fsync, rename, fsync of the folder.
The other implementation is :class:`storage.object_store.ObjectStore`; :func:`storage.stores.store_at` chooses.
"""

import abc
import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

Bytes = bytes | bytearray | memoryview

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_LEFTOVER = ".partial"
_PIECE = 8 << 20
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


def say_where(error: OSError, path: Path) -> None:
    """Give the system's error a name, where it has none: it speaks of a full disk without saying which."""
    if error.errno is not None and error.filename is None:
        error.filename = str(path)


def copied_here(store: "Store", key: str, folder: Path) -> Path:
    """`key` as a file of the local `folder`, fetched where it is missing; a path without a file where there is none.

    For files that must be mapped into memory. What is there is not compared: give it a name that tells its contents.
    """
    here = LocalStore(folder)
    path = folder / key
    try:
        if not path.is_file():
            reader = store.open(key)
            here.put(key, [reader.read(at, min(at + _PIECE, reader.size)) for at in range(0, reader.size, _PIECE)])
    except MissingObject:
        pass
    return path


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


class LocalStore(Store):
    """A folder of a local file system. Picklable: it is a path and nothing else.

    Names that begin with a dot (the builders' lock, half-written objects) are not objects and are never listed.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"LocalStore({str(self.root)!r})"

    def __str__(self) -> str:
        return str(self.root)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalStore) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    @property
    def place(self) -> Path:  # noqa: D102
        return self.root

    def folder(self, name: str) -> "LocalStore":  # noqa: D102
        return LocalStore(self._path(name))

    def folders(self) -> Sequence[str]:  # noqa: D102
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and is_key(path.name))

    def get(self, key: str, range: tuple[int, int] | None = None) -> bytes:  # noqa: D102
        reader = self.open(key)
        return bytes(reader.read(*(range or (0, reader.size))))

    def open(self, key: str) -> ObjectReader:  # noqa: D102
        return _FileReader(self._path(key), key)

    def put(self, key: str, data: Bytes | Sequence[Bytes]) -> None:  # noqa: D102
        path = self._path(key)
        self._write(path, data, Path.replace)

    def put_if_absent(self, key: str, data: Bytes | Sequence[Bytes]) -> bool:  # noqa: D102
        path = self._path(key)
        if path.exists():
            return False
        try:
            self._write(path, data, _link)
        except FileExistsError:
            return False
        return True

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:  # noqa: D102
        path = self._path(key)
        _make_folder(path.parent)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # the kernel's, held for a moment; on NFS of this machine alone
            try:
                found = self.get(key)
            except MissingObject:
                found = None
            if found != expected:
                return False
            self.put(key, data)
            return True
        finally:
            os.close(descriptor)

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:  # noqa: D102
        for key in self.list(prefix):
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                yield key, (self.root / key).stat().st_size

    def list(self, prefix: str = "") -> Iterator[str]:  # noqa: D102
        folder = prefix.rpartition("/")[0]
        if folder:
            check_key(folder)
        found = []
        for parent, folders, names in os.walk(self.root / folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            relative = Path(parent).relative_to(self.root)
            found += [(relative / name).as_posix() for name in names if not name.startswith(".")]
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def delete(self, key: str) -> None:  # noqa: D102
        path = self._path(key)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            _sync_folder(path.parent)

    def size(self, key: str) -> int:  # noqa: D102
        path = self._path(key)
        if not path.is_file():
            raise MissingObject(key)
        return path.stat().st_size

    def modified(self, key: str) -> float:  # noqa: D102
        path = self._path(key)
        if not path.is_file():
            raise MissingObject(key)
        return path.stat().st_mtime

    def remove_leftovers(self) -> int:
        """Delete the half-written objects of dead builders (how many); only the holder of the builders' lock may."""
        leftovers = list(self.root.rglob(f".*{_LEFTOVER}"))
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    def _path(self, key: str) -> Path:
        check_key(key)
        return self.root / key

    def _write(self, path: Path, data: Bytes | Sequence[Bytes], give_name: Callable[[Path, Path], object]) -> None:
        _make_folder(path.parent)
        private = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_LEFTOVER}")
        try:
            with open(private, "xb") as file:
                for part in [data] if isinstance(data, bytes | bytearray | memoryview) else data:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            give_name(private, path)
        except OSError as error:
            say_where(error, path)
            raise
        finally:
            private.unlink(missing_ok=True)
        _sync_folder(path.parent)


class _FileReader(ObjectReader):
    """Reads by offset: threads and forks share no position, and a file cut short is an error, not a SIGBUS."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key, self._descriptor = str(path), key, -1
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise MissingObject(key) from None
        status = os.fstat(self._descriptor)
        self.size, self._stamp = status.st_size, _stamp(status)

    def is_current(self) -> bool:
        """False once a repair has put another file here, or somebody has written into this one."""
        try:
            return _stamp(os.stat(self._path)) == self._stamp
        except OSError:
            return False

    def pieces(self) -> Iterator[Bytes]:
        """From the disk where the file system can, past the page cache: what counts is what is stored.

        It is cheaper too: nothing is copied, and no memory is filled with what nobody will read again.
        """
        descriptor = self._past_the_cache()
        if descriptor < 0:
            yield from super().pieces()
            return
        try:
            room = memoryview(mmap.mmap(-1, self.piece_bytes))  # whole pages, as the disk wants them
            for start in range(0, self.size, self.piece_bytes):
                stop = min(start + self.piece_bytes, self.size)
                try:
                    n_bytes = os.preadv(descriptor, [room], start)
                except OSError as error:  # there are file systems that open a file so, and then do not read it
                    if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                        raise  # the disk's own failure: the page cache would hide it
                    n_bytes = -1
                yield room[:n_bytes] if n_bytes == stop - start else self.read(start, stop)
        finally:
            os.close(descriptor)

    def _past_the_cache(self) -> int:
        """A descriptor of the same file that reads from the disk; −1 where there is none."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        except (OSError, AttributeError):  # a file system in memory; another operating system
            return -1
        if _stamp(os.fstat(descriptor)) != self._stamp:
            os.close(descriptor)
            raise ExchangedObject(self._key)
        return descriptor

    def read(self, start: int, stop: int) -> Bytes:
        data = os.pread(self._descriptor, stop - start, start)
        if len(data) < stop - start:  # 2 GiB is the most that one call gives
            parts = [data]
            while parts[-1]:
                got = sum(map(len, parts))
                parts.append(os.pread(self._descriptor, stop - start - got, start + got))
            data = b"".join(parts)
            if len(data) != stop - start:
                length = os.fstat(self._descriptor).st_size
                raise DamagedObject(self._key, f"has {length} bytes, and bytes {start} to {stop} were asked for")
        return data

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _link(private: Path, path: Path) -> None:
    os.link(private, path)  # unlike rename, fails when somebody was faster


def _make_folder(folder: Path) -> None:
    new = list(itertools.takewhile(lambda path: not path.exists(), [folder, *folder.parents]))
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Where objects lie: a small interface that a local folder and an object store can both keep.

An object is there whole or not at all, and its key is a relative POSIX path. Everything above this file speaks of keys
and bytes; the local implementation turns "whole or not at all" into a private name, fsync, rename, fsync of the folder.
"""

import abc
import itertools
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

Bytes = bytes | bytearray | memoryview

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_LEFTOVER = ".partial"
_REMEDY = "`facefoundry verify` tells what else is wrong; remove the version's folder and build it again"


class MissingObject(LookupError):
    """An object that should be there is not. Never answered with a fill value."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"object {self.key} is missing; a missing object is never read as zeros. {_REMEDY}"


class DamagedObject(Exception):
    """An object is there, and its bytes are not what they should be."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key, self.problem = key, problem

    def __str__(self) -> str:
        return f"object {self.key} {self.problem}; its data must not be used. {_REMEDY}"


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


class ObjectReader(abc.ABC):
    """One object held open: several threads may read it, and it is closed when nobody refers to it any more."""

    size: int

    @abc.abstractmethod
    def read(self, start: int, stop: int) -> Bytes:
        """Exactly the bytes [start, stop); DamagedObject when the object ends before."""


class Store(abc.ABC):
    """A place for objects. All writes are atomic; MissingObject is raised for keys that are not there."""

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
    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, sorted."""

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; removing what is not there is no error."""

    @abc.abstractmethod
    def size(self, key: str) -> int:
        """How many bytes the object has."""

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
        finally:
            private.unlink(missing_ok=True)
        _sync_folder(path.parent)


class _FileReader(ObjectReader):
    """Reads by offset: threads and forks share no position, and a file cut short is an error, not a SIGBUS."""

    def __init__(self, path: Path, key: str) -> None:
        self._key, self._descriptor = key, -1
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise MissingObject(key) from None
        self.size = os.fstat(self._descriptor).st_size

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

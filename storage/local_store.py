"""A folder of a local file system as a :class:`~storage.store.Store`.

"Whole or not at all" is a private name, fsync, rename, and fsync of the folder.
"""

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from storage.store import (
    Bytes,
    DamagedObject,
    ExchangedObject,
    MissingObject,
    ObjectReader,
    Store,
    check_key,
    is_key,
)
from storage.whole_files import say_where

_LEFTOVER = ".partial"
_PIECE = 8 << 20


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


def copied_here(store: Store, key: str, folder: Path) -> Path:
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

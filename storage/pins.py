"""Pins: what keeps a version from being pruned.

A **reader's pin** is held by every open data set of a local folder. It is two shared locks of the kernel (flock), on the
version's folder and on its manifest: nothing is written, so a reader needs no right to write; it ends with the process,
however that ends; and no clock decides anything. The folder keeps its identity when a damaged manifest is written anew;
the manifest's lock is seen by other machines over NFS (version 4, or 3 with a lock server; not with ``nolock`` or
``local_lock``), which a folder's is not.

A **named pin** is an object, ``<out>/<name>/pins/<version>/<holder>``. It lasts until somebody takes it away, so it is
the one for training runs that are interrupted and resumed, for other machines without shared locks, and for readers of
object stores.
"""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from storage.local_store import LocalStore
from storage.manifest import MANIFEST_KEY, Unpublished
from storage.publish import REMOVAL_KEY
from storage.store import MissingObject, Store, is_key

PINS_FOLDER = "pins"


class Pinned(RuntimeError):
    """A version is in use and must not be removed."""


class NotPinned(LookupError):
    """Nobody of that name holds the version."""


class ReadersPin:
    """Keeps the version in `folder` from being pruned until this object is gone, or the process is."""

    def __init__(self, folder: Path) -> None:
        """Raises Unpublished when the version is not there, or is being removed at this moment."""
        self._descriptors = _locked(folder, fcntl.LOCK_SH)

    def __del__(self) -> None:
        release(getattr(self, "_descriptors", ()))


def lock_for_removal(folder: Path) -> Sequence[int]:
    """The locks that no reader can hold beside, to be given to :func:`release` after the folder is away.

    Raises Pinned while a reader has the version open, and OSError where the file system knows no locks: nobody could
    tell, so nothing is removed there.
    """
    try:
        return _locked(folder, fcntl.LOCK_EX)
    except BlockingIOError:
        raise Pinned(f"version {folder.name} is being read") from None


def release(descriptors: Sequence[int]) -> None:
    """Give the locks back."""
    for descriptor in descriptors:
        os.close(descriptor)


def pin(dataset: Store, version: str, holder: str) -> None:
    """Keep `version` until :func:`unpin`; `dataset` is the store of ``<out>/<name>``, `holder` says who wants it.

    Pinning twice changes nothing. Raises Unpublished when there is no such version, ValueError for a holder that is no
    plain name.
    """
    key = _key(version, holder)
    kept = ReadersPin(dataset.root / version) if isinstance(dataset, LocalStore) else None
    dataset.put(key, b"")
    if not _is_there(dataset, version):  # whoever removes looks for pins after it has said so, and before it acts
        dataset.delete(key)
        raise Unpublished(f"{dataset} has no published version {version}, or it is being removed")
    del kept


def unpin(dataset: Store, version: str, holder: str) -> None:
    """Take a named pin away. Raises NotPinned when there is none."""
    key = _key(version, holder)
    try:
        dataset.size(key)
    except MissingObject:
        raise NotPinned(f"version {version} of {dataset} is not pinned by {holder}") from None
    dataset.delete(key)


def named_pins(dataset: Store) -> dict[str, list[str]]:
    """The holders of named pins, by version."""
    holders: dict[str, list[str]] = {}
    for key in dataset.list(f"{PINS_FOLDER}/"):
        _, version, holder = key.split("/", 2)
        holders.setdefault(version, []).append(holder)
    return holders


def _key(version: str, holder: str) -> str:
    for what, name, example in (("version", version, "6510ffb6002950df"), ("holder", holder, "prnet-run-7")):
        if "/" in name or not is_key(name):
            raise ValueError(f"a pin's {what} is a plain name such as {example}, not {name!r}")
    return f"{PINS_FOLDER}/{version}/{holder}"


def _is_there(dataset: Store, version: str) -> bool:
    store = dataset.folder(version)
    try:
        store.size(MANIFEST_KEY)
    except MissingObject:
        return False
    return store.has_lock or REMOVAL_KEY not in store.list(REMOVAL_KEY)


def _locked(folder: Path, kind: int) -> list[int]:
    """Open and lock folder and manifest. Raises Unpublished, and BlockingIOError for LOCK_EX beside others."""
    descriptors: list[int] = []
    try:
        for path in (folder, folder / MANIFEST_KEY):
            # NFS wants a file that is open for writing for LOCK_EX
            writing = kind == fcntl.LOCK_EX and path != folder
            descriptors.append(os.open(path, (os.O_RDWR if writing else os.O_RDONLY) | os.O_CLOEXEC))
            fcntl.flock(descriptors[-1], kind | fcntl.LOCK_NB)
        if os.fstat(descriptors[0]).st_ino != folder.stat().st_ino:
            raise FileNotFoundError
    except (FileNotFoundError, NotADirectoryError):
        release(descriptors)
        raise Unpublished(f"{folder} has no {MANIFEST_KEY}: it is not a published version, or was removed") from None
    except BlockingIOError:
        release(descriptors)
        if kind == fcntl.LOCK_EX:
            raise
        raise Unpublished(f"{folder} is being removed at this moment") from None
    except OSError:
        release(descriptors)
        if kind == fcntl.LOCK_EX:
            raise
        return []  # no locks on this file system: nothing will be removed there either
    return descriptors

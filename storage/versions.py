"""The versions of a data set: which there are, and which may go.

Removing is one moment, as publishing is: a local version is renamed away first, so that a reader finds a whole version or
none. On an object store, which cannot rename a folder, the manifest goes first, under a mark that keeps builders away
until all the rest has gone too.
"""

import contextlib
import secrets
import shutil
from dataclasses import dataclass, field

from storage.local_store import LocalStore
from storage.manifest import MANIFEST_KEY, Unpublished, read_manifest
from storage.pins import Pinned, lock_for_removal, named_pins, release
from storage.publish import REMOVAL_KEY, builders_lock, latest_version
from storage.store import DamagedObject, MissingObject, Store

_REMOVED = ".removed-"
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class VersionState:
    """A published version: when its manifest was written (seconds since 1970, by the clock of its store), who holds it."""

    version: str
    is_latest: bool
    published_s: float
    pins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning did: the versions removed, and why each of the others was kept."""

    removed: tuple[str, ...]
    kept: dict[str, str] = field(default_factory=dict)


def published_versions(dataset: Store) -> list[VersionState]:
    """The published versions of ``<out>/<name>``: the latest first, then by age, the youngest first."""
    holders = named_pins(dataset)
    latest = _latest(dataset)
    found = []
    for version in dataset.folders():
        try:
            published_s = dataset.folder(version).modified(MANIFEST_KEY)
        except MissingObject:
            continue
        found.append(VersionState(version, version == latest, published_s, tuple(holders.get(version, ()))))
    return sorted(found, key=lambda state: (not state.is_latest, -state.published_s, state.version))


def prune(store: Store, *, keep: int, keep_days: float | int = 0, now_s: float | int) -> Pruned:
    """Remove old versions of a data set; `store` is that of ``<out>/<name>``.

    Kept are the `keep` youngest, the one that `latest` names being the first of them; all that were published less than
    `keep_days` before `now_s` (a clock that went backwards keeps more); all with a pin; and whatever was not published,
    since its build may go on. Removals that a dead pruning left are ended. Raises AlreadyBuilding while somebody builds,
    DamagedObject when the latest's manifest or the pointer to it cannot be read (another version may be the last good
    one), Unpublished for what is no data set, ValueError for `keep` below 1.
    """
    if keep < 1:
        raise ValueError(f"--keep {keep} would leave no version; at least 1 is kept")
    if not published_versions(store):
        raise Unpublished(f"{store} is not a data set: it has no published version; give <out>/<name>")
    with builders_lock(store) as dataset:
        with contextlib.suppress(Unpublished):
            latest_version(dataset)
        end_removals(dataset)
        with contextlib.suppress(Unpublished):
            read_manifest(dataset.folder(latest_version(dataset)))
        removed, kept = [], {}
        for rank, state in enumerate(published_versions(dataset)):
            reason = _reason_to_keep(state, rank=rank, keep=keep, keep_days=keep_days, now_s=now_s)
            try:
                if not reason:
                    _remove(dataset, state.version)
            except Pinned as pinned:
                reason = str(pinned)
            if reason:
                kept[state.version] = reason
            else:
                removed.append(state.version)
        return Pruned(tuple(removed), kept)


def end_removals(dataset: Store) -> None:
    """Go on with removals that were begun and not ended; on a local store for the holder of the builders' lock."""
    if isinstance(dataset, LocalStore):
        for folder in dataset.root.glob(f"{_REMOVED}*"):
            shutil.rmtree(folder)
        return
    for version in dataset.folders():
        store = dataset.folder(version)
        if REMOVAL_KEY in store.list(REMOVAL_KEY):
            with contextlib.suppress(Pinned):  # it stays, and the rule will say why
                _end_removal(dataset, version)


def _reason_to_keep(state: VersionState, *, rank: int, keep: int, keep_days: float | int, now_s: float | int) -> str:
    if state.is_latest:
        return "it is the latest"
    if rank < keep:
        return f"it is one of the {keep} youngest"
    if now_s - state.published_s < keep_days * _DAY_S:
        return f"it was published within {keep_days:g} days"
    return f"pinned by {', '.join(state.pins)}" if state.pins else ""


def _remove(dataset: Store, version: str) -> None:
    """Raises Pinned when a reader, or a pin that has just come, holds it."""
    if not isinstance(dataset, LocalStore):
        dataset.folder(version).put(REMOVAL_KEY, b"")
        _end_removal(dataset, version)
        return
    folder = dataset.root / version
    locks = lock_for_removal(folder)
    try:
        holders = named_pins(dataset).get(version, ())  # whoever pins holds a reader's pin meanwhile
        if holders:
            raise Pinned(f"pinned by {', '.join(holders)}")
        away = folder.with_name(f"{_REMOVED}{version}-{secrets.token_hex(4)}")
        folder.rename(away)
    finally:
        release(locks)
    shutil.rmtree(away)


def _end_removal(dataset: Store, version: str) -> None:
    """The mark is there. Pins are looked at after it was set, as whoever pins looks at the mark after pinning."""
    store = dataset.folder(version)
    keys = list(store.list())
    holders = named_pins(dataset).get(version, ())
    if MANIFEST_KEY in keys and (holders or _latest(dataset) == version):
        store.delete(REMOVAL_KEY)
        raise Pinned(f"pinned by {', '.join(holders)}" if holders else "it is the latest")
    for key in (MANIFEST_KEY, *(key for key in keys if key not in (MANIFEST_KEY, REMOVAL_KEY)), REMOVAL_KEY):
        store.delete(key)


def _latest(dataset: Store) -> str:
    try:
        return latest_version(dataset)
    except (Unpublished, DamagedObject):
        return ""

"""Building and publishing a version: one builder at a time, shards in any order, the manifest last.

``<out>/<name>/<version>/`` holds `zarr.json` files, one folder per array, `tables/`, `receipts/` and, when all is done,
`manifest.json`. ``<out>/<name>/latest`` names the version that was published last; ``<out>/<name>/.lock`` is held by
the builder. Whatever moment a builder dies at, the next one goes on from the receipts.

An object store has no lock: there several builders of a version write the same bytes, the first manifest wins, and the
others leave with :class:`PublishedMeanwhile`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from jaxtyping import Shaped
from pydantic import JsonValue

from storage.folder_lock import only_one_in
from storage.local_store import LocalStore
from storage.manifest import (
    FORMAT_VERSION,
    MANIFEST_KEY,
    DatasetManifest,
    DatasetPlan,
    ObjectInfo,
    Receipt,
    Unpublished,
    read_manifest,
    receipt_key,
    shard_formats,
    table_digests,
)
from storage.phases import Phase, reach
from storage.store import Bytes, DamagedObject, ExchangedObject, MissingObject, ObjectReader, Place, Store, is_key
from storage.stores import store_at
from storage.zarr_format import ChunkFormat, DamagedBytes, chunk_format_of, group_metadata, table_key, table_metadata

LATEST_KEY = "latest"
REMOVAL_KEY = "removal"
"""In a version of an object store: it is being removed, and is not to be built until that has ended."""
_WHOLE = 1 << 20
_SWAPS = 8
_THREADS = 4


class AlreadyBuilding(RuntimeError):
    """Someone else is building this data set."""

    def __init__(self, folder: Place, pid: int | None) -> None:
        super().__init__(folder, pid)
        self.folder, self.pid = folder, pid

    def __str__(self) -> str:
        holder = "another process" if self.pid is None else f"process {self.pid}"
        return (
            f"{holder} is building {self.folder.name} at this moment; wait until it ends, or stop it, and start again"
        )


class PublishedMeanwhile(AlreadyBuilding):
    """On an object store: another builder of the same version was faster."""

    def __str__(self) -> str:
        return f"another builder has published {self.folder} in the meantime; nothing is left to do"


class BeingRemoved(RuntimeError):
    """On an object store: a version's removal was begun and has not ended."""


@contextmanager
def builders_lock(dataset: Store | Place) -> Iterator[Store]:
    """Be the only builder of a data set, ``<out>/<name>``, and clean up after dead ones.

    Raises AlreadyBuilding at once when someone else is; what the lock is, and that workers must not be forked while it is held,
    says :mod:`storage.folder_lock`. On an object store there is none, and all may build.
    """
    store = dataset if isinstance(dataset, Store) else store_at(dataset)
    if not isinstance(store, LocalStore):
        yield store
        return
    with only_one_in(store.root, AlreadyBuilding):
        store.remove_leftovers()
        yield store


def start_version(store: Store, plan: DatasetPlan, tables: Mapping[str, np.ndarray] | None = None) -> None:
    """Write what is constant in a version: the arrays' metadata and the tables that every sample shares.

    `tables` are small constant arrays (the atlas raster, a weight mask), each one chunk at ``tables/<name>``. Doing it
    again changes nothing, and in a published version nothing is ever written. Where there is a builders' lock, only its
    holder may call this. Raises ValueError for tables that are not the plan's, NewerFormat for a manifest of a later
    program, and BeingRemoved on an object store while the version goes.
    """
    reach(Phase.PLAN, plan.version)
    if table_digests(tables or {}) != plan.tables:
        raise ValueError(
            f"the tables {sorted(tables or {})} are not the ones that the plan was made for ({sorted(plan.tables)}); "
            "give the plan table_digests(tables)"
        )
    if is_published(store, plan):
        return
    there = set(store.list())
    if REMOVAL_KEY in there:
        raise BeingRemoved(f"{store} is being removed; `facefoundry prune` ends it, then build again")
    for key, data in constant_objects(plan, tables or {}):
        if key not in there or not _holds(store, key, data):
            store.put(key, data)


def finished_shards(store: Store, plan: DatasetPlan, *, full: bool = False) -> dict[int, Receipt]:
    """The receipts to believe, by shard: right plan, right objects, of the right size (and digest, with `full`)."""
    fingerprint = plan.fingerprint
    sizes = dict(store.sizes())

    def believed(shard: int) -> Receipt | None:
        if receipt_key(shard) not in sizes:
            return None
        try:
            receipt = _read_receipt(store, plan, fingerprint, shard)
            for info in receipt.objects:
                _check_size(info, sizes)
                if full and not is_as_described(store, info):
                    return None
        except (MissingObject, DamagedObject):
            return None
        return receipt

    with ThreadPoolExecutor(_THREADS) as pool:
        receipts = enumerate(pool.map(believed, range(plan.n_shards)))
        return {shard: receipt for shard, receipt in receipts if receipt is not None}


def forget_damaged(store: Store, plan: DatasetPlan) -> list[int]:
    """Read every object in full, delete the receipts of shards that are not as promised; the shards to make again.

    For a version that is not published, or no longer: of a published one the manifest goes first, since nothing in it
    may change. Raises ValueError where the manifest is still there.
    """
    if is_published(store, plan):
        if not store.has_lock:
            raise PublishedMeanwhile(store.place, None)
        raise ValueError(
            f"{store} is published, and a published version never changes: remove its {MANIFEST_KEY} first, and it is "
            "an unfinished one that can be mended"
        )
    whole = finished_shards(store, plan, full=True)
    lost = [shard for shard in range(plan.n_shards) if shard not in whole]
    for shard in lost:
        store.delete(receipt_key(shard))
    return lost


def draft_manifest(
    store: Store, plan: DatasetPlan, *, statistics: Mapping[str, JsonValue] | None = None
) -> DatasetManifest:
    """The manifest as the receipts promise it, written nowhere: to look at the data before it is published.

    Raises MissingObject or DamagedObject for a shard without a receipt to believe, or with objects of another size, and
    ValueError for a file that is no object.
    """
    fingerprint = plan.fingerprint
    with ThreadPoolExecutor(_THREADS) as pool:
        receipts = list(pool.map(lambda shard: _read_receipt(store, plan, fingerprint, shard), range(plan.n_shards)))
    promised = [info for receipt in receipts for info in receipt.objects]
    sizes = dict(store.sizes())
    for info in promised:
        _check_size(info, sizes)
    known = {info.key for info in promised}
    others = [describe_object(store, key) for key in _keys(store) if key not in known]
    return DatasetManifest(
        format_version=FORMAT_VERSION,
        version=plan.version,
        fingerprint=fingerprint,
        config_hash=plan.config_hash,
        plan=plan,
        n_samples=sum(receipt.n_samples for receipt in receipts),
        rejected=tuple(hole for receipt in receipts for hole in receipt.rejected),
        statistics=dict(statistics or {}),
        objects=tuple(sorted([*promised, *others], key=lambda info: info.key)),
    )


def publish(
    store: Store,
    draft: DatasetManifest,
    *,
    written: Mapping[str, bytes] | None = None,
    shown: Callable[[], Mapping[str, bytes]] = dict,
    threads: int = _THREADS,
) -> DatasetManifest:
    """Read every object and hold it to its receipt, then write the manifest: from then on it is a data set.

    Objects that came after the draft become part of the version too; `written` are the bytes of those that the caller has
    put, which they are held to. `shown()` makes the last ones, what people look at (contact sheets, cards), in this thread
    while others read; they are put here, and then read and held to what was made. Publishing twice changes nothing.
    Raises MissingObject or DamagedObject when a shard is not as its receipt says, tables and metadata not as the plan
    does, or an object not as it was written; PublishedMeanwhile on an object store where another builder was faster; and
    ValueError when the folder holds another published version, or objects among the arrays that no receipt answers for.
    """
    reach(Phase.VERIFY, draft.version)
    promised = {info.key: info for info in draft.objects if info.first is not None}
    keys = _keys(store)
    known = promised | {info.key: info for info in draft.objects if info.key.startswith("receipts/")}
    constants = _digests_of_constants(store, draft.plan)
    constants |= {key: hashlib.sha256(data).hexdigest() for key, data in (written or {}).items()}
    for key in sorted((known.keys() | constants.keys()) - set(keys)):
        raise MissingObject(key)
    _refuse_strangers(keys, promised, draft.plan)

    def checked(key: str) -> ObjectInfo:
        info = known.get(key)
        if info is None:
            info = describe_object(store, key)
            if constants.get(key, info.sha256) != info.sha256:
                raise DamagedObject(key, "is not what this build has written")
        elif not is_as_described(store, info):
            raise DamagedObject(key, "is not what the shard's receipt says")
        return info

    with ThreadPoolExecutor(threads) as pool:
        try:
            readings = {key: pool.submit(checked, key) for key in keys}
            last = shown()
            if taken := sorted(last.keys() & {MANIFEST_KEY, *known, *constants}):
                raise ValueError(f"{taken[0]} is an object already, and no name for what is shown")
            _refuse_strangers(list(last), {}, draft.plan)
            for key, data in last.items():
                info = ObjectInfo.of(key, [data])
                constants[key] = info.sha256
                put_unpublished(store, draft.plan, info, data)
            objects = {key: reading.result() for key, reading in readings.items() if key not in last}
        finally:
            pool.shutdown(cancel_futures=True)  # after a damaged object, or Ctrl-C, nobody wants the others
    objects |= {key: checked(key) for key in last}
    manifest = draft.model_copy(update={"objects": tuple(objects[key] for key in sorted(objects))})
    reach(Phase.PUBLISH, draft.version)
    data = manifest.to_bytes()
    if store.put_if_absent(MANIFEST_KEY, data):
        return manifest
    if not is_published(store, draft.plan):  # what lies there is damaged, and nobody can have read it
        store.put(MANIFEST_KEY, data)
    elif not _holds(store, MANIFEST_KEY, data):
        raise ValueError(
            f"version {draft.version} is already published and holds something else; a version never changes. "
            "Raise the recipe's version, or remove the old one"
        )
    elif not store.has_lock:
        raise PublishedMeanwhile(store.place, None)
    return manifest


def put_unpublished(store: Store, plan: DatasetPlan, info: ObjectInfo, data: Bytes | Sequence[Bytes]) -> None:
    """Put an object of a version that is being built, which `info` describes.

    Where there is no lock, one with other bytes may be there: a dead builder's, or that of one at work on another type of
    machine. It is overwritten, but never in a published version: raises PublishedMeanwhile.
    """
    if store.has_lock:
        store.put(info.key, data)
    elif not store.put_if_absent(info.key, data) and not _is_whole(store, info):
        if is_published(store, plan):
            raise PublishedMeanwhile(store.place, None)
        store.put(info.key, data)


def _is_whole(store: Store, info: ObjectInfo) -> bool:
    try:
        return is_as_described(store, info)
    except (MissingObject, DamagedObject):
        return False


def point_latest(dataset: Store, version: str) -> None:
    """Make `version` the one that readers get who name none. `dataset` is the store of ``<out>/<name>``.

    It is the version that the last build ended with, whether it was made then or found there. Written by
    compare-and-swap: of two builds that end at one moment neither overwrites what it has not seen.
    """
    reach(Phase.EVENT, version)
    data = (json.dumps({"version": version}) + "\n").encode()
    for _ in range(_SWAPS):
        try:
            found = dataset.get(LATEST_KEY)
        except MissingObject:
            found = None
        except DamagedObject:
            dataset.put(LATEST_KEY, data)
            return
        if found == data or dataset.swap(LATEST_KEY, found, data):
            return
    raise AlreadyBuilding(dataset.place, None)


def latest_version(dataset: Store) -> str:
    """The version that was published last. Raises Unpublished when none was."""
    try:
        content = json.loads(dataset.get(LATEST_KEY))
        return str(content["version"])
    except MissingObject:
        raise Unpublished(f"{dataset} has no published version; build it first") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedObject(LATEST_KEY, "does not name a version") from None


def is_published(store: Store, plan: DatasetPlan) -> bool:
    """Whether the version is there already, so that nothing is left to do.

    One whose manifest is damaged is not: it cannot be read, and building it again mends it. Raises NewerFormat.
    """
    try:
        return read_manifest(store).fingerprint == plan.fingerprint
    except (Unpublished, DamagedObject):
        return False


def is_as_described(store: Store, info: ObjectInfo) -> bool:
    """Whether the object has that size and digest; where a network may be to blame, it is read again.

    Raises MissingObject and DamagedObject.
    """
    return described(store, info).sha256 == info.sha256


def described(store: Store, info: ObjectInfo) -> ObjectInfo:
    """The object as it is, which may not be as `info` says; see :func:`is_as_described`."""
    found = describe_object(store, info.key, about_bytes=info.bytes)
    for _ in range(1, store.attempts):
        if found.sha256 == info.sha256 or found.bytes != info.bytes:
            break
        found = describe_object(store, info.key)
    return found


def describe_object(store: Store, key: str, *, about_bytes: int | None = None) -> ObjectInfo:
    """Size and sha256 of an object, read in pieces. What is small comes whole, by way of the store's own check.

    Who knows already that it is small says so with `about_bytes`, and spares a question.
    """
    if about_bytes is None or about_bytes > _WHOLE:
        reader = store.open(key)
        about_bytes = reader.size
    if about_bytes <= _WHOLE:
        return ObjectInfo.of(key, [store.get(key)])
    try:
        return _hashed(reader, key)
    except ExchangedObject:  # mended under our eyes: what counts is what is there now
        return _hashed(store.open(key), key)


def _hashed(reader: ObjectReader, key: str) -> ObjectInfo:
    digest = hashlib.sha256()
    for piece in reader.pieces():
        digest.update(piece)
    return ObjectInfo(key=key, bytes=reader.size, sha256=digest.hexdigest())


def constant_objects(plan: DatasetPlan, tables: Mapping[str, np.ndarray]) -> Iterator[tuple[str, bytes]]:
    """(key, bytes) of what all shards share: the `zarr.json` files and the tables."""
    formats = dict(plan.shard_formats())
    metadata = {
        target.name: formats[target.name].metadata(plan.n_slots, target.dimension_names, target.attributes)
        for target in plan.sample_schema.targets
    }
    if tables:
        metadata["tables"] = group_metadata({})
    for name, array in tables.items():
        chunk = ChunkFormat(str(array.dtype), array.shape, "zstd_bitshuffle")
        metadata[f"tables/{name}"] = table_metadata(chunk, {})
        yield f"tables/{name}/{table_key(chunk)}", b"".join(chunk.encode(array))
    for path, document in metadata.items():
        yield f"{path}/zarr.json", document
    attributes = {
        "facefoundry_format": FORMAT_VERSION,
        "fingerprint": plan.fingerprint,
        "schema": plan.sample_schema.model_dump(mode="json"),
    }
    yield "zarr.json", group_metadata(attributes, metadata)


def read_table(store: Store, name: str) -> Shaped[np.ndarray, "..."]:
    """A constant array of a version's folder (read-only). Raises MissingObject and DamagedObject."""
    key = f"tables/{name}/zarr.json"
    try:
        chunk = chunk_format_of(store.get(key))
        key = f"tables/{name}/{table_key(chunk)}"
        table = np.empty(chunk.shape, dtype=chunk.numpy_dtype)
        chunk.decode_into(store.get(key), table)
    except DamagedBytes as error:
        raise DamagedObject(key, str(error)) from None
    table.flags.writeable = False
    return table


def _digests_of_constants(store: Store, plan: DatasetPlan) -> dict[str, str]:
    """The SHA-256 of what all shards share, by key. Raises MissingObject or DamagedObject for a table that is not the plan's."""
    tables = {name: read_table(store, name) for name in plan.tables}
    for name, digest in table_digests(tables).items():
        if digest != plan.tables[name]:
            raise DamagedObject(f"tables/{name}", "is not the table that the plan was made for")
    return {key: hashlib.sha256(data).hexdigest() for key, data in constant_objects(plan, tables)}


def _read_receipt(store: Store, plan: DatasetPlan, fingerprint: str, shard: int) -> Receipt:
    key = receipt_key(shard)
    try:
        receipt = Receipt.model_validate_json(store.get(key))
    except ValueError:
        raise DamagedObject(key, "is not a receipt") from None
    slots = plan.slots(shard)
    expected = [f"{name}/{format.key(shard)}" for name, format in shard_formats(plan.sample_schema, plan.shard_size)]
    if receipt.fingerprint != fingerprint:
        raise DamagedObject(key, "belongs to another plan")
    if (receipt.shard, receipt.first, receipt.stop) != (shard, slots.start, slots.stop) or expected != [
        info.key for info in receipt.objects
    ]:
        raise DamagedObject(key, "does not describe this shard's objects")
    return receipt


def _check_size(info: ObjectInfo, sizes: Mapping[str, int]) -> None:
    if info.key not in sizes:
        raise MissingObject(info.key)
    if sizes[info.key] != info.bytes:
        raise DamagedObject(info.key, f"has {sizes[info.key]} bytes where its receipt says {info.bytes}")


def _keys(store: Store) -> list[str]:
    """Every object but the manifest. Raises ValueError for files whose names no object has."""
    keys = [key for key in store.list() if key != MANIFEST_KEY]
    strangers = [key for key in keys if not is_key(key)]
    if strangers:
        more = f" (and {len(strangers) - 1} more such files)" if strangers[1:] else ""
        raise ValueError(
            f"{store}/{strangers[0]} is no part of a data set{more}: remove it and start the build again; finished "
            "shards are kept"
        )
    return keys


def _refuse_strangers(keys: list[str], promised: Mapping[str, ObjectInfo], plan: DatasetPlan) -> None:
    """Objects among the arrays and receipts that no receipt answers for would be read by other programs as data."""
    receipts = {receipt_key(shard) for shard in range(plan.n_shards)}
    arrays = {target.name for target in plan.sample_schema.targets}
    for key in keys:
        folder = key.partition("/")[0]
        own = key in promised or key in receipts or key == f"{folder}/zarr.json"
        if (folder in arrays or folder == "receipts") and not own:
            raise ValueError(f"object {key} belongs to no shard of this plan; remove it and publish again")


def _holds(store: Store, key: str, data: bytes) -> bool:
    return _content(store, key) == data


def _content(store: Store, key: str) -> bytes | None:
    """The object's bytes; None where it is missing, or so damaged that they cannot be had."""
    try:
        return store.get(key)
    except (MissingObject, DamagedObject):
        return None

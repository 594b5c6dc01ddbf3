"""Verification: every object of a published version against its manifest, and the model that it is decoded with.

What was found can be turned into what is to be made again (:func:`damage_of`), and :class:`MendingStore` takes that and
nothing else.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from storage.decoding import DECODERS, MissingModel, check_model, model_file_name, models_folder_of
from storage.manifest import MANIFEST_KEY, DatasetManifest, ObjectInfo, read_manifest, receipt_key
from storage.publish import described
from storage.store import Bytes, DamagedObject, MissingObject, ObjectReader, Place, Store

Problem = Literal["missing", "extra", "size", "digest", "swapped", "unreadable"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One object that is not as the manifest says.

    The model beside the data set, which a parametric one is decoded with, has the key
    ``models/<fingerprint>.ffmodel.npz``, relative to the folder two levels above the version's.
    """

    key: str
    problem: Problem
    explanation: str

    def __str__(self) -> str:
        return f"{self.key}: {self.explanation}"


def verify(
    store: Store, *, full: bool = True, threads: int = 4, progress: Callable[[int, int], None] | None = None
) -> list[Finding]:
    """What is wrong with a version folder, by key; an empty list is a clean bill.

    `full` reads everything and compares digests; otherwise only names and sizes are looked at, in one listing.
    `progress(done, total)` is told after each object. Raises Unpublished when there is no manifest and NewerFormat when
    it cannot be read by this program; a damaged manifest is a finding. Of a parametric data set the model is looked at
    too: without it, or with another, there are no maps.
    """
    try:
        manifest = read_manifest(store)
    except DamagedObject as error:
        return [Finding(MANIFEST_KEY, "unreadable", error.problem)]
    expected = {info.key: info for info in manifest.objects}
    owners = {info.sha256: info.key for info in manifest.objects}
    listed = dict(store.sizes())

    def check(info: ObjectInfo) -> Finding | None:
        try:
            found = described(store, info) if full else None
            size = found.bytes if found else listed.get(info.key)
            if size != info.bytes:  # a listing has no checksum
                size = store.size(info.key)
        except MissingObject:
            return Finding(info.key, "missing", "is missing")
        except (DamagedObject, OSError) as error:
            return Finding(info.key, "unreadable", f"cannot be read: {error}")
        if found and found.sha256 != info.sha256 and found.sha256 in owners:
            return Finding(info.key, "swapped", f"holds the bytes of {owners[found.sha256]}")
        if size != info.bytes:
            how = "cut short" if size < info.bytes else "too long"
            return Finding(info.key, "size", f"is {how}: {size} bytes where the manifest says {info.bytes}")
        if found and found.sha256 != info.sha256:
            return Finding(info.key, "digest", "has other contents than the manifest says, at equal size")
        return None

    findings = [
        Finding(
            key, "extra", "is not in the manifest: it came after publishing, and readers of Zarr may take it for data"
        )
        for key in listed
        if key not in expected and key != MANIFEST_KEY
    ]
    with ThreadPoolExecutor(threads) as pool:
        for done, finding in enumerate(pool.map(check, expected.values()), start=1):
            if finding:
                findings.append(finding)
            if progress:
                progress(done, len(expected))
    findings += _model_findings(manifest, models_folder_of(store.place), full=full)
    return sorted(findings, key=lambda finding: finding.key)


@dataclass(frozen=True, slots=True)
class Damage:
    """What is to be made again, and what cannot be."""

    shards: tuple[int, ...]
    """Those that the damaged objects belong to."""
    keys: frozenset[str]
    """The damaged objects, of shards and others: `zarr.json` files, tables, the list of pictures, the contact sheet."""
    beyond_repair: tuple[Finding, ...]
    """What no source can mend: objects that nobody published, the model beside the data set, the manifest."""


def damage_of(manifest: DatasetManifest, findings: list[Finding]) -> Damage:
    """The shards and objects behind `findings`. A shard's receipt is one of its objects."""
    plan = manifest.plan
    shard_of = {info.key: info.first // plan.shard_size for info in manifest.objects if info.first is not None}
    shard_of |= {receipt_key(shard): shard for shard in range(plan.n_shards)}
    known = {info.key for info in manifest.objects}
    keys = frozenset(finding.key for finding in findings if finding.key in known)
    return Damage(
        shards=tuple(sorted({shard_of[key] for key in keys if key in shard_of})),
        keys=keys,
        beyond_repair=tuple(finding for finding in findings if finding.key not in known),
    )


class NotAsPublished(RuntimeError):
    """What was made again differs from what was published, and was not written."""


class MendingStore(Store):
    """A published version as the writers of shards see it during a repair.

    What is written must have the manifest's digest, or :class:`NotAsPublished` is raised and nothing is; and only the
    damaged objects are replaced, each in one moment, so that readers see the old bytes or the right ones.
    """

    def __init__(self, version: Store, manifest: DatasetManifest, damaged: frozenset[str]) -> None:
        self._version, self._damaged = version, damaged
        self._promised = {info.key: info.sha256 for info in manifest.objects}
        self.attempts = version.attempts

    @property
    def place(self) -> Place:  # noqa: D102
        return self._version.place

    def put(self, key: str, data: Bytes | Sequence[Bytes]) -> None:  # noqa: D102
        digest = hashlib.sha256()
        for part in [data] if isinstance(data, bytes | bytearray | memoryview) else data:
            digest.update(part)
        if digest.hexdigest() != self._promised.get(key):
            raise NotAsPublished(
                f"{key}, made again, is not what was published, so it was left as it is: another machine type or other "
                "versions of libraries, or a change of the code without a change of the recipe's version. Build the "
                "version anew somewhere else, and compare with `facefoundry diff`"
            )
        if key in self._damaged:
            self._version.put(key, data)

    def put_if_absent(self, key: str, data: Bytes | Sequence[Bytes]) -> bool:  # noqa: D102
        self.put(key, data)
        return True

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:  # noqa: D102
        raise NotAsPublished(f"{key} of a published version does not change")

    def delete(self, key: str) -> None:  # noqa: D102
        raise NotAsPublished(f"{key} of a published version is not deleted")

    def get(self, key: str, range: tuple[int, int] | None = None) -> bytes:  # noqa: D102
        return self._version.get(key, range)

    def open(self, key: str) -> ObjectReader:  # noqa: D102
        return self._version.open(key)

    def folder(self, name: str) -> Store:  # noqa: D102
        return self._version.folder(name)

    def folders(self) -> Sequence[str]:  # noqa: D102
        return self._version.folders()

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:  # noqa: D102
        return self._version.sizes(prefix)

    def size(self, key: str) -> int:  # noqa: D102
        return self._version.size(key)

    def modified(self, key: str) -> float:  # noqa: D102
        return self._version.modified(key)


def _model_findings(manifest: DatasetManifest, models_folder: Place, *, full: bool) -> list[Finding]:
    decoders = [DECODERS.get(target.decoder) for target in manifest.sample_schema.derived]
    if not any(decoder and decoder.needs_model for decoder in decoders):
        return []
    key = f"{models_folder.name}/{model_file_name(manifest.model)}"
    try:
        check_model(manifest.model, models_folder, full=full)
    except MissingModel as error:
        return [Finding(key, "missing", f"is missing: {error}")]
    except (ValueError, OSError) as error:
        return [Finding(key, "unreadable", f"cannot be used: {error}")]
    return []

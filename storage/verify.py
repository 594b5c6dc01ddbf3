"""Verification: every object of a published version against its manifest, and the model that it is decoded with."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from storage.decoding import DECODERS, MissingModel, check_model, model_file_name, models_folder_of
from storage.manifest import MANIFEST_KEY, DatasetManifest, ObjectInfo, read_manifest
from storage.publish import describe_object
from storage.store import DamagedObject, LocalStore, MissingObject, Store

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

    `full` reads everything and compares digests; otherwise only names and sizes are looked at. `progress(done, total)`
    is told after each object. Raises Unpublished when there is no manifest and NewerFormat when it cannot be read by
    this program; a damaged manifest is a finding. Of a parametric data set in a local folder the model is looked at too:
    without it, or with another, there are no maps.
    """
    try:
        manifest = read_manifest(store)
    except DamagedObject as error:
        return [Finding(MANIFEST_KEY, "unreadable", error.problem)]
    expected = {info.key: info for info in manifest.objects}
    owners = {info.sha256: info.key for info in manifest.objects}

    def check(info: ObjectInfo) -> Finding | None:
        try:
            found = describe_object(store, info.key) if full else None
            size = found.bytes if found else store.size(info.key)
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
        for key in store.list()
        if key not in expected and key != MANIFEST_KEY
    ]
    with ThreadPoolExecutor(threads) as pool:
        for done, finding in enumerate(pool.map(check, expected.values()), start=1):
            if finding:
                findings.append(finding)
            if progress:
                progress(done, len(expected))
    if isinstance(store, LocalStore):
        findings += _model_findings(manifest, models_folder_of(store.root), full=full)
    return sorted(findings, key=lambda finding: finding.key)


def _model_findings(manifest: DatasetManifest, models_folder: Path, *, full: bool) -> list[Finding]:
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

"""The documents of a version: the plan before it is built, a receipt for each shard, the manifest at the end.

All are JSON without clock, host name or absolute path, so that the same build gives the same bytes anywhere.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, JsonValue, field_validator, model_validator

from storage.schema import Schema
from storage.store import Bytes, DamagedObject, MissingObject, Store, check_key
from storage.zarr_format import ShardFormat

FORMAT_VERSION = 1
"""Raised when a reader of today could misread what is written."""

MANIFEST_KEY = "manifest.json"
_DIGEST_FIELD = "manifest_sha256"
_SHA256 = r"^[0-9a-f]{64}$"
DATASET_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
"""What data sets and versions may be called: they are folders, and parts of addresses."""


class NewerFormat(ValueError):
    """The data set was written by a later program, with a format that this one does not know."""


class Unpublished(FileNotFoundError):
    """A folder has no manifest: no build of it ever finished."""


class _Document(BaseModel, frozen=True, extra="forbid"):
    pass


class ModelInfo(_Document):
    """The morphable model that the labels come from."""

    name: str
    fingerprint: str
    licence: str = ""


class SourceInfo(_Document):
    """One source of samples."""

    kind: str
    """300w-lp, aflw2000-3d, synthetic …"""
    n_files: int = Field(ge=0)
    fingerprint: str
    """A digest of its files' contents."""
    licence: str = ""
    details: dict[str, JsonValue] = {}


class RejectedSlot(_Document):
    """A slot without a sample, and why."""

    index: int = Field(ge=0)
    source_id: str
    code: str
    reason: str


class ObjectInfo(_Document):
    """One object of the version's folder."""

    key: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=_SHA256)
    first: int | None = None
    """First slot, for objects of a shard."""
    stop: int | None = None
    """One past the last slot."""

    @classmethod
    def of(cls, key: str, parts: Sequence[Bytes], *, first: int | None = None, stop: int | None = None) -> "ObjectInfo":
        """What describes the object that consists of these parts."""
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        return cls(key=key, bytes=sum(map(len, parts)), sha256=digest.hexdigest(), first=first, stop=stop)

    @field_validator("key")
    @classmethod
    def _inside_the_folder(cls, key: str) -> str:
        check_key(key)
        return key


class DatasetPlan(_Document):
    """Everything that decides a data set's bytes, known before the first sample is made.

    Slots are numbered 0 … n_slots − 1; shard s holds slots [s · shard_size, (s + 1) · shard_size). A rejected sample
    leaves its slot empty: nothing moves up.
    """

    name: str = Field(pattern=DATASET_NAME)
    config: dict[str, JsonValue]
    recipe_version: int = Field(ge=1)
    """Raised by hand when the code begins to make other bytes from the same config."""
    model: ModelInfo
    sources: tuple[SourceInfo, ...]
    sample_schema: Schema
    tables: dict[str, str] = {}
    """Digests of the constant arrays that every sample shares (:func:`table_digests`)."""
    shard_size: int = Field(ge=1, le=65536)
    n_slots: int = Field(ge=1)

    @model_validator(mode="after")
    def _publishable(self) -> "DatasetPlan":
        refuse_absolute_paths(self.config, "config")
        for source in self.sources:
            refuse_absolute_paths(source.details, "details of a source")
        return self

    @property
    def config_hash(self) -> str:
        """A digest of the config alone."""
        return digest_of(self.config)

    @property
    def fingerprint(self) -> str:
        """A digest of everything here but the data set's name: equal fingerprints give equal bytes."""
        return digest_of({"format_version": FORMAT_VERSION, **self.model_dump(mode="json", exclude={"name"})})

    @property
    def version(self) -> str:
        """The folder's name: a change of config, model, sources or recipe makes another version, never a mixture."""
        return self.fingerprint[:16]

    @property
    def n_shards(self) -> int:
        """How many shards there are; the last may be shorter."""
        return -(-self.n_slots // self.shard_size)

    def slots(self, shard: int) -> range:
        """The slots of a shard."""
        if not 0 <= shard < self.n_shards:
            raise ValueError(f"shard {shard} is outside the plan, which has {self.n_shards} shards")
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.n_slots))

    def shard_formats(self) -> Iterator[tuple[str, ShardFormat]]:
        """(target name, format) of every stored array."""
        return shard_formats(self.sample_schema, self.shard_size)


class Receipt(_Document):
    """A shard is done: what it holds. Written after its objects, and so believed only while they are as it says."""

    fingerprint: str = Field(pattern=_SHA256)
    shard: int = Field(ge=0)
    first: int = Field(ge=0)
    stop: int
    objects: tuple[ObjectInfo, ...]
    n_samples: int = Field(ge=0)
    rejected: tuple[RejectedSlot, ...]
    statistics: dict[str, JsonValue] = {}
    """Numbers that the builder wants to add up over shards."""

    @model_validator(mode="after")
    def _complete(self) -> "Receipt":
        indices = [hole.index for hole in self.rejected]
        if indices != sorted(set(indices)) or any(not self.first <= index < self.stop for index in indices):
            raise ValueError(
                f"the rejected slots of shard {self.shard} are not in order inside [{self.first}, {self.stop})"
            )
        if self.n_samples + len(indices) != self.stop - self.first:
            raise ValueError(
                f"shard {self.shard} has {self.stop - self.first} slots, "
                f"but {self.n_samples} samples and {len(indices)} holes"
            )
        return self


class DatasetManifest(_Document):
    """A published version. It covers every object of the folder but itself, and itself by its digest."""

    format_version: int
    version: str = Field(pattern=DATASET_NAME)
    fingerprint: str = Field(pattern=_SHA256)
    config_hash: str = Field(pattern=_SHA256)
    plan: DatasetPlan
    n_samples: int = Field(ge=0)
    rejected: tuple[RejectedSlot, ...]
    statistics: dict[str, JsonValue]
    objects: tuple[ObjectInfo, ...]

    @model_validator(mode="after")
    def _consistent(self) -> "DatasetManifest":
        if self.n_samples + len(self.rejected) != self.plan.n_slots:
            raise ValueError(
                f"{self.n_samples} samples and {len(self.rejected)} holes do not make {self.plan.n_slots} slots"
            )
        if (self.fingerprint, self.config_hash) != (self.plan.fingerprint, self.plan.config_hash):
            raise ValueError("fingerprint and config hash are not those of the plan")
        refuse_absolute_paths(self.statistics, "statistics")
        return self

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.plan.name

    @property
    def config(self) -> dict[str, JsonValue]:
        """The whole config of the build."""
        return self.plan.config

    @property
    def recipe_version(self) -> int:
        """The recipe's number."""
        return self.plan.recipe_version

    @property
    def model(self) -> ModelInfo:
        """The morphable model of the labels."""
        return self.plan.model

    @property
    def sources(self) -> tuple[SourceInfo, ...]:
        """Where the samples come from."""
        return self.plan.sources

    @property
    def sample_schema(self) -> Schema:
        """The named targets."""
        return self.plan.sample_schema

    def to_bytes(self) -> bytes:
        """`manifest.json`: sorted, indented, with its own digest."""
        content = self.model_dump(mode="json")
        return _pretty(content | {_DIGEST_FIELD: digest_of(content)})


def shard_formats(schema: Schema, shard_size: int) -> Iterator[tuple[str, ShardFormat]]:
    """(target name, format) of every stored array."""
    return ((target.name, ShardFormat(target.chunk, shard_size)) for target in schema.targets)


def receipt_key(shard: int) -> str:
    """Where a shard's receipt lies."""
    return f"receipts/{shard:05d}.json"


def receipt_bytes(receipt: Receipt) -> bytes:
    """The receipt as a file."""
    return _pretty(receipt.model_dump(mode="json", exclude_none=True))


def read_manifest(store: Store) -> DatasetManifest:
    """The manifest of a version folder.

    Raises Unpublished when there is none, NewerFormat for a later format, DamagedObject when it is not what was
    written.
    """
    try:
        data = store.get(MANIFEST_KEY)
    except MissingObject:
        raise Unpublished(
            f"{store} has no {MANIFEST_KEY}: it is not a published version. An interrupted build goes on where it "
            "stopped when it is started again"
        ) from None
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise DamagedObject(MANIFEST_KEY, "is not JSON") from None
    if not isinstance(content, dict):
        raise DamagedObject(MANIFEST_KEY, "is not a JSON object")
    found = content.get("format_version")
    if isinstance(found, int) and found > FORMAT_VERSION:
        raise NewerFormat(
            f"the data set has format version {found} and this program reads up to {FORMAT_VERSION}: update facefoundry"
        )
    stated = content.pop(_DIGEST_FIELD, None)
    try:
        found_digest = digest_of(content)
    except (ValueError, RecursionError):
        found_digest = None  # NaN, infinity, nested without end: never written by us
    if stated != found_digest:
        raise DamagedObject(MANIFEST_KEY, f"does not match its own digest {stated}")
    try:
        return DatasetManifest.model_validate(content)
    except ValueError as error:
        raise DamagedObject(MANIFEST_KEY, f"is not a manifest of format {FORMAT_VERSION} ({error})") from error


def table_digests(tables: Mapping[str, np.ndarray]) -> dict[str, str]:
    """A digest of each constant array: dtype, shape and contents."""
    return {
        name: hashlib.sha256(f"{array.dtype.str}{array.shape};".encode() + array.tobytes()).hexdigest()
        for name, array in sorted(tables.items())
    }


def canonical_json(content: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8: equal contents give equal bytes. Raises ValueError for what JSON does not hold.

    Refused are NaN and infinity, keys that are not texts, and anything (tuples excepted) that would come back
    otherwise.
    """
    try:
        data = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        kept = json.loads(data) == _as_json(content)
    except TypeError as error:
        raise ValueError(f"not JSON: {error}; convert NumPy numbers and arrays to plain ones first") from None
    except ValueError as error:
        raise ValueError(
            f"{error}: NaN and infinity have no place in a manifest; leave the number out or use null"
        ) from None
    if not kept:
        raise ValueError("the content changes on its way through JSON: dictionaries' keys must be texts")
    return data.encode()


def digest_of(content: Any) -> str:
    """The sha256 of :func:`canonical_json`."""
    return hashlib.sha256(canonical_json(content)).hexdigest()


def refuse_absolute_paths(content: Any, where: str) -> None:
    """Raise ValueError when a text in `content` is an absolute path, which would tell everyone of this machine."""
    if isinstance(content, dict):
        for key, value in content.items():
            refuse_absolute_paths(value, f"{where}.{key}")
    elif isinstance(content, list | tuple):
        for value in content:
            refuse_absolute_paths(value, where)
    elif isinstance(content, str) and (posixpath.isabs(content) or re.match(r"[A-Za-z]:[\\/]|\\\\|~/", content)):
        raise ValueError(
            f"{where} holds the absolute path {content!r}; what is published names no folder of this machine"
        )


def _as_json(content: Any) -> Any:
    if isinstance(content, list | tuple):
        return [value if type(value) is str else _as_json(value) for value in content]
    if isinstance(content, dict):
        return {key: _as_json(value) for key, value in content.items()}
    return content


def _pretty(content: dict[str, Any]) -> bytes:
    canonical_json(content)
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()

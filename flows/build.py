"""Building a data set: plan, one shard after another in any order, publish. Plain functions; no workflow engine here.

:func:`opened_build` plans (and holds the builders' lock), :func:`build_shard` makes one shard in whatever process it is
called, :func:`publish_build` verifies and publishes. Running all of it twice does it once: what is done is decided by the
shards' receipts on disk. What a sample is, only the recipe knows (:mod:`flows.recipe`).
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from flows.config import BuildConfig
from flows.errors import ShardsDamaged, SourceChanged, TooManyBad
from flows.models_at_hand import local_folder, model_at_hand
from flows.planned_list import PICTURES_KEY, list_bytes, planned_pictures, stored_list
from flows.recipe import PlannedFile, PlannedPicture, PlannedSource, Recipe, recipe_name, recipe_named
from flows.refusals import refuse_output_in_source, refuse_too_many_bad
from geometry import load_model
from render.preview import Picture, encode_png
from storage.bad_sample import BadSample
from storage.card import card_objects
from storage.dataset import ShardedDataset, open_dataset
from storage.drawn_folder import drawn_record, licence_of
from storage.fit_files import folder_record
from storage.images import MAX_IMAGE_FILE_BYTES
from storage.manifest import (
    DatasetManifest,
    DatasetPlan,
    Receipt,
    SourceInfo,
    canonical_json,
    read_manifest,
    table_digests,
)
from storage.processes import without_collection
from storage.publish import (
    builders_lock,
    draft_manifest,
    finished_shards,
    forget_damaged,
    is_published,
    point_latest,
    publish,
    read_table,
    start_version,
)
from storage.regular_files import read_regular_file
from storage.shards import ShardWriter
from storage.store import DamagedObject, MissingObject, Place, Store, place_of
from storage.stores import store_at
from storage.verify import MendingStore

CONTACT_SHEET_KEY = "contact_sheet.png"


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs to make any shard: where things lie, and the plan. Small, and picklable."""

    folder: Place
    source: Path
    model: str
    plan: DatasetPlan
    recipe: str = field(default="", kw_only=True)
    """The recipe's name in :data:`flows.recipe.RECIPES`."""
    mended: frozenset[str] = field(default=frozenset(), kw_only=True)
    """In a repair: the damaged objects of a published version, which alone are written."""

    @property
    def version(self) -> Store:
        """The version's store, as this job may write to it."""
        store = store_at(self.folder)
        return MendingStore(store, read_manifest(store), self.mended) if self.mended else store


@dataclass(frozen=True, slots=True)
class ShardOutcome:
    """What became of one shard."""

    shard: int
    n_samples: int
    rejected: tuple[tuple[str, str, str], ...]  # (source id, code, reason)

    @classmethod
    def of(cls, receipt: Receipt) -> "ShardOutcome":
        """The outcome that a receipt tells of."""
        rejected = tuple((hole.source_id, hole.code, hole.reason) for hole in receipt.rejected)
        return cls(receipt.shard, receipt.n_samples, rejected)


@dataclass(frozen=True, slots=True)
class Published:
    """A finished build."""

    dataset: str
    version: str
    path: Place
    samples: int
    rejected: int
    statistics: Mapping[str, Any]

    @property
    def contact_sheet(self) -> Place:
        """The picture of some samples."""
        return self.path / CONTACT_SHEET_KEY


@dataclass(frozen=True, slots=True)
class Build:
    """A planned build, its lock held."""

    job: Job
    dataset: Store
    version: Store
    finished: Mapping[int, ShardOutcome]
    is_published: bool

    @property
    def missing_shards(self) -> list[int]:
        """The shards that have no receipt yet."""
        return [shard for shard in range(self.job.plan.n_shards) if shard not in self.finished]


# ---------------------------------------------------------------------------------------------------------------- plan


@dataclass(frozen=True, slots=True)
class Planned:
    """A build of which nothing is written yet."""

    job: Job
    tables: Mapping[str, np.ndarray]
    pictures: bytes
    """What :data:`flows.planned_list.PICTURES_KEY` will hold."""


def planned_build(
    config: BuildConfig,
    *,
    source: str | os.PathLike[str] | None,
    model: str | Sequence[str],
    out: str | os.PathLike[str],
    files: Mapping[str, str | os.PathLike[str]] | None = None,
    on_listed: Callable[[int], None] = lambda n_pictures: None,
) -> Planned:
    """List and hash the source, and decide all that decides the bytes; of `out` only the model and the sample are made.

    Without `source` the recipe's own sample is used, and drawn first where it is missing. `files` are what a recipe
    takes beside source and model, by name. `on_listed` hears how many pictures there are, while there is still much to
    plan. Raises ValueError or OSError for a source, model or file that cannot be used.
    """
    root = place_of(out)
    local = local_folder(root)
    name = recipe_name(config)
    maker = recipe_named(name)
    source_folder = maker.sample_source(local) if source is None else Path(source).absolute()
    if isinstance(root, Path):
        refuse_output_in_source(root, source_folder)
    with without_collection():
        listing = maker.listed(source_folder)
    on_listed(len(listing.pictures))
    morphable, location = model_at_hand(model, root)
    listing.check_model(morphable)
    with without_collection():
        listed = canonical_json([picture.listed() for picture in listing.pictures])
    given = {key: Path(path).absolute() for key, path in (files or {}).items()}
    recipe = maker.planned(config, morphable, listing.pictures, given)
    tables = recipe.tables()
    plan = DatasetPlan(
        name=config.name,
        config=config.model_dump(mode="json"),
        recipe_version=recipe.version,
        model=recipe.model_info(morphable),
        sources=(_source_info(listing, hashlib.sha256(listed).hexdigest()),),
        sample_schema=recipe.schema(source_id_bytes=max(len(p.source_id.encode()) for p in listing.pictures)),
        tables=table_digests(tables),
        shard_size=max(1, config.shard_size // recipe.copies) * recipe.copies,  # copies of a picture share a shard
        n_slots=len(listing.pictures) * recipe.copies,
    )
    job = Job(root / config.name / plan.version, source_folder, location, plan, recipe=name)
    return Planned(job, tables, list_bytes(plan, "pictures", listed))


@contextmanager
def opened_build(
    config: BuildConfig,
    *,
    source: str | os.PathLike[str] | None,
    model: str | Sequence[str],
    out: str | os.PathLike[str],
    files: Mapping[str, str | os.PathLike[str]] | None = None,
    on_listed: Callable[[int], None] = lambda n_pictures: None,
) -> Iterator[Build]:
    """Plan a build as :func:`planned_build` does, and hold the builders' lock of the data set while the block runs.

    Raises AlreadyBuilding when someone else builds the same data set. An object store has no lock: there the first
    manifest wins.
    """
    planned = planned_build(config, source=source, model=model, out=out, files=files, on_listed=on_listed)
    job, plan = planned.job, planned.job.plan
    with builders_lock(job.folder.parent) as dataset:
        version = job.version
        published = is_published(version, plan)
        if not published:
            start_version(version, plan, planned.tables)
            version.put(PICTURES_KEY, planned.pictures)
        finished = {shard: ShardOutcome.of(receipt) for shard, receipt in finished_shards(version, plan).items()}
        yield Build(job, dataset, version, finished, published)


def _source_info(listing: PlannedSource, fingerprint: str) -> SourceInfo:
    fits = folder_record(listing.root)
    details = drawn_record(listing.root)
    licence = licence_of(listing.root)
    if fits is not None:  # the folder was written from fits: what their landmarks came with goes on
        details = {"fits": fits}
        licence = str(fits["licence"])
    return SourceInfo(
        kind=listing.kind.lower(),
        n_files=listing.n_files,
        fingerprint=fingerprint,
        licence=licence,
        details=details,
    )


# --------------------------------------------------------------------------------------------------------------- shards


def build_shard(job: Job, shard: int) -> ShardOutcome:
    """Make one shard and store it. Called in any process; its bytes depend on the plan alone."""
    return filled_shard(job, shard)()


def filled_shard(job: Job, shard: int) -> Callable[[], ShardOutcome]:
    """Make one shard; what is returned stores it, in whatever thread, and tells its outcome."""
    cv2.setNumThreads(1)  # one worker is one core
    with threadpool_limits(1):  # and sums do not depend on how many threads share a product
        recipe, pictures = _prepared(job)
        plan, copies = job.plan, recipe.copies
        slots = plan.slots(shard)
        writer = ShardWriter(job.version, plan, shard)
        mine = pictures[slots.start // copies : slots.stop // copies]
        numbers = recipe.collector()
        for place, (picture, made) in enumerate(zip(mine, recipe.make_samples(_read(job, mine, recipe)), strict=True)):
            first = slots.start + place * copies
            if isinstance(made, BadSample):
                for slot in range(first, first + copies):
                    writer.reject(slot, picture.source_id, made)
                continue
            for slot, sample in enumerate(made, start=first):
                try:
                    writer.add(slot, recipe.stored(sample))
                except BadSample as bad:
                    writer.reject(slot, picture.source_id, bad)
                else:
                    numbers.add(sample)
        statistics = numbers.result()
    return lambda: ShardOutcome.of(writer.finish(statistics))


def _prepared(job: Job) -> tuple[Recipe[Any, Any, Any], Sequence[PlannedPicture]]:
    """What every shard of a version shares, read back from where the plan put it. Raises DamagedObject."""
    return _prepared_once(job.folder, job.model, job.recipe, job.plan.model_dump_json())


@lru_cache(maxsize=1)
def _prepared_once(
    folder: Place, model: str, recipe: str, plan_json: str
) -> tuple[Recipe[Any, Any, Any], Sequence[PlannedPicture]]:
    """Once for each process, for the plan is the same in all of a version's jobs."""
    store, plan = store_at(folder), DatasetPlan.model_validate_json(plan_json)
    pictures = planned_pictures(store, plan)
    maker = recipe_named(recipe)
    config = maker.config_type.model_validate(plan.config)
    return maker.prepared(config, load_model(model), pictures, partial(read_table, store)), pictures


def _read(job: Job, pictures: Sequence[PlannedPicture], recipe: Recipe[Any, Any, Any]) -> list[Any | BadSample]:
    """What the recipe reads of a shard's files, each held to its planned digest; bad ones stay in their places."""

    def read_file(file: PlannedFile) -> bytes:
        return read_planned(job.source, file.name, file.sha256)

    read = iter(recipe.read([p for p in pictures if p.bad is None], job.source, read_file))
    return [p.bad or next(read) for p in pictures]


def read_planned(root: Path, name: str, sha256: str) -> bytes:
    """A source's file, held to the digest that it was planned with. Raises SourceChanged."""
    try:
        content = read_regular_file(os.path.join(root, name), limit_bytes=MAX_IMAGE_FILE_BYTES, follow_links=True)
    except BadSample as bad:  # it was none when it was planned
        raise _changed(name, f" ({bad.sentence})") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _changed(name)
    return content


def _changed(name: str, how: str = "") -> SourceChanged:
    return SourceChanged(f"{name} has changed since this build was planned{how}: start the build again, it plans anew")


# -------------------------------------------------------------------------------------------------------------- publish


def check_bad(outcomes: Sequence[ShardOutcome], *, n_slots: int, max_bad: float, fail_on_first: bool = False) -> None:
    """Raise TooManyBad when more than `max_bad` of the plan's slots are rejected (or any, with `fail_on_first`)."""
    rejected = [hole for outcome in outcomes for hole in outcome.rejected]
    refuse_too_many_bad(rejected, of=n_slots, what="samples", max_bad=max_bad, fail_on_first=fail_on_first)


def publish_build(build: Build) -> Published:
    """Draw the contact sheet from what is stored, verify every object, and publish. Doing it again changes nothing.

    Raises as :func:`publish_with`.
    """
    return publish_with(build, _publish_new)


def publish_with(build: Build, publish_new: Callable[[Store, Job], None]) -> Published:
    """Publish a version whose shards are all there by ``publish_new(version, job)``, unless it is published already.

    Raises TooManyBad when no sample is left, and ShardsDamaged when the disk does not hold what the receipts promise:
    those shards are then forgotten, and the next build makes them again.
    """
    plan = build.job.plan
    if not build.is_published:
        try:
            publish_new(build.version, build.job)
        except (DamagedObject, MissingObject) as damage:
            shards = forget_damaged(build.version, plan)
            raise ShardsDamaged(
                f"{damage}. The shards {shards} were not on disk as they were written, and are to be made again: "
                "start the build once more, and have an eye on that disk"
            ) from damage
    point_latest(build.dataset, plan.version)
    return describe_published(open_dataset(build.job.folder))


def draft_of(version: Store, plan: DatasetPlan, merged: Callable[[Sequence[Mapping]], Mapping]) -> DatasetManifest:
    """The manifest that is about to be published, with what `merged` makes of the shards' statistics. Raises TooManyBad."""
    receipts = finished_shards(version, plan)
    statistics = merged([receipts[shard].statistics for shard in sorted(receipts)])
    draft = draft_manifest(version, plan, statistics=statistics)
    if not draft.n_samples:
        first = f". The first: {draft.rejected[0].source_id}: {draft.rejected[0].reason}" if draft.rejected else ""
        raise TooManyBad(f"none of the {plan.n_slots} samples can be used, so there is nothing to publish{first}")
    return draft


def _publish_new(version: Store, job: Job) -> None:
    recipe, _ = _prepared(job)
    draft = draft_of(version, job.plan, recipe.merged)
    listed = {PICTURES_KEY: stored_list(version, job.plan, "pictures")}
    publish(version, draft, written=listed, shown=lambda: drawn_objects(job, ShardedDataset(version, draft)))


def drawn_objects(job: Job, dataset: ShardedDataset) -> dict[str, bytes]:
    """:func:`shown_objects` with the contact sheet that the recipe draws."""
    recipe, _ = _prepared(job)
    return shown_objects(dataset, recipe.contact_sheet(dataset))


def shown_objects(dataset: ShardedDataset, contact_sheet: Picture) -> dict[str, bytes]:
    """What people look at, drawn from what is stored: the contact sheet, and the data card as HTML and Markdown."""
    with ThreadPoolExecutor(1) as pool:  # a third of a second that need not be waited for
        png = pool.submit(encode_png, contact_sheet)
        card = card_objects(dataset, contact_sheet)
        return {CONTACT_SHEET_KEY: png.result(), **card}


def describe_published(dataset: ShardedDataset) -> Published:
    """What a published version holds."""
    manifest = dataset.manifest
    return Published(
        manifest.name, manifest.version, dataset.path, manifest.n_samples, len(manifest.rejected), manifest.statistics
    )

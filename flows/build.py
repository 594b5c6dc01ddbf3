"""Building position maps: plan, one shard after another in any order, publish. Plain functions; no workflow engine here.

:func:`opened_build` plans (and holds the builders' lock), :func:`build_shard` makes one shard in whatever process it is
called, :func:`publish_build` verifies and publishes. Running all of it twice does it once: what is done is decided by the
shards' receipts on disk.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from flows import posmap_statistics
from flows.config import RECIPE_VERSION, PosmapConfig
from flows.errors import ShardsDamaged, SourceChanged, TooManyBad
from flows.posmaps import Picture, PosmapRecipe, PosmapSample
from geometry import load_model
from geometry.mesh import Mesh
from geometry.model_archive import open_model, save_model
from geometry.models import BUILT_IN
from geometry.morphable_model import DenseModel, MorphableModel
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, TexelSampler
from render.masks import face_mask, landmark_texels, weight_mask
from render.preview import contact_sheet, encode_png
from storage.annotations import annotations_from_variables
from storage.bad_sample import BadSample
from storage.dataset import ShardedDataset, open_dataset, read_table
from storage.face_targets import position_map_schema
from storage.file_names import view_of_path
from storage.fit_files import FOLDER_MARKER
from storage.manifest import (
    DatasetPlan,
    ModelInfo,
    Receipt,
    SourceInfo,
    canonical_json,
    digest_of,
    table_digests,
)
from storage.mat_reader import MatReader
from storage.publish import (
    builders_lock,
    draft_manifest,
    finished_shards,
    forget_damaged,
    is_published,
    point_latest,
    publish,
    start_version,
)
from storage.shards import ShardWriter
from storage.sources import Source, fingerprint_sources, open_source
from storage.store import DamagedObject, LocalStore, MissingObject, Store

PICTURES_KEY = "pictures.json"
CONTACT_SHEET_KEY = "contact_sheet.png"
CONTACT_SHEET_SAMPLES = 12
MODELS_FOLDER = "models"
MODEL_SUFFIX = ".ffmodel.npz"


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs to make any shard: where things lie, and the plan. Small, and picklable."""

    folder: Path
    source: Path
    model: str
    plan: DatasetPlan


@dataclass(frozen=True, slots=True)
class PlannedPicture:
    """One photograph of the plan: its files relative to the source's root with their digests, or why it is unusable."""

    source_id: str
    image: str = ""
    image_sha256: str = ""
    annotation: str = ""
    annotation_sha256: str = ""
    code: str = ""
    reason: str = ""

    @property
    def bad(self) -> BadSample | None:
        """Why it cannot be used, known before anything was read."""
        return BadSample(self.code, self.reason) if self.code else None


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
    path: Path
    samples: int
    rejected: int
    statistics: Mapping[str, object]

    @property
    def contact_sheet(self) -> Path:
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


@contextmanager
def opened_build(
    config: PosmapConfig,
    *,
    source: str | os.PathLike[str] | None,
    model: str | Sequence[str],
    out: str | os.PathLike[str],
) -> Iterator[Build]:
    """Plan a build of `config` and hold the builders' lock of the data set while the block runs.

    Without `source` the built-in sample folder is used, and drawn first where it is missing. Raises AlreadyBuilding when
    someone else builds the same data set, and ValueError or OSError for a source or model that cannot be used.
    """
    root = Path(out).absolute()
    source_folder = sample_source(root) if source is None else Path(source).absolute()
    if root.resolve().is_relative_to(source_folder.resolve()):
        raise ValueError(
            f"the output folder {root} lies inside the source {source_folder}: what is built would be taken for pictures "
            "the next time; choose an --out outside of it"
        )
    listing = open_source(source_folder)
    morphable, location = model_at_hand(model, root)
    listing.check_model(morphable)
    pictures = planned_pictures(listing)
    listed = [list(astuple(picture)) for picture in pictures]

    atlas = choose_atlas(morphable, config)
    recipe = PosmapRecipe.of(config, morphable, atlas)
    tables = _tables(recipe, atlas)
    plan = DatasetPlan(
        name=config.name,
        config=config.model_dump(mode="json"),
        recipe_version=RECIPE_VERSION,
        model=ModelInfo(name=morphable.name, fingerprint=morphable.fingerprint, licence=morphable.licence),
        sources=(_source_info(listing, listed),),
        sample_schema=position_map_schema(
            image_size=config.crop.size_px,
            map_size=config.crop.size_px,
            n_identity=morphable.n_identity,
            n_expression=morphable.n_expression,
            maps=config.maps,
            source_id_bytes=max(len(p.source_id.encode()) for p in pictures),
        ),
        tables=table_digests(tables),
        shard_size=max(1, config.shard_size // config.copies) * config.copies,  # the copies of a picture share a shard
        n_slots=len(pictures) * config.copies,
    )
    with builders_lock(root / config.name) as dataset:
        version = LocalStore(root / config.name / plan.version)
        job = Job(root / config.name / plan.version, source_folder, location, plan)
        published = is_published(version, plan)
        if not published:
            start_version(version, plan, tables)
            version.put(PICTURES_KEY, canonical_json({"config": plan.config, "pictures": listed}))
        finished = {shard: ShardOutcome.of(receipt) for shard, receipt in finished_shards(version, plan).items()}
        yield Build(job, dataset, version, finished, published)


def sample_source(out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """The embedded default: a small folder in 300W-LP's layout, drawn from the built-in model where it is missing."""
    from storage.synthetic import write_sample_folder

    folder = out.absolute() / "sources" / "sample"
    write_sample_folder(folder, workers=os.cpu_count() or 1, progress=progress)
    return folder


def choose_atlas(model: MorphableModel, config: PosmapConfig) -> UVAtlas:
    """The model's own atlas, or a conformal Tutte map on the square (as PRNet's BFM_UV), closed at mouth and eyes."""
    if config.atlas == "own" and model.uv is None:
        raise ValueError(
            f"{model.name} brings no UV atlas of its own; give BFM_UV.mat beside it, or choose --atlas tutte"
        )
    if config.atlas != "tutte" and model.uv is not None:
        return UVAtlas(model.uv.astype(np.float64), np.concatenate([model.triangles, model.closing_triangles]))
    from geometry.unwrap import tutte

    mesh = Mesh(model.mean_shape.astype(np.float64), model.triangles)
    return tutte(mesh)


def planned_pictures(listing: Source) -> list[PlannedPicture]:
    """Every photograph of the source with the digests of its files, then whatever the listing had to leave out."""
    pictures = []
    for item, found in zip(listing.items, fingerprint_sources(listing.items), strict=True):
        if isinstance(found, BadSample):
            pictures.append(PlannedPicture(item.source_id, code=found.code, reason=found.sentence))
            continue
        image, annotation = (p.relative_to(listing.root).as_posix() for p in (item.image_path, item.annotation_path))
        pictures.append(PlannedPicture(item.source_id, image, found.image_sha256, annotation, found.annotation_sha256))
    pictures += [PlannedPicture(r.source_id, code=r.code, reason=r.reason) for r in listing.rejected]
    return pictures


def model_at_hand(model: str | Sequence[str], out: Path) -> tuple[MorphableModel, str]:
    """The model, and where workers find it again: converted once, so that they share its pages."""
    loaded = load_model(model)
    if not isinstance(loaded, DenseModel):
        return loaded, BUILT_IN
    archive = model_archive_path(loaded, out)
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        save_model(loaded, archive)
    return open_model(archive, verify=True), str(
        archive
    )  # all workers will believe it, so every byte is looked at once


def model_archive_path(model: DenseModel, out: Path) -> Path:
    """Where the converted model lies, for builders and for readers of parametric data sets."""
    return out / MODELS_FOLDER / f"{model.fingerprint}{MODEL_SUFFIX}"


def _tables(recipe: PosmapRecipe, atlas: UVAtlas) -> dict[str, np.ndarray]:
    raster, config = recipe.raster, recipe.config
    compat: Literal["prnet"] | None = "prnet" if config.compat == "face3d" else None
    weights = weight_mask(recipe.model, atlas, raster.size, raster=raster, compat=compat)
    return {
        "atlas_corners": raster.corners,
        "atlas_weights": raster.weights,
        "atlas_covered": raster.covered.astype(np.uint8),
        "weight_mask": weights,
        "face_mask": face_mask(recipe.model, raster).astype(np.uint8),
        "landmark_rows": recipe.sampler.rows,
        "landmark_columns": recipe.sampler.columns,
        "landmark_weights": recipe.sampler.weights,
        "landmark_texels": landmark_texels(recipe.model, atlas, raster),
        "vertex_uv": atlas.uv,
        "triangles": atlas.triangles,
    }


def _source_info(listing: Source, pictures: Sequence[Sequence[str]]) -> SourceInfo:
    from storage.synthetic import MARKER_NAME

    marker, fits = listing.root / MARKER_NAME, listing.root / FOLDER_MARKER
    details = {"sample": json.loads(marker.read_text())} if marker.is_file() else {}
    licence = "CC0-1.0 (drawn from the built-in model)" if details else "the source's own terms apply"
    if fits.is_file():  # the folder was written from fits: what their landmarks came with goes on
        details = {"fits": json.loads(fits.read_text())}
        licence = str(details["fits"]["licence"])
    return SourceInfo(
        kind=listing.kind.lower(),
        n_files=2 * len(listing.items),
        fingerprint=digest_of(pictures),
        licence=licence,
        details=details,
    )


# --------------------------------------------------------------------------------------------------------------- shards


def build_shard(job: Job, shard: int) -> ShardOutcome:
    """Make one shard, unless its receipt is there. Called in any process; its bytes depend on the plan alone."""
    cv2.setNumThreads(1)  # one worker is one core
    with threadpool_limits(1):  # and sums do not depend on how many threads share a product
        recipe, pictures = _prepared(job.folder, job.model)
        plan = job.plan
        copies = recipe.config.copies
        slots = plan.slots(shard)
        writer = ShardWriter(LocalStore(job.folder), plan, shard)
        mine = pictures[slots.start // copies : slots.stop // copies]
        statistics = posmap_statistics.Collector()
        read = _read_pictures(job, mine, recipe.config)
        for place, (picture, made) in enumerate(zip(mine, recipe.make_samples(read), strict=True)):
            first = slots.start + place * copies
            if isinstance(made, BadSample):
                for slot in range(first, first + copies):
                    writer.reject(slot, picture.source_id, made)
                continue
            for slot, sample in enumerate(made, start=first):
                try:
                    writer.add(slot, _stored(sample))
                except BadSample as bad:
                    writer.reject(slot, picture.source_id, bad)
                else:
                    statistics.add(sample)
        return ShardOutcome.of(writer.finish(statistics.result()))


@lru_cache(maxsize=1)
def _prepared(folder: Path, model: str) -> tuple[PosmapRecipe, list[PlannedPicture]]:
    """What every shard of a version shares, read back from where the plan put it, once for each process."""
    store = LocalStore(folder)
    attributes = json.loads(store.get(PICTURES_KEY))
    config = PosmapConfig.model_validate(attributes["config"])
    morphable = load_model(model)
    raster = AtlasRaster.from_tables(
        *(read_table(store, f"atlas_{part}") for part in ("corners", "weights", "covered"))
    )
    sampler = TexelSampler(*(read_table(store, f"landmark_{part}") for part in ("rows", "columns", "weights")))
    pictures = [PlannedPicture(*fields) for fields in attributes["pictures"]]
    return PosmapRecipe(config, morphable, raster, sampler), pictures


def _stored(sample: PosmapSample) -> dict[str, object]:
    """The sample under the names of the schema."""
    stored = {
        "image": sample.image,
        "landmarks_px": sample.landmarks_px,
        "landmark_residual_px": np.float32(sample.landmark_residual_px),
        "identity": sample.coefficients.identity.astype(np.float32),
        "expression": sample.coefficients.expression.astype(np.float32),
        "pose": sample.pose,
        "crop_from_image": sample.crop_from_image,
        "crop_from_model": sample.crop_from_model,
        "z_offset_px": np.float64(sample.z_offset_px),
        "mirrored": np.bool_(False),
        "source_id": np.str_(sample.source_id),
        "copy_index": np.int32(sample.copy_index),
        "seed": np.int64(sample.seed),
    }
    return stored if sample.position_map is None else {**stored, "position_map": sample.position_map}


def _read_pictures(job: Job, pictures: Sequence[PlannedPicture], config: PosmapConfig) -> list[Picture | BadSample]:
    """The files of a shard, each held to the digest that it was planned with; bad annotations become values."""
    usable = [p for p in pictures if p.bad is None]
    images = [read_planned(job.source, p.image, p.image_sha256) for p in usable]
    files = [read_planned(job.source, p.annotation, p.annotation_sha256) for p in usable]
    views = [view_of_path(job.source / p.annotation) for p in usable]
    answers = annotations_from_variables(mat_reader().read_many(files), views=views, compat=config.compat)
    read = iter(
        answer if isinstance(answer, BadSample) else Picture(p.source_id, image, answer)
        for p, image, answer in zip(usable, images, answers, strict=True)
    )
    return [p.bad or next(read) for p in pictures]


def read_planned(root: Path, name: str, sha256: str) -> bytes:
    """A source's file, held to the digest that it was planned with. Raises SourceChanged."""
    content = (root / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SourceChanged(f"{name} has changed since this build was planned: start the build again, it plans anew")
    return content


@lru_cache(maxsize=1)
def mat_reader() -> MatReader:
    """This process's own child that opens MATLAB files."""
    return MatReader()


# -------------------------------------------------------------------------------------------------------------- publish


def check_bad(outcomes: Sequence[ShardOutcome], *, n_slots: int, max_bad: float, fail_on_first: bool = False) -> None:
    """Raise TooManyBad when more than `max_bad` of the plan's slots are rejected (or any, with `fail_on_first`)."""
    rejected = [hole for outcome in outcomes for hole in outcome.rejected]
    limit = 0 if fail_on_first else int(max_bad * n_slots + 1e-9)  # 0.29 of 100 is 29, whatever the product says
    if len(rejected) <= limit:
        return
    source_id, code, reason = rejected[0]
    counts = Counter(code for _, code, _ in rejected)
    listed = ", ".join(f"{count} × {name}" for name, count in counts.most_common(5))
    raise TooManyBad(
        f"{len(rejected)} of {n_slots} samples cannot be used ({listed}), and {limit or 'none'} may be. "
        f"The first: {source_id}: {reason} [{code}]. Mend or remove the files, or raise --max-bad; finished shards are kept"
    )


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


def _publish_new(version: Store, job: Job) -> None:
    receipts = finished_shards(version, job.plan)
    statistics = posmap_statistics.merged([receipts[shard].statistics for shard in sorted(receipts)])
    draft = draft_manifest(version, job.plan, statistics=statistics)
    if not draft.n_samples:
        raise TooManyBad(f"none of the {job.plan.n_slots} samples can be used, so there is nothing to publish")
    version.put(CONTACT_SHEET_KEY, _contact_sheet(ShardedDataset(job.folder, draft)))
    publish(version, draft)


def describe_published(dataset: ShardedDataset) -> Published:
    """What a published version holds."""
    manifest = dataset.manifest
    return Published(
        manifest.name, manifest.version, dataset.path, manifest.n_samples, len(manifest.rejected), manifest.statistics
    )


def _contact_sheet(dataset: ShardedDataset) -> bytes:
    """Samples spread evenly over the data set, drawn from the stored data alone."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, CONTACT_SHEET_SAMPLES).astype(int))
    return encode_png(contact_sheet([dataset[int(i)] for i in chosen], dataset.table("weight_mask")))

"""Fitting landmarks: plan, one shard after another in any order (:mod:`flows.fit_shards`), publish.

The same three steps as for position maps (:mod:`flows.build`), and one more: from the published data set a folder is
written that 300W-LP's readers read (:mod:`flows.fit_folder`). Running all of it twice does it once.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from flows import fit_statistics
from flows.build import (
    Build,
    Job,
    Published,
    ShardOutcome,
    draft_of,
    publish_with,
    shown_objects,
)
from flows.config import FITS_RECIPE_VERSION, FitsConfig
from flows.errors import ShardsDamaged
from flows.face_fits import FitRecipe
from flows.fit_folder import SOURCES_FOLDER, PublishedFits, annotate_shard, finish_folder
from flows.fit_pictures import contact_sheet_of_fits
from flows.fit_shards import FitJob, PlannedFace, fitted_shard, table_bytes
from flows.local import check_scheduler, make_shards, workers_of
from flows.models_at_hand import model_at_hand
from flows.planned_list import PICTURES_KEY, list_bytes, stored_list
from flows.progress import ProgressMaker, silent_for
from flows.recipe import drawn_sample
from flows.refusals import refuse_output_in_source
from geometry.landmarks import landmark_scheme
from geometry.models import load_model
from geometry.morphable_model import MorphableModel
from render.preview import Picture
from storage.bad_sample import BadSample
from storage.dataset import ShardedDataset
from storage.detector import LICENCE, LandmarkDetector, find_weights
from storage.drawn_folder import licence_of
from storage.fit_targets import fits_schema
from storage.landmark_tables import parse_landmark_table
from storage.local_store import LocalStore
from storage.manifest import DatasetPlan, ModelInfo, SourceInfo, canonical_json, digest_of
from storage.photographs import PhotographSource, fingerprint_photographs, open_photographs
from storage.publish import (
    builders_lock,
    finished_shards,
    is_published,
    publish,
    start_version,
)
from storage.store import Store

CONTACT_SHEET_SAMPLES = 12


@dataclass(frozen=True, slots=True)
class FitsBuild(Build):
    """A planned build of fits, its lock held."""

    job: FitJob


def fit_here(
    config: FitsConfig,
    *,
    source: str | os.PathLike[str] | None = None,
    table: str | os.PathLike[str] | None = None,
    detect: bool = False,
    weights: str | os.PathLike[str] | None = None,
    model: str | Sequence[str] = "built-in",
    out: str | os.PathLike[str] = "datasets",
    workers: int = 0,
    max_bad: float = 0.01,
    fail_on_first: bool = False,
    progress: ProgressMaker = silent_for,
    scheduler: str | None = None,
) -> PublishedFits:
    """Fit, publish and write the folder on this machine, without a server.

    Arguments of the source as in :func:`opened_fits`; the others, and errors, as in :func:`flows.local.build_here`.
    """
    check_scheduler(scheduler)

    def attempt() -> PublishedFits:
        with opened_fits(
            config, source=source, table=table, detect=detect, weights=weights, model=model, out=out
        ) as build:
            make_shards(
                build,
                fitted_shard,
                workers=workers,
                max_bad=max_bad,
                fail_on_first=fail_on_first,
                progress=progress,
                scheduler=scheduler,
            )
            published = publish_fits(build)
            calls = [(build.job, shard) for shard in range(build.job.plan.n_shards)]
            for _ in workers_of(scheduler)(annotate_shard, calls, workers):
                pass
            return finish_folder(build.job, published)

    try:
        return attempt()
    except ShardsDamaged:  # they were forgotten: make them again, once
        return attempt()


# ------------------------------------------------------------------------------------------------------------- plan


@contextmanager
def opened_fits(
    config: FitsConfig,
    *,
    source: str | os.PathLike[str] | None,
    table: str | os.PathLike[str] | None = None,
    detect: bool = False,
    weights: str | os.PathLike[str] | None = None,
    model: str | Sequence[str],
    out: str | os.PathLike[str],
) -> Iterator[FitsBuild]:
    """Plan the fits of a folder of photographs and hold the builders' lock of the data set while the block runs.

    Landmarks come from files beside the pictures, or from `table`; with `detect`, pictures without them go through the
    detector, whose 68-point model is `weights` (default: where the system keeps it). Without `source` photographs of
    the built-in sample are used, and written first where they are missing. Raises AlreadyBuilding when someone else
    builds the same data set, NoDetector, and ValueError or OSError for a source, table or model that cannot be used.
    """
    root = Path(out).absolute()
    source_folder = sample_photographs(root) if source is None else Path(source).absolute()
    refuse_output_in_source(root, source_folder)
    table_path = None if table is None else Path(table).absolute()
    n_points = len(landmark_scheme(config.scheme))
    details: dict[str, object] = {}
    rows = None
    if table_path is not None:
        content = table_bytes(table_path)
        rows = parse_landmark_table(content, name=table_path.name, n_points=n_points)
        details["table_sha256"] = hashlib.sha256(content).hexdigest()
    found_weights = None
    if detect:
        if config.scheme != "ibug-68":
            raise ValueError(f"the detector finds the 68 points of ibug-68, not those of {config.scheme}")
        found_weights = find_weights(weights)
        version = LandmarkDetector(found_weights).version
        details["detector"] = {"dlib": version, "weights_sha256": found_weights.sha256, "terms": LICENCE}
    listing = open_photographs(source_folder, table=rows, detect=detect)
    morphable, location = model_at_hand(model, root)
    FitRecipe.of(config, morphable)  # says now what every shard would say
    faces = planned_faces(listing)
    listed = [list(astuple(face)) for face in faces]
    plan = DatasetPlan(
        name=config.name,
        config=config.model_dump(mode="json"),
        recipe_version=FITS_RECIPE_VERSION,
        model=ModelInfo(name=morphable.name, fingerprint=morphable.fingerprint, licence=morphable.licence),
        sources=(_source_info(listing, faces, listed, details),),
        sample_schema=fits_schema(
            n_points=n_points,
            n_identity=morphable.n_identity,
            n_expression=morphable.n_expression,
            source_id_bytes=max(len(face.source_id.encode()) for face in faces),
        ),
        shard_size=config.shard_size,
        n_slots=len(faces),
    )
    with builders_lock(root / config.name) as dataset:
        folder = root / config.name / plan.version
        version_store = LocalStore(folder)
        job = FitJob(folder, source_folder, location, plan, table_path, found_weights)
        published = is_published(version_store, plan)
        if not published:
            start_version(version_store, plan)
            version_store.put(PICTURES_KEY, list_bytes(plan, "faces", canonical_json(listed)))
        finished = {s: ShardOutcome.of(receipt) for s, receipt in finished_shards(version_store, plan).items()}
        yield FitsBuild(job, dataset, version_store, finished, published)


def sample_photographs(out: Path) -> Path:
    """The embedded default: the sample's photographs, with landmarks in ``.pts`` files."""
    from storage.sample_photographs import write_sample_photographs

    folder = out / SOURCES_FOLDER / "photographs"
    write_sample_photographs(folder, drawn_sample(out))
    return folder


def planned_faces(listing: PhotographSource) -> list[PlannedFace]:
    """Every face of the source with the digests of its files, then whatever the listing had to leave out."""
    faces = []
    for item, found in zip(listing.items, fingerprint_photographs(listing), strict=True):
        if isinstance(found, BadSample):
            faces.append(PlannedFace(item.source_id, code=found.code, reason=found.sentence))
            continue
        faces.append(
            PlannedFace(
                item.source_id,
                item.image,
                found.image_sha256,
                item.origin,
                item.landmarks,
                found.landmarks_sha256,
                item.face,
            )
        )
    return faces + [PlannedFace(r.source_id, code=r.code, reason=r.reason) for r in listing.rejected]


def _source_info(
    listing: PhotographSource, faces: Sequence[PlannedFace], listed: list, details: Mapping[str, object]
) -> SourceInfo:
    origins = Counter(face.origin for face in faces if face.bad is None)
    licence = licence_of(listing.root)
    if origins["detector"]:
        licence = f"{licence}; {origins['detector']} faces without landmarks of their own: {LICENCE}"
    return SourceInfo(
        kind="photographs",
        n_files=sum(bool(face.image) + bool(face.landmarks) for face in faces),
        fingerprint=digest_of(listed),
        licence=licence,
        details={"landmark_origins": dict(sorted(origins.items())), **details},
    )


# ---------------------------------------------------------------------------------------------------------- publish


def publish_fits(build: Build) -> Published:
    """Draw the contact sheet from what is stored, verify every object, and publish. Doing it again changes nothing.

    Raises as :func:`flows.build.publish_with`.
    """
    return publish_with(build, _publish_new)


def _publish_new(version: Store, job: Job) -> None:
    draft = draft_of(version, job.plan, fit_statistics.merged)
    dataset = ShardedDataset(version, draft)
    listed = {PICTURES_KEY: stored_list(version, job.plan, "faces")}
    publish(
        version,
        draft,
        written=listed,
        shown=lambda: shown_objects(dataset, _contact_sheet(dataset, load_model(job.model))),
    )


def _contact_sheet(dataset: ShardedDataset, model: MorphableModel) -> Picture:
    """Fits spread evenly over the data set, drawn from the stored data alone."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, CONTACT_SHEET_SAMPLES).astype(int))
    return contact_sheet_of_fits([dataset[int(i)] for i in chosen], model)

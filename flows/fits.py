"""Fitting landmarks: plan, one shard after another in any order, publish, and a folder that 300W-LP's readers read.

The same three steps as for position maps (:mod:`flows.build`), and one more: the data set of fits is the truth, and the
folder of pictures and ``.mat`` files is written from it. Running all of it twice does it once.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from flows import fit_statistics
from flows.build import (
    CONTACT_SHEET_KEY,
    PICTURES_KEY,
    Build,
    Job,
    Published,
    ShardOutcome,
    model_at_hand,
    planned_list,
    publish_with,
    read_planned,
)
from flows.config import FITS_RECIPE_VERSION, FitsConfig
from flows.errors import ShardsDamaged, SourceChanged, TooManyBad
from flows.face_fits import Face, FitRecipe, FittedFace, landmarks_of_68
from flows.fit_pictures import contact_sheet_of_fits
from flows.local import make_shards, workers_of
from flows.progress import ProgressMaker, silent_for
from flows.recipe import drawn_sample
from geometry.camera import ScaledOrthographicCamera
from geometry.landmarks import landmark_scheme
from geometry.models import load_model
from geometry.morphable_model import Coefficients, MorphableModel
from geometry.rotation import rotation_from_euler
from render.preview import encode_png
from storage.annotations import write_annotation
from storage.bad_sample import BadSample
from storage.card import card_objects
from storage.dataset import ShardedDataset, open_dataset
from storage.detector import LICENCE, LandmarkDetector, Weights, find_weights
from storage.drawn_folder import DRAWN_LICENCE, drawn_record
from storage.fit_files import FOLDER_MARKER
from storage.fit_targets import fits_schema
from storage.folder_walk import composed
from storage.images import decode_photograph
from storage.jpeg import encode_jpeg, write_atomically
from storage.landmark_files import landmarks_from_files
from storage.landmark_tables import parse_landmark_table
from storage.manifest import DatasetPlan, ModelInfo, SourceInfo, canonical_json, digest_of
from storage.mat_reader import process_reader
from storage.photographs import Origin, PhotographSource, fingerprint_photographs, open_photographs
from storage.publish import (
    builders_lock,
    draft_manifest,
    finished_shards,
    is_published,
    publish,
    start_version,
)
from storage.regular_files import read_regular_file
from storage.shards import ShardWriter
from storage.store import LocalStore, Store

CONTACT_SHEET_SAMPLES = 12
_SOURCES_FOLDER = "sources"


@dataclass(frozen=True, slots=True)
class FitJob(Job):
    """All that a worker needs: a build's job, and where this machine keeps the table and the detector's weights."""

    folder: Path  # local always: pictures and ``.mat`` files are written beside it
    table: Path | None = None
    weights: Weights | None = None


@dataclass(frozen=True, slots=True)
class FitsBuild(Build):
    """A planned build of fits, its lock held."""

    job: FitJob


@dataclass(frozen=True, slots=True)
class PlannedFace:
    """One face of the plan: its files relative to the source's root with their digests, or why it is unusable."""

    source_id: str
    image: str = ""
    image_sha256: str = ""
    origin: Origin = "pts"
    landmarks: str = ""
    landmarks_sha256: str = ""
    face: str = ""
    code: str = ""
    reason: str = ""

    @property
    def bad(self) -> BadSample | None:
        """Why it cannot be used, known before anything was read."""
        return BadSample(self.code, self.reason) if self.code else None


@dataclass(frozen=True, slots=True)
class PublishedFits(Published):
    """A finished data set of fits, and the folder in 300W-LP's layout that was written from it."""

    folder: Path
    licence: str


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

    def attempt() -> PublishedFits:
        with opened_fits(
            config, source=source, table=table, detect=detect, weights=weights, model=model, out=out
        ) as build:
            make_shards(
                build,
                fit_shard,
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
    if root.resolve().is_relative_to(source_folder.resolve()):
        raise ValueError(
            f"the output folder {root} lies inside the source {source_folder}: what is made would be taken for "
            "photographs the next time; choose an --out outside of it"
        )
    table_path = None if table is None else Path(table).absolute()
    n_points = len(landmark_scheme(config.scheme))
    details: dict[str, object] = {}
    rows = None
    if table_path is not None:
        content = _table_bytes(table_path)
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
            version_store.put(PICTURES_KEY, canonical_json({"config": plan.config, "faces": listed}))
        finished = {s: ShardOutcome.of(receipt) for s, receipt in finished_shards(version_store, plan).items()}
        yield FitsBuild(job, dataset, version_store, finished, published)


def sample_photographs(out: Path) -> Path:
    """The embedded default: the sample's photographs, with landmarks in ``.pts`` files."""
    from storage.sample_photographs import write_sample_photographs

    folder = out / _SOURCES_FOLDER / "photographs"
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
    licence = DRAWN_LICENCE if drawn_record(listing.root) else "the source's own terms apply"
    if origins["detector"]:
        licence = f"{licence}; {origins['detector']} faces without landmarks of their own: {LICENCE}"
    return SourceInfo(
        kind="photographs",
        n_files=sum(bool(face.image) + bool(face.landmarks) for face in faces),
        fingerprint=digest_of(listed),
        licence=licence,
        details={"landmark_origins": dict(sorted(origins.items())), **details},
    )


def _table_bytes(path: Path) -> bytes:
    from storage.landmark_tables import MAX_TABLE_BYTES

    try:
        return read_regular_file(path, limit_bytes=MAX_TABLE_BYTES, follow_links=True)
    except BadSample as bad:
        raise ValueError(f"{path}: {bad.sentence}") from None


# ----------------------------------------------------------------------------------------------------------- shards


def fit_shard(job: FitJob, shard: int) -> ShardOutcome:
    """Fit the faces of one shard. Called in any process; its bytes depend on the plan alone."""
    cv2.setNumThreads(1)  # one worker is one core
    with threadpool_limits(1):  # and sums do not depend on how many threads share a product
        recipe, faces = _prepared(job.folder, job.model, job.plan.model_dump_json())
        slots = job.plan.slots(shard)
        writer = ShardWriter(LocalStore(job.folder), job.plan, shard)
        mine = faces[slots.start : slots.stop]
        statistics = fit_statistics.Collector()
        for slot, planned, made in zip(slots, mine, recipe.fitted(_read_faces(job, mine, recipe)), strict=True):
            if isinstance(made, BadSample):
                writer.reject(slot, planned.source_id, made)
                continue
            try:
                writer.add(slot, stored_face(made))
            except BadSample as bad:
                writer.reject(slot, planned.source_id, bad)
            else:
                statistics.add(made)
        return ShardOutcome.of(writer.finish(statistics.result()))


@lru_cache(maxsize=1)
def _prepared(folder: Path, model: str, plan_json: str) -> tuple[FitRecipe, list[PlannedFace]]:
    """What every shard of a version shares, read back from where the plan put it, once for each process."""
    plan = DatasetPlan.model_validate_json(plan_json)
    _, rows = planned_list(LocalStore(folder), plan, "faces")
    recipe = FitRecipe.of(FitsConfig.model_validate(plan.config), load_model(model))
    return recipe, [PlannedFace(*values) for values in rows]  # type: ignore[arg-type]  # as astuple wrote them


def stored_face(face: FittedFace) -> dict[str, object]:
    """The face under the names of the schema."""
    return {
        "image": face.picture,
        "identity": face.coefficients.identity,
        "expression": face.coefficients.expression,
        "pose": face.pose,
        "landmarks_px": face.landmarks_px.astype(np.float32),
        "fitted_px": face.fitted_px.astype(np.float32),
        "residual_px": face.residual_px.astype(np.float32),
        "model_landmarks_px": face.model_landmarks_px.astype(np.float32),
        "pose_stddev": face.pose_stddev.astype(np.float32),
        "surface_stddev_mm": np.float32(face.surface_stddev_mm),
        "result": np.str_(face.result),
        "landmark_origin": np.str_(face.origin),
        "picture_from_photograph": face.square.picture_from_photograph.matrix,
        "roi": face.square.roi.astype(np.int32),
        "photograph_hw": np.array(face.photograph_hw, dtype=np.int32),
        "source_id": np.str_(face.source_id),
    }


def _read_faces(job: FitJob, planned: Sequence[PlannedFace], recipe: FitRecipe) -> list[Face | BadSample]:
    """Landmarks of a shard's faces, each file held to the digest that it was planned with; bad ones become values."""
    with_files = [p for p in planned if p.bad is None and p.landmarks]
    contents = [read_planned(job.source, p.landmarks, p.landmarks_sha256) for p in with_files]
    n_points = len(recipe.scheme)
    names = [job.source / p.landmarks for p in with_files]
    found = iter(landmarks_from_files(names, contents, n_points=n_points, reader=process_reader()))
    faces: list[Face | BadSample] = []
    for face in planned:
        read_photograph = partial(read_planned, job.source, face.image, face.image_sha256)
        landmarks: np.ndarray | BadSample
        if face.bad is not None:
            landmarks = face.bad
        elif face.origin == "detector":
            landmarks = _detected(job, read_photograph())
        elif face.origin == "table":
            landmarks = _table_rows(job, n_points)[composed(face.image), face.face]
        else:
            landmarks = next(found)
        frame = "upright" if face.origin == "detector" else recipe.config.landmarks_frame
        faces.append(
            landmarks
            if isinstance(landmarks, BadSample)
            else Face(face.source_id, landmarks, face.origin, frame, read_photograph)
        )
    return faces


def _detected(job: FitJob, photograph: bytes) -> np.ndarray | BadSample:
    if job.weights is None:
        raise ValueError("the plan leaves faces to a detector, and this job has none: plan the build again")
    try:
        return _detector(job.weights).detect(decode_photograph(photograph))
    except BadSample as bad:
        return bad


@lru_cache(maxsize=1)
def _detector(weights: Weights) -> LandmarkDetector:
    return LandmarkDetector(weights)


def _table_rows(job: FitJob, n_points: int) -> dict[tuple[str, str], np.ndarray | BadSample]:
    if job.table is None:
        raise ValueError("the plan takes landmarks from a table, and this job has none: plan the build again")
    return _table(job.table, str(job.plan.sources[0].details["table_sha256"]), n_points)


@lru_cache(maxsize=1)
def _table(path: Path, sha256: str, n_points: int) -> dict[tuple[str, str], np.ndarray | BadSample]:
    content = _table_bytes(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SourceChanged(f"{path.name} has changed since this build was planned: start it again, it plans anew")
    rows: dict[tuple[str, str], np.ndarray | BadSample] = {}
    for row in parse_landmark_table(content, name=path.name, n_points=n_points):
        rows.setdefault((composed(row.path.removeprefix("./")), row.face), row.landmarks_px)
    return rows


# ---------------------------------------------------------------------------------------------------------- publish


def publish_fits(build: Build) -> Published:
    """Draw the contact sheet from what is stored, verify every object, and publish. Doing it again changes nothing.

    Raises as :func:`flows.build.publish_with`.
    """
    return publish_with(build, _publish_new)


def _publish_new(version: Store, job: Job) -> None:
    receipts = finished_shards(version, job.plan)
    statistics = fit_statistics.merged([receipts[shard].statistics for shard in sorted(receipts)])
    draft = draft_manifest(version, job.plan, statistics=statistics)
    if not draft.n_samples:
        raise TooManyBad(f"none of the {job.plan.n_slots} faces can be used, so there is nothing to publish")
    dataset = ShardedDataset(version, draft)
    sheet = _contact_sheet(dataset, load_model(job.model))
    written = {CONTACT_SHEET_KEY: sheet, **card_objects(dataset, sheet)}
    for key, data in written.items():
        version.put(key, data)
    publish(version, draft, written={PICTURES_KEY: planned_list(version, job.plan, "faces")[0], **written})


def _contact_sheet(dataset: ShardedDataset, model: MorphableModel) -> bytes:
    """Fits spread evenly over the data set, drawn from the stored data alone."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, CONTACT_SHEET_SAMPLES).astype(int))
    return encode_png(contact_sheet_of_fits([dataset[int(i)] for i in chosen], model))


# ----------------------------------------------------------------------------------------------------------- folder


def annotated_folder(job: FitJob) -> Path:
    """Where the pictures and ``.mat`` files of a version go: ``<out>/sources/<name>/<version>``."""
    return job.folder.parent.parent / _SOURCES_FOLDER / job.folder.parent.name / job.folder.name


def annotate_shard(job: FitJob, shard: int) -> int:
    """Write the pictures and ``.mat`` files of a published shard, those that are not there yet; how many there are.

    ``<source id>_0``: the ending says to every reader of 300W-LP that the picture is a photograph and no turned view.
    """
    folder, dataset = annotated_folder(job), open_dataset(job.folder)
    slots = dataset.slots(range(len(dataset)))
    mine = np.flatnonzero((slots >= job.plan.slots(shard).start) & (slots < job.plan.slots(shard).stop))
    names = dataset.read(mine, ["source_id"])["source_id"]
    paths = [folder / f"{name}_0.jpg" for name in names]
    model, scheme = load_model(job.model), landmark_scheme(str(job.plan.config["scheme"]))
    for index, path in zip(mine, paths, strict=True):
        if path.exists() and path.with_suffix(".mat").exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        sample = dataset[int(index)]
        write_atomically(path, encode_jpeg(np.ascontiguousarray(sample["image"])))
        write_fit_annotation(path.with_suffix(".mat"), sample, model=model, scheme_name=scheme.name)
    return len(paths)


def write_fit_annotation(path: Path, sample: Mapping[str, object], *, model: MorphableModel, scheme_name: str) -> None:
    """One stored fit as 300W-LP's ``.mat``; points that were not given are the fitted model's."""
    given, of_model = np.asarray(sample["landmarks_px"]), np.asarray(sample["model_landmarks_px"])
    write_annotation(
        path,
        coefficients=Coefficients(np.asarray(sample["identity"]), np.asarray(sample["expression"])),
        camera=camera_of_pose(np.asarray(sample["pose"])),
        landmarks_px=landmarks_of_68(landmark_scheme(scheme_name), given, of_model),
        model=model,
        roi=np.asarray(sample["roi"]),
    )


def camera_of_pose(pose: Float[np.ndarray, "7"]) -> ScaledOrthographicCamera:
    """The camera of a stored (pitch, yaw, roll, t_x, t_y, t_z, scale)."""
    return ScaledOrthographicCamera(float(pose[6]), rotation_from_euler(*pose[:3]), np.array(pose[3:6]))


def finish_folder(job: FitJob, published: Published) -> PublishedFits:
    """Say in the folder, when all of it is there, which data set it was written from and on what terms."""
    folder, source = annotated_folder(job), job.plan.sources[0]
    about = {
        "dataset": published.dataset,
        "version": published.version,
        "pictures": published.samples,
        "landmark_origins": published.statistics.get("landmark_origins", {}),
        "licence": source.licence,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FOLDER_MARKER, (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode())
    known = {field.name: getattr(published, field.name) for field in fields(Published)}
    return PublishedFits(**known, folder=folder, licence=source.licence)

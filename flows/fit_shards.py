"""One shard of landmark fits: its faces read, each file held to the digest that it was planned with, fitted and stored."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from flows import fit_statistics
from flows.build import Job, ShardOutcome, read_planned
from flows.config import FitsConfig
from flows.errors import SourceChanged
from flows.face_fits import Face, FitRecipe, FittedFace
from flows.planned_list import planned_list
from geometry.models import load_model
from storage.bad_sample import BadSample
from storage.detector import LandmarkDetector, Weights
from storage.folder_walk import composed
from storage.images import decode_photograph
from storage.landmark_files import landmarks_from_files
from storage.landmark_tables import MAX_TABLE_BYTES, parse_landmark_table
from storage.local_store import LocalStore
from storage.manifest import DatasetPlan
from storage.mat_reader import process_reader
from storage.photographs import Origin
from storage.regular_files import read_regular_file
from storage.shards import ShardWriter


@dataclass(frozen=True, slots=True)
class FitJob(Job):
    """All that a worker needs: a build's job, and where this machine keeps the table and the detector's weights."""

    folder: Path  # local always: pictures and ``.mat`` files are written beside it
    table: Path | None = None
    weights: Weights | None = None


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


def fit_shard(job: FitJob, shard: int) -> ShardOutcome:
    """Fit the faces of one shard and store them. Called in any process; its bytes depend on the plan alone."""
    return fitted_shard(job, shard)()


def fitted_shard(job: FitJob, shard: int) -> Callable[[], ShardOutcome]:
    """Fit the faces of one shard; what is returned stores them, in whatever thread, and tells the outcome."""
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
        result = statistics.result()
    return lambda: ShardOutcome.of(writer.finish(result))


@lru_cache(maxsize=1)
def _prepared(folder: Path, model: str, plan_json: str) -> tuple[FitRecipe, list[PlannedFace]]:
    """What every shard of a version shares, read back from where the plan put it, once for each process."""
    plan = DatasetPlan.model_validate_json(plan_json)
    rows = planned_list(LocalStore(folder), plan, "faces")
    recipe = FitRecipe.of(FitsConfig.model_validate(plan.config), load_model(model))
    return recipe, [PlannedFace(*values) for values in rows]  # type: ignore[arg-type]  # as astuple wrote them


def stored_face(face: FittedFace) -> dict[str, object]:
    """The face under the names of the schema."""
    return {
        "image": face.picture,
        "identity": face.coefficients.identity,
        "expression": face.coefficients.expression,
        "pose": face.camera.pose,
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
    content = table_bytes(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SourceChanged(f"{path.name} has changed since this build was planned: start it again, it plans anew")
    rows: dict[tuple[str, str], np.ndarray | BadSample] = {}
    for row in parse_landmark_table(content, name=path.name, n_points=n_points):
        rows.setdefault((composed(row.path.removeprefix("./")), row.face), row.landmarks_px)
    return rows


def table_bytes(path: Path) -> bytes:
    """A table of landmarks as it lies on the disk. Raises ValueError for one that cannot be used."""
    try:
        return read_regular_file(path, limit_bytes=MAX_TABLE_BYTES, follow_links=True)
    except BadSample as bad:
        raise ValueError(f"{path}: {bad.sentence}") from None

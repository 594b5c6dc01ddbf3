"""A data set of fits as a folder of pictures and ``.mat`` files, which 300W-LP's readers read.

The data set is the truth, and the folder is written from it: ``<out>/sources/<name>/<version>``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from flows.build import Published
from flows.face_fits import landmarks_of_68
from flows.fit_shards import FitJob
from geometry.camera import ScaledOrthographicCamera
from geometry.landmarks import landmark_scheme
from geometry.models import load_model
from geometry.morphable_model import Coefficients, MorphableModel
from storage.annotations import write_annotation
from storage.dataset import open_dataset
from storage.fit_files import FOLDER_MARKER
from storage.jpeg import encode_jpeg
from storage.whole_files import write_atomically

SOURCES_FOLDER = "sources"
"""In the output folder: what was written to be read as a source."""


@dataclass(frozen=True, slots=True)
class PublishedFits(Published):
    """A finished data set of fits, and the folder in 300W-LP's layout that was written from it."""

    folder: Path
    licence: str


def annotated_folder(job: FitJob) -> Path:
    """Where the pictures and ``.mat`` files of a version go: ``<out>/sources/<name>/<version>``."""
    return job.folder.parent.parent / SOURCES_FOLDER / job.folder.parent.name / job.folder.name


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
        camera=ScaledOrthographicCamera.of_pose(np.asarray(sample["pose"])),
        landmarks_px=landmarks_of_68(landmark_scheme(scheme_name), given, of_model),
        model=model,
        roi=np.asarray(sample["roi"]),
    )


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

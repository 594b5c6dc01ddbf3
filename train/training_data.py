"""What a checkpoint says about the data it was trained on: enough to use it without them.

A network knows nothing about crops, models and photographs. Whoever uses it must cut faces out as the data set did, must
know which photographs it has seen (a test photograph among them makes an evaluation worthless), and measures it against the
mean shape of what it has seen.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from geometry.landmarks import N_LANDMARKS
from geometry.morphable_model import MorphableModel
from render.atlas_raster import AtlasRaster
from render.correspondence import FieldTemplate
from storage.dataset import ShardedDataset
from storage.manifest import digest_of
from storage.sample_photograph import REAL_PHOTOGRAPH
from storage.source_groups import in_pieces, photograph_of
from storage.store import MissingObject
from storage.views import DatasetView, manifests_of
from train.shape_model import ShapeModel

SHAPES = 512
"""Samples that mean and shape model are taken from, spread evenly over the data set."""

_AT_ONCE = 4096
_FIELD_TABLES = ("field_triangles", "field_role", "field_uv", "part_map")
_MAP_TABLES = ("face_mask",)
NEUTRAL_MAP = "neutral_map"
"""Among a checkpoint's tables: the model's neutral face at the texels of the position maps, (S S 3) mm, y up."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """A checkpoint's data set, as far as using the checkpoint needs it.

    margin          side of the crops over a side of the landmarks' box; None: whole photographs
    margin_of       which side: the mean of both, or the longer one (ears)
    seen            the photographs, and the drawn people, that were learnt from: see :func:`photographs_and_people`
    mean_landmarks  (p 2|3) in pixels of the crop; in 3-D z counts from the sample's own lowest point
    mean_shape_mm   (68 3) the model's neutral landmarks, y up; None where the data have no model
    shapes          the training shapes' linear model
    tables          of the template, by name
    """

    name: str
    version: str
    fingerprint: str
    model_name: str
    model_fingerprint: str
    licences: tuple[str, ...]
    crop_px: int
    margin: float | None
    margin_of: Literal["mean", "longer"]
    longest_px: int | None
    seen: frozenset[str]
    mean_landmarks: Float[np.ndarray, "p d"]
    mean_shape_mm: Float[np.ndarray, "68 3"] | None
    shapes: ShapeModel | None
    tables: Mapping[str, np.ndarray]

    @property
    def template(self) -> FieldTemplate | None:
        """The template of the data set's fields, where it has some."""
        if not all(name in self.tables for name in _FIELD_TABLES):
            return None
        return FieldTemplate(*(self.tables[name] for name in _FIELD_TABLES))


def describe_data(dataset: ShardedDataset) -> dict[str, Any]:
    """The entry ``dataset`` of a checkpoint: plain values and tensors, read back by :func:`read_description`."""
    manifests = manifests_of(dataset)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, SHAPES).astype(np.int64))
    landmarks = dataset.read(chosen, ("landmarks_px",))["landmarks_px"].astype(np.float64)
    landmarks = landmarks.reshape(-1, *landmarks.shape[-2:])
    landmarks = landmarks[np.isfinite(landmarks).all(axis=(1, 2))]
    configs = [manifest.config for manifest in manifests]
    crops: list[Any] = [config.get("crop", config) for config in configs if "crop" in config or "margin" in config]
    longest = [config["longest_px"] for config in configs if "longest_px" in config]
    seen = {key for keys in photographs_and_people(dataset) for key in keys}
    tables = {name: table for name in (*_FIELD_TABLES, *_MAP_TABLES) if (table := _table(dataset, name)) is not None}
    if (neutral := _neutral_map(dataset)) is not None:
        tables[NEUTRAL_MAP] = neutral
    shapes = ShapeModel.of(landmarks[..., :2]) if len(landmarks) else None
    return {
        "name": dataset.manifest.name,
        "version": dataset.manifest.version,
        "fingerprint": dataset.manifest.fingerprint,
        "model_name": manifests[0].model.name,
        "model_fingerprint": manifests[0].model.fingerprint,
        "licences": sorted({s.licence for m in manifests for s in m.sources if s.licence}),
        "crop_px": int(dataset.schema["image"].sample_shape[0]),
        "margin": float(crops[0]["margin"]) if crops else None,
        "margin_of": "mean" if "crop" in configs[0] else "longer",
        "longest_px": int(longest[0]) if longest else None,  # type: ignore[arg-type]
        "seen": "\n".join(sorted(seen)),
        "mean_landmarks": torch.from_numpy(landmarks.mean(axis=0)) if len(landmarks) else torch.zeros(0, 2),
        "mean_shape_mm": _neutral_landmarks(dataset) if landmarks.shape[1] == N_LANDMARKS else None,
        "shapes": None if shapes is None else shapes.state(),
        "tables": {name: torch.from_numpy(np.array(table)) for name, table in tables.items()},
    }


def read_description(state: Mapping[str, Any]) -> TrainingData:
    """What :func:`describe_data` wrote. Raises KeyError for an entry that says less."""
    mean_shape: Tensor | None = state["mean_shape_mm"]
    return TrainingData(
        name=state["name"],
        version=state["version"],
        fingerprint=state["fingerprint"],
        model_name=state["model_name"],
        model_fingerprint=state["model_fingerprint"],
        licences=tuple(state["licences"]),
        crop_px=state["crop_px"],
        margin=state["margin"],
        margin_of=state["margin_of"],
        longest_px=state["longest_px"],
        seen=frozenset(state["seen"].split("\n")) - {""},
        mean_landmarks=state["mean_landmarks"].numpy(),
        mean_shape_mm=None if mean_shape is None else mean_shape.numpy(),
        shapes=None if state["shapes"] is None else ShapeModel.of_state(state["shapes"]),
        tables={name: table.numpy() for name, table in state["tables"].items()},
    )


def photographs_and_people(dataset: ShardedDataset) -> list[tuple[str, ...]]:
    """What a test must not share with training, for every sample: its photograph, and who was drawn.

    Photographs are named as :func:`storage.source_groups.photograph_of` does. Drawn samples of different seeds call different
    pictures by one name: of these the sample's digest stands before the name, and a digest of the identity coefficients
    is the person. The one real photograph among them keeps its name.
    """
    if not isinstance(dataset, DatasetView):
        return _keys_of(dataset)
    of_parts = [photographs_and_people(part) for part in dataset.parts]
    return [
        of_parts[part][row]
        for part, row in zip(dataset.part_of_sample.tolist(), dataset.index_in_part.tolist(), strict=True)
    ]


def _keys_of(dataset: ShardedDataset) -> list[tuple[str, ...]]:
    if not _has(dataset, "source_id"):
        return [()] * len(dataset)
    drawn = [source.details["sample"] for source in dataset.manifest.sources if "sample" in source.details]
    names = ["source_id"] + ["identity"] * bool(drawn and _has(dataset, "identity"))
    sample = f"drawn {digest_of(drawn)[:12]}: " if drawn else ""
    keys: list[tuple[str, ...]] = []
    for piece in in_pieces(len(dataset), _AT_ONCE):
        read = dataset.read(slice(piece.start, piece.stop), names)
        photographs = [_named(photograph_of(name), sample) for name in read["source_id"].tolist()]
        people = [f"person {hashlib.sha256(who.tobytes()).hexdigest()[:16]}" for who in read.get("identity", ())]
        keys += list(zip(photographs, people, strict=True)) if people else [(name,) for name in photographs]
    return keys


def _named(photograph: str, sample: str) -> str:
    return photograph if photograph.rpartition("/")[2] == REAL_PHOTOGRAPH else sample + photograph


def _has(dataset: ShardedDataset, target: str) -> bool:
    return target in dataset.schema.names


def _table(dataset: ShardedDataset, name: str) -> np.ndarray | None:
    try:
        return dataset.table(name)
    except MissingObject:
        return None


def _neutral_landmarks(dataset: ShardedDataset) -> Tensor | None:
    """The model's own; None where the labels come from no model, or from one that is not at hand."""
    model = _model(dataset)
    if model is None:
        return None
    neutral = model.vertices(model.neutral())[np.asarray(model.landmark_vertices)]
    return torch.from_numpy(np.asarray(neutral, dtype=np.float64))


def _neutral_map(dataset: ShardedDataset) -> np.ndarray | None:
    """The neutral face as a map; None for data sets without maps, or without the model."""
    model = _model(dataset) if _has(dataset, "position_map") else None
    tables = [_table(dataset, f"atlas_{part}") for part in ("corners", "weights", "covered")]
    if model is None or any(table is None for table in tables):
        return None
    corners, weights, covered = (np.asarray(table) for table in tables)
    return AtlasRaster.from_tables(corners, weights, covered).apply(model.vertices(model.neutral()))


def _model(dataset: ShardedDataset) -> MorphableModel | None:
    try:
        return dataset.model()
    except (FileNotFoundError, ValueError):
        return None

"""Errors of dense points: every texel with weight, or every vertex, in the picture and as reconstructions."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from geometry.morphable_model import Coefficients
from render.atlas_raster import AtlasRaster
from storage.dataset import ShardedDataset
from train import metrics
from train.evaluation import MEAN_SHAPE, OURS, TRUE_POSE, Gathered
from train.measures import Measure
from train.mesh_gcn import MeshGcn
from train.prediction import NoFace, Prediction, Predictor
from train.prnet import PRNet
from train.published import published
from train.reconstruction import STEPS, icp_error
from train.shape_model import best_pose

REGISTERED = 50
"""ICP is made of so many faces of a set: it takes a hundred times as long as the other measures."""

_REGISTERED_POINTS = 5000
"""True points that look for their nearest predicted one, spread evenly."""


@dataclass(slots=True)
class DenseTable:
    """Errors of dense points, of ours and of both baselines."""

    name: str
    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def measure(self, measure: str, method: str, value: float) -> None:
        """One face's error."""
        self.rows.setdefault(measure, {}).setdefault(method, []).append(value)

    def compare(
        self,
        method: str,
        predicted: Float[np.ndarray, "v 3"],
        truth: Float[np.ndarray, "v 3"],
        interocular: float,
        *,
        registered: bool,
    ) -> None:
        """One face: points in 2-D and 3-D over √(w·h) of **their own** box, and reconstruction over the eyes' distance."""
        own, true = predicted[None], truth[None]
        plane = float(metrics.nme_bbox(own[..., :2], true[..., :2])[0])
        self.measure(f"dense nme_bbox 2-D ({self.name})", method, plane)
        solid = float(metrics.nme_bbox(own, true, z="mean")[0])
        self.measure(f"dense nme_bbox 3-D, z mean taken off ({self.name})", method, solid)
        known = metrics.reconstruction_error(predicted, truth, interocular=interocular)
        self.measure(f"reconstruction, known correspondence ({self.name})", method, known)
        if registered:
            thin = slice(None, None, max(len(truth) // _REGISTERED_POINTS, 1))
            found = icp_error(
                levelled(predicted, truth), truth[thin], interocular=interocular, direction="truth-to-predicted"
            )
            self.measure(icp_name(self.name), method, found)

    @property
    def n_registered(self) -> int:
        """Faces that were measured after ICP."""
        return len(self.rows.get(icp_name(self.name), {}).get(OURS, ()))

    def close(self, gathered: Gathered) -> None:
        """Put the tables beside the others."""
        for name, by_method in self.rows.items():
            unit = "√(w·h) of the dense points' box"
            if name.startswith("reconstruction"):
                unit = "distance of the outer eye corners in 3-D"
            measure = Measure(name, unit, lambda points, truth: np.zeros(0))
            gathered.add(measure, {method: np.array(values) for method, values in by_method.items()}, "")
            if rows := published("AFLW2000-3D", "reconstruction" if "ICP" in name else ""):
                gathered.results[name]["published"] = [dict(row) for row in rows]


def levelled(points: Float[np.ndarray, "p 3"], truth: Float[np.ndarray, "q 3"]) -> Float[np.ndarray, "p 3"]:
    """With the truth's mean depth: a picture does not tell it."""
    return points + (0, 0, float(truth[:, 2].mean() - points[:, 2].mean()))


@dataclass(slots=True)
class PhotographDense:
    """Dense points of AFLW2000-3D: every vertex of the fit, for systems over the same mesh."""

    dense: DenseTable
    predictor: Predictor
    model: Any
    n_registered: int = REGISTERED

    @classmethod
    def of(cls, predictor: Predictor, model: Any) -> "PhotographDense | None":
        """None for systems without dense points. Raises ValueError for one whose points are not the model's vertices."""
        surface = predictor.surface
        if surface is None:
            return None
        if not isinstance(predictor.system, MeshGcn) or model.n_vertices != surface.n_points:
            raise ValueError(
                f"the model has {model.n_vertices} vertices and the checkpoint's dense points are {surface.name}: dense errors "
                "of photographs need a system over the vertices of just this model; leave --model out"
            )
        return cls(DenseTable(surface.name), predictor, model)

    def vertices(self, coefficients: Coefficients) -> Float[np.ndarray, "v 3"]:
        """The model's face, in its own frame."""
        return np.asarray(self.model.vertices(coefficients), dtype=np.float64)

    def add(
        self, found: Prediction | None, box_px: Float[np.ndarray, "4"] | None, true_px: Float[np.ndarray, "v 3"]
    ) -> None:
        """One photograph; without a prediction it is infinitely wrong."""
        marks = np.asarray(self.model.landmark_vertices)
        first, second = marks[[36, 45]]
        eyes = float(np.linalg.norm(true_px[first] - true_px[second]))
        neutral = self.vertices(self.model.neutral())
        nothing = np.full(true_px.shape, np.nan)
        ours = nothing if found is None or found.vertices_px is None else found.vertices_px
        mean = nothing
        with suppress(NoFace):
            if box_px is not None:
                in_crop = best_pose(neutral[marks], self.predictor.data.mean_landmarks).project(neutral)
                mean = self.predictor.crop_of_box(box_px).inverse.apply(in_crop)
        posed = best_pose(neutral[marks], true_px[marks]).project(neutral)
        registered = self.dense.n_registered < self.n_registered
        for method, points in ((OURS, ours), (MEAN_SHAPE, mean), (TRUE_POSE, posed)):
            self.dense.compare(method, points, true_px, eyes, registered=registered)

    def close(self, gathered: Gathered) -> None:
        """Put the tables beside the others."""
        self.dense.close(gathered)


@dataclass(slots=True)
class DatasetDense:
    """Dense points of a data set: texels of a position map, or the model's vertices."""

    dense: DenseTable
    targets: tuple[str, ...]
    truth: Callable[[Mapping[str, np.ndarray]], np.ndarray]
    neutral_mm: Float[np.ndarray, "v 3"]
    mean_px: Float[np.ndarray, "v 3"]
    marks_mm: Float[np.ndarray, "68 3"]
    n_registered: int

    @classmethod
    def of(cls, predictor: Predictor, dataset: ShardedDataset, *, n_registered: int) -> "DatasetDense | None":
        """None for systems without dense points. ICP is made of the first `n_registered` samples.

        Raises ValueError for another model's topology, KeyError without maps.
        """
        system, data, surface = predictor.system, predictor.data, predictor.surface
        if surface is None or data.mean_shape_mm is None:
            return None
        needs = (
            ("position_map",)
            if isinstance(system, PRNet)
            else ("identity", "expression", "crop_from_model", "mirrored")
        )
        lacking = [name for name in needs if name not in dataset.schema.names]
        if lacking:
            raise KeyError(
                f"{dataset.manifest.name} has no {lacking[0]}, which the dense points of {system.name} are measured by; it "
                f"has {', '.join(dataset.schema.names)}: build it with this target"
            )
        model = dataset.model()
        neutral = np.asarray(model.vertices(model.neutral()), dtype=np.float64)
        if isinstance(system, PRNet):
            covered = dataset.table("atlas_covered") > 0
            if (
                covered.shape != tuple(system.tables["atlas_covered"].shape)
                or (covered != system.tables["atlas_covered"].numpy().astype(bool)).any()
            ):
                raise ValueError(_another_topology(predictor, dataset))
            raster = AtlasRaster.from_tables(
                *(dataset.table(f"atlas_{part}") for part in ("corners", "weights", "covered"))
            )
            texels = predictor.texels
            points = np.asarray(raster.apply(neutral.astype(np.float32)), dtype=np.float64)[texels]

            def truth(sample: Mapping[str, np.ndarray]) -> np.ndarray:
                return sample["position_map"][texels].astype(np.float64)
        else:
            if len(neutral) != surface.n_points or model.fingerprint != data.model_fingerprint:
                raise ValueError(_another_topology(predictor, dataset))
            points = neutral

            def truth(sample: Mapping[str, np.ndarray]) -> np.ndarray:
                vertices = np.asarray(model.vertices(Coefficients(sample["identity"], sample["expression"])))
                vertices = vertices[model.mirror] if sample["mirrored"] else vertices
                affine = sample["crop_from_model"]
                return vertices.astype(np.float64) @ affine[:, :3].T + affine[:, 3]

        mean = best_pose(data.mean_shape_mm, data.mean_landmarks).project(points)
        return cls(DenseTable(surface.name), needs, truth, points, mean, data.mean_shape_mm, n_registered)

    def add_sample(self, found: Prediction, sample: Mapping[str, np.ndarray]) -> None:
        """One sample."""
        assert found.vertices_px is not None
        true = self.truth(sample)
        landmarks = sample["landmarks_px"].astype(np.float64)
        eyes = float(np.linalg.norm(landmarks[36] - landmarks[45]))
        posed = best_pose(self.marks_mm, landmarks).project(self.neutral_mm)
        registered = self.dense.n_registered < self.n_registered
        for method, points in ((OURS, found.vertices_px), (MEAN_SHAPE, self.mean_px), (TRUE_POSE, posed)):
            self.dense.compare(method, points, true, eyes, registered=registered)

    def close(self, gathered: Gathered) -> None:
        """Put the tables beside the others."""
        self.dense.close(gathered)


def icp_name(name: str) -> str:
    """The measure's name, with what it leaves open said."""
    return f"reconstruction, ICP truth-to-predicted, {STEPS} steps at most ({name})"


def _another_topology(predictor: Predictor, dataset: ShardedDataset) -> str:
    return (
        f"{predictor.restored.path} predicts the surface of {predictor.data.model_name} "
        f"({predictor.data.model_fingerprint[:8]}…), and the labels of {dataset.manifest.name} are of "
        f"{dataset.manifest.model.name} ({dataset.manifest.model.fingerprint[:8]}…) or of another atlas: another topology, whose "
        "points are not the same; take a test set of the checkpoint's model and atlas"
    )

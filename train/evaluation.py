"""What an evaluation is: results by measure and method, with what must stand beside every figure.

Every figure stands beside two others: of the **mean shape** of the training data in the middle of the crop, which has learnt
nothing, and of the model's mean shape **placed with the true pose** (least squares to the true points), which knows where the
head looks. Beside that: the number of images, what was left out, and where the boxes came from.

Measured are photographs with their true points (:mod:`train.evaluation_photographs`), published data sets
(:mod:`train.evaluation_datasets`) and renders with their meshes (:mod:`train.evaluation_renders`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from geometry.landmarks import N_LANDMARKS, LandmarkScheme
from train.measures import Measure, Truth, summarised
from train.prediction import Predictor
from train.published import LATENCY_MS, published
from train.shape_model import best_pose

OURS, MEAN_SHAPE, TRUE_POSE = "ours", "mean shape", "mean shape, true pose"
METHODS = (OURS, MEAN_SHAPE, TRUE_POSE)

Errors = dict[str, dict[str, Float[np.ndarray, " n"]]]
"""Errors of each measure, of each method, one for a face."""


class TrainedOnTest(ValueError):
    """The checkpoint has seen what it is to be measured on."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A face for the page of predictions, in pixels of the crop."""

    name: str
    crop: UInt8[np.ndarray, "s s 3"]
    predicted_px: Float[np.ndarray, "p d"]
    true_px: Float[np.ndarray, "p e"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came out.

    document   everything as plain values: ``metrics.json``
    errors     by measure and method
    faces      in the order of the errors of the first measure
    template   mean error of u and v on the template, of DenseReg alone; NaN where no pixel fell
    """

    document: dict[str, Any]
    errors: Errors
    faces: tuple[Shown, ...] = ()
    template: Float[np.ndarray, "c c"] | None = None


@dataclass(slots=True)
class Gathered:
    """What is collected over a set."""

    errors: Errors = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)

    def add(self, measure: Measure, by_method: Mapping[str, np.ndarray], set_name: str) -> None:
        """A measure of every method, with the paper's rows beside it."""
        self.errors[measure.name] = dict(by_method)
        self.results[measure.name] = {name: summarised(measure, errors) for name, errors in by_method.items()}
        if rows := published(set_name, measure.name):
            self.results[measure.name]["published"] = [dict(row) for row in rows]


def known_points(predictor: Predictor, n_points: int, scheme: LandmarkScheme | None) -> Bool[np.ndarray, " p"]:
    """Which points of a set the system knows. Raises ValueError when they are not of one kind."""
    knows = predictor.knows
    if scheme is None:
        if n_points != len(knows):
            raise ValueError(
                f"the set has {n_points} points and the checkpoint gives {len(knows)}: say which scheme the set's points are"
            )
        return knows
    if len(scheme) != n_points:
        raise ValueError(f"the set has {n_points} points and {scheme.name} has {len(scheme)}: another scheme?")
    if len(knows) != N_LANDMARKS:
        raise ValueError(
            f"{scheme.name} is made of the 68 landmarks, and the checkpoint has {len(knows)} of another kind"
        )
    whole = np.append(knows, [False, False])  # AFLW's ear lobes are none of the 68
    return np.array([all(whole[place] for place in places) for places in scheme.members])


def in_scheme(landmarks: Float[np.ndarray, "*n p d"], scheme: LandmarkScheme | None) -> Float[np.ndarray, "*n q d"]:
    """A scheme's points of the system's; without a scheme they are the system's own."""
    return landmarks if scheme is None else scheme.of_68(landmarks)


def posed_means(
    predictor: Predictor, truth: Truth, scheme: LandmarkScheme | None, depth: bool
) -> Float[np.ndarray, "n p d"] | None:
    """The model's mean shape under the best camera for the true points; None where there is no model of these points."""
    shape = predictor.data.mean_shape_mm
    if shape is None:
        return None
    shape = in_scheme(shape, scheme)
    if len(shape) != truth.points.shape[1]:
        return None
    axes = 3 if depth else 2
    result = np.full((len(truth.points), len(shape), axes), np.nan)
    for index, (points, measured) in enumerate(zip(truth.points, truth.measured, strict=True)):
        usable = measured & np.isfinite(shape).all(axis=1)
        if usable.sum() >= 4:
            result[index] = best_pose(shape, points[:, :axes], visible=usable).project(shape)[:, :axes]
    return result


def left_out(knows: Bool[np.ndarray, " p"], n_points: int) -> tuple[str, ...]:
    """What is to be said of points that the system does not know."""
    if knows.all():
        return ()
    return (f"{int(knows.sum())} of the set's {n_points} points are measured: the system does not know the others",)


def document_of(
    predictor: Predictor, set_name: str, gathered: Gathered, *, n_images: int, notes: Sequence[str]
) -> dict[str, Any]:
    """The document of ``metrics.json``, as far as every kind of set has it."""
    restored, data = predictor.restored, predictor.data
    return {
        "format": "facefoundry evaluation",
        "format_version": 1,
        "set": set_name,
        "n_images": n_images,
        "system": restored.system.name,
        "checkpoint": {
            "name": restored.path.name,
            "sha256": restored.sha256,
            "steps": restored.total_steps,
            "n_parameters": restored.n_parameters,
            "size_mb": round(restored.size_mb, 3),
            "size_and_time_in_the_paper": LATENCY_MS.get(restored.system.name, ""),
        },
        "training_data": {
            "name": data.name,
            "version": data.version,
            "fingerprint": data.fingerprint,
            "model": data.model_name,
            "licences": list(data.licences),
        },
        "notes": list(notes),
        "results": gathered.results,
    }

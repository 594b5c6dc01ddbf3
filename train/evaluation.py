"""Trained systems measured as their papers measure them, beside the mean shape and the papers' own figures.

Three kinds of data: a published data set (its crops as they are), test photographs with their true points
(:mod:`storage.evaluation_sets`), and renders with their meshes (:mod:`storage.pose_renders`, the Florence protocol).

Every figure stands beside two others: of the **mean shape** of the training data in the middle of the crop, which has learnt
nothing, and of the model's mean shape **placed with the true pose** (least squares to the true points), which knows where the
head looks. Beside that: the number of images, what was left out, and where the boxes came from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from geometry.landmarks import N_LANDMARKS, LandmarkScheme
from geometry.morphable_model import Coefficients
from render.atlas_raster import AtlasRaster
from storage.bad_sample import BadSample
from storage.dataset import ShardedDataset
from storage.evaluation_boxes import Boxes
from storage.evaluation_sets import EvaluationSet, bare_name
from storage.pose_renders import PoseRenders
from storage.source_groups import side_of_300w
from train import metrics
from train.densereg import DenseReg
from train.measures import (
    Family,
    Measure,
    Truth,
    cross_view_errors,
    measures_of,
    summarised,
    yaw_tables,
)
from train.mesh_gcn import MeshGcn
from train.prediction import NoFace, Prediction, Predictor
from train.prnet import PRNet
from train.published import LATENCY_MS, published
from train.reconstruction import STEPS, icp, icp_error
from train.restore import Restored
from train.shape_model import best_pose

OURS, MEAN_SHAPE, TRUE_POSE = "ours", "mean shape", "mean shape, true pose"
METHODS = (OURS, MEAN_SHAPE, TRUE_POSE)
TEMPLATE_CELLS = 64
_AT_ONCE = 32

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
class _Gathered:
    """What is collected over a set."""

    errors: Errors = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)

    def add(self, measure: Measure, by_method: Mapping[str, np.ndarray], set_name: str) -> None:
        """A measure of every method, with the paper's rows beside it."""
        self.errors[measure.name] = dict(by_method)
        self.results[measure.name] = {name: summarised(measure, errors) for name, errors in by_method.items()}
        if rows := published(set_name, measure.name):
            self.results[measure.name]["published"] = [dict(row) for row in rows]


# ---------------------------------------------------------------------------------------- photographs with points


def evaluate_photographs(
    predictor: Predictor,
    test: EvaluationSet,
    boxes: Boxes,
    *,
    family: Family,
    scheme: LandmarkScheme | None = None,
    passes: int = 1,
    model: Any = None,
    progress: Callable[[int], None] = lambda n: None,
) -> Evaluation:
    """Measure on test photographs. `scheme` says which points the set has; none: the system's own list.

    With `model` (the morphable model of AFLW2000-3D's coefficients) dense points are measured too. A face whose picture cannot
    be read, or that has no box, counts as a failure. Raises TrainedOnTest, ValueError for points that the system does not
    know.
    """
    refuse_seen(predictor.restored, test)
    knows = known_points(predictor, test.n_points, scheme)
    truth = Truth(
        np.stack([face.points_px for face in test.faces]),
        np.stack([face.visible & knows for face in test.faces]),
        tuple(face.subject for face in test.faces),
    )
    _some_points(truth, test)
    n, p = truth.points.shape[:2]
    predictions: list[Prediction | None] = []
    shown: list[Shown] = []
    dense = _DenseErrors.of(predictor, model) if model is not None else None
    tracked: dict[str, np.ndarray] = {}
    lost: list[str] = []
    for face, box in zip(test.faces, boxes.boxes_px, strict=True):
        box = tracked.get(face.video, box) if face.video else box
        try:
            if box is None:
                raise NoFace(f"there is no box of {face.source_id}")
            (found,) = predictor.predict(face.read_picture(), [box], passes=passes)
        except (NoFace, BadSample) as reason:
            lost.append(f"{face.source_id}: {reason}")
            predictions.append(None)
        else:
            predictions.append(found)
            if face.video and found.found:
                tracked[face.video] = found.box_px
            if dense is not None and face.annotation is not None:
                dense.add(found, face.annotation.camera.project(dense.vertices(face.annotation.coefficients)))
            shown.append(_shown(face.source_id, found, face.points_px, scheme))
        progress(1)
    depth = truth.has_depth and any(f is not None and f.landmarks_px.shape[1] == 3 for f in predictions)
    ours = np.full((n, p, 3 if depth else 2), np.nan)
    for index, prediction in enumerate(predictions):
        if prediction is not None:
            ours[index] = _in_scheme(prediction.landmarks_px, scheme)[:, : ours.shape[2]]
    mean = _mean_shapes(predictor, boxes, n, p, scheme, depth)
    posed = _posed_means(predictor, truth, scheme, depth)
    methods = {OURS: ours, MEAN_SHAPE: mean, TRUE_POSE: posed}
    gathered = _Gathered()
    for measure in measures_of(family, n_points=p, depth=depth):
        gathered.add(
            measure,
            {name: measure.apply(points, truth) for name, points in methods.items() if points is not None},
            test.name,
        )
    first = next(iter(gathered.errors.values()))[OURS]
    if family == "3dfaw" and depth:
        _across_views(gathered, methods, truth)
    if family == "dense-fits":
        _twenty_one_points(gathered, test, ours, knows)
        if dense is not None:
            dense.close(gathered)
    yaws = {
        "fitted pose": np.array([face.yaw_deg for face in test.faces]),
        "AFLW's label": np.array([face.label_yaw_deg for face in test.faces]),
    }
    document = _document(predictor, test.name, gathered, n_images=n, notes=(*test.notes, *_left_out(knows, p)))
    document |= {
        "boxes": boxes.source,
        "passes": passes,
        "points_measured": int(knows.sum()),
        "yaw": yaw_tables(first, yaws),
        "images": [face.source_id for face in test.faces],
        "without_prediction": lost,
        "rejected": [{"source_id": r.source_id, "code": r.code, "reason": r.reason} for r in test.rejected],
    }
    if any(face.video for face in test.faces):
        document["videos"] = _by_video(first, [face.video for face in test.faces])
    return Evaluation(document, gathered.errors, tuple(shown))


def refuse_seen(restored: Restored, test: EvaluationSet) -> None:
    """Raise TrainedOnTest when a test photograph is among those that the checkpoint learnt from.

    Photographs are told by name; in the subsets of 300W, whatever lies on the challenge's test side counts too.
    """
    names = {bare_name(key): key for key in restored.data.seen if not key.startswith(("person ", "drawn "))}
    both = sorted(names[name] for name in names.keys() & test.photographs)
    if test.name.startswith("300W") and "private" not in test.name:
        both += sorted(name for name in names.values() if side_of_300w(name) == "test" and name not in both)
    if both:
        raise TrainedOnTest(
            f"{restored.path} learnt from {len(both)} photographs of {test.name} ({', '.join(both[:3])}"
            f"{', …' if len(both) > 3 else ''}; data set {restored.data.name} {restored.data.version}): measured on them it "
            "would look better than it is. Train on a data set without them (storage.views.select, or the 300W side)"
        )


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


def _in_scheme(landmarks: np.ndarray, scheme: LandmarkScheme | None) -> np.ndarray:
    return landmarks if scheme is None else scheme.of_68(landmarks)


def _some_points(truth: Truth, test: EvaluationSet) -> None:
    empty = np.flatnonzero(~truth.measured.any(axis=1))
    if len(empty):
        raise ValueError(
            f"{len(empty)} faces of {test.name} have no point that the system knows, the first is "
            f"{test.faces[int(empty[0])].source_id}: leave them out of the set"
        )


def _mean_shapes(
    predictor: Predictor, boxes: Boxes, n: int, n_points: int, scheme: LandmarkScheme | None, depth: bool
) -> np.ndarray:
    """The training data's mean shape where each crop has it: what a network says that has learnt nothing."""
    mean = predictor.data.mean_landmarks
    result = np.full((n, n_points, 3 if depth else 2), np.nan)
    for index, box in enumerate(boxes.boxes_px):
        if box is None or not len(mean):
            continue
        try:
            placed = predictor.crop_of_box(box).inverse.apply(mean)
        except NoFace:
            continue
        result[index] = _in_scheme(placed, scheme)[:, : result.shape[2]]
    return result


def _posed_means(predictor: Predictor, truth: Truth, scheme: LandmarkScheme | None, depth: bool) -> np.ndarray | None:
    """The model's mean shape under the best camera for the true points; None where there is no model of these points."""
    shape = predictor.data.mean_shape_mm
    if shape is None:
        return None
    shape = _in_scheme(shape, scheme)
    if len(shape) != truth.points.shape[1]:
        return None
    axes = 3 if depth else 2
    result = np.full((len(truth.points), len(shape), axes), np.nan)
    for index, (points, measured) in enumerate(zip(truth.points, truth.measured, strict=True)):
        usable = measured & np.isfinite(shape).all(axis=1)
        if usable.sum() >= 4:
            result[index] = best_pose(shape, points[:, :axes], visible=usable).project(shape)[:, :axes]
    return result


def _across_views(gathered: _Gathered, methods: Mapping[str, np.ndarray | None], truth: Truth) -> None:
    pairs = metrics.view_pairs(truth.subjects)
    if not len(pairs):
        return
    measure = Measure(
        "CVGTCE across views", "as CVGTCE, by the other view's truth", lambda p, t: cross_view_errors(p, t)
    )
    by_method = {name: measure.apply(points, truth) for name, points in methods.items() if points is not None}
    gathered.add(measure, by_method, "")
    gathered.results[measure.name]["n_pairs"] = len(pairs)


def _twenty_one_points(gathered: _Gathered, test: EvaluationSet, ours: np.ndarray, knows: np.ndarray) -> None:
    """AFLW's own points, visible ones alone: 19 of them, since the 68 have no ear lobes."""
    from geometry.landmarks import SCHEMES

    scheme = SCHEMES["aflw-21"]
    given = [index for index, face in enumerate(test.faces) if face.aflw_px is not None]
    whole = np.append(knows, [False, False])
    if not given or len(knows) != N_LANDMARKS:
        return
    known = np.array([all(whole[place] for place in places) for places in scheme.members])
    points = np.stack([np.asarray(test.faces[index].aflw_px) for index in given])
    visible = np.isfinite(points).all(axis=-1) & known
    enough = np.array(
        [np.ptp(p[v], axis=0).min() > 0 if v.sum() > 1 else False for p, v in zip(points, visible, strict=True)]
    )
    if not enough.any():
        return
    flat = np.concatenate([points, np.full((*points.shape[:2], 1), np.nan)], axis=-1)
    truth = Truth(flat[enough], visible[enough])
    predicted = scheme.of_68(ours[given][enough][..., :2])
    (measure,) = measures_of("sparse", n_points=int(known.sum()), depth=False)
    named = Measure(f"nme_bbox 2-D, AFLW's {int(known.sum())} of 21, visible", measure.normaliser, measure.errors)
    gathered.add(named, {OURS: named.apply(predicted, truth)}, "")


def _by_video(errors: np.ndarray, videos: Sequence[str]) -> dict[str, dict[str, float | int]]:
    found: dict[str, dict[str, float | int]] = {}
    for video in sorted({video for video in videos if video}):
        summary = metrics.summary(errors[[name == video for name in videos]])
        found[video] = {"frames": summary.n_faces, "missing": summary.n_missing, "mean_percent": 100 * summary.mean}
    return found


def _left_out(knows: np.ndarray, n_points: int) -> tuple[str, ...]:
    if knows.all():
        return ()
    return (f"{int(knows.sum())} of the set's {n_points} points are measured: the system does not know the others",)


def _shown(name: str, found: Prediction, points_px: np.ndarray, scheme: LandmarkScheme | None) -> Shown:
    into = found.crop_from_image
    predicted = into.apply(_in_scheme(found.landmarks_px, scheme)[:, :2])
    return Shown(name, found.crop, predicted, into.apply(points_px[:, :2]))


# ------------------------------------------------------------------------------------------- published data sets


def evaluate_dataset(
    predictor: Predictor, dataset: ShardedDataset, *, progress: Callable[[int], None] = lambda n: None
) -> Evaluation:
    """Measure on a published data set's own crops: landmarks, dense points, fields, parts and depth.

    Samples whose photograph, or whose drawn person, the checkpoint learnt from are left out, and counted. Raises TrainedOnTest
    when none is left, KeyError for a data set without what the system is measured by, ValueError for another model's
    topology and for crops of another size.
    """
    data = predictor.data
    wanted = [name for name in ("image", "landmarks_px") if name not in dataset.schema.names]
    if wanted:
        raise KeyError(
            f"{dataset.manifest.name} has no {' and no '.join(wanted)} to measure by; it has "
            f"{', '.join(dataset.schema.names)}: build it with these targets"
        )
    rows, n_seen = _unseen(predictor.restored, dataset)
    side = int(dataset.schema["image"].sample_shape[0])
    if side != data.crop_px:
        raise ValueError(
            f"{dataset.manifest.name} has crops of {side} px and {predictor.restored.path} was trained on {data.crop_px} px: "
            f"build the test set with --size {data.crop_px}"
        )
    dense = _DatasetDense.of(predictor, dataset)
    fields = _FieldErrors.of(predictor, dataset)
    targets = ["image", "landmarks_px", *(["source_id"] if "source_id" in dataset.schema.names else [])]
    targets += ["pose"] if "pose" in dataset.schema.names else []
    extra = sorted({*(dense.targets if dense else ()), *(fields.targets if fields else ())} - set(targets))
    predicted, true, yaw, shown = [], [], [], []
    for start in range(0, len(rows), _AT_ONCE):
        batch = dataset.read(rows[start : start + _AT_ONCE], [*targets, *extra])
        found = predictor.predict_crops(np.ascontiguousarray(batch["image"]))
        landmarks = batch["landmarks_px"].astype(np.float64)
        names = batch["source_id"].tolist() if "source_id" in batch else rows[start : start + _AT_ONCE].tolist()
        for i, one in enumerate(found):
            if landmarks.ndim == 3:
                shown.append(Shown(str(names[i]), one.crop, one.landmarks_px[:, :2], landmarks[i, :, :2]))
            sample = {name: values[i] for name, values in batch.items()}
            if dense:
                dense.add_sample(one, sample)
            if fields:
                fields.add(one, sample)
        predicted += [one.landmarks_px for one in found]
        true.append(landmarks)
        yaw.append(_yaw_of(batch, len(found)))
        progress(len(found))
    gathered = _Gathered()
    knows = np.zeros(0, dtype=bool)
    if true[0].ndim == 3:  # photographs of several faces are measured by their fields alone
        knows = _landmark_measures(predictor, gathered, np.stack(predicted), np.concatenate(true))
    if dense:
        dense.close(gathered)
    if fields:
        fields.close(gathered)
    if not gathered.results:
        raise ValueError(
            f"{dataset.manifest.name} holds photographs of several faces, which are measured by their fields, and "
            f"{predictor.system.name} predicts none: take a data set of crops"
        )
    document = _document(
        predictor, dataset.manifest.name, gathered, n_images=len(rows), notes=_left_out(knows, len(knows))
    )
    document["test_data"] = {
        "name": dataset.manifest.name,
        "version": dataset.manifest.version,
        "fingerprint": dataset.manifest.fingerprint,
        "seen_in_training_and_left_out": n_seen,
    }
    document |= {"boxes": "the data set's own crops, about the true landmarks", "points_measured": int(knows.sum())}
    if len(knows):
        first = next(iter(gathered.errors.values()))[OURS]
        document["yaw"] = yaw_tables(first, {"true pose": np.concatenate(yaw)})
    return Evaluation(document, gathered.errors, tuple(shown), None if fields is None else fields.painted.mean)


def _landmark_measures(
    predictor: Predictor, gathered: _Gathered, ours: Float[np.ndarray, "n p d"], points: Float[np.ndarray, "n p e"]
) -> Bool[np.ndarray, " p"]:
    """Every measure of landmarks in crops; which points the system knows."""
    n, p = points.shape[:2]
    knows = known_points(predictor, p, None)
    if points.shape[2] == 2:
        points = np.concatenate([points, np.full((n, p, 1), np.nan)], axis=-1)
    truth = Truth(points, np.isfinite(points[..., :2]).all(axis=-1) & knows)
    depth = truth.has_depth and ours.shape[2] == 3
    axes = 3 if depth else 2
    mean = np.broadcast_to(predictor.data.mean_landmarks[None, :, :axes], (n, p, axes))
    methods = {OURS: ours[..., :axes], MEAN_SHAPE: mean, TRUE_POSE: _posed_means(predictor, truth, None, depth)}
    kinds: tuple[Family, ...] = ("dense-fits", "300w", "3dfaw") if p == N_LANDMARKS else ("ears",)
    for measure in {m.name: m for kind in kinds for m in measures_of(kind, n_points=p, depth=depth)}.values():
        by_method = {name: measure.apply(found, truth) for name, found in methods.items() if found is not None}
        gathered.add(measure, by_method, "")
    return knows


def _unseen(restored: Restored, dataset: ShardedDataset) -> tuple[np.ndarray, int]:
    from train.training_data import photographs_and_people

    keys = photographs_and_people(dataset)
    kept = np.array([not restored.data.seen.intersection(key) for key in keys], dtype=bool)
    if not kept.any():
        raise TrainedOnTest(
            f"{restored.path} learnt from every photograph or person of {dataset.manifest.name} {dataset.manifest.version}: "
            "measured on them it would look better than it is; build a test set from other photographs"
        )
    return np.flatnonzero(kept), int((~kept).sum())


def _yaw_of(batch: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    if "pose" not in batch:
        return np.full(n, np.nan)
    return np.degrees(batch["pose"].reshape(n, -1, 7)[:, 0, 1])


# -------------------------------------------------------------------------------------------------- dense points


@dataclass(slots=True)
class _Dense:
    """Errors of dense points, of ours and of both baselines."""

    name: str
    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def measure(self, measure: str, method: str, value: float) -> None:
        self.rows.setdefault(measure, {}).setdefault(method, []).append(value)

    def compare(
        self, method: str, predicted: np.ndarray, truth: np.ndarray, interocular: float, *, registered: bool
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
                _levelled(predicted, truth), truth[thin], interocular=interocular, direction="truth-to-predicted"
            )
            self.measure(_icp_name(self.name), method, found)

    def close(self, gathered: _Gathered) -> None:
        """Put the tables beside the others."""
        for name, by_method in self.rows.items():
            unit = "√(w·h) of the dense points' box"
            if name.startswith("reconstruction"):
                unit = "distance of the outer eye corners in 3-D"
            measure = Measure(name, unit, lambda points, truth: np.zeros(0))
            gathered.add(measure, {method: np.array(values) for method, values in by_method.items()}, "")
            if rows := published("AFLW2000-3D", "reconstruction" if "ICP" in name else ""):
                gathered.results[name]["published"] = [dict(row) for row in rows]


def _levelled(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """With the truth's mean depth: a picture does not tell it."""
    return points + (0, 0, float(truth[:, 2].mean() - points[:, 2].mean()))


@dataclass(slots=True)
class _DenseErrors:
    """Dense points of AFLW2000-3D: every vertex of the fit, for systems over the same mesh."""

    dense: _Dense
    predictor: Predictor
    model: Any

    @classmethod
    def of(cls, predictor: Predictor, model: Any) -> "_DenseErrors | None":
        surface = predictor.surface
        if surface is None:
            return None
        if not isinstance(predictor.system, MeshGcn) or model.n_vertices != surface.n_points:
            raise ValueError(
                f"the model has {model.n_vertices} vertices and the checkpoint's dense points are {surface.name}: dense errors "
                "of photographs need a system over the vertices of just this model; leave --model out"
            )
        return cls(_Dense(surface.name), predictor, model)

    def vertices(self, coefficients: Coefficients) -> np.ndarray:
        return np.asarray(self.model.vertices(coefficients), dtype=np.float64)

    def add(self, found: Prediction, true_px: np.ndarray) -> None:
        assert found.vertices_px is not None
        first, second = np.asarray(self.model.landmark_vertices)[[36, 45]]
        eyes = float(np.linalg.norm(true_px[first] - true_px[second]))
        self.dense.compare(OURS, found.vertices_px, true_px, eyes, registered=True)
        neutral = self.vertices(self.model.neutral())
        marks = np.asarray(self.model.landmark_vertices)
        posed = best_pose(neutral[marks], true_px[marks]).project(neutral)
        self.dense.compare(TRUE_POSE, posed, true_px, eyes, registered=True)

    def close(self, gathered: _Gathered) -> None:
        self.dense.close(gathered)


@dataclass(slots=True)
class _DatasetDense:
    """Dense points of a data set: texels of a position map, or the model's vertices."""

    dense: _Dense
    targets: tuple[str, ...]
    truth: Callable[[Mapping[str, np.ndarray]], np.ndarray]
    neutral_mm: Float[np.ndarray, "v 3"]
    mean_px: Float[np.ndarray, "v 3"]
    marks_mm: Float[np.ndarray, "68 3"]

    @classmethod
    def of(cls, predictor: Predictor, dataset: ShardedDataset) -> "_DatasetDense | None":
        """None for systems without dense points. Raises ValueError for another model's topology, KeyError without maps."""
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
        return cls(_Dense(surface.name), needs, truth, points, mean, data.mean_shape_mm)

    def add_sample(self, found: Prediction, sample: Mapping[str, np.ndarray]) -> None:
        """One sample."""
        assert found.vertices_px is not None
        true = self.truth(sample)
        landmarks = sample["landmarks_px"].astype(np.float64)
        eyes = float(np.linalg.norm(landmarks[36] - landmarks[45]))
        posed = best_pose(self.marks_mm, landmarks).project(self.neutral_mm)
        registered = len(self.dense.rows.get(_icp_name(self.dense.name), {}).get(OURS, ())) < _MOST_REGISTERED
        for method, points in ((OURS, found.vertices_px), (MEAN_SHAPE, self.mean_px), (TRUE_POSE, posed)):
            self.dense.compare(method, points, true, eyes, registered=registered)

    def close(self, gathered: _Gathered) -> None:
        """Put the tables beside the others."""
        self.dense.close(gathered)


_REGISTERED_POINTS = 5000
"""True points that look for their nearest predicted one, spread evenly."""

_MOST_REGISTERED = 50
"""ICP is made of so many samples of a data set: it takes a hundred times as long as the other measures."""


def _icp_name(name: str) -> str:
    return f"reconstruction, ICP truth-to-predicted, {STEPS} steps at most ({name})"


def _another_topology(predictor: Predictor, dataset: ShardedDataset) -> str:
    return (
        f"{predictor.restored.path} predicts the surface of {predictor.data.model_name} "
        f"({predictor.data.model_fingerprint[:8]}…), and the labels of {dataset.manifest.name} are of "
        f"{dataset.manifest.model.name} ({dataset.manifest.model.fingerprint[:8]}…) or of another atlas: another topology, whose "
        "points are not the same; take a test set of the checkpoint's model and atlas"
    )


# -------------------------------------------------------------------------------------------------------- fields


@dataclass(slots=True)
class _FieldErrors:
    """Correspondence fields, parts and depth of DenseReg (sections 4.2 and 4.5)."""

    predictor: Predictor
    targets: tuple[str, ...]
    interocular_uv: float
    painted: metrics.TemplateErrors
    pooled: np.ndarray
    uv: dict[str, list[np.ndarray]]
    found: list[float]
    depth: list[float]

    @classmethod
    def of(cls, predictor: Predictor, dataset: ShardedDataset) -> "_FieldErrors | None":
        """None for other systems. Raises KeyError for a data set without fields."""
        system = predictor.system
        if not isinstance(system, DenseReg):
            return None
        needs = ["uv", "label"] + ["depth"] * ("depth" in system.targets)
        lacking = [name for name in needs if name not in dataset.schema.names]
        if lacking:
            raise KeyError(
                f"{dataset.manifest.name} has no {lacking[0]}, which fields are measured by; it has "
                f"{', '.join(dataset.schema.names)}: build it with --targets field"
            )
        landmarks = system.tables["landmark_uv"].numpy()
        eyes = metrics.uv_interocular(landmarks) if len(landmarks) == N_LANDMARKS else 1.0
        n_classes = 9
        return cls(
            predictor, tuple(needs), eyes, metrics.TemplateErrors(TEMPLATE_CELLS),
            np.zeros((n_classes, n_classes), dtype=np.int64), {"u": [], "v": []}, [], [],
        )  # fmt: skip

    def add(self, found: Prediction, sample: Mapping[str, np.ndarray]) -> None:
        """One sample."""
        assert found.field is not None
        label = sample["label"]
        foreground = label == 1
        if "uv" in found.field:
            uv, true = found.field["uv"].astype(np.float64), sample["uv"].astype(np.float64)
            detected = np.isfinite(uv[..., 0])
            both = detected & foreground
            self.found.append(float(both.sum() / max(foreground.sum(), 1)))
            for axis, name in enumerate("uv"):
                error = metrics.uv_errors(uv[..., axis], true[..., axis], detected=detected, foreground=foreground)
                self.uv[name].append(error / self.interocular_uv)
            self.painted.add(true[both], np.linalg.norm(uv[both] - true[both], axis=-1) / self.interocular_uv)
        true_parts = self.predictor.part_of_field(np.where(foreground[..., None], sample["uv"], np.nan))
        parts = found.field.get("part")
        if parts is None and "uv" in found.field:
            parts = self.predictor.part_of_field(found.field["uv"])
        if true_parts is not None and parts is not None:
            ignored = np.where(label == 255, 255, true_parts)
            self.pooled += metrics.confusion(parts, ignored, n_classes=len(self.pooled))
        if "depth" in found.field and "depth" in sample and foreground.any():
            self.depth.append(metrics.depth_error(found.field["depth"], sample["depth"], foreground=foreground))

    def close(self, gathered: _Gathered) -> None:
        """Put the tables beside the others. A CED of pixels is of pixels, not of images."""
        for name, errors in self.uv.items():
            pixels = np.concatenate(errors) if errors else np.zeros(0)
            if len(pixels):
                measure = Measure(
                    f"|{name} − true {name}|", "outer eye corners' distance in UV; pixels", lambda p, t: p
                )
                thin = pixels[:: max(len(pixels) // 200_000, 1)]
                gathered.errors[measure.name] = {OURS: thin}
                gathered.results[measure.name] = {
                    OURS: {
                        "normaliser": measure.normaliser,
                        "n_pixels": len(pixels),
                        "n_images": len(errors),
                        "mean_percent": 100 * float(pixels.mean()),
                        "median_percent": 100 * float(np.median(pixels)),
                    }
                }
        gathered.results["face pixels that are found"] = {OURS: {"percent": 100 * float(np.mean(self.found or [0.0]))}}
        if self.pooled.sum():
            each = metrics.part_iou(self.pooled)
            gathered.results["parts, pooled IoU"] = {
                OURS: {
                    "mean_of_8_percent": 100 * metrics.mean_part_iou(self.pooled),
                    "each_percent": [None if np.isnan(iou) else 100 * float(iou) for iou in each],
                    "note": "classes 0 (background) to 8, of confusions pooled over the set; on other pictures than the paper's",
                },
                "published": [dict(row) for row in published("parts", "iou")],
            }
        if self.depth:
            gathered.results["depth, mean absolute error of [0, 1]"] = {
                OURS: {"mean": float(np.mean(self.depth)), "n_images": len(self.depth)}
            }


# ------------------------------------------------------------------------------------------ the Florence protocol


def evaluate_renders(
    predictor: Predictor, renders: PoseRenders, *, progress: Callable[[int], None] = lambda n: None
) -> Evaluation:
    """The Florence protocol: pictures of meshes from many sides, the predicted face registered with the true mesh by ICP.

    Crops are about the true landmarks where they are known, else about all true points shrunk to a face's usual share of
    them. From where it is in the picture, with the truth's mean depth, the predicted face is registered by point-to-point
    ICP (rotation and translation), predicted to truth; the error is over the outer inter-ocular distance in 3-D, the
    predicted one's after registration where the true one is not known. Raises ValueError for a system without dense points.
    """
    surface = predictor.surface
    if surface is None:
        raise ValueError(
            f"{predictor.system.name} predicts no surface: reconstruction is measured on prnet and mesh_gcn; give photographs "
            "with points for landmarks"
        )
    errors, yaws, names = [], [], []
    landmark_errors: list[float] = []
    n_borrowed = 0
    for sample in renders:
        true = sample.vertices_px.astype(np.float64)
        known = np.isfinite(sample.landmarks_px).all()
        plane = sample.landmarks_px[:, :2] if known else _face_share(true[:, :2])
        box = np.concatenate([plane.min(axis=0), plane.max(axis=0)])
        (found,) = predictor.predict(sample.image, [box])
        assert found.vertices_px is not None
        face = _levelled(found.vertices_px, sample.landmarks_px if known else true)
        registration = icp(face, true)
        if known:
            eyes = float(np.linalg.norm(sample.landmarks_px[36] - sample.landmarks_px[45]))
            landmark_errors.append(
                float(metrics.nme_bbox(found.landmarks_px[None, :, :2], sample.landmarks_px[None, :, :2])[0])
            )
        else:
            moved = registration.apply(found.landmarks_px[[36, 45]])
            eyes, n_borrowed = float(np.linalg.norm(moved[0] - moved[1])), n_borrowed + 1
        errors.append(float(registration.distances.mean()) / eyes)
        yaws.append(sample.yaw_deg)
        names.append(sample.source_id)
        progress(1)
    gathered = _Gathered()
    unit = "distance of the outer eye corners in 3-D"
    measure = Measure("reconstruction", unit, lambda points, truth: np.zeros(0))
    gathered.add(measure, {OURS: np.array(errors)}, "Florence")
    if landmark_errors:
        marks = Measure("nme_bbox 2-D", "√(w·h) of the box of the 68 true points", lambda points, truth: np.zeros(0))
        gathered.add(marks, {OURS: np.array(landmark_errors)}, "")
    notes = (
        f"ICP point to point, rotation and translation, predicted to truth, {STEPS} steps at most, over {surface.name}",
        "the paper measures 19 K points of a region that nobody published: beside, not against",
        *(
            (f"{n_borrowed} pictures have no true landmarks: the predicted eyes' distance is the unit",)
            if n_borrowed
            else ()
        ),
    )
    document = _document(predictor, renders.folder.protocol, gathered, n_images=len(errors), notes=notes)
    by_yaw: dict[str, list[float]] = {}
    for yaw, error in zip(yaws, errors, strict=True):
        by_yaw.setdefault(f"{yaw:+.0f}", []).append(error)
    document["boxes"] = "the true landmarks, or all true points where there are none"
    document["by_yaw_percent"] = {yaw: 100 * float(np.mean(values)) for yaw, values in by_yaw.items()}
    document["images"] = names
    return Evaluation(document, gathered.errors)


_SHARE_OF_SCAN = 0.75
"""A landmark box's side over that of a face scan's points (Florence's are cut behind the ears)."""


def _face_share(points: np.ndarray) -> np.ndarray:
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return middle + _SHARE_OF_SCAN * (points - middle)


# ------------------------------------------------------------------------------------------------------ document


def _document(
    predictor: Predictor, set_name: str, gathered: _Gathered, *, n_images: int, notes: Sequence[str]
) -> dict[str, Any]:
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

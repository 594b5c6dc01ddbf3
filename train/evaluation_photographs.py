"""Systems measured on test photographs with their true points (:mod:`storage.evaluation_sets`), as their papers measure them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from geometry.landmarks import N_LANDMARKS, SCHEMES, LandmarkScheme
from storage.bad_sample import BadSample
from storage.evaluation_boxes import Boxes
from storage.evaluation_sets import EvaluationSet, bare_name
from storage.source_groups import side_of_300w
from train import metrics
from train.dense_errors import PhotographDense
from train.evaluation import (
    MEAN_SHAPE,
    OURS,
    TRUE_POSE,
    Evaluation,
    Gathered,
    Shown,
    TrainedOnTest,
    document_of,
    in_scheme,
    known_points,
    left_out,
    posed_means,
)
from train.measures import Family, Measure, Truth, cross_view_errors, measures_of, yaw_tables
from train.prediction import NoFace, Prediction, Predictor
from train.restore import Restored


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
    dense = PhotographDense.of(predictor, model) if model is not None else None
    tracked: dict[str, np.ndarray] = {}
    lost: list[str] = []
    for face, given in zip(test.faces, boxes.boxes_px, strict=True):
        box = tracked.get(face.video, given) if face.video else given
        found: Prediction | None = None
        try:
            if box is None:
                raise NoFace(f"there is no box of {face.source_id}")
            (found,) = predictor.predict(face.read_picture(), [box], passes=passes)
        except (NoFace, BadSample) as reason:
            lost.append(f"{face.source_id}: {reason}")
        else:
            if face.video and found.found:
                tracked[face.video] = found.box_px
            shown.append(_shown(face.source_id, found, face.points_px, scheme))
        predictions.append(found)
        if dense is not None and face.annotation is not None:
            dense.add(found, box, face.annotation.camera.project(dense.vertices(face.annotation.coefficients)))
        progress(1)
    depth = truth.has_depth and any(f is not None and f.landmarks_px.shape[1] == 3 for f in predictions)
    ours = np.full((n, p, 3 if depth else 2), np.nan)
    for index, prediction in enumerate(predictions):
        if prediction is not None:
            ours[index] = in_scheme(prediction.landmarks_px, scheme)[:, : ours.shape[2]]
    mean = _mean_shapes(predictor, boxes, n, p, scheme, depth)
    posed = posed_means(predictor, truth, scheme, depth)
    methods = {OURS: ours, MEAN_SHAPE: mean, TRUE_POSE: posed}
    gathered = Gathered()
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
        _twenty_one_points(gathered, test, methods, knows)
        if dense is not None:
            dense.close(gathered)
    yaws = {
        "fitted pose": np.array([face.yaw_deg for face in test.faces]),
        "AFLW's label": np.array([face.label_yaw_deg for face in test.faces]),
    }
    document = document_of(predictor, test.name, gathered, n_images=n, notes=(*test.notes, *left_out(knows, p)))
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
        result[index] = in_scheme(placed, scheme)[:, : result.shape[2]]
    return result


def _across_views(gathered: Gathered, methods: Mapping[str, np.ndarray | None], truth: Truth) -> None:
    pairs = metrics.view_pairs(truth.subjects)
    if not len(pairs):
        return
    measure = Measure(
        "CVGTCE across views", "as CVGTCE, by the other view's truth", lambda p, t: cross_view_errors(p, t)
    )
    by_method = {name: measure.apply(points, truth) for name, points in methods.items() if points is not None}
    gathered.add(measure, by_method, "")
    gathered.results[measure.name]["n_pairs"] = len(pairs)


def _twenty_one_points(
    gathered: Gathered, test: EvaluationSet, methods: Mapping[str, np.ndarray | None], knows: np.ndarray
) -> None:
    """AFLW's own points, visible ones alone: 19 of them, since the 68 have no ear lobes."""
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
    (measure,) = measures_of("sparse", n_points=int(known.sum()), depth=False)
    named = Measure(f"nme_bbox 2-D, AFLW's {int(known.sum())} of 21, visible", measure.normaliser, measure.errors)
    by_method = {
        method: named.apply(scheme.of_68(landmarks[given][enough][..., :2]), truth)
        for method, landmarks in methods.items()
        if landmarks is not None
    }
    gathered.add(named, by_method, "")


def _by_video(errors: np.ndarray, videos: Sequence[str]) -> dict[str, dict[str, float | int]]:
    found: dict[str, dict[str, float | int]] = {}
    for video in sorted({video for video in videos if video}):
        summary = metrics.summary(errors[[name == video for name in videos]])
        found[video] = {"frames": summary.n_faces, "missing": summary.n_missing, "mean_percent": 100 * summary.mean}
    return found


def _shown(name: str, found: Prediction, points_px: np.ndarray, scheme: LandmarkScheme | None) -> Shown:
    into = found.crop_from_image
    predicted = into.apply(in_scheme(found.landmarks_px, scheme)[:, :2])
    return Shown(name, found.crop, predicted, into.apply(points_px[:, :2]))

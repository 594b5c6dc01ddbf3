"""The Florence protocol: systems measured on renders of meshes from many sides (:mod:`storage.pose_renders`)."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from storage.pose_renders import PoseRenders
from train import metrics
from train.dense_errors import levelled
from train.evaluation import MEAN_SHAPE, OURS, TRUE_POSE, Evaluation, Gathered, document_of
from train.measures import Measure
from train.prediction import Predictor
from train.reconstruction import STEPS, icp
from train.shape_model import best_pose

OUTER_CORNERS = [36, 45]
_SHARE_OF_SCAN = 0.75
"""A landmark box's side over that of a face scan's points (Florence's are cut behind the ears)."""

Points = Float[np.ndarray, "_ 3"]


def evaluate_renders(
    predictor: Predictor, renders: PoseRenders, *, progress: Callable[[int], None] = lambda n: None
) -> Evaluation:
    """The Florence protocol: pictures of meshes from many sides, the predicted face registered with the true mesh by ICP.

    Crops are about the true landmarks where they are known, else about all true points shrunk to a face's usual share of
    them. From where it is in the picture, with the truth's mean depth, the predicted face is registered by point-to-point
    ICP (rotation and translation), predicted to truth; the error is over the outer inter-ocular distance in 3-D, the
    predicted one's after registration where the true one is not known. The same is done with the model's mean face in the
    middle of the crop, and under the true landmarks' pose where these are known. Raises ValueError for a system without
    dense points.
    """
    surface = predictor.surface
    if surface is None:
        raise ValueError(
            f"{predictor.system.name} predicts no surface: reconstruction is measured on prnet and mesh_gcn; give photographs "
            "with points for landmarks"
        )
    errors: dict[str, list[float]] = {}
    marks: dict[str, list[float]] = {}
    yaws, names = [], []
    n_borrowed = 0
    for sample in renders:
        true = sample.vertices_px.astype(np.float64)
        known = bool(np.isfinite(sample.landmarks_px).all())
        landmarks = sample.landmarks_px.astype(np.float64)
        plane = landmarks[:, :2] if known else _face_share(true[:, :2])
        box = np.concatenate([plane.min(axis=0), plane.max(axis=0)])
        (found,) = predictor.predict(sample.image, [box])
        assert found.vertices_px is not None
        faces: dict[str, tuple[Points, Points]] = {OURS: (found.vertices_px, found.landmarks_px)}
        faces |= _mean_faces(predictor, box, landmarks if known else None)
        for method, (vertices, its_landmarks) in faces.items():
            registration = icp(levelled(vertices, landmarks if known else true), true)
            corners = landmarks[OUTER_CORNERS] if known else registration.apply(its_landmarks[OUTER_CORNERS])
            eyes = float(np.linalg.norm(corners[0] - corners[1]))
            errors.setdefault(method, []).append(float(registration.distances.mean()) / eyes)
            if known:
                off = metrics.nme_bbox(its_landmarks[None, :, :2], landmarks[None, :, :2])
                marks.setdefault(method, []).append(float(off[0]))
        n_borrowed += not known
        yaws.append(sample.yaw_deg)
        names.append(sample.source_id)
        progress(1)
    gathered = _gathered(errors, marks)
    notes = (
        f"ICP point to point, rotation and translation, predicted to truth, {STEPS} steps at most, over {surface.name}",
        "the paper measures 19 K points of a region that nobody published: beside, not against",
        *(() if MEAN_SHAPE in errors else ("the checkpoint does not hold the model's mean face: it has no baseline",)),
        *(
            (f"{n_borrowed} pictures have no true landmarks: the predicted eyes' distance is the unit",)
            if n_borrowed
            else ()
        ),
    )
    document = document_of(predictor, renders.folder.protocol, gathered, n_images=len(names), notes=notes)
    by_yaw: dict[str, list[float]] = {}
    for yaw, error in zip(yaws, errors.get(OURS, ()), strict=True):
        by_yaw.setdefault(f"{yaw:+.0f}", []).append(error)
    document["boxes"] = "the true landmarks, or all true points where there are none"
    document["by_yaw_percent"] = {yaw: 100 * float(np.mean(values)) for yaw, values in by_yaw.items()}
    document["images"] = names
    return Evaluation(document, gathered.errors)


def _mean_faces(
    predictor: Predictor, box_px: Float[np.ndarray, "4"], landmarks_px: Points | None
) -> dict[str, tuple[Points, Points]]:
    """The mean face's dense points and landmarks in the picture: in the crop's middle, and under the true pose."""
    data, neutral = predictor.data, predictor.neutral_mm
    if neutral is None or data.mean_shape_mm is None:
        return {}
    back = predictor.crop_of_box(box_px).inverse
    middle = best_pose(data.mean_shape_mm, data.mean_landmarks)
    faces = {MEAN_SHAPE: (back.apply(middle.project(neutral)), back.apply(middle.project(data.mean_shape_mm)))}
    if landmarks_px is not None:
        posed = best_pose(data.mean_shape_mm, landmarks_px)
        faces[TRUE_POSE] = (posed.project(neutral), posed.project(data.mean_shape_mm))
    return faces


def _gathered(errors: dict[str, list[float]], marks: dict[str, list[float]]) -> Gathered:
    gathered = Gathered()
    eyes, box = "distance of the outer eye corners in 3-D", "√(w·h) of the box of the 68 true points"
    for name, unit, by_method, set_name in (
        ("reconstruction", eyes, errors, "Florence"),
        ("nme_bbox 2-D", box, marks, ""),
    ):
        if by_method:
            measure = Measure(name, unit, lambda points, truth: np.zeros(0))
            gathered.add(measure, {method: np.array(values) for method, values in by_method.items()}, set_name)
    return gathered


def _face_share(points: np.ndarray) -> np.ndarray:
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return middle + _SHARE_OF_SCAN * (points - middle)

"""Systems measured on a published data set's own crops: landmarks, dense points, fields, parts and depth."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float

from geometry.landmarks import N_LANDMARKS
from storage.dataset import ShardedDataset
from train.dense_errors import REGISTERED, DatasetDense
from train.evaluation import (
    MEAN_SHAPE,
    OURS,
    TRUE_POSE,
    Evaluation,
    Gathered,
    Shown,
    TrainedOnTest,
    document_of,
    known_points,
    left_out,
    posed_means,
)
from train.field_errors import FieldErrors
from train.measures import Family, Truth, measures_of, yaw_tables
from train.photograph_crops import holds_photographs
from train.prediction import Predictor
from train.restore import Restored

_AT_ONCE = 32


def evaluate_dataset(
    predictor: Predictor,
    dataset: ShardedDataset,
    *,
    n_registered: int = REGISTERED,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measure on a published data set's own crops: landmarks, dense points, fields, parts and depth.

    Reconstruction by ICP is measured on the first `n_registered` samples. Samples whose photograph, or whose drawn person, the
    checkpoint learnt from are left out, and counted. Raises TrainedOnTest when none is left, KeyError for a data set without
    what the system is measured by, ValueError for another model's topology, crops of another size and whole photographs.
    """
    data = predictor.data
    wanted = [name for name in ("image", "landmarks_px") if name not in dataset.schema.names]
    if wanted:
        raise KeyError(
            f"{dataset.manifest.name} has no {' and no '.join(wanted)} to measure by; it has "
            f"{', '.join(dataset.schema.names)}: build it with these targets"
        )
    if holds_photographs(dataset) and data.margin is not None:
        raise ValueError(
            f"{dataset.manifest.name} holds whole photographs and {predictor.restored.path} was trained on crops: measure it on "
            "a data set of crops, or on a folder of photographs by its --protocol"
        )
    rows, n_seen = _unseen(predictor.restored, dataset)
    side = int(dataset.schema["image"].sample_shape[0])
    if side != data.crop_px:
        raise ValueError(
            f"{dataset.manifest.name} has crops of {side} px and {predictor.restored.path} was trained on {data.crop_px} px: "
            f"build the test set with --size {data.crop_px}"
        )
    dense = DatasetDense.of(predictor, dataset, n_registered=n_registered)
    fields = FieldErrors.of(predictor, dataset)
    targets = ["image", "landmarks_px", *(["source_id"] if "source_id" in dataset.schema.names else [])]
    targets += ["pose"] if "pose" in dataset.schema.names else []
    extra = sorted({*(dense.targets if dense else ()), *(fields.targets if fields else ())} - set(targets))
    predicted, true, yaw, shown = [], [], [], []
    progress(0, len(rows))
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
            progress(start + i + 1, len(rows))
        predicted += [one.landmarks_px for one in found]
        true.append(landmarks)
        yaw.append(_yaw_of(batch, len(found)))
    gathered = Gathered()
    knows = np.zeros(0, dtype=bool)
    # Photographs of several faces are measured by their fields alone, and networks of parts give no landmarks.
    if true[0].ndim == 3 and predictor.gives_landmarks:
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
    document = document_of(
        predictor, dataset.manifest.name, gathered, n_images=len(rows), notes=left_out(knows, len(knows))
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
    predictor: Predictor, gathered: Gathered, ours: Float[np.ndarray, "n p d"], points: Float[np.ndarray, "n p e"]
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
    methods = {OURS: ours[..., :axes], MEAN_SHAPE: mean, TRUE_POSE: posed_means(predictor, truth, None, depth)}
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

"""Metrics of face alignment, each with its normaliser in its name. Pure functions of NumPy arrays.

Errors are fractions (multiply by 100 to print percents), one for each face. A prediction that is missing is given as NaN: its
error is infinite, so that it counts as a failure and is never left out silently (:func:`summary`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from geometry.frames import texel_from_uv

ZAlignment = Literal["none", "mean", "min"]

YAW_BINS = (30.0, 60.0)
"""Limits in degrees of the three bins |yaw| ≤ 30, (30, 60], > 60 (Zhu et al. 2016)."""

LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)  # of the 68 iBUG points, as they appear in the picture
OUTER_CORNERS = (36, 45)

# ------------------------------------------------------------------------------------------------- normalisers


def box_size(
    landmarks: Float[np.ndarray, "n p d"], *, visible: Bool[np.ndarray, "n p"] | None = None
) -> Float[np.ndarray, " n"]:
    """√(w·h) of the tight box of each face's true landmarks, in the picture plane; the visible ones where given."""
    width, height = _box_sides(landmarks, visible)
    return np.sqrt(width * height)


def box_diagonal(landmarks: Float[np.ndarray, "n p d"]) -> Float[np.ndarray, " n"]:
    """√(w² + h²) of the same box (Menpo's normaliser)."""
    return np.hypot(*_box_sides(landmarks, None))


def box_mean_edge(landmarks: Float[np.ndarray, "n p d"]) -> Float[np.ndarray, " n"]:
    """(w + h)/2 of the same box (DenseReg's ears, section 4.6)."""
    width, height = _box_sides(landmarks, None)
    return (width + height) / 2


def interocular_distance(landmarks: Float[np.ndarray, "n 68 d"]) -> Float[np.ndarray, " n"]:
    """Distance of the outer eye corners, points 37 and 46 counted from one; in 3-D where z is given."""
    return np.linalg.norm(landmarks[:, OUTER_CORNERS[0]] - landmarks[:, OUTER_CORNERS[1]], axis=-1)


def interpupil_distance(landmarks: Float[np.ndarray, "n 68 d"]) -> Float[np.ndarray, " n"]:
    """Distance of the eyes' centres, each the mean of six points."""
    return np.linalg.norm(landmarks[:, LEFT_EYE].mean(axis=1) - landmarks[:, RIGHT_EYE].mean(axis=1), axis=-1)


def _box_sides(
    landmarks: Float[np.ndarray, "n p d"], visible: Bool[np.ndarray, "n p"] | None
) -> tuple[np.ndarray, np.ndarray]:
    plane = landmarks[..., :2].astype(np.float64)
    shown = np.ones(plane.shape[:2], dtype=bool) if visible is None else visible
    low = np.where(shown[..., None], plane, np.inf).min(axis=1)
    high = np.where(shown[..., None], plane, -np.inf).max(axis=1)
    sides = high - low
    if not (sides > 0).all():
        face = int(np.flatnonzero(~(sides > 0).all(axis=1))[0])
        raise ValueError(f"the true landmarks of face {face} span no box: at least two visible ones must differ")
    return sides[:, 0], sides[:, 1]


# ------------------------------------------------------------------------------------------------ point errors


def point_distances(
    predicted: Float[np.ndarray, "n p d"], truth: Float[np.ndarray, "n p d"], *, z: ZAlignment = "none"
) -> Float[np.ndarray, "n p"]:
    """Distances, infinite where a prediction is NaN. In 3-D `z` says what is taken off both z first.

    An orthographic picture tells z only up to an offset: published 3-D errors took off the mean ("mean").
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"predictions {predicted.shape} and truth {truth.shape} are not of one shape")
    if not np.isfinite(truth).all():
        raise ValueError("the truth holds NaN; leave these points out by `visible`, with any number in their place")
    predicted, truth = predicted.astype(np.float64), truth.astype(np.float64)
    if truth.shape[-1] == 3 and z != "none":
        level: Callable[[np.ndarray], np.ndarray] = (
            (lambda a: a[..., 2:].mean(axis=1, keepdims=True))
            if z == "mean"
            else (lambda a: a[..., 2:].min(axis=1, keepdims=True))
        )
        predicted, truth = predicted.copy(), truth.copy()
        predicted[..., 2:] -= level(predicted)
        truth[..., 2:] -= level(truth)
    distances = np.linalg.norm(predicted - truth, axis=-1)
    return np.where(np.isfinite(distances), distances, np.inf)


def normalised_error(
    predicted: Float[np.ndarray, "n p d"],
    truth: Float[np.ndarray, "n p d"],
    normaliser: Float[np.ndarray, " n"],
    *,
    visible: Bool[np.ndarray, "n p"] | None = None,
    z: ZAlignment = "none",
    root_mean_square: bool = False,
) -> Float[np.ndarray, " n"]:
    """Mean (or root mean square, as DenseReg's) distance of each face's points over its normaliser."""
    distances = point_distances(predicted, truth, z=z)
    shown = np.ones(distances.shape, dtype=bool) if visible is None else visible
    if not shown.any(axis=1).all():
        face = int(np.flatnonzero(~shown.any(axis=1))[0])
        raise ValueError(f"face {face} has no visible point to measure; leave it out")
    used = np.where(shown, distances**2 if root_mean_square else distances, 0)
    mean = used.sum(axis=1) / shown.sum(axis=1)
    return (np.sqrt(mean) if root_mean_square else mean) / normaliser


def nme_bbox(
    predicted: Float[np.ndarray, "n p d"],
    truth: Float[np.ndarray, "n p d"],
    *,
    visible: Bool[np.ndarray, "n p"] | None = None,
    z: ZAlignment = "none",
    box_of: Float[np.ndarray, "n q e"] | None = None,
) -> Float[np.ndarray, " n"]:
    """Mean distance over √(w·h) of the true landmarks' box (3DDFA's and PRNet's NME).

    The box is of `truth` itself (its visible points), or of other true points, `box_of`: dense points are mostly divided by
    the box of the dense points, so say which.
    """
    size = box_size(truth, visible=visible) if box_of is None else box_size(box_of)
    return normalised_error(predicted, truth, size, visible=visible, z=z)


def nme_interocular(
    predicted: Float[np.ndarray, "n 68 d"], truth: Float[np.ndarray, "n 68 d"]
) -> Float[np.ndarray, " n"]:
    """Mean distance over that of the outer eye corners. Not for profile faces, where it goes to zero."""
    return normalised_error(predicted, truth, interocular_distance(truth[..., :2]))


def nme_interpupil(
    predicted: Float[np.ndarray, "n 68 d"], truth: Float[np.ndarray, "n 68 d"]
) -> Float[np.ndarray, " n"]:
    """Mean distance over that of the eye centres."""
    return normalised_error(predicted, truth, interpupil_distance(truth[..., :2]))


def nme_diagonal(predicted: Float[np.ndarray, "n p d"], truth: Float[np.ndarray, "n p d"]) -> Float[np.ndarray, " n"]:
    """Mean distance over the diagonal of the true landmarks' box."""
    return normalised_error(predicted, truth, box_diagonal(truth))


# --------------------------------------------------------------------------------------------------- summaries


def auc(errors: Float[np.ndarray, " n"], threshold: float) -> float:
    """Area under the cumulative error distribution up to `threshold`, over `threshold`: exact, no grid.

    Equal to the mean of max(0, 1 − e/threshold).
    """
    _check_errors(errors)
    return float(np.maximum(0, 1 - errors / threshold).mean())


def failure_rate(errors: Float[np.ndarray, " n"], threshold: float) -> float:
    """Share of faces with an error of `threshold` or more (Kowalski et al. 2017, section 4)."""
    _check_errors(errors)
    return float((errors >= threshold).mean())


def ced(errors: Float[np.ndarray, " n"], thresholds: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Cumulative error distribution: the share of faces with an error of at most each threshold."""
    _check_errors(errors)
    return np.searchsorted(np.sort(errors), thresholds, side="right") / len(errors)


@dataclass(frozen=True, slots=True)
class Summary:
    """One number for a set of faces is never enough: how many there were, and how many had no prediction."""

    n_faces: int
    n_missing: int
    mean: float  # of the faces that have a prediction; NaN where none has
    median: float  # of all faces, the missing ones counted as infinitely wrong


def summary(errors: Float[np.ndarray, " n"]) -> Summary:
    """Mean over predictions, with the number of faces that have none beside it."""
    _check_errors(errors)
    found = np.isfinite(errors)
    mean = float(errors[found].mean()) if found.any() else float("nan")
    # Of an even number the higher middle: half-way between a number and infinity lies nothing.
    return Summary(len(errors), int((~found).sum()), mean, float(np.sort(errors)[len(errors) // 2]))


def yaw_bin(yaw_degrees: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """0, 1, 2 for |yaw| ≤ 30, (30, 60], > 60; angles of more than a half turn are wrapped first.

    Raises ValueError for an unknown yaw: NaN would be counted among the profiles.
    """
    if np.isnan(yaw_degrees).any():
        raise ValueError(
            f"the yaw of {int(np.isnan(yaw_degrees).sum())} faces is unknown: leave them out of the bins, and say so"
        )
    wrapped = np.abs((yaw_degrees + 180) % 360 - 180)
    return np.digitize(wrapped, YAW_BINS, right=True)


def by_yaw(errors: Float[np.ndarray, " n"], yaw_degrees: Float[np.ndarray, " n"]) -> dict[str, float | int]:
    """Means of the three bins, their mean, the mean over images, and the number of faces of each.

    "A mean" in print is often the mean of the bins: both are given, each under its name. Missing predictions are left out of
    means and counted under `n_missing`.
    """
    bins = yaw_bin(yaw_degrees)
    names = ("0-30", "30-60", "60-90")
    result: dict[str, float | int] = {}
    means = []
    for k, name in enumerate(names):
        chosen = errors[bins == k]
        means.append(summary(chosen).mean if len(chosen) else float("nan"))
        result[name], result[f"n {name}"] = means[-1], len(chosen)
    whole = summary(errors)
    return result | {"mean of bins": float(np.mean(means)), "mean of images": whole.mean, "n_missing": whole.n_missing}


def balanced_subset(yaw_degrees: Float[np.ndarray, " n"], *, per_bin: int, seed: int) -> Int[np.ndarray, " m"]:
    """Indices of `per_bin` faces of each yaw bin, ascending: PRNet's 696 = 3 · 232, Meng's 915 = 3 · 305.

    Which faces the papers drew is unknown and moves the mean by about 0.1 points of NME: publish the list. The two sources
    of yaw (the fitted pose, AFLW's label) give different bins and so different subsets: name the one that was used.
    """
    bins = yaw_bin(yaw_degrees)
    rng = np.random.default_rng(seed)
    chosen = []
    for k in range(3):
        members = np.flatnonzero(bins == k)
        if len(members) < per_bin:
            raise ValueError(f"yaw bin {k} has {len(members)} faces and {per_bin} were asked for")
        chosen.append(rng.choice(members, per_bin, replace=False))
    return np.sort(np.concatenate(chosen))


def _check_errors(errors: np.ndarray) -> None:
    if not len(errors):
        raise ValueError("no faces: nothing to summarise")
    if np.isnan(errors).any() or (errors < 0).any():
        raise ValueError("errors are numbers from 0 up; a missing prediction has the error infinity")


# -------------------------------------------------------------------------------------------------- 3DFAW

AXES_3DFAW: Mapping[str, tuple[int, ...]] = {"xyz": (0, 1, 2), "xy": (0, 1), "x": (0,), "y": (1,), "z": (2,)}
"""What Bulat and Tzimiropoulos (2016, table 3) measure on."""


def gte(
    predicted: Float[np.ndarray, "n p d"],
    truth: Float[np.ndarray, "n p e"],
    interocular: Float[np.ndarray, " n"],
    *,
    axes: str = "xyz",
    visible: Bool[np.ndarray, "n p"] | None = None,
) -> Float[np.ndarray, " n"]:
    """Ground Truth Error: mean distance over the inter-ocular distance, without any alignment (equation 2).

    `axes` is a key of :data:`AXES_3DFAW`, and x and y are enough where z is not asked for. The `visible` points alone are
    measured, where given.
    """
    chosen = list(AXES_3DFAW[axes])
    return normalised_error(predicted[..., chosen], truth[..., chosen], interocular, visible=visible)


def cvgtce(
    predicted: Float[np.ndarray, "n p 3"], truth: Float[np.ndarray, "n p 3"], interocular: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Cross View Ground Truth Consistency Error: the same after the best similarity of each face (equations 3 and 4).

    Give another view's truth of the same subject to measure consistency across views. No mirroring: a mirrored face keeps its
    error.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"predictions {predicted.shape} and truth {truth.shape} are not of one shape")
    aligned = np.full(predicted.shape, np.nan)
    for i, (points, target) in enumerate(zip(predicted, truth, strict=True)):
        if np.isfinite(points).all():
            aligned[i] = moved_onto(points, target)
    return normalised_error(aligned, truth, interocular)


def view_pairs(subjects: Sequence[str]) -> Int[np.ndarray, "m 2"]:
    """Ordered pairs (a, b) of different faces of one subject: a's prediction is held against b's truth (:func:`cvgtce`).

    An empty name is nobody's.
    """
    members: dict[str, list[int]] = {}
    for face, subject in enumerate(subjects):
        if subject:
            members.setdefault(subject, []).append(face)
    pairs = [(a, b) for faces in members.values() for a in faces for b in faces if a != b]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def best_similarity(
    source: Float[np.ndarray, "p d"], target: Float[np.ndarray, "p d"]
) -> tuple[float, Float[np.ndarray, "d d"], Float[np.ndarray, " d"]]:
    """Scale, rotation with determinant +1 and translation that bring `source` nearest to `target`.

    Umeyama 1991, with the correction that keeps rotations proper. Raises ValueError for a source that is one point.
    """
    from_mean, to_mean = source.mean(axis=0), target.mean(axis=0)
    p, q = (source - from_mean).astype(np.float64), (target - to_mean).astype(np.float64)
    spread = float((p * p).sum())
    if not spread > 0:
        raise ValueError("points that coincide have no similarity to others")
    u, stretches, vt = np.linalg.svd(q.T @ p)
    signs = np.ones(len(stretches))
    signs[-1] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = u @ np.diag(signs) @ vt
    scale = float((stretches * signs).sum() / spread)
    return scale, rotation, to_mean - scale * rotation @ from_mean


def moved_onto(source: Float[np.ndarray, "p d"], target: Float[np.ndarray, "p d"]) -> Float[np.ndarray, "p d"]:
    """`source` after its :func:`best_similarity` to `target`."""
    scale, rotation, translation = best_similarity(source, target)
    return scale * source @ rotation.T + translation


# ------------------------------------------------------------------------------------------------ DenseReg


def uv_errors(
    predicted: Float[np.ndarray, "*n"],
    truth: Float[np.ndarray, "*n"],
    *,
    detected: Bool[np.ndarray, "*n"],
    foreground: Bool[np.ndarray, "*n"],
) -> Float[np.ndarray, " m"]:
    """|û − u| at the pixels that are face and were found to be (section 3): the segmentation's errors are kept apart.

    Divide by the inter-ocular distance in UV for the paper's CED.
    """
    both = detected & foreground
    return np.abs(predicted[both].astype(np.float64) - truth[both])


def uv_interocular(landmarks_uv: Float[np.ndarray, "68 2"]) -> float:
    """Distance of the outer eye corners on the template, which errors of u and v are divided by."""
    return float(np.linalg.norm(landmarks_uv[OUTER_CORNERS[0]] - landmarks_uv[OUTER_CORNERS[1]]))


@dataclass(slots=True)
class TemplateErrors:
    """Errors of u and v gathered where they are on the template: the paper's picture of where a network is wrong.

    Add the pixels of one picture after another; a cell without a pixel is NaN.
    """

    size: int
    _total: Float[np.ndarray, "s s"] = field(init=False)
    _count: Int[np.ndarray, "s s"] = field(init=False)

    def __post_init__(self) -> None:
        self._total, self._count = np.zeros((self.size, self.size)), np.zeros((self.size, self.size), dtype=np.int64)

    def add(self, true_uv: Float[np.ndarray, "m 2"], errors: Float[np.ndarray, " m"]) -> None:
        """Pixels by their true coordinates in [0, 1]."""
        column, row = np.rint(texel_from_uv(true_uv.astype(np.float64), self.size)).astype(np.int64).T
        if len(row) and (min(row.min(), column.min()) < 0 or max(row.max(), column.max()) >= self.size):
            raise ValueError("true coordinates outside [0, 1] have no place on the template")
        np.add.at(self._total, (row, column), errors)
        np.add.at(self._count, (row, column), 1)

    @property
    def mean(self) -> Float[np.ndarray, "s s"]:
        """Mean error of each cell, rows downward (v = 1 first), as an atlas is laid out."""
        return np.divide(self._total, self._count, out=np.full(self._total.shape, np.nan), where=self._count > 0)


def confusion(
    predicted: Integer[np.ndarray, "*n"], truth: Integer[np.ndarray, "*n"], *, n_classes: int, ignore: int = 255
) -> Int[np.ndarray, "c c"]:
    """How many pixels of each true class (row) were given each class (column); `ignore` pixels of the truth are left out."""
    counted = truth != ignore
    pairs = truth[counted].astype(np.int64) * n_classes + predicted[counted]
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < n_classes**2 and predicted[counted].max() < n_classes):
        raise ValueError(f"a class lies outside 0 … {n_classes - 1}")
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def part_iou(pooled: Int[np.ndarray, "c c"]) -> Float[np.ndarray, " c"]:
    """Intersection over union of each class of a confusion matrix pooled over the whole set (table 1).

    NaN for a class that is nowhere, neither in the truth nor predicted.
    """
    hits = np.diag(pooled).astype(np.float64)
    union = pooled.sum(axis=0) + pooled.sum(axis=1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_part_iou(pooled: Int[np.ndarray, "c c"], *, parts: Sequence[int] = tuple(range(1, 9))) -> float:
    """The mean over DenseReg's eight parts, "other" among them and the background not; classes that are nowhere left out."""
    chosen = part_iou(pooled)[list(parts)]
    known = np.isfinite(chosen)
    return float(chosen[known].mean()) if known.any() else float("nan")


def depth_error(
    predicted: Float[np.ndarray, "*n"], truth: Float[np.ndarray, "*n"], *, foreground: Bool[np.ndarray, "*n"]
) -> float:
    """Mean absolute error of depth in [0, 1] over face pixels. Raises ValueError where there are none."""
    if not foreground.any():
        raise ValueError("no face pixel: there is no depth to measure")
    return float(np.abs(predicted[foreground].astype(np.float64) - truth[foreground]).mean())


# ------------------------------------------------------------------------------------------ reconstruction


def reconstruction_error(
    predicted: Float[np.ndarray, "v 3"],
    truth: Float[np.ndarray, "v 3"],
    *,
    interocular: float,
    matched: Sequence[int] | Int[np.ndarray, " m"] | None = None,
) -> float:
    """Mean distance after the best similarity, vertex k with vertex k, over the outer inter-ocular distance in 3-D.

    Ours, where the meshes share a topology; nearest-point ICP reads about half of it (:mod:`train.reconstruction`). `matched`
    picks the vertices that are measured.
    """
    chosen = slice(None) if matched is None else np.asarray(matched)
    points, target = predicted[chosen].astype(np.float64), truth[chosen].astype(np.float64)
    if not np.isfinite(points).all():
        return float("inf")
    return float(np.linalg.norm(moved_onto(points, target) - target, axis=1).mean() / interocular)

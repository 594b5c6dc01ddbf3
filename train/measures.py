"""What is measured on which kind of test set, as each paper measures it: named errors with named normalisers.

A measure takes predicted points and true points and gives an error for each face. The same measures are taken of the mean
shape, so that every figure stands beside what a network that has learnt nothing would get.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from geometry.landmarks import OUTER_EYE_CORNERS
from train import metrics

Family = Literal["dense-fits", "300w", "menpo", "3dfaw", "sparse", "tracking", "ears"]


@dataclass(frozen=True, slots=True)
class Truth:
    """The true points of a set, and which of them are measured.

    points     (n p 3) z is NaN where it is not known; a point that is not measured may hold anything
    measured   (n p) visible in the truth, and known to the system: the same for baselines
    """

    points: Float[np.ndarray, "n p 3"]
    measured: Bool[np.ndarray, "n p"]
    subjects: tuple[str, ...] = ()

    @property
    def has_depth(self) -> bool:
        """Whether all measured points have one."""
        return bool(np.isfinite(self.points[self.measured]).all())

    @property
    def plane(self) -> Float[np.ndarray, "n p 2"]:
        """x and y, zero for points that are not measured and not known."""
        return np.nan_to_num(self.points[..., :2])


@dataclass(frozen=True, slots=True)
class Measure:
    """One column of a table.

    auc_at, failure_at   thresholds as fractions of the normaliser; none where the papers have none
    """

    name: str
    normaliser: str
    errors: Callable[[Float[np.ndarray, "n p d"], Truth], Float[np.ndarray, " n"]]
    auc_at: tuple[float, ...] = ()
    failure_at: tuple[float, ...] = ()
    needs_depth: bool = False

    def apply(self, predicted: Float[np.ndarray, "n p d"], truth: Truth) -> Float[np.ndarray, " n"]:
        """An error for each face, infinite where a measured point has no prediction."""
        return self.errors(predicted, truth)


def measures_of(family: Family, *, n_points: int, depth: bool) -> tuple[Measure, ...]:
    """The measures of a kind of set; those that need depth only where both sides have it (`depth`)."""
    corners = OUTER_EYE_CORNERS if n_points in (66, 68) else None
    box = _box_measures(n_points)
    chosen: tuple[Measure, ...] = {
        "dense-fits": box,
        "300w": (*_eye_measures(), _diagonal()),
        "menpo": (_diagonal(),),
        "3dfaw": _depth_measures() if corners else box,
        "sparse": box,
        "tracking": (*_eye_measures()[:1], *_eye_measures()[2:]) if corners else box,
        "ears": (_ears(),),
    }[family]
    return tuple(measure for measure in chosen if depth or not measure.needs_depth)


def _box_measures(n_points: int) -> tuple[Measure, ...]:
    return (
        Measure("nme_bbox 2-D", f"√(w·h) of the box of the {n_points} true points that are measured", _nme_bbox),
        Measure("nme_bbox 3-D, z mean taken off", "the same", _nme_bbox_3d, needs_depth=True),
    )


def _eye_measures() -> tuple[Measure, ...]:
    return (
        Measure(
            "nme_interocular",
            "distance of the outer eye corners",
            _by_eyes(metrics.interocular_distance),
            (0.08,),
            (0.08,),
        ),
        Measure("nme_interpupil", "distance of the eyes' centres", _by_eyes(metrics.interpupil_distance)),
        Measure(
            "rms_interocular",
            "distance of the outer eye corners; root mean square over points",
            _by_eyes(metrics.interocular_distance, root_mean_square=True),
            (0.08, 0.1),
            (0.08, 0.1),
        ),
    )


def _diagonal() -> Measure:
    return Measure("nme_diagonal", "diagonal of the true points' box", _nme_diagonal, (0.03,), (0.03,))


def _ears() -> Measure:
    return Measure(
        "rms_box_mean_edge",
        "mean edge of the true points' box; root mean square over points",
        _ear_error,
        (0.1,),
        (0.1,),
    )


def _depth_measures() -> tuple[Measure, ...]:
    named = {"xyz": "GTE xyz", "xy": "GTE xy", "x": "GTE x", "y": "GTE y", "z": "GTE z"}
    what = "distance of the outer eye corners in 3-D; z's mean taken off"
    return (
        *(Measure(name, what, _gte(axes), needs_depth="z" in axes) for axes, name in named.items()),
        Measure("CVGTCE", "the same, after each face's best similarity", _cvgtce, needs_depth=True),
    )


# --------------------------------------------------------------------------------------------------- the errors


def _nme_bbox(predicted: np.ndarray, truth: Truth) -> np.ndarray:
    plane = truth.plane
    return metrics.normalised_error(
        predicted[..., :2], plane, metrics.box_size(plane, visible=truth.measured), visible=truth.measured
    )


def _nme_bbox_3d(predicted: np.ndarray, truth: Truth) -> np.ndarray:
    points = _level(predicted, truth)
    size = metrics.box_size(truth.plane, visible=truth.measured)
    return metrics.normalised_error(points, _level(truth.points, truth), size, visible=truth.measured)


def _level(points: np.ndarray, truth: Truth) -> np.ndarray:
    """z with its mean over the measured points taken off; what is not measured is zero."""
    level = np.where(truth.measured[..., None], points, 0.0)
    level[..., 2] -= (level[..., 2].sum(axis=1) / truth.measured.sum(axis=1))[:, None] * truth.measured
    return level


def _by_eyes(
    distance: Callable[[np.ndarray], np.ndarray], *, root_mean_square: bool = False
) -> Callable[[np.ndarray, Truth], np.ndarray]:
    def errors(predicted: np.ndarray, truth: Truth) -> np.ndarray:
        plane = truth.plane
        return metrics.normalised_error(
            predicted[..., :2], plane, distance(plane), visible=truth.measured, root_mean_square=root_mean_square
        )

    return errors


def _nme_diagonal(predicted: np.ndarray, truth: Truth) -> np.ndarray:
    plane = truth.plane
    return metrics.normalised_error(predicted[..., :2], plane, metrics.box_diagonal(plane), visible=truth.measured)


def _ear_error(predicted: np.ndarray, truth: Truth) -> np.ndarray:
    plane = truth.plane
    size = metrics.box_mean_edge(plane)
    return metrics.normalised_error(predicted[..., :2], plane, size, visible=truth.measured, root_mean_square=True)


def _interocular_3d(truth: Truth) -> np.ndarray:
    first, second = OUTER_EYE_CORNERS  # 3DFAW's 66 points lack two that come after these
    depth = np.isfinite(truth.points[:, [first, second]]).all(axis=(1, 2))
    flat = np.linalg.norm(truth.points[:, first, :2] - truth.points[:, second, :2], axis=-1)
    return np.where(depth, np.linalg.norm(truth.points[:, first] - truth.points[:, second], axis=-1), flat)


def _gte(axes: str) -> Callable[[np.ndarray, Truth], np.ndarray]:
    def errors(predicted: np.ndarray, truth: Truth) -> np.ndarray:
        if "z" in axes:
            found, true = _level(predicted, truth), _level(truth.points, truth)
        else:
            found, true = predicted, np.nan_to_num(truth.points)
        return metrics.gte(found, true, _interocular_3d(truth), axes=axes, visible=truth.measured)

    return errors


def _cvgtce(predicted: np.ndarray, truth: Truth) -> np.ndarray:
    return _aligned_errors(predicted, truth, np.arange(len(predicted)), np.arange(len(predicted)))


def cross_view_errors(predicted: Float[np.ndarray, "n p 3"], truth: Truth) -> Float[np.ndarray, " m"]:
    """CVGTCE across views: each face's prediction held against the truth of every other view of its subject."""
    first, second = metrics.view_pairs(truth.subjects).T
    return _aligned_errors(predicted, truth, first, second)


def _aligned_errors(predicted: np.ndarray, truth: Truth, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Each pair by the points that both of its truths measure."""
    interocular = _interocular_3d(truth)
    result = np.empty(len(first))
    for k, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        both = truth.measured[a] & truth.measured[b]
        result[k] = metrics.cvgtce(predicted[a, both][None], truth.points[b, both][None], interocular[b : b + 1])[0]
    return result


# -------------------------------------------------------------------------------------------------- summaries


def summarised(measure: Measure, errors: Float[np.ndarray, " n"]) -> dict[str, float | int | str]:
    """Percents, the number of images and of missing predictions, AUC and failure rate where the papers have them."""
    found = metrics.summary(errors)
    result: dict[str, float | int | str] = {
        "normaliser": measure.normaliser,
        "n_images": found.n_faces,
        "n_missing": found.n_missing,
        "mean_percent": 100 * found.mean,
        "median_percent": 100 * found.median,
    }
    for threshold in measure.auc_at:
        result[f"auc_{threshold:g}_percent"] = 100 * metrics.auc(errors, threshold)
    for threshold in measure.failure_at:
        result[f"failure_{threshold:g}_percent"] = 100 * metrics.failure_rate(errors, threshold)
    return result


def yaw_tables(
    errors: Float[np.ndarray, " n"], yaws_deg: Mapping[str, Sequence[float] | Float[np.ndarray, " n"]], *, seed: int = 0
) -> dict[str, dict[str, object]]:
    """For each source of yaw: the bins over all images, and over a balanced subset with its list of indices.

    The subset has as many faces of each bin as the smallest bin: 3 · 305 = 915 of all of AFLW2000-3D by the fitted pose
    (Meng et al. 2022), 3 · 232 = 696 by AFLW's label (Feng et al. 2018). Faces without a yaw are left out, and counted.
    """
    tables: dict[str, dict[str, object]] = {}
    for source, values in yaws_deg.items():
        yaw = np.asarray(values, dtype=np.float64)
        known = np.flatnonzero(np.isfinite(yaw))
        if not len(known):
            continue
        table: dict[str, object] = {
            f"{name} %" if isinstance(value, float) else name: 100 * value if isinstance(value, float) else value
            for name, value in metrics.by_yaw(errors[known], yaw[known]).items()
        }
        table["n without yaw"] = len(yaw) - len(known)
        smallest = int(np.bincount(metrics.yaw_bin(yaw[known]), minlength=3).min())
        if smallest:
            chosen = known[metrics.balanced_subset(yaw[known], per_bin=smallest, seed=seed)]
            balanced = metrics.by_yaw(errors[chosen], yaw[chosen])
            table["balanced"] = {
                "n_images": len(chosen),
                "seed": seed,
                "mean of images %": 100 * float(balanced["mean of images"]),
                "indices": chosen.tolist(),
            }
        tables[source] = table
    return tables

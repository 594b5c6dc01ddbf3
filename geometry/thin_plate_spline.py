"""Thin-plate splines: dense correspondence from sparse landmarks, for objects that have no morphable model.

A spline takes the plane to the plane, landmarks to landmarks, and bends as little as it can between (Bookstein 1989):

    f(x) = A (1, x) + Σ_i w_i φ(|x − s_i|),    φ(r) = r² log r,    Σ_i w_i = 0,    Σ_i w_i s_iᵀ = 0

which minimises Σ_i |t_i − f(s_i)|² + smoothing · J(f), J the bending energy (Wahba 1990, section 2.4). Nothing forbids such a
map to fold over itself, so its Jacobian determinant is looked at. DenseReg's ears (Güler et al. 2017, section 4.6) are
brought into correspondence this way, with 55 points.

SciPy's `RBFInterpolator` solves the same system but does not hand out derivatives; the system is solved here, by SciPy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float, Float32
from skimage.draw import polygon

POINTS_AT_ONCE = 8192  # of points: their distances to all landmarks stay in the processor's cache

SMALLEST_SMOOTHING = 1e-6
"""Where raising starts; by tens. Smoothing counts against landmarks of root mean square radius one."""

LARGEST_SMOOTHING = 1e6
"""Where the map is affine but for a millionth."""


@dataclass(frozen=True, slots=True)
class ThinPlateSpline:
    """A map of the plane. `source` are the landmarks that it was fitted at.

    ``f(x) = (1, z) @ affine + Σ_i φ(|z − z_i|) weights[i]`` with ``z = (x − centre) / radius``; `smoothing` counts in z.
    """

    source: Float[np.ndarray, "n 2"]
    weights: Float[np.ndarray, "n 2"]
    affine: Float[np.ndarray, "3 2"]
    centre: Float[np.ndarray, "2"]
    radius: float
    smoothing: float

    def apply(self, points: Float[np.ndarray, "*m 2"]) -> Float[np.ndarray, "*m 2"]:
        """Where `points` go."""
        flat = points.reshape(-1, 2)
        parts = [self._apply(flat[i : i + POINTS_AT_ONCE]) for i in range(0, len(flat), POINTS_AT_ONCE)]
        return np.concatenate([np.zeros((0, 2)), *parts]).reshape(points.shape)

    def jacobian(self, points: Float[np.ndarray, "*m 2"]) -> Float[np.ndarray, "*m 2 2"]:
        """``[..., i, j]``: the derivative of coordinate i of the map by coordinate j of the point."""
        flat = points.reshape(-1, 2)
        parts = [self._jacobian(flat[i : i + POINTS_AT_ONCE]) for i in range(0, len(flat), POINTS_AT_ONCE)]
        return np.concatenate([np.zeros((0, 2, 2)), *parts]).reshape(*points.shape[:-1], 2, 2)

    def jacobian_determinant(self, points: Float[np.ndarray, "*m 2"]) -> Float[np.ndarray, "*m"]:
        """By how much areas grow at `points`; negative where the map turns them over."""
        return _determinant(self.jacobian(points))

    def _apply(self, points: np.ndarray) -> np.ndarray:
        z = (points - self.centre) / self.radius
        return self.affine[0] + z @ self.affine[1:] + _kernel(_squared_distances(z, self._knots())) @ self.weights

    def _jacobian(self, points: np.ndarray) -> np.ndarray:
        z, knots = (points - self.centre) / self.radius, self._knots()
        slope = _kernel_slope(_squared_distances(z, knots))  # (m n): φ'(r) / r
        columns = []
        for j in range(2):
            columns.append(self.affine[1 + j] + (slope * (z[:, j, None] - knots[:, j])) @ self.weights)
        return np.stack(columns, axis=2) / self.radius

    def _knots(self) -> np.ndarray:
        return (self.source - self.centre) / self.radius


def fit_thin_plate_spline(
    source: Float[np.ndarray, "n 2"], target: Float[np.ndarray, "m 2"], *, smoothing: float = 0.0
) -> ThinPlateSpline:
    """The spline from `source` to `target` landmarks: through all of them at `smoothing` 0, affine as it grows.

    Smoothing is relative to landmarks of root mean square radius one, so it means the same in pixels and in UV. Raises
    ValueError for fewer than three landmarks, landmarks on a line, two in one place, NaN (leave missing landmarks out), and
    negative smoothing.
    """
    centre, radius = _checked(source, target, smoothing)
    z = (source - centre) / radius
    n = len(z)
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = _kernel(_squared_distances(z, z)) + smoothing * np.eye(n)
    system[:n, n] = system[n, :n] = 1.0
    system[:n, n + 1 :] = z
    system[n + 1 :, :n] = z.T
    solved = scipy.linalg.solve(system, np.concatenate([target, np.zeros((3, 2))]), assume_a="sym")
    return ThinPlateSpline(source.astype(np.float64), solved[:n], solved[n:], centre, radius, float(smoothing))


# ---------------------------------------------------------------- folds


@dataclass(frozen=True, slots=True)
class FoldReport:
    """Whether a spline keeps its orientation at some points, and what that took.

    smallest_determinant   of the Jacobian at those points over that of the landmarks' affine map: 1 where the map is affine,
                           0 and less where it folds
    folded                 the share of the points where it folds
    smoothing              that of the spline, `smoothing_asked` what was asked for
    residual_rms           of the landmarks, in the target's unit; `worst_landmark` is the index of the farthest
    """

    smallest_determinant: float
    folded: float
    smoothing_asked: float
    smoothing: float
    residual_rms: float
    worst_landmark: int

    @property
    def repaired(self) -> bool:
        """Whether smoothing was raised."""
        return self.smoothing > self.smoothing_asked

    def sentence(self) -> str:
        """For people."""
        state = f"the smallest Jacobian determinant is {self.smallest_determinant:.3g} of the affine map's"
        if self.folded > 0:
            return f"the map folds over itself at {self.folded:.2%} of the points: {state}"
        if self.repaired:
            return (
                f"the map folded over itself, so smoothing was raised from {self.smoothing_asked:g} to {self.smoothing:g}: "
                f"{state}, landmarks are met to {self.residual_rms:.3g} rms, the worst is number {self.worst_landmark}"
            )
        return f"the map does not fold: {state}"


def report_folds(
    spline: ThinPlateSpline,
    target: Float[np.ndarray, "n 2"],
    *,
    points: Float[np.ndarray, "m 2"],
    smoothing_asked: float | None = None,
) -> FoldReport:
    """Look at the Jacobian determinant at `points`; `target` are the landmarks that the spline was fitted to."""
    ones = np.ones((len(target), 1))
    affine, *_ = np.linalg.lstsq(np.concatenate([ones, spline.source], axis=1), target, rcond=None)
    whole = float(_determinant(affine[1:]))
    if not abs(whole) > 1e-12 * target.var(axis=0).sum() / spline.radius**2:
        raise ValueError("the target landmarks lie on a line: their map has no orientation to keep")
    relative = spline.jacobian_determinant(points) / whole
    off = np.linalg.norm(spline.apply(spline.source) - target, axis=1)
    return FoldReport(
        smallest_determinant=float(relative.min()) if len(points) else 1.0,
        folded=float((relative <= 0).mean()) if len(points) else 0.0,
        smoothing_asked=spline.smoothing if smoothing_asked is None else float(smoothing_asked),
        smoothing=spline.smoothing,
        residual_rms=float(np.sqrt((off**2).mean())),
        worst_landmark=int(off.argmax()),
    )


def fit_without_folds(
    source: Float[np.ndarray, "n 2"],
    target: Float[np.ndarray, "m 2"],
    *,
    points: Float[np.ndarray, "k 2"],
    smoothing: float = 0.0,
    largest_residual: float = 0.05,
) -> tuple[ThinPlateSpline, FoldReport]:
    """The spline of the least smoothing, from `smoothing` up, that keeps its orientation at all of `points`.

    Smoothing is raised by tens, and the last ten is then narrowed to a third. Raises ValueError, naming the worst
    landmark, when that moves the landmarks by more than `largest_residual` (root mean square, relative to the target's root mean
    square radius): landmarks that far from any unfolded map are mislabelled or swapped.
    """
    spline = fit_thin_plate_spline(source, target, smoothing=smoothing)
    report = report_folds(spline, target, points=points)
    first = report
    low, high = max(smoothing, SMALLEST_SMOOTHING) / 10, max(smoothing, SMALLEST_SMOOTHING)
    while report.folded > 0 and high <= LARGEST_SMOOTHING:
        spline = fit_thin_plate_spline(source, target, smoothing=high)
        report = report_folds(spline, target, points=points, smoothing_asked=smoothing)
        low, high = high / 10, 10 * high
    if report.repaired:
        high = spline.smoothing
        for _ in range(3):  # halves of a decade: 10 ** (1/8)
            middle = float(np.sqrt(low * high))
            trial = fit_thin_plate_spline(source, target, smoothing=middle)
            trial_report = report_folds(trial, target, points=points, smoothing_asked=smoothing)
            if trial_report.folded > 0:
                low = middle
            else:
                high, spline, report = middle, trial, trial_report
    size = float(np.sqrt(target.var(axis=0).sum()))
    if report.folded > 0 or (report.repaired and report.residual_rms > largest_residual * size):
        raise ValueError(
            f"the map folds over itself at {first.folded:.1%} of the points, and without a fold it misses the landmarks by "
            f"{report.residual_rms / size:.1%} of their spread (allowed: {largest_residual:.1%}). Landmark "
            f"{report.worst_landmark} is the farthest off: is it swapped with another, or on the other side?"
        )
    return spline, report


# ---------------------------------------------------------------- images


@dataclass(frozen=True, slots=True)
class DenseCorrespondence:
    """``uv[y, x]``: the template coordinates of a pixel where ``covered[y, x]``, NaN elsewhere; `folds` says how good it is."""

    uv: Float32[np.ndarray, "h w 2"]
    covered: Bool[np.ndarray, "h w"]
    spline: ThinPlateSpline
    folds: FoldReport


def correspondence_field(
    landmarks_px: Float[np.ndarray, "n 2"],
    landmarks_uv: Float[np.ndarray, "m 2"],
    *,
    size_hw: tuple[int, int],
    outline: Sequence[int] | Float[np.ndarray, "o 2"] | None = None,
    smoothing: float = 0.0,
    largest_residual: float = 0.05,
) -> DenseCorrespondence:
    """Template coordinates for every pixel of the object, from its landmarks in the image and in the template.

    `landmarks_px` (x, y; pixel centres are integers); `landmarks_uv` in any coordinates: a template's, or another image's pixels.
    Pixels count as the object's inside the polygon of the landmarks `outline` (or of these places, pixels), by default the
    landmarks' convex hull (outside of the landmarks a spline only guesses). Folds are repaired or refused as in
    :func:`fit_without_folds`, looked for at every pixel of the object.
    """
    _checked(landmarks_px, landmarks_uv, smoothing)
    height, width = size_hw
    if isinstance(outline, np.ndarray) and outline.ndim == 2:
        border = outline
    else:
        border = landmarks_px[_hull(landmarks_px) if outline is None else np.asarray(outline)]
    covered = np.zeros((height, width), dtype=bool)
    rows, columns = polygon(border[:, 1], border[:, 0], shape=(height, width))
    covered[rows, columns] = True
    y, x = np.nonzero(covered)
    pixels = np.stack([x, y], axis=1).astype(np.float64)
    spline, folds = fit_without_folds(
        landmarks_px, landmarks_uv, points=pixels, smoothing=smoothing, largest_residual=largest_residual
    )
    uv = np.full((height, width, 2), np.nan, dtype=np.float32)
    uv[covered] = spline.apply(pixels)
    return DenseCorrespondence(uv, covered, spline, folds)


# ---------------------------------------------------------------- parts


def _checked(source: np.ndarray, target: np.ndarray, smoothing: float) -> tuple[np.ndarray, float]:
    """The source's centroid and root mean square radius."""
    if source.shape != target.shape:
        raise ValueError(f"{len(source)} source and {len(target)} target landmarks: they must pair up")
    if len(source) < 3:
        raise ValueError(f"{len(source)} landmarks: a thin-plate spline needs three and more")
    for what, points in (("source", source), ("target", target)):
        bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
        if len(bad):
            raise ValueError(
                f"{what} landmark {bad[0]} is at {points[bad[0]]}: leave missing landmarks out, on both sides"
            )
    if not (np.isfinite(smoothing) and smoothing >= 0):
        raise ValueError(f"smoothing is {smoothing}: give a number from 0 (through all landmarks) up")
    centre = source.astype(np.float64).mean(axis=0)
    spread = np.linalg.svd(source - centre, compute_uv=False) / np.sqrt(len(source))
    radius = float(np.hypot(*spread))
    if not spread[1] > 1e-9 * max(radius, np.abs(source).max()):
        raise ValueError("all source landmarks lie on a line or in one point: they do not span a plane")
    distance = _squared_distances(source / radius, source / radius)
    one, other = np.nonzero(np.triu(distance < 1e-14, 1))
    if len(one):
        raise ValueError(
            f"source landmarks {one[0]} and {other[0]} are both at {source[one[0]]}: one place cannot go to two; drop one"
        )
    return centre, radius


def _squared_distances(points: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """(m n), from differences: exactly zero at a knot."""
    x, y = points[:, 0, None] - knots[:, 0], points[:, 1, None] - knots[:, 1]
    return x * x + y * y


def _kernel(squared: np.ndarray) -> np.ndarray:
    """φ = r² log r = ½ r² log r²."""
    return 0.5 * squared * np.log(np.maximum(squared, 1e-300))


def _kernel_slope(squared: np.ndarray) -> np.ndarray:
    """φ'(r) / r = log r² + 1; times a difference of coordinates it vanishes at r = 0."""
    return np.log(np.maximum(squared, 1e-300)) + 1.0


def _determinant(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0])


def _hull(points: np.ndarray) -> np.ndarray:
    """The corners of the convex hull, in their order round it."""
    from scipy.spatial import ConvexHull

    return ConvexHull(points).vertices

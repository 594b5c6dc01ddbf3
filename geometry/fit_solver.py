r"""The landmark fit's solver: pose and coefficients together, the coefficients eliminated (variable projection).

**Objective.** One face has landmarks u_p (pixels, here y **up**) at surface points m_p + A_p·c, where c are the
coefficients in standard deviations (prior: unit normal) and A_p (3 k) the rows of the basis. With the upper two rows
P = s·R₂ of the scaled rotation, translation t, weights w_p and the landmarks' noise σ (pixels) the fit minimises

    E(R, s, t, c) = Σ_p w_p · ρ(‖u_p − P·(m_p + A_p·c) − t‖² / σ²) + ‖c‖²

with ρ the identity (least squares; the maximum a posteriori of Blanz and Vetter 2003) or a robust loss.

**Elimination.** Write W = diag(w_p/σ²), B = (I ⊗ P)·A and r = u − P·m − t. For a given pose c is a ridge regression, in
dual form c = B̃ᵀ·a with

    B̃ = W^½·B,   K = B̃·B̃ᵀ + I  (2p × 2p),   K·a = r̃ = W^½·r,

and then a = r̃ − B̃·c is the weighted residual itself and min_c E = aᵀ·r̃: objective, coefficients and residual come
from one Cholesky factor. K ≥ I whatever the weights, so missing points (w = 0) are rows of the identity and nothing is
ever singular. K's blocks are sums over P_i·G·P_jᵀ with the constant G = A·Aᵀ (3p × 3p): for a whole batch they are one
matrix product (3n × 9)·(9 × p²), whose cost does not depend on the number of modes. Where the image coordinates
outnumber the modes (dense fields), :class:`_Primal` does the same with the k × k matrix B̃ᵀB̃ + I (Woodbury).

**Steps.** Pose moves along J = ∂(P·X + t)/∂(rotation vector, log s, t) at the current X = m + A·c. In the variable
projection functional of Golub and Pereyra (1973) with Kaufman's (1975) Jacobian the Gauss-Newton step is

    (J̃ᵀ·K⁻¹·J̃)·δ = J̃ᵀ·a,

six unknowns a face; Levenberg-Marquardt damping makes the objective fall at every accepted step (Ruhe and Wedin 1980
show that it converges as fast as Gauss-Newton on all parameters, where *alternating* pose and coefficients crawls: on
noise-free points of 20 modes it is still 0.14 px and 0.5° off after 32 rounds, when this is exact after three steps).

**Robust loss.** Iteratively reweighted: w_p·ρ'(q_p) in place of w_p, recomputed with every step; the weighted squares
majorise the robust objective, so the same test of descent holds. The loss starts wide (the median residual) and narrows
to its own width, halving at each step (graduated non-convexity, Blake and Zisserman 1987).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import lapack

from geometry.morphable_model import LinearRows
from geometry.rotation import rotation_from_vector

Loss = Literal["squares", "huber", "geman_mcclure"]

_FACES_IN_CACHE = 8
_FIRST_DAMPING = 1e-3
_LEAST_DAMPING = 1e-9
_MOST_DAMPING = 1e6
_STEADY = 1e-7  # relative change of a robust objective at which reweighting has settled
_ROUNDING = 1e-10  # relative change of the objective below which a step means nothing


@dataclass(frozen=True, slots=True)
class Poses:
    """Scaled orthographic poses of n faces: pixels (y up) = scale · rotation[:2] · X + translation."""

    scale: Float[np.ndarray, "n"]
    rotation: Float[np.ndarray, "n 3 3"]
    translation: Float[np.ndarray, "n 2"]

    @property
    def plane(self) -> Float[np.ndarray, "n 2 3"]:
        """P = s·R₂: the part of the pose that multiplies points."""
        return self.scale[:, None, None] * self.rotation[:, :2]

    def of(self, chosen: np.ndarray) -> "Poses":
        """The poses of some of the faces (indices or a mask)."""
        return Poses(self.scale[chosen], self.rotation[chosen], self.translation[chosen])

    def moved(self, step: Float[np.ndarray, "n 6"]) -> "Poses":
        """The poses after a step in (rotation vector, log scale, translation)."""
        rotation = rotation_from_vector(step[:, :3]) @ self.rotation
        return Poses(self.scale * np.exp(step[:, 3]), rotation, self.translation + step[:, 4:])

    def put(self, chosen: np.ndarray, other: "Poses") -> None:
        """Overwrite some faces' poses; for the solver's own working copy alone."""
        self.scale[chosen], self.rotation[chosen], self.translation[chosen] = (
            other.scale,
            other.rotation,
            other.translation,
        )


@dataclass(frozen=True)
class FitPoints:
    """The points of a fit with their constant products; made once for a model and a list of points.

    mean (p 3) millimetres about their own centroid; design (3p k) millimetres per standard deviation, all x rows first.
    """

    centroid: Float[np.ndarray, "3"]
    mean: Float[np.ndarray, "p 3"]
    design: Float[np.ndarray, "p3 k"]

    @classmethod
    def of(cls, rows: LinearRows, stddevs: Float[np.ndarray, "k"]) -> "FitPoints":
        """From a model's rows (coefficients in file scaling) and the stddevs of identity, then expression."""
        centroid = rows.mean.mean(axis=0)
        basis = np.concatenate([rows.identity, rows.expression], axis=-1) * stddevs  # (p 3 k)
        return cls(
            centroid, rows.mean - centroid, np.ascontiguousarray(basis.transpose(1, 0, 2)).reshape(-1, len(stddevs))
        )

    @cached_property
    def radius(self) -> float:
        """Root mean square distance of the mean points from their centroid (mm)."""
        return float(np.sqrt((self.mean**2).sum(axis=1).mean()))

    @cached_property
    def gram_blocks(self) -> Float[np.ndarray, "9 pp"]:
        """G = A·Aᵀ as nine flat (p p) blocks, one for each pair of axes."""
        p = len(self.mean)
        gram = (self.design @ self.design.T).reshape(3, p, 3, p)
        return np.ascontiguousarray(gram.transpose(0, 2, 1, 3)).reshape(9, p * p)


class _Dual:
    """K = B̃·B̃ᵀ + I factored for a batch; the form for fewer image coordinates than modes."""

    def __init__(self, points: FitPoints, plane: np.ndarray, root_weights: np.ndarray) -> None:
        n, p = root_weights.shape
        self._points, self._plane, self._root_weights = points, plane, root_weights
        row_pairs = ((0, 0), (0, 1), (1, 1))  # the block below the diagonal is never read
        products = np.stack([plane[:, i, :, None] * plane[:, j, None, :] for i, j in row_pairs], axis=1)  # (n 3 3 3)
        k = np.empty((n, 2, p, 2, p))
        self._factors = k.reshape(n, 2 * p, 2 * p)
        diagonal = np.arange(2 * p)
        for first in range(0, n, _FACES_IN_CACHE):
            few = slice(first, first + _FACES_IN_CACHE)
            blocks = (products[few].reshape(-1, 9) @ points.gram_blocks).reshape(-1, 3, p, p)
            outer = root_weights[few, :, None] * root_weights[few, None, :]
            for block, (i, j) in enumerate(row_pairs):
                np.multiply(blocks[:, block], outer, out=k[few, i, :, j])
            self._factors[few, diagonal, diagonal] += 1.0
            for matrix in self._factors[few]:  # the transposed view is Fortran-ordered: LAPACK works in place
                lapack.dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)

    def optimum(self, r: Float[np.ndarray, "n p2"]) -> tuple[Float[np.ndarray, "n p2"], Float[np.ndarray, "n k"]]:
        """a = K⁻¹·r and the coefficients c = B̃ᵀ·a."""
        a = np.array(r, order="C")
        for factor, vector in zip(self._factors, a, strict=True):
            lapack.dpotrs(factor.T, vector, lower=1, overwrite_b=1)
        n, p = self._root_weights.shape
        on_points = self._plane.transpose(0, 2, 1) @ (a.reshape(n, 2, p) * self._root_weights[:, None])  # (n 3 p)
        return a, on_points.reshape(n, 3 * p) @ self._points.design

    def normal(self, jacobian: Float[np.ndarray, "n m p2"]) -> Float[np.ndarray, "n m m"]:
        """J·K⁻¹·Jᵀ of Jacobians stored row by row."""
        whitened = np.array(jacobian, order="C")  # becomes L⁻¹·Jᵀ for K = L·Lᵀ: half the work of solving
        for factor, vectors in zip(self._factors, whitened, strict=True):
            lapack.dtrtrs(factor.T, vectors.T, lower=1, overwrite_b=1)
        return whitened @ whitened.transpose(0, 2, 1)


class _Primal:
    """The same through B̃ᵀ·B̃ + I, for more image coordinates than modes.

    K⁻¹·r = r − B̃·y with (B̃ᵀ·B̃ + I)·y = B̃ᵀ·r. The coefficients are y itself: B̃ᵀ·(r − B̃·y) would lose its digits.
    """

    def __init__(self, points: FitPoints, plane: np.ndarray, root_weights: np.ndarray) -> None:
        (n, p), k = root_weights.shape, points.design.shape[1]
        basis = (plane.reshape(2 * n, 3) @ points.design.reshape(3, p * k)).reshape(n, 2, p, k)
        self._basis = (basis * root_weights[:, None, :, None]).reshape(n, 2 * p, k)
        self._inner = self._basis.transpose(0, 2, 1) @ self._basis + np.eye(k)

    def optimum(self, r: Float[np.ndarray, "n p2"]) -> tuple[Float[np.ndarray, "n p2"], Float[np.ndarray, "n k"]]:
        """a = K⁻¹·r and the coefficients c = B̃ᵀ·a."""
        unexplained, coefficients = self._split(r[:, None])
        return unexplained[:, 0], coefficients[:, 0]

    def normal(self, jacobian: Float[np.ndarray, "n m p2"]) -> Float[np.ndarray, "n m m"]:
        """J·K⁻¹·Jᵀ of Jacobians stored row by row, as a sum of squares."""
        unexplained, coefficients = self._split(jacobian)
        return unexplained @ unexplained.transpose(0, 2, 1) + coefficients @ coefficients.transpose(0, 2, 1)

    def _split(self, rows: Float[np.ndarray, "n m p2"]) -> tuple[np.ndarray, np.ndarray]:
        coefficients = np.linalg.solve(self._inner, (rows @ self._basis).transpose(0, 2, 1))
        return rows - (self._basis @ coefficients).transpose(0, 2, 1), coefficients.transpose(0, 2, 1)


def starting_poses(
    points: FitPoints, targets: Float[np.ndarray, "n p 2"], weights: Float[np.ndarray, "n p"], *, robust: bool = False
) -> Poses:
    """Closed-form poses of the mean shape: the affine least-squares camera, then the nearest scaled rotation.

    P = U·mean(S)·Vᵀ of the affine camera's singular value decomposition (the polar projection). `robust` repeats the
    affine step with points weighed down by the square of their residual, so that wrong points lose their pull.

    One start is enough: on faces of the built-in model with 1 px of noise, yaw to ±90°, pitch to ±30°, roll to ±60° it
    lies within 12° of the truth for all 68 points, within 21° for the half of them that a profile shows and without the
    jaw, and within 49° for five; the minimum reached from it was that reached from the true pose for every face of the
    first three kinds (200 at each of six yaws) and all but 3 of 1,200 of the last. Points on a small patch (one eye
    alone) leave several minima, some of them from behind. Random starts 20° off return in 99 of 100 cases.
    """
    mean, pull = points.mean, weights.copy()
    for _ in range(6 if robust else 1):
        total = pull.sum(axis=1)[:, None]
        mean_centre, target_centre = pull @ mean / total, np.einsum("np,npi->ni", pull, targets) / total
        centred = mean - mean_centre[:, None]  # (n p 3)
        offset = targets - target_centre[:, None]
        weighted = centred * pull[:, :, None]
        scatter = weighted.transpose(0, 2, 1) @ centred
        # a little of the scatter's own trace keeps flat sets of points (one eye, say) solvable
        scatter += 1e-4 * np.trace(scatter, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        affine = np.linalg.solve(scatter, weighted.transpose(0, 2, 1) @ offset).transpose(0, 2, 1)  # (n 2 3)
        distance = np.linalg.norm(offset - centred @ affine.transpose(0, 2, 1), axis=-1)
        median = np.array([np.median(row[w > 0]) for row, w in zip(distance, weights, strict=True)])
        pull = weights / np.maximum(1.0, distance / np.maximum(median, 1e-12)[:, None]) ** 2
    u, singular, vt = np.linalg.svd(affine, full_matrices=False)
    upper = u @ vt
    rotation = np.concatenate([upper, np.cross(upper[:, 0], upper[:, 1])[:, None]], axis=1)
    scale = singular.mean(axis=1)
    translation = target_centre - scale[:, None] * np.einsum("nij,nj->ni", upper, mean_centre)
    return Poses(scale, rotation, translation)


@dataclass(frozen=True, slots=True)
class Minimum:
    """Where the solver stopped: coefficients in standard deviations, objective E, and whether its steps died out."""

    poses: Poses
    coefficients: Float[np.ndarray, "n k"]
    objective: Float[np.ndarray, "n"]
    converged: Bool[np.ndarray, "n"]


def minimise(
    points: FitPoints,
    targets: Float[np.ndarray, "n p 2"],
    weights: Float[np.ndarray, "n p"],
    noise_px: Float[np.ndarray, "n"],
    start: Poses,
    *,
    loss: Loss,
    loss_width: float,
    max_steps: int,
    step_tolerance: float,
) -> Minimum:
    """Minimise E of the module's docstring for n faces at once; a face that has arrived leaves the batch.

    targets (n p 2) in pixels, y up, finite; weights (n p) ≥ 0; `loss_width` in noise standard deviations. A face has
    arrived when its step is below `step_tolerance` (radians, relative scale, shift relative to the face's radius), or
    promises no change of the objective beyond rounding.
    """
    n, n_modes = len(targets), points.design.shape[1]
    eliminated = _Dual if 2 * len(points.mean) <= n_modes else _Primal
    q = _squared_residuals(targets, points.mean.T, start, noise_px)
    width = np.full(n, loss_width)
    if loss != "squares":
        width = np.maximum(width, [np.sqrt(np.median(row[w > 0])) for row, w in zip(q, weights, strict=True)])
    pull = _loss_slope(q, width, loss)
    poses = Poses(start.scale.copy(), start.rotation.copy(), start.translation.copy())
    coefficients, objective = np.zeros((n, n_modes)), np.full(n, np.inf)
    normal, gradient = np.zeros((n, 6, 6)), np.zeros((n, 6))
    damping, converged = np.full(n, _FIRST_DAMPING), np.zeros(n, bool)

    active, trial = np.arange(n), start
    for _ in range(max_steps + 1):
        root_weights = np.sqrt(weights[active] * pull[active]) / noise_px[active, None]
        here = _linearise(eliminated, points, targets[active], root_weights, trial)
        q = _squared_residuals(targets[active], here.shapes, trial, noise_px[active])
        prior = (here.coefficients**2).sum(axis=1)
        reached = (weights[active] * _loss_value(q, width[active], loss)).sum(axis=1) + prior

        before = objective[active]
        better = reached <= before * (1 + _ROUNDING)
        won = active[better]
        poses.put(won, trial.of(better))
        coefficients[won], normal[won], gradient[won] = (
            here.coefficients[better],
            here.normal[better],
            here.gradient[better],
        )
        if loss != "squares":
            width[won] = np.maximum(loss_width, width[won] / 2)
            pull[won] = _loss_slope(q[better], width[won], loss)
        objective[won] = (weights[won] * _loss_value(q[better], width[won], loss)).sum(axis=1) + prior[better]
        damping[active] = np.where(better, np.maximum(damping[active] / 10, _LEAST_DAMPING), damping[active] * 10)

        step = _damped_step(normal[active], gradient[active], damping[active])
        shift = np.abs(step[:, 4:]).max(axis=1) / (poses.scale[active] * points.radius)
        length = np.maximum(np.abs(step[:, :4]).max(axis=1), shift)
        in_vain = (step * gradient[active]).sum(axis=1) < _ROUNDING * objective[active]
        arrived = ((length < step_tolerance) | in_vain) & (damping[active] < 1)
        if loss != "squares":  # reweighting moves the coefficients even where the pose stands still
            arrived &= (width[active] == loss_width) & (np.abs(before - reached) < _STEADY * reached)
        converged[active[arrived]] = True
        going = ~arrived & (damping[active] < _MOST_DAMPING)
        active, step = active[going], step[going]
        if len(active) == 0:
            break
        trial = poses.of(active).moved(step)
    return Minimum(poses, coefficients, objective, converged)


@dataclass(frozen=True, slots=True)
class _Linearised:
    coefficients: np.ndarray  # (n k) optimal for the pose, in standard deviations
    shapes: np.ndarray  # (n 3 p) the points they give
    normal: np.ndarray  # (n 6 6) J̃ᵀ·K⁻¹·J̃
    gradient: np.ndarray  # (n 6) J̃ᵀ·a: minus half the gradient of E with respect to the pose


def _linearise(
    eliminated: type[_Dual] | type[_Primal],
    points: FitPoints,
    targets: np.ndarray,
    root_weights: np.ndarray,
    poses: Poses,
) -> _Linearised:
    """Optimal coefficients of the given poses, and the normal equations of the next step."""
    n, p = root_weights.shape
    plane = poses.plane
    system = eliminated(points, plane, root_weights)
    residual = targets.transpose(0, 2, 1) - plane @ points.mean.T - poses.translation[:, :, None]  # (n 2 p)
    a, coefficients = system.optimum((residual * root_weights[:, None]).reshape(n, 2 * p))
    shapes = points.mean.T + (coefficients @ points.design.T).reshape(n, 3, p)

    x, y, z = (poses.scale[:, None, None] * (poses.rotation @ shapes)).transpose(1, 0, 2)
    jacobian = np.zeros((n, 6, 2, p))
    jacobian[:, 1, 0], jacobian[:, 2, 0], jacobian[:, 3, 0], jacobian[:, 4, 0] = z, -y, x, 1.0
    jacobian[:, 0, 1], jacobian[:, 2, 1], jacobian[:, 3, 1], jacobian[:, 5, 1] = -z, x, y, 1.0
    jacobian = (jacobian * root_weights[:, None, None]).reshape(n, 6, 2 * p)
    return _Linearised(coefficients, shapes, system.normal(jacobian), (jacobian @ a[:, :, None])[:, :, 0])


def _squared_residuals(targets: np.ndarray, shapes: np.ndarray, poses: Poses, noise_px: np.ndarray) -> np.ndarray:
    """q = ‖u − P·X − t‖² / σ² of every point (n p)."""
    residual = targets.transpose(0, 2, 1) - poses.plane @ shapes - poses.translation[:, :, None]
    return (residual**2).sum(axis=1) / noise_px[:, None] ** 2


def _damped_step(normal: np.ndarray, gradient: np.ndarray, damping: np.ndarray) -> np.ndarray:
    diagonal = np.diagonal(normal, axis1=1, axis2=2)
    floor = (
        1e-14 * diagonal.max(axis=1, keepdims=True) + 1e-300
    )  # a direction that no point sees must not divide by zero
    damped = normal + (damping[:, None] * diagonal + floor)[:, :, None] * np.eye(6)
    return np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]


def _loss_value(q: np.ndarray, width: np.ndarray, loss: Loss) -> np.ndarray:
    """ρ(q) with ρ'(0) = 1; `width` in noise standard deviations."""
    b = width[:, None]
    if loss == "huber":
        return np.where(q <= b**2, q, 2 * b * np.sqrt(q) - b**2)
    if loss == "geman_mcclure":
        return q / (1 + q / b**2)
    return q


def _loss_slope(q: np.ndarray, width: np.ndarray, loss: Loss) -> np.ndarray:
    """ρ'(q): the factor by which a point's weight is reduced."""
    b = width[:, None]
    if loss == "huber":
        return b / np.maximum(b, np.sqrt(q))
    if loss == "geman_mcclure":
        return (1 + q / b**2) ** -2
    return np.ones_like(q)

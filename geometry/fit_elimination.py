"""One Gauss-Newton step of a landmark fit, its coefficients eliminated in one of three ways.

The step minimises ‖ẽ − J̃·δ − B̃·Δc‖² + ‖c + Δc‖² + the pose's own prior over the pose's step δ and the coefficients;
tildes mean "multiplied by the root of the weights", ẽ is the residual at the present pose and coefficients.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from geometry.fit_points import FitPoints


@dataclass(frozen=True, slots=True)
class StepEquations:
    """What a step of n faces is made of; all whitened.

    rows (n 2 3 p) times the points' rows of the basis are B̃; jacobian (n m 2 p) is J̃, residual (n 2 p) is ẽ.
    damping (n) is relative to the diagonal of the reduced equations. prior (m) and prior_gradient (n m) are the
    second derivative and minus the first one of half the pose's own prior.
    """

    rows: Float[np.ndarray, "n 2 3 p"]
    jacobian: Float[np.ndarray, "n m 2 p"]
    residual: Float[np.ndarray, "n 2 p"]
    damping: Float[np.ndarray, " n"]
    prior: Float[np.ndarray, " m"]
    prior_gradient: Float[np.ndarray, "n m"]

    def of(self, chosen: Shaped[np.ndarray, " _"]) -> "StepEquations":
        """The equations of some of the faces."""
        return StepEquations(
            self.rows[chosen],
            self.jacobian[chosen],
            self.residual[chosen],
            self.damping[chosen],
            self.prior,
            self.prior_gradient[chosen],
        )


Step = tuple[Float[np.ndarray, "n m"], Float[np.ndarray, "n k"]]
"""The pose's steps, and the coefficients (not their change) that belong to them."""


def dual_step(
    points: FitPoints,
    index: Int[np.ndarray, "n p"] | None,
    equations: StepEquations,
    coefficients: Float[np.ndarray, "n k"],
    *,
    in_single_precision: bool = False,
) -> Step:
    """Through K = B̃·B̃ᵀ + I, for fewer image coordinates than modes.

    The coefficients are B̃ᵀ·a with K·a = ẽ + B̃·c − J̃·δ. At the minimum a is ẽ itself, so what is solved for is the
    difference: K·(a − ẽ) = B̃·g − J̃·δ with g = c − B̃ᵀ·ẽ, and (J̃ᵀ·K⁻¹·J̃)·δ = J̃ᵀ·(ẽ + K⁻¹·B̃·g). Right-hand sides are in
    double precision and die out at the minimum; K may be in single precision, whose error is some 1e-7 times K's
    condition relative to the step, and dies with it (iterative refinement).
    """
    from geometry.fit_kernel import dual_steps  # numba, on first use

    rows = equations.rows
    n, m, _, p = equations.jacobian.shape
    jacobian = equations.jacobian.reshape(n, m, 2 * p)
    on_points = np.einsum("naxp,nap->nxp", rows, equations.residual)
    gradient = coefficients - points.onto_modes(on_points, index)
    r = np.einsum("naxp,nxp->nap", rows, points.offsets(gradient, index))
    reduced = equations.prior_gradient + (jacobian @ equations.residual.reshape(n, 2 * p, 1))[:, :, 0]
    step, dual = np.empty((n, m)), np.empty((n, 2 * p))
    dual_steps(
        _gram(points, index, in_single_precision),
        np.zeros((0, 0), np.int64) if index is None else index,
        rows, jacobian, r.reshape(n, 2 * p), equations.damping, equations.prior, reduced, step, dual,
    )  # fmt: skip
    on_points += np.einsum("naxp,nap->nxp", rows, dual.reshape(n, 2, p))
    return step, points.onto_modes(on_points, index)


def _gram(points: FitPoints, index: np.ndarray | None, in_single_precision: bool) -> np.ndarray:
    if index is None:
        return points.own_gram_blocks_32 if in_single_precision else points.own_gram_blocks
    return points.gram_blocks_32 if in_single_precision else points.gram_blocks


def primal_step(
    points: FitPoints,
    index: Int[np.ndarray, "n p"] | None,
    equations: StepEquations,
    coefficients: Float[np.ndarray, "n k"],
) -> Step:
    """Through B̃ᵀ·B̃ + I, for more image coordinates than modes (dense fields).

    The reduced matrix is a sum of squares, and the right-hand side the gradient at the present place: nothing cancels.
    """
    n, m, _, p = equations.jacobian.shape
    basis = points.basis(equations.rows, index)  # (n 2p k)
    jacobian = equations.jacobian.reshape(n, m, 2 * p)
    residual = equations.residual.reshape(n, 2 * p, 1)
    transposed = basis.transpose(0, 2, 1)
    gradient = (transposed @ residual)[:, :, 0] - coefficients
    right = np.concatenate([transposed @ jacobian.transpose(0, 2, 1), gradient[:, :, None]], axis=2)
    solved = np.linalg.solve(transposed @ basis + np.eye(points.n_modes), right)  # (n k m+1)
    by_pose = solved[:, :, :m]
    unexplained = jacobian - (basis @ by_pose).transpose(0, 2, 1)
    normal = unexplained @ unexplained.transpose(0, 2, 1) + by_pose.transpose(0, 2, 1) @ by_pose
    reduced = (jacobian @ residual)[:, :, 0] - np.einsum("nkm,nk->nm", by_pose, gradient)
    step = damped_solution(normal + np.diag(equations.prior), reduced + equations.prior_gradient, equations.damping)
    return step, coefficients + solved[:, :, m] - np.einsum("nkm,nm->nk", by_pose, step)


def shared_step(
    points: FitPoints,
    index: Int[np.ndarray, "n p"] | None,
    equations: StepEquations,
    coefficients: Float[np.ndarray, "n k"],
    person: Int[np.ndarray, " n"],
    n_identity: int,
    identity_prior: Float[np.ndarray, " n"],
) -> Step:
    """Several images of each person: expression and pose of each image are eliminated, then the common identity.

    `identity_prior` is how often the prior of the identity counts, the same for all images of a person. Rows of
    `coefficients` of one person hold the same identity, and do so in the answer. Damping acts on the pose's diagonal
    before elimination.
    """
    n, m, _, p = equations.jacobian.shape
    n_expression = points.n_modes - n_identity
    n_own = n_expression + m
    basis = points.basis(equations.rows, index)
    jacobian = equations.jacobian.reshape(n, m, 2 * p).transpose(0, 2, 1)
    residual = equations.residual.reshape(n, 2 * p, 1)
    columns = np.concatenate([basis[:, :, n_identity:], jacobian, basis[:, :, :n_identity], residual], axis=2)
    normal = columns[:, :, :-1].transpose(0, 2, 1) @ columns  # own and identity rows; own, identity, residual columns
    expression, pose = np.arange(n_expression), np.arange(n_expression, n_own)
    normal[:, expression, expression] += 1.0
    normal[:, expression, -1] -= coefficients[:, n_identity:]
    normal[:, pose, pose] += equations.prior
    normal[:, pose, -1] += equations.prior_gradient
    diagonal = normal[:, pose, pose]
    normal[:, pose, pose] += equations.damping[:, None] * diagonal + _floor(diagonal)
    solved = np.linalg.solve(normal[:, :n_own, :n_own], normal[:, :n_own, n_own:])  # (n own id+1)
    left = normal[:, n_own:, n_own:] - normal[:, n_own:, :n_own] @ solved

    step, new = np.empty((n, m)), np.empty_like(coefficients)
    for one in np.unique(person):
        images = np.flatnonzero(person == one)
        together = left[images].sum(axis=0)
        before = coefficients[images[0], :n_identity]
        prior = identity_prior[images[0]]
        change = np.linalg.solve(together[:, :-1] + prior * np.eye(n_identity), together[:, -1] - prior * before)
        own = solved[images, :, -1] - solved[images, :, :-1] @ change
        new[images, :n_identity] = before + change
        new[images, n_identity:] = coefficients[images, n_identity:] + own[:, :n_expression]
        step[images] = own[:, n_expression:]
    return step, new


MOST_STIFF = 3e3
"""The largest diagonal entry of B̃·B̃ᵀ with which single precision still gives two digits of every step."""


def stiffness(
    points: FitPoints, index: Int[np.ndarray, "n p"] | None, rows: Float[np.ndarray, "n 2 3 p"]
) -> Float[np.ndarray, " n"]:
    """A bound of the diagonal of B̃·B̃ᵀ of every face."""
    of_points = points.spread[: points.n_landmarks] if index is None else points.spread[index]
    return ((rows**2).sum(axis=(1, 2)) * of_points).max(axis=1)


def determined_modes(
    points: FitPoints,
    rows: Float[np.ndarray, "n 2 3 p"],
    person: Int[np.ndarray, " n"] | None,
    n_identity: int,
    identity_prior: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """How many modes each image determines: tr(1 − K⁻¹) = Σ λ/(1 + λ) over the eigenvalues λ of B̃ᵀ·B̃.

    `rows` are whitened, at the landmarks' fixed places. Where images share an identity, what they determine of it
    together is shared out among them.
    """
    n, _, _, p = rows.shape
    if person is not None:
        return _determined_together(points.basis(rows, None), person, n_identity, identity_prior)
    if 2 * p > points.n_modes:
        basis = points.basis(rows, None)
        inner = basis.transpose(0, 2, 1) @ basis + np.eye(points.n_modes)
        return points.n_modes - np.trace(np.linalg.inv(inner), axis1=1, axis2=2)
    from geometry.fit_kernel import dual_determined  # numba, on first use

    determined, stiff = np.empty(n), stiffness(points, None, rows) >= MOST_STIFF
    for chosen, in_single_precision in ((~stiff, True), (stiff, False)):
        if chosen.any():
            found = np.empty(int(chosen.sum()))
            dual_determined(_gram(points, None, in_single_precision), np.ascontiguousarray(rows[chosen]), found)
            determined[chosen] = found
    return determined


def _determined_together(
    basis: np.ndarray, person: np.ndarray, n_identity: int, identity_prior: np.ndarray
) -> np.ndarray:
    """tr(C_i·H_i) of every image: H_i its information on identity and expression, C_i their covariance given all."""
    n, _, k = basis.shape
    information = basis.transpose(0, 2, 1) @ basis
    identity, own = np.arange(n_identity), np.arange(n_identity, k)
    inner = information[:, n_identity:, n_identity:] + np.eye(k - n_identity)
    gain = np.linalg.solve(inner, information[:, n_identity:, :n_identity])  # (n own id)
    left = information[:, :n_identity, :n_identity] - information[:, :n_identity, n_identity:] @ gain
    covariance = np.empty((n, k, k))
    for one in np.unique(person):
        images = np.flatnonzero(person == one)
        of_identity = np.linalg.inv(left[images].sum(axis=0) / identity_prior[images[0]] + np.eye(n_identity))
        cross = -gain[images] @ of_identity
        covariance[np.ix_(images, identity, identity)] = of_identity
        covariance[np.ix_(images, own, identity)] = cross
        covariance[np.ix_(images, identity, own)] = cross.transpose(0, 2, 1)
        covariance[np.ix_(images, own, own)] = np.linalg.inv(inner[images]) - cross @ gain[images].transpose(0, 2, 1)
    return np.einsum("nij,nji->n", covariance, information)


def damped_solution(
    normal: Float[np.ndarray, "n m m"], gradient: Float[np.ndarray, "n m"], damping: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n m"]:
    """(N + damping · diag N)⁻¹ · gradient; a direction that no point sees gets no step."""
    diagonal = np.diagonal(normal, axis1=1, axis2=2)
    extra = damping[:, None] * diagonal + _floor(diagonal)
    return np.linalg.solve(normal + extra[:, :, None] * np.eye(normal.shape[1]), gradient[:, :, None])[:, :, 0]


def _floor(diagonal: np.ndarray) -> np.ndarray:
    return 1e-14 * diagonal.max(axis=1, keepdims=True) + 1e-300

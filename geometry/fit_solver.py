r"""The landmark fit's solver: pose and coefficients together, the coefficients eliminated (variable projection).

**Objective.** One face has landmarks u_p (pixels, here y **up**) at surface points X_p = m_p + A_p·c, where c are the
coefficients in standard deviations (prior: unit normal) and A_p (3 k) the rows of the basis. With the projection π of
:mod:`geometry.fit_poses`, weights w_p and the landmarks' noise σ (pixels) the fit minimises

    E(pose, c) = Σ_p w_p · ρ(‖S_p·(u_p − π(X_p))‖² / σ²) + ‖c‖² + 2ν·log s

with ρ the identity (least squares; the maximum a posteriori of Blanz and Vetter 2003) or a robust loss. S_p is the
identity but for contour points, which may slip along the contour: it shortens the residual in that direction.

**Scale.** With ν = 0 this is the usual ridge, and its scale is too large, by 4 % on the built-in model with 1 px of
noise: in s·A·c a larger s explains the same picture with smaller coefficients. A pose should be judged by all faces
that it allows, not by the single most probable one; with the coefficients integrated out its density is lower by
½·log det K (K below). Only the dependence on scale matters: log det K grows as 2ν·log s, where ν = tr(1 − K⁻¹) is the
number of modes that the landmarks determine. It is evaluated once, at the start.

**Several images of a person** share the identity, and the sum of their objectives would take the errors of a landmark on
all of them for independent. They are not: a face that is none of the model's is so on every image, and thirty like
images of it would drag the identity seven standard deviations away, and the scale with it. With a share ρ of the
landmarks' variance in common, n images count for the identity as n/κ independent ones, κ = 1 + (n − 1)·ρ (the design
effect of Kish 1965): its prior counts κ times. With ρ = 1 any number of copies gives the fit of one.

**Steps.** Every step linearises at the present pose and shape, u − π ≈ e − J·δ − B·Δc with B_p = (∂π/∂X)·A_p, and solves
for the pose's six or seven unknowns and all coefficients together. The coefficients are eliminated: with W the weights,
B̃ = W^½·B and r̃ = W^½·e + B̃·c,

    K = B̃·B̃ᵀ + I  (2p × 2p),   (J̃ᵀ·K⁻¹·J̃)·δ = J̃ᵀ·K⁻¹·r̃,   a = K⁻¹·(r̃ − J̃·δ),   c = B̃ᵀ·a.

K ≥ I whatever the weights, so missing points (w = 0) are rows of the identity and nothing is ever singular. K's
entries are (∂π/∂X)_p · G_pq · (∂π/∂X)_qᵀ with the constant G = A·Aᵀ: their cost does not depend on the number of modes.
Where the image coordinates outnumber the modes (dense fields) B̃ᵀ·B̃ + I takes K's place, and for several images of one
person each image's expression and pose are eliminated before the identity (:mod:`geometry.fit_elimination`).

This is Golub and Pereyra's (1973) variable projection with Kaufman's (1975) Jacobian but for terms of second order
(Ruhe and Wedin 1980: it converges as Gauss-Newton on all parameters does, where *alternating* pose and coefficients
crawls: on noise-free points of 20 modes it is still 0.14 px and 0.5° off after 32 rounds, when this is exact after four
steps). Levenberg-Marquardt damping of the pose makes the objective fall at every accepted step. Where K allows it is
eliminated in single precision, with right-hand sides in double that vanish at the minimum.

**Robust loss.** Iteratively reweighted: w_p·ρ'(q_p) in place of w_p, recomputed with every step; the weighted squares
majorise the robust objective, so the same test of descent holds. The loss starts wide (the median residual) and narrows
to its own width, halving at each step (graduated non-convexity, Blake and Zisserman 1987).

**Contours.** The first steps leave the jaw out; then its points are put on the visible contour of the present fit
before every step (:mod:`geometry.fit_marching`) until a step is small. Each time the objective is another one, and is
measured anew before the step is judged; at the end it is one objective, and the fit converges on it.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from geometry.fit_elimination import MOST_STIFF, StepEquations, dual_step, primal_step, shared_step, stiffness
from geometry.fit_losses import Loss, loss_slope, loss_value
from geometry.fit_marching import ContourMarcher
from geometry.fit_points import FitPoints
from geometry.fit_poses import Poses

FOCAL_SPREAD = 0.5
"""Standard deviation of the prior on the logarithm of an unknown focal length."""

_FIRST_DAMPING = 1e-3
_LEAST_DAMPING = 1e-9
_MOST_DAMPING = 1e6
_STEADY = 1e-7  # relative change of a robust objective at which reweighting has settled
_ROUNDING = 1e-10  # relative change of the objective below which a step means nothing
_BEND = 0.01  # the step of a coefficient by a standard deviation counts as this many radians
_LEAST_RATE = 0.1  # no step is expected to be smaller than a tenth of the one before
_FARTHEST_SCALE = 10.0  # beyond this factor from the start the first-order log det K means nothing, and falls for ever
_LEAST_INNER_POINTS = 4
_STEPS_BEFORE_MARCHING = 2
_MARCHES = 12
_SETTLED_STEP = 2e-3  # a contour point does not move by what a smaller step turns the head


@dataclass(frozen=True, slots=True)
class FitProblem:
    """n faces to be fitted. Pixels are y up, about any origin (scaled orthographic) or the principal point.

    targets (n 2 p) finite; weights (n p) ≥ 0, 0 for a missing point; noise_px (n)
    identity_prior  (n,) κ of the module's docstring, the same for all images of a person
    contour         who moves the contour points, or None where all points stay where they are
    slip            (n,) how far contour points slip along the contour (standard deviation in units of the noise)
    person          (n,) images with the same number share the first `n_identity` coefficients; None: none do
    log_focal       (n,) prior mean of the logarithm of an unknown focal length; None: it is as the start has it
    determined      (n,) ν of the module's docstring; None for the plain ridge
    log_scale       (n,) where its term is zero: it is 2ν·(log s − log_scale)
    """

    points: FitPoints
    targets: Float[np.ndarray, "n 2 p"]
    weights: Float[np.ndarray, "n p"]
    noise_px: Float[np.ndarray, " n"]
    identity_prior: Float[np.ndarray, " n"]
    contour: ContourMarcher | None = None
    slip: Float[np.ndarray, " n"] | None = None
    person: Int[np.ndarray, " n"] | None = None
    n_identity: int = 0
    log_focal: Float[np.ndarray, " n"] | None = None
    determined: Float[np.ndarray, " n"] | None = None
    log_scale: Float[np.ndarray, " n"] | None = None


@dataclass(frozen=True, slots=True)
class SolverOptions:
    """See :class:`geometry.fit.FitConfig`; `loss_width` in noise standard deviations."""

    loss: Loss = "squares"
    loss_width: float = 1.0
    max_steps: int = 50
    step_tolerance: float = 5e-5


@dataclass(frozen=True, slots=True)
class Minimum:
    """Where the solver stopped: coefficients in standard deviations, objective E, and whether its steps died out.

    index (n p) is where in the bank each landmark lies and slip (n 2 p) S = 1 − slip·slipᵀ; None where nothing marches.
    pull (n p) is the factor that a robust loss left of each weight.
    """

    poses: Poses
    coefficients: Float[np.ndarray, "n k"]
    objective: Float[np.ndarray, " n"]
    converged: Bool[np.ndarray, " n"]
    pull: Float[np.ndarray, "n p"]
    index: Int[np.ndarray, "n p"] | None = None
    slip: Float[np.ndarray, "n 2 p"] | None = None


def minimise(
    problem: FitProblem, start: Poses, options: SolverOptions, coefficients: Float[np.ndarray, "n k"] | None = None
) -> Minimum:
    """Minimise E of the module's docstring for n faces at once; a face that has arrived leaves the batch.

    A face has arrived when its next step will be below `step_tolerance` (radians, relative scale, shift relative to the
    face's radius, hundredths of a coefficient's standard deviation), as the last two let expect, or when the objective
    did not fall beyond rounding. `coefficients` (default: zero, the mean face) belong to the start; without them
    contour points are left out of the first steps.
    """
    faces = _Faces(problem, start, options, coefficients)
    first_march = 0 if coefficients is not None else _STEPS_BEFORE_MARCHING
    active = np.arange(len(problem.targets))
    for number in range(options.max_steps):
        steady = np.ones(len(active), dtype=bool)
        if problem.contour is not None:
            if first_march <= number < first_march + _MARCHES:
                moving = active[~faces.settled[active]]
                if len(moving):
                    faces.march(moving)
            steady = faces.settled[active] | (number >= first_march + _MARCHES)
        active = faces.step(active, steady)
        if len(active) == 0:
            break
    return faces.minimum()


@dataclass
class _Faces:
    """All faces of a problem on their way down; arrays are overwritten row by row."""

    problem: FitProblem
    start: Poses
    options: SolverOptions
    given: np.ndarray | None
    poses: Poses = field(init=False)
    coefficients: np.ndarray = field(init=False)  # (n k)
    shapes: np.ndarray = field(init=False)  # (n 3 p)
    weights: np.ndarray = field(init=False)  # (n p) without the contour until it marches
    width: np.ndarray = field(init=False)  # (n,) of the loss
    pull: np.ndarray = field(init=False)  # (n p) slope of the loss
    objective: np.ndarray = field(init=False)
    damping: np.ndarray = field(init=False)
    converged: np.ndarray = field(init=False)
    size: np.ndarray = field(init=False)  # of the step before; infinite where it was none
    marched: np.ndarray = field(init=False)  # whether the contour points have been on the contour
    settled: np.ndarray = field(init=False)  # whether they stay where they are
    index: np.ndarray | None = field(init=False, default=None)
    slip: np.ndarray | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        problem, options = self.problem, self.options
        n, p = problem.weights.shape
        everybody = np.arange(n)
        self.poses = self.start.copy()
        self.coefficients = np.zeros((n, problem.points.n_modes)) if self.given is None else self.given.copy()
        self.weights = problem.weights
        if problem.contour is not None:
            self.index, self.slip = np.tile(np.arange(p), (n, 1)), np.zeros((n, 2, p))
            if self.given is None:
                inner = problem.weights.copy()
                inner[:, problem.contour.landmarks] = 0.0
                enough = (inner > 0).sum(axis=1) >= _LEAST_INNER_POINTS
                self.weights = np.where(enough[:, None], inner, problem.weights)
        self.shapes = problem.points.shapes(self.coefficients, self.index)
        self.width, self.pull = np.full(n, options.loss_width), np.ones((n, p))
        self.objective, self.damping = np.full(n, np.inf), np.full(n, _FIRST_DAMPING)
        self.converged, self.size = np.zeros(n, dtype=bool), np.full(n, np.inf)
        self.marched, self.settled = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        q, inside = self._squares(everybody, self.poses, self.shapes)
        if options.loss != "squares":
            medians = [np.sqrt(np.median(row[w > 0])) for row, w in zip(q, self.weights, strict=True)]
            self.width = np.maximum(self.width, medians)
        self._judge(everybody, q, inside)

    # ------------------------------------------------------------------------------------------ one round

    def march(self, active: np.ndarray) -> None:
        """Put the contour points of some faces on the visible contour."""
        problem = self.problem
        if problem.contour is None or problem.slip is None or self.index is None or self.slip is None:
            return
        self.weights = problem.weights
        self.index[active], self.slip[active] = problem.contour.march(
            self.poses.of(active), self.coefficients[active], problem.targets[active], problem.slip[active]
        )
        self.shapes[active] = problem.points.shapes(self.coefficients[active], self.index[active])
        self._judge(active, *self._squares(active, self.poses.of(active), self.shapes[active]))
        self.marched[active] = True

    def step(self, active: np.ndarray, steady: np.ndarray) -> np.ndarray:
        """One step of the active faces; returns those that go on. Only `steady` ones may arrive."""
        options, points = self.options, self.problem.points
        index = self._index_of(active)
        step, coefficients = self._solve(active, index)
        trial = self.poses.of(active).moved(step)
        shapes = points.shapes(coefficients, index)
        q, inside = self._squares(active, trial, shapes)
        inside &= np.abs(np.log(trial.scale / self.start.scale[active])) < np.log(_FARTHEST_SCALE)
        reached = self._objective(active, q, inside, coefficients, trial)

        # an infinite objective (behind the camera) is no better than anything, nor than itself
        better = np.isfinite(reached) & (reached <= self.objective[active] + _ROUNDING * (1 + np.abs(reached)))
        shift = np.abs(step[:, 4:6]).max(axis=1) / (self.poses.scale[active] * points.radius)
        length = np.maximum(np.abs(step[:, :4]).max(axis=1), shift)
        size = np.maximum(length, np.abs(coefficients - self.coefficients[active]).max(axis=1) * _BEND)
        arrived = self._has_arrived(active, size, reached) & better & steady
        arrived = self._for_all_images(arrived, active, np.logical_and)

        won = active[better]
        self.poses.put(won, trial.of(better))
        self.coefficients[won], self.shapes[won] = coefficients[better], shapes[better]
        if options.loss != "squares":
            self.width[won] = np.maximum(options.loss_width, self.width[won] / 2)
        self._judge(won, q[better], inside[better])
        damping = self.damping[active]
        self.damping[active] = np.where(better, np.maximum(damping / 10, _LEAST_DAMPING), damping * 10)
        self.size[active] = np.where(better, size, np.inf)
        quiet = self.marched[active] & better & (length < _SETTLED_STEP)
        self.settled[active] |= self._for_all_images(quiet, active, np.logical_and)

        self.converged[active[arrived]] = True
        return active[~arrived & (self.damping[active] < _MOST_DAMPING)]

    def _has_arrived(self, active: np.ndarray, size: np.ndarray, reached: np.ndarray) -> np.ndarray:
        """Whether a step of this size, to this objective, was the last one that matters."""
        with np.errstate(invalid="ignore"):  # a start behind a perspective camera has no finite objective
            rate = size / np.maximum(self.size[active], 1e-300)
            change = np.abs(self.objective[active] - reached)
        ahead = size * np.clip(rate, _LEAST_RATE, 1.0)  # how large the next step will be
        arrived = (ahead < self.options.step_tolerance) | (change <= _ROUNDING * (1 + np.abs(reached)))
        if self.options.loss != "squares":  # reweighting moves the coefficients even where the pose stands still
            arrived &= (self.width[active] == self.options.loss_width) & (change < _STEADY * np.abs(reached))
        return arrived

    def _solve(self, active: np.ndarray, index: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Step and coefficients of the active faces."""
        problem, points = self.problem, self.problem.points
        equations = self._equations(active)
        coefficients = self.coefficients[active]
        if problem.person is not None:
            person = problem.person[active]
            prior = problem.identity_prior[active]
            return shared_step(points, index, equations, coefficients, person, problem.n_identity, prior)
        if 2 * equations.residual.shape[2] > points.n_modes:
            return primal_step(points, index, equations, coefficients)
        single = stiffness(points, index, equations.rows) < MOST_STIFF
        step, new = np.empty((len(active), equations.jacobian.shape[1])), np.empty_like(coefficients)
        for chosen in (single, ~single):
            if chosen.any():
                step[chosen], new[chosen] = dual_step(
                    points,
                    None if index is None else index[chosen],
                    equations if chosen.all() else equations.of(chosen),
                    coefficients[chosen],
                    in_single_precision=chosen is single,
                )
        return step, new

    def minimum(self) -> Minimum:
        """The faces as they are now."""
        return Minimum(self.poses, self.coefficients, self.objective, self.converged, self.pull, self.index, self.slip)

    # ------------------------------------------------------------------------------------------ what it is made of

    def _equations(self, active: np.ndarray) -> StepEquations:
        problem, with_focal = self.problem, self.problem.log_focal is not None
        poses = self.poses.of(active)
        here = poses.linearise(self.shapes[active], with_focal=with_focal)
        root_weights = np.sqrt(self.weights[active] * self.pull[active]) / problem.noise_px[active, None]
        whitened = [
            _squeezed(part, self._slip_of(active)) * root_weights.reshape(len(active), *[1] * (part.ndim - 2), -1)
            for part in (
                here.rows.transpose(0, 2, 1, 3),
                here.jacobian,
                (problem.targets[active] - here.points_px)[:, None],
            )
        ]
        prior, gradient = np.zeros(here.jacobian.shape[1]), np.zeros(here.jacobian.shape[:2])
        if problem.determined is not None:
            gradient[:, 3] = -problem.determined[active]
        if problem.log_focal is not None:
            prior[6] = FOCAL_SPREAD**-2
            gradient[:, 6] = (problem.log_focal[active] + np.log(poses.inverse_focal)) * prior[6]
        rows = np.ascontiguousarray(whitened[0].transpose(0, 2, 1, 3))
        return StepEquations(rows, whitened[1], whitened[2][:, 0], self.damping[active], prior, gradient)

    def _squares(self, faces: np.ndarray, poses: Poses, shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """q = ‖S·(u − π(X))‖² / σ² of every point (n p), and which faces lie before the camera."""
        places, inside = poses.project(shapes)
        residual = _squeezed((self.problem.targets[faces] - places)[:, None], self._slip_of(faces))[:, 0]
        return (residual**2).sum(axis=1) / self.problem.noise_px[faces, None] ** 2, inside

    def _objective(
        self, faces: np.ndarray, q: np.ndarray, inside: np.ndarray, coefficients: np.ndarray, poses: Poses
    ) -> np.ndarray:
        """E of every face, or of the person it shows."""
        problem = self.problem
        value = (self.weights[faces] * loss_value(q, self.width[faces], self.options.loss)).sum(axis=1)
        value = np.where(inside, value, np.inf) + (coefficients[:, problem.n_identity :] ** 2).sum(axis=1)
        if problem.log_focal is not None:
            value += ((problem.log_focal[faces] + np.log(poses.inverse_focal)) / FOCAL_SPREAD) ** 2
        if problem.determined is not None and problem.log_scale is not None:
            value += 2 * problem.determined[faces] * (np.log(poses.scale) - problem.log_scale[faces])
        of_identity = problem.identity_prior[faces] * (coefficients[:, : problem.n_identity] ** 2).sum(axis=1)
        return self._for_all_images(value, faces, np.add) + of_identity

    def _judge(self, faces: np.ndarray, q: np.ndarray, inside: np.ndarray) -> None:
        """Weigh the residuals, and measure the objective, of faces as they are now."""
        if self.options.loss != "squares":
            self.pull[faces] = loss_slope(q, self.width[faces], self.options.loss)
        poses = self.poses.of(faces)
        self.objective[faces] = self._objective(faces, q, inside, self.coefficients[faces], poses)

    def _for_all_images(self, values: np.ndarray, faces: np.ndarray, combine: np.ufunc) -> np.ndarray:
        """What holds for each image, combined over the images of a person and given to each of them."""
        if self.problem.person is None:
            return values
        _, person = np.unique(self.problem.person[faces], return_inverse=True)
        combined = np.full(person.max(initial=-1) + 1, combine.identity, dtype=values.dtype)
        combine.at(combined, person, values)
        return combined[person]

    def _index_of(self, faces: np.ndarray) -> np.ndarray | None:
        return None if self.index is None else self.index[faces]

    def _slip_of(self, faces: np.ndarray) -> np.ndarray | None:
        return None if self.slip is None else self.slip[faces]


def _squeezed(vectors: np.ndarray, slip: np.ndarray | None) -> np.ndarray:
    """S·v = v − slip·(slipᵀ·v) of image vectors (n m 2 p)."""
    if slip is None:
        return vectors
    along = (vectors * slip[:, None]).sum(axis=2, keepdims=True)
    return vectors - slip[:, None] * along

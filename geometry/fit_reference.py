"""The landmark fit's slow obvious reference: SciPy's least squares over poses and all coefficients, person by person.

The objective is that of :mod:`geometry.fit_solver`, written as it reads there; nothing is eliminated. For tests and
benchmarks: ``fit_landmarks(..., minimiser=reference_minimise)``. Landmarks that march are beyond it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from geometry.fit_losses import Loss
from geometry.fit_poses import Poses
from geometry.fit_solver import FOCAL_SPREAD, FitProblem, Minimum, SolverOptions
from geometry.rotation import rotation_from_vector

_LIFT = 3.0  # no scale is as far as a factor of twenty below its start

Function = Callable[[np.ndarray], np.ndarray]


def reference_minimise(
    problem: FitProblem, start: Poses, options: SolverOptions, coefficients: Float[np.ndarray, "n k"] | None = None
) -> Minimum:
    """As :func:`geometry.fit_solver.minimise`, with derivatives from central differences.

    `max_steps` is left to SciPy, whose steps are of another kind. Raises ValueError for contours that march.
    """
    return _minimise(problem, start, options, coefficients, lambda residuals, _: _central_differences(residuals))


def reference_minimise_two_point(
    problem: FitProblem, start: Poses, options: SolverOptions, coefficients: Float[np.ndarray, "n k"] | None = None
) -> Minimum:
    """The same with SciPy's own forward differences: what a first script would use, and the slowest."""
    return _minimise(problem, start, options, coefficients, lambda *_: "2-point")


def reference_minimise_analytic(
    problem: FitProblem, start: Poses, options: SolverOptions, coefficients: Float[np.ndarray, "n k"] | None = None
) -> Minimum:
    """The same with exact derivatives, for least squares, one image a person and a scaled orthographic camera."""
    if options.loss != "squares" or problem.person is not None or start.inverse_focal.any():
        raise ValueError("exact derivatives are written for least squares and scaled orthographic cameras alone")
    return _minimise(problem, start, options, coefficients, lambda _, exact: exact)


def _minimise(
    problem: FitProblem,
    start: Poses,
    options: SolverOptions,
    coefficients: np.ndarray | None,
    derivatives: Callable[[Function, Function], Function | str],
) -> Minimum:
    if problem.contour is not None:
        raise ValueError("the reference fits points that stay where they are; fit with contour='fixed'")
    n, k = len(problem.targets), problem.points.n_modes
    person = np.arange(n) if problem.person is None else problem.person
    found_poses, found = start.copy(), np.zeros((n, k)) if coefficients is None else coefficients.copy()
    objective, converged, pull = np.empty(n), np.empty(n, dtype=bool), np.ones(problem.weights.shape)
    for one in np.unique(person):
        images = np.flatnonzero(person == one)
        posed = _Person(problem, start, options, images)
        solution = least_squares(
            posed.residuals,
            posed.first(found),
            jac=derivatives(posed.residuals, posed.jacobian),
            x_scale="jac",
            xtol=1e-3 * options.step_tolerance,
            ftol=1e-12,
            gtol=1e-12,
        )
        for image, (scale, rotation, translation, inverse_focal, c) in zip(
            images, posed.unpacked(solution.x), strict=True
        ):
            found_poses.put(
                np.array([image]), Poses(*(np.array([a]) for a in (scale, rotation, translation, inverse_focal)))
            )
            found[image] = c
        objective[images] = 2 * solution.cost - posed.offset
        converged[images] = solution.success
    return Minimum(found_poses, found, objective, converged, pull)


class _Person:
    """Some images as a vector of residuals of a vector of parameters: identity, then pose and expression of each."""

    def __init__(self, problem: FitProblem, start: Poses, options: SolverOptions, images: np.ndarray) -> None:
        self.problem, self.start, self.options, self.images = problem, start, options, images
        self.n_pose = 6 if problem.log_focal is None else 7
        determined = 0.0 if problem.determined is None else problem.determined[images].sum()
        self.offset = 2 * determined * _LIFT
        self.n_own = self.n_pose + problem.points.n_modes - problem.n_identity

    def first(self, coefficients: np.ndarray) -> np.ndarray:
        own = [np.append(np.zeros(self.n_pose), coefficients[i, self.problem.n_identity :]) for i in self.images]
        return np.concatenate([coefficients[self.images[0], : self.problem.n_identity], *own])

    def unpacked(self, parameters: np.ndarray) -> list[tuple[Any, ...]]:
        """Scale, rotation, translation, inverse focal length and coefficients of every image."""
        identity, own = np.split(parameters, [self.problem.n_identity])
        images = []
        for image, part in zip(self.images, own.reshape(len(self.images), -1), strict=True):
            start = self.start
            pose, expression = np.split(part, [self.n_pose])
            focal_step = pose[6] if self.n_pose > 6 else 0.0
            images.append(
                (
                    start.scale[image] * np.exp(pose[3]),
                    rotation_from_vector(pose[:3]) @ start.rotation[image],
                    start.translation[image] + pose[4:6],
                    start.inverse_focal[image] * np.exp(-focal_step),
                    np.concatenate([identity, expression]),
                )
            )
        return images

    def residuals(self, parameters: np.ndarray) -> np.ndarray:
        problem, parts = self.problem, []
        for image, (scale, rotation, translation, inverse_focal, c) in zip(
            self.images, self.unpacked(parameters), strict=True
        ):
            shape = problem.points.mean + (problem.points.design @ c).reshape(3, -1).T
            turned = scale * shape @ rotation.T
            seen = (turned[:, :2] + translation) / (1 - inverse_focal * turned[:, 2:])
            error = (problem.targets[image].T - seen) / problem.noise_px[image]
            # a vector along the error whose square is w·ρ(‖error‖²): the sum of squares is then the objective itself
            q = (error**2).sum(axis=1)
            value = problem.weights[image] * _loss(q, self.options.loss_width, self.options.loss)
            parts += [(error * np.sqrt(value / np.maximum(q, 1e-300))[:, None]).ravel(), c[problem.n_identity :]]
            if problem.determined is not None and problem.log_scale is not None:
                # a residual whose square is 2ν·log(s/s₀), lifted above zero
                lifted = _LIFT + np.log(scale) - problem.log_scale[image]
                parts.append([np.sqrt(2 * problem.determined[image] * lifted)])
            if problem.log_focal is not None:
                parts.append([(np.log(inverse_focal) + problem.log_focal[image]) / FOCAL_SPREAD])
        prior = np.sqrt(problem.identity_prior[self.images[0]])
        return np.concatenate([prior * parameters[: problem.n_identity], *parts])

    def jacobian(self, parameters: np.ndarray) -> np.ndarray:
        """Exact derivatives of the residuals of a single scaled orthographic image under least squares."""
        problem, (image,) = self.problem, self.images
        ((scale, rotation, _, _, c),) = self.unpacked(parameters)
        p, k = len(problem.points.mean), problem.points.n_modes
        design = problem.points.design.reshape(3, p, k)
        shape = problem.points.mean + (problem.points.design @ c).reshape(3, -1).T
        x, y, z = scale * rotation @ shape.T
        # a rotation vector of this size turns by its own left Jacobian (Rodrigues)
        left = _left_jacobian(parameters[:3])
        axes = np.zeros((p, 2, 3))
        axes[:, 1, 0], axes[:, 0, 1], axes[:, 0, 2], axes[:, 1, 2] = -z, z, -y, x
        seen = np.zeros((p, 2, 6 + k))
        seen[:, :, :3] = axes @ left
        seen[:, :, 3] = np.stack([x, y], axis=1)
        seen[:, 0, 4] = seen[:, 1, 5] = 1.0
        seen[:, :, 6:] = np.einsum("ax,xpk->pak", scale * rotation[:2], design)
        root = np.sqrt(problem.weights[image]) / problem.noise_px[image]
        data = -(root[:, None, None] * seen).reshape(2 * p, -1)
        rows = [data, np.concatenate([np.zeros((k, 6)), np.eye(k)], axis=1)]
        if problem.determined is not None and problem.log_scale is not None:
            lifted = _LIFT + np.log(scale) - problem.log_scale[image]
            rows.append(np.sqrt(problem.determined[image] / 2 / lifted) * np.eye(1, 6 + k, 3))
        return np.concatenate(rows)


def _left_jacobian(vector: np.ndarray) -> np.ndarray:
    """J with exp([w + dw]) = exp([J·dw]) · exp([w]) to first order."""
    angle = np.linalg.norm(vector)
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-6:
        return np.eye(3) + cross / 2
    first, second = (1 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.eye(3) + first * cross + second * cross @ cross


def _central_differences(function: Function) -> Function:
    """Its Jacobian with one step for all parameters: SciPy's relative steps vanish where a parameter does."""
    step = 1e-5  # radians, log scale, pixels and standard deviations alike

    def jacobian(at: np.ndarray) -> np.ndarray:
        columns = [function(at + step * unit) - function(at - step * unit) for unit in np.eye(len(at))]
        return np.stack(columns, axis=1) / (2 * step)

    return jacobian


def _loss(q: np.ndarray, width: float, loss: Loss) -> np.ndarray:
    if loss == "huber":
        return np.where(q <= width**2, q, 2 * width * np.sqrt(q) - width**2)
    if loss == "geman_mcclure":
        return q / (1 + q / width**2)
    return q

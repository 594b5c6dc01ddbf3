"""The landmark fit's slow obvious reference: SciPy's least squares over pose and all coefficients, one face at a time.

The objective is that of :mod:`geometry.fit_solver`, written as it reads there; nothing is eliminated, and derivatives
are central differences. For tests and benchmarks: ``fit_landmarks(..., minimiser=reference_minimise)``.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from geometry.fit_solver import FitPoints, Loss, Minimum, Poses
from geometry.rotation import rotation_from_vector


def reference_minimise(
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
    """As :func:`geometry.fit_solver.minimise`; `max_steps` is left to SciPy, whose steps are of another kind."""
    scales, rotations, translations, coefficients, objectives, converged = [], [], [], [], [], []
    for face in range(len(targets)):

        def unpack(parameters: np.ndarray, face: int = face) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
            rotation = rotation_from_vector(parameters[:3]) @ start.rotation[face]
            return (
                rotation,
                start.scale[face] * np.exp(parameters[3]),
                start.translation[face] + parameters[4:6],
                parameters[6:],
            )

        def residuals(parameters: np.ndarray, face: int = face) -> np.ndarray:
            rotation, scale, translation, c = unpack(parameters)
            shape = points.mean + (points.design @ c).reshape(3, -1).T
            error = (targets[face] - scale * shape @ rotation[:2].T - translation) / noise_px[face]
            # a vector along the error whose square is w·ρ(‖error‖²): the sum of squares is then the objective itself
            q = (error**2).sum(axis=1)
            stretch = np.sqrt(weights[face] * _loss(q, loss_width, loss) / np.maximum(q, 1e-300))
            return np.concatenate([(error * stretch[:, None]).ravel(), c])

        first = np.zeros(6 + points.design.shape[1])
        found = least_squares(
            residuals,
            first,
            jac=lambda parameters, residuals=residuals: _central_differences(residuals, parameters),
            x_scale="jac",
            xtol=1e-3 * step_tolerance,
            ftol=1e-12,
            gtol=1e-12,
        )
        rotation, scale, translation, c = unpack(found.x)
        scales.append(scale)
        rotations.append(rotation)
        translations.append(translation)
        coefficients.append(c)
        objectives.append(2 * found.cost)
        converged.append(found.success)
    poses = Poses(np.array(scales), np.array(rotations), np.array(translations))
    return Minimum(poses, np.array(coefficients), np.array(objectives), np.array(converged))


def _central_differences(function: Callable[[np.ndarray], np.ndarray], at: np.ndarray) -> np.ndarray:
    """The Jacobian with one step for all parameters: SciPy's relative steps vanish where a parameter does."""
    step = 1e-5  # radians, log scale, pixels and standard deviations alike
    columns = [function(at + step * unit) - function(at - step * unit) for unit in np.eye(len(at))]
    return np.stack(columns, axis=1) / (2 * step)


def _loss(q: np.ndarray, width: float, loss: Loss) -> np.ndarray:
    if loss == "huber":
        return np.where(q <= width**2, q, 2 * width * np.sqrt(q) - width**2)
    if loss == "geman_mcclure":
        return q / (1 + q / width**2)
    return q

"""One batch of faces: what is wrong with landmarks, the solver's problem, and its minimum as fits.

:mod:`geometry.fit` is the interface and has checked shapes; here everything is (n p 2), and faces that cannot be fitted
come back with a result code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera
from geometry.fit_elimination import determined_modes
from geometry.fit_losses import USUAL_WIDTH
from geometry.fit_marching import ContourMarcher
from geometry.fit_points import FitPoints
from geometry.fit_poses import Poses, starting_poses
from geometry.fit_result import LEAST_POINTS, Fit, FitConfig, FitResult
from geometry.fit_solver import FitProblem, Minimum, SolverOptions
from geometry.morphable_model import Coefficients, MorphableModel, SurfacePoints

_FARTHEST_PX = 1e6
_FLATTEST = 1e-3  # least spread of the landmarks across their own main direction, relative to the spread along it
_BEHIND = np.cos(np.radians(110))  # real profile fits pass 90° by some degrees; beyond this the nose points away
_HIDDEN = 0.9999  # squared length of the slip of a point that is anywhere on the contour
_USUAL_FOCAL = (
    1.2  # of the picture's longer side: a moderate telephoto to a telephone's wide angle lie within ± 2 spreads
)

Minimiser = Callable[..., Minimum]


@dataclass(frozen=True)
class FitSetup:
    """What a fit needs of a model: its points with their constant products.

    landmarks   where the landmarks lie when they are fixed
    bank        the landmarks, then the places that they may march to; `points` has their rows
    marcher     who moves the contour's landmarks; None where they are fixed
    stddevs     (k,) of identity, then expression
    """

    model: MorphableModel
    config: FitConfig
    landmarks: SurfacePoints
    bank: SurfacePoints
    points: FitPoints
    stddevs: Float[np.ndarray, " k"]
    marcher: ContourMarcher | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Faces that are solved together: landmarks (n p 2), weights (n p), sizes (n 2) where known, persons (n) if shared."""

    names: Sequence[str]
    landmarks_px: Float[np.ndarray, "n p 2"]
    weights: Float[np.ndarray, "n p"]
    sizes_hw: np.ndarray | None
    person: np.ndarray | None

    def of(self, chosen: Int[np.ndarray, " _"]) -> "Batch":
        """Some of the faces."""
        return Batch(
            [self.names[face] for face in chosen],
            self.landmarks_px[chosen],
            self.weights[chosen],
            None if self.sizes_hw is None else self.sizes_hw[chosen],
            None if self.person is None else self.person[chosen],
        )

    def size_of(self, face: int) -> tuple[int, int] | None:
        """Height and width of a face's picture."""
        return None if self.sizes_hw is None else (int(self.sizes_hw[face, 0]), int(self.sizes_hw[face, 1]))


def fit_batch(setup: FitSetup, batch: Batch, minimiser: Minimiser) -> list[Fit]:
    """The fits of a batch, in its order."""
    missing = np.isnan(batch.landmarks_px).any(axis=-1)
    used = replace(batch, weights=np.where(missing, 0.0, batch.weights))
    results = _refusals(used)
    fits = [_no_fit(setup, used, face, result) for face, result in enumerate(results)]
    good = [face for face, result in enumerate(results) if result == FitResult.CONVERGED]
    if not good:
        return fits
    fitted = used.of(np.array(good))
    fitted = replace(fitted, landmarks_px=np.where(fitted.weights[:, :, None] > 0, fitted.landmarks_px, 0.0))
    minimum, origin, noise_px, determined = _solve(setup, fitted, minimiser)
    residual_px = _residuals(setup, batch.landmarks_px[good], minimum, origin)
    information = _information(minimum, fitted.weights, noise_px)
    outside = _mostly_outside(fitted)
    for at, face in enumerate(good):
        index = None if minimum.index is None else minimum.index[at]
        identity, expression = np.split(minimum.coefficients[at] * setup.stddevs, [setup.model.n_identity])
        if minimum.poses.rotation[at, 2, 2] < _BEHIND:
            result = FitResult.FROM_BEHIND
        elif outside[at]:
            result = FitResult.OUTSIDE_PICTURE
        else:
            result = FitResult.CONVERGED if minimum.converged[at] else FitResult.STEP_LIMIT
        fits[face] = replace(
            fits[face],
            coefficients=Coefficients(identity, expression),
            camera=_camera(setup, minimum.poses, at, origin[at]),
            residual_px=residual_px[at],
            result=result,
            points=setup.landmarks if index is None else chosen_points(setup.bank, index),
            information=information[at],
            determined_modes=float(determined[at]),
        )
    return fits


def _residuals(setup: FitSetup, faces: np.ndarray, minimum: Minimum, origin: np.ndarray) -> Float[np.ndarray, "n p"]:
    """Distance of the landmarks from their points (px); of hidden contour points from the contour, to no place of it."""
    shapes = setup.points.shapes(minimum.coefficients, minimum.index)
    seen = minimum.poses.project(shapes)[0].transpose(0, 2, 1) * (1, -1) + origin[:, None]
    residual = faces - seen
    if minimum.slip is not None:
        along = minimum.slip.transpose(0, 2, 1) * (1, -1)
        hidden = (along**2).sum(axis=2, keepdims=True) > _HIDDEN
        residual -= np.where(hidden, along * (along * residual).sum(axis=2, keepdims=True), 0.0)
    return np.linalg.norm(residual, axis=-1)


def _solve(setup: FitSetup, batch: Batch, minimiser: Minimiser) -> tuple[Minimum, np.ndarray, np.ndarray, np.ndarray]:
    """Of faces that can be fitted: minimum, origin of its pixels in the image frame (n 2), noise, determined modes."""
    faces, weights, person = batch.landmarks_px, batch.weights, batch.person
    config, points = setup.config, setup.points
    width = config.loss_width or USUAL_WIDTH[config.loss]
    options = SolverOptions(config.loss, width, config.max_steps, config.step_tolerance)
    # about the given points' centroid: the translation then has nothing to do with where the face is
    origin = (weights[:, None] @ faces)[:, 0] / weights.sum(axis=1)[:, None]
    targets = (faces - origin[:, None]) * (1, -1)
    inner = weights
    if setup.marcher is not None:
        inner = weights.copy()
        inner[:, setup.marcher.landmarks] = 0.0
        inner = np.where(((inner > 0).sum(axis=1) >= LEAST_POINTS)[:, None], inner, weights)
    start = starting_poses(points, targets, inner, robust=config.loss != "squares")
    noise_px = config.noise_mm * start.scale if config.noise_px is None else np.full(len(faces), config.noise_px)
    n_identity = 0 if person is None else setup.model.n_identity
    root_weights = np.sqrt(weights) / noise_px[:, None]
    rows = start.plane[:, :, :, None] * root_weights[:, None, None]
    images = np.ones(len(faces)) if person is None else np.bincount(person)[person]
    identity_prior = 1 + (images - 1) * config.shared_error
    determined = determined_modes(points, rows, person, n_identity, identity_prior)
    problem = FitProblem(
        points=points,
        targets=np.ascontiguousarray(targets.transpose(0, 2, 1)),
        weights=weights,
        noise_px=noise_px,
        identity_prior=identity_prior,
        contour=setup.marcher,
        slip=config.contour_slip_mm * start.scale / noise_px,
        person=person,
        n_identity=n_identity,
        determined=determined if config.scale_estimate == "marginal" else None,
        log_scale=np.log(start.scale),
    )
    minimum = minimiser(problem, start, options)
    if config.camera == "scaled_orthographic":
        return minimum, origin, noise_px, determined

    centre, usual = _lenses(config, batch)
    found = minimum.poses
    start = Poses(found.scale, found.rotation, found.translation + (origin - centre) * (1, -1), 1 / usual)
    problem = replace(
        problem,
        targets=np.ascontiguousarray(((faces - centre[:, None]) * (1, -1)).transpose(0, 2, 1)),
        log_focal=np.log(usual) if config.focal_px is None else None,
    )
    return minimiser(problem, start, options, minimum.coefficients), centre, noise_px, determined


def _lenses(config: FitConfig, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Principal points (n 2) and focal lengths (n), known or usual."""
    n = len(batch.weights)
    if batch.sizes_hw is None and (config.focal_px is None or config.principal_point_px is None):
        raise ValueError(
            "a perspective camera looks at the centre of its picture, and its usual focal length is a multiple of the "
            "picture's size: give image_size_hw, or both focal_px and principal_point_px"
        )
    size = np.zeros((n, 2)) if batch.sizes_hw is None else batch.sizes_hw.astype(np.float64)
    centre = (size[:, ::-1] - 1) / 2 if config.principal_point_px is None else np.array(config.principal_point_px)
    focal = _USUAL_FOCAL * size.max(axis=1) if config.focal_px is None else np.full(n, config.focal_px)
    return np.broadcast_to(centre, (n, 2)).astype(np.float64), np.maximum(focal, 1.0)


def _camera(
    setup: FitSetup, poses: Poses, face: int, origin: np.ndarray
) -> ScaledOrthographicCamera | PerspectiveCamera:
    """The camera of one face, about the model's origin and in the image frame."""
    scale, rotation, centroid = float(poses.scale[face]), poses.rotation[face], setup.points.centroid
    if setup.config.camera == "scaled_orthographic":
        x, y = poses.translation[face] - scale * rotation[:2] @ centroid
        return ScaledOrthographicCamera(scale, rotation, np.array([origin[0] + x, origin[1] - y, 0.0]))
    focal = 1 / float(poses.inverse_focal[face])
    centroid_mm = np.array([*poses.translation[face], -focal]) / scale
    return PerspectiveCamera(focal, np.array(origin), rotation, centroid_mm - rotation @ centroid)


def _information(minimum: Minimum, weights: np.ndarray, noise_px: np.ndarray) -> Float[np.ndarray, "n p 2 2"]:
    """S·Sᵀ·w·ρ'/σ² of every landmark, image axes (y down)."""
    isotropic = weights * minimum.pull / noise_px[:, None] ** 2
    squeeze = np.broadcast_to(np.eye(2), (*weights.shape, 2, 2))
    if minimum.slip is not None:
        slip = minimum.slip.transpose(0, 2, 1) * (1, -1)
        squeeze = squeeze - slip[..., :, None] * slip[..., None, :]
    return squeeze @ squeeze * isotropic[..., None, None]


def _no_fit(setup: FitSetup, batch: Batch, face: int, result: FitResult) -> Fit:
    """The Fit of a face that cannot be fitted."""
    unknown, no_turn, model = np.full(3, np.nan), np.full((3, 3), np.nan), setup.model
    camera: ScaledOrthographicCamera | PerspectiveCamera = ScaledOrthographicCamera(np.nan, no_turn, unknown)
    if setup.config.camera == "perspective":
        camera = PerspectiveCamera(np.nan, unknown[:2], no_turn, unknown)
    landmarks_px = batch.landmarks_px[face]
    return Fit(
        source_id=batch.names[face],
        coefficients=Coefficients(np.full(model.n_identity, np.nan), np.full(model.n_expression, np.nan)),
        camera=camera,
        image_size_hw=batch.size_of(face),
        landmarks_px=landmarks_px,
        residual_px=np.full(len(landmarks_px), np.nan),
        result=result,
        points=setup.landmarks,
        information=np.zeros((len(landmarks_px), 2, 2)),
        determined_modes=np.nan,
        config=setup.config,
    )


def chosen_points(points: SurfacePoints, index: Int[np.ndarray, " q"]) -> SurfacePoints:
    """Some of a list of surface points."""
    return SurfacePoints(points.corners[index], points.weights[index])


def _refusals(batch: Batch) -> list[FitResult]:
    """Why each face's landmarks (those that count) cannot be fitted; CONVERGED for those that can."""
    faces, counted = batch.landmarks_px, batch.weights > 0
    few = counted.sum(axis=1) < LEAST_POINTS
    given = np.where(counted[:, :, None], faces, 0.0)
    far = ~(np.abs(given) < _FARTHEST_PX).all(axis=(1, 2))
    given = np.where((few | far)[:, None, None], 0.0, given)
    mean = given.sum(axis=1) / np.maximum(counted.sum(axis=1), 1)[:, None]
    x, y = np.where(counted[:, :, None], given - mean[:, None], 0.0).transpose(2, 0, 1)
    # singular values of the two columns: from their triangular factor, since squares would lose half the digits
    along = np.where(
        ((x**2).sum(axis=1) >= (y**2).sum(axis=1))[:, None, None], np.stack([x, y], 1), np.stack([y, x], 1)
    )
    longer = np.linalg.norm(along[:, 0], axis=1)
    unit = along[:, 0] / np.maximum(longer, 1e-300)[:, None]
    shared = (unit * along[:, 1]).sum(axis=1)
    apart = np.linalg.norm(along[:, 1] - shared[:, None] * unit, axis=1)
    wide = np.hypot(longer, shared)
    narrow = longer * apart / np.maximum(np.hypot(wide, apart), 1e-300)
    flat: np.ndarray = narrow <= _FLATTEST * wide + 1e-9 * np.abs(given).max(axis=(1, 2), initial=0.0)
    reasons = np.select([few, far, flat], [1, 2, 3], 0)
    codes = (FitResult.CONVERGED, FitResult.TOO_FEW_POINTS, FitResult.OUT_OF_RANGE, FitResult.COLLINEAR)
    return [codes[reason] for reason in reasons]


def _mostly_outside(batch: Batch) -> np.ndarray:
    """Whether more than half of a face's landmarks lie outside its picture."""
    if batch.sizes_hw is None:
        return np.zeros(len(batch.weights), dtype=bool)
    faces, counted = batch.landmarks_px, batch.weights > 0
    inside = ((faces >= -0.5) & (faces <= batch.sizes_hw[:, None, ::-1] - 0.5)).all(axis=-1)
    return (inside & counted).sum(axis=1) < 0.5 * counted.sum(axis=1)

"""Landmark fits: from points in a photograph to pose, identity and expression of a morphable model.

:func:`fit_landmarks` takes one face or a batch, any surface points with weights, and missing points (NaN). What is
minimised, and how, is derived in :mod:`geometry.fit_solver`; :mod:`geometry.fit_reference` does the same with SciPy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float, Int
from pydantic import BaseModel, Field

from geometry.camera import ScaledOrthographicCamera
from geometry.fit_solver import FitPoints, Loss, Minimum, minimise, starting_poses
from geometry.morphable_model import Coefficients, MorphableModel, SurfacePoints

_FACES_AT_ONCE = 64  # the 2p × 2p matrices of 68 points then stay near the cache
_LEAST_POINTS = 4  # three points leave two mirrored poses (Alter 1994)
_FARTHEST_PX = 1e6
_FLATTEST = 1e-3  # least spread of the landmarks across their own main direction, relative to the spread along it
_BEHIND = np.cos(np.radians(110))  # real profile fits pass 90° by some degrees; beyond this the nose points away


class FitConfig(BaseModel, frozen=True, extra="forbid"):
    """What a landmark fit assumes; the defaults suit 68 points placed by hand or by a good detector."""

    noise_mm: float = Field(default=1.25, gt=0)
    """Standard deviation of a landmark of weight 1 on the head, x and y each: the balance between landmarks and prior.
    In pixels it is this times the scale of the starting pose, so that a fit does not depend on the picture's size."""

    noise_px: float | None = Field(default=None, gt=0)
    """The same in pixels where it is known, in place of `noise_mm`."""

    loss: Loss = "squares"
    """For wrong points among the landmarks: "huber" bounds the pull of each, "geman_mcclure" lets it go altogether."""

    loss_width: float = Field(default=3.0, gt=0)
    """Residual at which a robust loss bends, in standard deviations of the noise."""

    max_steps: int = Field(default=50, ge=1)
    """Gauss-Newton steps at most; four or five are usual."""

    step_tolerance: float = Field(default=1e-5, gt=0)
    """Stop when a step turns the head by less (radians), scales it by less, and shifts it by less of its radius."""


class FitResult(StrEnum):
    """How a fit ended; :attr:`advice` says it in a sentence."""

    CONVERGED = "converged"
    STEP_LIMIT = "step_limit"
    FROM_BEHIND = "from_behind"
    TOO_FEW_POINTS = "too_few_points"
    COLLINEAR = "collinear"
    OUT_OF_RANGE = "out_of_range"

    @property
    def advice(self) -> str:
        """What happened, and what to do about it."""
        return _ADVICE[self]

    @property
    def has_face(self) -> bool:
        """Whether there are coefficients and a camera at all; without them both hold NaN."""
        return self in (FitResult.CONVERGED, FitResult.STEP_LIMIT, FitResult.FROM_BEHIND)


_ADVICE = {
    FitResult.CONVERGED: "the fit converged",
    FitResult.STEP_LIMIT: "the fit was still moving at the step limit; look at the landmarks, or raise max_steps",
    FitResult.FROM_BEHIND: (
        "the best pose shows the face from behind: the picture was probably mirrored without renaming its landmarks "
        "(geometry.landmarks.MIRROR), or they are in another order than the model's points"
    ),
    FitResult.TOO_FEW_POINTS: (
        f"fewer than {_LEAST_POINTS} landmarks are given with a positive weight, which leaves the pose open; "
        "NaN counts as missing"
    ),
    FitResult.COLLINEAR: "the landmarks coincide or lie on one line, which leaves the pose open; check the file",
    FitResult.OUT_OF_RANGE: (
        "a landmark is infinite or more than a million pixels away; use NaN for missing points and check the file"
    ),
}


@dataclass(frozen=True, slots=True)
class Fit:
    """One fitted face.

    source_id       which picture or record it belongs to
    coefficients    identity and expression in the model file's own scaling
    camera          model frame (mm) to image frame (px); z = 0 px at the model's origin: landmarks do not see depth
    image_size_hw   height and width of the picture (px)
    landmarks_px    (p 2) the landmarks that were fitted, image frame; NaN where missing
    residual_px     (p,) distance from each landmark to its fitted surface point; NaN where missing
    result          how it ended; where ``result.has_face`` is false, coefficients, camera and residual_px are NaN
    """

    source_id: str
    coefficients: Coefficients
    camera: ScaledOrthographicCamera
    image_size_hw: tuple[int, int]
    landmarks_px: Float[np.ndarray, "p 2"]
    residual_px: Float[np.ndarray, "p"]
    result: FitResult

    @property
    def mean_residual_px(self) -> float:
        """Mean distance over the landmarks that are there; NaN when there are none."""
        known = self.residual_px[np.isfinite(self.residual_px)]
        return float(known.mean()) if len(known) else float("nan")


Minimiser = Callable[..., Minimum]


def fit_landmarks(
    model: MorphableModel,
    landmarks_px: Float[np.ndarray, "*n p 2"],
    *,
    image_size_hw: tuple[int, int] | Int[np.ndarray, "n 2"],
    weights: Float[np.ndarray, "..."] | None = None,
    points: SurfacePoints | None = None,
    config: FitConfig = FitConfig(),  # noqa: B008 - frozen
    source_ids: str | Sequence[str] | None = None,
    minimiser: Minimiser = minimise,
) -> Fit | list[Fit]:
    """Fit pose, identity and expression to the landmarks of one face (p 2) or of n faces (n p 2).

    landmarks_px    image frame (x right, y down, first pixel (0, 0)); NaN marks a missing point
    image_size_hw   height and width of every picture, or (n 2) one for each; carried into the result, not used
    weights         (p,) or (n p) ≥ 0: a point of weight w has noise σ/√w, and weight 0 leaves it out
    points          the surface points that the landmarks show (default: the model's 68)
    minimiser       the solver; :func:`geometry.fit_reference.reference_minimise` is the slow one
    Returns one Fit for (p 2), a list for (n p 2). A face that cannot be fitted is a Fit with a result code, no error.

    A fit depends on its batch in rounding alone. Run one BLAS thread per process: the matrices are small, and a second
    thread makes this slower. Points that slide along the contour with pose (the jaw) are taken as fixed.

    Raises ValueError for arrays that do not fit each other or the points, and for weights below 0 or not finite.
    """
    points = model.landmarks if points is None else points
    landmarks_px = np.asarray(landmarks_px, dtype=np.float64)
    one = landmarks_px.ndim == 2
    faces = landmarks_px[None] if one else landmarks_px
    _check_shapes(faces, len(points.corners), model.name)
    weights = _checked_weights(weights, faces.shape[:2])
    sizes = np.broadcast_to(np.asarray(image_size_hw), (len(faces), 2))
    names = _names(source_ids, len(faces))

    stddevs = np.concatenate([model.identity_stddevs, model.expression_stddevs]).astype(np.float64)
    rows = model.rows(points)
    fit_points = FitPoints.of(rows, stddevs)
    fits = []
    for first in range(0, len(faces), _FACES_AT_ONCE):
        chunk = slice(first, first + _FACES_AT_ONCE)
        cameras, in_stddevs, results = _fit_chunk(fit_points, faces[chunk], weights[chunk], config, minimiser)
        identity, expression = np.split(in_stddevs * stddevs, [model.n_identity], axis=1)
        positions = rows.positions(Coefficients(identity, expression))
        for face, (camera, result) in enumerate(zip(cameras, results, strict=True)):
            given = faces[first + face]
            fits.append(
                Fit(
                    source_id=names[first + face],
                    coefficients=Coefficients(identity[face], expression[face]),
                    camera=camera,
                    image_size_hw=(int(sizes[first + face, 0]), int(sizes[first + face, 1])),
                    landmarks_px=given,
                    residual_px=np.linalg.norm(given - camera.project(positions[face])[:, :2], axis=1),
                    result=result,
                )
            )
    return fits[0] if one else fits


def _fit_chunk(
    points: FitPoints, faces: np.ndarray, weights: np.ndarray, config: FitConfig, minimiser: Minimiser
) -> tuple[list[ScaledOrthographicCamera], np.ndarray, list[FitResult]]:
    """Cameras, coefficients in standard deviations (n k), and how each fit ended."""
    missing = np.isnan(faces).any(axis=-1)
    weights = np.where(missing, 0.0, weights)
    faces = np.where(weights[:, :, None] > 0, faces, 0.0)
    refused = [_refusal(face[w > 0]) for face, w in zip(faces, weights, strict=True)]
    good = np.flatnonzero([reason is None for reason in refused])
    results = [FitResult.CONVERGED if reason is None else reason for reason in refused]
    no_camera = ScaledOrthographicCamera(np.nan, np.full((3, 3), np.nan), np.full(3, np.nan))
    cameras, in_stddevs = [no_camera] * len(faces), np.full((len(faces), points.design.shape[1]), np.nan)
    if len(good) == 0:
        return cameras, in_stddevs, results

    # y up, about the given points' centroid: the translation then has nothing to do with where the face is
    targets, weights = faces[good] * (1.0, -1.0), weights[good]
    centre = np.einsum("np,npi->ni", weights, targets) / weights.sum(axis=1)[:, None]
    targets = targets - centre[:, None]
    start = starting_poses(points, targets, weights, robust=config.loss != "squares")
    noise_px = config.noise_mm * start.scale if config.noise_px is None else np.full(len(good), config.noise_px)
    minimum = minimiser(
        points, targets, weights, noise_px, start,
        loss=config.loss, loss_width=config.loss_width,
        max_steps=config.max_steps, step_tolerance=config.step_tolerance,
    )  # fmt: skip

    in_stddevs[good] = minimum.coefficients
    poses = minimum.poses
    origin = poses.translation + centre - poses.plane @ points.centroid  # where the model's origin falls, y up
    for index, face in enumerate(good):
        translation = np.array([origin[index, 0], -origin[index, 1], 0.0])
        cameras[face] = ScaledOrthographicCamera(float(poses.scale[index]), poses.rotation[index], translation)
        if poses.rotation[index, 2, 2] < _BEHIND:
            results[face] = FitResult.FROM_BEHIND
        elif not minimum.converged[index]:
            results[face] = FitResult.STEP_LIMIT
    return cameras, in_stddevs, results


def _refusal(given: Float[np.ndarray, "m 2"]) -> FitResult | None:
    """Why these landmarks (the ones that are there) cannot be fitted, or None."""
    if len(given) < _LEAST_POINTS:
        return FitResult.TOO_FEW_POINTS
    if not (np.abs(given) < _FARTHEST_PX).all():
        return FitResult.OUT_OF_RANGE
    narrow, wide = np.linalg.svd(given - given.mean(axis=0), compute_uv=False)[::-1]
    return FitResult.COLLINEAR if narrow <= _FLATTEST * wide + 1e-9 * np.abs(given).max() else None


def _check_shapes(faces: np.ndarray, n_points: int, model_name: str) -> None:
    if faces.ndim != 3 or faces.shape[-1] != 2:
        raise ValueError(f"landmarks are (p 2) for one face or (n p 2) for n, in pixels; these are {faces.shape}")
    if faces.shape[1] != n_points:
        raise ValueError(
            f"{faces.shape[1]} landmarks were given but the fit is to {n_points} points of {model_name}; "
            "mark missing ones with NaN, or say which surface points they show with points="
        )


def _checked_weights(weights: np.ndarray | None, shape: tuple[int, ...]) -> Float[np.ndarray, "n p"]:
    if weights is None:
        return np.ones(shape)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape not in (shape, shape[1:]):
        raise ValueError(f"weights {weights.shape} are neither one a point {shape[1:]} nor one a landmark {shape}")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("weights are finite and not negative; weight 0 leaves a point out")
    return np.broadcast_to(weights, shape)


def _names(source_ids: str | Sequence[str] | None, n_faces: int) -> list[str]:
    if source_ids is None:
        return [str(index) for index in range(n_faces)]
    names = [source_ids] if isinstance(source_ids, str) else list(source_ids)
    if len(names) != n_faces:
        raise ValueError(f"{len(names)} source ids were given for {n_faces} faces")
    return names

"""What a landmark fit assumes, and what it hands back."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Literal, TypeVar

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, Field

from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera
from geometry.fit_losses import Loss
from geometry.morphable_model import Coefficients, SurfacePoints

LEAST_POINTS = 4  # three points leave two mirrored poses (Alter 1994)


class FitConfig(BaseModel, frozen=True, extra="forbid"):
    """What a landmark fit assumes; the defaults suit 68 points placed by hand or by a good detector."""

    noise_mm: float = Field(default=1.25, gt=0)
    """Standard deviation of a landmark of weight 1 on the head, x and y each: the balance between landmarks and prior.
    In pixels it is this times the scale of the starting pose, so that a fit does not depend on the picture's size."""

    noise_px: float | None = Field(default=None, gt=0)
    """The same in pixels where it is known, in place of `noise_mm`."""

    scale_estimate: Literal["marginal", "joint"] = "marginal"
    """Which scale is the best: the one with the most probable mixture of all faces ("marginal"), or that of the single most
    probable face ("joint": the plain ridge of most papers, whose heads come out some 4 % too small)."""

    loss: Loss = "squares"
    """For wrong points among the landmarks: "huber" bounds the pull of each, "geman_mcclure" lets it go altogether."""

    loss_width: float | None = Field(default=None, gt=0)
    """Residual at which a robust loss bends, in standard deviations of the noise. None: 1.5 for "huber" and 5 for
    "geman_mcclure", which with less would count good points too little."""

    contour: Literal["fixed", "march"] = "fixed"
    """Jaw landmarks belong to fixed vertices, or march along the visible contour. People and detectors trained on their
    labels put them on the contour; 3-D annotations such as 300W-LP's `pt3d_68` have them fixed."""

    contour_slip_mm: float = Field(default=3.0, ge=0)
    """Marching: standard deviation by which a jaw landmark slips along the contour, on top of its noise."""

    camera: Literal["scaled_orthographic", "perspective"] = "scaled_orthographic"
    """Scaled orthographic is what 300W-LP's files hold; perspective matters for faces nearer than a metre."""

    focal_px: float | None = Field(default=None, gt=0)
    """Focal length of a perspective camera (pixels); None: unknown, and estimated under a broad prior around 1.2 times
    the picture's longer side. A face's landmarks tell little about it."""

    principal_point_px: tuple[float, float] | None = None
    """Where the optical axis of a perspective camera meets the picture; None: its centre."""

    shared_error: float = Field(default=0.5, ge=0, le=1)
    """Several pictures of a person: the share of a landmark's variance that all of them have in common, since the face is
    none of the model's or the same hand placed the points. 0: errors are independent, and every picture counts in full;
    1: what a hundred pictures say alike of the identity counts once."""

    max_steps: int = Field(default=50, ge=1)
    """Gauss-Newton steps at most; four are usual, seven where the contour marches."""

    step_tolerance: float = Field(default=5e-5, gt=0)
    """Stop when the next step will turn the head by less (radians), scale it by less, shift it by less of its radius, and
    move no coefficient by more than a hundred times that many standard deviations."""


class FitResult(StrEnum):
    """How a fit ended; :attr:`advice` says it in a sentence."""

    CONVERGED = "converged"
    STEP_LIMIT = "step_limit"
    FROM_BEHIND = "from_behind"
    OUTSIDE_PICTURE = "outside_picture"
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
        return self not in (FitResult.TOO_FEW_POINTS, FitResult.COLLINEAR, FitResult.OUT_OF_RANGE)


_ADVICE = {
    FitResult.CONVERGED: "the fit converged",
    FitResult.STEP_LIMIT: "the fit was still moving at the step limit; look at the landmarks, or raise max_steps",
    FitResult.FROM_BEHIND: (
        "the best pose shows the face from behind: the picture was probably mirrored without renaming its landmarks "
        "(geometry.landmarks.MIRROR), or they are in another order than the model's points"
    ),
    FitResult.OUTSIDE_PICTURE: (
        "more than half of the landmarks lie outside the picture: they were probably placed in another one, or before "
        "it was cropped or resized; the fit is to the landmarks as they are"
    ),
    FitResult.TOO_FEW_POINTS: (
        f"fewer than {LEAST_POINTS} landmarks are given with a positive weight, which leaves the pose open; "
        "NaN counts as missing"
    ),
    FitResult.COLLINEAR: "the landmarks coincide or lie on one line, which leaves the pose open; check the file",
    FitResult.OUT_OF_RANGE: (
        "a landmark is infinite or more than a million pixels away; use NaN for missing points and check the file"
    ),
}

Camera = TypeVar("Camera", bound=ScaledOrthographicCamera | PerspectiveCamera)


@dataclass(frozen=True, slots=True)
class Fit(Generic[Camera]):
    """One fitted face.

    source_id       which picture or record it belongs to
    coefficients    identity and expression in the model file's own scaling
    camera          model frame (mm) to image frame (px); z = 0 px at the model's origin: landmarks do not see depth
    image_size_hw   height and width of the picture (px), where known
    landmarks_px    (p 2) the landmarks that were fitted, image frame; NaN where missing
    residual_px     (p,) distance from each landmark to its fitted surface point, or to the contour where the point is
                    hidden behind it; NaN where missing
    result          how it ended; where ``result.has_face`` is false, coefficients, camera and residual_px are NaN
    points          the surface points that the landmarks were fitted to; hidden ones lie on the contour, near the landmark
    information     (p 2 2) what each landmark counted for, px⁻² in image axes: the inverse of its noise's covariance,
                    times its weight and what a robust loss left of it; zero where missing
    determined_modes   how many of the model's modes the landmarks determine; the prior decides the others
    config          how it was fitted
    """

    source_id: str
    coefficients: Coefficients
    camera: Camera
    image_size_hw: tuple[int, int] | None
    landmarks_px: Float[np.ndarray, "p 2"]
    residual_px: Float[np.ndarray, " p"]
    result: FitResult
    points: SurfacePoints
    information: Float[np.ndarray, "p 2 2"]
    determined_modes: float
    config: FitConfig

    @property
    def mean_residual_px(self) -> float:
        """Mean distance over the landmarks that are there; NaN when there are none."""
        known = self.residual_px[np.isfinite(self.residual_px)]
        return float(known.mean()) if len(known) else float("nan")

"""A linear model of landmark shapes, and the poses that place a mean shape: what landmarks are smoothed with and held against.

DenseReg's second row of landmarks (Güler et al. 2017, section 4.3) is the field's landmarks "reconstructed with a PCA shape
model that is constructed from ground-truth annotations". The mean shape placed with the true pose is the least that a
network must beat: it knows where the head looks and nothing about the face.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from geometry.camera import ScaledOrthographicCamera
from geometry.frames import nearest_similarity
from train.metrics import best_similarity, moved_onto

KEPT_VARIANCE = 0.98
_ALIGNMENTS = 5
_ROBUST_STEPS = 15
_FAR_OFF = 3.0
"""Standard deviations at which the pull of a point has fallen to a quarter."""
_LEAST_ERROR = 1e-4
"""Of the shape's size."""
_RAYLEIGH_MEDIAN = float(np.sqrt(2 * np.log(2)))
"""Of a distance in the plane, in standard deviations of each coordinate."""
_POSE_STEPS = 100
_Y_DOWN = np.array([1.0, -1.0, 1.0])


@dataclass(frozen=True, slots=True)
class ShapeModel:
    """shape = similarity of (mean + basis · b), with b of the training shapes' own spread.

    mean     (p 2) centred, of root-mean-square size 1
    basis    (p 2 k) orthonormal
    stddevs  (k)
    """

    mean: Float[np.ndarray, "p 2"]
    basis: Float[np.ndarray, "p 2 k"]
    stddevs: Float[np.ndarray, " k"]

    @classmethod
    def of(cls, shapes: Float[np.ndarray, "n p 2"], *, kept: float = KEPT_VARIANCE) -> "ShapeModel":
        """The shapes' generalised Procrustes mean and the principal components of what is left (Cootes et al. 1995)."""
        mean, aligned = procrustes_mean(shapes)
        left = (aligned - mean).reshape(len(shapes), -1)
        _, singular, vt = np.linalg.svd(left, full_matrices=False)
        variance = singular**2 / max(len(shapes) - 1, 1)
        share = np.cumsum(variance) / max(variance.sum(), 1e-300)
        n_kept = int(np.searchsorted(share, kept)) + 1 if variance.sum() > 0 else 0
        basis = vt[:n_kept].T.reshape(*mean.shape, n_kept)
        return cls(mean, basis, np.sqrt(variance[:n_kept]))

    def closest(self, points: Float[np.ndarray, "p 2"], *, limit: float = 3.0) -> Float[np.ndarray, "p 2"]:
        """The model's most probable shape behind `points`, each coefficient within `limit` standard deviations; NaN stays NaN.

        Points are off by normal errors of a spread that is estimated from them (the median), and those of more than three of
        it have hardly a say (Geman-McClure): what a picture does not show, a field puts anywhere. The paper does not say how
        it reconstructs.
        """
        if not np.isfinite(points).all():
            return np.full(points.shape, np.nan)
        coefficients, weights = np.zeros(len(self.stddevs)), np.ones(len(points))
        for _ in range(_ROBUST_STEPS):
            linear, shift = nearest_similarity(self.mean + self.basis @ coefficients, points, weights)
            modes = np.einsum("xy,pyk->pxk", linear, self.basis)
            left = points - (self.mean @ linear.T + shift)
            distances = np.linalg.norm(left - modes @ coefficients, axis=1)
            least = _LEAST_ERROR * float(np.linalg.norm(linear)) + np.finfo(np.float64).tiny ** 0.25
            sigma = max(float(np.median(distances)) / _RAYLEIGH_MEDIAN, least)
            weights = (1 + (distances / (_FAR_OFF * sigma)) ** 2) ** -2
            normal = np.einsum("p,pxk,pxl->kl", weights, modes, modes) + np.diag((sigma / self.stddevs) ** 2)
            coefficients = np.linalg.solve(normal, np.einsum("p,pxk,px->k", weights, modes, left))
            coefficients = np.clip(coefficients, -limit * self.stddevs, limit * self.stddevs)
        shape = self.mean + self.basis @ coefficients
        linear, shift = nearest_similarity(shape, points, weights)
        return shape @ linear.T + shift

    def state(self) -> dict[str, Any]:
        """Tensors for a checkpoint."""
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in ("mean", "basis", "stddevs")}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> "ShapeModel":
        """What :meth:`state` gave."""
        return cls(*(state[name].numpy() for name in ("mean", "basis", "stddevs")))


def procrustes_mean(
    shapes: Float[np.ndarray, "n p d"],
) -> tuple[Float[np.ndarray, "p d"], Float[np.ndarray, "n p d"]]:
    """The shapes' mean after similarities (generalised Procrustes analysis), of size 1, and the shapes brought to it."""
    mean = _unit(shapes[0])
    for _ in range(_ALIGNMENTS):
        aligned = np.stack([moved_onto(shape, mean) for shape in shapes])
        mean = _unit(aligned.mean(axis=0))
    return mean, aligned


def _unit(shape: np.ndarray) -> np.ndarray:
    centred = shape - shape.mean(axis=0)
    return centred / np.sqrt((centred**2).sum(axis=1).mean())


def best_pose(
    points_mm: Float[np.ndarray, "p 3"],
    points_px: Float[np.ndarray, "p d"],
    *,
    visible: Bool[np.ndarray, " p"] | None = None,
) -> ScaledOrthographicCamera:
    """The camera that brings `points_mm` (model frame) nearest to `points_px` (image frame, 2-D or 3-D), by least squares.

    In 3-D it is one best similarity. In 2-D the depths of `points_px` are what the last camera makes them, and the similarity
    is found again: no step makes the distance in the picture larger. Raises ValueError for fewer than four points.
    """
    known = np.isfinite(points_px).all(axis=1) & (True if visible is None else visible)
    if known.sum() < 4:
        raise ValueError(f"a pose needs four points at least, and {int(known.sum())} are known")
    source, target = points_mm[known] * _Y_DOWN, points_px[known].astype(np.float64)
    if target.shape[1] == 2:
        target = np.column_stack([target, _first_depths(source, target)])
        for _ in range(_POSE_STEPS):
            scale, rotation, translation = best_similarity(source, target)
            depths = (scale * source @ rotation.T + translation)[:, 2]
            if np.abs(depths - target[:, 2]).max() < 1e-9 * max(np.abs(target).max(), 1):
                break
            target[:, 2] = depths
    scale, rotation, translation = best_similarity(source, target)
    return ScaledOrthographicCamera(scale, _Y_DOWN[:, None] * rotation * _Y_DOWN, translation)


def _first_depths(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Depths under the nearest scaled rotation to the best affine camera."""
    centred = source - source.mean(axis=0)
    affine = np.linalg.lstsq(centred, target - target.mean(axis=0), rcond=None)[0].T  # (2 3)
    u, singular, vt = np.linalg.svd(affine, full_matrices=False)
    upper = u @ vt
    return singular.mean() * centred @ np.cross(upper[0], upper[1])

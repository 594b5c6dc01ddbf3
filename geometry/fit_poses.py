"""Poses of a landmark fit: scaled orthographic or perspective, their derivatives, and where a fit starts.

One formula serves both cameras. With Z = s·R·X in pixels (X about the landmarks' centroid) and φ one over the focal
length, a point falls at

    u = (τ + Z_xy) / (1 − φ·Z_z):

the perspective image of a face whose centroid is s = f/d away in depth, and the scaled orthographic one at φ = 0.
Pixels are y **up** here, about the principal point (perspective) or any other origin.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera
from geometry.fit_points import FitPoints, row_by_row
from geometry.rotation import rotation_from_vector

_LONGEST_LOG = np.log(100.0)  # no number overflows where a step is nonsense; the objective judges it
NEAREST = 0.05  # a point may come no nearer to a perspective camera, relative to the face's own distance


@dataclass(frozen=True, slots=True)
class Projection:
    """Where points fall, and how they move with the points and with the pose. Image axes x, y (up); pose directions
    are the rotation vector (radians, camera axes), log scale, translation (px) and, where asked for, log focal length.
    """

    points_px: Float[np.ndarray, "n 2 p"]
    rows: Float[np.ndarray, "n 2 3 p"]
    jacobian: Float[np.ndarray, "n m 2 p"]


@dataclass(frozen=True, slots=True)
class Poses:
    """Poses of n faces; `inverse_focal` (1/px) is 0 for a scaled orthographic camera."""

    scale: Float[np.ndarray, " n"]
    rotation: Float[np.ndarray, "n 3 3"]
    translation: Float[np.ndarray, "n 2"]
    inverse_focal: Float[np.ndarray, " n"]

    @classmethod
    def of_camera(
        cls, camera: ScaledOrthographicCamera | PerspectiveCamera, centroid: Float[np.ndarray, "3"]
    ) -> "Poses":
        """One face's camera about `centroid` (model frame, mm); pixels about the image's origin or the principal point."""
        if isinstance(camera, PerspectiveCamera):
            place = camera.rotation @ centroid + camera.translation_mm
            scale, inverse_focal = -camera.focal_px / place[2], 1 / camera.focal_px
            translation = scale * place[:2]
        else:
            scale, inverse_focal = camera.scale, 0.0
            translation = camera.project(centroid)[:2] * (1, -1)
        rotation = np.asarray(camera.rotation, dtype=np.float64)
        return cls(np.array([scale]), rotation[None], np.asarray(translation)[None], np.array([inverse_focal]))

    @property
    def plane(self) -> Float[np.ndarray, "n 2 3"]:
        """P = s·R₂: the part of a scaled orthographic pose that multiplies points."""
        return self.scale[:, None, None] * self.rotation[:, :2]

    def of(self, chosen: Shaped[np.ndarray, " _"]) -> "Poses":
        """The poses of some of the faces (indices or a mask)."""
        return Poses(self.scale[chosen], self.rotation[chosen], self.translation[chosen], self.inverse_focal[chosen])

    def moved(self, step: Float[np.ndarray, "n m"]) -> "Poses":
        """The poses after a step in the directions of :class:`Projection`; logarithms go by a hundredfold at most."""
        logs = np.exp(np.clip(step[:, [3, *range(6, step.shape[1])]], -_LONGEST_LOG, _LONGEST_LOG))
        return Poses(
            self.scale * logs[:, 0],
            rotation_from_vector(step[:, :3]) @ self.rotation,
            self.translation + step[:, 4:6],
            self.inverse_focal / logs[:, 1] if step.shape[1] > 6 else self.inverse_focal,
        )

    def copy(self) -> "Poses":
        """Arrays of its own, for :meth:`put`."""
        return Poses(self.scale.copy(), self.rotation.copy(), self.translation.copy(), self.inverse_focal.copy())

    def put(self, chosen: Shaped[np.ndarray, " _"], other: "Poses") -> None:
        """Overwrite some faces' poses; for the solver's own working copy alone."""
        self.scale[chosen], self.rotation[chosen] = other.scale, other.rotation
        self.translation[chosen], self.inverse_focal[chosen] = other.translation, other.inverse_focal

    def project(self, shapes: Float[np.ndarray, "n 3 p"]) -> tuple[Float[np.ndarray, "n 2 p"], Bool[np.ndarray, " n"]]:
        """Where points fall, and whether all of a face's lie well before the camera; others fall on the limit."""
        z = self._turned(shapes)
        places = self.translation[:, :, None] + z[:, :2]
        if not self.inverse_focal.any():
            return places, np.ones(len(z), dtype=bool)
        depth = 1 - self.inverse_focal[:, None] * z[:, 2]
        return places / np.maximum(depth, NEAREST)[:, None], depth.min(axis=1) > NEAREST

    def linearise(self, shapes: Float[np.ndarray, "n 3 p"], *, with_focal: bool = False) -> Projection:
        """The projection with its derivatives."""
        n, _, p = shapes.shape
        z = self._turned(shapes)
        places = self.translation[:, :, None] + z[:, :2]
        jacobian = np.zeros((n, 7 if with_focal else 6, 2, p))
        if not self.inverse_focal.any():
            rows = np.broadcast_to(self.plane[:, :, :, None], (n, 2, 3, p))
            jacobian[:, 0, 1], jacobian[:, 1, 0] = -z[:, 2], z[:, 2]
            jacobian[:, 2, 0], jacobian[:, 2, 1] = -z[:, 1], z[:, 0]
            jacobian[:, 3] = z[:, :2]
            jacobian[:, 4, 0] = jacobian[:, 5, 1] = 1.0
            return Projection(places, rows, jacobian)
        nearness = 1 / np.maximum(1 - self.inverse_focal[:, None] * z[:, 2], NEAREST)[:, None]  # (n 1 p)
        points_px = places * nearness
        slope = self.inverse_focal[:, None, None] * points_px * nearness  # ∂u/∂Z_z
        turn = self.scale[:, None, None] * self.rotation
        rows = nearness[:, :, None] * turn[:, :2, :, None] + slope[:, :, None] * turn[:, None, 2, :, None]
        zx, zy, zz, near = z[:, 0], z[:, 1], z[:, 2], nearness[:, 0]
        jacobian[:, 0] = slope * zy[:, None]
        jacobian[:, 0, 1] -= near * zz
        jacobian[:, 1] = -slope * zx[:, None]
        jacobian[:, 1, 0] += near * zz
        jacobian[:, 2, 0], jacobian[:, 2, 1] = -near * zy, near * zx
        jacobian[:, 3] = near[:, None] * z[:, :2] + slope * zz[:, None]
        jacobian[:, 4, 0] = jacobian[:, 5, 1] = near
        if with_focal:
            jacobian[:, 6] = -slope * zz[:, None]
        return Projection(points_px, rows, jacobian)

    def _turned(self, shapes: np.ndarray) -> np.ndarray:
        return (self.scale[:, None, None] * self.rotation) @ shapes


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
    mean, pull = points.mean[: points.n_landmarks], weights
    for last in (False, False, False, False, False, True) if robust else (True,):
        total = pull.sum(axis=1)[:, None]
        mean_centre, target_centre = row_by_row(pull, mean) / total, (pull[:, None] @ targets)[:, 0] / total
        centred = mean - mean_centre[:, None]  # (n p 3)
        offset = targets - target_centre[:, None]
        weighted = centred * pull[:, :, None]
        scatter = weighted.transpose(0, 2, 1) @ centred
        # a little of the scatter's own trace keeps flat sets of points (one eye, say) solvable
        scatter += 1e-4 * np.trace(scatter, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        affine = np.linalg.solve(scatter, weighted.transpose(0, 2, 1) @ offset).transpose(0, 2, 1)  # (n 2 3)
        if not last:
            distance = np.linalg.norm(offset - centred @ affine.transpose(0, 2, 1), axis=-1)
            median = np.array([np.median(row[w > 0]) for row, w in zip(distance, weights, strict=True)])
            pull = weights / np.maximum(1.0, distance / np.maximum(median, 1e-12)[:, None]) ** 2
    u, singular, vt = np.linalg.svd(affine, full_matrices=False)
    upper = u @ vt
    rotation = np.concatenate([upper, np.cross(upper[:, 0], upper[:, 1])[:, None]], axis=1)
    scale = singular.mean(axis=1)
    translation = target_centre - scale[:, None] * (upper @ mean_centre[:, :, None])[:, :, 0]
    return Poses(scale, rotation, translation, np.zeros(len(scale)))

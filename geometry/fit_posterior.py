"""How sure a fit is: the posterior covariance of pose, coefficients and every vertex.

Sixty-eight points cannot determine 228 coefficients; the prior decides the rest. Around the minimum the objective of
:mod:`geometry.fit_solver` is a quadratic form in the coefficients and the pose (Laplace's approximation, with the
Gauss-Newton matrix), and its inverse is the covariance:

    H = [B̃ᵀ·B̃ + I, B̃ᵀ·J̃; J̃ᵀ·B̃, J̃ᵀ·J̃ + the pose's own prior].

It is as honest as what went into it: noise as large as `FitConfig` says and independent from point to point, faces as
the model draws them, and points that lie where the fit puts them (a marched point that belongs elsewhere is no noise).
`docs/fitting.md` has the coverage that was measured.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from geometry.fit_points import FitPoints
from geometry.fit_poses import Poses
from geometry.fit_result import Fit
from geometry.fit_solver import FOCAL_SPREAD
from geometry.morphable_model import Coefficients, MorphableModel, SurfacePoints

_HEADS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Posterior:
    """The covariance of one fit.

    covariance   of identity and expression (in standard deviations of the model), then of the pose's directions: the
                 rotation vector about the camera's axes (x right, y up, z toward the viewer; radians), log scale, the
                 place of the landmarks' centroid (px, x right, y up), and the log focal length where it was estimated
    fit, centroid_mm   what it belongs to, and the point that the pose turns about (model frame)
    """

    fit: Fit
    centroid_mm: Float[np.ndarray, "3"]
    covariance: Float[np.ndarray, "d d"]

    @property
    def _n_modes(self) -> int:
        return len(self.fit.coefficients.identity) + len(self.fit.coefficients.expression)

    @property
    def pose_covariance(self) -> Float[np.ndarray, "m m"]:
        """Of the pose's six or seven directions alone."""
        return self.covariance[self._n_modes :, self._n_modes :]

    @property
    def rotation_stddev_deg(self) -> Float[np.ndarray, "3"]:
        """How far the head may be turned otherwise about the camera's x, y and z axes (one standard deviation)."""
        return np.degrees(np.sqrt(np.diag(self.pose_covariance)[:3]))

    @property
    def scale_stddev(self) -> float:
        """Of the camera's scale, relative to it."""
        return float(np.sqrt(self.pose_covariance[3, 3]))

    @property
    def focal_stddev(self) -> float | None:
        """Of the focal length, relative to it; None where it was known."""
        return float(np.sqrt(self.pose_covariance[6, 6])) if len(self.pose_covariance) > 6 else None

    def coefficient_stddevs(self) -> Coefficients:
        """How sure every coefficient is, in standard deviations of the model: 1 where the landmarks tell nothing."""
        stddevs = np.sqrt(np.diag(self.covariance)[: self._n_modes])
        identity, expression = np.split(stddevs, [len(self.fit.coefficients.identity)])
        return Coefficients(identity, expression)

    def vertex_stddev_mm(
        self, model: MorphableModel, *, points: SurfacePoints | None = None
    ) -> Float32[np.ndarray, "v 3"]:
        """Standard deviation of every vertex, or of some points, in the model frame: of the shape, whatever its pose."""
        return np.sqrt(sum(np.square(shifts).sum(axis=0) for shifts, _ in self._directions(model, points)))

    def posed_vertex_stddev_mm(
        self, model: MorphableModel, *, points: SurfacePoints | None = None
    ) -> Float32[np.ndarray, "v 3"]:
        """Standard deviation of every vertex, or of some points, after the pose: where it is seen, and its depth.

        Millimetres at the face's own scale along the camera's axes: x right, y up, z toward the viewer. Depth is relative
        to the landmarks' centroid, since landmarks do not see how far away a face is.
        """
        pose = Poses.of_camera(self.fit.camera, self.centroid_mm)
        if points is None:
            face = model.vertices(self.fit.coefficients)
        else:
            face = model.rows(points).positions(self.fit.coefficients).astype(np.float32)
        face = face - self.centroid_mm.astype(np.float32)
        seen = pose.linearise(face.T[None].astype(np.float64), with_focal=len(self.pose_covariance) > 6)
        scale, rotation = float(pose.scale[0]), pose.rotation[0]
        turned = face @ rotation.T.astype(np.float32)
        by_pose = np.zeros((len(self.pose_covariance), *turned.shape), dtype=np.float32)
        by_pose[:, :, :2] = (seen.jacobian[0] / scale).transpose(0, 2, 1)
        by_pose[0, :, 2], by_pose[1, :, 2], by_pose[3, :, 2] = turned[:, 1], -turned[:, 0], turned[:, 2]
        to_image = (seen.rows[0] / scale).astype(np.float32)  # (2 3 v)
        variance = np.zeros_like(turned)
        for shifts, steps in self._directions(model, points):
            posed = np.tensordot(steps.astype(np.float32), by_pose, axes=1)  # (h v 3)
            posed[:, :, :2] += np.einsum("axv,hvx->hva", to_image, shifts)
            posed[:, :, 2] += shifts @ rotation[2].astype(np.float32)
            variance += np.square(posed).sum(axis=0)
        return np.sqrt(variance)

    def _directions(
        self, model: MorphableModel, points: SurfacePoints | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A root of the covariance, some columns at a time: shifts of the vertices (h v 3) and steps of the pose (h m).

        A column's coefficients are a face, so the model itself says how the vertices move.
        """
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        rows = None if points is None else model.rows(points)
        for first in range(0, root.shape[1], _HEADS_AT_ONCE):
            columns = root[:, first : first + _HEADS_AT_ONCE].T
            identity, expression, steps = np.split(columns, [model.n_identity, self._n_modes], axis=1)
            faces = Coefficients.from_stddevs(model, identity, expression)
            if rows is None:
                yield model.vertices(faces) - model.mean_shape, steps
            else:
                yield (rows.positions(faces) - rows.mean).astype(np.float32), steps


def posterior(model: MorphableModel, fit: Fit) -> Posterior:
    """How sure a fit of one picture is; ValueError for a fit without a face."""
    return posteriors_of_person(model, [fit])[0]


def posteriors_of_person(model: MorphableModel, fits: Sequence[Fit]) -> list[Posterior]:
    """How sure the fits of several pictures are that share one identity: what each picture tells of it, all know.

    As the fits were made: n pictures tell of the identity what n/κ independent ones do (:mod:`geometry.fit_solver`).
    Raises ValueError for a fit without a face, and for fits that do not share their identity.
    """
    for fit in fits:
        if not fit.result.has_face:
            raise ValueError(f"the fit of {fit.source_id} has no face to be sure of: {fit.result.advice}")
        if not np.array_equal(fit.coefficients.identity, fits[0].coefficients.identity):
            raise ValueError(
                f"the fits of {fits[0].source_id} and {fit.source_id} have different identities; "
                "fit the pictures together, with person_ids"
            )
    n_id, stddevs = model.n_identity, np.concatenate([model.identity_stddevs, model.expression_stddevs])
    information, blocks, centroids = np.eye(n_id), [], []
    prior = 1 + (len(fits) - 1) * fits[0].config.shared_error if fits else 1.0
    for fit in fits:
        points = FitPoints.of(model.rows(fit.points), stddevs)
        normal = _normal_matrix(points, fit, stddevs)
        own = np.linalg.inv(normal[n_id:, n_id:])
        gain = own @ normal[n_id:, :n_id]
        information = information + (normal[:n_id, :n_id] - normal[:n_id, n_id:] @ gain) / prior
        blocks.append((own, gain))
        centroids.append(points.centroid)
    identity = np.linalg.inv(information)
    found = []
    for fit, centroid, (own, gain) in zip(fits, centroids, blocks, strict=True):
        cross = gain @ identity
        covariance = np.block([[identity, -cross.T], [-cross, own + cross @ gain.T]])
        found.append(Posterior(fit, centroid, (covariance + covariance.T) / 2))
    return found


def _normal_matrix(points: FitPoints, fit: Fit, stddevs: np.ndarray) -> np.ndarray:
    """H of one picture in the order identity, expression, pose; without the prior of the identity."""
    pose, with_focal = Poses.of_camera(fit.camera, points.centroid), _estimates_focal(fit)
    coefficients = np.concatenate([fit.coefficients.identity, fit.coefficients.expression]) / stddevs
    here = pose.linearise(points.shapes(coefficients[None], None), with_focal=with_focal)
    basis = points.basis(here.rows, None)[0].reshape(2, -1, points.n_modes)
    columns = np.concatenate([basis, here.jacobian[0].transpose(1, 2, 0)], axis=2)  # (2 p k+m)
    upward = fit.information * np.array([[1, -1], [-1, 1]])  # the information's axes are the image's, y down
    normal = np.einsum("apk,pab,bpl->kl", columns, upward, columns, optimize=True)
    expression = np.arange(len(fit.coefficients.identity), points.n_modes)
    normal[expression, expression] += 1.0
    if with_focal:
        normal[-1, -1] += FOCAL_SPREAD**-2
    return normal


def _estimates_focal(fit: Fit) -> bool:
    return fit.config.camera == "perspective" and fit.config.focal_px is None

"""Landmark fits: from points in a photograph to pose, identity and expression of a morphable model.

:func:`fit_landmarks` takes one face or a batch, any landmark scheme or surface points with weights, and missing points
(NaN); jaw points may march along the contour, several images may share one identity, and the camera may be a
perspective one. What is minimised, and how, is derived in :mod:`geometry.fit_solver`; :mod:`geometry.fit_reference` does
the same with SciPy, :mod:`geometry.fit_posterior` says how sure a fit is, and `docs/fitting.md` what was measured.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera
from geometry.contour_paths import contour_paths
from geometry.fit_batch import Batch, FitSetup, Minimiser, chosen_points, fit_batch
from geometry.fit_marching import ContourMarcher
from geometry.fit_points import FitPoints
from geometry.fit_poses import Poses
from geometry.fit_result import Fit, FitConfig, FitResult
from geometry.fit_solver import minimise
from geometry.landmarks import SCHEMES, LandmarkScheme, landmark_scheme
from geometry.morphable_model import Coefficients, MorphableModel, SurfacePoints

__all__ = ["Fit", "FitConfig", "FitResult", "LandmarkFitter", "fit_landmarks", "surface_points"]

_FACES_AT_ONCE = 128
_NUMBERS_AT_ONCE = 3e7  # of the bases of dense fields: a quarter of a gigabyte
PointsLike = SurfacePoints | LandmarkScheme | str | Int[np.ndarray, " p"]
"""Surface points, a landmark scheme or its name, or the indices of vertices."""


def fit_landmarks(
    model: MorphableModel,
    landmarks_px: Float[np.ndarray, "*n p 2"],
    *,
    image_size_hw: tuple[int, int] | Int[np.ndarray, "n 2"] | None,
    weights: Float[np.ndarray, "..."] | None = None,
    points: PointsLike | None = None,
    config: FitConfig = FitConfig(),  # noqa: B008 - frozen
    source_ids: str | Sequence[str] | None = None,
    person_ids: Sequence[Hashable] | None = None,
    minimiser: Minimiser = minimise,
) -> Fit | list[Fit]:
    """Fit pose, identity and expression to the landmarks of one face (p 2) or of n faces (n p 2).

    landmarks_px    image frame (x right, y down, first pixel (0, 0)); NaN marks a missing point
    image_size_hw   height and width of every picture, or (n 2) one for each: landmarks outside are noticed, and a
                    perspective camera's centre and usual focal length come from it; None where it is not known
    weights         (p,) or (n p) ≥ 0: a point of weight w has noise σ/√w, and weight 0 leaves it out
    points          what the landmarks show (default: the model's 68): a scheme of :mod:`geometry.landmarks` or its
                    name, the indices of vertices, or surface points
    person_ids      who is seen on each picture: those with the same id share one identity, and each has an expression
                    and a pose of its own
    minimiser       the solver; :func:`geometry.fit_reference.reference_minimise` is the slow one
    Returns one Fit for (p 2), a list for (n p 2). A face that cannot be fitted is a Fit with a result code, no error.

    A fit depends on its batch in rounding alone. Run one BLAS thread per process: the matrices are small, and a second
    thread makes this slower. Whoever fits batch after batch makes a :class:`LandmarkFitter` once.

    Raises ValueError for arrays that do not fit each other or the points, for weights below 0 or not finite, and where
    landmarks are to march that the model has no contour for.
    """
    return LandmarkFitter.of(model, points=points, config=config).fit(
        landmarks_px,
        image_size_hw=image_size_hw,
        weights=weights,
        source_ids=source_ids,
        person_ids=person_ids,
        minimiser=minimiser,
    )


def surface_points(model: MorphableModel, points: PointsLike | None) -> SurfacePoints:
    """What `points` of :func:`fit_landmarks` are on `model`; ValueError for names and vertices that do not exist."""
    if points is None:
        return model.landmarks
    if isinstance(points, str):
        points = landmark_scheme(points)
    if isinstance(points, LandmarkScheme):
        return points.points(model)
    if isinstance(points, np.ndarray):
        points = SurfacePoints.at_vertices(points)
    if len(points.corners) and not 0 <= points.corners.min() <= points.corners.max() < model.n_vertices:
        wrong = int(points.corners.max() if points.corners.min() >= 0 else points.corners.min())
        raise ValueError(
            f"a point lies at vertex {wrong}, but {model.name} has {model.n_vertices} vertices; "
            "indices are zero-based (MATLAB files count from one)"
        )
    return points


@dataclass(frozen=True)
class LandmarkFitter(FitSetup):
    """A model's points with their constant products, made once for many batches."""

    @classmethod
    def of(
        cls,
        model: MorphableModel,
        *,
        points: PointsLike | None = None,
        config: FitConfig = FitConfig(),  # noqa: B008 - frozen
    ) -> "LandmarkFitter":
        """Points and config as in :func:`fit_landmarks`, which lists the errors."""
        landmarks = surface_points(model, points)
        stddevs = np.concatenate([model.identity_stddevs, model.expression_stddevs]).astype(np.float64)
        if config.contour == "fixed":
            fixed = FitPoints.of(model.rows(landmarks), stddevs)
            return cls(model, config, landmarks, landmarks, fixed, stddevs, None)
        jaw = _jaw(points)
        paths = contour_paths(model)
        bank = SurfacePoints(
            np.concatenate([landmarks.corners, paths.places.corners]),
            np.concatenate([landmarks.weights, paths.places.weights]),
        )
        fit_points = FitPoints.of(model.rows(bank), stddevs, n_landmarks=len(landmarks.corners), sliding=jaw)
        marcher = ContourMarcher.of(model, fit_points, paths, jaw, stddevs)
        return cls(model, config, landmarks, bank, fit_points, stddevs, marcher)

    def visible_landmarks(
        self, coefficients: Coefficients, camera: ScaledOrthographicCamera | PerspectiveCamera
    ) -> SurfacePoints:
        """Where on one face its landmarks are seen: hidden jaw points on the outline, each at its own height.

        This is landmark marching without a picture, for labels. Raises ValueError for a fitter whose points are fixed.
        """
        if self.marcher is None:
            raise ValueError("the landmarks of this fitter are fixed; make it with FitConfig(contour='march')")
        identity, expression = coefficients.identity, coefficients.expression
        in_stddevs = np.concatenate([identity, expression]) / self.stddevs
        (index,) = self.marcher.own_places(Poses.of_camera(camera, self.points.centroid), in_stddevs[None])
        return chosen_points(self.bank, index)

    def fit(
        self,
        landmarks_px: Float[np.ndarray, "*n p 2"],
        *,
        image_size_hw: tuple[int, int] | Int[np.ndarray, "n 2"] | None,
        weights: Float[np.ndarray, "..."] | None = None,
        source_ids: str | Sequence[str] | None = None,
        person_ids: Sequence[Hashable] | None = None,
        minimiser: Minimiser = minimise,
    ) -> Fit | list[Fit]:
        """As :func:`fit_landmarks`."""
        landmarks_px = np.asarray(landmarks_px, dtype=np.float64)
        one = landmarks_px.ndim == 2
        faces = landmarks_px[None] if one else landmarks_px
        _check_shapes(faces, len(self.landmarks.corners), self.model.name)
        everybody = Batch(
            _names(source_ids, len(faces)),
            faces,
            _checked_weights(weights, faces.shape[:2]),
            None if image_size_hw is None else np.broadcast_to(np.asarray(image_size_hw), (len(faces), 2)),
            _numbered(person_ids, len(faces)),
        )
        at_once = int(np.clip(_NUMBERS_AT_ONCE / (2 * faces.shape[1] * self.points.n_modes), 1, _FACES_AT_ONCE))
        fits: dict[int, Fit] = {}
        for chunk in _chunks(everybody.person, len(faces), at_once):
            fits.update(zip(chunk.tolist(), fit_batch(self, everybody.of(chunk), minimiser), strict=True))
        return fits[0] if one else [fits[face] for face in range(len(faces))]


def _jaw(points: PointsLike | None) -> dict[int, int]:
    """Which landmarks slide, and which of the 17 jaw points each of them is."""
    if isinstance(points, str):
        points = landmark_scheme(points)
    scheme = SCHEMES["ibug-68"] if points is None else points
    jaw = scheme.jaw if isinstance(scheme, LandmarkScheme) else {}
    if not jaw:
        name = f"the scheme {scheme.name}" if isinstance(scheme, LandmarkScheme) else "a list of points"
        raise ValueError(
            f"contour='march' moves jaw landmarks, and {name} has none that it knows of; "
            "name a scheme with a jaw (ibug-68, 3dfaw-66), or fit with contour='fixed'"
        )
    return jaw


def _chunks(person: np.ndarray | None, n_faces: int, at_once: int) -> list[np.ndarray]:
    """Faces that are solved together: the images of a person always are."""
    if person is None:
        return [np.arange(first, min(first + at_once, n_faces)) for first in range(0, n_faces, at_once)]
    chunks: list[list[int]] = [[]]
    for one in range(person.max(initial=-1) + 1):
        images = np.flatnonzero(person == one).tolist()
        if chunks[-1] and len(chunks[-1]) + len(images) > at_once:
            chunks.append([])
        chunks[-1] += images
    return [np.array(chunk) for chunk in chunks if chunk]


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


def _numbered(person_ids: Sequence[Hashable] | None, n_faces: int) -> np.ndarray | None:
    """Persons as numbers in the order of their first picture; None where nobody is seen twice."""
    if person_ids is None:
        return None
    if len(person_ids) != n_faces:
        raise ValueError(f"{len(person_ids)} person ids were given for {n_faces} faces")
    number: dict[Hashable, int] = {}
    person = np.array([number.setdefault(one, len(number)) for one in person_ids], dtype=np.int64)
    return person if len(number) < n_faces else None

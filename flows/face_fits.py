"""Landmark fits: the way of one face, from its landmarks and photograph to the arrays that are stored.

The model is fitted in the photograph's own pixels, a batch of faces at once. The square around the face is then cut
from where the fit places the model's landmarks, not from the given ones: missing and wrong points do not move it.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from flows.config import FitsConfig
from geometry.camera import ScaledOrthographicCamera
from geometry.fit import Fit, FitResult, LandmarkFitter
from geometry.fit_posterior import Posterior, posteriors_of_person
from geometry.frames import Similarity2D
from geometry.landmarks import LandmarkScheme, landmark_scheme
from geometry.morphable_model import Coefficients, LinearRows, MorphableModel, SurfacePoints
from geometry.rotation import yaw_from_rotation
from render.face_square import FaceSquare, cut_square, square_around
from storage.annotations import IMAGE_HEIGHT
from storage.bad_sample import BadSample
from storage.fit_files import FitFile
from storage.manifest import ModelInfo
from storage.photographs import Frame, Origin, decode_in_frame

SURFACE_SAMPLES = 400
"""Vertices, evenly through the model's list, that stand for all when the shape's certainty is asked for."""

LARGEST_STDDEVS = 8.0
"""A coefficient farther off belongs to no face. Of fits that hold the largest was 5, of two that ran away 11 and 13."""

_MOST_OUTSIDE = 0.5
"""Share of the landmarks that may lie outside the photograph, as they do on faces at its border."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face to fit: its landmarks (p 2) in the photograph, and the photograph's bytes when its turn comes."""

    source_id: str
    landmarks_px: Float[np.ndarray, "p 2"]
    origin: Origin
    frame: Frame
    read_photograph: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class FittedFace:
    """One face before it is stored. Frame: pixels of the picture, the square around the face at 300W-LP's size."""

    source_id: str
    origin: Origin
    picture: UInt8[np.ndarray, "s s 3"]
    square: FaceSquare
    photograph_hw: tuple[int, int]
    coefficients: Coefficients
    camera: ScaledOrthographicCamera
    landmarks_px: Float[np.ndarray, "p 2"]
    fitted_px: Float[np.ndarray, "p 2"]
    residual_px: Float[np.ndarray, " p"]
    model_landmarks_px: Float[np.ndarray, "68 3"]
    pose_stddev: Float[np.ndarray, "3"]
    surface_stddev_mm: float
    result: FitResult

    @property
    def yaw(self) -> float:
        """How far the head is turned to the side (radians)."""
        return float(yaw_from_rotation(self.camera.rotation))


@dataclass(frozen=True)
class FitRecipe:
    """The constant things: config, model and its points, prepared for many batches.

    A face's bytes depend on itself alone, not on the faces beside it (nor on BLAS, which rounds with their number).
    """

    config: FitsConfig
    model: MorphableModel
    scheme: LandmarkScheme
    fitter: LandmarkFitter
    seen: Int[np.ndarray, " s"]
    """The vertices that a fit is looked at with, ascending: landmarks, and corners of wherever points can slide to."""
    seen_rows: LinearRows
    sampled_mm: Float[np.ndarray, "q k"]
    """How some of the skin's coordinates move with each coefficient (mm per standard deviation)."""

    @classmethod
    def of(cls, config: FitsConfig, model: MorphableModel) -> "FitRecipe":
        """Prepare `model`. Raises ValueError for points that it does not have, or no contour to march along."""
        scheme = landmark_scheme(config.scheme)
        fitter = LandmarkFitter.of(model, points=scheme, config=config.fit)
        some = np.arange(0, model.n_vertices, max(1, model.n_vertices // SURFACE_SAMPLES))
        rows = model.rows(SurfacePoints.at_vertices(some))
        stddevs = np.concatenate([model.identity_stddevs, model.expression_stddevs])
        basis = np.concatenate([rows.identity, rows.expression], axis=-1) * stddevs
        seen = np.unique(np.concatenate([model.landmark_vertices, fitter.bank.corners.ravel()]))
        seen_rows = model.rows(SurfacePoints.at_vertices(seen))
        return cls(config, model, scheme, fitter, seen, seen_rows, basis.reshape(-1, len(stddevs)))

    def fitted(
        self, faces: Sequence[Face | BadSample], *, person_ids: Sequence[Hashable] | None = None
    ) -> Iterator[FittedFace | BadSample]:
        """Every face in order, fitted and cut out, or the reason why it cannot be used.

        Faces with the same of the `person_ids` (one for each of `faces`) share one identity.
        """
        usable = [face for face in faces if not isinstance(face, BadSample)]
        persons = None
        if person_ids is not None:
            persons = [i for i, face in zip(person_ids, faces, strict=True) if not isinstance(face, BadSample)]
        fits = zip(usable, *self._fit(usable, persons), strict=True)
        for face in faces:
            if isinstance(face, BadSample):
                yield face
                continue
            try:
                yield self._finished(*next(fits))
            except BadSample as bad:
                yield bad

    def _fit(
        self, faces: Sequence[Face], persons: Sequence[Hashable] | None
    ) -> tuple[list[Fit], list[Posterior | None]]:
        """The fits in the photographs' pixels, and how sure they are (None without a face)."""
        if not faces:
            return [], []
        found = self.fitter.fit(
            np.stack([face.landmarks_px for face in faces]),
            image_size_hw=None,  # known when the photograph is read; whether landmarks lie outside is checked then
            source_ids=[face.source_id for face in faces],
            person_ids=persons,
        )
        fits = found if isinstance(found, list) else [found]
        groups: dict[Hashable, list[int]] = {}
        for place, fit in enumerate(fits):
            if fit.result.has_face:
                groups.setdefault(place if persons is None else persons[place], []).append(place)
        sure: list[Posterior | None] = [None] * len(fits)
        for places in groups.values():
            for place, one in zip(places, posteriors_of_person(self.model, [fits[p] for p in places]), strict=True):
                sure[place] = one
        return fits, sure

    def _finished(self, face: Face, fit: Fit, sure: Posterior | None) -> FittedFace:
        """The fit moved to the square around the face, and the square cut out. Raises BadSample."""
        if sure is None or fit.result == FitResult.FROM_BEHIND:
            raise BadSample(f"fit.{fit.result}", fit.result.advice)
        places = self.seen_rows.positions(fit.coefficients)
        model_landmarks = fit.camera.project(places[np.searchsorted(self.seen, self.model.landmark_vertices)])
        self._check_residual(fit, model_landmarks)
        _check_plausible(fit.coefficients, self.model)
        try:
            square = square_around(model_landmarks, margin=self.config.margin, size_px=IMAGE_HEIGHT)
        except ValueError as error:
            raise BadSample("landmarks.box", str(error)) from None
        photograph = decode_in_frame(face.read_photograph(), face.frame)
        _check_inside(face.landmarks_px, photograph.shape[:2])
        points = fit.points
        corners = places[np.searchsorted(self.seen, points.corners)]
        on_surface = (corners * points.weights[:, :, None]).sum(axis=1)
        moved = square.picture_from_photograph
        camera = moved_camera(fit.camera, moved)
        return FittedFace(
            source_id=face.source_id,
            origin=face.origin,
            picture=cut_square(photograph, square),
            square=square,
            photograph_hw=(photograph.shape[0], photograph.shape[1]),
            coefficients=fit.coefficients,
            camera=camera,
            landmarks_px=moved.apply(fit.landmarks_px),
            fitted_px=camera.project(on_surface)[:, :2],
            residual_px=fit.residual_px * moved.scale,
            model_landmarks_px=moved.apply(model_landmarks),
            pose_stddev=np.radians(sure.rotation_stddev_deg),
            surface_stddev_mm=self._surface_stddev_mm(sure),
            result=fit.result,
        )

    def _surface_stddev_mm(self, sure: Posterior) -> float:
        """Root mean square distance of the skin's vertices from where they may truly be, in the model frame."""
        n_modes = self.sampled_mm.shape[1]
        covariance = sure.covariance[:n_modes, :n_modes]
        variance = np.einsum("qk,qk->q", self.sampled_mm @ covariance, self.sampled_mm)
        return float(np.sqrt(3 * variance.mean()))

    def _check_residual(self, fit: Fit, model_landmarks: Float[np.ndarray, "68 3"]) -> None:
        """As the position maps' own check of their sources: the inner landmarks must lie on the model."""
        inner = [p for p in range(len(self.scheme)) if p not in self.scheme.jaw]
        known = fit.residual_px[inner][np.isfinite(fit.residual_px[inner])]
        box = np.ptp(model_landmarks[:, :2], axis=0)
        limit = self.config.landmark_tolerance * float(np.sqrt(np.prod(box)))
        if len(known) and known.mean() > limit:
            raise BadSample(
                "fit.residual",
                f"the inner landmarks lie {known.mean():.1f} px from the fitted model on average, more than the "
                f"{limit:.1f} px that landmark_tolerance allows: they are in another order, or wrong",
            )


def _check_plausible(coefficients: Coefficients, model: MorphableModel) -> None:
    """Points can be met by what is no face: the model then stands far off, and the residuals tell nothing of it."""
    away = coefficients.in_stddevs(model)
    largest = float(np.abs(np.concatenate([away.identity, away.expression])).max())
    if largest > LARGEST_STDDEVS:
        raise BadSample(
            "fit.implausible",
            f"a coefficient of the fit lies {largest:.1f} standard deviations from the mean face, more than the "
            f"{LARGEST_STDDEVS:g} that a face can have: points that were projected from a model want --contour fixed, "
            "and wrong ones --loss geman_mcclure",
        )


def moved_camera(camera: ScaledOrthographicCamera, picture_from_image: Similarity2D) -> ScaledOrthographicCamera:
    """The camera whose pictures are cut by a similarity without rotation; depth is scaled with the rest."""
    translation = picture_from_image.apply(camera.translation_px)
    return ScaledOrthographicCamera(camera.scale * picture_from_image.scale, camera.rotation, translation)


def landmarks_of_68(
    scheme: LandmarkScheme, landmarks_px: Float[np.ndarray, "p 2"], model_landmarks_px: Float[np.ndarray, "68 d"]
) -> Float[np.ndarray, "68 2"]:
    """The 68 points as an annotation file holds them: the given ones, the fitted model's where a point is not known."""
    points = model_landmarks_px[:, :2].astype(np.float64)
    for point, places in zip(landmarks_px, scheme.members, strict=True):
        if len(places) == 1 and places[0] < len(points) and np.isfinite(point).all():
            points[places[0]] = point
    return points


def fit_file(face: FittedFace, *, picture_name: str, model: ModelInfo, scheme: str, licence: str) -> FitFile:
    """The face as the file that is kept of it."""
    return FitFile(
        source_id=face.source_id,
        picture=picture_name,
        picture_size_hw=face.picture.shape[:2],
        picture_from_photograph=face.square.picture_from_photograph.matrix.tolist(),
        photograph_size_hw=face.photograph_hw,
        model=model,
        identity=face.coefficients.identity.tolist(),
        expression=face.coefficients.expression.tolist(),
        scale_px_per_mm=face.camera.scale,
        rotation=face.camera.rotation.tolist(),
        translation_px=face.camera.translation_px.tolist(),
        scheme=scheme,
        landmark_origin=face.origin,
        licence=licence,
        landmarks_px=_points_or_none(face.landmarks_px),
        fitted_px=face.fitted_px.tolist(),
        residual_px=[value if np.isfinite(value) else None for value in face.residual_px.tolist()],
        model_landmarks_px=face.model_landmarks_px.tolist(),
        result=str(face.result),
        pose_stddev_rad=face.pose_stddev.tolist(),
        surface_stddev_mm=face.surface_stddev_mm,
    )


def _points_or_none(points: np.ndarray) -> list[list[float] | None]:
    return [point if np.isfinite(point).all() else None for point in points.tolist()]


def _check_inside(landmarks_px: Float[np.ndarray, "p 2"], size_hw: tuple[int, int]) -> None:
    """Landmarks of another picture, of another size of it or of its turned twin mostly lie outside."""
    known = landmarks_px[np.isfinite(landmarks_px).all(axis=1)]
    outside = ((known < -0.5) | (known > np.array(size_hw[::-1]) - 0.5)).any(axis=1)
    if outside.mean() > _MOST_OUTSIDE:
        raise BadSample(
            "landmarks.outside",
            f"{int(outside.sum())} of {len(known)} landmarks lie outside the {size_hw[1]} × {size_hw[0]} picture: they "
            "belong to another one, to another size of it, or to it turned by EXIF's orientation (landmarks_frame)",
        )

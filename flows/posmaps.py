"""Position maps: the way of one sample, from its annotation and picture to the arrays that are stored.

Steps 3 to 9 of the data's way (docs/data-model.md): mesh in the model frame, camera, landmarks checked, crop, image warped,
depth offset, atlas. Everything that pictures of one family share is evaluated once: their coefficients are equal, so their
vertices are, and a map is an affine map of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Float32, Float64, UInt8

from flows.config import PosmapConfig
from geometry.camera import apply_affine
from geometry.landmarks import INNER
from geometry.morphable_model import Coefficients, LinearRows, MorphableModel
from geometry.rotation import euler_from_rotation, yaw_from_rotation
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, TexelSampler
from render.crop import crop_from_landmarks, crop_from_landmarks_face3d, sample_seed, warp_image
from render.landmark_texels import landmark_sampler
from render.position_map import crop_from_model, with_depth_offset
from storage.annotations import IMAGE_HEIGHT, Annotation
from storage.bad_sample import BadSample
from storage.images import decode_image

FACES_PER_PRODUCT = 32
"""Faces in one matrix product. Cut by the plan alone, so that bytes do not depend on the number of workers."""

COEFFICIENT_LIMIT = 15.0
"""In standard deviations; the largest in AFLW2000-3D are below 10, a file in other units has thousands."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One photograph as its file's bytes (decoded when its turn comes), and its annotation."""

    source_id: str
    image_bytes: bytes
    annotation: Annotation


@dataclass(frozen=True, slots=True)
class PosmapSample:
    """One sample before it is encoded. Frames: crop pixels; `pose` is (pitch, yaw, roll, t_x, t_y, t_z, scale) of the camera."""

    source_id: str
    copy_index: int
    seed: int
    image: UInt8[np.ndarray, "s s 3"]
    position_map: Float32[np.ndarray, "s s 3"] | None  # None: parametric
    landmarks_px: Float32[np.ndarray, "68 3"]
    coefficients: Coefficients
    pose: Float64[np.ndarray, "7"]
    crop_from_image: Float64[np.ndarray, "3 3"]
    crop_from_model: Float64[np.ndarray, "3 4"]
    z_offset_px: float
    landmark_residual_px: float  # NaN where the file gives no landmarks of its own
    readback_error_px: Float64[np.ndarray, "68"]  # landmarks read from the map, against the landmarks
    yaw: float


@dataclass(frozen=True)
class PosmapRecipe:
    """The constant things: config, model and the atlas as a raster."""

    config: PosmapConfig
    model: MorphableModel
    raster: AtlasRaster
    sampler: TexelSampler  # of the 68 landmarks

    @classmethod
    def of(cls, config: PosmapConfig, model: MorphableModel, atlas: UVAtlas) -> "PosmapRecipe":
        """Rasterise the atlas for this config. Raises ValueError when it does not cover a landmark."""
        raster = AtlasRaster(atlas, config.crop.size_px)
        return cls(config, model, raster, landmark_sampler(model, raster, atlas.uv[model.landmark_vertices]))

    @cached_property
    def landmark_rows(self) -> LinearRows:
        """The linear model of the 68 landmarks."""
        return self.model.rows(self.model.landmarks)

    @cached_property
    def _readback(self) -> sp.csr_matrix:
        """(68 V): the landmarks as :attr:`sampler` reads them, straight from the vertices."""
        return self.sampler.as_vertex_mixture(self.raster, self.model.n_vertices).astype(np.float32)

    def make_samples(self, pictures: Iterable[Picture | BadSample]) -> Iterator[list[PosmapSample] | BadSample]:
        """The samples of each picture in order: one for each copy, or the reason why it cannot be used."""
        checked = [picture if isinstance(picture, BadSample) else self._checked(picture) for picture in pictures]
        faces = _Faces(self.model, [p.annotation.coefficients for p in checked if not isinstance(p, BadSample)])
        for picture in checked:
            if isinstance(picture, BadSample):
                yield picture
                continue
            vertices = faces.vertices(picture.annotation.coefficients)
            try:
                image = decode_image(picture.image_bytes, expected_hw=(IMAGE_HEIGHT, IMAGE_HEIGHT))
                yield [self._sample(picture, image, vertices, copy_index) for copy_index in range(self.config.copies)]
            except BadSample as bad:
                yield bad

    def _checked(self, picture: Picture) -> Picture | BadSample:
        """The picture, or why its numbers cannot be this model's."""
        coefficients = picture.annotation.coefficients
        try:
            self.model.check(coefficients)
        except ValueError as error:
            return BadSample("param.count", str(error))
        in_stddevs = coefficients.in_stddevs(self.model)
        largest = max(np.abs(in_stddevs.identity).max(initial=0), np.abs(in_stddevs.expression).max(initial=0))
        if not largest <= COEFFICIENT_LIMIT:
            return BadSample(
                "param.range",
                f"a coefficient lies {largest:.3g} standard deviations from the mean, more than {COEFFICIENT_LIMIT:g}: "
                f"the file is damaged or was made for another model than {self.model.name}",
            )
        return picture

    def _sample(
        self, picture: Picture, image: UInt8[np.ndarray, "h w 3"], vertices: Float32[np.ndarray, "v 3"], copy_index: int
    ) -> PosmapSample:
        config, annotation = self.config, picture.annotation
        landmarks = self.landmark_rows.positions(annotation.coefficients)
        in_image = annotation.camera.project(landmarks)
        residual = self._landmark_residual(annotation, in_image, image.shape[:2])

        seed = sample_seed(config.seed, picture.source_id, copy_index)
        cut = crop_from_landmarks_face3d if config.compat == "face3d" else crop_from_landmarks
        try:
            crop = cut(in_image, config.crop, rng=np.random.default_rng(seed) if copy_index else None)
        except ValueError as error:
            raise BadSample("landmarks.box", str(error)) from None
        affine, offset = with_depth_offset(crop_from_model(annotation.camera, crop), vertices)
        in_crop = apply_affine(affine, landmarks)

        position_map = None
        if config.maps == "materialized":
            position_map = self.raster.apply(vertices, affine)
            read = self.sampler.read(position_map)
        else:
            read = apply_affine(affine, (self._readback @ vertices).astype(np.float64))
        camera = annotation.camera
        pitch, yaw, roll = (float(angle) for angle in euler_from_rotation(camera.rotation))
        return PosmapSample(
            source_id=picture.source_id,
            copy_index=copy_index,
            seed=seed,
            image=warp_image(image, crop, size_px=config.crop.size_px),
            position_map=position_map,
            landmarks_px=in_crop.astype(np.float32),
            coefficients=annotation.coefficients,
            pose=np.array([pitch, yaw, roll, *camera.translation_px, camera.scale]),
            crop_from_image=crop.matrix,
            crop_from_model=affine,
            z_offset_px=offset,
            landmark_residual_px=residual,
            readback_error_px=np.linalg.norm(read - in_crop, axis=-1),
            yaw=float(yaw_from_rotation(camera.rotation)),
        )

    def _landmark_residual(
        self, annotation: Annotation, projected: Float[np.ndarray, "68 3"], size_hw: Sequence[int]
    ) -> float:
        """Mean distance of the file's inner landmarks from the projected model; NaN where the file has none of its own.

        The jaw is left out: the annotators' contour slides with pose, the model's vertices do not.
        """
        low, high = projected[:, :2].min(axis=0), projected[:, :2].max(axis=0)
        if not (np.isfinite(projected).all() and (low < (size_hw[1], size_hw[0])).all() and (high > 0).all()):
            raise BadSample(
                "landmarks.outside",
                f"the projected face spans x {low[0]:.0f}…{high[0]:.0f}, y {low[1]:.0f}…{high[1]:.0f} px, "
                f"outside the {size_hw[1]} × {size_hw[0]} picture: pose and picture do not belong together",
            )
        stored = annotation.landmarks_px[INNER, :2]
        known = np.isfinite(stored).all(axis=1)
        if not known.any():
            return float("nan")
        residual = float(np.linalg.norm(projected[INNER, :2] - stored, axis=1)[known].mean())
        limit = self.config.landmark_tolerance * float(np.sqrt(np.prod(high - low)))
        if residual > limit:
            raise BadSample(
                "landmarks.disagree",
                f"the file's inner landmarks lie {residual:.1f} px from the projected model on average, more than the "
                f"{limit:.1f} px that landmark_tolerance allows: parameters of another model, or of another picture",
            )
        return residual


class _Faces:
    """Vertices of distinct faces, in products of :data:`FACES_PER_PRODUCT`; the last two products are kept."""

    def __init__(self, model: MorphableModel, coefficients: Sequence[Coefficients]) -> None:
        self._model = model
        self._place: dict[bytes, int] = {}
        self._distinct: list[Coefficients] = []
        for one in coefficients:
            if _key(one) not in self._place:
                self._place[_key(one)] = len(self._distinct)
                self._distinct.append(one)
        self._products: dict[int, np.ndarray] = {}

    def vertices(self, coefficients: Coefficients) -> Float32[np.ndarray, "v 3"]:
        product, row = divmod(self._place[_key(coefficients)], FACES_PER_PRODUCT)
        if product not in self._products:
            if len(self._products) > 1:
                del self._products[min(self._products)]
            faces = self._distinct[product * FACES_PER_PRODUCT : (product + 1) * FACES_PER_PRODUCT]
            batch = Coefficients(np.stack([f.identity for f in faces]), np.stack([f.expression for f in faces]))
            self._products[product] = self._model.vertices(batch)
        return self._products[product][row]


def _key(coefficients: Coefficients) -> bytes:
    return coefficients.identity.tobytes() + coefficients.expression.tobytes()

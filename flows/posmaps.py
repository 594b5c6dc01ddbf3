"""Position maps: the way of one sample, from its annotation and picture to the arrays that are stored.

Steps 3 to 9 of the data's way (docs/data-model.md): mesh in the model frame, camera, landmarks checked, crop, image warped,
depth offset, atlas. Everything that pictures of one family share is evaluated once: their coefficients are equal, so their
vertices are, and a map is an affine map of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, UInt8

from flows.atlases import choose_atlas
from flows.augmented_copies import AugmentedCopies
from flows.config import RECIPE_VERSION, PosmapConfig
from flows.face_checks import check_coefficients, check_inside, landmark_residual
from flows.placed_faces import PlacedFace, placed_faces
from flows.posmap_sample import Picture, PosmapSample
from flows.posmap_statistics import Collector, merged
from flows.recipe import PlannedPicture, ReadFile, Recipe, Table
from flows.targets import POSITION_MAPS
from flows.targets.family import Ground, Layout, TargetFamily, family_named, family_tables, with_families
from flows.targets.scene import Scene, SceneFace, field_template, template_of_tables, template_tables
from geometry.camera import apply_affine, compose_affine
from geometry.landmarks import MIRROR
from geometry.morphable_model import LinearRows, MorphableModel
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, TexelSampler
from render.correspondence import FieldTemplate
from render.crop import crop_from_landmarks, crop_from_landmarks_face3d, sample_seed, warp_image
from render.landmark_texels import landmark_sampler
from render.masks import face_mask, landmark_texels, weight_mask
from render.position_map import with_depth_offset
from render.zbuffer import RasterBuffers, rasterize
from storage.annotations import IMAGE_HEIGHT, annotations_from_variables
from storage.augmentation_targets import augmentation_targets
from storage.bad_sample import BadSample
from storage.byte_codes import Jpeg
from storage.face_targets import position_map_schema
from storage.file_names import view_of_path
from storage.images import PictureRoom, decode_image, decode_rgba
from storage.mat_reader import process_reader
from storage.schema import Schema

PICTURES_PER_ZBUFFER = 16
"""Samples that the z-buffer draws at once, one in each SIMD lane; a picture does not depend on its company."""


@dataclass(frozen=True)
class PosmapRecipe(Recipe[PosmapConfig, Picture, PosmapSample]):
    """The constant things: config, model, the atlas as a raster, and other families of targets."""

    config_type: ClassVar = PosmapConfig
    version: ClassVar[int] = RECIPE_VERSION
    picture_hw: ClassVar[tuple[int, int] | None] = (IMAGE_HEIGHT, IMAGE_HEIGHT)
    """The size that pictures must have: 300W-LP's annotations mean nothing in another one. None: any."""

    config: PosmapConfig
    model: MorphableModel
    raster: AtlasRaster
    sampler: TexelSampler  # of the 68 landmarks
    families: tuple[TargetFamily, ...] = ()
    template: FieldTemplate | None = None
    atlas: UVAtlas | None = None  # where the recipe was planned
    photograph_bytes: int | None = None  # of the longest file, where it was planned and files are stored

    @classmethod
    def of(cls, config: PosmapConfig, model: MorphableModel, atlas: UVAtlas) -> "PosmapRecipe":
        """Rasterise the atlas for this config. Raises ValueError when it does not cover a landmark."""
        raster = AtlasRaster(atlas, config.crop.size_px)
        sampler = landmark_sampler(model, raster, atlas.uv[model.landmark_vertices])
        return cls(config, model, raster, sampler, atlas=atlas)

    @classmethod
    def planned(
        cls,
        config: PosmapConfig,
        model: MorphableModel,
        pictures: Sequence[PlannedPicture],
        files: Mapping[str, Path],
    ) -> "PosmapRecipe":
        """The recipe with its atlas, and the template of fields where a family draws from one."""
        if files and "parts" not in config.targets:
            raise ValueError(f"a {', '.join(files)} belongs to the targets `parts`, which this build does not make")
        atlas = choose_atlas(model, config)
        kinds = other_families(config)
        template = None
        if any(kind.needs_template for kind in kinds):
            template = field_template(model, atlas if config.field_atlas == "maps" else None)
        ground = Ground(_layout(config), model, template)
        families = tuple(kind.planned(ground, files) for kind in kinds)
        recipe = replace(cls.of(config, model, atlas), families=families, template=template)
        if config.images == "source":
            recipe = replace(recipe, photograph_bytes=max(p.files[0].n_bytes for p in pictures if p.bad is None))
        if recipe.augmented is not None:
            recipe.augmented.check(model)
        return recipe

    @classmethod
    def prepared(
        cls, config: PosmapConfig, model: MorphableModel, pictures: Sequence[PlannedPicture], table: Table
    ) -> "PosmapRecipe":
        """The recipe from the tables."""
        raster = AtlasRaster.from_tables(*(table(f"atlas_{part}") for part in ("corners", "weights", "covered")))
        sampler = TexelSampler(*(table(f"landmark_{part}") for part in ("rows", "columns", "weights")))
        kinds = other_families(config)
        template = template_of_tables(table) if any(kind.needs_template for kind in kinds) else None
        ground = Ground(_layout(config), model, template)
        return cls(config, model, raster, sampler, tuple(kind.prepared(ground, table) for kind in kinds), template)

    @property
    def copies(self) -> int:
        """Samples of each picture."""
        return self.config.copies

    def schema(self, *, source_id_bytes: int) -> Schema:
        """The position map's schema, and what the other families add."""
        schema = position_map_schema(
            image_size=self.config.crop.size_px,
            map_size=self.config.crop.size_px,
            n_identity=self.model.n_identity,
            n_expression=self.model.n_expression,
            maps=self.config.maps if POSITION_MAPS in self.config.targets else None,
            source_id_bytes=source_id_bytes,
            jpeg_quality=self.config.jpeg_quality,
            photograph_bytes=self.photograph_bytes,
            compresses_images=self.config.images != "uncompressed",
        )
        if self.augmented is not None:
            targets = (*schema.targets, *augmentation_targets(self.config.crop.size_px))
            schema = Schema(targets=targets, derived=schema.derived)
        return with_families(schema, self.families)

    def tables(self) -> dict[str, np.ndarray]:
        """The atlas and its masks, and what the other families have."""
        if self.atlas is None:
            raise ValueError("tables are the plan's: this recipe was prepared from them")
        raster, atlas = self.raster, self.atlas
        compat: Literal["prnet"] | None = "prnet" if self.config.compat == "face3d" else None
        return {
            "atlas_corners": raster.corners,
            "atlas_weights": raster.weights,
            "atlas_covered": raster.covered.astype(np.uint8),
            "weight_mask": weight_mask(self.model, atlas, raster.size, raster=raster, compat=compat),
            "face_mask": face_mask(self.model, raster).astype(np.uint8),
            "landmark_rows": self.sampler.rows,
            "landmark_columns": self.sampler.columns,
            "landmark_weights": self.sampler.weights,
            "landmark_texels": landmark_texels(self.model, atlas, raster),
            "vertex_uv": atlas.uv,
            "triangles": atlas.triangles,
            **template_tables(self.template),
            **family_tables(self.families),
        }

    def read(self, pictures: Sequence[PlannedPicture], root: Path, read_file: ReadFile) -> list[Picture | BadSample]:
        """The pictures' bytes and their annotations, parsed all at once in the child process."""
        images, files = ([read_file(p.files[place]) for p in pictures] for place in (0, 1))
        views = [view_of_path(root / p.files[1].name) for p in pictures]
        answers = annotations_from_variables(process_reader().read_many(files), views=views, compat=self.config.compat)
        return [
            answer if isinstance(answer, BadSample) else Picture(p.source_id, image, answer)
            for p, image, answer in zip(pictures, images, answers, strict=True)
        ]

    def stored(self, sample: PosmapSample) -> dict[str, object]:
        """The sample under the names of the schema."""
        image = {"image": sample.image} if sample.photograph is None else {"photograph": sample.photograph}
        stored = {
            **image,
            "landmarks_px": sample.landmarks_px,
            "landmark_residual_px": np.float32(sample.landmark_residual_px),
            "identity": sample.coefficients.identity.astype(np.float32),
            "expression": sample.coefficients.expression.astype(np.float32),
            "pose": sample.pose,
            "crop_from_image": sample.crop_from_image,
            "crop_from_model": sample.crop_from_model,
            "z_offset_px": np.float64(sample.z_offset_px),
            "mirrored": np.bool_(sample.mirrored),
            "source_id": np.str_(sample.source_id),
            "copy_index": np.int32(sample.copy_index),
            "seed": np.int64(sample.seed),
            **sample.others,
        }
        return stored if sample.position_map is None else {**stored, "position_map": sample.position_map}

    def collector(self) -> Collector:
        """Readback errors, residuals, poses, and what JPEGs lost."""
        quality, size = self.config.jpeg_quality, self.config.crop.size_px
        return Collector(None if quality is None else Jpeg(quality=quality, size_hw=(size, size)))

    def merged(self, shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The same of the whole data set."""
        return merged(shards)

    @cached_property
    def augmented(self) -> AugmentedCopies | None:
        """How copies are augmented; None: their crops are jittered."""
        if self.config.augment is None:
            return None
        return AugmentedCopies(
            self.config.augment, self.config.seed, self.config.crop.size_px, self.raster, self.sampler
        )

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
        made = self._crops(pictures)
        if not self.families:
            yield from made
            return
        while group := list(islice(made, max(1, PICTURES_PER_ZBUFFER // self.copies))):
            yield from self._with_others(group)

    def _with_others(self, made: list[list[PosmapSample] | BadSample]) -> Iterator[list[PosmapSample] | BadSample]:
        """The samples with the other families' targets, from one z-buffer each, all drawn together."""
        samples = [sample for picture in made if not isinstance(picture, BadSample) for sample in picture]
        size_hw = _layout(self.config).size_hw
        drawn = None
        if samples and self.template is not None:
            drawn = rasterize(np.stack([_drawable(s) for s in samples]), self.template.triangles, size_hw=size_hw)
        place = 0
        for picture in made:
            if isinstance(picture, BadSample):
                yield picture
                continue
            buffers = [None if drawn is None else drawn[place + k] for k in range(len(picture))]
            place += len(picture)
            try:
                yield [self._with_families(*pair) for pair in zip(picture, buffers, strict=True)]
            except BadSample as bad:
                yield bad

    def _with_families(self, sample: PosmapSample, buffers: RasterBuffers | None) -> PosmapSample:
        scale = float(np.linalg.norm(sample.crop_from_model[0, :3]))
        face = SceneFace(_drawable(sample), sample.landmarks_px.astype(np.float64), scale)
        scene = Scene(_layout(self.config).size_hw, (face,), self.model, self.template, buffers=buffers)
        others = {name: value for family in self.families for name, value in family.values(scene).items()}
        return replace(sample, vertices_px=None, others={**sample.others, **others})

    def _crops(self, pictures: Iterable[Picture | BadSample]) -> Iterator[list[PosmapSample] | BadSample]:
        checked = [p if isinstance(p, BadSample) else checked_face(p, self.model) for p in pictures]
        annotations = [p.annotation for p in checked if not isinstance(p, BadSample)]
        faces = placed_faces(annotations, self.model, self.landmark_rows, self._readback)
        decode = decode_image if self.augmented is not None else partial(decode_rgba, room=PictureRoom())
        for picture in checked:
            if isinstance(picture, BadSample):
                yield picture
                continue
            face = next(faces)
            try:
                image = decode(picture.image_bytes, expected_hw=self.picture_hw)
                yield [self._sample(picture, image, face, copy_index) for copy_index in range(self.config.copies)]
            except BadSample as bad:
                yield bad

    def _sample(
        self, picture: Picture, image: UInt8[np.ndarray, "h w c"], face: PlacedFace, copy_index: int
    ) -> PosmapSample:
        config, annotation = self.config, picture.annotation
        vertices, in_image = face.vertices, face.landmarks_in_image
        check_inside(in_image, image.shape[:2])
        residual = landmark_residual(annotation.landmarks_px, in_image, tolerance=config.landmark_tolerance)

        seed = sample_seed(config.seed, picture.source_id, copy_index)
        cut = crop_from_landmarks_face3d if config.compat == "face3d" else crop_from_landmarks
        try:
            jittered = copy_index and self.augmented is None
            crop = cut(in_image, config.crop, rng=np.random.default_rng(seed) if jittered else None)
        except ValueError as error:
            raise BadSample("landmarks.box", str(error)) from None
        way, draw = crop, None
        if self.augmented is not None:
            draw = self.augmented.draw(picture.source_id, copy_index)
            way = self.augmented.way(draw) @ crop
        affine, offset = with_depth_offset(compose_affine(way.affine3d, face.image_from_model), vertices)
        in_crop, read_landmarks, mirrored = apply_affine(affine, face.landmarks), face.read_landmarks, way.is_mirrored
        if mirrored:  # every point gets its new name, every texel the surface of the other side
            in_crop, vertices = in_crop[MIRROR], vertices[self.model.mirror]
            read_landmarks = (self._readback @ vertices).astype(np.float64)

        position_map = None
        if config.maps != "parametric" and POSITION_MAPS in config.targets:
            position_map = self.raster.apply(vertices, affine)
            read = self.sampler.read(position_map)
        else:
            read = apply_affine(affine, read_landmarks)
        others: dict[str, object] = {}
        if self.augmented is None or draw is None:
            cropped = warp_image(image, crop, size_px=config.crop.size_px)
        else:
            xyz = position_map
            if xyz is None and self.augmented.needs_map(draw):
                xyz = self.raster.apply(vertices, affine)
            cropped, occluded = self.augmented.picture(image, crop, draw, copy_index=copy_index, xyz=xyz)
            others = self.augmented.stored(draw, occluded)
        return PosmapSample(
            source_id=picture.source_id,
            copy_index=copy_index,
            seed=seed,
            image=cropped,
            photograph=picture.image_bytes if config.images == "source" else None,
            position_map=position_map,
            landmarks_px=in_crop.astype(np.float32),
            coefficients=annotation.coefficients,
            pose=face.pose,
            crop_from_image=way.matrix,
            crop_from_model=affine,
            z_offset_px=offset,
            landmark_residual_px=residual,
            readback_error_px=np.linalg.norm(read - in_crop, axis=-1),
            yaw=-face.yaw if mirrored else face.yaw,
            mirrored=mirrored,
            others=others,
            vertices_px=apply_affine(affine, vertices) if self.families else None,
        )


def _drawable(sample: PosmapSample) -> Float32[np.ndarray, "v 3"]:
    """The vertices of a sample that was made for other families too."""
    if sample.vertices_px is None:
        raise ValueError(f"{sample.source_id} was made without its vertices, and other families of targets need them")
    return sample.vertices_px


def checked_face(picture: Picture, model: MorphableModel) -> Picture | BadSample:
    """The picture, or why its numbers cannot be this model's."""
    try:
        check_coefficients(picture.annotation.coefficients, model)
    except BadSample as bad:
        return bad
    return picture


def other_families(config: PosmapConfig) -> list[type[TargetFamily]]:
    """The families of a config beside the position maps."""
    return [family_named(name) for name in config.targets if name != POSITION_MAPS]


def _layout(config: PosmapConfig) -> Layout:
    return Layout((config.crop.size_px, config.crop.size_px))

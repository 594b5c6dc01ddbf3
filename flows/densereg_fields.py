"""DenseReg's fields: the way of one whole photograph with all its faces (Güler et al. 2017, sec. 2 and 4.1).

The photograph is brought to at most 800 px along its longest side and never enlarged; all annotated faces are drawn into
it by one z-buffer, the nearer over the farther; detected faces that nobody annotated become places to ignore. Crops and
scales are drawn by readers (:mod:`storage.field_crops`), so nothing here is random.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from flows import field_statistics
from flows.atlases import own_atlas
from flows.config import DENSEREG_RECIPE_VERSION, DenseRegConfig
from flows.face_checks import check_coefficients, check_inside, landmark_residual
from flows.photograph_sample import Photograph, PhotographSample
from flows.recipe import PlannedFile, PlannedPicture, PlannedSource, ReadFile, Recipe, Table
from flows.targets.family import Ground, Layout, TargetFamily, family_named, family_tables, with_families
from flows.targets.scene import Scene, SceneFace, field_template, template_of_tables, template_tables
from geometry.camera import apply_affine, compose_affine
from geometry.morphable_model import Coefficients, MorphableModel
from geometry.rotation import yaw_from_rotation
from render.correspondence import FieldTemplate, box_mask, unannotated_boxes
from render.paper_crops import densereg_photograph
from render.windows import Window, cut_picture
from storage.annotations import Annotation, annotations_from_variables
from storage.bad_sample import BadSample
from storage.face_boxes import parse_face_boxes
from storage.file_names import view_of_path
from storage.images import decode_image, stored_size
from storage.mat_reader import process_reader
from storage.photograph_targets import photograph_schema
from storage.schema import Schema
from storage.sources import open_source

FAMILIES = ("field", "parts")


@dataclass(frozen=True)
class DenseRegRecipe(Recipe[DenseRegConfig, Photograph, PhotographSample]):
    """The constant things: config, model, how much room a sample has, the template and the families of targets."""

    config_type: ClassVar = DenseRegConfig
    version: ClassVar[int] = DENSEREG_RECIPE_VERSION

    config: DenseRegConfig
    model: MorphableModel
    layout: Layout
    template: FieldTemplate
    families: tuple[TargetFamily, ...]

    @classmethod
    def sample_source(cls, out: Path, progress: Any = lambda done, total: None) -> Path:
        """Photographs of invented groups, drawn where they are missing."""
        from storage.synthetic_groups import write_group_folder

        folder = out.absolute() / "sources" / "groups"
        write_group_folder(folder, progress=progress)
        return folder

    @classmethod
    def listed(cls, folder: Path) -> PlannedSource:
        """Photographs with an annotation for each face."""
        return PlannedSource.of(open_source(folder, several_faces=True))

    @classmethod
    def planned(
        cls,
        config: DenseRegConfig,
        model: MorphableModel,
        pictures: Sequence[PlannedPicture],
        files: Mapping[str, Path],
    ) -> "DenseRegRecipe":
        """With the template laid flat. Raises ValueError for a model without an atlas of its own where it is asked for."""
        template = field_template(model, own_atlas(model) if config.atlas == "own" else None)
        ground = Ground(_layout(config, pictures), model, template)
        families = tuple(family_named(name).planned(ground, files) for name in FAMILIES)
        return cls(config, model, ground.layout, template, families)

    @classmethod
    def prepared(
        cls, config: DenseRegConfig, model: MorphableModel, pictures: Sequence[PlannedPicture], table: Table
    ) -> "DenseRegRecipe":
        """The same from the tables."""
        template = template_of_tables(table)
        ground = Ground(_layout(config, pictures), model, template)
        families = tuple(family_named(name).prepared(ground, table) for name in FAMILIES)
        return cls(config, model, ground.layout, template, families)

    def schema(self, *, source_id_bytes: int) -> Schema:
        """The photograph, its faces, and the families' targets."""
        schema = photograph_schema(
            size_hw=self.layout.size_hw,
            max_faces=int(self.layout.max_faces or 1),
            n_identity=self.model.n_identity,
            n_expression=self.model.n_expression,
            source_id_bytes=source_id_bytes,
        )
        return with_families(schema, self.families)

    def tables(self) -> dict[str, np.ndarray]:
        """The template, the landmarks' coordinates on it, and what the families have."""
        landmark_uv = self.template.uv[self.model.landmark_vertices]
        return {**template_tables(self.template), "landmark_uv": landmark_uv, **family_tables(self.families)}

    def read(self, pictures: Sequence[PlannedPicture], root: Path, read_file: ReadFile) -> list[Photograph | BadSample]:
        """The photographs' bytes; annotations, counted from each one's lower edge, are parsed all at once."""
        images = [read_file(picture.files[0]) for picture in pictures]
        heights = [_height(image) for image in images]
        files = [(place, file) for place, picture in enumerate(pictures) for file in _annotations(picture)]
        answers = annotations_from_variables(
            process_reader().read_many([read_file(file) for _, file in files]),
            views=[view_of_path(root / pictures[place].files[0].name) for place, _ in files],
            image_height=[heights[place] for place, _ in files],
        )
        found: list[list[Annotation | BadSample]] = [[] for _ in pictures]
        for (place, file), answer in zip(files, answers, strict=True):
            several = len(_annotations(pictures[place])) > 1
            found[place].append(answer.about(file.name) if isinstance(answer, BadSample) and several else answer)
        return [
            _photograph(picture, image, faces, read_file)
            for picture, image, faces in zip(pictures, images, found, strict=True)
        ]

    def make_samples(self, pictures: Iterable[Photograph | BadSample]) -> Iterator[list[PhotographSample] | BadSample]:
        """One sample of each photograph, or why it has none: one bad face spoils it, as its pixels would teach nonsense."""
        for picture in pictures:
            if isinstance(picture, BadSample):
                yield picture
                continue
            try:
                yield [self._sample(picture)]
            except BadSample as bad:
                yield bad

    def _sample(self, photograph: Photograph) -> PhotographSample:
        image = decode_image(photograph.image_bytes)
        window = scaled_photograph(image.shape[:2], longest_px=self.config.longest_px)
        to_sample = window.crop_from_image
        for face in photograph.faces:
            check_coefficients(face.coefficients, self.model)
        vertices = self.model.vertices(
            Coefficients(
                np.stack([face.coefficients.identity for face in photograph.faces]),
                np.stack([face.coefficients.expression for face in photograph.faces]),
            )
        )
        affines = [compose_affine(to_sample.affine3d, face.camera.image_from_model) for face in photograph.faces]
        faces, residuals = [], []
        for annotation, points, affine in zip(photograph.faces, vertices, affines, strict=True):
            landmarks = points[self.model.landmark_vertices].astype(np.float64)
            in_image = annotation.camera.project(landmarks)
            check_inside(in_image, image.shape[:2])
            tolerance = self.config.landmark_tolerance
            residuals.append(landmark_residual(annotation.landmarks_px, in_image, tolerance=tolerance))
            scale = abs(annotation.camera.scale) * to_sample.scale
            faces.append(SceneFace(apply_affine(affine, points), apply_affine(affine, landmarks), scale))
        boxes = to_sample.apply(photograph.boxes_px.reshape(-1, 2)).reshape(-1, 4)
        unannotated = unannotated_boxes(boxes, [face.landmarks_px for face in faces])
        ignored = box_mask(unannotated, size_hw=window.size_hw)
        scene = Scene(window.size_hw, tuple(faces), self.model, self.template, ignored=ignored)
        others = {name: value for family in self.families for name, value in family.values(scene).items()}
        stacked = self.layout.stacked
        picture = image if to_sample.scale == 1 else cut_picture(image, window)
        stored: dict[str, object] = {
            "image": self.layout.padded(picture),
            "size_hw": np.array(window.size_hw, dtype=np.int32),
            "picture_from_photograph": to_sample.matrix,
            "n_faces": np.int32(len(faces)),
            "landmarks_px": stacked([face.landmarks_px.astype(np.float32) for face in faces], empty=np.nan),
            "picture_from_model": stacked(affines, empty=np.nan),
            "pose": stacked([face.camera.pose for face in photograph.faces], empty=np.nan),
            "identity": stacked([f.coefficients.identity.astype(np.float32) for f in photograph.faces], empty=np.nan),
            "expression": stacked(
                [f.coefficients.expression.astype(np.float32) for f in photograph.faces], empty=np.nan
            ),
            "landmark_residual_px": stacked(list(np.array(residuals, np.float32)[:, None]), empty=np.nan)[:, 0],
            "source_id": np.str_(photograph.source_id),
            **others,
        }
        return PhotographSample(
            source_id=photograph.source_id,
            stored=stored,
            landmark_residuals_px=tuple(residuals),
            yaws=tuple(float(yaw_from_rotation(face.camera.rotation)) for face in photograph.faces),
            face_share=float(scene.field.is_face.mean()),
            ignored_share=float((scene.field.label == 255).mean()),
        )

    def stored(self, sample: PhotographSample) -> dict[str, object]:
        """The sample under the names of the schema."""
        return dict(sample.stored)

    def collector(self) -> field_statistics.Collector:
        """Faces, residuals, poses, shares of the pixels."""
        return field_statistics.Collector()

    def merged(self, shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The same of the whole data set."""
        return field_statistics.merged(shards)


def scaled_photograph(size_hw: tuple[int, int], *, longest_px: int) -> Window:
    """The window of a sample: the whole photograph, as it is where its longest side is at most `longest_px`."""
    return densereg_photograph((int(size_hw[0]), int(size_hw[1])), longest_px=min(longest_px, max(size_hw)))


def _layout(config: DenseRegConfig, pictures: Sequence[PlannedPicture]) -> Layout:
    """Room for the photograph with the most annotations."""
    most = max((len(_annotations(picture)) for picture in pictures), default=1)
    return Layout((config.longest_px, config.longest_px), max(most, 1))


def _annotations(picture: PlannedPicture) -> tuple[PlannedFile, ...]:
    return tuple(file for file in picture.files[1:] if file.name.lower().endswith(".mat"))


def _height(image: bytes) -> int:
    """The photograph's height; any for one that has none, which is told when it is decoded."""
    try:
        return stored_size(image)[0]
    except BadSample:
        return 1


def _photograph(
    picture: PlannedPicture, image: bytes, faces: Sequence[Annotation | BadSample], read_file: ReadFile
) -> Photograph | BadSample:
    boxes = np.zeros((0, 4))
    try:
        for face in faces:
            if isinstance(face, BadSample):
                return face
        for file in picture.files[1 + len(faces) :]:
            boxes = parse_face_boxes(read_file(file), name=file.name)
    except BadSample as bad:
        return bad
    return Photograph(picture.source_id, image, tuple(f for f in faces if isinstance(f, Annotation)), boxes)

"""Fields of ears from pictures with 55 landmarks: DenseReg's way with objects that have no 3D model.

The recipe that :mod:`flows.build` makes data sets of ears from. A source is any folder of pictures with a ``.pts`` (or
``.json``) of 55 points beside each; the paper's 602 pictures are one. Without a source, ears are drawn
(:mod:`storage.ear_sample`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from pydantic import Field

from flows.config import BuildConfig
from flows.recipe import PlannedPicture, PlannedSource, ReadFile, Recipe, Table
from geometry.ear import N_EAR_LANDMARKS, load_ear_template
from geometry.models import BUILT_IN
from geometry.morphable_model import MorphableModel
from render.crop import warp_image
from render.ear_field import DEFAULT_SMOOTHING, EarField, FlatEar, ear_crop, flat_ear
from storage.bad_sample import BadSample
from storage.ear_sample import write_ear_folder
from storage.ear_targets import ear_field_schema
from storage.images import decode_image
from storage.landmark_files import landmarks_from_files
from storage.manifest import DATASET_NAME
from storage.mat_reader import process_reader
from storage.photographs import open_photographs
from storage.schema import Schema


class EarConfig(BuildConfig):
    """Fields of ears by thin-plate splines."""

    name: str = Field("ear-fields", pattern=DATASET_NAME, description="Name of the data set.")
    size_px: int = Field(256, ge=64, le=1024, description="Side of the crops.")
    margin: float = Field(1.4, ge=1, le=10, description="Side of the crop over the longer side of the landmarks' box.")
    smoothing: float = Field(
        DEFAULT_SMOOTHING, ge=0, description="Of the splines; it is raised where a map would fold."
    )
    largest_residual: float = Field(
        0.05,
        gt=0,
        description="An ear is rejected when its map misses the landmarks by more than this of their spread before it "
        "stops folding.",
    )


@dataclass(frozen=True, slots=True)
class EarPicture:
    """What was read of one photograph; landmarks count its pixels."""

    source_id: str
    image: bytes
    landmarks_px: Float[np.ndarray, "55 2"]


@dataclass(frozen=True, slots=True)
class EarSample:
    """One crop and its field."""

    source_id: str
    image: UInt8[np.ndarray, "s s 3"]
    landmarks_px: Float[np.ndarray, "55 2"]
    crop_from_image: Float[np.ndarray, "3 3"]
    found: EarField


@dataclass(frozen=True, slots=True)
class EarRecipe(Recipe[EarConfig, EarPicture, EarSample]):
    """How a sample of an ear is made: crop about the landmarks, spline, field."""

    config: EarConfig
    flat: FlatEar

    config_type = EarConfig
    version = 1

    # ------------------------------------------------------------------------------------------------------------ plan

    @classmethod
    def sample_source(cls, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
        """The folder ``<out>/sources/ears``, drawn from the built-in model where it is missing."""
        folder = out.absolute() / "sources" / "ears"
        write_ear_folder(folder, progress=progress)
        return folder

    @classmethod
    def listed(cls, folder: Path) -> PlannedSource:
        """Every picture that has landmarks beside it."""
        return PlannedSource.of_photographs(open_photographs(folder), kind="ears")

    @classmethod
    def planned(
        cls, config: EarConfig, model: MorphableModel, pictures: Sequence[PlannedPicture], files: Mapping[str, Path]
    ) -> "EarRecipe":
        """Raises ValueError for a model other than the built-in one, which alone has the template ear."""
        if model.name != BUILT_IN:
            raise ValueError(f"the template ear is the built-in model's; {model.name} has none: leave out the model")
        if files:
            raise ValueError(f"ear fields take no further files, and {', '.join(files)} was given")
        return cls(config, flat_ear())

    def schema(self, *, source_id_bytes: int) -> Schema:
        """See :func:`storage.ear_targets.ear_field_schema`."""
        return ear_field_schema(image_size=self.config.size_px, source_id_bytes=source_id_bytes)

    def tables(self) -> dict[str, np.ndarray]:
        """The template, laid flat."""
        template = load_ear_template()
        return {
            "landmark_uv": self.flat.landmarks_uv,
            "part_map": self.flat.part_map,
            "atlas_uv": template.atlas.uv,
            "atlas_triangles": template.atlas.triangles,
            "atlas_vertices": template.vertices,
        }

    # ---------------------------------------------------------------------------------------------------------- worker

    @classmethod
    def prepared(
        cls, config: EarConfig, model: MorphableModel, pictures: Sequence[PlannedPicture], table: Table
    ) -> "EarRecipe":
        """From the plan's tables."""
        return cls(config, FlatEar(table("landmark_uv"), table("part_map")))

    def read(
        self, pictures: Sequence[PlannedPicture], root: Path, read_file: ReadFile
    ) -> Sequence[EarPicture | BadSample]:
        """The pictures' bytes, and their landmarks; bad landmarks become values."""
        names = [picture.files[1].name for picture in pictures]
        contents = [read_file(picture.files[1]) for picture in pictures]
        answers = landmarks_from_files(names, contents, n_points=N_EAR_LANDMARKS, reader=process_reader())
        return [
            answer
            if isinstance(answer, BadSample)
            else EarPicture(picture.source_id, read_file(picture.files[0]), answer)
            for picture, answer in zip(pictures, answers, strict=True)
        ]

    def make_samples(self, pictures: Iterable[EarPicture | BadSample]) -> Iterator[list[EarSample] | BadSample]:
        """One sample of each picture."""
        for picture in pictures:
            try:
                yield picture if isinstance(picture, BadSample) else [self.sample(picture)]
            except BadSample as bad:
                yield bad

    def sample(self, picture: EarPicture) -> EarSample:
        """The crop and the field of one picture. Raises BadSample."""
        config, landmarks = self.config, picture.landmarks_px
        try:
            self.flat.check(landmarks)
        except ValueError as error:
            raise BadSample("landmarks.missing", str(error)) from None
        image = decode_image(picture.image)
        height, width = image.shape[:2]
        low, high = np.nanmin(landmarks, axis=0), np.nanmax(landmarks, axis=0)
        if not ((low < (width, height)).all() and (high > 0).all()):
            raise BadSample(
                "landmarks.outside",
                f"the landmarks span x {low[0]:.0f}…{high[0]:.0f}, y {low[1]:.0f}…{high[1]:.0f} px, outside the "
                f"{width} × {height} picture: they do not belong to it",
            )
        try:
            crop = ear_crop(landmarks, size_px=config.size_px, margin=config.margin)
        except ValueError as error:
            raise BadSample("landmarks.box", str(error)) from None
        in_crop = crop.apply(landmarks)
        try:
            found = self.flat.field(
                in_crop,
                size_hw=(config.size_px, config.size_px),
                smoothing=config.smoothing,
                largest_residual=config.largest_residual,
            )
        except ValueError as error:
            raise BadSample("landmarks.fold", str(error)) from None
        crop_image = warp_image(image, crop, size_px=config.size_px)
        return EarSample(picture.source_id, crop_image, in_crop, crop.matrix, found)

    def stored(self, sample: EarSample) -> dict[str, object]:
        """The sample under the names of the schema."""
        field, folds = sample.found.field, sample.found.folds
        return {
            "image": sample.image,
            "uv": field.uv,
            "label": field.label,
            "part": field.part,
            "landmarks_px": sample.landmarks_px.astype(np.float32),
            "side": np.str_(sample.found.side),
            "smoothing": np.float32(folds.smoothing),
            "residual_uv": np.float32(folds.residual_rms),
            "smallest_determinant": np.float32(folds.smallest_determinant),
            "crop_from_image": sample.crop_from_image,
            "source_id": np.str_(sample.source_id),
        }

    def collector(self) -> "EarCollector":
        """Adds up one shard."""
        return EarCollector()

    # ------------------------------------------------------------------------------------------------------ publishing

    def merged(self, shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Left and right ears, repaired folds, the mean and the worst residual, and the mean covered share of a crop."""
        shards = [shard for shard in shards if shard]
        if not shards:
            return {}
        n = sum(shard["n"] for shard in shards)
        worst = max(shards, key=lambda shard: shard["worst_residual_uv"])
        return {
            "right": sum(shard["right"] for shard in shards),
            "left": sum(shard["left"] for shard in shards),
            "folds_repaired": sum(shard["folds_repaired"] for shard in shards),
            "residual_uv": {
                "mean": sum(shard["sum_residual_uv"] for shard in shards) / n,
                "worst": worst["worst_residual_uv"],
                "worst_source_id": worst["worst_source_id"],
            },
            "covered": sum(shard["sum_covered"] for shard in shards) / n,
        }


class EarCollector:
    """Gathers the numbers of one shard."""

    def __init__(self) -> None:
        self._samples: list[tuple[str, str, bool, float, float]] = []

    def add(self, sample: EarSample) -> None:
        """Take in one good sample."""
        found = sample.found
        covered = float(found.field.is_face.mean())
        row = (sample.source_id, found.side, found.folds.repaired, found.folds.residual_rms, covered)
        self._samples.append(row)

    def result(self) -> dict[str, Any]:
        """The shard's numbers: sums, so that shards can be added up."""
        if not self._samples:
            return {}
        names, sides, repaired, residuals, covered = zip(*self._samples, strict=True)
        worst = int(np.argmax(residuals))
        return {
            "n": len(names),
            "right": sides.count("right"),
            "left": sides.count("left"),
            "folds_repaired": sum(repaired),
            "sum_residual_uv": sum(residuals),
            "worst_residual_uv": residuals[worst],
            "worst_source_id": names[worst],
            "sum_covered": sum(covered),
        }

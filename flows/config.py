"""What decides a data set's bytes, and nothing else.

Where it is written, by how many workers and how patient the build is with bad samples are arguments of the build, not
config: they change no byte. Each part is declared beside its owner; here they are put together.
"""

import re
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_serializer, model_validator

from flows.targets import POSITION_MAPS, in_order
from geometry.fit_result import FitConfig
from geometry.landmarks import landmark_scheme
from render.augmentation_config import AugmentationMixture
from render.crop import CropConfig
from storage.face_targets import Maps
from storage.manifest import DATASET_NAME

RECIPE_VERSION = 2
"""Raised by hand whenever the same config and sources would give other bytes than before.

2: a face that is alone in its shard is evaluated as one of several is, so that its bytes do not depend on its neighbours.
"""

_LATER = ("images", "targets", "field_atlas", "augment")

IMAGES = r"^(lossless|uncompressed|source|jpeg:([1-9][0-9]?|100))$"


class BuildConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What the configs of all builds have; :mod:`flows.recipe` has a recipe for each of them."""

    name: str = Field(pattern=DATASET_NAME, description="Name of the data set.")
    shard_size: int = Field(256, ge=1, le=4096, description="Samples in a shard.")


class PosmapConfig(BuildConfig):
    """Position maps from a 300W-LP-like source (PRNet's training data), and what else is made of the same crops."""

    name: str = Field("300wlp-posmaps", pattern=DATASET_NAME, description="Name of the data set.")
    crop: CropConfig = CropConfig()
    maps: Maps = Field(
        "materialized",
        description="Store every map in fixed point (1/64 px), compressed or not, or in float32, or the parameters that "
        "the reader decodes it from.",
    )
    images: str = Field(
        "lossless",
        description="Store the crop's pixels, compressed or not, or a JPEG of a quality ('jpeg:95'), or the source's own "
        "file, which is cut on reading.",
    )
    atlas: Literal["auto", "own", "tutte"] = Field(
        "auto", description="The model's own UV atlas, a computed conformal Tutte map, or the first that is there."
    )
    copies: int = Field(
        1, ge=1, le=1000, description="Samples of each picture; copy 0 is not jittered, the others are."
    )
    compat: Literal["face3d"] | None = Field(
        None, description="'face3d' gives the published recipe's labels, which lie (+1, −1) px beside the true pixels."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the jitter.")
    landmark_tolerance: float = Field(
        0.1,
        gt=0,
        description="A sample is rejected when its inner landmarks lie farther than this from the projected model, "
        "on average and over √(w·h) of their box.",
    )
    targets: tuple[str, ...] = Field(
        (POSITION_MAPS,), min_length=1, description="What is made of each crop: families of targets, see flows/targets."
    )
    field_atlas: Literal["cylinder", "maps"] = Field(
        "cylinder",
        description="What u and v of fields count in: the unfolded cylinder, or the position maps' own atlas.",
    )
    augment: AugmentationMixture | None = Field(
        None,
        description="What copies 1, 2, … go through in place of the crop's jitter: a preset or a mixture by name "
        "('prnet', 'prnet:2+dan'), or all of its numbers.",
    )

    @field_validator("images")
    @classmethod
    def _stored_somehow(cls, images: str) -> str:
        if not re.fullmatch(IMAGES, images):
            raise ValueError("give 'lossless', 'uncompressed', 'source', or a quality from 'jpeg:1' to 'jpeg:100'")
        return images

    @field_validator("augment", mode="before")
    @classmethod
    def _augment_by_name(cls, augment: object) -> object:
        if not isinstance(augment, str):
            return augment
        from render.augmentation_presets import augmentation_from_text  # on first use: it loads compiled kernels

        return augmentation_from_text(augment)

    @model_validator(mode="after")
    def _augments_copies(self) -> "PosmapConfig":
        if self.augment is not None and self.copies < 2:
            raise ValueError("copy 0 is never augmented: an augmentation needs --copies 2 or more")
        if self.augment is not None and self.images == "source":
            raise ValueError("an augmented picture is no crop of its source's file: store it lossless or as a JPEG")
        return self

    @property
    def jpeg_quality(self) -> int | None:
        """The quality of the stored JPEGs; None where there are none."""
        kind, _, quality = self.images.partition(":")
        return int(quality) if kind == "jpeg" else None

    @field_validator("targets")
    @classmethod
    def _known_and_each_once(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        return in_order(targets)

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Fields that came later are left out at their defaults: the version of a build without them stays what it was."""
        later = {name: PosmapConfig.model_fields[name].default for name in _LATER}
        fields = handler(self)
        return {
            name: value for name, value in fields.items() if name not in later or getattr(self, name) != later[name]
        }


DENSEREG_RECIPE_VERSION = 1
"""The same for DenseReg's fields."""


class DenseRegConfig(BuildConfig):
    """Correspondence fields of whole photographs with all their faces (DenseReg's training data)."""

    name: str = Field("densereg-fields", pattern=DATASET_NAME, description="Name of the data set.")
    longest_px: int = Field(
        800, ge=64, le=1024, description="Photographs whose longest side is larger are brought to it; none is enlarged."
    )
    atlas: Literal["cylinder", "own"] = Field(
        "cylinder", description="What u and v count in: the unfolded cylinder, or the model's own UV atlas."
    )
    landmark_tolerance: float = Field(
        0.1,
        gt=0,
        description="A photograph is rejected when a face's inner landmarks lie farther than this from the projected "
        "model, on average and over √(w·h) of their box.",
    )
    shard_size: int = Field(64, ge=1, le=4096, description="Photographs in a shard.")


FITS_RECIPE_VERSION = 3
"""The same for fits. 2: a face is computed without the faces beside it, so that its bytes do not depend on them. 3: a fit that
ran away is no sample."""


class FitsConfig(BuildConfig):
    """Fits of a morphable model to landmarks in photographs, cut and stored as 300W-LP has them."""

    name: str = Field("fits", pattern=DATASET_NAME, description="Name of the data set.")
    scheme: str = Field("ibug-68", description="Which landmarks the files hold: a scheme of geometry.landmarks.")
    landmarks_frame: Literal["stored", "upright"] = Field(
        "stored",
        description="Landmarks count the pixels of the picture as its file stores it, or turned as EXIF says.",
    )
    fit: FitConfig = FitConfig(contour="march")
    margin: float = Field(
        2.5, ge=1, le=20, description="Side of the square that is cut out, over the longer side of the landmarks' box."
    )
    landmark_tolerance: float = Field(
        0.1,
        gt=0,
        description="A face is rejected when its inner landmarks lie farther than this from the fitted model, "
        "on average and over √(w·h) of the landmarks' box.",
    )
    shard_size: int = Field(256, ge=1, le=4096, description="Faces in a shard.")

    @model_validator(mode="after")
    def _storable(self) -> "FitsConfig":
        landmark_scheme(self.scheme)
        if self.fit.camera != "scaled_orthographic":
            raise ValueError(
                "300W-LP's files hold a scaled orthographic camera and no other: fit with "
                'camera="scaled_orthographic", or call geometry.fit_landmarks for a perspective one'
            )
        return self

"""What decides a data set's bytes, and nothing else.

Where it is written, by how many workers and how patient the build is with bad samples are arguments of the build, not
config: they change no byte. Each part is declared beside its owner; here they are put together.
"""

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from geometry.fit_result import FitConfig
from geometry.landmarks import landmark_scheme
from render.crop import CropConfig

RECIPE_VERSION = 1
"""Raised by hand whenever the same config and sources would give other bytes than before."""


class PosmapConfig(BaseModel, frozen=True, extra="forbid"):
    """Position maps from a 300W-LP-like source (PRNet's training data)."""

    name: str = Field("300wlp-posmaps", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="Name of the data set.")
    crop: CropConfig = CropConfig()
    maps: Literal["materialized", "parametric"] = Field(
        "materialized",
        description="Store every map (fixed point, 1/64 px), or the parameters that the reader decodes it from.",
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
    shard_size: int = Field(256, ge=1, le=4096, description="Samples in a shard.")


FITS_RECIPE_VERSION = 1
"""The same for fits."""


class FitsConfig(BaseModel, frozen=True, extra="forbid"):
    """Fits of a morphable model to landmarks in photographs, cut and stored as 300W-LP has them."""

    name: str = Field("fits", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="Name of the data set.")
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

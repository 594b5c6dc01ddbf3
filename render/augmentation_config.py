"""What may happen to a training sample: the ranges of every operation, as configuration.

Angles are radians, shifts are shares of the picture's side, levels are of 255. An operation that is None never happens.
Operations act in the order in which they stand here (`docs/augmentation.md` says why): geometry and light, occluders,
colours, lens, sensor, file.
"""

from typing import Literal

import numpy as np
from pydantic import BaseModel, Field, model_validator

from render.spreads import Sometimes, Spread, check_possible

PictureOccluder = Literal["noise", "shape", "hand", "glasses", "patch"]
SurfaceOccluder = Literal["surface_glasses", "surface_mask", "surface_patch"]
OccluderKind = Literal[PictureOccluder, SurfaceOccluder]
SURFACE_OCCLUDERS = ("surface_glasses", "surface_mask", "surface_patch")


class OcclusionConfig(BaseModel, frozen=True, extra="forbid"):
    """Things before the face, and on it."""

    probability: float = Field(ge=0, le=1, description="Of a sample to be occluded at all.")
    kinds: tuple[OccluderKind, ...] = Field(min_length=1, description="Each occluder is one of these, all alike.")
    most: int = Field(1, ge=1, le=8, description="An occluded sample gets 1 to this many.")
    size: Spread = Field(description="Diameter over the picture's side (in the atlas, over the atlas's side).")

    @model_validator(mode="after")
    def _visible(self) -> "OcclusionConfig":
        low, high = self.size.limits
        if low <= 0 or high > 2:
            raise ValueError(f"occluders are more than 0 and at most 2 sides large, not {low:g} to {high:g}")
        return self


class AugmentationConfig(BaseModel, frozen=True, extra="forbid"):
    """One way of augmenting; the papers' are in :mod:`render.augmentation_presets`."""

    rotation: Spread | None = Field(None, description="In the picture plane, radians, from x toward y.")
    scale: Spread | None = Field(None, description="About the picture's centre.")
    translation: Spread | None = Field(None, description="Of each axis, over the picture's side.")
    window: Literal["centred", "anywhere"] = Field(
        "centred",
        description="'anywhere': the picture is a window anywhere in the scaled one (where that is smaller, it lies "
        "anywhere in the picture), as when crops of one size are cut out of scaled photographs.",
    )
    flip: float = Field(0.0, ge=0, le=1, description="Probability of left and right to change sides.")

    channel_scale: Sometimes | None = Field(None, description="Factor of each channel, drawn three times.")
    channel_shift: Sometimes | None = Field(None, description="Added to each channel, drawn three times, over 255.")
    contrast: Sometimes | None = Field(None, description="Factor about the middle of the range.")
    brightness: Sometimes | None = Field(None, description="Added to all channels alike, over 255.")
    gamma: Sometimes | None = Field(None, description="Exponent of values in [0, 1]; above one is darker.")

    occlusion: OcclusionConfig | None = None

    saturation: Sometimes | None = Field(None, description="0 is grey, 1 leaves colours as they are.")
    grey: float = Field(0.0, ge=0, le=1, description="Probability of losing all colour.")

    blur: Sometimes | None = Field(None, description="Gaussian, standard deviation in pixels.")
    motion_blur: Sometimes | None = Field(None, description="Length in pixels; the direction is any.")
    downscale: Sometimes | None = Field(None, description="Side of the smaller picture over the side, then enlarged.")
    noise: Sometimes | None = Field(None, description="Gaussian, standard deviation in levels of 255.")
    jpeg: Sometimes | None = Field(None, description="JPEG quality, 1 to 100.")

    @model_validator(mode="after")
    def _possible(self) -> "AugmentationConfig":
        for name, possible in _POSSIBLE.items():
            if (operation := getattr(self, name)) is not None:
                check_possible(name, operation.limits, possible)
        return self


_POSSIBLE = {
    "rotation": (-np.pi, np.pi),
    "scale": (0.05, 20.0),
    "translation": (-1.0, 1.0),
    "channel_scale": (0.0, 10.0),
    "channel_shift": (-1.0, 1.0),
    "contrast": (0.0, 10.0),
    "brightness": (-1.0, 1.0),
    "gamma": (0.1, 10.0),
    "saturation": (0.0, 4.0),
    "blur": (0.0, 7.0),
    "motion_blur": (0.0, 31.0),
    "downscale": (0.02, 1.0),
    "noise": (0.0, 128.0),
    "jpeg": (1.0, 100.0),
}


class Portion(BaseModel, frozen=True, extra="forbid"):
    """One of the ways of a mixture, and how often it is taken."""

    weight: float = Field(gt=0, allow_inf_nan=False)
    config: AugmentationConfig


class AugmentationMixture(BaseModel, frozen=True, extra="forbid"):
    """Several ways of augmenting: each sample draws one, by weight."""

    portions: tuple[Portion, ...] = Field(min_length=1)

    def draw(self, rng: np.random.Generator) -> AugmentationConfig:
        """The way of one sample."""
        ends = np.cumsum([portion.weight for portion in self.portions])
        place = int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
        return self.portions[min(place, len(self.portions) - 1)].config

    @property
    def may_flip(self) -> bool:
        """Whether any way mirrors."""
        return any(portion.config.flip > 0 for portion in self.portions)

    @property
    def occluder_kinds(self) -> frozenset[str]:
        """Every kind of occluder that may come."""
        occlusions = [portion.config.occlusion for portion in self.portions]
        return frozenset(kind for occlusion in occlusions if occlusion for kind in occlusion.kinds)

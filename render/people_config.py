"""Which people are drawn, and how they are photographed: every distribution of the rendered people, with presets.

Angles are radians, lengths millimetres of the head or pixels of the picture, as the names say.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field, model_validator

from render.spreads import Normal, Spread, Uniform, check_possible

HairStyle = Literal["bare", "cropped", "short", "full", "long", "cap"]
HAIR_STYLES: tuple[HairStyle, ...] = ("bare", "cropped", "short", "full", "long", "cap")


class HairWeights(BaseModel, frozen=True, extra="forbid"):
    """How often each hair-like cap is worn, relative to the others; bare leaves the painted scalp."""

    bare: float = Field(0.08, ge=0, allow_inf_nan=False)
    cropped: float = Field(0.17, ge=0, allow_inf_nan=False)
    short: float = Field(0.28, ge=0, allow_inf_nan=False)
    full: float = Field(0.15, ge=0, allow_inf_nan=False)
    long: float = Field(0.22, ge=0, allow_inf_nan=False)
    cap: float = Field(0.10, ge=0, allow_inf_nan=False, description="Of cloth.")

    @model_validator(mode="after")
    def _someone(self) -> "HairWeights":
        if sum(self.of(style) for style in HAIR_STYLES) <= 0:
            raise ValueError("no hair style has a weight above 0, bare included: nobody could be drawn")
        return self

    def of(self, style: HairStyle) -> float:
        """The weight of one style."""
        return float(getattr(self, style))

    def draw(self, rng: np.random.Generator) -> HairStyle:
        """One style."""
        weights = np.array([self.of(style) for style in HAIR_STYLES])
        return HAIR_STYLES[int(rng.choice(len(weights), p=weights / weights.sum()))]


class PeopleConfig(BaseModel, frozen=True, extra="forbid"):
    """One way of drawing people; a person's draws are common to all of their pictures."""

    side_px: int = Field(450, ge=64, le=1024, description="Pictures are square; 450 as in 300W-LP.")
    supersampling: int = Field(2, ge=1, le=4, description="Finer pixels per pixel and direction.")

    identity_spread: float = Field(0.85, ge=0, le=1, description="Standard deviations; 1 is caricature now and then.")
    neutral_share: float = Field(0.15, ge=0, le=1, description="Of families without an expression.")
    hair: HairWeights = HairWeights()
    glasses_share: float = Field(0.3, ge=0, le=1, description="Of people who wear glasses.")
    sunglasses_share: float = Field(0.15, ge=0, le=1, description="Of glasses that are dark.")

    yaw: Spread = Field(description="Radians; positive looks to the picture's left, as in 300W-LP.")
    pitch: Spread = Field(description="Radians.")
    roll: Spread = Field(description="Radians.")
    camera: Literal["orthographic", "perspective"] = Field(
        "orthographic", description="Scaled orthographic pictures have a .mat; perspective ones have none that is true."
    )
    distance_mm: Spread = Field(
        default=Uniform(low=350, high=1500), description="From the lens to the head, perspective alone."
    )
    face_share: Spread = Field(
        default=Uniform(low=0.42, high=0.6), description="Longer side of the 68 landmarks' box over the picture's side."
    )
    shift: Spread = Field(
        default=Uniform(low=-0.05, high=0.05), description="Of the face's box from the middle, over the picture's side."
    )

    shading: Literal["bulk", "physical"] = Field(
        "bulk", description="Our own light, or pyrender's materials and cast shadows: nine times slower."
    )
    harmonic_share: float = Field(
        0.7, ge=0, le=1, description="Of pictures lit by spherical harmonics; the others by 300W-LP's Phong model."
    )
    light_contrast: Spread = Field(default=Uniform(low=0.2, high=0.7), description="The lamps' share of the light.")
    brightness: Spread = Field(default=Uniform(low=0.75, high=1.35), description="Of a white surface, linear.")
    tint: float = Field(0.05, ge=0, le=0.5, description="Spread of the lamps' colour temperature.")

    blur_px: Spread = Field(default=Uniform(low=0.3, high=0.8), description="Of the lens: standard deviation.")
    shot_noise: Spread = Field(
        default=Uniform(low=0.0, high=0.02), description="Standard deviation at full brightness, over 1."
    )
    read_noise: Spread = Field(default=Uniform(low=0.002, high=0.01), description="Standard deviation, over 1.")
    grey_share: float = Field(0.05, ge=0, le=1, description="Of pictures without colour.")
    jpeg_quality: Spread = Field(default=Uniform(low=70, high=95), description="Rounded to a whole number.")

    @model_validator(mode="after")
    def _possible(self) -> "PeopleConfig":
        for name, possible in _POSSIBLE.items():
            check_possible(name, getattr(self, name).limits, possible)
        return self


_POSSIBLE = {
    "yaw": (-np.pi / 2, np.pi / 2),
    "pitch": (-np.pi / 3, np.pi / 3),
    "roll": (-np.pi / 2, np.pi / 2),
    "distance_mm": (350.0, 100_000.0),
    "face_share": (0.1, 1.5),
    "shift": (-0.5, 0.5),
    "light_contrast": (0.0, 0.95),
    "brightness": (0.05, 4.0),
    "blur_px": (0.05, 8.0),
    "shot_noise": (0.0, 0.3),
    "read_noise": (0.0, 0.3),
    "jpeg_quality": (10.0, 100.0),
}


def people() -> PeopleConfig:
    """Mostly frontal people in ordinary light, as in photographs of faces."""
    return PeopleConfig(yaw=_normal_degrees(25.0), pitch=_normal_degrees(10.0), roll=_normal_degrees(8.0))


def people_frontal() -> PeopleConfig:
    """Faces that look at the camera: what a frontal detector should find."""
    return PeopleConfig(yaw=_degrees(34.9), pitch=_degrees(12.0), roll=_degrees(10.0))


def people_large_pose() -> PeopleConfig:
    """All yaws alike, to profile, with more pitch and roll."""
    return PeopleConfig(yaw=_degrees(90.0), pitch=_degrees(30.0), roll=_degrees(25.0))


def people_perspective() -> PeopleConfig:
    """As `people`, through a lens from a selfie's distance on."""
    return people().model_copy(update={"camera": "perspective"})


def people_physical() -> PeopleConfig:
    """As `people`, shaded by pyrender."""
    return people().model_copy(update={"shading": "physical"})


PRESETS: Mapping[str, Callable[[], PeopleConfig]] = MappingProxyType(
    {
        "people": people,
        "people-frontal": people_frontal,
        "people-large-pose": people_large_pose,
        "people-perspective": people_perspective,
        "people-physical": people_physical,
    }
)


def _degrees(most: float) -> Uniform:
    return Uniform(low=-float(np.radians(most)), high=float(np.radians(most)))


def _normal_degrees(stddev: float) -> Normal:
    return Normal(stddev=float(np.radians(stddev)))

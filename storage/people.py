"""Rendered people: invented persons, photographed; :mod:`storage.people_folder` writes a data set of them.

A *person* is an identity with a skin, hair, perhaps glasses and a shirt; a *family* is one person with one expression
and is photographed `views` times, each time from its own side, in its own light, before its own background.

Everything comes from (seed, person, expression, view) alone.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, UInt8

from geometry.albedo import head_albedo_sampler
from geometry.built_in import load_built_in
from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera
from geometry.display_colour import GAMMA
from geometry.linear_albedo import head_linear_albedo
from geometry.morphable_model import Coefficients
from geometry.rotation import rotation_from_euler
from render.clothes import draw_clothes
from render.dressed_head import DressedHead, Outfit, Paint, skin_of_head
from render.glasses import draw_glasses
from render.hair import draw_hair, painted_hair_colour
from render.harmonic_light import HarmonicLight, draw_harmonic_light
from render.people_config import PeopleConfig
from render.physical_view import StudioLight, draw_studio_light
from render.scenes import draw_scene
from render.sensor import Sensor
from render.shading import ColorTransform, PhongLight
from storage.manifest import ModelInfo
from storage.people_cameras import orthographic_camera, perspective_camera
from storage.people_truth import (
    HarmonicTruth,
    OrthographicTruth,
    PerspectiveTruth,
    PhongTruth,
    PictureTruth,
    StudioTruth,
    point_of,
    rows_of,
)

RECIPE = 1
"""Raised by hand when the same seed gives other bytes than before."""

MAX_VIEWS, MAX_EXPRESSIONS = 100, 100
Split = Literal["train", "validation"]
Light = PhongLight | HarmonicLight | StudioLight

# What a stream of random numbers is for, as in storage.synthetic: no picture depends on which others are drawn.
_SPLIT, _PERSON, _COLOURS, _OUTFIT, _EXPRESSION, _SHOT, _LIGHT, _BACKGROUND, _SENSOR = range(100, 109)


@dataclass(frozen=True, slots=True)
class PeoplePlan:
    """Which pictures a folder holds."""

    config: PeopleConfig
    seed: int
    n_people: int
    n_expressions: int
    n_views: int
    validation_share: float

    def __post_init__(self) -> None:
        """Refuse empty plans and numbers that names cannot hold."""
        counts = f"{self.n_people} people × {self.n_expressions} expressions × {self.n_views} views"
        if min(self.n_people, self.n_expressions, self.n_views) < 1:
            raise ValueError(f"{counts}: each must be at least 1")
        if self.n_views > MAX_VIEWS or self.n_expressions > MAX_EXPRESSIONS:
            raise ValueError(f"{counts}: views and expressions number 0 to 99; draw more people instead")
        if not 0 <= self.validation_share < 1:
            raise ValueError(
                f"a validation share of {self.validation_share:g} leaves no one to train on; give 0 to 0.99"
            )

    @property
    def pictures(self) -> int:
        """How many there are."""
        return self.n_people * self.n_expressions * self.n_views

    def rng(self, purpose: int, person: int, expression: int = 0, view: int = 0) -> np.random.Generator:
        """The generator of one purpose."""
        return np.random.default_rng([self.seed, purpose, person, expression, view])

    def split(self, person: int) -> Split:
        """Where a person belongs; it does not depend on how many others there are."""
        return "validation" if self.rng(_SPLIT, person).random() < self.validation_share else "train"

    def stem(self, person: int, expression: int, view: int) -> str:
        """The files' common name: a person's expression is a photograph of 300W-LP, a view one of its ``_k``."""
        return f"person{person:06d}_{expression:02d}_{view}"

    def description(self) -> str:
        """What the folder's marker says."""
        model = load_built_in()
        fields = {
            "recipe": RECIPE,
            "seed": self.seed,
            "n_people": self.n_people,
            "n_expressions": self.n_expressions,
            "n_views": self.n_views,
            "validation_share": self.validation_share,
            "model": model.name,
            "model_fingerprint": model.fingerprint,
            "config": self.config.model_dump(),
        }
        return json.dumps(fields, indent=2) + "\n"


# ---------------------------------------------------------------------------------------------------- people


@dataclass(frozen=True, slots=True)
class Person:
    """What holds for all of a person's pictures."""

    number: int
    identity: Float[np.ndarray, "k_id"]
    paint: Paint
    texture_coefficients: Float[np.ndarray, "k_tex"]
    outfit: Outfit
    dark_glasses: bool


@dataclass(frozen=True, slots=True)
class Family:
    """One person with one expression."""

    person: Person
    expression_number: int
    coefficients: Coefficients
    head: DressedHead
    landmarks: Float32[np.ndarray, "68 3"]


def draw_family(plan: PeoplePlan, number: int, expression: int) -> Family:
    """The person, drawn once for all of their families, with one expression."""
    person, model, head = draw_person(plan, number), load_built_in(), load_built_in("all")
    rng = plan.rng(_EXPRESSION, number, expression)
    neutral = rng.random() < plan.config.neutral_share
    drawn = model.draw_expression(rng)
    coefficients = Coefficients(person.identity, np.zeros(model.n_expression) if neutral else drawn)
    vertices = head.vertices(coefficients)
    dressed = DressedHead.of(vertices, person.paint, person.outfit)
    return Family(person, expression, coefficients, dressed, vertices[head.landmark_vertices])


@lru_cache(maxsize=2)
def draw_person(plan: PeoplePlan, number: int) -> Person:
    """One person: 0.2 s, most of it for the skin's colours."""
    model, config = load_built_in(), plan.config
    identity = model.draw_identity(plan.rng(_PERSON, number), spread=config.identity_spread)
    appearance = head_albedo_sampler().sample(plan.rng(_COLOURS, number))
    rng = plan.rng(_OUTFIT, number)
    hair = draw_hair(rng, style=config.hair.draw(rng), colour=painted_hair_colour(appearance.albedo[skin_of_head()]))
    wears, dark = rng.random() < config.glasses_share, bool(rng.random() < config.sunglasses_share)
    glasses = draw_glasses(rng, dark=dark)
    outfit = Outfit(hair, glasses if wears else None, draw_clothes(rng))
    texture = head_linear_albedo().project(appearance.albedo ** np.float32(1 / GAMMA))
    return Person(number, identity, Paint.of(appearance), texture, outfit, dark)


# ---------------------------------------------------------------------------------------------------- pictures


@dataclass(frozen=True, slots=True)
class Shot:
    """From where a picture is taken, in which light, and how it is stored."""

    camera: ScaledOrthographicCamera | PerspectiveCamera
    light: Light
    color: ColorTransform
    sensor: Sensor
    quality: int


def draw_shot(plan: PeoplePlan, family: Family, view: int) -> Shot:
    """One view's camera, light and sensor."""
    config, numbers = plan.config, (family.person.number, family.expression_number, view)
    rng = plan.rng(_SHOT, *numbers)
    pitch, yaw, roll = config.pitch.draw(rng), config.yaw.draw(rng), config.roll.draw(rng)
    face_px = config.face_share.draw(rng) * config.side_px
    middle = config.side_px * (np.array([0.5, 0.55]) + [config.shift.draw(rng), config.shift.draw(rng)])
    distance_mm, depth_px = config.distance_mm.draw(rng), rng.uniform(-0.18, -0.09) * config.side_px
    rotation = rotation_from_euler(pitch, yaw, roll)
    landmarks = family.landmarks.astype(np.float64)
    if config.camera == "orthographic":
        camera: ScaledOrthographicCamera | PerspectiveCamera = orthographic_camera(
            landmarks, rotation, face_px=face_px, middle=middle, depth_px=depth_px
        )
    else:
        camera = perspective_camera(
            landmarks, rotation, face_px=face_px, middle=middle, distance_mm=distance_mm, side_px=config.side_px
        )
    light, color = _draw_light(config, plan.rng(_LIGHT, *numbers))
    rng = plan.rng(_SENSOR, *numbers)
    sensor = Sensor(
        blur_px=config.blur_px.draw(rng),
        shot=config.shot_noise.draw(rng),
        read=config.read_noise.draw(rng),
        grey=bool(rng.random() < config.grey_share),
    )
    return Shot(camera, light, color, sensor, round(config.jpeg_quality.draw(rng)))


def _draw_light(config: PeopleConfig, rng: np.random.Generator) -> tuple[Light, ColorTransform]:
    harmonic = rng.random() < config.harmonic_share
    contrast, brightness = config.light_contrast.draw(rng), config.brightness.draw(rng)
    gain = rng.uniform(0.95, 1.08) * (1 + rng.normal(0, 0.02, 3))
    values = np.concatenate([gain, rng.uniform(-4, 6, 3), [rng.uniform(0.95, 1.25)]])
    color = ColorTransform.from_color_para(values.astype(np.float32).astype(np.float64))
    if config.shading == "physical":
        return draw_studio_light(rng, contrast=contrast, brightness=brightness, tint=config.tint), color
    if harmonic:
        return draw_harmonic_light(rng, contrast=contrast, brightness=brightness, tint=config.tint), color
    tints = np.exp(rng.normal(0, config.tint / 2, (2, 1)) * np.array([1.0, 0.1, -1.0]))
    level = brightness ** (1 / GAMMA)  # Phong's sums are display-referred
    elevation, azimuth = rng.uniform(-0.2, 0.9), rng.uniform(-1.2, 1.2)
    light = PhongLight(
        (1.05 - contrast) * level * tints[0],
        1.25 * contrast * level * tints[1],
        elevation,
        azimuth,
        specular=rng.uniform(10, 60),
    )
    return light, color


def draw_picture(plan: PeoplePlan, family: Family, view: int, shot: Shot) -> UInt8[np.ndarray, "h w 3"]:
    """The picture before it is stored, RGB."""
    config, numbers = plan.config, (family.person.number, family.expression_number, view)
    background = draw_scene(plan.rng(_BACKGROUND, *numbers), size_hw=(config.side_px, config.side_px))
    picture = family.head.photograph(
        camera=shot.camera,
        light=shot.light,
        color=shot.color,
        background=background,
        supersampling=config.supersampling,
    )
    return shot.sensor.develop(picture, plan.rng(_SENSOR, *numbers[:2], view + MAX_VIEWS))


def truth_of(plan: PeoplePlan, family: Family, view: int, shot: Shot) -> PictureTruth:
    """What the picture's file of truth says."""
    model, person = load_built_in(), family.person
    camera: OrthographicTruth | PerspectiveTruth
    if isinstance(shot.camera, ScaledOrthographicCamera):
        camera = OrthographicTruth(
            scale_px_per_mm=shot.camera.scale,
            rotation=rows_of(shot.camera.rotation),
            translation_px=point_of(shot.camera.translation_px),
        )
    else:
        x, y = shot.camera.principal_point_px
        camera = PerspectiveTruth(
            focal_px=shot.camera.focal_px,
            principal_point_px=(float(x), float(y)),
            rotation=rows_of(shot.camera.rotation),
            translation_mm=point_of(shot.camera.translation_mm),
        )
    color = tuple(shot.color.color_para.tolist())
    light: PhongTruth | HarmonicTruth | StudioTruth
    if isinstance(shot.light, PhongLight):
        light = PhongTruth(illumination=tuple(shot.light.illum_para.tolist()), color=color)
    elif isinstance(shot.light, StudioLight):
        light = StudioTruth(
            lamp=point_of(shot.light.lamp),
            colour=point_of(shot.light.colour),
            ambient=point_of(shot.light.ambient),
            color=color,
        )
    else:
        light = HarmonicTruth(
            radiance=tuple(point_of(row) for row in shot.light.radiance),
            lamp=point_of(shot.light.lamp),
            highlight=point_of(shot.light.highlight),
            color=color,
        )
    worn = person.outfit.glasses is not None
    return PictureTruth(
        picture=plan.stem(person.number, family.expression_number, view) + ".jpg",
        size_hw=(plan.config.side_px, plan.config.side_px),
        split=plan.split(person.number),
        person=person.number,
        expression_number=family.expression_number,
        view=view,
        model=ModelInfo(name=model.name, fingerprint=model.fingerprint, licence=model.licence),
        identity=tuple(family.coefficients.identity.tolist()),
        expression=tuple(family.coefficients.expression.tolist()),
        camera=camera,
        light=light,
        landmarks_px=tuple(point_of(point) for point in shot.camera.project(family.landmarks.astype(np.float64))),
        hair=person.outfit.hair.style,
        glasses=("dark" if person.dark_glasses else "clear") if worn else "none",
    )

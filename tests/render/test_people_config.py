"""Every distribution stays within what is possible, and says so where it does not."""

import numpy as np
import pytest
from pydantic import ValidationError

from render.people_config import HAIR_STYLES, PRESETS, HairWeights, PeopleConfig, people, people_frontal
from render.spreads import Normal, Uniform

SPREADS = [name for name, field in PeopleConfig.model_fields.items() if "Spread" in str(field.annotation) or
           getattr(people(), name).__class__ in (Uniform, Normal)]  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_whole_and_come_back_from_json(name):
    config = PRESETS[name]()
    assert PeopleConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("name", SPREADS)
def test_no_spread_may_reach_what_is_impossible(name):
    with pytest.raises(ValidationError, match=f"{name} can be drawn from .* and is possible from"):
        PeopleConfig(**{**people().model_dump(), name: Uniform(low=-1e6, high=1e6)})
    with pytest.raises(ValidationError, match=name):
        PeopleConfig(**{**people().model_dump(), name: Normal(mean=0.5, stddev=1e6)})


def test_spreads_are_all_of_them():
    assert set(SPREADS) == {
        "yaw", "pitch", "roll", "distance_mm", "face_share", "shift", "light_contrast", "brightness", "blur_px",
        "shot_noise", "read_noise", "jpeg_quality",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [("side_px", 63), ("side_px", 1025), ("supersampling", 0), ("supersampling", 5), ("identity_spread", 1.1),
     ("neutral_share", -0.1), ("glasses_share", 1.1), ("sunglasses_share", -0.1), ("harmonic_share", 2),
     ("grey_share", -1), ("tint", 0.6), ("camera", "fisheye"), ("shading", "raytraced"), ("hare", 1)],
)  # fmt: skip
def test_single_numbers_and_names_are_checked(name, value):
    with pytest.raises(ValidationError, match=name):
        PeopleConfig(**{**people().model_dump(), name: value})


def test_frontal_faces_are_within_35_degrees():
    assert np.degrees(people_frontal().yaw.limits[1]) < 35
    assert np.degrees(people_frontal().yaw.limits[0]) > -35


def test_hair_is_drawn_by_its_weights():
    rng = np.random.default_rng(0)
    weights = HairWeights(bare=0, cropped=0, short=3, full=0, long=1, cap=0)
    drawn = [weights.draw(rng) for _ in range(400)]
    assert set(drawn) == {"short", "long"}
    assert 0.68 < np.mean([style == "short" for style in drawn]) < 0.82


def test_nobody_can_be_drawn_without_a_weight():
    with pytest.raises(ValidationError, match="no hair style has a weight above 0"):
        HairWeights(**dict.fromkeys(HAIR_STYLES, 0.0))

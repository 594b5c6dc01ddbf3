"""Draws: within their ranges, the same for the same sample alone, untouched by what else is drawn."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from render.augmentation_config import AugmentationConfig, OcclusionConfig
from render.augmentation_draws import AugmentationDraw, GeometricDraw, PhotometricDraw, draw_augmentation
from render.augmentation_presets import PRESETS, as_mixture, augmentation_from_text
from render.spreads import Normal, OneOf, Sometimes, Uniform

COPIES = range(1, 400)


def draws(augmentation, **options):
    mixture = as_mixture(augmentation)
    options = {"seed": 5, "source_id": "AFW/a"} | options
    return [draw_augmentation(mixture, copy_index=copy, **options) for copy in COPIES]


def spread_of(values):
    values = np.array(values)
    return values.min(), values.max()


def test_prnet_draws_what_its_paper_says():
    drawn = draws("prnet")
    low, high = spread_of([np.degrees(d.geometric.angle) for d in drawn])
    assert -45 <= low < -43
    assert 43 < high <= 45
    low, high = spread_of([d.geometric.scale for d in drawn])
    assert 0.9 <= low < 0.91
    assert 1.19 < high <= 1.2
    low, high = spread_of([d.geometric.shift for d in drawn])
    assert -0.1 <= low < -0.098
    assert 0.098 < high <= 0.1
    low, high = spread_of([d.photometric.channel_scale for d in drawn])
    assert 0.6 <= low < 0.61
    assert 1.39 < high <= 1.4
    assert not any(d.geometric.flip for d in drawn)
    assert {occluder.kind for d in drawn for occluder in d.occluders} == {"noise"}


def test_3dfaw_draws_what_its_paper_says():
    drawn = draws("fan3d")
    assert max(abs(d.geometric.angle) for d in drawn) <= np.radians(35)
    low, high = spread_of([d.geometric.scale for d in drawn])
    assert 0.85 <= low < 0.86
    assert 1.14 < high <= 1.15
    assert 0.4 < np.mean([d.geometric.flip for d in drawn]) < 0.6
    assert all(d.geometric.shift == (0, 0) for d in drawn)


def test_dan_draws_normally_and_in_grey():
    drawn = draws("dan")
    assert np.std([d.geometric.angle for d in drawn]) == pytest.approx(np.radians(20), rel=0.1)
    assert np.std([d.geometric.shift for d in drawn]) == pytest.approx(0.1, rel=0.1)
    assert np.std([d.geometric.scale for d in drawn]) == pytest.approx(0.25, rel=0.1)
    assert min(d.geometric.scale for d in drawn) >= 0.25  # a face must not vanish or turn over
    assert all(d.photometric.saturation == 0 for d in drawn)


def test_densereg_takes_one_of_five_scales_and_a_window_anywhere():
    drawn = draws("densereg")
    assert {d.geometric.scale for d in drawn} == {0.5, 0.75, 1.0, 1.25, 1.5}
    for d in drawn:
        corners = np.array([[-0.5, -0.5], [99.5, 99.5]])  # the borders of a crop of 100
        (left, top), (right, bottom) = d.geometric.augmented_from_crop(100).apply(corners)
        if d.geometric.scale >= 1:  # the window lies in the scaled picture
            assert max(left, top) <= -0.5 + 1e-9 <= 99.5 - 2e-9 <= min(right, bottom)
        else:  # the scaled picture lies in the window
            assert min(left, top) >= -0.5 - 1e-9
            assert max(right, bottom) <= 99.5 + 1e-9
    assert np.ptp([d.geometric.shift for d in drawn if d.geometric.scale == 0.5]) > 0.45


def test_the_graph_network_has_prnets_geometry_and_nothing_else():
    for ours, prnets in zip(draws("mesh_gcn"), draws("prnet"), strict=True):
        assert ours.geometric == prnets.geometric
        assert ours.photometric == PhotometricDraw()
        assert ours.occluders == ()


@pytest.mark.parametrize("name", PRESETS)
def test_every_draw_keeps_to_the_ranges_of_its_preset(name):
    config = PRESETS[name]()
    for draw in draws(name):
        photometric = draw.photometric
        for operation, value, nothing in (
            (config.contrast, photometric.contrast, 1.0),
            (config.brightness, photometric.brightness, 0.0),
            (config.gamma, photometric.gamma, 1.0),
            (config.blur, photometric.blur_px, 0.0),
            (config.motion_blur, photometric.motion_px, 0.0),
            (config.downscale, photometric.downscale, 1.0),
            (config.noise, photometric.noise_levels, 0.0),
            (config.jpeg, photometric.jpeg_quality, None),
            *((config.channel_shift, shift, 0.0) for shift in photometric.channel_shift),
        ):
            if value != nothing:
                low, high = operation.limits
                assert low <= value <= high
        for occluder in draw.occluders:
            low, high = config.occlusion.size.limits
            assert occluder.kind in config.occlusion.kinds
            assert low <= occluder.size <= high


@given(
    seed=st.integers(0, 2**62), source=st.text(max_size=9), copy=st.integers(0, 2**31), name=st.sampled_from([*PRESETS])
)
def test_any_sample_can_be_redrawn_alone_and_from_its_record(seed, source, copy, name):
    mixture = as_mixture(name)
    draw = draw_augmentation(mixture, seed=seed, source_id=source, copy_index=copy)
    assert draw == draw_augmentation(mixture, seed=seed, source_id=source, copy_index=copy)
    assert AugmentationDraw.from_json(draw.to_json()) == draw


def test_copies_sources_and_seeds_differ():
    several = [
        draw_augmentation(as_mixture("prnet"), seed=seed, source_id=source, copy_index=copy)
        for seed in (1, 2) for source in ("a", "b") for copy in (1, 2)
    ]  # fmt: skip
    assert len({draw.geometric.angle for draw in several}) == 8


def test_copy_zero_is_the_sample_itself():
    draw = draw_augmentation(as_mixture("everything"), seed=3, source_id="a", copy_index=0)
    assert (draw.geometric, draw.photometric, draw.occluders) == (GeometricDraw(), PhotometricDraw(), ())
    with pytest.raises(ValueError, match="copy -1 of a does not exist"):
        draw_augmentation(as_mixture("dan"), seed=3, source_id="a", copy_index=-1)


def test_one_operation_more_leaves_the_others_as_they_were():
    plain = AugmentationConfig(rotation=Uniform(low=-1, high=1), noise=Sometimes(amount=Uniform(low=1, high=9)))
    more = plain.model_copy(
        update={"scale": Uniform(low=0.5, high=2), "flip": 0.5, "blur": Sometimes(amount=Uniform(low=1, high=2))}
    )
    for before, after in zip(draws(plain), draws(more), strict=True):
        assert before.geometric.angle == after.geometric.angle
        assert before.photometric.noise_levels == after.photometric.noise_levels
        assert before.photometric.noise_seed == after.photometric.noise_seed


def test_operations_that_happen_sometimes_happen_that_often():
    config = AugmentationConfig(
        blur=Sometimes(probability=0.25, amount=Uniform(low=1, high=2)),
        occlusion=OcclusionConfig(probability=0.4, kinds=("hand",), most=3, size=Uniform(low=0.2, high=0.3)),
    )
    drawn = draws(config)
    assert np.mean([d.photometric.blur_px > 0 for d in drawn]) == pytest.approx(0.25, abs=0.07)
    assert np.mean([len(d.occluders) > 0 for d in drawn]) == pytest.approx(0.4, abs=0.08)
    assert {len(d.occluders) for d in drawn} == {0, 1, 2, 3}


def test_a_mixture_takes_its_parts_by_weight():
    drawn = draws("dan:3+mesh_gcn")
    assert np.mean([d.photometric.saturation == 0 for d in drawn]) == pytest.approx(0.75, abs=0.06)
    assert as_mixture("dan:3+mesh_gcn").may_flip
    assert not as_mixture("prnet+mesh_gcn").may_flip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prn", "no augmentation 'prn'; there are prnet, densereg, dan, fan3d, mesh_gcn"),
        ("prnet:x", "weight of prnet in a mixture is a positive number, not 'x'"),
        ("prnet:0", "weight of prnet in a mixture is a positive number, not '0'"),
    ],
)
def test_an_unknown_mixture_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        augmentation_from_text(text)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"scale": Uniform(low=0, high=1)}, "scale can be drawn from 0 to 1, and is possible from 0.05 to 20"),
        ({"scale": Normal(mean=1, stddev=0.4)}, "scale can be drawn from -0.2 to 2.2"),
        ({"rotation": Uniform(low=-45, high=45)}, "rotation can be drawn from -45 to 45"),
        ({"jpeg": Sometimes(amount=OneOf(values=(0, 50)))}, "jpeg can be drawn from 0 to 50"),
        ({"flip": 1.5}, "less than or equal to 1"),
    ],
)
def test_what_is_out_of_the_question_is_refused(wrong, sentence):
    with pytest.raises(ValidationError, match=sentence):
        AugmentationConfig(**wrong)


def test_a_config_survives_json():
    mixture = as_mixture("everything+dan:2")
    assert type(mixture).model_validate_json(mixture.model_dump_json()) == mixture


@given(st.floats(-3, 3), st.floats(0.3, 3), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.booleans())
def test_a_move_keeps_the_middle_and_multiplies_lengths(angle, scale, right, down, flip):
    draw = GeometricDraw(angle, scale, (right, down), flip)
    way = draw.augmented_from_crop(100)
    np.testing.assert_allclose(way.apply(np.array([49.5, 49.5])), [49.5 + 100 * right, 49.5 + 100 * down], atol=1e-9)
    assert way.scale == pytest.approx(scale)
    assert way.is_mirrored == flip
    np.testing.assert_allclose((way.inverse @ way).matrix, np.eye(3), atol=1e-9)


def test_draws_are_plain_data():
    draw = draws("everything")[3]
    with pytest.raises(dataclasses.FrozenInstanceError):
        draw.seed = 1

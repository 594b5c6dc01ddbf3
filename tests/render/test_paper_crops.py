"""The boxes and crops of each paper: what lands where."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.frames import Similarity2D
from render.paper_crops import (
    canonical_shape,
    dan_crop,
    densereg_crop,
    densereg_photograph,
    fan3d_crop,
    grey_crop,
    perturbed_shape,
    shape_in_box,
    similarity_between,
)

seeds = st.integers(0, 2**32 - 1)


def shape(seed: int) -> np.ndarray:
    """A lopsided set of landmarks, y down."""
    return np.random.default_rng(seed).normal((200, 150), (40, 60), (68, 2))


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0.05, 20), st.floats(-3.1, 3.1), st.floats(-500, 500), st.floats(-500, 500))
def test_a_similarity_is_found_again(seed, scale, angle, x, y):
    truth = Similarity2D.of(scale=scale, angle=angle, translation_px=(x, y))
    found = similarity_between(shape(seed), truth.apply(shape(seed)))
    np.testing.assert_allclose(found.matrix, truth.matrix, atol=1e-6 * max(1, scale))


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_no_other_similarity_comes_nearer(seed):
    rng = np.random.default_rng(seed)
    source = shape(seed)
    target = Similarity2D.of(scale=0.4, angle=0.3).apply(source) + rng.normal(0, 5, source.shape)

    def error(similarity):
        return ((similarity.apply(source) - target) ** 2).sum()

    best = similarity_between(source, target)
    for _ in range(20):
        a, b, x, y = rng.normal(0, (1e-3, 1e-3, 0.1, 0.1))
        other = best.matrix + np.array([[a, -b, x], [b, a, y], [0, 0, 0]])
        assert error(Similarity2D(other)) >= error(best)


@pytest.mark.parametrize("target", [np.zeros((68, 2)), np.full((68, 2), np.nan)])
def test_shapes_that_no_similarity_brings_together_are_refused(target):
    with pytest.raises(ValueError, match="no similarity brings these landmarks together"):
        similarity_between(shape(0), target)


def test_dan_s_canonical_shape_fills_the_middle_half_of_112_px():
    canonical = canonical_shape(shape(1))
    extent = canonical.max(axis=0) - canonical.min(axis=0)
    assert extent.max() == pytest.approx(56)
    np.testing.assert_allclose(canonical.mean(axis=0), 55.5)
    with pytest.raises(ValueError, match="no canonical shape"):
        canonical_shape(np.ones((68, 2)))


def test_dan_s_crop_puts_a_turned_and_scaled_mean_shape_back_on_the_canonical_one():
    canonical = canonical_shape(shape(1))
    landmarks = Similarity2D.of(scale=3.7, angle=-0.5, translation_px=(301.0, 77.0)).apply(canonical)
    np.testing.assert_allclose(dan_crop(landmarks, canonical).apply(landmarks), canonical, atol=1e-9)


def test_dan_s_start_is_the_mean_shape_centred_in_the_box_at_the_mean_of_both_scales():
    box = np.array([100.0, 50.0, 180.0, 170.0])
    mean = shape(1)
    start = shape_in_box(mean, box)
    extent, of_mean = np.ptp(start, axis=0), np.ptp(mean, axis=0)
    np.testing.assert_allclose((start.min(axis=0) + start.max(axis=0)) / 2, [140, 110])
    np.testing.assert_allclose(extent / of_mean, np.mean([80, 120] / of_mean))
    with pytest.raises(ValueError, match="has no area"):
        shape_in_box(mean, box[[2, 1, 0, 3]])


def test_dan_s_disturbed_starts_have_the_papers_spreads():
    """In draws of 4,000: 0.2 of the box along each axis, 20°, and a quarter in scale."""
    rng = np.random.default_rng(0)
    start = shape(1)
    moves = [similarity_between(start, perturbed_shape(start, rng=rng)) for _ in range(4000)]
    centre = start.mean(axis=0)
    shifts = np.array([m.apply(centre) - centre for m in moves]) / np.ptp(start, axis=0)
    np.testing.assert_allclose(shifts.std(axis=0), 0.2, rtol=0.05)
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=0.01)
    angles = [np.arctan2(m.matrix[1, 0], m.matrix[0, 0]) for m in moves]
    assert np.std(angles) == pytest.approx(np.deg2rad(20), rel=0.05)
    scales = [m.scale for m in moves]
    assert np.std(scales) == pytest.approx(0.25, rel=0.05)
    assert min(scales) >= 0.25


def test_a_grey_crop_is_the_mean_of_the_channels():
    image = np.random.default_rng(0).integers(0, 256, (130, 140, 3), dtype=np.uint8)
    crop = grey_crop(image, Similarity2D.of(translation_px=(-5.0, -9.0)))
    assert crop.shape == (112, 112)
    np.testing.assert_array_equal(crop, np.rint(image[9:121, 5:117].mean(axis=-1)).astype(np.uint8))


def test_the_3dfaw_crop_is_the_box_s_square_extended_by_between_20_and_25_percent():
    box = np.array([100.0, 40.0, 260.0, 260.0])  # 160 × 220
    crop = fan3d_crop(box)
    assert crop.scale == pytest.approx(383 / (220 * 1.225))
    np.testing.assert_allclose(crop.apply(np.array([[180.0, 150.0]])), [[191.5, 191.5]])
    rng = np.random.default_rng(0)
    sides = [383 / fan3d_crop(box, rng=rng).scale / 220 for _ in range(200)]
    assert 1.2 <= min(sides) < 1.205
    assert 1.245 < max(sides) <= 1.25
    with pytest.raises(ValueError, match="has no area"):
        fan3d_crop(box[[0, 3, 2, 1]])


@pytest.mark.parametrize(
    ("size_hw", "expected"), [((1000, 600), (800, 480)), ((480, 640), (600, 800)), ((3, 4000), (1, 800))]
)
def test_densereg_s_photograph_has_a_longest_side_of_800_and_keeps_its_borders(size_hw, expected):
    frame = densereg_photograph(size_hw)
    assert frame.size_hw == expected
    border = np.array([[-0.5, -0.5], [size_hw[1] - 0.5, size_hw[0] - 0.5]])
    np.testing.assert_allclose(
        frame.crop_from_image.apply(border)[:, 0 if size_hw[1] > size_hw[0] else 1], [-0.5, 799.5]
    )
    with pytest.raises(ValueError, match="0 × 5 pixels is empty"):
        densereg_photograph((0, 5))


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(200, 800))
def test_densereg_s_crops_lie_in_the_photograph_or_hold_all_of_it(seed, height):
    frame = densereg_crop((height, 800), rng=np.random.default_rng(seed))
    assert frame.size_hw == (321, 321)
    scale = frame.crop_from_image.scale
    assert min(abs(scale - s) for s in (0.5, 0.75, 1.0, 1.25, 1.5)) < 1e-12
    corners = frame.crop_from_image.apply(np.array([[-0.5, -0.5], [799.5, height - 0.5]])) + 0.5
    for low, high, side in zip(*corners, (800, height), strict=True):
        if round(scale * side) >= 321:  # the crop lies inside, but for the rounding of the scaled side
            assert low <= 0.5
            assert high >= 320.5
        else:
            assert low >= 0
            assert high <= 321.5


def test_densereg_s_crops_reach_every_scale_and_both_ends():
    rng = np.random.default_rng(0)
    frames = [densereg_crop((600, 800), rng=rng) for _ in range(600)]
    scales = [f.crop_from_image.scale for f in frames]
    assert {round(s, 2) for s in scales} == {0.5, 0.75, 1.0, 1.25, 1.5}
    at_one = [f.crop_from_image.matrix[0, 2] for f in frames if abs(f.crop_from_image.scale - 1) < 1e-12]
    assert min(at_one) < -440
    assert max(at_one) > -40

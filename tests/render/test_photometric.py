"""What happens to colours: the formulas, the limits, and what each operation must leave alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.augmentation_draws import PhotometricDraw
from render.hashed_noise import gaussian_noise, hashed
from render.photometric import (
    after_the_lens,
    blur_kernel,
    blurred,
    channel_table,
    check_picture,
    downscaled,
    noisy,
    recompressed,
    saturated,
)

RAMP = np.arange(256)


def picture(seed=0, size=48):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def smooth(size=48):
    y, x = np.mgrid[:size, :size] / (size - 1)
    return (20 + 200 * np.stack([x, y, (x + y) / 2], axis=-1)).astype(np.uint8)


def constant(level=(200, 90, 30), size=48):
    return np.full((size, size, 3), level, dtype=np.uint8)


def test_channels_are_scaled_and_held_within_bytes():
    table = channel_table(PhotometricDraw(channel_scale=(0.6, 1.0, 1.4)))
    np.testing.assert_array_equal(table[0], np.floor(0.6 * RAMP + 0.5))
    np.testing.assert_array_equal(table[1], RAMP)
    np.testing.assert_array_equal(table[2], np.minimum(np.floor(1.4 * RAMP + 0.5), 255))


def test_contrast_turns_about_the_middle_brightness_adds_and_gamma_is_an_exponent():
    contrast = channel_table(PhotometricDraw(contrast=0.5))[0]
    assert (contrast[0], contrast[255]) == (64, 191)
    brighter = channel_table(PhotometricDraw(brightness=0.2))[0]
    np.testing.assert_array_equal(brighter, np.minimum(RAMP + 51, 255))
    darker = channel_table(PhotometricDraw(gamma=2.0))[0]
    np.testing.assert_array_equal(darker, np.floor((RAMP / 255) ** 2 * 255 + 0.5))
    shifted = channel_table(PhotometricDraw(channel_shift=(0.0, -0.2, 0.0)))[1]
    np.testing.assert_array_equal(shifted, np.maximum(RAMP - 51, 0))


@given(st.floats(0, 2), st.integers(0, 99))
def test_saturation_moves_colours_along_the_line_to_grey(saturation, seed):
    image = picture(seed, 8)
    grey = image @ np.array([0.299, 0.587, 0.114])[:, None]
    expected = np.clip(grey + saturation * (image - grey), 0, 255)
    assert np.abs(saturated(image, saturation) - expected).max() <= 1.5 + saturation


def test_no_saturation_is_grey_and_all_of_it_changes_nothing():
    image = picture()
    np.testing.assert_array_equal(np.ptp(saturated(image, 0.0), axis=-1), 0)
    np.testing.assert_array_equal(saturated(image, 1.0), image)


@pytest.mark.parametrize("draw", [PhotometricDraw(blur_px=1.3), PhotometricDraw(motion_px=7.0, motion_angle=0.5)])
def test_a_blur_spreads_evenly_and_keeps_what_is_flat(draw):
    kernel = blur_kernel(draw)
    assert kernel.sum() == pytest.approx(1)
    assert kernel.shape[0] % 2 == 1
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)  # nothing is moved
    np.testing.assert_array_equal(blurred(constant(), kernel), constant())


def test_motion_blurs_along_its_direction():
    _y, x = np.mgrid[:48, :48]
    stripes = np.repeat(((x // 4) % 2 * 255).astype(np.uint8)[..., None], 3, axis=-1)  # upright
    across = blurred(stripes, blur_kernel(PhotometricDraw(motion_px=9.0, motion_angle=0.0)))
    along = blurred(stripes, blur_kernel(PhotometricDraw(motion_px=9.0, motion_angle=np.pi / 2)))
    assert across.std() < 0.4 * stripes.std()
    np.testing.assert_array_equal(along, stripes)


def test_a_blur_is_as_wide_as_it_says():
    kernel = blur_kernel(PhotometricDraw(blur_px=2.0))
    reach = np.arange(len(kernel)) - len(kernel) // 2
    assert (kernel.sum(axis=0) * reach**2).sum() == pytest.approx(4, rel=0.05)
    streak = blur_kernel(PhotometricDraw(motion_px=12.0))
    reach = np.arange(len(streak)) - len(streak) // 2
    assert (streak.sum(axis=0) * reach**2).sum() == pytest.approx(12**2 / 12, rel=0.05)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.77, 1.0])
def test_downscaling_loses_detail_and_nothing_else(share):
    np.testing.assert_array_equal(downscaled(constant(), share), constant())
    slopes = smooth()
    inner = np.abs(downscaled(slopes, share).astype(int) - slopes)[12:36, 12:36]
    if share >= 0.3:
        assert inner.max() <= 2  # no half pixel to any side
    assert downscaled(picture(), share).std() <= picture().std()


def test_noise_is_gaussian_and_a_function_of_its_seed():
    grain = gaussian_noise(7, (3, 200, 200))
    assert grain.mean() == pytest.approx(0, abs=0.01)
    assert grain.std() == pytest.approx(1, abs=0.01)
    assert (np.abs(grain) > 2).mean() == pytest.approx(0.0455, abs=0.003)
    assert abs(np.corrcoef(grain[0, :, :-1].ravel(), grain[0, :, 1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(grain[0].ravel(), grain[1].ravel())[0, 1]) < 0.01
    other = gaussian_noise(8, (3, 200, 200))
    assert abs(np.corrcoef(grain.ravel(), other.ravel())[0, 1]) < 0.01
    image = constant((128, 128, 128), 100)
    assert (noisy(image, 9.0, 5).astype(float) - image).std() == pytest.approx(9, rel=0.03)
    np.testing.assert_array_equal(noisy(image, 9.0, 5), noisy(image, 9.0, 5))


def test_the_hash_is_one_to_one():
    assert len(np.unique(hashed(np.arange(100_000, dtype=np.uint32)))) == 100_000


def test_jpeg_is_worse_at_lower_quality_and_keeps_red_red():
    image = smooth()
    errors = [np.abs(recompressed(image, quality).astype(int) - image).mean() for quality in (5, 40, 95)]
    assert errors[0] > errors[1] > errors[2]
    red = recompressed(constant((230, 20, 20)), 90)
    assert (red[..., 0] > 200).all()
    assert (red[..., 2] < 60).all()


def test_a_draw_of_nothing_does_nothing():
    image = picture()
    assert after_the_lens(image, PhotometricDraw()) is image


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (np.zeros((4, 4, 3), np.float32), "holds bytes .uint8., not float32: values in .0, 1. or 0…255 cannot be told"),
        (np.zeros((4, 4, 3), np.uint16), "holds bytes .uint8., not uint16"),
        (np.zeros((4, 4), np.uint8), r"this one is grey, \(4, 4\): repeat its channel three times"),
        (np.zeros((4, 4, 1), np.uint8), "this one is grey"),
        (np.zeros((4, 4, 4), np.uint8), r"\(rows, columns, 3\), red green blue, not \(4, 4, 4\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), "red green blue, not"),
    ],
)
def test_what_is_no_picture_of_bytes_is_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_picture(wrong)

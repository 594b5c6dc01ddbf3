import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.frames import Similarity2D
from render.crop import CropConfig, crop_from_landmarks, crop_from_landmarks_face3d, sample_seed, warp_image

LANDMARKS = np.random.default_rng(3).uniform((120, 150), (310, 330), (68, 2))


def test_the_corners_of_the_box_go_to_the_first_and_last_pixel():
    config = CropConfig(size_px=256)
    low, high = LANDMARKS.min(0), LANDMARKS.max(0)
    centre, side = (low + high) / 2, 1.5 * (high - low).mean()
    crop = crop_from_landmarks(LANDMARKS, config)
    np.testing.assert_allclose(crop.apply(np.stack([centre - side / 2, centre + side / 2])), [[0, 0], [255, 255]])
    assert crop.scale == pytest.approx(255 / side)


@given(seed=st.integers(0, 2**64 - 1), size=st.sampled_from([128, 256, 512]))
def test_a_jittered_crop_stays_within_its_promise_and_has_an_inverse(seed, size):
    config = CropConfig(size_px=size)
    plain = crop_from_landmarks(LANDMARKS, config)
    jittered = crop_from_landmarks(LANDMARKS, config, rng=np.random.default_rng(seed))
    mean_side = (LANDMARKS.max(0) - LANDMARKS.min(0)).mean()
    centre = jittered.inverse.apply(np.full((1, 2), (size - 1) / 2)) - plain.inverse.apply(
        np.full((1, 2), (size - 1) / 2)
    )
    assert np.abs(centre).max() <= 0.1 * mean_side + 1e-9
    assert 0.9 <= plain.scale / jittered.scale <= 1.1
    np.testing.assert_allclose(jittered.inverse.apply(jittered.apply(LANDMARKS)), LANDMARKS, atol=1e-9)


def test_the_published_recipe_cuts_landmarks_and_box_to_integers():
    crop = crop_from_landmarks_face3d(LANDMARKS, CropConfig())
    whole = LANDMARKS.astype(np.int32)
    left, top, right, bottom = *whole.min(0), *whole.max(0)
    side = int((right - left + bottom - top) / 2 * 1.5)
    centre = (right - (right - left) / 2, bottom - (bottom - top) / 2)
    np.testing.assert_allclose(
        crop.apply(np.array([[centre[0] - side / 2, centre[1] - side / 2]])), [[0, 0]], atol=1e-9
    )
    assert crop.scale == pytest.approx(255 / side)


@pytest.mark.parametrize("cut", [crop_from_landmarks, crop_from_landmarks_face3d])
def test_landmarks_in_single_precision_give_the_same_crop(cut):
    single, double = (cut(LANDMARKS.astype(dtype), CropConfig()) for dtype in (np.float32, np.float64))
    np.testing.assert_allclose(single.matrix, double.matrix, rtol=1e-6)


def test_landmarks_in_one_point_are_refused():
    with pytest.raises(ValueError, match="no face can be cut out"):
        crop_from_landmarks(np.ones((68, 2)), CropConfig())


def test_the_seed_of_a_sample_depends_on_seed_source_and_copy_alone():
    seeds = {sample_seed(s, i, k) for s in range(3) for i in ("AFW/a_0", "AFW/a_1") for k in range(3)}
    assert len(seeds) == 18
    assert sample_seed(7, "AFW/a_0", 1) == 1220390658596482866


def test_pixels_follow_the_similarity_to_a_fraction_of_a_pixel():
    """A smooth ramp tells where each pixel of the crop was taken from: half a pixel of shift would show as 0.5."""
    y, x = np.mgrid[:200, :200]
    image = np.stack([x, y, (x + y) // 2], axis=-1).astype(np.uint8)
    crop = Similarity2D.of(scale=1.25, angle=0.2, translation_px=(-60.3, -20.7))
    warped = warp_image(image, crop, size_px=64).astype(float)
    rows, columns = np.mgrid[8:56, 8:56]
    taken = crop.inverse.apply(np.stack([columns, rows], axis=-1).astype(float))
    inside = ((taken > 2) & (taken < 197)).all(axis=-1)
    assert inside.mean() > 0.9
    error = warped[8:56, 8:56, :2] - taken
    assert np.abs(error[inside].mean(axis=0)).max() < 0.05
    assert np.abs(error[inside]).max() < 0.6  # u8 rounding


def test_outside_the_picture_is_black():
    image = np.full((50, 50, 3), 200, np.uint8)
    warped = warp_image(image, Similarity2D.of(translation_px=(30.0, 0.0)), size_px=64)
    assert (warped[:, :29] == 0).all()
    assert (warped[:50, 31:] == 200).all()


def test_the_crop_is_what_opencv_makes_of_three_channels():
    """Four are warped, being faster: the same pixels, at any scale, turn, mirroring and width."""
    rng = np.random.default_rng(5)
    for _ in range(60):
        height, width = rng.integers(2, 500, 2)
        size, scale, angle = int(rng.integers(16, 300)), np.exp(rng.normal(0, 0.7)), rng.normal()
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        crop = Similarity2D.of(scale=scale, angle=angle, translation_px=tuple(rng.normal(0, 150, 2)))
        three = cv2.warpAffine(image, crop.matrix[:2], (size, size), flags=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(warp_image(image, crop, size_px=size), three)

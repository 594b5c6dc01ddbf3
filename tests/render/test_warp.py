"""Warps: exact where exactness can be asked for, half-pixels in the right place, nothing mixed into labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.frames import Similarity2D
from render.augmentation_draws import GeometricDraw
from render.sampling import sample_bilinear
from render.warp import IDENTITY_LUT, warp_exactly, warp_labels

SIZE = 40


def picture(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def warped(image, way, **options):
    return warp_exactly(image, way, size_hw=image.shape[:2], **options)


def ways():
    return st.builds(
        lambda angle, scale, right, down, flip: GeometricDraw(angle, scale, (right, down), flip),
        st.floats(-3, 3), st.floats(0.7, 1.9), st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.booleans(),
    )  # fmt: skip


@pytest.mark.parametrize("size", [31, 40])
def test_nothing_a_mirror_and_quarter_turns_only_rearrange_pixels(size):
    image = picture(size=size)
    np.testing.assert_array_equal(warped(image, Similarity2D.of()), image)
    np.testing.assert_array_equal(warped(image, GeometricDraw(flip=True).augmented_from_crop(size)), image[:, ::-1])
    for quarters in (1, 2, 3):  # turning about w/2 in place of (w − 1)/2 would shift these by a pixel
        way = GeometricDraw(angle=quarters * np.pi / 2).augmented_from_crop(size)
        np.testing.assert_array_equal(warped(image, way), np.rot90(image, -quarters))
        np.testing.assert_array_equal(warp_labels(image, way, size_hw=(size, size)), np.rot90(image, -quarters))


@settings(max_examples=25)
@given(ways())
def test_every_pixel_is_the_bilinear_value_at_its_place(draw):
    y, x = np.mgrid[:SIZE, :SIZE]
    ramps = np.stack([4 * x + 2 * y, 250 - 3 * x - 2 * y, 3 * x + 3 * y], axis=-1).astype(np.uint8)
    way = draw.augmented_from_crop(SIZE)
    expected = sample_bilinear(ramps, way.inverse.apply(np.stack([x, y], axis=-1).astype(np.float64)))
    inside = np.isfinite(expected[..., 0])
    for axis in (0, 1):  # within half a pixel of the border the warp fades to black
        places = way.inverse.apply(np.stack([x, y], axis=-1).astype(np.float64))[..., axis]
        inside &= (places >= 0) & (places <= SIZE - 1)
    error = np.abs(warped(ramps, way).astype(float) - expected)[inside]
    assert (
        error.max(initial=0) <= 0.5 + 6 / 128 + 1e-4
    )  # rounding, and places to 1/64 px on a slope of 6 levels a pixel


@settings(max_examples=25)
@given(ways(), st.integers(0, 9))
def test_the_layout_of_memory_and_the_rest_of_the_photograph_do_not_matter(draw, seed):
    photograph = picture(seed, size=90)
    crop_from_photograph = Similarity2D.of(translation_px=(-30.0, -20.0))
    way = draw.augmented_from_crop(SIZE) @ crop_from_photograph
    result = warp_exactly(photograph, way, size_hw=(SIZE, SIZE))
    planar = np.moveaxis(np.ascontiguousarray(np.moveaxis(photograph, -1, 0)), 0, -1)
    np.testing.assert_array_equal(warp_exactly(planar, way, size_hw=(SIZE, SIZE)), result)
    large = warp_exactly(photograph, way, size_hw=(200, 200))  # reads all of the photograph
    np.testing.assert_array_equal(large[:SIZE, :SIZE], result)


def test_what_lies_outside_is_black_and_fades_in_over_a_pixel():
    white = np.full((SIZE, SIZE, 3), 255, dtype=np.uint8)
    moved = warped(white, Similarity2D.of(translation_px=(10.5, 0.0)))
    assert (moved[:, :10] == 0).all()
    assert (moved[:, 10] == 128).all()
    assert (moved[:, 11:] == 255).all()
    assert not warped(white, Similarity2D.of(translation_px=(500.0, 0.0))).any()


def test_fine_patterns_become_grey_when_they_shrink():
    y, x = np.mgrid[:SIZE, :SIZE]
    checks = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=-1)
    small = warped(checks, GeometricDraw(scale=0.5, angle=0.1).augmented_from_crop(SIZE))
    middle = small[14:26, 14:26].astype(int)
    assert np.abs(middle - 128).max() < 40  # without averaging: 0 and 255
    constant = np.full((SIZE, SIZE, 3), 201, dtype=np.uint8)
    assert (warped(constant, GeometricDraw(scale=0.4).augmented_from_crop(SIZE))[15:25, 15:25] == 201).all()


def test_the_table_is_looked_up_after_the_warp():
    table = IDENTITY_LUT[:, ::-1].copy()
    way = GeometricDraw(angle=0.3).augmented_from_crop(SIZE)
    np.testing.assert_array_equal(warped(picture(), way, lut=table), 255 - warped(picture(), way))


@settings(max_examples=25)
@given(ways())
def test_labels_are_never_mixed(draw):
    labels = np.random.default_rng(1).choice([3, 90, 200], (SIZE, SIZE)).astype(np.uint8)
    way = draw.augmented_from_crop(SIZE)
    moved = warp_labels(labels, way, size_hw=(SIZE, SIZE), outside=255)
    assert set(np.unique(moved)) <= {3, 90, 200, 255}
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    places = way.inverse.apply(np.stack([x, y], axis=-1))
    clear = (np.abs(places - np.floor(places) - 0.5) > 0.01).all(axis=-1)
    nearest = np.rint(places).astype(int)
    inside = ((nearest >= 0) & (nearest < SIZE)).all(axis=-1)
    column, row = np.moveaxis(np.clip(nearest, 0, SIZE - 1), -1, 0)
    np.testing.assert_array_equal(moved[inside & clear], labels[row, column][inside & clear])
    assert (moved[~inside & clear] == 255).all()


def test_a_way_that_leads_nowhere_is_refused():
    with pytest.raises(ValueError, match="65,536 of its pixels in one"):
        warped(picture(), Similarity2D.of(scale=1e-5))

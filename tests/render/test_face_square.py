"""The square around a face: the similarity that is recorded is the one that was done, at any size and at any border."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.face_square import FaceSquare, cut_square, square_around

RNG = np.random.default_rng(3)


def smooth_photograph(height: int, width: int) -> np.ndarray:
    """Colours that say where they are: red grows with x, green with y, blue with neither."""
    x, y = np.arange(width) * 200 / width, np.arange(height) * 200 / height
    channels = (np.tile(x, (height, 1)), np.tile(y[:, None], (1, width)), np.full((height, width), 77.0))
    return np.stack(channels, axis=-1).round().astype(np.uint8)


@given(
    centre=st.tuples(*[st.floats(-50, 900)] * 2), width=st.floats(2, 700), height=st.floats(2, 700),
    margin=st.floats(1, 5), size=st.sampled_from((45, 96, 450)),
)  # fmt: skip
def test_the_square_is_centred_on_the_box_and_as_large_as_asked(centre, width, height, margin, size):
    box = np.array([[-width / 2, -height / 2], [width / 2, height / 2]]) + centre
    square = square_around(np.vstack([box, centre]), margin=margin, size_px=size)
    assert abs(square.side - margin * max(width, height)) <= max(1.0, 1 + square.side / size)
    middle = np.array([square.left, square.top]) + (square.side - 1) / 2
    assert np.abs(middle - centre).max() <= 1
    assert square.roi.tolist() == [
        square.left + 1, square.top + 1, square.left + square.side, square.top + square.side
    ]  # fmt: skip


@given(left=st.integers(-80, 300), top=st.integers(-80, 300), side=st.integers(20, 400), size=st.sampled_from((48, 90)))
def test_a_pixel_of_the_picture_shows_its_place_in_the_photograph(left, top, side, size):
    square = FaceSquare(left, top, side - side % max(1, side // size), size)
    photograph = smooth_photograph(320, 400)
    picture = cut_square(photograph, square)
    assert picture.shape == (size, size, 3)
    y, x = np.mgrid[:size, :size]
    places = square.picture_from_photograph.inverse.apply(np.stack([x, y], axis=-1).astype(float))
    margin = 2 * max(1.0, square.side / size)  # what averaging and cubic interpolation reach
    inside = ((places > margin) & (places < np.array([400, 320]) - 1 - margin)).all(axis=-1)
    expected = places / (400, 320) * 200
    np.testing.assert_allclose(picture[inside][:, :2], expected[inside], atol=1.6)
    outside = ((places < -margin) | (places > np.array([400, 320]) - 1 + margin)).any(axis=-1)
    assert (picture[outside] == 0).all()


@pytest.mark.parametrize("side", [12, 90, 91, 180, 360, 270])
def test_equal_pixels_stay_equal_whatever_is_averaged(side):
    square = FaceSquare(3, 5, side - side % max(1, side // 90), 90)
    picture = cut_square(np.full((400, 400, 3), (10, 200, 90), dtype=np.uint8), square)
    assert (picture == (10, 200, 90)).all()


def test_a_square_of_the_pictures_own_size_is_cut_and_not_resampled():
    photograph = RNG.integers(0, 256, (80, 120, 3), dtype=np.uint8)
    picture = cut_square(photograph, FaceSquare(-7, 30, 64, 64))
    np.testing.assert_array_equal(picture[:50, 7:], photograph[30:, :57])
    assert not picture[50:].any()
    assert not picture[:, :7].any()


def test_a_square_far_from_the_photograph_is_black():
    assert not cut_square(np.full((20, 20, 3), 255, np.uint8), FaceSquare(500, -900, 64, 32)).any()


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (np.zeros((68, 2)), "no face can be cut out"),
        (np.array([[0.0, 0.0], [np.inf, 3.0]]), "no face can be cut out"),
        (np.array([[0.0, 0.0], [70_000.0, 3.0]]), "far from any photograph"),
        (np.array([[32_000.0, 0.0], [32_100.0, 3.0]]), "no part of a photograph"),
    ],
)
def test_points_that_span_no_face_are_refused(points, says):
    with pytest.raises(ValueError, match=says):
        square_around(points, margin=2.5, size_px=450)

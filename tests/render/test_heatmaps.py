"""Landmarks as pictures: against the definitions, pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from render.heatmaps import disc_radius, distance_heatmap, gaussian_heatmaps, part_discs, z_targets

SIZE_HW = (60, 84)
seeds = st.integers(0, 2**32 - 1)


def strewn(seed: int, n: int = 9) -> np.ndarray:
    """Landmarks in and around the picture."""
    return np.random.default_rng(seed).uniform((-25, -25), (SIZE_HW[1] + 25, SIZE_HW[0] + 25), (n, 2))


def distances(landmarks: np.ndarray) -> np.ndarray:
    """(p h w)"""
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    return np.hypot(x - landmarks[:, 0, None, None], y - landmarks[:, 1, None, None])


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_dan_s_heatmap_is_the_inverse_distance_to_the_nearest_landmark_within_16_px(seed):
    nearest = distances(strewn(seed)).min(axis=0)
    expected = np.where(nearest <= 16, 1 / (1 + nearest), 0)
    np.testing.assert_allclose(distance_heatmap(strewn(seed), size_hw=SIZE_HW), expected, atol=1e-6)


def test_dan_s_heatmap_is_one_on_a_landmark_and_its_circle_ends_at_16():
    heat = distance_heatmap(np.array([[40.0, 30.0]]), size_hw=SIZE_HW)
    assert heat[30, 40] == 1
    assert heat[30, 56] == np.float32(1 / 17)
    assert heat[30, 57] == 0
    assert heat[30 + 12, 40 + 12] == 0  # within the square, outside the circle
    assert heat[30 + 11, 40 + 11] > 0


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_the_released_code_cuts_a_window_of_17_about_landmarks_moved_inside(seed):
    landmarks = strewn(seed)
    held = np.clip(landmarks, 8, np.array(SIZE_HW[::-1]) - 9)
    whole = np.trunc(held)
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    inside = (np.abs(x - whole[:, 0, None, None]) <= 8) & (np.abs(y - whole[:, 1, None, None]) <= 8)
    expected = np.where(inside, 1 / (1 + np.sqrt(distances(held) ** 2 + 1e-6)), 0).max(axis=0)
    heat = distance_heatmap(landmarks, size_hw=SIZE_HW, compat="dan")
    np.testing.assert_allclose(heat, expected, atol=1e-6)


def test_one_landmark_s_window_is_17_by_17():
    heat = distance_heatmap(np.array([[40.7, 30.2]]), size_hw=SIZE_HW, compat="dan")
    rows, columns = np.nonzero(heat)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (22, 38, 32, 48)
    assert len(rows) == 17 * 17


@pytest.mark.parametrize("compat", [None, "dan"])
def test_unknown_landmarks_leave_the_others_as_they_are(compat):
    landmarks = strewn(3)
    with_unknown = np.insert(landmarks, 4, np.nan, axis=0)
    np.testing.assert_array_equal(
        distance_heatmap(with_unknown, size_hw=SIZE_HW, compat=compat),
        distance_heatmap(landmarks, size_hw=SIZE_HW, compat=compat),
    )
    assert not distance_heatmap(landmarks[:0], size_hw=SIZE_HW, compat=compat).any()


def test_a_picture_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="16 × 40 pixels cannot hold a window of 17"):
        distance_heatmap(strewn(0), size_hw=(16, 40), compat="dan")


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0.5, 20))
def test_discs_are_the_pixels_within_the_radius(seed, radius):
    landmarks = strewn(seed)
    discs = part_discs(landmarks, size_hw=SIZE_HW, radius_px=radius)
    away = distances(landmarks)
    clear = np.abs(away - radius) > 1e-9
    np.testing.assert_array_equal(discs[clear], (away <= radius)[clear])


def test_a_disc_of_radius_7_holds_149_pixels_and_grows_with_the_face():
    assert disc_radius(220.0) == 7
    assert disc_radius(330.0) == 10.5
    disc = part_discs(np.array([[40.0, 30.0]]), size_hw=SIZE_HW, radius_px=disc_radius(220.0))[0]
    assert disc.sum() == 149
    assert disc[30, 47]
    assert not disc[30, 48]
    with pytest.raises(ValueError, match="a face 0.0 px high"):
        disc_radius(0.0)


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0.5, 12))
def test_gaussians_are_not_cut_off_and_peak_at_one_between_the_pixels(seed, sigma):
    landmarks = strewn(seed)
    heat = gaussian_heatmaps(landmarks, size_hw=SIZE_HW, sigma_px=sigma)
    np.testing.assert_allclose(heat, np.exp(-(distances(landmarks) ** 2) / (2 * sigma**2)), atol=2e-6)


def test_the_papers_gaussian_falls_to_its_inflection_at_6_px():
    heat = gaussian_heatmaps(np.array([[40.0, 30.0]]), size_hw=SIZE_HW)[0]
    assert heat[30, 40] == 1
    assert heat[30, 46] == pytest.approx(np.exp(-0.5), abs=1e-6)


def test_the_map_of_an_unknown_landmark_is_empty():
    landmarks = np.array([[10.0, 10.0], [np.nan, 20.0], [30.0, np.nan]])
    for maps in (
        gaussian_heatmaps(landmarks, size_hw=SIZE_HW),
        part_discs(landmarks, size_hw=SIZE_HW, radius_px=7.0),
    ):
        assert maps[0].any()
        assert not maps[1:].any()
    with pytest.raises(ValueError, match="σ = 0.0"):
        gaussian_heatmaps(landmarks, size_hw=SIZE_HW, sigma_px=0.0)


def test_z_is_in_pixels_about_the_mean_of_the_known_landmarks():
    landmarks = np.array([[1.0, 2.0, 10.0], [3.0, 4.0, 40.0], [5.0, 6.0, np.nan], [0.0, 0.0, 70.0]])
    np.testing.assert_array_equal(z_targets(landmarks), np.array([-30, 0, np.nan, 30], dtype=np.float32))
    np.testing.assert_array_equal(z_targets(landmarks + (9, 9, 1000)), z_targets(landmarks))
    assert np.isnan(z_targets(landmarks[2:3])).all()

"""ICP against clouds whose registration is known, and what it hides."""

import numpy as np
import pytest

from geometry.rotation import rotation_from_euler
from train import metrics
from train.reconstruction import icp, icp_error


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """A lopsided bowl of 2000 points, in millimetres."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-60, 60, 2000), rng.uniform(-90, 80, 2000)
    return np.stack([x, y, 70 - x**2 / 60 - y**2 / 130 + 12 * np.exp(-((x - 9) ** 2 + y**2) / 90)], axis=1)


def test_a_small_motion_and_size_are_undone_wholly(face):
    moved = 1.02 * face @ rotation_from_euler(0.03, -0.02, 0.02).T + (1.0, -1.5, 1.0)
    found = icp(moved, face, steps=200, with_scale=True)
    np.testing.assert_allclose(found.apply(moved), face, atol=0.05)
    assert icp_error(moved / 1.02, face, interocular=90.0, steps=200) < 1e-3


def test_nearest_points_flatter_what_known_correspondence_sees(face):
    slid = face * (1, 1.15, 1)
    known = metrics.reconstruction_error(slid, face, interocular=90.0)
    for direction in ("predicted-to-truth", "truth-to-predicted"):
        assert icp_error(slid, face, interocular=90.0, direction=direction) < 0.95 * known


def test_the_direction_decides_who_looks_for_whom(face):
    half = face[face[:, 1] > 0]
    assert icp_error(half, face, interocular=90.0, direction="predicted-to-truth") == pytest.approx(0, abs=1e-12)
    assert icp_error(half, face, interocular=90.0, direction="truth-to-predicted", steps=0) > 0.05


def test_steps_are_counted_and_a_missing_prediction_is_infinitely_wrong(face):
    assert icp(face, face).steps == 1
    assert icp(face * 1.01, face, steps=3).steps <= 3
    assert icp_error(np.full_like(face, np.nan), face, interocular=90.0) == np.inf
    with pytest.raises(ValueError, match="three finite points"):
        icp(face[:2], face)


def test_a_cloud_of_noise_cannot_shrink_out_of_its_error(face):
    noise = np.random.default_rng(1).normal(0, 60, (500, 3))
    assert icp_error(noise, face, interocular=90.0) > 0.1
    assert icp(noise, face, with_scale=True, steps=200).scale < 0.6  # what would happen otherwise
    assert icp(noise, face).scale == 1.0


def test_a_prediction_of_one_spot_has_an_error_where_the_truth_looks_for_it(face):
    spot = face[:50] * 1e-3 + face[100]
    assert icp_error(spot, face, interocular=90.0, direction="predicted-to-truth") < 0.02
    assert icp_error(spot, face, interocular=90.0, direction="truth-to-predicted") > 0.3

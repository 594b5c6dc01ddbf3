"""Regions found from landmarks: on the made-up face, and on the built-in head, whose regions were made another way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry import load_model
from geometry.morphable_model import REGION_NAMES
from geometry.regions import regions_from_landmarks

CODE = {name: index for index, name in enumerate(REGION_NAMES)}


@pytest.fixture(scope="module")
def head():
    return load_model("built-in")


@pytest.fixture(scope="module")
def found(head):
    return regions_from_landmarks(head.mean_shape, head.landmark_vertices)


@pytest.mark.parametrize(
    ("region", "least"),
    [
        ("eyes", 0.95),
        ("nose", 0.95),
        ("mouth", 0.95),
        ("brows", 0.95),
        ("neck", 0.95),
        ("forehead", 0.95),
        ("ears", 0.85),  # a block, not an ear's outline
        ("cheek_jaw", 0.85),
    ],
)
def test_the_built_in_heads_regions_are_found_again(head, found, region, least):
    ours, stored = found == CODE[region], head.regions == CODE[region]
    assert (ours & stored).sum() / (ours | stored).sum() > least


def test_landmarks_lie_in_the_regions_they_name(head, found):
    at = found[head.landmark_vertices]
    assert (at[17:27] == CODE["brows"]).all()
    assert (at[28:36] == CODE["nose"]).all()
    assert (at[36:48] == CODE["eyes"]).all()
    assert (at[48:68] == CODE["mouth"]).all()


def test_the_neck_ends_at_the_jaw(head, found):
    jaw, neck = head.mean_shape[head.landmark_vertices[4:13]], head.mean_shape[found == CODE["neck"]]
    assert neck[:, 1].max() < head.mean_shape[head.landmark_vertices[[2, 14]], 1].max()
    in_front = neck[:, 2] > jaw[4, 2] - 5  # about the chin, which is the fifth of these points
    assert (neck[in_front, 1] < jaw[4, 1] + 2).all()


def test_everything_far_below_the_chin_is_neck(head, found):
    chin = head.mean_shape[head.landmark_vertices[8]]
    assert (found[head.mean_shape[:, 1] < chin[1] - 10] == CODE["neck"]).all()


@settings(max_examples=15, deadline=None)
@given(
    scale=st.floats(1e-3, 1e3),
    shift=st.tuples(*[st.floats(-500, 500)] * 3),
)
def test_regions_do_not_depend_on_unit_or_origin(face, writers, scale, shift):
    mean = face.cut_mean.astype(np.float64) * 1e-3
    still = regions_from_landmarks(mean, writers.CUT_LANDMARKS)
    moved = regions_from_landmarks((mean + np.array(shift)) * scale, writers.CUT_LANDMARKS)
    assert (still != moved).mean() < 1e-3  # vertices that lie on a border to rounding


def test_a_mirrored_face_has_mirrored_regions(head):
    from geometry.landmarks import MIRROR

    mirrored = head.mean_shape * np.array([-1, 1, 1], np.float32)
    ours = regions_from_landmarks(mirrored, head.landmark_vertices[MIRROR])
    assert (ours == regions_from_landmarks(head.mean_shape, head.landmark_vertices)).mean() > 0.999

"""The landmark schemes' laws."""

import numpy as np
import pytest

from geometry.built_in import load_built_in
from geometry.landmarks import (
    INNER,
    JAW,
    LEFT_EAR_LOBE,
    MIRROR,
    RIGHT_EAR_LOBE,
    SCHEMES,
    LandmarkScheme,
    landmark_scheme,
    visible_only,
)
from geometry.morphable_model import REGION_NAMES, Coefficients

every_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))


def test_every_scheme_has_as_many_points_as_its_name_says():
    assert {name: len(scheme) for name, scheme in SCHEMES.items()} == {
        "ibug-68": 68,
        "3dfaw-66": 66,
        "inner-51": 51,
        "inner-49": 49,
        "aflw-21": 21,
        "aflw-19": 19,
    }


@every_scheme
def test_mirroring_twice_changes_nothing_and_keeps_the_midline(scheme):
    np.testing.assert_array_equal(scheme.mirror[scheme.mirror], np.arange(len(scheme)))
    assert (scheme.mirror == np.arange(len(scheme))).sum() in (3, 8, 9, 10)  # what lies on the midline


def test_the_mirror_of_the_68_is_the_published_one():
    np.testing.assert_array_equal(SCHEMES["ibug-68"].mirror, MIRROR)


def test_the_mirror_of_aflws_points_is_that_of_its_names():
    sides = (("Brow", "LeftCorner Center RightCorner"), ("Eye", "LeftCorner Center RightCorner"))
    names = [f"{side}{part}{place}" for part, places in sides for side in ("Left", "Right") for place in places.split()]
    names += ["LeftEar", "NoseLeft", "NoseCenter", "NoseRight", "RightEar"]
    names += ["MouthLeftCorner", "MouthCenter", "MouthRightCorner", "ChinCenter"]
    swapped = [
        name.replace("Left", "*").replace("Right", "Left").replace("*", "Right") for name in names
    ]  # the mirrored picture's left brow is the old right one
    np.testing.assert_array_equal(SCHEMES["aflw-21"].mirror, [swapped.index(name) for name in names])


@every_scheme
def test_mirrored_points_lie_on_the_models_mirrored_vertices(scheme):
    model = load_built_in()
    points = scheme.points(model)
    positions = np.einsum("pcx,pc->px", model.mean_shape[points.corners], points.weights)
    mirrored = np.einsum("pcx,pc->px", model.mean_shape[model.mirror[points.corners]], points.weights)
    np.testing.assert_allclose(mirrored, positions[scheme.mirror], atol=0.2)
    assert (np.abs(positions[scheme.mirror] * (-1, 1, 1) - positions) < 0.5).all()


@every_scheme
def test_points_of_the_68_are_the_schemes_points_on_the_model(scheme):
    model = load_built_in()
    rng = np.random.default_rng(1)
    face = Coefficients(model.draw_identity(rng), model.draw_expression(rng))
    expected = model.rows(scheme.points(model)).positions(face)
    found = scheme.of_68(model.rows(model.landmarks).positions(face))
    ears = [RIGHT_EAR_LOBE in places or LEFT_EAR_LOBE in places for places in scheme.members]
    assert np.isnan(found[ears]).all()
    np.testing.assert_allclose(found[~np.array(ears)], expected[~np.array(ears)], atol=1e-9)


def test_the_smaller_schemes_are_parts_of_the_68():
    every = np.arange(68.0)[:, None]
    np.testing.assert_array_equal(SCHEMES["inner-51"].of_68(every)[:, 0], np.arange(68)[INNER])
    left_out = np.setdiff1d(np.arange(68), SCHEMES["3dfaw-66"].of_68(every)[:, 0])
    np.testing.assert_array_equal(left_out, [60, 64])
    np.testing.assert_array_equal(SCHEMES["inner-49"].of_68(every), SCHEMES["3dfaw-66"].of_68(every)[JAW.stop :])


def test_only_schemes_with_a_jaw_have_points_that_slide():
    assert {name: len(scheme.jaw) for name, scheme in SCHEMES.items()} == {
        "ibug-68": 17, "3dfaw-66": 17, "inner-51": 0, "inner-49": 0, "aflw-21": 0, "aflw-19": 0,
    }  # fmt: skip


def test_aflws_ear_lobes_are_the_lowest_points_of_the_ears():
    model = load_built_in()
    lobes = SCHEMES["aflw-21"].points(model).corners[[12, 16], 0]
    ears = model.regions == REGION_NAMES.index("ears")
    for lobe, side in zip(lobes, (-1, 1), strict=True):
        this_ear = ears & (np.sign(model.mean_shape[:, 0]) == side)
        assert this_ear[lobe]
        assert model.mean_shape[lobe, 1] < model.mean_shape[this_ear, 1].min() + 0.3


def test_a_model_without_ears_is_refused_with_the_scheme_that_suits_it(writers):
    model = load_built_in().dense()
    earless = type(model)(**{**vars(model), "regions": np.zeros_like(model.regions)})
    with pytest.raises(ValueError, match="has points on the ear lobes, and built-in has no ears; take aflw-19"):
        SCHEMES["aflw-21"].points(earless)
    assert len(SCHEMES["aflw-19"].points(earless).corners) == 19


def test_an_unknown_scheme_is_refused_with_the_names_of_the_known_ones():
    with pytest.raises(ValueError, match="no landmark scheme '67'; there are ibug-68, 3dfaw-66"):
        landmark_scheme("67")


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (((0,), (16,), (71,)), "point 2 of mine is the mean of places"),
        (((0,), ()), "one to three are expected"),
        (((0,), (8,)), "point 0 of mine has no counterpart on the other side"),
    ],
)
def test_schemes_that_cannot_be_are_refused(members, sentence):
    with pytest.raises(ValueError, match=sentence):
        LandmarkScheme("mine", members)


def test_aflw2000s_invisible_points_whose_y_was_turned_over_become_missing():
    points = np.array([[3.0, 452.0], [-1.0, 452.0], [-1.0, 450.0]])
    np.testing.assert_array_equal(visible_only(points), [[3, 452], [np.nan, np.nan], [-1, 450]])


def test_invisible_points_become_missing():
    points = np.array([[3.0, 4.0], [-1.0, -1.0], [-1.0, 7.0]])
    np.testing.assert_array_equal(visible_only(points), [[3, 4], [np.nan, np.nan], [-1, 7]])
    np.testing.assert_array_equal(
        visible_only(points, np.array([False, True, True])), [[np.nan, np.nan], [-1, -1], [-1, 7]]
    )
    with pytest.raises(ValueError, match="one flag a point"):
        visible_only(points, np.array([True]))

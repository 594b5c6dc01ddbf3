import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator

from geometry.thin_plate_spline import (
    ThinPlateSpline,
    correspondence_field,
    fit_thin_plate_spline,
    fit_without_folds,
    report_folds,
)

SEEDS = st.integers(0, 2**32 - 1)
SMOOTHINGS = st.sampled_from([0.0, 1e-3, 0.1, 10.0])
OUTLINE = range(20)


def ear():
    """Fifty-five points: the outline, an inner rim, and the hollows, lopsided; in template coordinates 0 to 1."""
    angle = 2 * np.pi * np.arange(20) / 20
    outline = np.stack([0.5 + (0.3 + 0.06 * np.sin(angle)) * np.cos(angle), 0.5 + 0.45 * np.sin(angle)], axis=1)
    inner = 0.02 + 0.96 * (outline[::-1] - 0.5) * 0.65 + 0.5
    angle = 2.4 * np.arange(15)
    hollows = 0.5 + 0.05 * np.sqrt(np.arange(15) + 0.3)[:, None] * np.stack(
        [0.8 * np.cos(angle), np.sin(angle)], axis=1
    )
    return np.concatenate([outline, inner, hollows])


def seen(template, rng, *, bend=0.02, size=300, mirrored=False):
    """The ear in a picture: turned, sheared, gently bent; pixels, y down."""
    x, y = (template - 0.5).T
    x = -x if mirrored else x
    bent = np.stack([x + bend * np.sin(5 * y + 1), y + bend * np.cos(4 * x)], axis=1)
    turn = rng.uniform(-0.5, 0.5)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[1.0, 0.2], [0.0, 0.9]]
    return size * (0.45 + 0.7 * bent @ matrix.T * (1, -1)) + 7


def scattered(rng, n=30):
    return rng.uniform(0, 200, (n, 2)) * (1.0, 1.5)


def grid(low, high, n=40):
    return np.stack(np.meshgrid(np.linspace(low, high, n), np.linspace(low, high, n)), axis=-1)


# The spline ----------------------------------------------------------------------------------------------------


@given(seed=SEEDS)
def test_without_smoothing_landmarks_go_to_landmarks(seed):
    rng = np.random.default_rng(seed)
    source, target = scattered(rng), rng.normal(size=(30, 2))
    spline = fit_thin_plate_spline(source, target)
    np.testing.assert_allclose(spline.apply(source), target, atol=1e-8)


@given(seed=SEEDS, smoothing=SMOOTHINGS)
def test_an_affine_map_is_reproduced_whatever_the_smoothing(seed, smoothing):
    rng = np.random.default_rng(seed)
    source, matrix, offset = scattered(rng), rng.normal(size=(2, 2)), rng.normal(size=2)
    spline = fit_thin_plate_spline(source, source @ matrix.T + offset, smoothing=smoothing)
    points = grid(-300, 600)
    np.testing.assert_allclose(spline.apply(points), points @ matrix.T + offset, atol=1e-7)
    np.testing.assert_allclose(spline.jacobian_determinant(points), np.linalg.det(matrix), atol=1e-8)
    assert np.abs(spline.weights).max() < 1e-8


@given(seed=SEEDS, smoothing=SMOOTHINGS)
def test_scipys_interpolator_says_the_same(seed, smoothing):
    rng = np.random.default_rng(seed)
    source, target, points = scattered(rng), rng.normal(size=(30, 2)), rng.uniform(-50, 350, (100, 2))
    centre = source.mean(axis=0)
    radius = np.sqrt(((source - centre) ** 2).sum(axis=1).mean())
    spline = fit_thin_plate_spline(source, target, smoothing=smoothing)
    scipys = RBFInterpolator((source - centre) / radius, target, smoothing=smoothing)
    np.testing.assert_allclose(spline.apply(points), scipys((points - centre) / radius), atol=1e-8)


@given(seed=SEEDS, smoothing=SMOOTHINGS)
def test_a_similarity_of_the_source_changes_nothing(seed, smoothing):
    rng = np.random.default_rng(seed)
    source, target, points = scattered(rng), rng.normal(size=(30, 2)), rng.uniform(-50, 350, (100, 2))
    turn, size = rng.uniform(-3, 3), 10 ** rng.uniform(-3, 3)
    matrix = size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    one = fit_thin_plate_spline(source, target, smoothing=smoothing)
    other = fit_thin_plate_spline(source @ matrix.T + size, target, smoothing=smoothing)
    np.testing.assert_allclose(other.apply(points @ matrix.T + size), one.apply(points), atol=1e-7)


@given(seed=SEEDS, smoothing=SMOOTHINGS)
def test_an_affine_map_of_the_target_follows_the_spline(seed, smoothing):
    rng = np.random.default_rng(seed)
    source, target, matrix = scattered(rng), rng.normal(size=(30, 2)), rng.normal(size=(2, 2))
    one = fit_thin_plate_spline(source, target, smoothing=smoothing)
    other = fit_thin_plate_spline(source, target @ matrix.T + 3, smoothing=smoothing)
    points = grid(0, 300, 10)
    np.testing.assert_allclose(other.apply(points), one.apply(points) @ matrix.T + 3, atol=1e-7)


@given(seed=SEEDS)
def test_smoothing_goes_from_the_landmarks_to_their_affine_map(seed):
    rng = np.random.default_rng(seed)
    source, target = scattered(rng), rng.normal(size=(30, 2))
    off = [
        np.linalg.norm(fit_thin_plate_spline(source, target, smoothing=s).apply(source) - target)
        for s in (0.0, 1e-3, 0.1, 10.0, 1e6)
    ]
    assert (np.diff(off) > 0).all()
    design = np.column_stack([np.ones(30), source])
    affine = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    np.testing.assert_allclose(off[-1], np.linalg.norm(affine), rtol=1e-4)


@given(seed=SEEDS, smoothing=SMOOTHINGS)
def test_the_jacobian_is_the_slope_of_the_map(seed, smoothing):
    rng = np.random.default_rng(seed)
    source, target, points = scattered(rng), rng.normal(size=(30, 2)), rng.uniform(0, 300, (50, 2))
    spline = fit_thin_plate_spline(source, target, smoothing=smoothing)
    step = 1e-4
    slopes = [(spline.apply(points + d) - spline.apply(points - d)) / (2 * step) for d in step * np.eye(2)]
    np.testing.assert_allclose(spline.jacobian(points), np.stack(slopes, axis=2), atol=1e-6)
    assert np.isfinite(spline.jacobian_determinant(source)).all()


def test_batches_of_any_shape_are_mapped_point_by_point():
    rng = np.random.default_rng(0)
    spline = fit_thin_plate_spline(scattered(rng), rng.normal(size=(30, 2)))
    points = rng.uniform(0, 300, (150, 70, 2))  # more than are mapped at once
    mapped, determinant = spline.apply(points), spline.jacobian_determinant(points)
    np.testing.assert_allclose(mapped[149, 69], spline.apply(points[149, 69]), rtol=1e-12)
    np.testing.assert_allclose(determinant[149, 69], spline.jacobian_determinant(points[149, 69]), rtol=1e-9)
    assert spline.apply(np.zeros((0, 2))).shape == (0, 2)
    assert spline.jacobian_determinant(np.zeros((3, 0, 2))).shape == (3, 0)


# Folds ---------------------------------------------------------------------------------------------------------


def square_with(points):
    corners = np.array([[0.0, 0], [10, 0], [10, 12], [0, 12]])
    return np.concatenate([corners, points])


def test_landmarks_that_cross_fold_the_map():
    source = square_with([[4.0, 6], [6, 6]])
    crossing = square_with([[6.0, 6], [4, 6]])
    points = grid(0, 10).reshape(-1, 2)
    folds = report_folds(fit_thin_plate_spline(source, crossing), crossing, points=points)
    assert folds.smallest_determinant < 0
    assert 0 < folds.folded < 0.5
    assert "folds over itself at" in folds.sentence()
    straight = report_folds(fit_thin_plate_spline(source, source), source, points=points)
    assert straight.folded == 0
    np.testing.assert_allclose(straight.smallest_determinant, 1)
    assert "does not fold" in straight.sentence()


def test_a_small_crossing_is_smoothed_away_and_said():
    source = square_with([[4.8, 6], [5.2, 6]])
    crossing = square_with([[5.02, 6], [4.98, 6]])
    points = grid(0, 10).reshape(-1, 2)
    spline, folds = fit_without_folds(source, crossing, points=points)
    assert folds.repaired
    assert folds.smoothing == spline.smoothing > 0
    assert folds.smoothing_asked == 0
    assert folds.smallest_determinant > 0
    assert spline.jacobian_determinant(points).min() > 0
    assert "smoothing was raised from 0 to" in folds.sentence()
    # not much more than is needed
    less = fit_thin_plate_spline(source, crossing, smoothing=spline.smoothing / 2)
    assert less.jacobian_determinant(points).min() <= 0


def test_swapped_landmarks_are_refused_by_name():
    template = ear()
    swapped = seen(template, np.random.default_rng(1))
    swapped[[3, 12]] = swapped[[12, 3]]
    with pytest.raises(ValueError, match=r"folds over itself at .* Landmark (3|12) is the farthest off"):
        correspondence_field(swapped, template, size_hw=(300, 300))


def test_what_does_not_fold_is_left_alone():
    template = ear()
    source = seen(template, np.random.default_rng(2))
    spline, folds = fit_without_folds(source, template, points=source, smoothing=0.01)
    assert not folds.repaired
    assert spline.smoothing == 0.01


def test_a_mirrored_object_does_not_count_as_folded():
    template = ear()
    for mirrored in (False, True):
        source = seen(template, np.random.default_rng(3), mirrored=mirrored)
        spline = fit_thin_plate_spline(source, template)
        folds = report_folds(spline, template, points=source)
        assert folds.folded == 0
        assert (spline.jacobian_determinant(source) < 0).all() == (not mirrored)  # pixels' y is down, the template's up


# Images --------------------------------------------------------------------------------------------------------


@given(seed=SEEDS)
@settings(max_examples=10)
def test_an_ears_pixels_get_the_coordinates_that_were_bent_there(seed):
    template, rng = ear(), np.random.default_rng(seed)
    landmarks = seen(template, np.random.default_rng(seed))
    field = correspondence_field(landmarks, template, size_hw=(300, 280), outline=OUTLINE)
    assert field.uv.shape == (300, 280, 2)
    assert np.isfinite(field.uv).all(axis=2)[field.covered].all()
    assert np.isnan(field.uv[~field.covered]).all()
    # points of the template, seen in the picture, find their way back
    dense = 0.5 + 0.3 * rng.uniform(-1, 1, (200, 2)) * (0.5, 1)
    there = np.rint(seen(dense, np.random.default_rng(seed))).astype(int)
    found = field.uv[there[:, 1], there[:, 0]]
    assert field.covered[there[:, 1], there[:, 0]].all()
    np.testing.assert_allclose(found, dense, atol=0.006)  # half a pixel is 0.0025
    assert np.linalg.norm(found - dense, axis=1).mean() < 0.003


def test_the_field_covers_the_outline_or_the_hull_and_nothing_outside_the_picture():
    template = ear()
    landmarks = seen(template, np.random.default_rng(4))
    inside = correspondence_field(landmarks, template, size_hw=(300, 300), outline=OUTLINE)
    hull = correspondence_field(landmarks, template, size_hw=(300, 300))
    assert (hull.covered | ~inside.covered).all()
    x, y = landmarks[:20].T
    area = 0.5 * abs(x @ np.roll(y, 1) - y @ np.roll(x, 1))
    np.testing.assert_allclose(inside.covered.sum(), area, rtol=0.01)
    cut = correspondence_field(landmarks, template, size_hw=(150, 120), outline=OUTLINE)
    np.testing.assert_array_equal(cut.covered, inside.covered[:150, :120])
    away = correspondence_field(landmarks + 1000, template, size_hw=(50, 50))
    assert not away.covered.any()


def test_one_image_is_brought_to_another():
    template = ear()
    one, other = seen(template, np.random.default_rng(5)), seen(template, np.random.default_rng(6), bend=0.03)
    field = correspondence_field(one, other, size_hw=(300, 300), outline=OUTLINE)
    x, y = np.rint(one[40]).astype(int)
    np.testing.assert_allclose(field.uv[y, x], other[40], atol=1.5)


# Bad input -----------------------------------------------------------------------------------------------------


def test_bad_landmarks_are_refused_with_a_reason():
    good = scattered(np.random.default_rng(7), 6)
    with pytest.raises(ValueError, match="6 source and 5 target landmarks: they must pair up"):
        fit_thin_plate_spline(good, good[:5])
    with pytest.raises(ValueError, match="2 landmarks: a thin-plate spline needs three"):
        fit_thin_plate_spline(good[:2], good[:2])
    with pytest.raises(ValueError, match="target landmark 4 is at .* leave missing landmarks out, on both sides"):
        fit_thin_plate_spline(good, np.where(np.arange(6)[:, None] == 4, np.nan, good))
    twice = np.concatenate([good, good[2:3]])
    with pytest.raises(ValueError, match="source landmarks 2 and 6 are both at"):
        fit_thin_plate_spline(twice, twice)
    with pytest.raises(ValueError, match="lie on a line or in one point"):
        fit_thin_plate_spline(np.outer(np.arange(5.0), (1, 2)), good[:5])
    with pytest.raises(ValueError, match="lie on a line or in one point"):
        fit_thin_plate_spline(np.full((5, 2), 3.0), good[:5])
    with pytest.raises(ValueError, match="smoothing is -1"):
        fit_thin_plate_spline(good, good, smoothing=-1.0)
    with pytest.raises(ValueError, match="target landmarks lie on a line"):
        correspondence_field(good, np.outer(np.arange(6.0), (1, 2)), size_hw=(20, 20))


def test_two_landmarks_may_go_to_one_place():
    source = scattered(np.random.default_rng(8), 6)
    target = source.copy()
    target[5] = target[2]
    spline = fit_thin_plate_spline(source, target)
    assert isinstance(spline, ThinPlateSpline)
    np.testing.assert_allclose(spline.apply(source), target, atol=1e-9)

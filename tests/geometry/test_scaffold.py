from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.plane_areas import doubled_area
from geometry.scaffold import crossing_sides, scaffold, simple_border

SEEDS = st.integers(0, 2**32 - 1)


def star(seed, n):
    """A simple counter-clockwise polygon with deep bays."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * (np.arange(n) + 0.4 * rng.uniform(-1, 1, n)) / n
    radius = rng.uniform(0.05, 1.0, n)
    return radius[:, None] * np.stack([np.cos(angle), 3 * np.sin(angle)], axis=1) + (40.0, -7.0)


def crossed(a, b, c, d):
    """Whether two closed segments meet, by solving for the place (general position)."""
    (s, t) = np.linalg.solve(np.stack([b - a, c - d], axis=1), c - a)
    return 0 <= s <= 1 and 0 <= t <= 1


@given(seed=SEEDS, n=st.integers(3, 60))
def test_the_scaffold_fills_the_frame_around_the_border_and_nothing_else(seed, n):
    border = star(seed, n)
    around = scaffold(border)
    points = np.concatenate([border, around.points])
    a, b, c = (points[around.triangles[:, k]] for k in range(3))
    areas = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert (areas > 0).all()
    box = np.ptp(around.points, axis=0).prod()
    assert areas.sum() == pytest.approx(box - doubled_area(border) / 2, rel=1e-9)
    assert len(around.triangles) == n + 5  # an annulus with no vertices within
    directed = [(int(t[k]), int(t[(k + 1) % 3])) for t in around.triangles for k in range(3)]
    assert len(directed) == len(set(directed))
    assert all(((i + 1) % n, i) in directed for i in range(n))  # each side of the border once, from outside


@given(seed=SEEDS, n=st.integers(6, 30))
def test_no_chord_outside_joins_what_an_edge_within_joins_already(seed, n):
    """Cut into two by a point in its middle, which changes nothing of the space that is filled."""
    border = star(seed, n)
    plain = scaffold(border)
    inner = {tuple(sorted((int(t[k]), int(t[(k + 1) % 3])))) for t in plain.triangles for k in range(3)}
    chords = [(i, j) for i, j in inner if j < n and 1 < j - i < n - 1]
    cut = scaffold(border, joined=chords)
    assert len(cut.points) == 5 + len(chords)
    edges = {tuple(sorted((int(t[k]), int(t[(k + 1) % 3])))) for t in cut.triangles for k in range(3)}
    assert not edges & set(chords)
    points = np.concatenate([border, cut.points])
    a, b, c = (points[cut.triangles[:, k]] for k in range(3))
    areas = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert (areas > 0).all()
    assert areas.sum() == pytest.approx(np.ptp(plain.points, axis=0).prod() - doubled_area(border) / 2, rel=1e-9)


def test_collinear_sides_and_a_square_are_no_trouble():
    ticks = np.arange(4) / 4
    zero, one = np.zeros(4), np.ones(4)
    square = np.concatenate(
        [np.stack(side, axis=1) for side in ((ticks, zero), (one, ticks), (1 - ticks, one), (zero, 1 - ticks))]
    )
    assert len(crossing_sides(square)[0]) == 0
    np.testing.assert_array_equal(simple_border(square), square)
    assert len(scaffold(square).triangles) == 21


@given(seed=SEEDS, n=st.integers(4, 24))
def test_crossing_sides_are_found_as_by_hand(seed, n):
    border = np.random.default_rng(seed).normal(size=(n, 2))
    following = np.roll(border, -1, axis=0)
    expected = {
        (i, j)
        for i, j in combinations(range(n), 2)
        if 1 < j - i < n - 1 and crossed(border[i], following[i], border[j], following[j])
    }
    assert set(zip(*(side.tolist() for side in crossing_sides(border)), strict=True)) == expected


def test_a_side_that_runs_back_over_its_neighbour_crosses_it():
    spike = np.array([[0.0, 0], [2, 0], [1, 0], [1, 1], [0, 1]])
    assert (0, 1) in set(zip(*(side.tolist() for side in crossing_sides(spike)), strict=True))


@given(seed=SEEDS, n=st.integers(3, 40))
def test_a_simple_border_stays_as_it_is(seed, n):
    border = star(seed, n)
    np.testing.assert_array_equal(simple_border(border), border)


@given(seed=SEEDS, n=st.integers(20, 60), loops=st.integers(1, 3))
def test_a_border_with_small_loops_is_mended_where_they_are(seed, n, loops):
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(n) / n
    border = np.stack([np.cos(angle), 2 * np.sin(angle)], axis=1)
    swapped = rng.permutation(n // 6)[:loops] * 6
    border[[*swapped, *(swapped + 1)]] = border[[*(swapped + 1), *swapped]]
    assert len(crossing_sides(border)[0]) > 0
    mended = simple_border(border)
    assert len(crossing_sides(mended)[0]) == 0
    assert doubled_area(mended) > 0
    moved = (mended != border).any(axis=1)
    assert moved.sum() <= 6 * loops


@given(seed=SEEDS, n=st.integers(4, 40))
def test_no_border_is_too_tangled(seed, n):
    mended = simple_border(np.random.default_rng(seed).normal(size=(n, 2)))
    assert len(crossing_sides(mended)[0]) == 0
    assert doubled_area(mended) > 0
    assert len(scaffold(mended).triangles) == n + 5


def test_a_scaffold_round_a_crossing_border_is_refused():
    eight = np.array([[0.0, 0], [1, 1], [1, 0], [0, 1]])
    with pytest.raises(ValueError, match="the border crosses itself"):
        scaffold(eight)

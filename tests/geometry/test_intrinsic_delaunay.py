import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from geometry.edge_weights import CornerGeometry, conformal_weights, laplacian, mollified
from geometry.intrinsic_delaunay import intrinsic_delaunay

SEEDS = st.integers(0, 2**32 - 1)


def bumpy_grid(rng, *, n=6, height=0.3, width=0.3):
    """A height field over an irregular grid in a square of side n, with random diagonals."""
    i, j = (a.ravel() for a in np.meshgrid(np.arange(n), np.arange(n)))
    x, y = (a.ravel().astype(float) for a in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    inside = (x > 0) & (x < n) & (y > 0) & (y < n)
    x, y = x + inside * rng.uniform(-0.4, 0.4, x.size), (y + inside * rng.uniform(-0.4, 0.4, x.size)) * width
    a = j * (n + 1) + i
    b, c, d = a + 1, a + n + 2, a + n + 1
    rising = (rng.random(len(a)) < 0.5)[:, None]
    first = np.where(rising, np.stack([a, b, c], 1), np.stack([a, b, d], 1))
    second = np.where(rising, np.stack([a, c, d], 1), np.stack([b, c, d], 1))
    vertices = np.stack([x, y, height * rng.normal(size=len(x))], axis=1)
    return vertices, np.concatenate([first, second]).astype(np.int32)


def sides_of(vertices, triangles):
    return CornerGeometry.of_mesh(vertices, triangles).lengths


def areas_of(lengths):
    a, b, c = lengths.T
    s = (a + b + c) / 2
    return np.sqrt(s * (s - a) * (s - b) * (s - c))


def edges_of(triangles):
    return {frozenset(edge) for t in triangles.tolist() for edge in zip(t, t[1:] + t[:1], strict=True)}


@given(seed=SEEDS, height=st.sampled_from([0.1, 0.5, 3.0]))
def test_every_inner_weight_is_positive_afterwards(seed, height):
    vertices, triangles = bumpy_grid(np.random.default_rng(seed), height=height)
    flipped = intrinsic_delaunay(triangles, sides_of(vertices, triangles))
    opposite = {}
    cotangents = CornerGeometry.of_lengths(flipped.lengths).cotangents
    for t in range(len(triangles)):
        for k in range(3):
            a, b = flipped.triangles[t, k], flipped.triangles[t, (k + 1) % 3]
            key = (min(a, b), max(a, b), round(float(flipped.lengths[t, k]), 9))
            opposite.setdefault(key, []).append(cotangents[t, (k + 2) % 3])
    assert min(sum(pair) for pair in opposite.values() if len(pair) == 2) > -1e-9


@given(seed=SEEDS)
def test_area_and_boundary_stay(seed):
    vertices, triangles = bumpy_grid(np.random.default_rng(seed))
    lengths = sides_of(vertices, triangles)
    flipped = intrinsic_delaunay(triangles, lengths)
    assert len(flipped.triangles) == len(triangles)
    assert areas_of(flipped.lengths).sum() == pytest.approx(areas_of(lengths).sum(), rel=1e-12)
    rim = [edge for edge in edges_of(triangles) if (np.isin(triangles, list(edge)).sum(axis=1) == 2).sum() == 1]
    assert all(edge in edges_of(flipped.triangles) for edge in rim)
    assert len(rim) == 24


@given(seed=SEEDS)
def test_on_flat_points_it_is_the_delaunay_triangulation(seed):
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(9) / 9
    points = np.concatenate([rng.uniform(-0.6, 0.6, (15, 2)), np.stack([np.cos(angle), 1.1 * np.sin(angle)], axis=1)])
    expected = Delaunay(points).simplices
    # begin with the Delaunay triangulation of squeezed points: the same hull, other diagonals
    start = Delaunay(points * (1, 0.2)).simplices.astype(np.int32)
    a, b, c = (points[start[:, k]] for k in range(3))
    turned = (b - a)[:, 0] * (c - a)[:, 1] < (b - a)[:, 1] * (c - a)[:, 0]
    start[turned] = start[turned][:, ::-1]
    vertices = np.column_stack([points, np.zeros(len(points))])
    flipped = intrinsic_delaunay(start, sides_of(vertices, start))
    assert edges_of(flipped.triangles) == edges_of(expected)
    assert (flipped.n_flips > 0) == (edges_of(start) != edges_of(expected))
    direct = sides_of(vertices, flipped.triangles)
    np.testing.assert_allclose(flipped.lengths, direct, atol=1e-10)


@given(seed=SEEDS)
def test_the_energy_of_any_function_does_not_grow(seed):
    """Rippa 1990, and Bobenko and Springborn 2007 for surfaces: Delaunay has the least Dirichlet energy."""
    rng = np.random.default_rng(seed)
    vertices, triangles = bumpy_grid(rng)
    n = len(vertices)
    geometry = CornerGeometry.of_mesh(vertices, triangles)
    flipped = intrinsic_delaunay(triangles, geometry.lengths)
    before = laplacian(conformal_weights(triangles, n, geometry))
    after = laplacian(conformal_weights(flipped.triangles, n, CornerGeometry.of_lengths(flipped.lengths)))
    for values in rng.normal(size=(5, n)):
        assert values @ (after @ values) <= values @ (before @ values) * (1 + 1e-9)


@given(seed=SEEDS)
def test_a_second_time_nothing_is_flipped(seed):
    vertices, triangles = bumpy_grid(np.random.default_rng(seed))
    once = intrinsic_delaunay(triangles, sides_of(vertices, triangles))
    # a flipped triangulation may join two vertices twice; edges are then no longer told apart by their ends
    if len(edges_of(once.triangles)) == len(edges_of(triangles)):
        assert intrinsic_delaunay(once.triangles, once.lengths).n_flips == 0


def test_four_points_on_a_circle_do_not_flip_for_ever():
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    assert intrinsic_delaunay(triangles, sides_of(square, triangles)).n_flips == 0


def test_a_single_triangle_and_none_at_all_stay():
    one = np.array([[0, 1, 2]], dtype=np.int32)
    assert intrinsic_delaunay(one, np.array([[3.0, 4.0, 5.0]])).n_flips == 0
    assert intrinsic_delaunay(np.zeros((0, 3), np.int32), np.zeros((0, 3))).triangles.shape == (0, 3)


@given(seed=SEEDS)
def test_angles_from_lengths_are_those_from_vertices(seed):
    vertices, triangles = bumpy_grid(np.random.default_rng(seed))
    from_vertices = CornerGeometry.of_mesh(vertices, triangles)
    from_lengths = CornerGeometry.of_lengths(from_vertices.lengths)
    np.testing.assert_allclose(from_lengths.cotangents, from_vertices.cotangents, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(from_lengths.half_tangents, from_vertices.half_tangents, rtol=1e-8, atol=1e-8)
    angles = np.arctan2(1, from_vertices.cotangents)
    np.testing.assert_allclose(angles.sum(axis=1), np.pi)
    np.testing.assert_allclose(from_vertices.half_tangents, np.tan(angles / 2), rtol=1e-9)


def test_the_angles_of_a_3_4_5_triangle():
    geometry = CornerGeometry.of_lengths(np.array([[4.0, 5.0, 3.0]]))  # sides 0→1, 1→2, 2→0: the right angle is at 0
    np.testing.assert_allclose(geometry.cotangents, [[0, 4 / 3, 3 / 4]], atol=1e-15)
    np.testing.assert_allclose(geometry.half_tangents, [[1, 1 / 3, 1 / 2]])


def test_flat_triangles_get_an_area_and_common_sides_stay_equal():
    lengths = np.array([[1.0, 1.0, 2.0], [2.0, 0.0, 2.0], [2.0, 1.5, 1.0]])
    longer, added = mollified(lengths)
    assert added > 0
    np.testing.assert_allclose(longer - lengths, added)
    assert (np.roll(longer, 1, axis=1) + np.roll(longer, 2, axis=1) > longer).all()
    sound = lengths[2:]
    assert mollified(sound)[1] == 0.0

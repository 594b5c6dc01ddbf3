import numpy as np
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from geometry.mesh import Mesh
from geometry.nearest import walk_to_nearest
from geometry.nearest_kernel import barycentric_of_nearest

SEEDS = st.integers(0, 2**32 - 1)


def hilly(rng, n=200):
    points = rng.uniform(-1, 1, (n, 2)) * (1.0, 1.5)
    heights = 0.3 * np.sin(3 * points[:, 0] + points[:, 1])
    return Mesh(np.column_stack([points, heights]), Delaunay(points).simplices.astype(np.int32))


@given(seed=SEEDS)
def test_the_nearest_point_of_a_triangle_is_trimeshs(seed):
    rng = np.random.default_rng(seed)
    corners, points = rng.normal(size=(40, 3, 3)), 2 * rng.normal(size=(40, 3))
    corners[:5, 2] = corners[:5, 0] + 1e-3 * (corners[:5, 1] - corners[:5, 0])  # needles
    nearest = trimesh.triangles.closest_point(corners, points)
    for p, (a, b, c), expected in zip(points, corners, nearest, strict=True):
        squared, *weights = barycentric_of_nearest(p, a, b, c)
        np.testing.assert_allclose(np.array(weights) @ (a, b, c), expected, atol=1e-9)
        np.testing.assert_allclose(squared, ((p - expected) ** 2).sum(), rtol=1e-9)


def test_triangles_without_area_have_nearest_points_too():
    a, b, p = np.array([0.0, 1, 2]), np.array([2.0, 1, 2]), np.array([0.5, 3.0, 2.0])
    for corners in ((a, b, b), (a, a, b), (a, b, 0.25 * a + 0.75 * b)):
        squared, *weights = barycentric_of_nearest(p, *corners)
        np.testing.assert_allclose(np.array(weights) @ corners, (0.5, 1, 2), atol=1e-12)
        assert squared == 4.0
    assert barycentric_of_nearest(p, a, a, a)[0] == ((p - a) ** 2).sum()


@given(seed=SEEDS)
@settings(max_examples=10)
def test_a_walk_ends_at_the_nearest_triangle_of_a_gentle_surface(seed):
    rng = np.random.default_rng(seed)
    mesh = hilly(rng)
    points = mesh.vertices[rng.integers(200, size=60)] + 0.05 * rng.normal(size=(60, 3))
    starts = rng.integers(200, size=60)  # anywhere
    found = walk_to_nearest(points, mesh, starts=starts)
    every = trimesh.triangles.closest_point(
        np.tile(mesh.vertices[mesh.triangles], (60, 1, 1)), np.repeat(points, len(mesh.triangles), axis=0)
    )
    least = np.linalg.norm(every.reshape(60, -1, 3) - points[:, None], axis=2).min(axis=1)
    assert (found.distances >= least - 1e-12).all()
    assert (found.distances < least + 1e-12).mean() > 0.9
    near = walk_to_nearest(points, mesh, starts=np.linalg.norm(mesh.vertices - points[:, None], axis=2).argmin(axis=1))
    np.testing.assert_allclose(near.distances, least, atol=1e-12)


@given(seed=SEEDS)
@settings(max_examples=10)
def test_weights_give_the_point_and_its_distance(seed):
    rng = np.random.default_rng(seed)
    mesh = hilly(rng)
    points = rng.normal(size=(50, 3))
    found = walk_to_nearest(points, mesh, starts=np.zeros(50, dtype=np.int64))
    assert found.weights.min() >= 0
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, atol=1e-15)
    places = np.einsum("pcx,pc->px", mesh.vertices[mesh.triangles[found.triangles]], found.weights)
    np.testing.assert_allclose(np.linalg.norm(points - places, axis=1), found.distances, atol=1e-12)


def test_a_walk_stays_on_its_own_sheet():
    """Two sheets a hair apart, as closed lips are: the nearest place in space is on the other one."""
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    sheet = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    mesh = Mesh(np.concatenate([square, square + (0, 0, 0.01)]), np.concatenate([sheet, sheet + 4]))
    found = walk_to_nearest(np.array([[0.5, 0.4, 0.009]]), mesh, starts=np.array([1]))
    assert found.triangles[0] < 2
    np.testing.assert_allclose(found.distances, 0.009)

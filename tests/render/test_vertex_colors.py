"""Colours of vertices: taken where a vertex is seen, and nowhere else."""

import numpy as np
import pytest

from geometry.mesh import vertex_normals
from geometry.rotation import rotation_from_euler
from render.vertex_colors import UNSEEN, vertex_colors, visible_vertices

SIZE = (120, 160)


def sphere(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Unit sphere in a right-handed frame, triangles counter-clockwise from outside; its poles point up and down."""
    theta, phi = np.linspace(0, np.pi, n), np.linspace(0, 2 * np.pi, 2 * n, endpoint=False)
    t, p = np.meshgrid(theta[1:-1], phi, indexing="ij")
    rings = np.stack([np.sin(t) * np.sin(p), np.cos(t), np.sin(t) * np.cos(p)], axis=-1).reshape(-1, 3)
    index = np.arange((n - 2) * 2 * n).reshape(n - 2, 2 * n)
    a, b, c, d = index[:-1], np.roll(index, -1, 1)[:-1], index[1:], np.roll(index, -1, 1)[1:]
    sides = np.concatenate([np.stack(x, -1).reshape(-1, 3) for x in ((a, c, b), (b, c, d))])
    top, bottom = len(rings), len(rings) + 1
    caps = [[top, index[0, j], index[0, (j + 1) % (2 * n)]] for j in range(2 * n)]
    caps += [[bottom, index[-1, (j + 1) % (2 * n)], index[-1, j]] for j in range(2 * n)]
    return np.vstack([rings, [0, 1, 0], [0, -1, 0]]), np.concatenate([sides, caps]).astype(np.int32)


def in_picture(vertices: np.ndarray, scale: float, centre: tuple[float, float, float]) -> np.ndarray:
    return vertices * (scale, -scale, scale) + centre


def doubled_area(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    ab, ac = b - a, c - a
    return ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0]


def seen_by_rays(vertices_px: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Which vertices have no triangle before them, one vertex at a time: slow and meant to be read."""
    a, b, c = (vertices_px[triangles[:, k]] for k in range(3))
    twice = doubled_area(a, b, c)
    seen = np.ones(len(vertices_px), dtype=bool)
    for v, point in enumerate(vertices_px):
        with np.errstate(all="ignore"):
            wa, wb = doubled_area(point, b, c) / twice, doubled_area(point, c, a) / twice
        inside = (wa >= 0) & (wb >= 0) & (wa + wb <= 1) & ~(triangles == v).any(axis=1)
        depth = wa * a[:, 2] + wb * b[:, 2] + (1 - wa - wb) * c[:, 2]
        seen[v] = not (depth[inside] > point[2] + 1e-9).any()
    return seen


def two_spheres() -> tuple[np.ndarray, np.ndarray]:
    """A small one before a large one, off its middle, turned so that nothing lies on the pixels' grid."""
    vertices, triangles = sphere(26)
    turned = vertices @ rotation_from_euler(0.3, 0.4, 0.2).T
    both = np.vstack([in_picture(turned, 50, (80.3, 60.7, 0.0)), in_picture(turned, 22, (95.1, 50.2, 90.0))])
    return both, np.concatenate([triangles, triangles + len(vertices)])


def test_visibility_is_that_of_rays_but_at_the_rim():
    vertices, triangles = two_spheres()
    expected, found = seen_by_rays(vertices, triangles), visible_vertices(vertices, triangles, size_hw=SIZE)
    facing = -vertex_normals(vertices, triangles)[:, 2]  # left-handed: z < 0 is toward the viewer
    n = len(vertices) // 2
    rim = np.abs(facing) < 0.2
    edge = np.abs(np.hypot(*(vertices[:, :2] - (95.1, 50.2)).T) - 22) < 1.5  # where the small one's outline crosses
    certain = ~rim & ~(edge & (np.arange(2 * n) < n))
    np.testing.assert_array_equal(found[certain], expected[certain])
    assert certain.mean() > 0.7
    hidden = (np.arange(2 * n) < n) & (facing > 0.2) & ~expected & certain
    assert hidden.sum() > 30  # the small sphere hides part of the large one's front
    assert not found[facing < 0].any()


def test_vertices_outside_the_picture_are_not_seen():
    vertices, triangles = sphere()
    seen = visible_vertices(in_picture(vertices, 50, (2.0, 60.0, 0.0)), triangles, size_hw=SIZE)
    assert not seen[vertices[:, 0] < -0.06].any()
    assert seen[(vertices[:, 0] > 0.05) & (vertices[:, 2] > 0.5)].all()


def test_a_visible_vertex_has_the_colour_at_its_place_and_the_others_are_grey():
    vertices, triangles = two_spheres()
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    picture = np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)
    colors, seen = vertex_colors(picture, vertices, triangles)
    expected = np.stack([vertices[:, 0], vertices[:, 1], 255 - vertices[:, 0]], axis=1)
    np.testing.assert_allclose(colors[seen], expected[seen], atol=0.51)
    assert (colors[~seen] == UNSEEN).all()
    assert 0.3 < seen.mean() < 0.5


@pytest.mark.parametrize("scale", [3.0, 300.0])
def test_half_of_a_sphere_is_seen_at_any_size(scale):
    vertices, triangles = sphere(30)
    seen = visible_vertices(in_picture(vertices, scale, (scale + 2, scale + 2, 0)), triangles, size_hw=(700, 700))
    np.testing.assert_array_equal(seen[np.abs(vertices[:, 2]) > 0.25], vertices[np.abs(vertices[:, 2]) > 0.25, 2] > 0)

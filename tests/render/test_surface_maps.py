"""PNCC, normals, depth, albedo and labels: each pixel says what was drawn there."""

import numpy as np
import pytest

from geometry.camera import ScaledOrthographicCamera
from geometry.mesh import vertex_normals
from geometry.rotation import rotation_from_euler
from render.face_buffers import draw_faces
from render.surface_maps import (
    albedo_map,
    carry,
    depth_map,
    label_map,
    normal_map,
    normalized_coordinates,
    pncc_map,
)
from render.zbuffer import interpolate


def ball(*, centre: tuple[float, float], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A sphere in pixels (y down), triangles counter-clockwise from outside with y up."""
    latitude, longitude = np.meshgrid(np.linspace(-np.pi / 2, np.pi / 2, 61), np.linspace(-np.pi, np.pi, 121))
    x, y, z = np.cos(latitude) * np.sin(longitude), np.sin(latitude), np.cos(latitude) * np.cos(longitude)
    vertices = np.stack([centre[0] + radius * x, centre[1] - radius * y, radius * z], axis=-1).reshape(-1, 3)
    index = np.arange(61 * 121, dtype=np.int32).reshape(121, 61)
    a, b, c, d = (k.ravel() for k in (index[:-1, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]))
    return vertices, np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])


def test_normals_of_a_ball_point_from_its_middle_with_y_up():
    vertices, triangles = ball(centre=(40.3, 51.7), radius=30.0)
    drawn = draw_faces([vertices], triangles, size_hw=(100, 90))
    normals = normal_map(drawn, [vertices], triangles)
    y, x = np.mgrid[:100, :90]
    right, up = (x - 40.3) / 30, -(y - 51.7) / 30
    inside = np.hypot(right, up) < 0.95
    expected = np.stack([right, up, np.sqrt(np.maximum(1 - right**2 - up**2, 0))], axis=-1)
    assert drawn.buffers.covered[inside].all()
    np.testing.assert_allclose(normals[inside], expected[inside], atol=0.02)
    assert not normals[~drawn.buffers.covered].any()
    lengths = np.linalg.norm(normals[drawn.buffers.covered], axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
    np.testing.assert_allclose(depth_map(drawn)[inside], 30 * expected[inside][:, 2], atol=0.1)


def test_normals_turn_with_the_head(built_in):
    rotation = rotation_from_euler(0.2, -0.6, 0.3)
    head = ScaledOrthographicCamera(0.8, rotation, np.array([60.0, 70.0, 0.0])).project(built_in.mean_shape)
    drawn = draw_faces([head], built_in.triangles, size_hw=(140, 120))
    of_model = vertex_normals(built_in.mean_shape.astype(np.float64), built_in.triangles) @ rotation.T
    expected = carry(drawn, [of_model], built_in.triangles)
    expected /= np.maximum(np.linalg.norm(expected, axis=-1, keepdims=True), 1e-9)
    np.testing.assert_allclose(normal_map(drawn, [head], built_in.triangles), expected, atol=2e-3)


def test_pncc_is_the_place_on_the_mean_face_whatever_face_is_drawn(built_in):
    codes = normalized_coordinates(built_in.mean_shape)
    assert codes.min(axis=0).tolist() == [0, 0, 0]
    assert codes.max(axis=0).tolist() == [1, 1, 1]
    head = ScaledOrthographicCamera(0.8, rotation_from_euler(0, 0.4, 0), np.array([60.0, 70.0, 0.0]))
    drawn = draw_faces([head.project(built_in.mean_shape)], built_in.triangles, size_hw=(140, 120))
    picture = pncc_map(drawn, codes, built_in.triangles)
    low, high = built_in.mean_shape.min(axis=0), built_in.mean_shape.max(axis=0)
    places = head.project((low + picture * (high - low)).astype(np.float64))
    y, x = np.nonzero(drawn.buffers.covered)
    np.testing.assert_allclose(places[y, x, :2], np.stack([x, y], axis=1), atol=5e-3)
    assert not picture[~drawn.buffers.covered].any()


def test_a_flat_face_has_no_normalised_coordinates():
    with pytest.raises(ValueError, match="flat along an axis"):
        normalized_coordinates(np.array([[0.0, 0, 3], [1, 2, 3], [5, 1, 3]]))


def test_each_face_carries_its_own_values():
    small, triangles = ball(centre=(30.0, 40.0), radius=20.0)
    large, _ = ball(centre=(55.0, 45.0), radius=25.0)
    drawn = draw_faces([small, large], triangles, size_hw=(90, 95), scales=[1.0, 1.25])
    albedos = [np.tile([0.2, 0.3, 0.4], (len(small), 1)), np.tile([0.9, 0.8, 0.7], (len(small), 1))]
    picture = albedo_map(drawn, albedos, triangles)
    for index, color in ((0, (0.2, 0.3, 0.4)), (1, (0.9, 0.8, 0.7)), (-1, (0, 0, 0))):
        mine = drawn.face_index == index
        assert mine.sum() > 300
        np.testing.assert_allclose(picture[mine], np.tile(color, (mine.sum(), 1)), atol=1e-6)
    shared = albedo_map(drawn, albedos[:1], triangles)
    np.testing.assert_array_equal(shared, interpolate(drawn.buffers, albedos[0].astype(np.float32), triangles))
    normals = normal_map(drawn, [small, large], triangles)
    assert normals[40, 30] @ (0, 0, 1) > 0.99
    assert normals[45, 55] @ (0, 0, 1) > 0.99


def test_values_for_another_number_of_faces_are_refused():
    vertices, triangles = ball(centre=(30.0, 40.0), radius=20.0)
    drawn = draw_faces([vertices] * 3, triangles, size_hw=(80, 80))
    with pytest.raises(ValueError, match="2 sets of values for 3 faces"):
        carry(drawn, [vertices, vertices], triangles)


def test_a_label_is_that_of_the_nearest_corner():
    vertices = np.array([[0.0, 0, 0], [0, 30, 0], [30, 0, 0]])
    triangles = np.array([[0, 1, 2]], dtype=np.int32)
    picture = label_map(draw_faces([vertices], triangles, size_hw=(32, 32)), np.array([3, 5, 9], np.uint8), triangles)
    assert picture[2, 2] == 3
    assert picture[25, 2] == 5
    assert picture[2, 25] == 9
    assert picture[30, 30] == 0
    assert set(np.unique(picture)) == {0, 3, 5, 9}


def test_a_picture_without_faces_is_empty():
    _, triangles = ball(centre=(30.0, 40.0), radius=20.0)
    drawn = draw_faces([], triangles, size_hw=(8, 9))
    assert not normal_map(drawn, [], triangles).any()
    assert not depth_map(drawn).any()

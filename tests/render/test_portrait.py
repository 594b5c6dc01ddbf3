"""A lit mesh before a background: what is known of the pixels without looking."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data

from geometry.camera import ScaledOrthographicCamera
from geometry.rotation import rotation_from_euler
from render.backgrounds import PHOTOGRAPHS, draw_background
from render.portrait import PaintedMesh, draw_portrait
from render.shading import ColorTransform, PhongLight

AMBIENT_ONLY = PhongLight(np.array([0.5, 0.75, 1.0]), np.zeros(3), 0.3, 0.4, specular=0.0)
AS_IT_IS = ColorTransform(np.ones(3), np.zeros(3), 1.0)


def board(*, left: float, bottom: float, right: float, top: float) -> PaintedMesh:
    """A rectangle in the model's plane z = 0, facing the viewer, of one colour."""
    corners = np.array([[left, bottom, 0], [right, bottom, 0], [right, top, 0], [left, top, 0]], np.float32)
    texture = np.tile(np.array([200, 100, 50], np.float32), (4, 1))
    return PaintedMesh.of(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32), texture)


def upright_camera(x: float, y: float) -> ScaledOrthographicCamera:
    return ScaledOrthographicCamera(2.0, np.eye(3), np.array([x, y, -7.0]))


def test_a_board_covers_its_pixels_and_half_of_those_on_its_border():
    # In pixels, from the camera: x from 4.5 to 9 and y from 2.5 to 5.5; pixel 9 reaches from 8.5 to 9.5.
    mesh = board(left=0.25, bottom=0.25, right=2.5, top=1.75)
    background = np.random.default_rng(1).random((9, 13, 3), dtype=np.float32)
    picture = draw_portrait(
        mesh, camera=upright_camera(4.0, 6.0), light=AMBIENT_ONLY, color=AS_IT_IS, background=background
    )
    lit = np.array([100, 75, 50]) / 255
    expected = background.copy()
    expected[3:6, 5:9] = lit
    expected[3:6, 9] = (expected[3:6, 9] + lit) / 2
    np.testing.assert_allclose(picture, expected, atol=1e-6)


def test_the_lamp_is_before_the_camera_and_not_before_the_head():
    mesh = board(left=-20, bottom=-20, right=20, top=20)
    lamp = PhongLight(np.zeros(3), np.ones(3), 0.0, 0.9, specular=0.0)
    turned = ScaledOrthographicCamera(2.0, rotation_from_euler(0.2, -0.6, 0.3), np.array([6.0, 4.0, 0.0]))
    picture = draw_portrait(mesh, camera=turned, light=lamp, color=AS_IT_IS, background=np.ones((9, 13, 3), np.float32))
    facing = lamp.direction @ (turned.rotation @ (0, 0, 1))
    np.testing.assert_allclose(picture[4, 6], facing * np.array([200, 100, 50]) / 255, atol=1e-5)


def test_backgrounds_are_pictures_and_equal_draws_are_equal():
    for seed in range(24):
        picture = draw_background(np.random.default_rng(seed), size_hw=(40, 56))
        assert picture.shape == (40, 56, 3)
        assert picture.dtype == np.float32
        assert picture.min() >= 0
        assert picture.max() <= 1
        again = draw_background(np.random.default_rng(seed), size_hw=(40, 56))
        np.testing.assert_array_equal(picture, again)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_lie_in_the_wheel_and_need_no_download(name):
    names = [path.name for path in Path(skimage.data.__file__).parent.iterdir()]
    assert {f"{name}.png", f"{name}.jpg"} & set(names)

"""pyrender's pictures lie where our z-buffer's do, under either camera, and its lamp casts shadows."""

import numpy as np
import pytest

from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera
from geometry.rotation import rotation_from_euler
from render.lit_surface import Surface, fine_buffers
from render.physical_view import StudioLight, draw_studio_light, physical_layer
from render.shading import ColorTransform

SIDE = 96
PLAIN = ColorTransform(np.ones(3), np.zeros(3), 1.0)
TURNED = rotation_from_euler(0.2, -0.6, 0.3)
CAMERAS = {
    "orthographic": ScaledOrthographicCamera(0.4, TURNED, np.array([52.0, 44.0, -30.0])),
    "perspective": PerspectiveCamera(160.0, np.array([47.5, 47.5]), TURNED, np.array([8.0, -5.0, -400.0])),
}
LIGHT = StudioLight(np.array([0.3, 0.3, 0.9]), np.ones(3), np.full(3, 0.2))


def box(centre=(0.0, 0.0, 0.0), half=(40.0, 60.0, 25.0), albedo=0.5):
    """A box with corners of its own for every side, so that its normals are those of its sides."""
    corners, triangles = [], []
    for axis in range(3):
        for sign in (-1, 1):
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
            n = len(corners)
            corners += [sign * np.eye(3)[axis] + s * u + t * v for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            faces = [(n, n + 1, n + 2), (n, n + 2, n + 3)]
            triangles += faces if sign > 0 else [face[::-1] for face in faces]
    vertices = (np.array(corners) * half + centre).astype(np.float32)
    return Surface.of(vertices, np.array(triangles, np.int32), albedo=np.full(3, albedo), gloss=0.02, shininess=14.0)


@pytest.mark.parametrize("name", CAMERAS)
def test_pixels_lie_where_the_z_buffer_has_them(name):
    surface, camera = box(), CAMERAS[name]
    layer = physical_layer(surface, camera=camera, light=LIGHT, color=PLAIN, side_px=SIDE, supersampling=4)
    ours = fine_buffers(surface.vertices, surface.triangles, camera=camera, size_hw=(SIDE, SIDE), supersampling=4)
    coverage = ours.covered.reshape(SIDE, 4, SIDE, 4).mean(axis=(1, 3))
    assert coverage.sum() > 800
    assert np.abs(layer.coverage - coverage).mean() < 3e-3
    moved = [np.abs(np.roll(layer.coverage, 1, axis) - coverage).mean() for axis in (0, 1)]
    assert min(moved) > 5 * np.abs(layer.coverage - coverage).mean()  # one pixel beside would be noticed


def test_what_stands_before_the_lamp_casts_a_shadow():
    camera = ScaledOrthographicCamera(0.6, np.eye(3), np.array([48.0, 48.0, 0.0]))
    wall, knob = box(half=(70.0, 70.0, 5.0)), box(centre=(0.0, 0.0, 45.0), half=(8.0, 8.0, 4.0))
    together = Surface(
        np.concatenate([wall.vertices, knob.vertices]),
        np.concatenate([wall.triangles, knob.triangles + np.int32(len(wall.vertices))]),
        np.concatenate([wall.rows, knob.rows]),
    )
    light = StudioLight(np.array([0.7, 0.0, 0.7]), np.ones(3), np.full(3, 0.1))
    with_knob, without = (
        physical_layer(s, camera=camera, light=light, color=PLAIN, side_px=SIDE).colour for s in (together, wall)
    )
    assert with_knob[48, 24].mean() < 0.6 * without[48, 24].mean()  # 40 mm behind it, away from the lamp
    np.testing.assert_allclose(with_knob[48, 80], without[48, 80], atol=0.02)


def test_drawn_lamps_stand_before_the_face():
    for seed in range(20):
        light = draw_studio_light(np.random.default_rng(seed), contrast=0.4, brightness=1.0, tint=0.05)
        assert light.lamp[2] > 0
        np.testing.assert_allclose(np.linalg.norm(light.lamp), 1)
        assert (light.ambient > 0).all()

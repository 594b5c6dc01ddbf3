"""The official light formula against itself written out for one point, and the laws it must obey."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.shading import ColorTransform, PhongLight, shade

ILLUM_PARA = np.array([0.48, 0.47, 0.41, 0.31, 0.36, 0.33, 0.27, -0.71, 11.0, 20.0])
COLOR_PARA = np.array([0.93, 1.08, 0.99, 3.0, -2.0, 7.0, 0.81])
NO_TRANSFORM = ColorTransform(np.ones(3), np.zeros(3), 1.0)


def one_point(texture, normal, illum_para, color_para):
    """The formula of the conventions file with scalars, in the order in which it stands there."""
    *_, theta, phi, k_s, shininess = illum_para
    ambient, directional = illum_para[:3], illum_para[3:6]
    lamp = (math.cos(theta) * math.sin(phi), math.sin(theta), math.cos(theta) * math.cos(phi))
    half = (lamp[0], lamp[1], lamp[2] + 1)
    half = [value / math.sqrt(sum(v * v for v in half)) for value in half]
    cos_lamp = max(sum(a * b for a, b in zip(lamp, normal, strict=True)), 0)
    cos_half = max(sum(a * b for a, b in zip(half, normal, strict=True)), 0)
    lit = [
        ambient[k] * texture[k] + directional[k] * cos_lamp * texture[k] + k_s * directional[k] * cos_half**shininess
        for k in range(3)
    ]
    grey = 0.3 * lit[0] + 0.59 * lit[1] + 0.11 * lit[2]
    contrast = color_para[6]
    colour = [color_para[k] * (contrast * lit[k] + (1 - contrast) * grey) + color_para[3 + k] for k in range(3)]
    return [min(max(value / 255, 0), 1) for value in colour]


@given(seed=st.integers(0, 2**32 - 1))
def test_every_point_is_lit_as_the_formula_says(seed):
    rng = np.random.default_rng(seed)
    texture, normals = rng.uniform(0, 255, (2, 5, 3)), rng.normal(size=(2, 5, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    illum_para = ILLUM_PARA * rng.uniform(-1, 2, 10) * ([1] * 9 + [0]) + ([0] * 9 + [20])
    color_para = COLOR_PARA * rng.uniform(0.5, 1.5, 7)
    light, color = PhongLight.from_illum_para(illum_para), ColorTransform.from_color_para(color_para)
    expected = [[one_point(texture[i, j], normals[i, j], illum_para, color_para) for j in range(5)] for i in range(2)]
    np.testing.assert_allclose(shade(texture, normals, light=light, color=color), expected, atol=1e-12)


def test_parameters_go_to_the_file_and_back():
    np.testing.assert_array_equal(PhongLight.from_illum_para(ILLUM_PARA).illum_para, ILLUM_PARA)
    np.testing.assert_array_equal(ColorTransform.from_color_para(COLOR_PARA).color_para, COLOR_PARA)


@pytest.mark.parametrize(
    ("elevation", "azimuth", "axis"), [(0.0, 0.0, 2), (0.0, math.pi / 2, 0), (math.pi / 2, 0.4, 1)]
)
def test_the_lamp_stands_before_right_of_and_above_the_face(elevation, azimuth, axis):
    light = PhongLight(np.zeros(3), np.ones(3), elevation, azimuth, specular=0.0)
    np.testing.assert_allclose(light.direction, np.eye(3)[axis], atol=1e-12)
    lit = shade(np.full((3, 3), 255.0), np.eye(3), light=light, color=NO_TRANSFORM)
    np.testing.assert_allclose(lit, np.repeat(np.eye(3)[axis][:, None], 3, axis=1), atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
def test_a_mirrored_face_under_the_mirrored_lamp_has_the_same_colours(seed):
    rng = np.random.default_rng(seed)
    texture, normals = rng.uniform(0, 255, (7, 3)), rng.normal(size=(7, 3))
    light, color = PhongLight.from_illum_para(ILLUM_PARA), ColorTransform.from_color_para(COLOR_PARA)
    here = shade(texture, normals, light=light, color=color)
    there = shade(texture, normals * (-1, 1, 1), light=light.mirrored, color=color)
    np.testing.assert_allclose(there, here, atol=1e-12)


def test_the_length_of_a_normal_plays_no_part_and_a_missing_one_gets_ambient_light():
    light = PhongLight.from_illum_para(ILLUM_PARA)
    texture, normals = np.full((2, 3), 120.0, np.float32), np.array([[0.2, -0.3, 0.9], [0, 0, 0]], np.float32)
    once = shade(texture, normals, light=light, color=NO_TRANSFORM)
    thrice = shade(texture, 3 * normals, light=light, color=NO_TRANSFORM)
    np.testing.assert_allclose(thrice, once, atol=1e-6)
    np.testing.assert_allclose(once[1], 120 / 255 * light.ambient, atol=1e-6)
    assert once.dtype == np.float32


def test_a_lamp_behind_the_face_leaves_no_highlight():
    light = PhongLight(np.zeros(3), np.ones(3), 0.0, math.pi, specular=200.0)
    lit = shade(np.full((1, 3), 255.0), np.array([[0.0, 0, 1]]), light=light, color=NO_TRANSFORM)
    np.testing.assert_allclose(lit, 0, atol=1e-6)

"""Laws of the bulk renderer: it agrees with the slow portrait, its light with the formulas, its pixels with the z-buffer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera
from geometry.display_colour import GAMMA
from geometry.mesh import vertex_normals
from geometry.rotation import rotation_from_euler
from render.harmonic_light import HarmonicLight, draw_harmonic_light, flat_light, harmonics
from render.lit_surface import Surface, fine_buffers, in_colours, joined, light_layer, surface_normals
from render.portrait import PaintedMesh, draw_portrait
from render.shading import ColorTransform, PhongLight

SIZE = 96
PLAIN = ColorTransform(np.ones(3), np.zeros(3), 1.0)


def lopsided_ball(n=40, seed=0):
    """A closed, smooth, unsymmetrical surface about the origin (mm), and colours on it."""
    rng = np.random.default_rng(seed)
    theta, phi = np.meshgrid(np.linspace(0.02, np.pi - 0.02, n), np.arange(n) / n * 2 * np.pi, indexing="ij")
    unit = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], axis=-1)
    radius = 60 + 12 * unit[..., 0] + 9 * unit[..., 1] * unit[..., 2]
    vertices = (unit * radius[..., None]).reshape(-1, 3).astype(np.float32)
    i, j = (index.ravel() for index in np.meshgrid(np.arange(n - 1), np.arange(n), indexing="ij"))
    a, b = i * n + j, i * n + (j + 1) % n
    triangles = np.concatenate([np.stack([a, a + n, b], 1), np.stack([b, a + n, b + n], 1)]).astype(np.int32)
    waves = np.sin(unit.reshape(-1, 3) @ rng.normal(size=(3, 3)) * 4)
    return vertices, triangles, (0.4 + 0.3 * waves).astype(np.float32)


def surface_of(albedo=None, gloss=0.0):
    vertices, triangles, colours = lopsided_ball()
    return Surface.of(vertices, triangles, albedo=colours if albedo is None else albedo, gloss=gloss, shininess=20.0)


CAMERA = ScaledOrthographicCamera(0.62, rotation_from_euler(0.2, -0.5, 0.3), np.array([46.0, 50.0, 0.0]))


def drawn(surface, light, *, camera=CAMERA, supersampling=2, color=PLAIN):
    buffers = fine_buffers(
        surface.vertices, surface.triangles, camera=camera, size_hw=(SIZE, SIZE), supersampling=supersampling
    )
    return light_layer(
        surface, buffers, rotation=camera.rotation, light=light, color=color, supersampling=supersampling
    )


def test_normals_are_those_of_the_plain_function():
    vertices, triangles, _ = lopsided_ball()
    np.testing.assert_allclose(surface_normals(vertices, triangles), vertex_normals(vertices, triangles), atol=2e-5)


def test_a_vertex_that_no_triangle_uses_has_no_normal():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9]], np.float32)
    normals = surface_normals(vertices, np.array([[0, 1, 2]], np.int32))
    np.testing.assert_array_equal(normals, [[0, 0, 1]] * 3 + [[0, 0, 0]])


def test_phong_pictures_are_those_of_the_slow_portrait():
    surface = surface_of()
    light = PhongLight(np.array([0.5, 0.45, 0.4]), np.array([0.5, 0.6, 0.7]), 0.5, -0.8, specular=40.0)
    color = ColorTransform(np.array([1.0, 1.1, 0.9]), np.array([2.0, -3.0, 1.0]), 0.9)
    background = np.full((SIZE, SIZE, 3), 0.3, np.float32)
    texture = (surface.rows[:, 3:6] ** (1 / GAMMA) * 255).astype(np.float32)
    mesh = PaintedMesh.of(surface.vertices, surface.triangles, texture)
    expected = draw_portrait(mesh, camera=CAMERA, light=light, color=color, background=background)
    found = drawn(surface, light, color=color).over(background)
    # textures are turned display-referred at pixels here and at vertices there; nothing else differs
    assert np.abs(found - expected).max() < 4 / 255
    assert np.abs(found - expected).mean() < 0.3 / 255


def test_a_white_matt_ball_in_even_light_is_evenly_bright():
    layer = drawn(surface_of(albedo=np.full(3, 0.5)), flat_light(np.full(3, 0.6)))
    inside = layer.coverage == 1
    np.testing.assert_allclose(layer.colour[inside], 0.3 ** (1 / GAMMA), atol=1.5e-3)


@given(seed=st.integers(0, 2**32 - 1), contrast=st.floats(0, 0.9), brightness=st.floats(0.3, 2))
def test_irradiance_is_the_cosine_weighted_sum_of_radiance(seed, contrast, brightness):
    """Ramamoorthi and Hanrahan's factors against a plain sum over directions."""
    rng = np.random.default_rng(seed)
    light = draw_harmonic_light(rng, contrast=contrast, brightness=brightness, tint=0.1)
    k = np.arange(4000) + 0.5
    z, turn = 1 - 2 * k / 4000, k * np.pi * (3 - np.sqrt(5))
    around = np.column_stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z])
    normal = around[rng.integers(4000)]
    cosine = np.clip(around @ normal, 0, None)
    expected = (cosine[:, None] * (harmonics(around) @ light.radiance)).mean(axis=0) * 4
    np.testing.assert_allclose(light.irradiance(normal), np.maximum(expected, 0), atol=0.02 * brightness)


def test_harmonics_are_orthonormal_on_the_sphere():
    k = np.arange(20000) + 0.5
    z, turn = 1 - 2 * k / 20000, k * np.pi * (3 - np.sqrt(5))
    around = np.column_stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z])
    values = harmonics(around)
    np.testing.assert_allclose(values.T @ values / 20000 * 4 * np.pi, np.eye(9), atol=2e-3)


def test_drawn_light_is_as_bright_as_asked_for_in_front():
    for seed in range(20):
        light = draw_harmonic_light(np.random.default_rng(seed), contrast=0.5, brightness=0.8, tint=0.05)
        front = [light.irradiance(np.array([x, 0.0, np.sqrt(1 - x * x)])).mean() for x in (-0.5, 0.0, 0.5)]
        assert 0.5 < np.mean(front) < 1.2


def test_light_from_the_right_brightens_the_right_side():
    sky = np.zeros((9, 3))
    sky[0], sky[3] = 1.0, 0.8  # Y_11 grows with x
    layer = drawn(surface_of(albedo=np.full(3, 0.5)), HarmonicLight(sky, np.array([1.0, 0, 0]), np.zeros(3)))
    columns = np.where(layer.coverage == 1, layer.colour[..., 0], np.nan)
    assert np.nanmean(columns[:, 60:]) > np.nanmean(columns[:, :34]) + 0.1


def test_coverage_is_the_share_of_the_finer_pixels():
    surface = surface_of()
    buffers = fine_buffers(surface.vertices, surface.triangles, camera=CAMERA, size_hw=(SIZE, SIZE), supersampling=3)
    layer = light_layer(
        surface, buffers, rotation=CAMERA.rotation, light=flat_light(np.ones(3)), color=PLAIN, supersampling=3
    )
    expected = buffers.covered.reshape(SIZE, 3, SIZE, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(layer.coverage, expected, atol=1e-6)
    assert ((layer.coverage > 0) & (layer.coverage < 1)).sum() > 100  # an outline without steps


def test_finer_pixels_do_not_move_the_picture():
    """The outline's centre of mass stays, so that labels follow pixels at any supersampling."""
    centres = []
    for n in (1, 2, 4):
        coverage = drawn(surface_of(), flat_light(np.ones(3)), supersampling=n).coverage
        y, x = np.mgrid[:SIZE, :SIZE]
        centres.append([(coverage * x).sum() / coverage.sum(), (coverage * y).sum() / coverage.sum()])
    assert np.ptp(centres, axis=0).max() < 0.06  # a forgotten half pixel would be 0.25


def test_a_window_is_cut_out_of_the_whole():
    surface = surface_of()
    whole, part = (
        fine_buffers(
            surface.vertices, surface.triangles, camera=CAMERA, size_hw=size, supersampling=2, corner_xy=corner
        )
        for size, corner in (((SIZE, SIZE), (0, 0)), ((20, 30), (33, 41)))
    )
    np.testing.assert_array_equal(part.triangle_id, whole.triangle_id[82:122, 66:126])


def test_a_far_perspective_camera_draws_what_the_orthographic_one_does():
    surface = surface_of()
    far = PerspectiveCamera(0.62 * 1e6, np.array([46.0, 50.0]), CAMERA.rotation, np.array([0.0, 0.0, -1e6]))
    one, other = (drawn(surface, flat_light(np.ones(3)), camera=camera) for camera in (CAMERA, far))
    assert np.abs(one.coverage - other.coverage).max() <= 0.25
    assert np.abs(one.coverage - other.coverage).mean() < 1e-3


def test_joined_surfaces_hide_each_other():
    vertices, triangles, _ = lopsided_ball()
    red = Surface.of(vertices, triangles, albedo=np.array([0.8, 0.0, 0.0]), gloss=0.0, shininess=1.0)
    ahead = (vertices * np.float32(0.3)) @ CAMERA.rotation.T.astype(np.float32) + np.array([0, 0, 100], np.float32)
    green = Surface.of(
        ahead @ CAMERA.rotation.astype(np.float32),
        triangles,
        albedo=np.array([0.0, 0.8, 0.0]),
        gloss=0.0,
        shininess=1.0,
    )
    layer = drawn(joined([red, green]), flat_light(np.ones(3)))
    y, x = (round(value) for value in CAMERA.translation_px[[1, 0]])
    assert layer.colour[y, x, 1] > 0.8 > 0.1 > layer.colour[y, x, 0]
    low = drawn(joined([green, red]), flat_light(np.ones(3)))
    np.testing.assert_allclose(layer.colour, low.colour, atol=1e-6)


def test_colours_are_transformed_in_levels():
    picture = np.full((2, 2, 3), (0.5, 0.25, 0.0), np.float32)
    found = in_colours(picture, ColorTransform(np.array([1.0, 2.0, 1.0]), np.array([0.0, 0.0, 51.0]), 1.0))
    np.testing.assert_allclose(found[0, 0], (0.5, 0.5, 0.2), atol=1e-6)


@pytest.mark.parametrize("bad", [2, 3])
def test_triangles_that_point_outside_are_refused(bad):
    with pytest.raises(ValueError, match=f"triangles refer to vertex {bad} but the mesh has 2 vertices"):
        surface_normals(np.zeros((2, 3), np.float32), np.array([[0, 1, bad]], np.int32))

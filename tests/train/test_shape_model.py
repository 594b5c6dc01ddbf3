"""The linear shape model and the pose that places a mean shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.camera import ScaledOrthographicCamera
from geometry.rotation import rotation_from_euler
from train.shape_model import ShapeModel, best_pose

angles = st.floats(-1.2, 1.2)


def lopsided_shape() -> np.ndarray:
    return np.random.default_rng(4).normal(0, (40, 55, 30), (68, 3)) + (3, -8, 20)


@given(pitch=st.floats(-0.5, 0.5), yaw=angles, roll=angles, scale=st.floats(0.2, 5))
def test_the_pose_of_a_posed_shape_is_found_in_3d_and_in_2d(pitch, yaw, roll, scale):
    shape = lopsided_shape()
    camera = ScaledOrthographicCamera(scale, rotation_from_euler(pitch, yaw, roll), np.array([200.0, 150.0, -4.0]))
    seen = camera.project(shape)
    found = best_pose(shape, seen)
    np.testing.assert_allclose(found.rotation, camera.rotation, atol=1e-9)
    np.testing.assert_allclose(found.project(shape), seen, atol=1e-6 * scale)
    flat = best_pose(shape, seen[:, :2])
    np.testing.assert_allclose(flat.project(shape)[:, :2], seen[:, :2], atol=0.05 * scale)
    assert np.linalg.det(flat.rotation) == pytest.approx(1)


def test_hidden_points_have_no_say_in_the_pose():
    shape = lopsided_shape()
    camera = ScaledOrthographicCamera(1.5, rotation_from_euler(0.1, 0.7, -0.2), np.array([10.0, 20.0, 0.0]))
    seen, visible = camera.project(shape), np.ones(68, dtype=bool)
    seen[:9], visible[:9] = 1e4, False
    np.testing.assert_allclose(best_pose(shape, seen, visible=visible).rotation, camera.rotation, atol=1e-9)
    with pytest.raises(ValueError, match="four points at least"):
        best_pose(shape, np.where(np.arange(68)[:, None] < 3, seen, np.nan))


def test_a_shape_of_the_training_set_is_its_own_nearest_and_noise_is_taken_off():
    rng = np.random.default_rng(0)
    mean, mode = rng.normal(0, 1, (68, 2)), rng.normal(0, 0.1, (68, 2))
    shapes = np.stack([mean + b * mode for b in np.linspace(-2, 2, 40)])
    model = ShapeModel.of(shapes)
    assert model.basis.shape[-1] <= 2  # one mode, bent a little by the alignment
    turned = 37 * shapes[31] @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + (100, 50)
    np.testing.assert_allclose(model.closest(turned), turned, atol=0.3)
    noisy = turned + rng.normal(0, 3, (68, 2))
    before, after = (np.linalg.norm(points - turned, axis=1).mean() for points in (noisy, model.closest(noisy)))
    assert after < 0.35 * before
    assert np.isnan(model.closest(np.full((68, 2), np.nan))).all()


def test_points_that_lie_anywhere_have_hardly_a_say_in_the_closest_shape():
    """A sixth of them, as the far side of a jaw in a field."""
    rng = np.random.default_rng(0)
    mean, modes = rng.normal(0, 1, (68, 2)), rng.normal(0, 0.05, (3, 68, 2))
    shapes = mean + np.einsum("nk,kpc->npc", rng.normal(0, 1, (200, 3)), modes)
    model = ShapeModel.of(shapes)
    for shape in 40 * shapes[:10] + (100, 50):
        wrong = shape + rng.normal(0, 0.5, shape.shape)
        plain = model.closest(wrong)
        wrong[:11] += rng.normal(0, 40, 2)
        found = model.closest(wrong)
        assert np.linalg.norm(found - plain, axis=1).mean() < 0.5
        assert np.linalg.norm(found - shape, axis=1).mean() < 0.5
    one_spot = np.full((68, 2), 7.0)
    np.testing.assert_allclose(model.closest(one_spot), one_spot, atol=1e-6)


def test_a_shape_model_survives_its_checkpoint():
    model = ShapeModel.of(np.random.default_rng(0).normal(0, 1, (30, 68, 2)))
    again = ShapeModel.of_state(model.state())
    points = np.random.default_rng(1).normal(0, 20, (68, 2))
    np.testing.assert_allclose(model.closest(points), again.closest(points), rtol=1e-9)  # sums differ by memory layout

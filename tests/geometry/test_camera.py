import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera, apply_affine, compose_affine
from geometry.frames import Similarity2D
from geometry.rotation import rotation_from_euler

ANGLES = st.floats(-3.5, 3.5)
POINTS = arrays(np.float64, (4, 3), elements=st.floats(-150, 150))
CAMERAS = st.builds(
    lambda scale, pitch, yaw, roll, x, y, z: ScaledOrthographicCamera(
        scale, rotation_from_euler(pitch, yaw, roll), np.array([x, y, z])
    ),
    *(st.floats(-3, 3), ANGLES, ANGLES, ANGLES, st.floats(-50, 500), st.floats(-50, 500), st.floats(-100, 100)),
)


def test_the_official_projection_by_hand():
    """300W-LP: (X, Y, Z) = f·R·vertex + t in pixels upward, stored one-based and upside down in a picture 450 high.

    f = 0.001 px/µm, no rotation, t = (226, 230, 7); the vertex (30, −20, 50) mm projects to X = 256, Y = 210, Z = 57,
    which in zero-based pixels is x = X − 1 = 255, y = 450 − Y = 240.
    """
    camera = ScaledOrthographicCamera(1.0, np.eye(3), np.array([226.0 - 1, 450.0 - 230, 7.0]))
    np.testing.assert_array_equal(camera.project(np.array([[30.0, -20.0, 50.0]])), [[255.0, 240.0, 57.0]])


@given(camera=CAMERAS, points=POINTS)
def test_projection_is_scale_rotation_y_flip_translation(camera, points):
    for point, projected in zip(points, camera.project(points), strict=True):
        x, y, z = camera.scale * (camera.rotation @ point)
        t_x, t_y, t_z = camera.translation_px
        np.testing.assert_allclose(projected, [t_x + x, t_y - y, t_z + z], atol=1e-9)


def test_a_pose_is_pitch_yaw_roll_translation_and_scale_in_this_order():
    camera = ScaledOrthographicCamera(1.25, rotation_from_euler(0.1, 0.7, -0.2), np.array([200.0, 210.0, 3.0]))
    np.testing.assert_allclose(camera.pose, [0.1, 0.7, -0.2, 200.0, 210.0, 3.0, 1.25], rtol=1e-12)


@given(camera=CAMERAS)
def test_the_camera_of_a_pose_is_the_one_that_had_it(camera):
    again = ScaledOrthographicCamera.of_pose(camera.pose)
    np.testing.assert_allclose(again.rotation, camera.rotation, atol=1e-7)  # at a yaw of 90° half the digits are left
    np.testing.assert_array_equal([again.scale, *again.translation_px], [camera.scale, *camera.translation_px])


@given(camera=CAMERAS)
def test_the_models_origin_lies_at_the_translation(camera):
    np.testing.assert_array_equal(camera.project(np.zeros((1, 3)))[0], camera.translation_px)


@given(camera=CAMERAS, points=POINTS)
def test_distances_in_space_are_multiplied_by_the_scales_magnitude(camera, points):
    projected = camera.project(points)
    before = np.linalg.norm(points[:, None] - points, axis=-1)
    after = np.linalg.norm(projected[:, None] - projected, axis=-1)
    np.testing.assert_allclose(after, abs(camera.scale) * before, atol=1e-8)


@given(camera=CAMERAS, points=POINTS)
def test_depth_grows_toward_the_viewer(camera, points):
    nearer = points + 10 * camera.rotation[2]  # ten millimetres along the camera's axis, toward the viewer
    moved = camera.project(nearer) - camera.project(points)
    np.testing.assert_allclose(moved, np.tile([0, 0, 10 * camera.scale], (4, 1)), atol=1e-8)


def test_the_image_frame_is_left_handed():
    image_from_model = ScaledOrthographicCamera(2.0, rotation_from_euler(0.1, 0.7, -0.2), np.zeros(3)).image_from_model
    assert np.linalg.det(image_from_model[:, :3]) == pytest.approx(-8)


def test_a_negative_scale_is_taken_as_it_is():
    """One real AFLW2000-3D file has such a fit."""
    camera = ScaledOrthographicCamera(-0.5, np.eye(3), np.array([100.0, 100.0, 0.0]))
    np.testing.assert_array_equal(camera.project(np.array([[10.0, 20.0, 30.0]])), [[95.0, 110.0, -15.0]])


@given(camera=CAMERAS, points=POINTS, angle=ANGLES, scale=st.floats(0.1, 5), width=st.integers(1, 500))
def test_crop_from_image_after_image_from_model_is_crop_from_model(camera, points, angle, scale, width):
    crop_from_image = Similarity2D.mirror(width) @ Similarity2D.of(scale=scale, angle=angle, translation_px=(3.0, 9.0))
    crop_from_model = compose_affine(crop_from_image.affine3d, camera.image_from_model)
    in_steps = crop_from_image.apply(camera.project(points))
    np.testing.assert_allclose(apply_affine(crop_from_model, points), in_steps, rtol=1e-9, atol=1e-6)


def test_many_affine_maps_compose_at_once():
    rng = np.random.default_rng(0)
    second, first = rng.normal(size=(2, 5, 3, 4))
    point = rng.normal(size=(1, 3))
    for k, both in enumerate(compose_affine(second, first)):
        np.testing.assert_allclose(apply_affine(both, point), apply_affine(second[k], apply_affine(first[k], point)))


def test_float32_points_stay_float32_and_keep_their_leading_shape():
    camera = ScaledOrthographicCamera(1.25, rotation_from_euler(0.2, -0.4, 0.1), np.array([200.0, 210.0, 3.0]))
    points = np.random.default_rng(1).uniform(-100, 100, (2, 7, 3))
    projected = camera.project(points.astype(np.float32))
    assert projected.dtype == np.float32
    assert projected.shape == (2, 7, 3)
    np.testing.assert_allclose(projected, camera.project(points), atol=1e-4)


# ---------------------------------------------------------------------------------------------- perspective


def lopsided_perspective(distance_mm=500.0):
    return PerspectiveCamera(
        900.0, np.array([311.0, 242.0]), rotation_from_euler(0.2, -0.6, 0.1), np.array([40.0, -30.0, -distance_mm])
    )


def test_a_pinhole_by_hand():
    """f = 1000 px, a point 30 mm right of, 20 mm above and 500 mm before the lens: 60 px to the right, 40 px up."""
    camera = PerspectiveCamera(1000.0, np.array([320.0, 240.0]), np.eye(3), np.array([0.0, 0.0, -550.0]))
    np.testing.assert_allclose(camera.project(np.array([[30.0, 20.0, 50.0]])), [[380.0, 200.0, 50 * 1000 / 550]])
    assert camera.scale == pytest.approx(1000 / 550)


@given(points=POINTS)
def test_points_on_a_ray_through_the_lens_are_seen_at_one_place(points):
    camera = lopsided_perspective()
    lens = -camera.rotation.T @ camera.translation_mm
    nearer = lens + 0.7 * (points - lens)
    np.testing.assert_allclose(camera.project(nearer)[:, :2], camera.project(points)[:, :2], atol=1e-6)


@given(points=POINTS)
def test_near_its_point_the_scaled_orthographic_camera_follows_the_pinhole(points):
    camera = lopsided_perspective()
    point = np.array([10.0, 25.0, 60.0])
    simple = camera.scaled_orthographic(point)
    np.testing.assert_allclose(simple.project(point[None])[0], [*camera.project(point[None])[0, :2], 0], atol=1e-9)
    near = point + points / 1500  # a tenth of a millimetre
    np.testing.assert_allclose(simple.project(near)[:, :2], camera.project(near)[:, :2], atol=0.01)


def test_from_far_away_a_pinhole_is_scaled_orthographic():
    points = np.random.default_rng(3).uniform(-100, 100, (20, 3))
    far = lopsided_perspective(distance_mm=5e8)
    camera = PerspectiveCamera(9e8, far.principal_point_px, far.rotation, far.translation_mm)
    simple = camera.scaled_orthographic()
    np.testing.assert_allclose(simple.project(points), camera.project(points), atol=1e-3)
    np.testing.assert_allclose(simple.rotation, camera.rotation, atol=1e-6)


def test_a_point_behind_the_pinhole_has_no_image():
    with pytest.raises(ValueError, match="a point lies 100 mm behind the camera"):
        lopsided_perspective().project(
            (lopsided_perspective().rotation.T @ (np.array([0, 0, 100.0]) - lopsided_perspective().translation_mm))[
                None
            ]
        )

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from geometry.rotation import euler_from_rotation, rotation_from_euler, rotation_from_vector, yaw_from_rotation

ANGLES = st.floats(-4.0, 4.0)  # beyond ±180°, as files have them
VECTORS = st.tuples(*[st.floats(-7.0, 7.0)] * 3).map(np.array)
HALF_TURN = np.pi / 2


def test_the_official_matrix_by_hand():
    """cos 60° = 1/2 and sin 60° = √3/2 in pitch, 3-4-5 triangles in yaw and roll, multiplied out on paper."""
    r3 = np.sqrt(3)
    expected = np.array(
        [
            [12 / 25, 16 / 25, -15 / 25],
            [(-20 + 9 * r3) / 50, (15 + 12 * r3) / 50, 20 * r3 / 50],
            [(9 + 20 * r3) / 50, (12 - 15 * r3) / 50, 20 / 50],
        ]
    )
    rotation = rotation_from_euler(np.pi / 3, np.arctan2(3, 4), np.arctan2(4, 3))
    np.testing.assert_allclose(rotation, expected, atol=1e-15)


def test_each_elementary_matrix_is_the_transpose_of_the_usual_one():
    for axis, angles in (("x", (0.3, 0, 0)), ("y", (0, 0.3, 0)), ("z", (0, 0, 0.3))):
        np.testing.assert_allclose(
            rotation_from_euler(*angles), Rotation.from_euler(axis, 0.3).as_matrix().T, atol=1e-15
        )


@given(pitch=ANGLES, yaw=ANGLES, roll=ANGLES)
def test_the_matrix_is_the_transpose_of_the_usual_product(pitch, yaw, roll):
    usual = Rotation.from_euler("xyz", [pitch, yaw, roll]).as_matrix()  # Rz · Ry · Rx of the right-handed ones
    np.testing.assert_allclose(rotation_from_euler(pitch, yaw, roll), usual.T, atol=1e-14)


@given(pitch=ANGLES, yaw=ANGLES, roll=ANGLES)
def test_rotations_are_orthonormal_with_determinant_one(pitch, yaw, roll):
    rotation = rotation_from_euler(pitch, yaw, roll)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-14)


@given(pitch=ANGLES, yaw=ANGLES, roll=ANGLES)
def test_angles_read_back_give_the_same_rotation(pitch, yaw, roll):
    rotation = rotation_from_euler(pitch, yaw, roll)
    read = euler_from_rotation(rotation)
    assert abs(read[1]) <= HALF_TURN
    np.testing.assert_allclose(rotation_from_euler(*read), rotation, atol=1e-12)


@given(pitch=st.floats(-3.1, 3.1), yaw=st.floats(-1.5, 1.5), roll=st.floats(-3.1, 3.1))
def test_angles_within_the_ranges_are_read_back_as_they_are(pitch, yaw, roll):
    np.testing.assert_allclose(
        euler_from_rotation(rotation_from_euler(pitch, yaw, roll)), (pitch, yaw, roll), atol=1e-12
    )


@pytest.mark.parametrize("side", [-1, 1])
@given(pitch=ANGLES, roll=ANGLES, off=st.floats(-1e-6, 1e-6) | st.just(0.0))
def test_a_profile_is_read_back_although_pitch_and_roll_merge(side, pitch, roll, off):
    rotation = rotation_from_euler(pitch, side * HALF_TURN + off, roll)
    np.testing.assert_allclose(rotation_from_euler(*euler_from_rotation(rotation)), rotation, atol=1e-12)


@given(pitch=ANGLES, roll=ANGLES, vector=VECTORS)
def test_a_profile_computed_in_single_precision_is_read_back(pitch, roll, vector):
    """float32 leaves noise where cos(yaw) should be zero: angles that are read from it apart do not belong together."""
    turn = rotation_from_vector(vector)
    rest = turn.T @ rotation_from_euler(pitch, HALF_TURN, roll)
    rotation = turn.astype(np.float32) @ rest.astype(np.float32)
    np.testing.assert_allclose(rotation_from_euler(*euler_from_rotation(rotation)), rotation, atol=1e-5)


def test_at_exactly_ninety_degrees_pitch_takes_all():
    pitch, yaw, roll = euler_from_rotation(rotation_from_euler(0.5, HALF_TURN, 0.2))
    assert roll == 0
    assert yaw == pytest.approx(HALF_TURN)
    np.testing.assert_allclose(
        rotation_from_euler(pitch, yaw, 0.0), rotation_from_euler(0.5, HALF_TURN, 0.2), atol=1e-12
    )


def test_an_angle_beyond_99_degrees_is_wrapped_by_the_rotation():
    """31 of AFLW2000-3D's files have one: pitch 170°, yaw 100°, roll −175° is a profile, not a head upside down."""
    stored = np.radians([170.0, 100.0, -175.0])
    pitch, yaw, roll = np.degrees(euler_from_rotation(rotation_from_euler(*stored)))
    np.testing.assert_allclose([pitch, yaw, roll], [-10.0, 80.0, 5.0], atol=1e-9)
    assert np.degrees(yaw_from_rotation(rotation_from_euler(*stored))) == pytest.approx(80.1, abs=0.1)


@given(yaw=st.floats(-3.1, 3.1), roll=ANGLES)
def test_yaw_is_the_stored_angle_without_pitch_whatever_the_roll(yaw, roll):
    assert yaw_from_rotation(rotation_from_euler(0.0, yaw, roll)) == pytest.approx(yaw, abs=1e-12)


def test_positive_yaw_turns_the_nose_toward_the_viewers_left():
    nose = rotation_from_euler(0.0, 0.5, 0.0) @ np.array([0.0, 0.0, 1.0])
    assert nose[0] == pytest.approx(-np.sin(0.5))
    assert yaw_from_rotation(rotation_from_euler(0.0, 0.5, 0.0)) > 0


def test_positive_pitch_turns_the_nose_up_and_positive_roll_the_head_clockwise():
    assert (rotation_from_euler(0.5, 0.0, 0.0) @ np.array([0.0, 0.0, 1.0]))[1] > 0
    assert (rotation_from_euler(0.0, 0.0, 0.5) @ np.array([0.0, 1.0, 0.0]))[0] > 0


@given(vector=VECTORS)
def test_a_rotation_vector_is_scipys(vector):
    np.testing.assert_allclose(rotation_from_vector(vector), Rotation.from_rotvec(vector).as_matrix(), atol=1e-13)


@given(direction=VECTORS, length=st.sampled_from([0.0, 1e-300, 1e-12, 1e-8, 0.99e-4, 1.01e-4, 1e-3]))
def test_a_small_rotation_vector_is_scipys(direction, length):
    vector = direction * length
    np.testing.assert_allclose(rotation_from_vector(vector), Rotation.from_rotvec(vector).as_matrix(), atol=1e-15)


@given(vector=VECTORS)
def test_the_opposite_vector_turns_back(vector):
    np.testing.assert_allclose(rotation_from_vector(vector) @ rotation_from_vector(-vector), np.eye(3), atol=1e-13)


def test_many_at_once_are_the_single_ones():
    rng = np.random.default_rng(3)
    pitch, yaw, roll = rng.uniform(-2, 2, (3, 4, 5))
    rotations = rotation_from_euler(pitch, yaw, roll)
    vectors = rng.normal(size=(4, 5, 3))
    turned = rotation_from_vector(vectors)
    angles = euler_from_rotation(rotations)
    assert rotations.shape == turned.shape == (4, 5, 3, 3)
    for i in np.ndindex(4, 5):
        np.testing.assert_array_equal(rotations[i], rotation_from_euler(pitch[i], yaw[i], roll[i]))
        np.testing.assert_allclose(turned[i], rotation_from_vector(vectors[i]), atol=1e-15)
        np.testing.assert_array_equal([a[i] for a in angles], euler_from_rotation(rotations[i]))
        assert yaw_from_rotation(rotations)[i] == yaw_from_rotation(rotations[i])


def test_single_precision_angles_are_taken_too():
    pitch, yaw, roll = np.array([0.1, -0.2, 0.3], dtype=np.float32)
    expected = rotation_from_euler(float(pitch), float(yaw), float(roll))
    np.testing.assert_array_equal(rotation_from_euler(pitch, yaw, roll), expected)

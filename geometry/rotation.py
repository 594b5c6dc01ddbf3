"""Rotations of the head: 300W-LP's Euler angles, rotation vectors, and the angles read back.

Angles are radians. The matrices take model axes (x right, y up, z toward the viewer) to camera axes of the same kind.
"""

import numpy as np
from jaxtyping import Float


def rotation_from_euler(
    pitch: Float[np.ndarray, "*n"] | np.floating | float | int,
    yaw: Float[np.ndarray, "*n"] | np.floating | float | int,
    roll: Float[np.ndarray, "*n"] | np.floating | float | int,
) -> Float[np.ndarray, "*n 3 3"]:
    """R = Rx(pitch) · Ry(yaw) · Rz(roll) with 300W-LP's elementary matrices, the transposes of the right-handed ones.

    So R equals (Rz·Ry·Rx)ᵀ of the usual ones: negating angles of another convention is not enough.
    Source: `RotationMatrix.m` of Zhu et al.'s AFLW2000-3D release.
    """
    pitch, yaw, roll = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (pitch, yaw, roll)))
    return _elementary(pitch, 1, 2) @ _elementary(yaw, 2, 0) @ _elementary(roll, 0, 1)


def _elementary(angle: np.ndarray, first: int, second: int) -> np.ndarray:
    """The identity but for cos at [first, first] and [second, second], sin at [first, second], −sin at the other."""
    matrix = np.zeros((*angle.shape, 3, 3))
    matrix[..., range(3), range(3)] = 1.0
    matrix[..., first, first] = matrix[..., second, second] = np.cos(angle)
    matrix[..., first, second] = np.sin(angle)
    matrix[..., second, first] = -np.sin(angle)
    return matrix


def euler_from_rotation(
    rotation: Float[np.ndarray, "*n 3 3"],
) -> tuple[Float[np.ndarray, "*n"], Float[np.ndarray, "*n"], Float[np.ndarray, "*n"]]:
    """Pitch, yaw in [−π/2, π/2] and roll with ``rotation_from_euler(pitch, yaw, roll) == rotation``.

    At yaw = ±90° only one combination of pitch and roll is determined, and pitch takes all of it. Pitch is read after
    roll has been undone, so the three belong together beside ±90° too, where rounding decides between pitch and roll.
    """
    r = np.asarray(rotation, dtype=np.float64)
    cos_yaw = np.hypot(r[..., 0, 0], r[..., 0, 1])  # row 0 of R is (cos yaw cos roll, cos yaw sin roll, −sin yaw)
    yaw = np.arctan2(-r[..., 0, 2], cos_yaw)
    roll = np.where(cos_yaw < 1e-9, 0.0, np.arctan2(r[..., 0, 1], r[..., 0, 0]))
    # column 1 of R · Rz(roll)ᵀ = Rx · Ry is (0, cos pitch, −sin pitch)
    column = np.cos(roll)[..., None] * r[..., 1] - np.sin(roll)[..., None] * r[..., 0]
    pitch = np.arctan2(-column[..., 2], column[..., 1])
    return np.asarray(pitch), np.asarray(yaw), np.asarray(roll)


def yaw_from_rotation(rotation: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n"]:
    """How far the face is turned to the side, in [−π, π]: the azimuth of the nose's direction in the camera's frame.

    Positive toward the viewer's left, as 300W-LP's yaw is for small pitch and roll. Use this, not the stored angle,
    for yaw bins: 31 of AFLW2000-3D's stored angles lie beyond ±99°.
    """
    nose = np.asarray(rotation, dtype=np.float64)[..., :, 2]
    return np.asarray(np.arctan2(-nose[..., 0], nose[..., 2]))


def rotation_from_vector(vector: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """exp([w]×): the right-handed turn by |w| radians about w (Rodrigues' formula, series near zero)."""
    w = np.asarray(vector, dtype=np.float64)
    angle_squared = (w**2).sum(-1)[..., None, None]
    angle = np.sqrt(angle_squared)
    small = angle < 1e-4
    safe = np.where(small, 1.0, angle)  # computed on a safe value first, so that no branch divides by zero
    first = np.where(small, 1 - angle_squared / 6, np.sin(safe) / safe)
    second = np.where(small, 0.5 - angle_squared / 24, (1 - np.cos(safe)) / safe**2)
    zero = np.zeros_like(w[..., 0])
    cross = np.stack([zero, -w[..., 2], w[..., 1], w[..., 2], zero, -w[..., 0], -w[..., 1], w[..., 0], zero], axis=-1)
    cross = cross.reshape(*w.shape[:-1], 3, 3)
    return np.eye(3) + first * cross + second * (cross @ cross)

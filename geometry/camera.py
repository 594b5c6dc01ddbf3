"""The scaled orthographic camera (the papers' weak perspective), and the perspective one."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from geometry.rotation import euler_from_rotation, rotation_from_euler

_Y_DOWN = np.diag([1.0, -1.0, 1.0])


@dataclass(frozen=True, slots=True)
class ScaledOrthographicCamera:
    """scale · R · x + t from the model frame (millimetres, y up) to the image frame (pixels, y down).

    ``x = s·(R v)_x + t_x``, ``y = t_y − s·(R v)_y``, ``z = s·(R v)_z + t_z``: z stays toward the viewer.
    `scale` (pixels per millimetre) may be negative: one real AFLW2000-3D file has such a fit, so never take its logarithm.
    """

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation_px: Float[np.ndarray, "3"]

    @classmethod
    def of_pose(cls, pose: Float[np.ndarray, "7"]) -> "ScaledOrthographicCamera":
        """The camera of a :attr:`pose`, as data sets store it."""
        return cls(float(pose[6]), rotation_from_euler(*pose[:3]), np.array(pose[3:6]))

    @property
    def pose(self) -> Float[np.ndarray, "7"]:
        """Pitch, yaw, roll (300W-LP's angles, radians), translation x, y, z (px) and scale (px/mm) as seven numbers."""
        angles = (float(angle) for angle in euler_from_rotation(self.rotation))
        return np.array([*angles, *self.translation_px, self.scale])

    @property
    def image_from_model(self) -> Float[np.ndarray, "3 4"]:
        """The affine map on (x, y, z, 1) in millimetres to pixels, y down."""
        return np.concatenate([self.scale * (_Y_DOWN @ self.rotation), self.translation_px[:, None]], axis=1)

    def project(self, vertices: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Model-frame points (mm) as image-frame points (px)."""
        return apply_affine(self.image_from_model, vertices)


@dataclass(frozen=True, slots=True)
class PerspectiveCamera:
    """A pinhole camera without distortion, from the model frame (millimetres, y up) to the image frame (pixels, y down).

    In camera axes (x right, y up, z toward the viewer, millimetres, the lens at the origin) a point lies at
    ``Y = R v + T``, at depth ``d = −Y_z > 0``; it is seen at ``x = c_x + f·Y_x/d``, ``y = c_y − f·Y_y/d``. The third image
    coordinate is ``z = f/d₀·(R v)_z`` with d₀ the depth of the model's origin: toward the viewer, with the scale that the
    origin has in the picture, so that far away the camera becomes the scaled orthographic one.
    """

    focal_px: float
    principal_point_px: Float[np.ndarray, "2"]
    rotation: Float[np.ndarray, "3 3"]
    translation_mm: Float[np.ndarray, "3"]

    @property
    def scale(self) -> float:
        """Pixels per millimetre at the depth of the model's origin."""
        return -self.focal_px / float(self.translation_mm[2])

    def project(self, vertices: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Model-frame points (mm) as image-frame points (px); ValueError for a point that is not before the camera."""
        turned = vertices @ self.rotation.T.astype(vertices.dtype)
        placed = turned + self.translation_mm.astype(vertices.dtype)
        depth = -placed[..., 2]
        if (depth <= 0).any():
            raise ValueError(
                f"a point lies {-float(depth.min()):.0f} mm behind the camera: such a point has no image; "
                "look at the camera's translation, or leave the point out"
            )
        seen = placed[..., :2] * (self.focal_px / depth)[..., None] * np.array([1, -1], vertices.dtype)
        xy = seen + self.principal_point_px.astype(vertices.dtype)
        return np.concatenate([xy, (self.scale * turned[..., 2:]).astype(vertices.dtype)], axis=-1)

    def scaled_orthographic(self, point: Float[np.ndarray, "3"] | None = None) -> ScaledOrthographicCamera:
        """The scaled orthographic camera that agrees with this one to first order at `point` (mm; default: the origin).

        Its scale and rotation are those of the rays through the point, so a face off the picture's centre is turned a
        little; z is zero at the point. The best camera of that kind for files that hold no other.
        """
        point = np.zeros(3) if point is None else point
        place = self.rotation @ point + self.translation_mm
        depth = -place[2]
        # ∂(x, y up)/∂v = f/d · [I, Y_xy/d] · R, and its nearest scaled rotation
        affine = self.focal_px / depth * np.column_stack([np.eye(2), place[:2] / depth]) @ self.rotation
        u, singular, vt = np.linalg.svd(affine, full_matrices=False)
        upper, scale = u @ vt, float(singular.mean())
        rotation = np.vstack([upper, np.cross(upper[0], upper[1])])
        centre = self.principal_point_px + self.focal_px / depth * place[:2] * (1, -1)
        turned = scale * rotation @ point
        return ScaledOrthographicCamera(
            scale, rotation, np.array([centre[0] - turned[0], centre[1] + turned[1], -turned[2]])
        )


def compose_affine(
    second: Float[np.ndarray, "*n 3 4"], first: Float[np.ndarray, "*n 3 4"]
) -> Float[np.ndarray, "*n 3 4"]:
    """The affine map that does `first`, then `second`."""
    linear = second[..., :, :3] @ first[..., :, :3]
    translation = (second[..., :, :3] @ first[..., :, 3:])[..., 0] + second[..., :, 3]
    return np.concatenate([linear, translation[..., None]], axis=-1)


def apply_affine(affine: Float[np.ndarray, "3 4"], points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """``A·p + b`` for every point."""
    return points @ affine[:, :3].T.astype(points.dtype) + affine[:, 3].astype(points.dtype)

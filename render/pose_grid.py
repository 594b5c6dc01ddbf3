"""A mesh seen from a grid of poses: the Florence protocol's pictures.

PRNet (Feng et al. 2018, section 4.1, after Jackson et al. 2017) evaluates reconstruction on renders of each scan "with
different poses: a pitch of −15, 20 and 25° and spaced rotations between −80 and 80". How far apart the rotations are, the
camera, the light and the background are not said there; :data:`YAW_STEP_DEG` and the rest of this module are ours.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8

from geometry.camera import ScaledOrthographicCamera
from geometry.rotation import rotation_from_euler
from render.portrait import PaintedMesh, draw_portrait
from render.shading import ColorTransform, PhongLight

PITCHES_DEG = (-15.0, 20.0, 25.0)
LARGEST_YAW_DEG = 80
YAW_STEP_DEG = 20

BACKGROUND = 0.5
_FILLS = 0.95  # of the picture's side, by the ball around the mesh: no pose is cut off
_LIGHT = PhongLight(np.full(3, 0.55), np.full(3, 0.55), elevation=0.35, azimuth=0.25, specular=0.0)
_COLOR = ColorTransform(np.ones(3), np.zeros(3), 1.0)


@dataclass(frozen=True, slots=True)
class GridPose:
    """One picture of the grid: 300W-LP's angles in degrees (positive pitch looks up, yaw to the viewer's left)."""

    pitch_deg: float
    yaw_deg: float

    @property
    def name(self) -> str:
        """What the picture's file is called."""
        return f"pitch{self.pitch_deg:+04.0f}_yaw{self.yaw_deg:+04.0f}"


def florence_poses(*, yaw_step_deg: int = YAW_STEP_DEG) -> list[GridPose]:
    """The protocol's poses, pitch by pitch. Raises ValueError for a step that does not meet both ends and the middle."""
    if yaw_step_deg < 1 or LARGEST_YAW_DEG % yaw_step_deg:
        raise ValueError(
            f"yaw steps of {yaw_step_deg}° do not lead from −80° over 0° to 80°; take 80, 40, 20, 16, 10, 8, 5, 4, 2 or 1"
        )
    yaws = range(-LARGEST_YAW_DEG, LARGEST_YAW_DEG + 1, yaw_step_deg)
    return [GridPose(pitch, float(yaw)) for pitch in PITCHES_DEG for yaw in yaws]


def camera_of(pose: GridPose, vertices: Float[np.ndarray, "v 3"], *, size_px: int) -> ScaledOrthographicCamera:
    """The camera that shows a mesh (mm) in this pose: the middle of its box in the middle of the picture, all of it inside.

    The scale is one for all poses of a mesh. z is 0 at the middle.
    """
    vertices = vertices.astype(np.float64)
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    radius = float(np.linalg.norm(vertices - middle, axis=1).max())
    scale = _FILLS * size_px / (2 * radius)
    rotation = rotation_from_euler(np.radians(pose.pitch_deg), np.radians(pose.yaw_deg), 0.0)
    centre = (size_px - 1) / 2
    at_origin = ScaledOrthographicCamera(scale, rotation, np.zeros(3)).project(middle)
    return ScaledOrthographicCamera(scale, rotation, np.array([centre, centre, 0.0]) - at_origin)


def draw_pose(mesh: PaintedMesh, camera: ScaledOrthographicCamera, *, size_px: int) -> UInt8[np.ndarray, "s s 3"]:
    """The picture: one lamp over the viewer's right shoulder, an even grey behind."""
    background: Float32[np.ndarray, "s s 3"] = np.full((size_px, size_px, 3), BACKGROUND, dtype=np.float32)
    drawn = draw_portrait(mesh, camera=camera, light=_LIGHT, color=_COLOR, background=background)
    return np.rint(np.clip(drawn, 0, 1) * 255).astype(np.uint8)

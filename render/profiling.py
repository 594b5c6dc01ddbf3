"""Face profiling: a photograph and its fit, seen from another side, as 300W-LP was made (Zhu et al. 2016).

The picture becomes a surface: the fitted face with its own depth, and around it the anchors of
:mod:`render.profiling_anchors`. The surface is turned and drawn by the z-buffer with the picture as its texture: what is
carried to each pixel is the place in the source picture that it shows, so a picture that is not turned comes back as it
was, and the labels of the turned one are the model's own projection.

What the papers do about self-occlusion: **turned outward** (a larger yaw, as all of 300W-LP is), a face hides more and
more of itself and shows next to nothing that was not seen before, so next to nothing has to be invented. **Turned the
other way** it shows skin that the photograph does not have: there its mirror image is taken, as in the 2015 paper's
normalisation (:mod:`render.profiling_texture`). `docs/profiling.md` says what is the papers' and what is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt8

from geometry.camera import ScaledOrthographicCamera
from geometry.mesh import vertex_normals
from geometry.rotation import euler_from_rotation, rotation_from_euler
from render.places import picture_at
from render.profiling_anchors import Anchors, place_anchors
from render.profiling_kernel import mark_steps, put_over
from render.profiling_texture import FaceTexture, ProfilingModel
from render.visibility import visible_vertices
from render.zbuffer import RasterBuffers, interpolate, rasterize

_SHOULDERS_MM = 70.0  # below the chin
_STEP_PX = 3.0  # places in the source that neighbouring pixels may lie apart
_FEWEST_INSIDE = 0.15  # of a face's vertices


@dataclass(frozen=True, slots=True)
class TurnedView:
    """A picture from another side, and the camera that its face has there.

    on_face[y, x]: the fitted surface is seen at the pixel, and no surroundings.
    """

    image: UInt8[np.ndarray, "h w 3"]
    camera: ScaledOrthographicCamera
    on_face: Bool[np.ndarray, "h w"]


@dataclass(frozen=True, slots=True)
class MeshedPicture:
    """A picture as a surface, ready to be turned any number of times.

    vertices    (V 3) the face in the model frame (mm), with their normals
    triangles   those of the face that are drawn: shown by the picture, or painted by a substitute
    turning     (m 3) the anchors that turn with the head, in the model frame (mm)
    pivot       (3) the middle of the landmarks' box in the model frame: its pixel stays
    """

    image: UInt8[np.ndarray, "h w 3"]
    camera: ScaledOrthographicCamera
    vertices: Float32[np.ndarray, "v 3"]
    normals: Float32[np.ndarray, "v 3"]
    triangles: Int32[np.ndarray, "t 3"]
    texture: FaceTexture
    anchors: Anchors
    turning: Float[np.ndarray, "m 3"]
    pivot: Float[np.ndarray, "3"]

    @classmethod
    def of(
        cls,
        image: UInt8[np.ndarray, "h w 3"],
        model: ProfilingModel,
        vertices: Float32[np.ndarray, "v 3"],
        camera: ScaledOrthographicCamera,
    ) -> "MeshedPicture":
        """Mesh a picture by its fit: the face's vertices (mm, model frame) and the camera that puts them into it.

        Raises ValueError for a fit that is not in the picture: mostly outside, from behind, mirrored, or not finite.
        """
        size_hw = (image.shape[0], image.shape[1])
        surface = camera.project(vertices)
        _check_fit(surface, camera, size_hw)
        normals = vertex_normals(vertices, model.triangles)
        toward = normals @ camera.rotation[2].astype(np.float32)
        seen = visible_vertices(surface, model.triangles, size_hw=size_hw)
        texture = FaceTexture.of(
            image,
            model,
            surface,
            normals=normals,
            toward=toward,
            seen=seen,
            px_per_mm=camera.scale,
        )
        drawn = ~model.left_out & ((toward > 0) | model.symmetric | (texture.worth > 0))
        triangles = model.triangles[drawn[model.triangles].all(axis=1)]
        chin = vertices[model.chin].astype(np.float64)
        anchors = place_anchors(
            surface,
            triangles,
            below_chin_px=camera.project(np.stack([chin, chin - (0, _SHOULDERS_MM, 0)]))[:, :2],
            px_per_mm=camera.scale,
            size_hw=size_hw,
        )
        affine = camera.image_from_model
        turning = np.linalg.solve(affine[:, :3], (anchors.points_px[anchors.turns] - affine[:, 3]).T).T
        landmarks = vertices[model.landmarks].astype(np.float64)
        pivot = (landmarks.min(axis=0) + landmarks.max(axis=0)) / 2
        return cls(image, camera, vertices, normals, triangles, texture, anchors, turning, pivot)

    def turned(self, *, yaw: float, pitch: float | None = None) -> TurnedView:
        """The picture with the head at `yaw` and `pitch` (radians, absolute; pitch as it is where none is given)."""
        return self.seen_by([turned_camera(self.camera, yaw=yaw, pitch=pitch, pivot=self.pivot)])[0]

    def seen_by(self, cameras: Sequence[ScaledOrthographicCamera]) -> list[TurnedView]:
        """The picture as other cameras see the face; its border stays, so it has no holes.

        A view does not depend on its company; many at once are drawn sooner.
        """
        drawn = np.stack([self._surface(camera) for camera in cameras])
        triangles = np.concatenate([self.triangles, self.anchors.triangles + np.int32(len(self.vertices))])
        buffers = rasterize(drawn, triangles, size_hw=(self.image.shape[0], self.image.shape[1]))
        return [self._painted(camera, buffers[i], triangles) for i, camera in enumerate(cameras)]

    def _surface(self, camera: ScaledOrthographicCamera) -> Float32[np.ndarray, "w 3"]:
        """Face and anchors in the view's pixels; surroundings lie behind the face, so that they never hide it."""
        face = camera.project(self.vertices)
        around = self.anchors.moved(camera.project(self.turning))
        around[:, 2] -= around[:, 2].max() - face[:, 2].min() + 1
        return np.concatenate([face, around.astype(np.float32)])

    def _painted(
        self, camera: ScaledOrthographicCamera, buffers: RasterBuffers, triangles: Int32[np.ndarray, "t 3"]
    ) -> TurnedView:
        places = np.concatenate([self.texture.places, self.anchors.points_px[:, :2].astype(np.float32)])
        shown = interpolate(buffers, places, triangles)
        picture = picture_at(self.image, shown)
        turn = np.arccos(np.clip(camera.rotation[2] @ self.camera.rotation[2], -1, 1))
        share = self.texture.share(self.normals @ camera.rotation[2].astype(np.float32), turn=float(turn))
        if share.any():
            substitutes = np.zeros((len(places), 4), dtype=np.float32)
            substitutes[: len(share)] = np.column_stack([self.texture.colours * share[:, None], share])
            put_over(picture, interpolate(buffers, substitutes, triangles))
        on_face = (buffers.triangle_id >= 0) & (buffers.triangle_id < len(self.triangles))
        return TurnedView(_without_steps(picture, shown), camera, on_face)


def turned_camera(
    camera: ScaledOrthographicCamera, *, yaw: float, pitch: float | None = None, pivot: Float[np.ndarray, "3"]
) -> ScaledOrthographicCamera:
    """The camera with another yaw and pitch (300W-LP's angles, radians; roll stays); `pivot` (mm) keeps its pixel."""
    old_pitch, _, roll = (float(angle) for angle in euler_from_rotation(camera.rotation))
    rotation = rotation_from_euler(old_pitch if pitch is None else pitch, yaw, roll)
    at_origin = ScaledOrthographicCamera(camera.scale, rotation, np.zeros(3)).project(pivot)
    return ScaledOrthographicCamera(camera.scale, rotation, camera.project(pivot) - at_origin)


def _check_fit(surface_px: np.ndarray, camera: ScaledOrthographicCamera, size_hw: tuple[int, int]) -> None:
    if not np.isfinite(surface_px).all():
        raise ValueError("the fitted face has vertices that are not finite; fit it again")
    if camera.scale <= 0:
        raise ValueError(f"the fit's scale is {camera.scale:g} px/mm: a mirrored face cannot be turned; fit it again")
    if camera.rotation[2, 2] <= 0:
        raise ValueError("the fit shows the head from behind: there is no face in the picture to turn")
    x, y = surface_px[:, 0], surface_px[:, 1]
    inside = float(((x >= 0) & (y >= 0) & (x < size_hw[1]) & (y < size_hw[0])).mean())
    if inside < _FEWEST_INSIDE:
        raise ValueError(
            f"only {inside:.0%} of the fitted face lie inside the picture of {size_hw[1]} × {size_hw[0]} pixels: "
            "fit and picture do not belong together, or the face is cut off"
        )


def _without_steps(
    picture: UInt8[np.ndarray, "h w 3"], shown: Float32[np.ndarray, "h w 2"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture smoothed where neighbouring pixels show places far apart: at silhouettes, and where it is squeezed."""
    steps = np.empty(picture.shape[:2], dtype=np.uint8)
    if not mark_steps(shown, np.float32(_STEP_PX), steps):
        return picture
    return cv2.copyTo(cv2.GaussianBlur(picture, (3, 3), 0), steps, picture)

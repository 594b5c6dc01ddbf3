"""Rendered heads to profile: the same head before the same background from any side, its light turning with it."""

from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage
from skimage.metrics import structural_similarity

from geometry.built_in import load_built_in
from geometry.camera import ScaledOrthographicCamera
from geometry.morphable_model import Coefficients
from geometry.rotation import rotation_from_euler
from render.backgrounds import draw_background
from render.portrait import PaintedMesh, draw_portrait
from render.profiling import MeshedPicture
from render.profiling_texture import ProfilingModel
from render.shading import ColorTransform, PhongLight
from render.zbuffer import rasterize

SIZE = 450
LIGHT = PhongLight(np.full(3, 0.6), np.full(3, 0.5), elevation=0.4, azimuth=0.5, specular=0.0)
COLOR = ColorTransform(np.ones(3), np.zeros(3), 1.0)


@dataclass(frozen=True)
class RenderedHead:
    """A head, and the picture of it from `camera`."""

    model: ProfilingModel
    coefficients: Coefficients
    vertices: np.ndarray
    painted: PaintedMesh
    camera: ScaledOrthographicCamera
    background: np.ndarray

    @classmethod
    def of(cls, coefficients: Coefficients, texture: np.ndarray, *, yaw: float, pitch: float, seed: int):
        skin, head = load_built_in(), load_built_in("all")
        rotation = rotation_from_euler(pitch, yaw, 0.05)
        camera = ScaledOrthographicCamera(1.35, rotation, np.array([231.0, 238.0, -40.0]))
        rng = np.random.default_rng(seed)
        return cls(
            ProfilingModel.of(skin),
            coefficients,
            skin.vertices(coefficients),
            PaintedMesh.of(head.vertices(coefficients), head.triangles, texture),
            camera,
            draw_background(rng, size_hw=(SIZE, SIZE)),
        )

    def drawn(self, camera: ScaledOrthographicCamera) -> np.ndarray:
        """The head from another side; the light stays where it lies on the face."""
        x, y, z = camera.rotation @ self.camera.rotation.T @ LIGHT.direction
        light = replace(LIGHT, elevation=float(np.arcsin(np.clip(y, -1, 1))), azimuth=float(np.arctan2(x, z)))
        drawn = draw_portrait(self.painted, camera=camera, light=light, color=COLOR, background=self.background)
        return np.rint(np.clip(drawn, 0, 1) * 255).astype(np.uint8)

    def meshed(self) -> MeshedPicture:
        return MeshedPicture.of(self.drawn(self.camera), self.model, self.vertices, self.camera)

    def face_mask(self, camera: ScaledOrthographicCamera) -> np.ndarray:
        """Pixels that show the face from ear to ear, away from its silhouette by 2 px."""
        triangles = self.model.triangles
        seen = rasterize(camera.project(self.vertices), triangles, size_hw=(SIZE, SIZE))
        of_face = np.append(self.model.symmetric[triangles].all(axis=1), False)
        return scipy.ndimage.binary_erosion(of_face[seen.triangle_id], iterations=2)

    def ssim(self, camera: ScaledOrthographicCamera, picture: np.ndarray) -> float:
        """Structural similarity (Wang et al. 2004) of `picture` to the head drawn from this side, over the visible face."""
        direct = self.drawn(camera)
        _, map_ = structural_similarity(direct, picture, channel_axis=2, full=True)
        return float(map_[self.face_mask(camera)].mean())

"""A lit head before a background: the picture of a mesh under the scaled orthographic camera and 300W-LP's light.

Normals and textures are interpolated to the pixels of a raster twice as fine, lit there, and averaged two by two, so
silhouettes are smooth and highlights do not follow the triangles.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Int32

from geometry.camera import ScaledOrthographicCamera, apply_affine, compose_affine
from geometry.frames import Similarity2D
from geometry.mesh import vertex_normals
from render.shading import ColorTransform, PhongLight, shade
from render.zbuffer import interpolate, rasterize

SUPERSAMPLING = 2


@dataclass(frozen=True, slots=True)
class PaintedMesh:
    """A mesh in the model frame (mm) with what lighting it needs at every vertex.

    `normals` are unit vectors in the model frame; `texture` is colour without light, RGB in 0…255, display-referred.
    """

    vertices: Float32[np.ndarray, "v 3"]
    triangles: Int32[np.ndarray, "t 3"]
    normals: Float32[np.ndarray, "v 3"]
    texture: Float32[np.ndarray, "v 3"]

    @classmethod
    def of(
        cls,
        vertices: Float32[np.ndarray, "v 3"],
        triangles: Int32[np.ndarray, "t 3"],
        texture: Float32[np.ndarray, "v 3"],
    ) -> "PaintedMesh":
        """The mesh with its area-weighted vertex normals."""
        return cls(vertices, triangles, vertex_normals(vertices, triangles), texture)


def draw_portrait(
    mesh: PaintedMesh,
    *,
    camera: ScaledOrthographicCamera,
    light: PhongLight,
    color: ColorTransform,
    background: Float32[np.ndarray, "h w 3"],
) -> Float32[np.ndarray, "h w 3"]:
    """The picture, RGB in [0, 1], as large as `background`, which shows wherever the mesh does not cover a pixel."""
    height, width = background.shape[:2]
    n = SUPERSAMPLING
    # The centre of pixel x lies at n·x + (n − 1)/2 among the finer pixels.
    fine_from_image = Similarity2D.of(scale=float(n), translation_px=((n - 1) / 2, (n - 1) / 2))
    fine_from_model = compose_affine(fine_from_image.affine3d, camera.image_from_model)
    buffers = rasterize(apply_affine(fine_from_model, mesh.vertices), mesh.triangles, size_hw=(n * height, n * width))
    seen = buffers.covered
    surface = interpolate(buffers, np.concatenate([mesh.normals, mesh.texture], axis=1), mesh.triangles)[seen]
    normals = surface[:, :3] @ camera.rotation.T.astype(np.float32)
    fine = np.zeros((*seen.shape, 4), dtype=np.float32)  # the colour, and whether there is one
    fine[seen, :3] = shade(surface[:, 3:], normals, light=light, color=color)
    fine[seen, 3] = 1
    picture = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)  # the mean of each n × n pixels
    return picture[..., :3] + background * (1 - picture[..., 3:])

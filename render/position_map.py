"""Position maps: where every texel of the atlas lies in the crop (PRNet, Feng et al. 2018, sec. 3.1).

A map is **linear** in the face's parameters: ``map = atlas · (crop_from_model · model(coefficients))``. So a family of
pictures that shares its coefficients shares one evaluation of the basis, and augmented copies differ by an affine map.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from geometry.camera import ScaledOrthographicCamera, compose_affine
from geometry.frames import Similarity2D
from render.atlas_raster import AtlasRaster


@dataclass(frozen=True, slots=True)
class PositionMap:
    """xyz (S S 3) in crop pixels at every texel; 0 where `covered` (S S) is False."""

    xyz: Float32[np.ndarray, "s s 3"]
    covered: Bool[np.ndarray, "s s"]


def crop_from_model(camera: ScaledOrthographicCamera, crop_from_image: Similarity2D) -> Float[np.ndarray, "3 4"]:
    """The affine map from model millimetres to crop pixels. Depth is multiplied by the similarity's scale √|det|."""
    crop = np.eye(4)
    crop[:3] = crop_from_image.affine3d
    return compose_affine(crop[:3], camera.image_from_model)


def with_depth_offset(
    affine: Float[np.ndarray, "3 4"], vertices: Float[np.ndarray, "v 3"]
) -> tuple[Float[np.ndarray, "3 4"], float]:
    """`affine` moved along z so that the farthest of `vertices` lies at 0, and the z that was taken off (pixels).

    PRNet's labels have their minimum at 0. The offset is stored with the sample: texels alone do not give it back.
    """
    row = affine[2].astype(np.float32)
    offset = float((vertices @ row[:3]).min()) + float(affine[2, 3])
    moved = affine.copy()
    moved[2, 3] -= offset
    return moved, offset


def position_map(
    raster: AtlasRaster, vertices: Float[np.ndarray, "v 3"], affine: Float[np.ndarray, "3 4"]
) -> PositionMap:
    """The position map of one face: `vertices` in the model frame, `affine` = crop_from_model."""
    return PositionMap(raster.apply(vertices, affine), raster.covered)


def decode_position_maps(
    raster: AtlasRaster,
    vertices: Float[np.ndarray, "n v 3"],
    affines: Float[np.ndarray, "n 3 4"],
    *,
    mirrored: Bool[np.ndarray, " n"] | None = None,
    mirror: Int[np.ndarray, " v"] | None = None,
) -> Float32[np.ndarray, "n s s 3"]:
    """The maps of a batch. Mirrored samples carry the vertices of the other side of the face (mirrored UV).

    Raises ValueError when samples are mirrored and the model has no mirror map.
    """
    if mirrored is not None and mirrored.any():
        if mirror is None:
            raise ValueError("mirrored samples need the model's mirror map, and this model has none")
        maps = raster.apply(vertices, affines)
        maps[mirrored] = raster.mirrored(mirror).apply(vertices[mirrored], affines[mirrored])
        return maps
    return raster.apply(vertices, affines)

"""Masks of the atlas: regions, the face, the landmarks' texels, and how much each texel counts.

PRNet's loss (Feng et al. 2018, sec. 3.2, fig. 4) counts 68 landmarks : eyes, nose, mouth : rest of the face : neck as
16 : 4 : 3 : 0. The mask published with PRNet's code gives the neck 3, not 0; ``compat="prnet"`` reproduces how that
file was made.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int

from geometry.morphable_model import REGION_NAMES, MorphableModel
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, nearest_texels

LANDMARK_WEIGHT, FEATURE_WEIGHT, FACE_WEIGHT = 16.0, 4.0, 3.0
FEATURES = ("eyes", "nose", "mouth")
OUTSIDE_FACE = ("neck", "other")


def region_map(model: MorphableModel, raster: AtlasRaster) -> Int[np.ndarray, "s s"]:
    """The region (index into REGION_NAMES) of the vertex that counts most in each texel; −1 where uncovered."""
    strongest = np.take_along_axis(raster.corners, raster.weights.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return np.where(raster.covered, model.regions[strongest].astype(np.int64), -1)


def face_mask(model: MorphableModel, raster: AtlasRaster) -> Bool[np.ndarray, "s s"]:
    """The texels of the face: covered, and neither neck nor outside."""
    return ~np.isin(region_map(model, raster), [-1, *_indices(OUTSIDE_FACE)])


def landmark_texels(model: MorphableModel, atlas: UVAtlas, raster: AtlasRaster) -> Int[np.ndarray, "68 2"]:
    """(x, y) of the covered texel nearest to each landmark: PRNet's `uv_kpt_ind.txt`, whose row 0 is x and row 1 is y.

    Two landmarks may share a texel where the atlas gives them little room. Raises ValueError when nothing is covered.
    """
    if not raster.covered.any():
        raise ValueError(f"the atlas covers none of its {raster.size} × {raster.size} texels: choose a larger size")
    texels = nearest_texels(atlas.uv[model.landmark_vertices], raster.size)
    x, y = texels.T
    for p in np.flatnonzero(~raster.covered[y, x]):  # a landmark on the rim of the atlas may lie beside the raster
        candidates = np.argwhere(raster.covered)[:, ::-1]
        texels[p] = candidates[((candidates - texels[p]) ** 2).sum(axis=1).argmin()]
    return texels


def weight_mask(
    model: MorphableModel,
    atlas: UVAtlas,
    size: int,
    *,
    raster: AtlasRaster | None = None,
    compat: Literal["prnet"] | None = None,
) -> Float32[np.ndarray, "s s"]:
    """The weight of each texel; 0 where the atlas is uncovered. `raster` is the atlas at `size`, where it is at hand.

    With ``compat="prnet"``: ⌊16 · mean over the covering triangle's corners of the vertices' weights⌋ / 16, the neck
    counting as face, and 255/16 at the landmarks' texels, as in `uv_weight_mask.png` divided by 16.
    Raises ValueError for a raster of another size.
    """
    raster = AtlasRaster(atlas, size) if raster is None else raster
    if raster.size != size:
        raise ValueError(
            f"a mask of {size} × {size} texels cannot be made from a raster of {raster.size}: give one size"
        )
    x, y = landmark_texels(model, atlas, raster).T
    if compat == "prnet":
        levels = np.where(raster.covered, np.floor(16 * _vertex_weights(model)[raster.corners].mean(axis=-1)), 0)
        levels[y, x] = 256
        return (np.minimum(levels, 255) / 16).astype(np.float32)  # one byte of a picture holds 255, not 256
    weights = np.zeros(raster.covered.shape, dtype=np.float32)
    weights[face_mask(model, raster)] = FACE_WEIGHT
    weights[np.isin(region_map(model, raster), _indices(FEATURES))] = FEATURE_WEIGHT
    weights[y, x] = LANDMARK_WEIGHT
    return weights


def _vertex_weights(model: MorphableModel) -> np.ndarray:
    """The published weight of every vertex, which knows no neck."""
    weights = np.full(model.n_vertices, FACE_WEIGHT)
    weights[np.isin(model.regions, _indices(FEATURES))] = FEATURE_WEIGHT
    weights[model.landmark_vertices] = LANDMARK_WEIGHT
    return weights


def _indices(names: tuple[str, ...]) -> list[int]:
    return [REGION_NAMES.index(name) for name in names]

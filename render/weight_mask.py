"""PRNet's weight mask: how much each texel counts in the loss (Feng et al. 2018, sec. 3.2, fig. 4).

68 landmarks : eyes, nose, mouth : rest of the face : neck = 16 : 4 : 3 : 0. The mask published with PRNet's code gives
the neck 3, not 0; ``compat="prnet"`` reproduces how that file was made.
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
    return ~np.isin(region_map(model, raster), [-1, *map(REGION_NAMES.index, OUTSIDE_FACE)])


def weight_mask(
    model: MorphableModel,
    atlas: UVAtlas,
    size: int,
    *,
    raster: AtlasRaster | None = None,
    compat: Literal["prnet"] | None = None,
) -> Float32[np.ndarray, "s s"]:
    """The weight of each texel; 0 where the atlas is uncovered.

    With ``compat="prnet"``: ⌊16 · mean over the covering triangle's corners of the vertices' weights⌋ / 16, the neck
    counting as face, and 255/16 at the landmarks' texels, as in `uv_weight_mask.png` divided by 16.
    """
    raster = AtlasRaster.of(atlas, size) if raster is None else raster
    if compat == "prnet":
        return _published_mask(model, atlas, raster)
    regions = region_map(model, raster)
    weights = np.zeros(raster.covered.shape, dtype=np.float32)
    weights[face_mask(model, raster)] = FACE_WEIGHT
    weights[np.isin(regions, [REGION_NAMES.index(name) for name in FEATURES])] = FEATURE_WEIGHT
    x, y = nearest_texels(atlas.uv[model.landmark_vertices], size).T
    weights[y, x] = LANDMARK_WEIGHT
    return weights


def _published_mask(model: MorphableModel, atlas: UVAtlas, raster: AtlasRaster) -> Float32[np.ndarray, "s s"]:
    per_vertex = np.full(model.n_vertices, FACE_WEIGHT)
    per_vertex[np.isin(model.regions, [REGION_NAMES.index(name) for name in FEATURES])] = FEATURE_WEIGHT
    per_vertex[model.landmark_vertices] = LANDMARK_WEIGHT
    levels = np.where(raster.covered, np.floor(16 * per_vertex[raster.corners].mean(axis=-1)), 0)
    x, y = nearest_texels(atlas.uv[model.landmark_vertices], raster.size).T
    levels[y, x] = 255
    return (np.minimum(levels, 255) / 16).astype(np.float32)

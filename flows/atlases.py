"""Which UV atlas a build lays its model flat by."""

import numpy as np

from flows.config import PosmapConfig
from geometry.mesh import Mesh
from geometry.morphable_model import MorphableModel
from geometry.uv import UVAtlas


def choose_atlas(model: MorphableModel, config: PosmapConfig) -> UVAtlas:
    """The model's own atlas, or a conformal Tutte map on the square (as PRNet's BFM_UV), closed at mouth and eyes."""
    if config.atlas == "own" and model.uv is None:
        raise ValueError(
            f"{model.name} brings no UV atlas of its own; give BFM_UV.mat beside it, or choose --atlas tutte"
        )
    if config.atlas != "tutte" and model.uv is not None:
        return own_atlas(model)
    from geometry.unwrap import tutte

    mesh = Mesh(model.mean_shape.astype(np.float64), model.triangles)
    return tutte(mesh)


def own_atlas(model: MorphableModel) -> UVAtlas:
    """The atlas that the model brings. Raises ValueError where it brings none."""
    if model.uv is None:
        raise ValueError(f"{model.name} brings no UV atlas of its own; give BFM_UV.mat beside it")
    return UVAtlas(model.uv.astype(np.float64), np.concatenate([model.triangles, model.closing_triangles]))

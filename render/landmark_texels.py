"""Reading landmarks from a position map, closer than between four texels.

At the corners of mouth and eyes the skin folds within a texel or two, and a bilinear reading lands beside the landmark
by more than a pixel. The model knows better: which mixture of the texels around a landmark *is* the landmark, for the
mean face and for every mode. Weights are not negative and sum to one, so a reading stays inside what the texels span
and the noise of a predicted map is averaged, never amplified.
"""

import numpy as np
from jaxtyping import Float

from geometry.frames import texel_from_uv
from geometry.morphable_model import LinearRows, MorphableModel
from render.atlas_raster import AtlasRaster, TexelSampler

REACH_TEXELS = 3
"""The neighbourhood is this many texels to each side: 6 × 6."""

_SUM_WEIGHT_MM = 1e4  # holds the sum of the weights to one as an equation among millimetres


def landmark_sampler(model: MorphableModel, raster: AtlasRaster, uv: Float[np.ndarray, "68 2"]) -> TexelSampler:
    """The sampler of the model's 68 landmarks, which lie at `uv`: non-negative least squares over mean and modes.

    Raises ValueError when a landmark has no covered texel around it.
    """
    from scipy.optimize import nnls  # here: a fifth of a second that readers and workers need not spend

    reach = min(REACH_TEXELS, raster.size // 2)
    low = np.clip(np.floor(texel_from_uv(uv, raster.size)).astype(np.int64) - (reach - 1), 0, raster.size - 2 * reach)
    offsets = np.arange(2 * reach)
    shape = (len(uv), 2 * reach, 2 * reach)
    rows = np.broadcast_to(low[:, 1, None, None] + offsets[:, None], shape).reshape(len(uv), -1)
    columns = np.broadcast_to(low[:, 0, None, None] + offsets, shape).reshape(len(uv), -1)
    at_texels = _in_stddevs(model, model.rows(raster.points(rows.ravel(), columns.ravel())))
    at_texels = at_texels.reshape(*rows.shape, -1)  # (p k 3·(1 + modes))
    at_landmarks = _in_stddevs(model, model.rows(model.landmarks)).reshape(len(uv), -1)

    weights = np.zeros(rows.shape)
    for p, (texels, landmark) in enumerate(zip(at_texels, at_landmarks, strict=True)):
        covered = raster.covered[rows[p], columns[p]]
        if not covered.any():
            raise ValueError(
                f"landmark {p} of {model.name} lies where the atlas covers no texel at {raster.size} × {raster.size}: "
                "choose a larger size, or another atlas"
            )
        differences = np.vstack([(texels[covered] - landmark).T, np.full(covered.sum(), _SUM_WEIGHT_MM)])
        goal = np.concatenate([np.zeros(len(landmark)), [_SUM_WEIGHT_MM]])
        found, _ = nnls(differences, goal)
        weights[p, covered] = found / found.sum()
    return TexelSampler(rows, columns, weights)


def _in_stddevs(model: MorphableModel, rows: LinearRows) -> Float[np.ndarray, "p 3 m"]:
    """Mean and modes at one standard deviation, side by side: how far a point moves, in millimetres."""
    identity = rows.identity * model.identity_stddevs
    return np.concatenate([rows.mean[..., None], identity, rows.expression * model.expression_stddevs], axis=-1)

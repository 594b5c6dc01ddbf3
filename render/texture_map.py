"""The photograph carried into the atlas: the colour of each texel, and which texels the photograph shows."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from render.sampling import sample_bilinear


@dataclass(frozen=True, slots=True)
class TextureMap:
    """Colours (S S 3) of the texels, as in the photograph and lit as there; 0 where `visible` (S S) is False."""

    colors: UInt8[np.ndarray, "s s 3"]
    visible: Bool[np.ndarray, "s s"]


def texture_map(
    picture: UInt8[np.ndarray, "h w 3"], xyz: Float32[np.ndarray, "s s 3"], visible: Bool[np.ndarray, "s s"]
) -> TextureMap:
    """Read the picture where a position map says that each texel lies, bilinear.

    `xyz` is the position map in the picture's pixels, `visible` what :func:`render.visibility.visible_texels` finds.
    Raises ValueError for a visible texel outside the picture.
    """
    colors = np.zeros((*visible.shape, 3), dtype=np.uint8)
    sampled = sample_bilinear(picture, xyz[visible][:, :2])
    if np.isnan(sampled).any():
        raise ValueError(
            "a texel that counts as visible lies outside the picture: position map, visibility and picture must share "
            "one frame (a crop's map belongs to the crop)"
        )
    colors[visible] = np.rint(sampled).astype(np.uint8)
    return TextureMap(colors, visible)

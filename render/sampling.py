"""Reading pictures between pixels."""

import numpy as np
from jaxtyping import Float, Float32, Num

_SLACK_PX = 0.5  # a pixel's area reaches half a pixel beyond the centres at the border


def sample_bilinear(
    picture: Num[np.ndarray, "h w c"], places_px: Float[np.ndarray, "*p 2"]
) -> Float32[np.ndarray, "*p c"]:
    """The picture at places (x, y), bilinear between pixel centres, exactly (OpenCV rounds weights to 1/32).

    Between the outermost centres and the picture's border the outermost pixels go on; farther out there is NaN.
    """
    height, width = picture.shape[:2]
    x, y = places_px[..., 0].astype(np.float64), places_px[..., 1].astype(np.float64)
    inside = (x >= -_SLACK_PX) & (x <= width - 1 + _SLACK_PX) & (y >= -_SLACK_PX) & (y <= height - 1 + _SLACK_PX)
    x, y = (np.clip(np.where(inside, value, 0), 0, size - 1) for value, size in ((x, width), (y, height)))
    left, top = np.minimum(x.astype(np.int64), max(width - 2, 0)), np.minimum(y.astype(np.int64), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = ((value - low)[..., None].astype(np.float32) for value, low in ((x, left), (y, top)))
    upper = picture[top, left] * (1 - fx) + picture[top, right] * fx
    lower = picture[bottom, left] * (1 - fx) + picture[bottom, right] * fx
    values = upper * (1 - fy) + lower * fy
    return np.where(inside[..., None], values, np.float32(np.nan)).astype(np.float32)

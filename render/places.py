"""A picture's colours at given places, by OpenCV; beyond its border they are the border's."""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

_ROW = 1024  # places in a row; OpenCV takes 32,766 at most


def picture_at(image: UInt8[np.ndarray, "h w 3"], places: Float32[np.ndarray, "i j 2"]) -> UInt8[np.ndarray, "i j 3"]:
    """The picture that shows at each pixel the place (x, y) of `image`: cubic (Keys 1981, a = −0.75), to 1/32 px."""
    return cv2.remap(image, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]


def colours_at(image: UInt8[np.ndarray, "h w 3"], places: Float32[np.ndarray, "v 2"]) -> UInt8[np.ndarray, "v 3"]:
    """The colours at any number of places (x, y), bilinear."""
    rows = np.zeros((-(-len(places) // _ROW) * _ROW, 2), dtype=np.float32)
    rows[: len(places)] = places
    found = cv2.remap(  # type: ignore[call-overload]
        image, rows.reshape(-1, _ROW, 2), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.ascontiguousarray(found.reshape(-1, 3)[: len(places)])

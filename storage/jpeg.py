"""Pictures of our own making as JPEG files: fixed settings, so that the same picture gives the same bytes."""

import cv2
import numpy as np
from jaxtyping import UInt8

QUALITY = 92


def encode_jpeg(picture: UInt8[np.ndarray, "h w 3"], quality: int = QUALITY) -> bytes:
    """RGB as JPEG, colour at half resolution as OpenCV has it by default."""
    done, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:  # what there is then is the picture's beginning
        raise RuntimeError(f"OpenCV could not encode a picture of shape {picture.shape} as JPEG")
    return data.tobytes()


def decode_jpeg(content: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The RGB picture of a JPEG that this project wrote; for others' files see :mod:`storage.images`.

    Raises ValueError when it is damaged.
    """
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{len(content)} bytes that are no picture: the file was damaged after it was written")
    return picture[:, :, ::-1]

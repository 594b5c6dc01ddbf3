"""What happens between the lens and the file: softness, noise that grows with the light, loss of colour."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8


@dataclass(frozen=True, slots=True)
class Sensor:
    """What happens between the lens and the file: `shot` and `read` noise are standard deviations over 1."""

    blur_px: float
    shot: float
    read: float
    grey: bool

    def develop(self, picture: Float32[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
        """The picture as bytes: a little soft, brighter parts noisier."""
        soft = cv2.GaussianBlur(picture, (0, 0), self.blur_px)
        spread = np.sqrt(np.float32(self.read**2) + np.float32(self.shot**2) * soft)
        noisy = soft + spread * rng.standard_normal(soft.shape, dtype=np.float32)
        if self.grey:
            noisy = np.repeat(noisy @ np.array([0.299, 0.587, 0.114], np.float32)[:, None], 3, axis=2)
        return cv2.convertScaleAbs(np.maximum(noisy, 0), alpha=255.0)

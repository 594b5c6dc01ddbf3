"""The scaled orthographic camera (the papers' weak perspective)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_Y_DOWN = np.diag([1.0, -1.0, 1.0])


@dataclass(frozen=True, slots=True)
class ScaledOrthographicCamera:
    """scale · R · x + t from the model frame (millimetres, y up) to the image frame (pixels, y down).

    ``x = s·(R v)_x + t_x``, ``y = t_y − s·(R v)_y``, ``z = s·(R v)_z + t_z``: z stays toward the viewer.
    `scale` (pixels per millimetre) may be negative: one real AFLW2000-3D file has such a fit, so never take its logarithm.
    """

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation_px: Float[np.ndarray, "3"]

    @property
    def image_from_model(self) -> Float[np.ndarray, "3 4"]:
        """The affine map on (x, y, z, 1) in millimetres to pixels, y down."""
        return np.concatenate([self.scale * (_Y_DOWN @ self.rotation), self.translation_px[:, None]], axis=1)

    def project(self, vertices: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Model-frame points (mm) as image-frame points (px)."""
        return apply_affine(self.image_from_model, vertices)


def compose_affine(
    second: Float[np.ndarray, "*n 3 4"], first: Float[np.ndarray, "*n 3 4"]
) -> Float[np.ndarray, "*n 3 4"]:
    """The affine map that does `first`, then `second`."""
    linear = second[..., :, :3] @ first[..., :, :3]
    translation = (second[..., :, :3] @ first[..., :, 3:])[..., 0] + second[..., :, 3]
    return np.concatenate([linear, translation[..., None]], axis=-1)


def apply_affine(affine: Float[np.ndarray, "3 4"], points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """``A·p + b`` for every point."""
    return points @ affine[:, :3].T.astype(points.dtype) + affine[:, 3].astype(points.dtype)

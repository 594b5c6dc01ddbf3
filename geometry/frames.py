"""The coordinate frames, and the similarities that lead from one picture to another.

Every convention of the project stands here once.

======  ==============================================================================================
model   the morphable model's own axes, millimetres: x to the viewer's right, y up, z toward the viewer
image   pixels of the photograph: x right, y down, z toward the viewer, integers at pixel centres
crop    the same in the cropped picture that a network sees
texel   the same in the UV atlas: ``texel = uv * (size - 1)`` with v flipped (PRNet's layout)
======  ==============================================================================================

The first pixel of a picture is (0, 0), as in OpenCV and scikit-image, and arrays are always ``[row = y, column = x]``.
Image and crop frames are left-handed (x right, y down, z toward the viewer), as in the position maps of Feng et al. 2018.
A transform is called ``target_from_source``, so that ``crop_from_image @ image_from_model`` reads like cancelling units.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, slots=True)
class Similarity2D:
    """A rotation, translation and uniform scale of the picture plane, mirrored or not.

    ``matrix[:2] @ (x, y, 1)`` is the moved point. Depth moves along: z is multiplied by :attr:`scale`, which is
    √|det|, never ``matrix[0, 0]`` (that is s·cosθ, the mistake of most published augmentations).
    """

    matrix: Float[np.ndarray, "3 3"]

    def __post_init__(self) -> None:
        """Refuse what is not a similarity: shear, unequal scales, a projective row, NaN."""
        matrix = np.asarray(self.matrix, dtype=np.float64)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or matrix[2].tolist() != [0.0, 0.0, 1.0]:
            raise ValueError(f"a similarity is a finite 3×3 matrix with last row (0, 0, 1), not\n{matrix}")
        (a, b), (c, d) = matrix[:2, :2].tolist()
        size = a * a + b * b
        if size <= 0 or abs(size - c * c - d * d) > 1e-6 * size or abs(a * c + b * d) > 1e-6 * size:
            raise ValueError(f"shear or unequal scales do not keep faces in shape; not a similarity:\n{matrix}")
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def of(
        cls, *, scale: float = 1.0, angle: float = 0.0, translation_px: tuple[float, float] = (0.0, 0.0)
    ) -> "Similarity2D":
        """Scale and turn about the first pixel's centre by `angle` (radians, from x toward y), then translate."""
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        return cls(np.array([[c, -s, translation_px[0]], [s, c, translation_px[1]], [0.0, 0.0, 1.0]]))

    @classmethod
    def mirror(cls, width: int) -> "Similarity2D":
        """The horizontal mirror of a picture `width` pixels wide: x' = width − 1 − x."""
        return cls(np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))

    @property
    def scale(self) -> float:
        """Pixels of the target for one pixel of the source: √|det|."""
        (a, b), (c, d) = self.matrix[:2, :2].tolist()
        return float(np.sqrt(abs(a * d - b * c)))

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right change sides."""
        (a, b), (c, d) = self.matrix[:2, :2].tolist()
        return bool(a * d < b * c)

    @property
    def inverse(self) -> "Similarity2D":
        """The way back: ``inverse @ self`` is the identity."""
        linear = np.linalg.inv(self.matrix[:2, :2])
        matrix = np.eye(3)
        matrix[:2, :2], matrix[:2, 2] = linear, -linear @ self.matrix[:2, 2]
        return Similarity2D(matrix)

    @property
    def affine3d(self) -> Float[np.ndarray, "3 4"]:
        """The same as a matrix on (x, y, z, 1): z is multiplied by the scale."""
        affine = np.zeros((3, 4))
        affine[:2, :2], affine[:2, 3], affine[2, 2] = (self.matrix[:2, :2], self.matrix[:2, 2], self.scale)
        return affine

    def __matmul__(self, first: "Similarity2D") -> "Similarity2D":
        """``(a @ b).apply(p) == a.apply(b.apply(p))``."""
        return Similarity2D(self.matrix @ first.matrix)

    def apply(self, points: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
        """Move points (… 2) or (… 3), x and y in pixels; a third coordinate is multiplied by the scale."""
        if points.shape[-1] == 2:
            return points @ self.matrix[:2, :2].T + self.matrix[:2, 2]
        affine = self.affine3d
        return points @ affine[:, :3].T + affine[:, 3]


def nearest_similarity(
    source: Float[np.ndarray, "p 2"], target: Float[np.ndarray, "p 2"], weights: Float[np.ndarray, " p"] | None = None
) -> tuple[Float[np.ndarray, "2 2"], Float[np.ndarray, "2"]]:
    """The scaled rotation and the shift that bring `source` nearest to `target` (least squares), never mirrored.

    `source` must not be a point. Where the target is one, or the mirror image, the scale is 0: :class:`Similarity2D` refuses it.
    """
    share = np.full(len(source), 1 / len(source)) if weights is None else weights / weights.sum()
    from_middle, to_middle = share @ source, share @ target
    p, q = source - from_middle, target - to_middle
    # A similarity is one complex number a: q = a·p, and the best one is Σ w p̄·q / Σ w |p|².
    spread = share @ (p**2).sum(axis=1)
    real = share @ (p * q).sum(axis=1) / spread
    imaginary = share @ (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]) / spread
    linear = np.array([[real, -imaginary], [imaginary, real]])
    return linear, to_middle - linear @ from_middle


def texel_from_uv(uv: Float[np.ndarray, "*n 2"], size: int) -> Float[np.ndarray, "*n 2"]:
    """Texel coordinates (x right, y down) of UV coordinates in [0, 1] (v up) in an atlas of `size` × `size` texels.

    ``x = u·(S − 1)``, ``y = (S − 1) − v·(S − 1)``: the layout of PRNet's published index files.
    """
    return np.stack([uv[..., 0] * (size - 1), (1.0 - uv[..., 1]) * (size - 1)], axis=-1)


def uv_from_texel(texel: Float[np.ndarray, "*n 2"], size: int) -> Float[np.ndarray, "*n 2"]:
    """The inverse of :func:`texel_from_uv`."""
    return np.stack([texel[..., 0] / (size - 1), 1.0 - texel[..., 1] / (size - 1)], axis=-1)

"""The light of 300W-LP: Phong's model as the set's own renderer has it, from the parameters that its files store.

With n the unit normal in the camera's axes (x right, y up, z toward the viewer), tex the texture in 0…255::

    l = (cosθ·sinφ, sinθ, cosθ·cosφ)              h = (l + (0, 0, 1)) / |l + (0, 0, 1)|
    L = amb·tex + dir·max(l·n, 0)·tex + k_s·dir·max(h·n, 0)^v
    colour = gain·(c·I + (1 − c)·M)·L + offset     every row of M = (0.3, 0.59, 0.11)

then divided by 255 and held in [0, 1]. Values are display-referred (gamma stays in the texture), as in the original.
The formula is point-wise: give it vertices, or the normals and textures interpolated to pixels, which looks better
because highlights and the edge of shadow then do not follow the triangles.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_GREY = np.array([0.3, 0.59, 0.11])


@dataclass(frozen=True, slots=True)
class PhongLight:
    """Ambient light and one lamp, in the order of Illum_Para.

    `ambient` and `directional` are factors on the texture; `elevation` θ and `azimuth` φ (radians) are where the lamp
    stands: up, and to the picture's right. `specular` k_s is in levels of 255, `shininess` v is 20 throughout 300W-LP.
    """

    ambient: Float[np.ndarray, "3"]
    directional: Float[np.ndarray, "3"]
    elevation: float
    azimuth: float
    specular: float
    shininess: float = 20.0

    @classmethod
    def from_illum_para(cls, values: Float[np.ndarray, "10"]) -> "PhongLight":
        """The light that a file's Illum_Para describes."""
        elevation, azimuth, specular, shininess = (float(value) for value in values[6:])
        return cls(values[:3], values[3:6], elevation, azimuth, specular, shininess)

    @property
    def illum_para(self) -> Float[np.ndarray, "10"]:
        """The ten numbers as 300W-LP stores them."""
        rest = (self.elevation, self.azimuth, self.specular, self.shininess)
        return np.concatenate([self.ambient, self.directional, rest]).astype(np.float64)

    @property
    def direction(self) -> Float[np.ndarray, "3"]:
        """The unit vector l toward the lamp."""
        cos_elevation = np.cos(self.elevation)
        return np.array(
            [cos_elevation * np.sin(self.azimuth), np.sin(self.elevation), cos_elevation * np.cos(self.azimuth)]
        )

    @property
    def mirrored(self) -> "PhongLight":
        """The light of the mirrored picture: the lamp stands on the other side."""
        return PhongLight(self.ambient, self.directional, self.elevation, -self.azimuth, self.specular, self.shininess)


@dataclass(frozen=True, slots=True)
class ColorTransform:
    """What the exposure did to the colours, in the order of Color_Para: gain, offset (levels), contrast."""

    gain: Float[np.ndarray, "3"]
    offset: Float[np.ndarray, "3"]
    contrast: float

    @classmethod
    def from_color_para(cls, values: Float[np.ndarray, "7"]) -> "ColorTransform":
        """The transform that a file's Color_Para describes."""
        return cls(values[:3], values[3:6], float(values[6]))

    @property
    def color_para(self) -> Float[np.ndarray, "7"]:
        """The seven numbers as 300W-LP stores them."""
        return np.concatenate([self.gain, self.offset, [self.contrast]]).astype(np.float64)

    @property
    def matrix(self) -> Float[np.ndarray, "3 3"]:
        """gain·(c·I + (1 − c)·M), on columns (r, g, b)."""
        mixing = self.contrast * np.eye(3) + (1 - self.contrast) * np.tile(_GREY, (3, 1))
        return np.asarray(self.gain, np.float64)[:, None] * mixing


def shade(
    texture: Float[np.ndarray, "*n 3"], normals: Float[np.ndarray, "*n 3"], *, light: PhongLight, color: ColorTransform
) -> Float[np.ndarray, "*n 3"]:
    """Lit colours in [0, 1] of points with `texture` in 0…255 and `normals` (of any length) in the camera's axes.

    Points without a normal (length zero) get ambient light alone. The result has the texture's dtype.
    """
    dtype = texture.dtype
    length = np.sqrt(np.einsum("...k,...k->...", normals, normals))
    per_length = np.where(length > 0, 1 / np.where(length > 0, length, 1), 0)
    halfway = light.direction + (0.0, 0.0, 1.0)
    halfway /= max(float(np.linalg.norm(halfway)), 1e-12)  # zero when the lamp stands exactly behind the face
    directions = np.stack([light.direction, halfway], axis=1).astype(dtype)
    facing_lamp, facing_halfway = np.moveaxis(normals @ directions, -1, 0) * per_length
    diffuse = np.maximum(facing_lamp, 0)
    highlight = np.where(facing_halfway > 0, np.maximum(facing_halfway, 0) ** dtype.type(light.shininess), 0)
    ambient, directional = light.ambient.astype(dtype), light.directional.astype(dtype)
    radiance = (ambient + diffuse[..., None] * directional) * texture
    radiance += highlight[..., None] * (light.specular * light.directional).astype(dtype)
    colour = radiance @ color.matrix.T.astype(dtype) + color.offset.astype(dtype)
    return np.clip(colour / dtype.type(255), 0, 1)

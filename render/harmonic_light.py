"""Light from all sides as spherical harmonics of order 2: nine numbers for each colour (Ramamoorthi and Hanrahan 2001).

The radiance that arrives from direction d is ``L(d) = Σ L_lm·Y_lm(d)``; a matt surface with normal n answers to
``E(n) = Σ A_l·L_lm·Y_lm(n)`` with A = (π, 2π/3, π/4), their eq. 8; nine numbers leave an average error of about 1 % in
natural light (their abstract). Directions are in camera axes: x right, y up, z toward the viewer.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

N_HARMONICS = 9

_CONSTANTS = np.array([0.282095, *[0.488603] * 3, 1.092548, 1.092548, 0.315392, 1.092548, 0.546274])
"""Of Y_00, Y_1−1, Y_10, Y_11, Y_2−2, Y_2−1, Y_20, Y_21, Y_22, for the polynomials of :func:`harmonics`."""

_BANDS = np.array([0, 1, 1, 1, 2, 2, 2, 2, 2])
_COSINE = np.array([np.pi, 2 * np.pi / 3, np.pi / 4])[_BANDS]
_SOFTENING = np.array([1.0, 0.85, 0.5])[_BANDS]


def harmonics(directions: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 9"]:
    """The nine real harmonics Y_lm of unit `directions`, in the order y, z, x; xy, yz, 3z² − 1, xz, x² − y²."""
    x, y, z = np.moveaxis(directions, -1, 0)
    polynomials = [np.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y]
    return np.stack(polynomials, axis=-1) * _CONSTANTS


@dataclass(frozen=True, slots=True)
class HarmonicLight:
    """`radiance[lm, k]` is L_lm of colour k, linear. The brightest lamp of which it is made leaves a highlight.

    `lamp` is the unit vector toward that lamp, and `highlight` its colour (linear); both are there because order 2 is far
    too smooth for what eyes and wet lips mirror.
    """

    radiance: Float[np.ndarray, "9 3"]
    lamp: Float[np.ndarray, "3"]
    highlight: Float[np.ndarray, "3"]

    @property
    def irradiance_polynomial(self) -> Float[np.ndarray, "9 3"]:
        """Coefficients of the polynomials of :func:`harmonics` for E(n)/π: what a white matt surface shows."""
        return self.radiance * (_COSINE * _CONSTANTS / np.pi)[:, None]

    @property
    def radiance_polynomial(self) -> Float[np.ndarray, "9 3"]:
        """Coefficients for L(d) itself: what a mirror shows."""
        return self.radiance * _CONSTANTS[:, None]

    def irradiance(self, normals: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """E(n)/π at unit `normals`; never negative."""
        return np.maximum(harmonics(normals) @ (self.radiance * (_COSINE / np.pi)[:, None]), 0)


def flat_light(colour: Float[np.ndarray, "3"]) -> HarmonicLight:
    """The same light from everywhere."""
    radiance = np.zeros((N_HARMONICS, 3))
    radiance[0] = colour / _CONSTANTS[0]
    return HarmonicLight(radiance, np.array([0.0, 0.0, 1.0]), np.zeros(3))


def draw_harmonic_light(rng: np.random.Generator, *, contrast: float, brightness: float, tint: float) -> HarmonicLight:
    """A lamp before the face, up to two others anywhere, a sky and a floor.

    `contrast` in [0, 1] is the lamps' share of the light, `brightness` the mean of E/π over normals toward the viewer,
    `tint` the spread of colour temperature (0: all white).
    """
    sky = _tinted(rng, tint)
    floor = _tinted(rng, tint) * rng.uniform(0.25, 0.8)
    radiance = np.zeros((N_HARMONICS, 3))
    radiance[0] = (sky + floor) / 2 / _CONSTANTS[0]
    radiance[1] = (sky - floor) / 2 / _CONSTANTS[1]
    azimuth, elevation = rng.normal(0, 0.9), rng.uniform(-0.15, 1.0)
    main = _direction(np.clip(azimuth, -2.2, 2.2), elevation)
    colour = _tinted(rng, tint)
    lamps = [(main, colour, 1.0)]
    for _ in range(rng.integers(0, 3)):
        lamps.append(
            (_direction(rng.uniform(-np.pi, np.pi), rng.uniform(-0.4, 1.2)), _tinted(rng, tint), rng.uniform(0.1, 0.7))
        )
    share = contrast / max(1 - contrast, 0.05)
    for direction, tone, power in lamps:
        # 2.3 makes a lamp of power 1 and the sky alike in strength where the lamp stands before the surface
        radiance += 2.3 * share * power * np.outer(harmonics(direction) * _SOFTENING, tone) * np.pi / 2
    light = HarmonicLight(radiance, main, np.zeros(3))
    toward_viewer = np.array([_direction(a, e) for a in (-0.6, 0.0, 0.6) for e in (-0.5, 0.0, 0.5)])
    factor = brightness / max(float(light.irradiance(toward_viewer).mean()), 1e-6)
    return HarmonicLight(radiance * factor, main, colour * brightness * (0.4 + contrast))


def _direction(azimuth: float, elevation: float) -> Float[np.ndarray, "3"]:
    cos_elevation = np.cos(elevation)
    return np.array([cos_elevation * np.sin(azimuth), np.sin(elevation), cos_elevation * np.cos(azimuth)])


def _tinted(rng: np.random.Generator, tint: float) -> Float[np.ndarray, "3"]:
    """White, warmer or cooler, a little greener or pinker."""
    return np.exp(rng.normal(0, tint) * np.array([1.0, 0.1, -1.0]) + rng.normal(0, tint / 6, 3))

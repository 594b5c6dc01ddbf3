"""Skin colour of the built-in model as 199 linear modes: what fits and annotation files (`Tex_Para`) can hold of it."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float, Float32
from scipy.linalg import cho_factor, cho_solve

from geometry.built_in import BuiltInModel, load_built_in
from geometry.display_colour import LEVELS


@lru_cache(maxsize=1)
def head_linear_albedo() -> "LinearAlbedo":
    """The modes on the whole head with all its parts, made once for each process."""
    return LinearAlbedo(load_built_in("all"))


@dataclass(frozen=True, eq=False)
class LinearAlbedo:
    """The 199 linear colour modes: a principal component analysis of 1,200 draws of the sampler.

    Colours are display-referred (gamma 2.2) RGB in [0, 1]. Coefficients are scaled as `Tex_Para` of 300W-LP is: columns
    of unit length over the whole template, in levels of 255, already multiplied by their standard deviation. Linear
    draws blur the hairline; use :class:`geometry.albedo.AlbedoSampler` for pictures.
    """

    model: BuiltInModel

    @cached_property
    def stddevs(self) -> Float[np.ndarray, "k"]:
        """(199,) the spread of each coefficient, in the coefficients' own scaling (levels)."""
        return self.model.file.albedo_sd * LEVELS

    @cached_property
    def mean(self) -> Float32[np.ndarray, "v 3"]:
        """The mean colour."""
        return np.ascontiguousarray(self._mean_planes.reshape(3, -1).T)

    @cached_property
    def _mean_planes(self) -> Float32[np.ndarray, "v3"]:
        file = self.model.file
        planes = file.albedo_mean[:, self.model.template_vertices].reshape(-1)
        return planes * np.float32(file.meta["albedo_mean_step"] / LEVELS)

    @cached_property
    def _steps(self) -> np.ndarray:  # int8 (k, 3v), channel by channel
        modes = self.model.file.albedo_modes
        return modes[:, :, self.model.template_vertices].reshape(len(modes), -1)

    def _blocks(self) -> list[slice]:
        """Pieces of the columns that are turned into floating point one at a time: whole, the modes would be 170 MB."""
        size = 1 << 14
        return [slice(start, start + size) for start in range(0, self._steps.shape[1], size)]

    def albedo(self, coefficients: Float[np.ndarray, "k"]) -> Float32[np.ndarray, "v 3"]:
        """The colours of the given coefficients, clipped to [0, 1]. Raises ValueError for another number of them."""
        if coefficients.shape != self.stddevs.shape:
            raise ValueError(
                f"{len(coefficients)} albedo coefficients given, the built-in model has {len(self.stddevs)}"
            )
        weights = (coefficients / self.stddevs * self.model.file.albedo_step / LEVELS).astype(np.float32)
        planes = self._mean_planes.copy()
        for block in self._blocks():
            planes[block] += weights @ self._steps[:, block].astype(np.float32)
        return np.ascontiguousarray(np.clip(planes, 0, 1).reshape(3, -1).T)

    def project(self, albedo: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "k"]:
        """The coefficients of the colours nearest to `albedo` (display-referred, in [0, 1]): a picture's `Tex_Para`."""
        offset = (albedo.astype(np.float32).T.reshape(-1) - self._mean_planes) * np.float32(LEVELS)
        products = np.zeros(len(self.stddevs))
        for block in self._blocks():
            products += self._steps[:, block].astype(np.float32) @ offset[block]
        in_steps = cho_solve(self._normal_equations, products)
        return in_steps / self.model.file.albedo_step * self.stddevs

    @cached_property
    def _normal_equations(self) -> tuple[np.ndarray, bool]:
        gram = np.zeros((len(self.stddevs), len(self.stddevs)))
        for block in self._blocks():
            steps = self._steps[:, block].astype(np.float32)
            gram += steps @ steps.T
        return cho_factor(gram)

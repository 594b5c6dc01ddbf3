"""Left and right in an atlas: where each texel's counterpart on the other side of the face lies.

In a mirrored picture the left cheek is what was the right one. Its texel must therefore hold the mirrored position of
the right cheek's surface: the map is mirrored **and** its columns change sides (mirrored UV). Few atlases are exactly
symmetric (the built-in model's own one is to 0.9 texel, a BFM's is not), so the counterpart is found through the
model's left-right permutation of vertices, and read between texels; a symmetric atlas comes out as its columns mirrored.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt8

from geometry.frames import texel_from_uv, uv_from_texel
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster

_SYMMETRIC_TEXELS = 0.01


@dataclass(frozen=True)
class MirroredAtlas:
    """texels (S S 2): the place (x, y) of each texel's counterpart, between texels; NaN where `covered` is False."""

    texels: Float32[np.ndarray, "s s 2"]
    covered: Bool[np.ndarray, "s s"]

    @classmethod
    def of(cls, atlas: UVAtlas, raster: AtlasRaster, mirror: Int[np.ndarray, " v"] | None) -> "MirroredAtlas":
        """The counterparts of `raster`, the atlas at some size, under the model's `mirror`.

        Raises ValueError for a model that does not know its left from its right.
        """
        if mirror is None:
            raise ValueError(
                "this model has no left-right permutation of its vertices, so nobody knows where a texel lies on the "
                "other side: take an augmentation that does not flip, or import the model with its symlist"
            )
        places = texel_from_uv(atlas.uv[mirror], raster.size)
        texels = np.einsum("yxk,yxkd->yxd", raster.weights.astype(np.float64), places[raster.corners])
        return cls(np.where(raster.covered[..., None], texels, np.nan).astype(np.float32), raster.covered)

    @property
    def size(self) -> int:
        """Texels along one side."""
        return len(self.covered)

    @cached_property
    def is_symmetric(self) -> bool:
        """Whether the counterpart of column x is column S − 1 − x everywhere, to a hundredth of a texel."""
        rows, columns = np.mgrid[: self.size, : self.size]
        off = np.abs(self.texels - np.stack([self.size - 1 - columns, rows], axis=-1))[self.covered]
        return bool(off.max(initial=0) < _SYMMETRIC_TEXELS and (self.covered == self.covered[:, ::-1]).all())

    @cached_property
    def nearest(self) -> Int[np.ndarray, "s s 2"]:
        """(row, column) of the covered texel nearest to each counterpart; of itself where uncovered."""
        from scipy.ndimage import distance_transform_edt

        rows, columns = np.mgrid[: self.size, : self.size]
        places = np.where(self.covered[..., None], self.texels, 0)
        x, y = (np.clip(np.rint(places[..., k]).astype(np.int64), 0, self.size - 1) for k in (0, 1))
        closest = distance_transform_edt(~self.covered, return_distances=False, return_indices=True)
        there = np.stack([closest[0][y, x], closest[1][y, x]], axis=-1)
        return np.where(self.covered[..., None], there, np.stack([rows, columns], axis=-1))

    @cached_property
    def taps(self) -> tuple[Int[np.ndarray, "p 4"], Float32[np.ndarray, "p 4"]]:
        """Flat indices of the four texels about each covered texel's counterpart, and their shares.

        Uncovered ones do not count; where none of the four is covered, the nearest covered texel stands in.
        """
        x, y = self.texels[self.covered].astype(np.float64).T
        left = np.clip(np.floor(x), 0, self.size - 2).astype(np.int64)
        top = np.clip(np.floor(y), 0, self.size - 2).astype(np.int64)
        fx, fy = x - left, y - top
        rows, columns = top[:, None] + np.array([0, 0, 1, 1]), left[:, None] + np.array([0, 1, 0, 1])
        shares = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], axis=1)
        shares = shares * self.covered[rows, columns]
        total = shares.sum(axis=1, keepdims=True)
        alone = self.nearest[self.covered] @ (self.size, 1)
        flat = np.where(total > 1e-6, rows * self.size + columns, alone[:, None])
        shares = np.where(total > 1e-6, shares / np.maximum(total, 1e-6), 0.25)
        return flat, shares.astype(np.float32)

    def values(self, maps: Float[np.ndarray, "s s c"]) -> Float[np.ndarray, "s s c"]:
        """A map of smooth values (positions, colours) with every texel read at its counterpart; 0 where uncovered."""
        if self.is_symmetric:
            return np.where(self.covered[..., None], maps[:, ::-1], maps.dtype.type(0))
        mirrored = self._operator @ np.ascontiguousarray(maps.reshape(self.size**2, -1))
        return mirrored.reshape(maps.shape).astype(maps.dtype)

    @cached_property
    def _operator(self) -> sp.csr_matrix:
        """(S² S²): every covered texel from the four about its counterpart."""
        flat, shares = self.taps
        rows = np.repeat(np.flatnonzero(self.covered), 4)
        return sp.csr_matrix((shares.ravel(), (rows, flat.ravel())), shape=(self.size**2,) * 2)

    def labels(self, labels: Shaped[np.ndarray, "s s *c"]) -> Shaped[np.ndarray, "s s *c"]:
        """A map of labels or flags, each texel with the value nearest to its counterpart."""
        return labels[self.nearest[..., 0], self.nearest[..., 1]]

    def uv(self, uv: Float[np.ndarray, "*n 2"]) -> Float32[np.ndarray, "*n 2"]:
        """The counterparts of UV coordinates, between texels; across a seam of the atlas, the nearest texel's."""
        place = np.clip(texel_from_uv(uv.astype(np.float64), self.size), 0, self.size - 1)
        low = np.clip(np.floor(place), 0, self.size - 2).astype(np.int64)
        fraction = place - low
        about = [(low[..., 1] + dy, low[..., 0] + dx) for dy in (0, 1) for dx in (0, 1)]
        filled = self._filled
        four = np.stack([filled[rows, columns] for rows, columns in about], axis=-2).astype(np.float64)  # (… 4 2)
        fx, fy = fraction[..., 0], fraction[..., 1]
        shares = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], axis=-1)
        mixed = (shares[..., None] * four).sum(axis=-2)
        torn = (four.max(axis=-2) - four.min(axis=-2)).max(axis=-1) > self.size / 4
        nearest = np.take_along_axis(four, shares.argmax(axis=-1)[..., None, None], axis=-2)[..., 0, :]
        there = np.where(torn[..., None], nearest, mixed)
        return np.clip(uv_from_texel(there, self.size), 0, 1).astype(np.float32)

    @cached_property
    def _filled(self) -> Float32[np.ndarray, "s s 2"]:
        """`texels` without gaps: an uncovered texel goes on as its nearest covered one, by its distance from that."""
        from scipy.ndimage import distance_transform_edt

        rows, columns = distance_transform_edt(~self.covered, return_distances=False, return_indices=True)
        own_rows, own_columns = np.mgrid[: self.size, : self.size]
        beyond = np.stack([-(own_columns - columns), own_rows - rows], axis=-1)  # mirrored, so x runs the other way
        return (self.texels[rows, columns] + beyond).astype(np.float32)


def mirrored_part_codes(names: tuple[str, ...]) -> UInt8[np.ndarray, " c"]:
    """``codes_of_mirrored_picture = table[codes]`` for part codes counted from 1: right and left change places.

    Raises ValueError for a name whose other side is not in the list.
    """
    table = np.arange(len(names) + 1, dtype=np.uint8)
    for code, name in enumerate(names, start=1):
        other = name.replace("right", "LEFT").replace("left", "right").replace("LEFT", "left")
        if other not in names:
            raise ValueError(f"part {name!r} has no counterpart {other!r} in {', '.join(names)}")
        table[code] = names.index(other) + 1
    return table

"""The atlas as a raster: a constant sparse operator from vertices to texels.

Topology and UV never change, so which three vertices a texel mixes, and how, is worked out once: a position map
(Feng et al. 2018, sec. 3.1) is then one sparse product. Coverage is exact, without snapping: a texel belongs to the
lowest-numbered triangle whose *closed* area holds its centre. So the last row and column, which lie exactly on the
square's border and belong to nobody under a top-left rule, are defined. Texels outside every triangle stay uncovered
(0, and False in :attr:`AtlasRaster.covered`); nothing is extrapolated into them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Float32, Int, Int32, Shaped

from geometry.frames import texel_from_uv
from geometry.morphable_model import SurfacePoints
from geometry.uv import UVAtlas
from render import atlas_kernel

_IDENTITY = np.eye(3, 4, dtype=np.float32)


@dataclass(frozen=True, init=False)
class AtlasRaster:
    """``map[y, x] = Σ_k weights[y, x, k] · vertices[corners[y, x, k]]`` where ``covered[y, x]``; 0 elsewhere."""

    corners: Int32[np.ndarray, "s s 3"]
    weights: Float32[np.ndarray, "s s 3"]
    covered: Bool[np.ndarray, "s s"]

    def __init__(self, atlas: UVAtlas, size: int) -> None:
        """Rasterise `atlas` to `size` × `size` texels (compiled loops)."""
        _check_size(size)
        owner = np.full((size, size), -1, dtype=np.int64)
        weights = np.zeros((size, size, 3))
        atlas_kernel.own_texels(
            np.ascontiguousarray(texel_from_uv(atlas.uv, size), dtype=np.float64),
            np.ascontiguousarray(atlas.triangles, dtype=np.int64), owner, weights,
        )  # fmt: skip
        self._set(*_tables_of_owner(atlas, owner, weights))

    @classmethod
    def reference(cls, atlas: UVAtlas, size: int) -> "AtlasRaster":
        """The same by the definition, slowly: every texel against every triangle."""
        _check_size(size)
        texel = texel_from_uv(atlas.uv, size)
        y, x = np.mgrid[:size, :size].astype(np.float64)
        owner = np.full((size, size), -1, dtype=np.int64)
        weights = np.zeros((size, size, 3))

        def edge(a: Any, b: Any, x: Any, y: Any) -> Any:
            if a > b:  # lower index first: neighbours get exact opposites
                return -edge(b, a, x, y)
            (ax, ay), (bx, by) = texel[a], texel[b]
            return (bx - ax) * (y - ay) - (by - ay) * (x - ax)

        for t, (a, b, c) in enumerate(atlas.triangles):
            area = edge(a, b, *texel[c])
            if area == 0:
                continue
            edges = np.sign(area) * np.stack([edge(b, c, x, y), edge(c, a, x, y), edge(a, b, x, y)], axis=-1)
            mine = (edges >= 0).all(axis=-1) & (owner < 0)
            owner[mine] = t
            weights[mine] = edges[mine] / edges[mine].sum(axis=-1, keepdims=True)
        return cls.from_tables(*_tables_of_owner(atlas, owner, weights))

    @classmethod
    def from_tables(
        cls,
        corners: Int[np.ndarray, "s s 3"],
        weights: Float32[np.ndarray, "s s 3"],
        covered: Shaped[np.ndarray, "s s"],
    ) -> "AtlasRaster":
        """The raster that was stored with a data set."""
        raster = object.__new__(cls)
        raster._set(corners.astype(np.int32), weights.astype(np.float32), covered.astype(bool))
        return raster

    def _set(self, corners: np.ndarray, weights: np.ndarray, covered: np.ndarray) -> None:
        for name, table in (("corners", corners), ("weights", weights), ("covered", covered)):
            object.__setattr__(self, name, table)

    @property
    def size(self) -> int:
        """Texels along one side."""
        return len(self.covered)

    def operator(self, n_vertices: int) -> sp.csr_matrix:
        """The sparse matrix (S² V) whose product with (V 3) vertices is the map, row-major over texels."""
        rows = np.repeat(np.arange(self.size**2), 3)
        entries = (self.weights.astype(np.float64).ravel(), (rows, self.corners.ravel()))
        matrix = sp.csr_matrix(entries, shape=(self.size**2, n_vertices))
        matrix.eliminate_zeros()
        return matrix

    @cached_property
    def _gather_tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        texels = np.flatnonzero(self.covered).astype(np.uint32)
        return (texels, self.corners.reshape(-1, 3)[texels].astype(np.uint32), self.weights.reshape(-1, 3)[texels])

    def apply(
        self, vertices: Float[np.ndarray, "*n v 3"], affine: Float[np.ndarray, "*n 3 4"] | None = None
    ) -> Float32[np.ndarray, "*n s s 3"]:
        """Position maps of the given meshes, moved by `affine` (one for each, or one for all); uncovered texels are 0.

        The affine map commutes with the mixing (weights sum to one), so one face under many poses is many calls on one
        evaluation of the basis.
        """
        lead = vertices.shape[:-2]
        flat = np.ascontiguousarray(vertices, dtype=np.float32).reshape(-1, *vertices.shape[-2:])
        if flat.shape[1] <= self.corners.max():
            raise ValueError(
                f"the atlas mixes vertex {self.corners.max()} but the mesh has {flat.shape[1]} vertices; "
                "atlas and vertices must come from one model and one choice of its parts"
            )
        affines = np.broadcast_to(_IDENTITY if affine is None else affine, (*lead, 3, 4)).reshape(-1, 3, 4)
        affines = np.ascontiguousarray(affines, dtype=np.float32)
        maps = np.zeros((len(flat), 3, self.size**2), dtype=np.float32)
        for mesh, matrix, out in zip(flat, affines, maps, strict=True):
            atlas_kernel.gather(mesh, matrix, *self._gather_tables, out)
        return np.moveaxis(maps.reshape(*lead, 3, self.size, self.size), -3, -1)

    def points(self, rows: Int[np.ndarray, " p"], columns: Int[np.ndarray, " p"]) -> SurfacePoints:
        """The surface points at some texels."""
        return SurfacePoints(self.corners[rows, columns], self.weights[rows, columns].astype(np.float64))

    def mirrored(self, mirror: Int[np.ndarray, " v"]) -> "AtlasRaster":
        """The raster of the mirrored face: each texel mixes the vertices on the other side.

        ``raster.mirrored(m).apply(v) == raster.apply(v[m])``: the mirrored UV of a flipped sample, so that the texels
        of the left cheek keep holding the left cheek. Twice is the identity.
        """
        corners = np.where(self.covered[..., None], mirror[self.corners], 0)
        return AtlasRaster.from_tables(corners, self.weights, self.covered)


@dataclass(frozen=True, slots=True)
class TexelSampler:
    """Reads maps at places between texels: place p is ``Σ_k weights[p, k] · map[rows[p, k], columns[p, k]]``."""

    rows: Int[np.ndarray, "p k"]
    columns: Int[np.ndarray, "p k"]
    weights: Float[np.ndarray, "p k"]

    @classmethod
    def at(cls, raster: AtlasRaster, uv: Float[np.ndarray, "p 2"]) -> "TexelSampler":
        """A sampler at UV places (every vertex: the way back from texels to vertices).

        Bilinear over the covered ones of the four neighbours, their weights made to sum to one.
        A place with no covered neighbour has no value: its weights are NaN, and so is what is read there.
        """
        texel = texel_from_uv(uv, raster.size)
        low = np.clip(np.floor(texel), 0, raster.size - 2).astype(np.int64)
        (fx, fy) = (texel - low).T
        rows = low[:, 1, None] + np.array([0, 0, 1, 1])
        columns = low[:, 0, None] + np.array([0, 1, 0, 1])
        weights = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], axis=1)
        weights = weights * raster.covered[rows, columns]
        total = weights.sum(axis=1, keepdims=True)
        return cls(rows, columns, np.where(total > 0, weights / np.where(total > 0, total, 1), np.nan))

    def read(self, maps: Float[np.ndarray, "*n s s c"]) -> Float[np.ndarray, "*n p c"]:
        """The value of each map at each place."""
        return np.einsum("pk,...pkc->...pc", self.weights, maps[..., self.rows, self.columns, :])

    def as_vertex_mixture(self, raster: AtlasRaster, n_vertices: int) -> sp.csr_matrix:
        """The sparse matrix (p V) whose product with the vertices is what :meth:`read` gives for their map."""
        entries = self.weights[..., None] * raster.weights[self.rows, self.columns].astype(np.float64)
        corners = raster.corners[self.rows, self.columns]
        places = np.broadcast_to(np.arange(len(self.rows))[:, None, None], corners.shape)
        places_and_corners = (places.ravel(), corners.ravel())
        matrix = sp.csr_matrix((entries.ravel(), places_and_corners), shape=(len(self.rows), n_vertices))
        matrix.eliminate_zeros()
        return matrix


def nearest_texels(uv: Float[np.ndarray, "p 2"], size: int) -> Int[np.ndarray, "p 2"]:
    """(x, y) of the texel nearest to each UV place: PRNet's `uv_kpt_ind.txt`, whose row 0 is x and row 1 is y."""
    return np.rint(texel_from_uv(uv, size)).astype(np.int64)


def _tables_of_owner(
    atlas: UVAtlas, owner: Int[np.ndarray, "s s"], weights: Float[np.ndarray, "s s 3"]
) -> tuple[Int32[np.ndarray, "s s 3"], Float32[np.ndarray, "s s 3"], Bool[np.ndarray, "s s"]]:
    """Corners, weights and coverage from the triangle that owns each texel; −1: nobody."""
    covered = owner >= 0
    corners = np.where(covered[..., None], atlas.triangles[owner], 0).astype(np.int32)
    return corners, weights.astype(np.float32), covered


def _check_size(size: int) -> None:
    if not 2 <= size <= 4096:
        raise ValueError(
            f"an atlas of {size} × {size} texels cannot be rasterised; sizes from 2 to 4096 can, 128 to 512 are usual"
        )

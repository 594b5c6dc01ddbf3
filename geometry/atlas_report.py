"""What an atlas is worth: folds, overlaps, distortion, and how many texels a vertex gets."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int32

from geometry.frames import texel_from_uv
from geometry.mesh import Mesh
from geometry.uv import UVAtlas

_SAMPLES = 1024
"""Coverage and overlaps are counted at the middles of this many columns and rows of the UV square."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Five quantiles of one number a triangle or vertex."""

    p1: float
    p5: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Float[np.ndarray, " n"]) -> "Quantiles":
        """Of `values`, each counting the same; every quantile is one of them, since between infinite ones lies none."""
        ranks = (0.01, 0.05, 0.5, 0.95, 0.99)
        return cls(*(float(q) for q in np.quantile(values, ranks, method="inverted_cdf")))


@dataclass(frozen=True, slots=True)
class AtlasReport:
    """The quality of a :class:`UVAtlas` as an unwrap of a mesh, at `size` × `size` texels.

    n_folded           triangles of the atlas that are turned over or collapsed
    n_overlapping      triangles that share a sample point of the UV square with another: folded ones, those under them,
                       and those of parts that lie over each other without a fold
    n_closing          of its `n_triangles`, those that only close holes
    n_left_out         triangles of the mesh that are not in the atlas, `n_unplaced` vertices that are in none of its
    smallest_area      of all triangles, in the UV square of area 1
    coverage           share of the UV square, by area, inside some triangle, `overlap` inside more than one
    area_ratio         UV area over surface area of the mesh's triangles, over its mean (1: areas are kept)
    stretch_ratio      largest over smallest stretch of the mesh's triangles (1: angles are kept)
    texels_per_vertex  texels of UV area nearer to the vertex: a third of each of its triangles
    n_distinct_texels  texels in which at least one vertex lies; where it is below n_vertices, vertices share texels
    """

    size: int
    n_vertices: int
    n_triangles: int
    n_closing: int
    n_folded: int
    n_overlapping: int
    n_left_out: int
    n_unplaced: int
    smallest_area: float
    coverage: float
    overlap: float
    area_ratio: Quantiles
    stretch_ratio: Quantiles
    texels_per_vertex: Quantiles
    n_distinct_texels: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; what is infinite (the stretch of a collapsed triangle) is None there."""

        def plain(value: object) -> object:
            if isinstance(value, dict):
                return {key: plain(inner) for key, inner in value.items()}
            return None if isinstance(value, float) and not np.isfinite(value) else value

        return {key: plain(value) for key, value in asdict(self).items()}

    def sentences(self) -> list[str]:
        """For people, a line each."""
        area, stretch, texels = self.area_ratio, self.stretch_ratio, self.texels_per_vertex
        left_out = [
            f"{self.n_left_out} triangles of the mesh are not in the atlas, "
            f"{self.n_unplaced} vertices are in none of its triangles"
        ]
        return [
            f"{self.n_folded} of {self.n_triangles:,} triangles are folded ({self.n_closing:,} close holes); "
            f"the smallest has area {self.smallest_area:.3g}",
            *(left_out if self.n_left_out else []),
            f"{self.coverage:.1%} of the square is covered, {self.overlap:.2%} more than once; {self.n_overlapping:,} "
            "triangles overlap others",
            f"area, relative to the mean: median {area.p50:.2f}, from {area.p1:.2g} (1 %) to {area.p99:.2g} (99 %)",
            f"stretch, longest to shortest: median {stretch.p50:.2f}, at most {stretch.p99:.2f} for 99 %",
            f"texels a vertex at {self.size} × {self.size}: median {texels.p50:.2f}, {texels.p1:.2g} (1 %) to "
            f"{texels.p99:.2g} (99 %); {self.n_vertices:,} vertices lie in {self.n_distinct_texels:,} texels",
        ]


def report_atlas(atlas: UVAtlas, mesh: Mesh, *, size: int) -> AtlasReport:
    """Measure `atlas` as an unwrap of `mesh` (the same vertices; any unit), whose triangles it holds with closing ones.

    Triangles that the atlas leaves out, or without area on the surface, stay out of the ratios. Raises ValueError when
    the atlas is another mesh's.
    """
    if len(atlas.uv) != len(mesh.vertices):
        raise ValueError(
            f"an atlas of {len(atlas.uv)} vertices cannot unwrap a mesh of {len(mesh.vertices)}: "
            "it was made for another mesh"
        )
    held = atlas.holds(mesh.triangles)
    if not held.any():
        raise ValueError("the atlas holds no triangle of the mesh: it was made for another mesh, or turned over")
    areas = atlas.signed_areas
    spans = _Spans.of(atlas, _SAMPLES)
    hits = spans.count()
    area_ratio, stretch_ratio = _distortion(atlas.uv, mesh.vertices, mesh.triangles[held])
    shares = np.bincount(atlas.triangles.ravel(), np.repeat(areas / 3, 3), len(atlas.uv))
    texels = np.rint(texel_from_uv(atlas.uv, size)).astype(np.int64)
    return AtlasReport(
        size=size,
        n_vertices=len(atlas.uv),
        n_triangles=len(atlas.triangles),
        n_closing=len(atlas.triangles) - int(held.sum()),
        n_folded=int(atlas.folded.sum()),
        n_overlapping=spans.n_triangles_over(hits > 1),
        n_left_out=int((~held).sum()),
        n_unplaced=len(atlas.uv) - len(np.unique(atlas.triangles)),
        smallest_area=float(areas.min()),
        coverage=float((hits > 0).mean()),
        overlap=float((hits > 1).mean()),
        area_ratio=Quantiles.of(area_ratio),
        stretch_ratio=Quantiles.of(stretch_ratio),
        texels_per_vertex=Quantiles.of(shares * (size - 1) ** 2),
        n_distinct_texels=len(np.unique(texels[:, 1] * size + texels[:, 0])),
    )


def coverage_count(atlas: UVAtlas, n_samples: int) -> Int32[np.ndarray, "n n"]:
    """In how many triangles each of n × n sample points lies, whichever way they are wound.

    Sample (i, j) is at u = (j + ½)/n, v = (i + ½)/n: rows go **up** here, as v does. A point on an edge belongs to the
    triangle above or to the right of it alone, so that triangles side by side never count twice.
    """
    return _Spans.of(atlas, n_samples).count()


@dataclass(frozen=True, slots=True)
class _Spans:
    """Every triangle's samples by rows: triangle `which` has in `row` the columns from `left` to below `right`."""

    n_samples: int
    which: np.ndarray
    row: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, atlas: UVAtlas, n_samples: int) -> "_Spans":
        points = atlas.uv * n_samples - 0.5
        corners = points[np.sort(atlas.triangles, axis=1)]  # sorted, so that two triangles cut their common edge alike
        first_row = np.ceil(corners[:, :, 1].min(axis=1)).astype(np.int64)
        end_row = np.ceil(corners[:, :, 1].max(axis=1)).astype(np.int64)
        count = end_row - first_row
        which = np.repeat(np.arange(len(corners)), count)
        row = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first_row[which]

        left, right = np.full(len(which), np.inf), np.full(len(which), -np.inf)
        for a, b in ((0, 1), (0, 2), (1, 2)):
            (xa, ya), (xb, yb) = corners[which, a].T, corners[which, b].T
            crosses = (ya <= row) != (yb <= row)
            x = xa[crosses] + (row - ya)[crosses] * ((xb - xa)[crosses] / (yb - ya)[crosses])
            left[crosses], right[crosses] = np.minimum(left[crosses], x), np.maximum(right[crosses], x)
        return cls(n_samples, which, row, np.ceil(left).astype(np.int64), np.ceil(right).astype(np.int64))

    def count(self) -> Int32[np.ndarray, "n n"]:
        """In how many triangles each sample lies."""
        steps = np.zeros((self.n_samples, self.n_samples + 1), dtype=np.int32)
        np.add.at(steps, (self.row, self.left), 1)
        np.add.at(steps, (self.row, self.right), -1)
        return np.cumsum(steps, axis=1, dtype=np.int32)[:, :-1]

    def n_triangles_over(self, marked: Bool[np.ndarray, "n n"]) -> int:
        """How many triangles have a sample that is `marked`."""
        before = np.zeros((self.n_samples, self.n_samples + 1), dtype=np.int32)
        np.cumsum(marked, axis=1, out=before[:, 1:])
        touched = before[self.row, self.right] > before[self.row, self.left]
        return len(np.unique(self.which[touched]))


def _distortion(uv: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """UV area over surface area, over its mean, and the ratio of the singular values, of every triangle with area."""
    corners = np.asarray(vertices, dtype=np.float64)[triangles]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    doubled = np.linalg.norm(np.cross(first, second), axis=1)
    sound = doubled > 0
    first, second, doubled = first[sound], second[sound], doubled[sound]
    flat = uv[triangles[sound]]
    p, q = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    # the triangle in its own plane is (0, 0), (length, 0), (x, doubled / length); its map to UV has columns α and β
    length = np.linalg.norm(first, axis=1)
    x = (first * second).sum(axis=1) / length
    alpha = p / length[:, None]
    beta = (q - alpha * x[:, None]) * (length / doubled)[:, None]
    determinant = alpha[:, 0] * beta[:, 1] - alpha[:, 1] * beta[:, 0]
    direct = np.hypot(alpha[:, 0] + beta[:, 1], alpha[:, 1] - beta[:, 0])  # σ₁ + σ₂ where not mirrored
    mirrored = np.hypot(alpha[:, 0] - beta[:, 1], alpha[:, 1] + beta[:, 0])  # σ₁ − σ₂
    with np.errstate(divide="ignore"):  # a triangle that collapses to a line stretches without bound
        stretch = (direct + mirrored) / np.abs(direct - mirrored)
    mean = (determinant * doubled).sum() / doubled.sum()
    return determinant / mean, stretch

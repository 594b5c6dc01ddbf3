"""Weights of a mesh's edges for convex combination maps: uniform, mean-value and conformal (cotangent).

Everything is computed from the lengths and angles within single triangles, so the same functions serve a mesh in space
and an intrinsic triangulation that has lengths but no corners in space.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

_FLATTEST = 1e-13
"""Below this excess of two sides over the third, relative to the longest, a triangle's angles are rounding noise."""


@dataclass(frozen=True, slots=True)
class CornerGeometry:
    """Sides and angles of every triangle.

    ``lengths[t, k]`` is the side from corner k to corner k + 1, ``cotangents[t, k]`` the cotangent of the angle at
    corner k, ``half_tangents[t, k]`` the tangent of half that angle. `lengthened` is what was added to every side so
    that triangles without area get one (see :func:`mollified`), in the lengths' unit; 0 where all have one.
    """

    lengths: Float[np.ndarray, "t 3"]
    cotangents: Float[np.ndarray, "t 3"]
    half_tangents: Float[np.ndarray, "t 3"]
    lengthened: float = 0.0

    @classmethod
    def of_mesh(cls, vertices: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"]) -> "CornerGeometry":
        """Angles from the vertices, the most exact way; from mollified lengths where a triangle has no area."""
        corners = np.asarray(vertices, dtype=np.float64)[triangles]
        lengths = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)
        longer, added = mollified(lengths)
        if added:
            return cls.of_lengths(longer, lengthened=added)
        one, other = np.roll(corners, -1, axis=1) - corners, np.roll(corners, 1, axis=1) - corners
        dot, cross = (one * other).sum(axis=2), np.linalg.norm(np.cross(one, other), axis=2)
        product = lengths * np.roll(lengths, 1, axis=1)
        # tan(θ/2) = (1 − cos θ)/sin θ = sin θ/(1 + cos θ): each where it does not cancel
        acute = dot > 0
        half = np.where(acute, cross, product - dot) / np.where(acute, product + dot, cross)
        return cls(lengths, dot / cross, half)

    @classmethod
    def of_lengths(cls, lengths: Float[np.ndarray, "t 3"], *, lengthened: float = 0.0) -> "CornerGeometry":
        """Angles from three sides that keep the strict triangle inequality."""
        c, a, b = (lengths[:, k] for k in range(3))  # c = 0→1, a = 1→2, b = 2→0: a is opposite corner 0
        sides = np.stack([a, b, c], axis=1)
        following, last = np.roll(sides, -1, axis=1), np.roll(sides, -2, axis=1)
        across = following + last - sides  # how much longer the way over the corner is
        perimeter = sides.sum(axis=1, keepdims=True)
        four_areas = np.sqrt(perimeter * across.prod(axis=1, keepdims=True))
        cotangents = (following**2 + last**2 - sides**2) / four_areas
        half = np.roll(across, -1, axis=1) * np.roll(across, -2, axis=1) / four_areas
        return cls(lengths, cotangents, half, lengthened)

    def part(self, which: slice) -> "CornerGeometry":
        """The same of some of the triangles."""
        return CornerGeometry(self.lengths[which], self.cotangents[which], self.half_tangents[which], self.lengthened)


def mollified(lengths: Float[np.ndarray, "t 3"]) -> tuple[Float[np.ndarray, "t 3"], float]:
    """The same lengths and 0.0 where every triangle has an area; else all of them a little longer, and by how much.

    One constant on every side keeps sides equal that two triangles share and makes the triangle inequality strict
    (Sharp and Crane 2020, "A Laplacian for nonmanifold triangle meshes", section 4.5, δ = 1e-5 of the mean length).
    """
    excess = np.roll(lengths, -1, axis=1) + np.roll(lengths, -2, axis=1) - lengths
    if len(lengths) == 0 or (excess > _FLATTEST * lengths.max(axis=1, keepdims=True)).all():
        return lengths, 0.0
    added = float((1e-5 * lengths.mean() - excess).max())
    return lengths + added, added


def uniform_weights(triangles: Int[np.ndarray, "t 3"], n_vertices: int) -> sp.csr_array:
    """Weight 1 between neighbours (Tutte 1963): the drawing depends on the connections alone."""
    weights = _assemble(triangles, n_vertices, np.ones(triangles.shape), np.ones(triangles.shape))
    weights.data[:] = 1.0
    return weights


def mean_value_weights(triangles: Int[np.ndarray, "t 3"], n_vertices: int, geometry: CornerGeometry) -> sp.csr_array:
    """w_ij = (tan(α/2) + tan(β/2)) / |ij|, α and β the angles at i beside the edge.

    Always positive, not symmetric; exact on flat meshes (Floater 2003, "Mean value coordinates").
    """
    forward = geometry.half_tangents / geometry.lengths  # at corner k, along the side to corner k + 1
    backward = geometry.half_tangents / np.roll(geometry.lengths, 1, axis=1)  # along the side to corner k − 1
    return _assemble(triangles, n_vertices, forward, np.roll(backward, -1, axis=1))


def conformal_weights(triangles: Int[np.ndarray, "t 3"], n_vertices: int, geometry: CornerGeometry) -> sp.csr_array:
    """w_ij = (cot α + cot β) / 2, α and β the angles opposite the edge (Pinkall and Polthier 1993; Eck et al. 1995).

    Symmetric; negative where α + β > π, so that folds are possible. The solution is the discrete harmonic map, exact on
    flat meshes.
    """
    opposite = 0.5 * np.roll(geometry.cotangents, 1, axis=1)  # side k → k + 1 lies opposite corner k + 2
    return _assemble(triangles, n_vertices, opposite, opposite)


def laplacian(weights: sp.csr_array) -> sp.csr_array:
    """diag(row sums) − weights: zero on a map in which every vertex is the weighted mean of its neighbours."""
    return (sp.diags_array(weights.sum(axis=1)) - weights).tocsr()


def _assemble(triangles: np.ndarray, n_vertices: int, forward: np.ndarray, backward: np.ndarray) -> sp.csr_array:
    """Sum `forward[t, k]` into (corner k, corner k + 1) and `backward[t, k]` into (corner k + 1, corner k)."""
    start, end = triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
    rows, columns = np.concatenate([start, end]), np.concatenate([end, start])
    data = np.concatenate([forward.ravel(), backward.ravel()])
    return sp.coo_array((data, (rows, columns)), shape=(n_vertices, n_vertices)).tocsr()

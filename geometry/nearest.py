"""Nearest points on a mesh, found by walking over its surface from a vertex that is known to be near.

A walk cannot leap from one lip to the other, or from the back of an ear to its front, where they lie close together:
the nearest point in space can.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int32

from geometry.mesh import Mesh


@dataclass(frozen=True, slots=True)
class NearestPoints:
    """For each point p its place on the mesh: Σ_k ``weights[p, k]`` · corner k of triangle ``triangles[p]``.

    Weights are at least 0 and sum to 1; `distances` are in the mesh's unit.
    """

    triangles: Int32[np.ndarray, " p"]
    weights: Float[np.ndarray, "p 3"]
    distances: Float[np.ndarray, " p"]


def walk_to_nearest(points: Float[np.ndarray, "p 3"], mesh: Mesh, *, starts: Int[np.ndarray, " p"]) -> NearestPoints:
    """For each point the nearest one of `mesh` among two rings of triangles around vertex ``starts[p]``, and on from there.

    The walk goes on to the triangles around the nearest one until none is nearer, so it ends where no step helps, which
    is mostly, not always, the nearest point of the whole mesh. Every start must be used by a triangle.
    """
    from geometry.nearest_kernel import walk  # Numba loads when it is needed

    corners = mesh.triangles.astype(np.int64)
    order = np.argsort(corners.ravel(), kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(corners.ravel(), minlength=len(mesh.vertices)))])
    found, weights, squared = np.zeros(len(points), dtype=np.int32), np.zeros((len(points), 3)), np.zeros(len(points))
    positions = np.ascontiguousarray(mesh.vertices, dtype=np.float64)
    walk(
        np.ascontiguousarray(points, dtype=np.float64), starts.astype(np.int64), positions, corners,
        first, order // 3, found, weights, squared,
    )  # fmt: skip
    return NearestPoints(found, weights, np.sqrt(squared))

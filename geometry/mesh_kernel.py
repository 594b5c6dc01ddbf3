"""The compiled loops of :func:`geometry.mesh.vertex_normals`."""

import typing

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
@typing.no_type_check
def add_triangle_normals(vertices, triangles, sums):
    """Add each triangle's doubled area times its unit normal to the float64 `sums` (v 3) of its three corners.

    Products and differences are of the vertices' own precision, as :func:`numpy.cross` makes them.
    """
    for t in range(triangles.shape[0]):
        a, b, c = np.uint64(triangles[t, 0]), np.uint64(triangles[t, 1]), np.uint64(triangles[t, 2])
        ux, uy, uz = (vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2])
        vx, vy, vz = (vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2])
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            sums[corner, 0] += x
            sums[corner, 1] += y
            sums[corner, 2] += z


@njit(cache=True, nogil=True)
@typing.no_type_check
def unit_vectors(sums, units):
    """Fill `units` (v 3) with the float64 `sums` at length one; 0 stays 0."""
    for v in range(sums.shape[0]):
        x, y, z = sums[v, 0], sums[v, 1], sums[v, 2]
        length = np.sqrt(x * x + y * y + z * z)
        if length <= 0.0:
            length = 1.0
        units[v, 0], units[v, 1], units[v, 2] = x / length, y / length, z / length

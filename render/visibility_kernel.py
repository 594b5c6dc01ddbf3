"""The compiled loops of visibility; :mod:`render.visibility` is their interface."""

import typing

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
@typing.no_type_check
def see_vertices(vertices, triangles, depth, face_index, index, steepest, normals, seen):
    """Mark in `seen` the vertices that are turned to the viewer and not behind `depth`; `normals` come in at 0."""
    for t in range(np.uint32(triangles.shape[0])):
        a, b, c = np.uint32(triangles[t, 0]), np.uint32(triangles[t, 1]), np.uint32(triangles[t, 2])
        px, py, pz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        qx, qy, qz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        x, y, z = py * qz - pz * qy, pz * qx - px * qz, px * qy - py * qx
        for v in (a, b, c):
            normals[v, 0] += x
            normals[v, 1] += y
            normals[v, 2] += z
    height, width = depth.shape
    for v in range(np.uint32(vertices.shape[0])):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        facing = -z / max(np.sqrt(x * x + y * y + z * z), 1e-300)  # normals of the left-handed frame point inward
        column, row = np.rint(vertices[v, 0]), np.rint(vertices[v, 1])
        if facing < steepest or column < 0 or row < 0 or column >= width or row >= height:
            continue
        i, j = np.uint32(row), np.uint32(column)
        if face_index[i, j] >= 0 and face_index[i, j] != index:
            continue
        slope = np.sqrt(max(1 - facing * facing, 0.0)) / facing
        seen[v] = vertices[v, 2] + 1 + slope >= depth[i, j]

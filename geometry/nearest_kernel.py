"""The compiled walk to the nearest point of a mesh; nothing but :mod:`geometry.nearest` calls it."""

import typing

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
@typing.no_type_check
def walk(points, starts, positions, triangles, first, star, found, weights, squared):  # pragma: no cover (compiled)
    """found, weights, squared[i]: the nearest triangle to points[i] reached from vertex starts[i], where, how far.

    ``star[first[v]:first[v + 1]]`` are the triangles of vertex v.
    """
    seen = np.full(triangles.shape[0], -1, np.int64)
    size = np.abs(positions).max()
    for i in range(points.shape[0]):
        nearest = np.inf
        # two rings of triangles around the start, then around each better triangle
        for a in range(first[starts[i]], first[starts[i] + 1]):
            for corner in range(3):
                v = triangles[star[a], corner]
                for b in range(first[v], first[v + 1]):
                    nearest = try_triangle(
                        i, star[b], nearest, points, positions, triangles, size, seen, found, weights
                    )
        centre = np.int64(-1)
        while centre != found[i]:
            centre = found[i]
            for corner in range(3):
                v = triangles[centre, corner]
                for b in range(first[v], first[v + 1]):
                    nearest = try_triangle(
                        i, star[b], nearest, points, positions, triangles, size, seen, found, weights
                    )
        squared[i] = nearest


@njit(cache=True, nogil=True)
@typing.no_type_check
def try_triangle(
    i, t, nearest, points, positions, triangles, size, seen, found, weights
):  # pragma: no cover (compiled)
    """Keep triangle `t` for point `i` when it is nearer, or as near and lower; returns the least squared distance."""
    if seen[t] == i:
        return nearest
    seen[t] = i
    a, b, c = triangles[t]
    distance, w_a, w_b, w_c = barycentric_of_nearest(points[i], positions[a], positions[b], positions[c])
    if as_near(distance, size) < nearest or (distance <= as_near(nearest, size) and t < found[i]):
        found[i] = t
        weights[i, 0], weights[i, 1], weights[i, 2] = w_a, w_b, w_c
        return distance
    return nearest


@njit(cache=True, nogil=True)
@typing.no_type_check
def as_near(squared, size):  # pragma: no cover (compiled)
    """The squared distance up to which rounding alone decides, on a mesh of this size; from a shared side, for one."""
    return squared * (1.0 + 1e-9) + 1e-24 * size * size


@njit(cache=True, nogil=True)
@typing.no_type_check
def barycentric_of_nearest(p, a, b, c):  # pragma: no cover (compiled)
    """(squared distance, barycentric coordinates) of the nearest point of the triangle a b c to `p`.

    Inside the triangle by projection, else on the nearest of the three sides; sides without length count as points.
    """
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    wx, wy, wz = p[0] - a[0], p[1] - a[1], p[2] - a[2]
    uu, uv, vv = ux * ux + uy * uy + uz * uz, ux * vx + uy * vy + uz * vz, vx * vx + vy * vy + vz * vz
    uw, vw = ux * wx + uy * wy + uz * wz, vx * wx + vy * wy + vz * wz
    area = uu * vv - uv * uv
    if area > 1e-14 * uu * vv:
        s, t = (vv * uw - uv * vw) / area, (uu * vw - uv * uw) / area
        if s >= 0.0 and t >= 0.0 and s + t <= 1.0:
            return off_by(s, t, ux, uy, uz, vx, vy, vz, wx, wy, wz), 1.0 - s - t, s, t
    x = on_side(uw, uu)  # a to b
    found = (off_by(x, 0.0, ux, uy, uz, vx, vy, vz, wx, wy, wz), 1.0 - x, x, 0.0)
    x = on_side(vw, vv)  # a to c
    distance = off_by(0.0, x, ux, uy, uz, vx, vy, vz, wx, wy, wz)
    if distance < found[0]:
        found = (distance, 1.0 - x, 0.0, x)
    x = on_side((vw - uv) - (uw - uu), uu - 2.0 * uv + vv)  # b to c
    distance = off_by(1.0 - x, x, ux, uy, uz, vx, vy, vz, wx, wy, wz)
    if distance < found[0]:
        found = (distance, 0.0, 1.0 - x, x)
    return found


@njit(cache=True, nogil=True)
@typing.no_type_check
def on_side(along, squared_length):  # pragma: no cover (compiled)
    """The share of the way, within the side."""
    return min(max(along / squared_length, 0.0), 1.0) if squared_length > 0.0 else 0.0


@njit(cache=True, nogil=True)
@typing.no_type_check
def off_by(s, t, ux, uy, uz, vx, vy, vz, wx, wy, wz):  # pragma: no cover (compiled)
    """|w − s u − t v|²."""
    x, y, z = wx - s * ux - t * vx, wy - s * uy - t * vy, wz - s * uz - t * vz
    return x * x + y * y + z * z

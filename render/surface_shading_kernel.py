"""The compiled loops behind :mod:`render.lit_surface`: normals of large meshes, and light on every finer pixel."""

import typing

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
@typing.no_type_check
def sum_triangle_normals(vertices, triangles, sums):
    """Add twice the area-weighted normal of every triangle to its corners in `sums` float32 (V 3), zero before."""
    x, y, z = np.uint64(0), np.uint64(1), np.uint64(2)
    for t in range(np.uint64(triangles.shape[0])):
        a, b, c = np.uint32(triangles[t, x]), np.uint32(triangles[t, y]), np.uint32(triangles[t, z])
        ux, uy, uz = (
            vertices[b, x] - vertices[a, x],
            vertices[b, y] - vertices[a, y],
            vertices[b, z] - vertices[a, z],
        )
        vx, vy, vz = (
            vertices[c, x] - vertices[a, x],
            vertices[c, y] - vertices[a, y],
            vertices[c, z] - vertices[a, z],
        )
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            sums[corner, x] += nx
            sums[corner, y] += ny
            sums[corner, z] += nz


@njit(cache=True, nogil=True, error_model="numpy")
@typing.no_type_check
def unit_rows(rows):
    """Bring every row of float32 (V 3) to length one; rows of length zero stay."""
    for v in range(np.uint64(rows.shape[0])):
        x, y, z = rows[v, np.uint64(0)], rows[v, np.uint64(1)], rows[v, np.uint64(2)]
        length = np.sqrt(x * x + y * y + z * z)
        if length > 0:
            rows[v, np.uint64(0)], rows[v, np.uint64(1)], rows[v, np.uint64(2)] = x / length, y / length, z / length


@njit(cache=True, nogil=True, error_model="numpy")
@typing.no_type_check
def _harmonics(x, y, z, k, coefficients):
    """The quadratic of channel k in a unit direction, held above zero: Σ c_lm·(polynomial of Y_lm)."""
    value = (
        coefficients[k, 0]
        + coefficients[k, 1] * y
        + coefficients[k, 2] * z
        + coefficients[k, 3] * x
        + coefficients[k, 4] * (x * y)
        + coefficients[k, 5] * (y * z)
        + coefficients[k, 6] * (np.float32(3) * z * z - np.float32(1))
        + coefficients[k, 7] * (x * z)
        + coefficients[k, 8] * (x * x - y * y)
    )
    return max(value, np.float32(0))


@njit(cache=True, nogil=True, error_model="numpy")
@typing.no_type_check
def _power(base, exponent):
    """A whole power by squaring: highlights need hundreds of thousands of them."""
    value = np.float32(1)
    while exponent > 0:
        if exponent & 1:
            value *= base
        base *= base
        exponent >>= 1
    return value


@njit(cache=True, nogil=True, error_model="numpy")
@typing.no_type_check
def _on_curve(value, curve):
    """A table over [0, 1], linear between its entries."""
    last = np.float32(curve.shape[0] - 1)
    place = min(max(value, np.float32(0)), np.float32(1)) * last
    step = min(np.uint64(place), np.uint64(curve.shape[0] - 2))
    return curve[step] + (place - np.float32(step)) * (curve[step + np.uint64(1)] - curve[step])


@njit(cache=True, nogil=True, error_model="numpy")
@typing.no_type_check
def light_surface(
    triangle_id, barycentric, triangles, rows, rotation,
    sky, reflected, lamp, halfway, lamp_colour, highlight, is_phong, phong_shininess, curve, colour, coverage,
):  # fmt: skip
    """Fill `colour` float32 (H W 3) and `coverage` float32 (H W) from buffers n times as fine (n·H n·W).

    rows float32 (V 8): normal in the model frame, albedo, gloss, shininess. sky and reflected (3 9): polynomials, by
    channel, of the irradiance over π by the normal, and of what the mirrored ray meets. lamp and halfway: unit
    directions in camera axes. Under Phong's light textures are display-referred levels of 255 and gloss is the lamp's.
    Colour is the mean over those finer pixels that the mesh covers.
    """
    height, width = coverage.shape
    n = np.uint64(triangle_id.shape[0] // height)
    zero, one, three = np.float32(0), np.float32(1), np.float32(3)
    total = np.zeros(3, np.float32)
    for row in range(np.uint64(height)):
        for column in range(np.uint64(width)):
            count = 0
            total[:] = zero
            for i in range(n):
                for j in range(n):
                    y0, x0 = row * n + i, column * n + j
                    if triangle_id[y0, x0] < 0:
                        continue
                    count += 1
                    t = np.uint64(triangle_id[y0, x0])
                    a, b, c = np.uint32(triangles[t, 0]), np.uint32(triangles[t, 1]), np.uint32(triangles[t, 2])
                    wa, wb, wc = barycentric[y0, x0, 0], barycentric[y0, x0, 1], barycentric[y0, x0, 2]
                    mx = wa * rows[a, 0] + wb * rows[b, 0] + wc * rows[c, 0]
                    my = wa * rows[a, 1] + wb * rows[b, 1] + wc * rows[c, 1]
                    mz = wa * rows[a, 2] + wb * rows[b, 2] + wc * rows[c, 2]
                    length = np.sqrt(mx * mx + my * my + mz * mz)
                    scale = one / length if length > 0 else zero
                    x = (rotation[0, 0] * mx + rotation[0, 1] * my + rotation[0, 2] * mz) * scale
                    y = (rotation[1, 0] * mx + rotation[1, 1] * my + rotation[1, 2] * mz) * scale
                    z = (rotation[2, 0] * mx + rotation[2, 1] * my + rotation[2, 2] * mz) * scale
                    facing = max(lamp[0] * x + lamp[1] * y + lamp[2] * z, zero)
                    half = halfway[0] * x + halfway[1] * y + halfway[2] * z
                    if is_phong:
                        shine = _power(half, phong_shininess) if half > 0 else zero
                        for k in range(3):
                            albedo = wa * rows[a, 3 + k] + wb * rows[b, 3 + k] + wc * rows[c, 3 + k]
                            texture = np.float32(255) * _on_curve(albedo, curve)
                            total[k] += texture * (sky[k, 0] + lamp_colour[k] * facing) + shine * highlight[k]
                        continue
                    gloss = wa * rows[a, 6] + wb * rows[b, 6] + wc * rows[c, 6]
                    exponent = np.int32(rows[a, 7])
                    # (n + 2)/8 keeps the light that a highlight sends out nearly the same however small it is
                    shine = (
                        gloss * np.float32(exponent + 2) / np.float32(8) * _power(half, exponent) if half > 0 else zero
                    )
                    graze = one - max(z, zero)
                    mirrored = np.float32(0.3) * gloss * (one + three * graze * graze * graze)
                    # the viewer's direction (0, 0, 1) mirrored at the normal
                    rx, ry, rz = np.float32(2) * z * x, np.float32(2) * z * y, np.float32(2) * z * z - one
                    for k in range(3):
                        albedo = wa * rows[a, 3 + k] + wb * rows[b, 3 + k] + wc * rows[c, 3 + k]
                        total[k] += (
                            albedo * _harmonics(x, y, z, k, sky)
                            + mirrored * _harmonics(rx, ry, rz, k, reflected)
                            + shine * highlight[k]
                        )
            coverage[row, column] = np.float32(count) / np.float32(n * n)
            share = one / np.float32(count) if count else zero
            for k in range(3):
                colour[row, column, k] = total[k] * share


@njit(cache=True, nogil=True, error_model="numpy")
@typing.no_type_check
def develop_colours(colour, linear, curve, matrix, offset):
    """Turn `colour` float32 (H W 3) in place into display-referred [0, 1]: the curve if it is linear, then a mixture."""
    per_level = np.float32(1) / np.float32(255)
    pixels = colour.reshape(-1, 3)
    for p in range(np.uint64(pixels.shape[0])):
        red, green, blue = pixels[p, 0], pixels[p, 1], pixels[p, 2]
        if linear:
            red, green, blue = (
                np.float32(255) * _on_curve(red, curve),
                np.float32(255) * _on_curve(green, curve),
                np.float32(255) * _on_curve(blue, curve),
            )
        for k in range(3):
            mixed = matrix[k, 0] * red + matrix[k, 1] * green + matrix[k, 2] * blue + offset[k]
            pixels[p, k] = min(max(mixed * per_level, np.float32(0)), np.float32(1))

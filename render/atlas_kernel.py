"""The compiled loops of the atlas: which triangle owns a texel, and carrying vertices to texels.

Nothing but :mod:`render.atlas_raster` calls these; the slow, obvious version of each stands there and joins its tests.
"""

import typing

import numpy as np
from numba import float32, njit, uint32


@njit(cache=True, nogil=True)
@typing.no_type_check
def own_texels(texel, triangles, owner, weights):  # pragma: no cover (compiled)
    """Fill `owner` (S S; −1: nobody) and `weights` (S S 3) from `texel` (V 2) float64: the lowest index wins."""
    size = owner.shape[0]
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        area = edge(texel, a, b, texel[c, 0], texel[c, 1])
        if area == 0.0:
            continue
        sign = 1.0 if area > 0.0 else -1.0
        # A margin, because the box must not decide what the edges decide: both are rounded, not alike.
        x_low = min(texel[a, 0], texel[b, 0], texel[c, 0]) - 1e-6
        x_high = max(texel[a, 0], texel[b, 0], texel[c, 0]) + 1e-6
        y_low = min(texel[a, 1], texel[b, 1], texel[c, 1]) - 1e-6
        y_high = max(texel[a, 1], texel[b, 1], texel[c, 1]) + 1e-6
        for y in range(max(int(np.ceil(y_low)), 0), min(int(np.floor(y_high)), size - 1) + 1):
            for x in range(max(int(np.ceil(x_low)), 0), min(int(np.floor(x_high)), size - 1) + 1):
                if owner[y, x] >= 0:
                    continue
                e_a = sign * edge(texel, b, c, x, y)
                e_b = sign * edge(texel, c, a, x, y)
                e_c = sign * edge(texel, a, b, x, y)
                if e_a >= 0.0 and e_b >= 0.0 and e_c >= 0.0:
                    total = e_a + e_b + e_c
                    owner[y, x] = t
                    weights[y, x, 0] = e_a / total
                    weights[y, x, 1] = e_b / total
                    weights[y, x, 2] = e_c / total


@njit(cache=True, nogil=True)
@typing.no_type_check
def edge(texel, a, b, x, y):  # pragma: no cover (compiled)
    """Twice the area of (a, b, point). The lower index always comes first: neighbours get exactly opposite signs."""
    sign = 1.0
    if a > b:
        a, b, sign = b, a, -1.0
    ax, ay = texel[a, 0], texel[a, 1]
    return sign * ((texel[b, 0] - ax) * (y - ay) - (texel[b, 1] - ay) * (x - ax))


@njit(cache=True, nogil=True, boundscheck=False)
@typing.no_type_check
def gather(vertices, affine, texels, corners, weights, maps):  # pragma: no cover (compiled)
    """maps[:, texels[i]] = affine · (Σ_k weights[i, k] · vertices[corners[i, k]], 1); vertices (V 3), maps (3 S²)."""
    a00, a01, a02, a03 = affine[0, 0], affine[0, 1], affine[0, 2], affine[0, 3]
    a10, a11, a12, a13 = affine[1, 0], affine[1, 1], affine[1, 2], affine[1, 3]
    a20, a21, a22, a23 = affine[2, 0], affine[2, 1], affine[2, 2], affine[2, 3]
    for i in range(texels.shape[0]):
        a, b, c = uint32(corners[i, 0]), uint32(corners[i, 1]), uint32(corners[i, 2])
        w_a, w_b, w_c = (float32(weights[i, 0]), float32(weights[i, 1]), float32(weights[i, 2]))
        x = w_a * vertices[a, 0] + w_b * vertices[b, 0] + w_c * vertices[c, 0]
        y = w_a * vertices[a, 1] + w_b * vertices[b, 1] + w_c * vertices[c, 1]
        z = w_a * vertices[a, 2] + w_b * vertices[b, 2] + w_c * vertices[c, 2]
        texel = uint32(texels[i])
        maps[0, texel] = a00 * x + a01 * y + a02 * z + a03
        maps[1, texel] = a10 * x + a11 * y + a12 * z + a13
        maps[2, texel] = a20 * x + a21 * y + a22 * z + a23

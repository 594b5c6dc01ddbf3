"""The compiled part of a landmark fit: one Gauss-Newton step of each face with its coefficients eliminated.

:mod:`geometry.fit_elimination` is the interface, :mod:`geometry.fit_solver` has the mathematics. Per face the symmetric
matrix of K, J̃ and r side by side is written out (upper triangle, row by row) and the 2p rows of K are eliminated four
at a time, which leaves −J̃ᵀK⁻¹J̃ and −J̃ᵀK⁻¹r below: one pass gives factor, solutions and the reduced equations.

Matrices are flat and indices unsigned, so that the compiler sees the distance between two rows and vectorises.
"""

import typing

import numpy as np
from numba import njit

_ROW_ALIGNMENT = 16  # rows are padded to whole vectors
_PIVOTS_AT_ONCE = 4

# sums in any order and fused products; NaN and infinity keep their meaning
_FAST = {"contract", "reassoc"}


@njit(cache=True, nogil=True)
@typing.no_type_check
def dual_steps(gram, index, rows, jacobian, r, damping, prior, own_gradient, step, dual):
    """Fill `step` (n m) with δ and `dual` (n 2p) with K⁻¹·(r − J̃·δ).

    δ solves the damped equations (J̃ᵀK⁻¹J̃ + prior)·δ = own_gradient + J̃ᵀK⁻¹r.

    gram (9 c²): A·Aᵀ for each pair of axes, its type is the arithmetic's. index (n p): which of the c points each
    landmark is; (0 0) for "the c points in order". rows (n 2 3 p), jacobian (n m 2p) and r (n 2p) are whitened.
    damping (n): relative, on the reduced diagonal; `prior` (m) and `own_gradient` (n m) add to the reduced equations.
    """
    n, m, coordinates = jacobian.shape
    pivots = (coordinates + _PIVOTS_AT_ONCE - 1) // _PIVOTS_AT_ONCE * _PIVOTS_AT_ONCE
    used = pivots + m + 1
    width = (used + _ROW_ALIGNMENT - 1) // _ROW_ALIGNMENT * _ROW_ALIGNMENT
    flat = np.zeros(width * width, gram.dtype)
    side = np.zeros((15, coordinates // 2), gram.dtype)
    normal, gradient = np.empty((m, m)), np.empty(m)
    for face in range(n):
        write_matrix(flat, side, gram, index, rows, face, pivots, width)
        for i in range(coordinates):
            for q in range(m):
                flat[i * width + pivots + q] = jacobian[face, q, i]
            flat[i * width + pivots + m] = r[face, i]
        for i in range(pivots, used):
            for j in range(i, width):
                flat[i * width + j] = 0
        eliminate(flat, np.uint64(pivots), np.uint64(used), np.uint64(width))
        for q in range(m):
            for s in range(q, m):
                normal[q, s] = normal[s, q] = -flat[(pivots + q) * width + pivots + s]
            gradient[q] = own_gradient[face, q] - flat[(pivots + q) * width + pivots + m]
            normal[q, q] += prior[q]
        solve_damped(normal, gradient, damping[face], step[face])
        substitute_back(flat, coordinates, pivots, width, step[face], dual[face])


@njit(cache=True, nogil=True)
@typing.no_type_check
def dual_determined(gram, rows, determined):
    """Fill `determined` (n) with tr(1 − K⁻¹), for points in order and whitened `rows` (n 2 3 p)."""
    n, _, _, p = rows.shape
    pivots = (2 * p + _PIVOTS_AT_ONCE - 1) // _PIVOTS_AT_ONCE * _PIVOTS_AT_ONCE
    width = (pivots + _ROW_ALIGNMENT - 1) // _ROW_ALIGNMENT * _ROW_ALIGNMENT
    flat = np.zeros(width * width, gram.dtype)
    inverse = np.zeros((pivots + _PIVOTS_AT_ONCE) * width, gram.dtype)
    side, index = np.zeros((15, p), gram.dtype), np.zeros((0, 0), np.int64)
    for face in range(n):
        write_matrix(flat, side, gram, index, rows, face, pivots, width)
        eliminate(flat, np.uint64(pivots), np.uint64(pivots), np.uint64(width))
        determined[face] = pivots - squares_of_inverse(flat, inverse, np.uint64(pivots), np.uint64(width))


@njit(cache=True, nogil=True)
@typing.no_type_check
def write_matrix(flat, side, gram, index, rows, face, pivots, width):
    """K = B̃·B̃ᵀ + I of one face in the first `pivots` rows and columns; rows beyond the coordinates are the identity.

    `side` (15 p) holds the rows of all points, after nine Gram blocks of one row where those have to be gathered.
    """
    p = rows.shape[3]
    n_bank = np.int64(np.sqrt(gram.shape[1]) + 0.5)
    for axis in range(2):
        for k in range(3):
            for i in range(p):
                side[9 + 3 * axis + k, i] = rows[face, axis, k, i]
    blocks, of_points = gram.reshape(-1), side.reshape(-1)
    for i in range(np.uint64(p)):
        if index.shape[0] == 0:
            write_rows(flat, blocks, i * np.uint64(n_bank), np.uint64(gram.shape[1]), of_points, i, np.uint64(p), width)
        else:
            first = np.uint64(index[face, i] * n_bank)
            for j in range(np.uint64(p)):
                place = first + np.uint64(index[face, j])
                for pair in range(9):
                    side[pair, j] = gram[pair, place]
            write_rows(flat, of_points, np.uint64(0), np.uint64(p), of_points, i, np.uint64(p), width)
    for i in range(pivots):
        for j in range(max(i, 2 * p), pivots):
            flat[i * width + j] = 0
        flat[i * width + i] += 1


@njit(cache=True, nogil=True, fastmath=_FAST)
@typing.no_type_check
def write_rows(flat, blocks, first, stride, side, i, p, width):
    """Rows i and p + i of K = B̃·B̃ᵀ: K_ab(i, j) = Σ_xy rows[a, x, i] · G_xy(i, j) · rows[b, y, j].

    G_xy(i, j) is ``blocks[first + (3x + y) · stride + j]``. Of K_xx and K_yy only j ≥ i is read later.
    """
    g00 = first
    g01 = g00 + stride
    g02 = g01 + stride
    g10 = g02 + stride
    g11 = g10 + stride
    g12 = g11 + stride
    g20 = g12 + stride
    g21 = g20 + stride
    g22 = g21 + stride
    ax = np.uint64(9) * p
    ay = ax + p
    az = ay + p
    bx = az + p
    by = bx + p
    bz = by + p
    a0, a1, a2 = side[ax + i], side[ay + i], side[az + i]
    b0, b1, b2 = side[bx + i], side[by + i], side[bz + i]
    top, bottom = i * np.uint64(width), (p + i) * np.uint64(width) + p
    for j in range(np.uint64(p)):
        s0 = a0 * blocks[g00 + j] + a1 * blocks[g10 + j] + a2 * blocks[g20 + j]
        s1 = a0 * blocks[g01 + j] + a1 * blocks[g11 + j] + a2 * blocks[g21 + j]
        s2 = a0 * blocks[g02 + j] + a1 * blocks[g12 + j] + a2 * blocks[g22 + j]
        flat[top + j] = s0 * side[ax + j] + s1 * side[ay + j] + s2 * side[az + j]
        flat[top + p + j] = s0 * side[bx + j] + s1 * side[by + j] + s2 * side[bz + j]
    for j in range(i // np.uint64(16) * np.uint64(16), p):
        t0 = b0 * blocks[g00 + j] + b1 * blocks[g10 + j] + b2 * blocks[g20 + j]
        t1 = b0 * blocks[g01 + j] + b1 * blocks[g11 + j] + b2 * blocks[g21 + j]
        t2 = b0 * blocks[g02 + j] + b1 * blocks[g12 + j] + b2 * blocks[g22 + j]
        flat[bottom + j] = t0 * side[bx + j] + t1 * side[by + j] + t2 * side[bz + j]


@njit(cache=True, nogil=True, fastmath=_FAST)
@typing.no_type_check
def eliminate(flat, pivots, used, width):
    """Cholesky of the first `pivots` rows of a symmetric matrix (upper triangle), and what is left of the others."""
    for k in range(np.uint64(0), pivots, np.uint64(_PIVOTS_AT_ONCE)):
        for q in range(np.uint64(_PIVOTS_AT_ONCE)):
            row = (k + q) * width
            for before in range(q):
                other = (k + before) * width
                factor = flat[other + k + q]
                for j in range(k, width):
                    flat[row + j] -= factor * flat[other + j]
            inverse = 1 / np.sqrt(flat[row + k + q])
            for j in range(k, width):
                flat[row + j] *= inverse
        r0 = k * width
        r1 = r0 + width
        r2 = r1 + width
        r3 = r2 + width  # 2 · width would be signed, and a signed index is tested for a wrap
        for i in range(k + np.uint64(_PIVOTS_AT_ONCE), used):
            f0, f1, f2, f3 = flat[r0 + i], flat[r1 + i], flat[r2 + i], flat[r3 + i]
            row = i * width
            aligned = i // np.uint64(_ROW_ALIGNMENT) * np.uint64(_ROW_ALIGNMENT)
            for j in range(aligned, width):  # what lies below the diagonal is never read
                flat[row + j] -= f0 * flat[r0 + j] + f1 * flat[r1 + j] + f2 * flat[r2 + j] + f3 * flat[r3 + j]


@njit(cache=True, nogil=True, fastmath=_FAST)
@typing.no_type_check
def squares_of_inverse(flat, inverse, pivots, width):
    """‖U⁻¹‖² = tr K⁻¹ of an eliminated matrix; row i of U⁻¹ is a combination of the rows after it."""
    total = flat[0] * 0
    for back in range(pivots):
        i = pivots - np.uint64(1) - back
        row, at = i * width, i * width
        for j in range(width):
            inverse[row + j] = 0
        for k in range(i + np.uint64(1), pivots, np.uint64(_PIVOTS_AT_ONCE)):
            f0, f1 = flat[at + k], flat[at + k + np.uint64(1)]
            f2, f3 = flat[at + k + np.uint64(2)], flat[at + k + np.uint64(3)]  # beyond the matrix their rows are zero
            r0 = k * width
            r1 = r0 + width
            r2 = r1 + width
            r3 = r2 + width
            for j in range(k, pivots):
                inverse[row + j] -= (
                    f0 * inverse[r0 + j] + f1 * inverse[r1 + j] + f2 * inverse[r2 + j] + f3 * inverse[r3 + j]
                )
        own = 1 / flat[at + i]
        squares = own * own
        for j in range(i + np.uint64(1), pivots):
            inverse[row + j] *= own
            squares += inverse[row + j] * inverse[row + j]
        inverse[row + i] = own
        total += squares
    return total


@njit(cache=True, nogil=True)
@typing.no_type_check
def solve_damped(normal, gradient, damping, step):
    """(N + damping · diag N) · step = gradient by Cholesky; a direction that no point sees gets no step."""
    m = len(gradient)
    largest = 0.0
    for q in range(m):
        largest = max(largest, normal[q, q])
    lower = np.zeros((m, m))
    for q in range(m):
        pivot = normal[q, q] * (1 + damping)
        for s in range(q):
            pivot -= lower[q, s] ** 2
        pivot = np.sqrt(max(pivot, 1e-14 * largest + 1e-300))
        lower[q, q] = pivot
        for below in range(q + 1, m):
            value = normal[below, q]
            for s in range(q):
                value -= lower[below, s] * lower[q, s]
            lower[below, q] = value / pivot
    for q in range(m):
        value = gradient[q]
        for s in range(q):
            value -= lower[q, s] * step[s]
        step[q] = value / lower[q, q]
    for q in range(m - 1, -1, -1):
        value = step[q]
        for s in range(q + 1, m):
            value -= lower[s, q] * step[s]
        step[q] = value / lower[q, q]


@njit(cache=True, nogil=True, fastmath=_FAST)
@typing.no_type_check
def substitute_back(flat, coordinates, pivots, width, step, dual):
    """a of U·a = U⁻ᵀ·(r − J̃·δ), whose right-hand side the elimination has left in the last columns."""
    m = len(step)
    for i in range(coordinates - 1, -1, -1):
        at = np.uint64(i * width)
        value = np.float64(flat[at + pivots + m])
        for q in range(m):
            value -= flat[at + pivots + q] * step[q]
        products = flat[at] * 0
        for j in range(np.uint64(i + 1), np.uint64(coordinates)):
            products += flat[at + j] * dual[j]
        dual[i] = (value - products) / flat[at + np.uint64(i)]

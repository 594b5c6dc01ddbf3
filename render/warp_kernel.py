"""The loops of :mod:`render.warp`: three channels in one 64-bit number, so that one product weighs all of them.

A packed pixel has its channels at bits 0, 21 and 42. Weights between pixels are 1/64 each way, so a weighted sum takes
8 + 12 bits of a field's 21. Source places are 32.32 fixed point; `matrix` (6,) int64 leads from pixels of `out` to places
of the source, half of 1/64 px already added.
"""

import typing

import numba
import numpy as np

_HALF = (1 << 11) | (1 << 32) | (1 << 53)


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def pack(planes, packed):
    """Fill packed (h + 2, w + 2) int64 from planes (3 h w), with a border of zeros."""
    first, second, third = planes[0], planes[1], planes[2]
    packed[0] = 0
    packed[-1] = 0
    for y in range(first.shape[0]):
        row = packed[y + 1]
        row[0] = 0
        row[-1] = 0
        for x in range(first.shape[1]):
            row[x + 1] = first[y, x] | (np.int64(second[y, x]) << 21) | (np.int64(third[y, x]) << 42)


@numba.njit(cache=True, nogil=True, inline="always")
@typing.no_type_check
def _weighted(flat, columns, u, v):
    """2^12 times the bilinear value at (u, v), counted from the border of zeros; `columns` of a packed row.

    Differences of packed pixels borrow from field to field; the sums that they end in do not.
    """
    place = np.uint64((v >> 32) * columns + (u >> 32))
    fx, fy = (u >> 26) & 63, (v >> 26) & 63
    below = place + np.uint64(columns)
    left, lower_left = flat[place], flat[below]
    upper = (left << 6) + fx * (flat[place + np.uint64(1)] - left)
    lower = (lower_left << 6) + fx * (flat[below + np.uint64(1)] - lower_left)
    return (upper << 6) + fy * (lower - upper)


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def _inside(start, step, end, count):
    """The first and one behind the last x of 0 … count − 1 with 0 <= start + x · step < end (all of one stretch)."""
    if step == 0:
        return (0, count) if 0 <= start < end else (0, 0)
    if step > 0:
        first, last = -(start // step), -((start - end) // step)
    else:
        first, last = (end - start) // step + 1, start // -step + 1
    return min(max(first, 0), count), min(max(last, 0), count)


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def warp(packed, matrix, lut, red, green, blue):
    """Fill the three planes (H W) with ``lut[k, bilinear(source channel k)]``; outside the source is 0.

    A row at a time: first the sums, which the processor's vectors take, then the tables, which they do not.
    """
    columns = packed.shape[1]
    one = np.int64(1) << 32
    flat = packed.ravel()
    width = red.shape[1]
    sums = np.empty(width, dtype=np.int64)
    for y in range(red.shape[0]):
        u = matrix[1] * y + matrix[2] + one
        v = matrix[4] * y + matrix[5] + one
        first_u, last_u = _inside(u, matrix[0], (columns - 1) * one, width)
        first_v, last_v = _inside(v, matrix[3], (packed.shape[0] - 1) * one, width)
        first, last = max(first_u, first_v), min(last_u, last_v)
        if first >= last:
            first = last = width
        sums[:first] = 0
        sums[last:] = 0
        _sum_row(flat, columns, u, v, matrix[0], matrix[3], first, last, sums)
        _look_up(sums, lut[0], lut[1], lut[2], red[y], green[y], blue[y])


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def _sum_row(flat, columns, u, v, right, down, first, last, sums):
    for x in range(first, last):
        sums[x] = _weighted(flat, columns, u + right * x, v + down * x) + _HALF


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def _look_up(sums, lut_red, lut_green, lut_blue, red, green, blue):
    for x in range(len(sums)):
        total = np.uint64(sums[x])
        red[x] = lut_red[(total >> np.uint64(12)) & np.uint64(255)]
        green[x] = lut_green[(total >> np.uint64(33)) & np.uint64(255)]
        blue[x] = lut_blue[(total >> np.uint64(54)) & np.uint64(255)]


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def warp_averaged(packed, matrix, spread, lut, red, green, blue):
    """The same with the mean of several places in each pixel, `spread` (n, 2) away from its middle."""
    columns = packed.shape[1]
    one = np.int64(1) << 32
    right, down = np.uint64((columns - 1) * one), np.uint64((packed.shape[0] - 1) * one)
    flat = packed.ravel()
    whole, half, field = len(spread) << 12, len(spread) << 11, (1 << 21) - 1
    for y in range(red.shape[0]):
        for x in range(red.shape[1]):
            r, g, b = half, half, half
            for k in range(len(spread)):
                u = matrix[0] * x + matrix[1] * y + matrix[2] + spread[k, 0] + one
                v = matrix[3] * x + matrix[4] * y + matrix[5] + spread[k, 1] + one
                if np.uint64(u) < right and np.uint64(v) < down:
                    total = _weighted(flat, columns, u, v)
                    r += total & field
                    g += (total >> 21) & field
                    b += (total >> 42) & field
            red[y, x] = lut[0, r // whole]
            green[y, x] = lut[1, g // whole]
            blue[y, x] = lut[2, b // whole]

"""The compiled loops of :mod:`render.surface_lookup`: triangles by cells of the UV square, and the search among them."""

import typing

import numpy as np
from numba import njit

_STRICTLY = 1e-9  # barycentric weight by which a place lies inside a triangle and not on its rim


@njit(cache=True, nogil=True)
@typing.no_type_check
def triangles_of_cells(corners, n_cells, starts, members):
    """Which triangles reach into each cell: count them with empty `members`, list them with full ones.

    corners (T 3 2) in cells. `starts` (n_cells² + 1) becomes the counts' running sum, or is read and comes back shifted
    by one cell's worth, so that cell k's list ends up at ``members[starts[k - 1] : starts[k]]``.
    """
    counting = len(members) == 0
    for t in range(np.uint32(len(corners))):
        a, b, c = corners[t, 0], corners[t, 1], corners[t, 2]
        left, right = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
        low, high = min(a[1], b[1], c[1]), max(a[1], b[1], c[1])
        for row in range(_cell(low, n_cells), _cell(high, n_cells) + 1):
            for column in range(_cell(left, n_cells), _cell(right, n_cells) + 1):
                cell = np.uint32(row * n_cells + column)
                if counting:
                    starts[cell + 1] += 1
                else:
                    members[np.uint32(starts[cell])] = t
                    starts[cell] += 1
    if counting:
        for cell in range(np.uint32(n_cells * n_cells)):
            starts[cell + 1] += starts[cell]


@njit(cache=True, nogil=True)
@typing.no_type_check
def find_places(places, corners, n_cells, starts, members, reach, triangle, weights, n_layers):
    """The triangle and barycentric weights of every place; all lengths in cells, `reach` at most one cell.

    triangle: −1 where none is near. n_layers: how many triangles hold the place inside them.
    """
    for p in range(np.uint32(len(places))):
        x, y = places[p, 0], places[p, 1]
        triangle[p], n_layers[p] = -1, 0
        if not (x >= -reach and y >= -reach and x <= n_cells + reach and y <= n_cells + reach):
            continue
        cell = np.uint32(_cell(y, n_cells) * n_cells + _cell(x, n_cells))
        first = starts[cell - 1] if cell > 0 else 0
        for k in range(first, starts[cell]):
            t = np.uint32(members[np.uint32(k)])
            w_a, w_b, w_c = _weights(x, y, corners[t])
            least = min(w_a, w_b, w_c)
            if least >= 0 and triangle[p] < 0:
                triangle[p] = t
                weights[p, 0], weights[p, 1], weights[p, 2] = w_a, w_b, w_c
            if least > _STRICTLY:
                n_layers[p] += 1
        if triangle[p] < 0:
            triangle[p] = _nearest(x, y, corners, n_cells, starts, members, reach, weights[p])


@njit(cache=True, nogil=True)
@typing.no_type_check
def _cell(value, n_cells):
    return min(max(int(np.floor(value)), 0), n_cells - 1)


@njit(cache=True, nogil=True)
@typing.no_type_check
def _weights(x, y, corner):
    """Barycentric weights of a place; a triangle without area holds nothing."""
    b_x, b_y = corner[1, 0] - corner[0, 0], corner[1, 1] - corner[0, 1]
    c_x, c_y = corner[2, 0] - corner[0, 0], corner[2, 1] - corner[0, 1]
    area = b_x * c_y - b_y * c_x
    if area == 0:
        return -1.0, -1.0, -1.0
    p_x, p_y = x - corner[0, 0], y - corner[0, 1]
    w_b = (p_x * c_y - p_y * c_x) / area
    w_c = (b_x * p_y - b_y * p_x) / area
    return 1 - w_b - w_c, w_b, w_c


@njit(cache=True, nogil=True)
@typing.no_type_check
def _nearest(x, y, corners, n_cells, starts, members, reach, weights):
    """The triangle whose rim is nearest, within `reach`; its weights there are written, −1: none."""
    best, found = reach * reach, -1
    for row in range(_cell(y - reach, n_cells), _cell(y + reach, n_cells) + 1):
        for column in range(_cell(x - reach, n_cells), _cell(x + reach, n_cells) + 1):
            cell = np.uint32(row * n_cells + column)
            first = starts[cell - 1] if cell > 0 else 0
            for k in range(first, starts[cell]):
                t = np.uint32(members[np.uint32(k)])
                for side in range(3):
                    a, b = corners[t, np.uint32(side)], corners[t, np.uint32((side + 1) % 3)]
                    e_x, e_y = b[0] - a[0], b[1] - a[1]
                    length = e_x * e_x + e_y * e_y
                    if length == 0:
                        continue
                    along = min(max(((x - a[0]) * e_x + (y - a[1]) * e_y) / length, 0.0), 1.0)
                    d_x, d_y = a[0] + along * e_x - x, a[1] + along * e_y - y
                    squared = d_x * d_x + d_y * d_y
                    if squared < best or (squared == best and found < 0):
                        best, found = squared, t
                        weights[np.uint32(side)] = 1 - along
                        weights[np.uint32((side + 1) % 3)] = along
                        weights[np.uint32((side + 2) % 3)] = 0.0
    return found

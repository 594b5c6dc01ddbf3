"""The compiled loop of quadric decimation: a heap with one candidate for each vertex.

Nothing but :mod:`geometry.decimation` calls this; what it does is written the slow, obvious way in
:mod:`geometry.decimation_reference`, which joins its tests.
"""

import heapq
import typing

import numpy as np
from numba import njit

from geometry.nearest_kernel import as_near, barycentric_of_nearest

SAME_COST = 1e-12
"""Measured costs are multiples of this, because two ways to close a ring can leave the same nearest points."""


@njit(cache=True, nogil=True)
@typing.no_type_check
def collapse(
    positions, triangles, quadrics, locked, n_removals, smallest_cosine, points, homes
):  # pragma: no cover (compiled)
    """As :func:`geometry.decimation_reference.collapse`."""
    n_vertices = positions.shape[0]
    corners = triangles.astype(np.int64)  # changed as vertices go
    quadrics = quadrics.copy()
    dead = np.zeros(corners.shape[0], np.bool_)
    lists = linked_corners(corners, n_vertices)
    pinned = pinned_points(points, homes, positions, corners)
    # rings of (triangle, one neighbour, the other), and the number of triangles on the edge to each neighbour
    ring, other_ring = np.empty((corners.shape[0], 3), np.int64), np.empty((corners.shape[0], 3), np.int64)
    sides, other_sides = np.zeros(n_vertices, np.int64), np.zeros(n_vertices, np.int64)
    # the neighbours themselves; in the loop below, the vertices whose candidates may have changed: at first all
    touched = np.arange(max(n_vertices, 2 * corners.shape[0] + 1))
    neighbours, other_neighbours = np.empty(touched.size, np.int64), np.empty(touched.size, np.int64)
    scratch = (ring, other_ring, sides, other_sides, neighbours, other_neighbours)

    removed, onto = np.empty(n_removals, np.int32), np.empty(n_removals, np.int32)
    turned = np.empty(n_removals, np.bool_)
    target, version = np.full(n_vertices, -1, np.int64), np.zeros(n_vertices, np.int64)
    heap = [(np.int64(0), 0.0, np.int64(0), np.int64(0)) for _ in range(0)]
    n, n_touched = 0, n_vertices
    while True:
        for i in range(n_touched):
            v = touched[i]
            version[v] += 1
            if not locked[v]:
                turns, cost, target[v] = best_collapse(
                    v, positions, corners, quadrics, dead, lists, pinned, scratch, smallest_cosine
                )
                if target[v] >= 0:
                    heapq.heappush(heap, (turns, cost, v, version[v]))
        while len(heap) > 0 and heap[0][3] != version[heap[0][2]]:
            heapq.heappop(heap)
        if n == n_removals or len(heap) == 0:
            return removed[:n], onto[:n], turned[:n]
        turns, cost, r, _ = heapq.heappop(heap)
        k = target[r]
        removed[n], onto[n], turned[n] = r, k, turns == 1
        n += 1
        version[r] += 1

        loose = np.int64(-1)
        for i in range(gather(r, corners, dead, lists, ring)):
            t = ring[i, 0]
            if ring[i, 1] == k or ring[i, 2] == k:
                dead[t] = True
                loose = unpin(t, loose, pinned)
            for c in range(3):
                if corners[t, c] == r:
                    corners[t, c] = k
        join(r, k, lists)
        for i in range(10):
            quadrics[k, i] += quadrics[r, i]

        # only the rings of k and its neighbours have changed, so only their candidates can have
        n_ring = gather(k, corners, dead, lists, ring)
        pin_again(loose, positions, corners, ring, n_ring, pinned)
        n_touched = count_sides(ring, n_ring, sides, touched)
        clear_sides(ring, n_ring, sides)
        touched[n_touched] = k
        n_touched += 1


@njit(cache=True, nogil=True)
@typing.no_type_check
def best_collapse(
    r, positions, corners, quadrics, dead, lists, pinned, scratch, smallest_cosine
):  # pragma: no cover (compiled)
    """The cheapest neighbour onto which `r` may go: (1 if a triangle turns over, cost, neighbour); neighbour −1: none."""
    ring, other_ring, sides, other_sides, neighbours, other_neighbours = scratch
    found = (np.int64(2), np.inf, np.int64(-1))
    n_ring = gather(r, corners, dead, lists, ring)
    n_neighbours = count_sides(ring, n_ring, sides, neighbours)
    n_open, ends, favourite, least = 0, np.int64(0), 0, np.inf
    for i in range(n_neighbours):
        k = neighbours[i]
        if sides[k] != 2:  # an edge of other than two triangles
            n_open, ends = n_open + 1, ends + k
        cost = quadric_error(quadrics, r, k, positions)
        if cost < least:
            favourite, least = i, cost
    # the likely one first: most others then stop soon
    neighbours[0], neighbours[favourite] = neighbours[favourite], neighbours[0]
    for i in range(n_neighbours):
        k = neighbours[i]
        if (n_open != 0 and n_open != 2) or (n_open == 2 and sides[k] == 2):
            continue  # a rim vertex goes along the rim, and stays where rims meet
        least = found[1] if found[0] == 0 else np.inf
        if len(pinned[0]) == 0:
            cost = quadric_error(quadrics, r, k, positions)
        else:
            cost = measured_error(k, positions, ring, n_ring, pinned, least)
        if cost > least:
            continue
        n_other = gather(k, corners, dead, lists, other_ring)
        count_sides(other_ring, n_other, other_sides, other_neighbours)
        end = ends - k if n_open == 2 else np.int64(-1)
        sound = keeps_topology(r, k, end, ring, n_ring, other_ring, n_other, sides, other_sides)
        clear_sides(other_ring, n_other, other_sides)
        if sound:
            turns = turns_over(r, k, positions, ring, n_ring, smallest_cosine)
            if (turns, cost, k) < found:
                found = (turns, cost, k)
    clear_sides(ring, n_ring, sides)
    return found


@njit(cache=True, nogil=True)
@typing.no_type_check
def keeps_topology(r, k, end, ring, n_ring, other_ring, n_other, sides, other_sides):  # pragma: no cover (compiled)
    """The link condition (Dey, Edelsbrunner, Guha and Nekhayev 1999); `end`: the rim's other neighbour of r, or −1."""
    if end >= 0 and other_sides[end] != 2 and other_sides[end] > 0:
        return False  # a rim of three vertices
    shared = 0
    for i in range(n_ring):
        for c in range(1, 3):
            u = ring[i, c]
            if sides[u] > 0 and other_sides[u] > 0:
                shared += 1
                sides[u] = -sides[u]  # counted
    for i in range(n_ring):
        for c in range(1, 3):
            sides[ring[i, c]] = abs(sides[ring[i, c]])
    if shared != sides[k]:
        return False  # a common neighbour that is not across the edge: two sheets would be glued
    for i in range(n_other):
        x, y = other_ring[i, 1], other_ring[i, 2]
        if x == r or y == r or sides[x] == 0 or sides[y] == 0:
            continue
        for j in range(n_ring):
            a, b = ring[j, 1], ring[j, 2]
            if (a == x and b == y) or (a == y and b == x):
                return False  # two triangles would fall on each other
    return True


@njit(cache=True, nogil=True)
@typing.no_type_check
def turns_over(r, k, positions, ring, n_ring, smallest_cosine):  # pragma: no cover (compiled)
    """1 when a triangle that stays turns further than `smallest_cosine` or loses its area, else 0."""
    for i in range(n_ring):
        a, b = ring[i, 1], ring[i, 2]
        if a == k or b == k:
            continue
        ox, oy, oz = area_vector(positions, r, a, b)
        nx, ny, nz = area_vector(positions, k, a, b)
        before = np.sqrt(ox * ox + oy * oy + oz * oz)
        after = np.sqrt(nx * nx + ny * ny + nz * nz)
        if before > 0.0 and ox * nx + oy * ny + oz * nz <= smallest_cosine * before * after:
            return np.int64(1)
    return np.int64(0)


@njit(cache=True, nogil=True)
@typing.no_type_check
def area_vector(positions, a, b, c):  # pragma: no cover (compiled)
    """(b − a) × (c − a)."""
    ax, ay, az = positions[a, 0], positions[a, 1], positions[a, 2]
    ux, uy, uz = positions[b, 0] - ax, positions[b, 1] - ay, positions[b, 2] - az
    vx, vy, vz = positions[c, 0] - ax, positions[c, 1] - ay, positions[c, 2] - az
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@njit(cache=True, nogil=True)
@typing.no_type_check
def quadric_error(quadrics, r, k, positions):  # pragma: no cover (compiled)
    """(Q_r + Q_k)(x_k), Q = (xx xy xz xw yy yz yw zz zw ww); rounding below zero counts as zero."""
    q = quadrics[r] + quadrics[k]
    x, y, z = positions[k, 0], positions[k, 1], positions[k, 2]
    linear = q[3] * x + q[6] * y + q[8] * z
    mixed = q[1] * x * y + q[2] * x * z + q[5] * y * z
    return max(q[0] * x * x + q[4] * y * y + q[7] * z * z + 2.0 * (mixed + linear) + q[9], 0.0)


@njit(cache=True, nogil=True)
@typing.no_type_check
def measured_error(k, positions, ring, n_ring, pinned, least):  # pragma: no cover (compiled)
    """What the squared distances of the ring's points grow by when its centre goes onto k; more than `least`: stopped."""
    points, first, following, squared = pinned
    growth, n_staying = 0.0, 0
    for i in range(n_ring):
        n_staying += ring[i, 1] != k and ring[i, 2] != k
        p = first[ring[i, 0]]
        while p >= 0:
            growth -= squared[p]
            p = following[p]
    for i in range(n_ring):
        p = first[ring[i, 0]]
        while p >= 0:
            nearest = np.inf
            for j in range(n_ring):
                a, b = ring[j, 1], ring[j, 2]
                if a == k or b == k:
                    if n_staying > 0:
                        continue
                    a = b = a + b - k  # of a lone triangle its far side is left
                distance = barycentric_of_nearest(points[p], positions[k], positions[a], positions[b])[0]
                nearest = min(nearest, distance)
            growth += nearest
            if growth > least + SAME_COST:
                return growth
            p = following[p]
    return np.rint(growth / SAME_COST) * SAME_COST


@njit(cache=True, nogil=True)
@typing.no_type_check
def squared_distance(p, t, points, positions, corners):  # pragma: no cover (compiled)
    """Of point p from triangle t."""
    a, b, c = corners[t, 0], corners[t, 1], corners[t, 2]
    return barycentric_of_nearest(points[p], positions[a], positions[b], positions[c])[0]


# Points, each pinned to a triangle ------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
@typing.no_type_check
def pinned_points(points, homes, positions, corners):  # pragma: no cover (compiled)
    """(points, the first point of each triangle, the point after each point, squared distance of each from its home)."""
    first = np.full(corners.shape[0], -1, np.int64)
    following = np.full(points.shape[0], -1, np.int64)
    squared = np.empty(points.shape[0])
    for p in range(points.shape[0]):
        squared[p] = squared_distance(p, homes[p], points, positions, corners)
        following[p] = first[homes[p]]
        first[homes[p]] = p
    return points, first, following, squared


@njit(cache=True, nogil=True)
@typing.no_type_check
def unpin(t, loose, pinned):  # pragma: no cover (compiled)
    """Take all points off triangle `t` and put them before the list that starts at `loose`; returns its new start."""
    _, first, following, _ = pinned
    p = first[t]
    first[t] = -1
    while p >= 0:
        after = following[p]
        following[p] = loose
        loose, p = p, after
    return loose


@njit(cache=True, nogil=True)
@typing.no_type_check
def pin_again(loose, positions, corners, ring, n_ring, pinned):  # pragma: no cover (compiled)
    """Give the loose points and all others of the ring to its nearest triangle, the lowest of those equally near."""
    points, first, following, squared = pinned
    if len(points) == 0:
        return
    for i in range(n_ring):
        loose = unpin(ring[i, 0], loose, pinned)
    while loose >= 0:
        p, loose = loose, following[loose]
        nearest = np.inf
        for i in range(n_ring):
            nearest = min(nearest, squared_distance(p, ring[i, 0], points, positions, corners))
        home = np.int64(corners.shape[0])
        for i in range(n_ring):  # once more: on a shared side rounding must not choose
            if squared_distance(p, ring[i, 0], points, positions, corners) <= as_near(nearest, 1.0):
                home = min(home, ring[i, 0])
        squared[p] = nearest
        following[p] = first[home]
        first[home] = p


# Rings ---------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
@typing.no_type_check
def linked_corners(corners, n_vertices):  # pragma: no cover (compiled)
    """The corners 3t + c of each vertex as a linked list (first, last, the one after each), so that lists join quickly."""
    head = np.full(n_vertices, -1, np.int64)
    tail = np.full(n_vertices, -1, np.int64)
    following = np.full(corners.size, -1, np.int64)
    for t in range(corners.shape[0]):
        for c in range(3):
            v, corner = corners[t, c], 3 * t + c
            if head[v] < 0:
                head[v] = corner
            else:
                following[tail[v]] = corner
            tail[v] = corner
    return head, tail, following


@njit(cache=True, nogil=True)
@typing.no_type_check
def join(r, k, lists):  # pragma: no cover (compiled)
    """Put the corners of `r` behind those of `k`."""
    head, tail, following = lists
    following[tail[k]] = head[r]
    tail[k] = tail[r]


@njit(cache=True, nogil=True)
@typing.no_type_check
def gather(v, corners, dead, lists, ring):  # pragma: no cover (compiled)
    """Write the living triangles of `v` as (triangle, next corner, corner after it); dead ones leave the list."""
    head, tail, following = lists
    n, before, corner = 0, np.int64(-1), head[v]
    while corner >= 0:
        t, c = corner // 3, corner % 3
        if dead[t]:
            if before < 0:
                head[v] = following[corner]
            else:
                following[before] = following[corner]
        else:
            ring[n, 0], ring[n, 1], ring[n, 2] = t, corners[t, (c + 1) % 3], corners[t, (c + 2) % 3]
            n += 1
            before = corner
        corner = following[corner]
    tail[v] = before
    return n


@njit(cache=True, nogil=True)
@typing.no_type_check
def count_sides(ring, n_ring, sides, neighbours):  # pragma: no cover (compiled)
    """sides[u] = triangles on the edge to u, for each neighbour; `neighbours` lists them, and their number comes back."""
    n = 0
    for i in range(n_ring):
        for c in range(1, 3):
            u = ring[i, c]
            if sides[u] == 0:
                neighbours[n] = u
                n += 1
            sides[u] += 1
    return n


@njit(cache=True, nogil=True)
@typing.no_type_check
def clear_sides(ring, n_ring, sides):  # pragma: no cover (compiled)
    """Back to zero for every neighbour."""
    for i in range(n_ring):
        sides[ring[i, 1]] = 0
        sides[ring[i, 2]] = 0

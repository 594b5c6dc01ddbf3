"""Triangles between the border of a flat shape and a frame round it, so that the whole is convex.

With such a scaffold a map whose border is not convex is still a convex combination map on a convex domain, and nothing
in it folds or overlaps (the idea of Jiang, Schaefer and Panozzo 2017, "Simplicial complex augmentation framework for
bijective maps").
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int32

from geometry.edge_weights import mollified
from geometry.intrinsic_delaunay import intrinsic_delaunay
from geometry.plane_areas import doubled_area, doubled_areas, turn

_MARGIN = 0.02
"""How far the frame stands off the border's box, of the box's longer side."""

_ROWS = 256
"""Sides that are compared with all others at a time, so that long borders do not fill the memory."""


@dataclass(frozen=True, slots=True)
class Scaffold:
    """Triangles, counter-clockwise, between a border and a frame.

    `points` are the frame (a rectangle's corners and one point on its right side), then points between it and the
    border; indices of `triangles` below l are places in the border's loop, l and above `points`.
    """

    points: Float[np.ndarray, "p 2"]
    triangles: Int32[np.ndarray, "s 3"]


FRAME = 5
"""How many of a scaffold's points are its frame."""


def scaffold(border: Float[np.ndarray, "l 2"], *, joined: Iterable[tuple[int, int]] = ()) -> Scaffold:
    """Fill the space between a simple counter-clockwise `border` and a rectangle round it.

    Cuts off ears, the shortest chord first, then flips edges to the constrained Delaunay triangulation. `joined` are
    pairs of places in the border that an edge within the shape joins already: a chord outside that joins them too gets
    a point in its middle. Else what lies between the two edges would hang on by two vertices, and a convex combination
    map lays that into a line. Raises ValueError when the border crosses itself or runs clockwise.
    """
    n = len(border)
    if len(crossing_sides(border)[0]) or not doubled_area(border) > 0:
        raise ValueError("the border crosses itself or runs clockwise: no triangles fit between it and a frame")
    low, high = border.min(axis=0), border.max(axis=0)
    margin = _MARGIN * (high - low).max()
    (left, bottom), (right, top) = low - margin, high + margin
    rightmost = int(border[:, 0].argmax())
    # a point of the frame at the height of the rightmost vertex: the bridge between them crosses nothing
    frame = np.array([[right, border[rightmost, 1]], [right, top], [left, top], [left, bottom], [right, bottom]])
    clockwise = (rightmost - np.arange(n + 1)) % n
    ring = [n, n + 1, n + 2, n + 3, n + 4, n, *clockwise.tolist()]
    points = np.concatenate([border, frame])
    triangles = _ears(points, ring)
    corners = points[triangles]
    lengths, _ = mollified(np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2))
    flipped = intrinsic_delaunay(triangles, lengths).triangles
    if (doubled_areas(points, flipped) > 0).all():
        triangles = flipped
    twice = {(min(i, j), max(i, j)) for i, j in joined}
    points, triangles = _with_middles(points, triangles, twice)
    return Scaffold(points[n:], triangles)


def simple_border(border: Float[np.ndarray, "l 2"]) -> Float[np.ndarray, "l 2"]:
    """The same border where it does not cross itself; where it does, the loop between the crossing is drawn straight.

    Longer and longer stretches are straightened until no two sides meet; a border that no short stretch can mend
    becomes an ellipse. So this always ends, with a border that is simple and counter-clockwise.
    """
    n, mended = len(border), np.array(border, dtype=np.float64)
    for reach in range(n):
        first, second = crossing_sides(mended)
        if not len(first):
            if doubled_area(mended) > 0:
                return mended
            break
        inside = np.zeros(n, dtype=bool)  # vertices that leave their place
        for i, j in zip(first.tolist(), second.tolist(), strict=True):
            start, end = (i + 1, j) if j - i <= n // 2 else (j + 1, i + n)
            inside[np.arange(start - reach, end + reach + 1) % n] = True
        if inside.mean() > 0.5:
            break
        mended = _straightened(mended, inside)
    return _ellipse(border)


def crossing_sides(border: Float[np.ndarray, "l 2"]) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
    """Pairs i < j of sides (i to i + 1, j to j + 1) of a closed polygon that meet though they are not neighbours.

    A side that runs back over its neighbour counts as well.
    """
    n, following = len(border), np.roll(border, -1, axis=0)
    low, high = np.minimum(border, following), np.maximum(border, following)
    firsts, seconds = [], []
    for start in range(0, n, _ROWS):
        rows = np.arange(start, min(start + _ROWS, n))
        near = (low[rows, None] <= high).all(axis=2) & (high[rows, None] >= low).all(axis=2)
        near &= np.arange(n) > rows[:, None]
        i, j = np.nonzero(near)
        i += start
        a, b, c, d = border[i], following[i], border[j], following[j]
        meet = (turn(a, b, c) * turn(a, b, d) <= 0) & (turn(c, d, a) * turn(c, d, b) <= 0)
        neighbours = (j - i == 1) | (j - i == n - 1)
        back = (((b - a) * (d - c)).sum(axis=1) < 0) & (turn(a, b, c) == 0) & (turn(a, b, d) == 0)
        hit = np.where(neighbours, back, meet)
        firsts.append(i[hit])
        seconds.append(j[hit])
    return np.concatenate(firsts), np.concatenate(seconds)


def _ears(points: np.ndarray, ring: list[int]) -> Int32[np.ndarray, "s 3"]:
    """Triangles of the polygon `ring` (counter-clockwise; it may touch itself along a bridge): Meisters 1975."""
    found = []
    flat = 1e-12 * np.ptp(points, axis=0).prod()
    while len(ring) > 3:
        names = np.array(ring)
        here = points[names]
        before, after = np.roll(here, 1, axis=0), np.roll(here, -1, axis=0)
        turns = turn(before, here, after)
        blunt = turns <= flat
        hollow, hollow_names = here[blunt], names[blunt]
        convex = np.flatnonzero(~blunt)
        for k in convex[np.argsort(np.linalg.norm(after - before, axis=1)[convex], kind="stable")]:
            a, b, c = before[k], here[k], after[k]
            own = [ring[k - 1], ring[k], ring[(k + 1) % len(ring)]]
            within = (turn(a, b, hollow) >= 0) & (turn(b, c, hollow) >= 0) & (turn(c, a, hollow) >= 0)
            if not (within & ~np.isin(hollow_names, own)).any():
                found.append(own)
                del ring[k]
                break
        else:
            raise ValueError("the border all but touches itself: no triangles fit between it and a frame")
    return np.array([*found, ring], dtype=np.int32)


def _with_middles(
    points: np.ndarray, triangles: np.ndarray, chords: set[tuple[int, int]]
) -> tuple[Float[np.ndarray, "q 2"], Int32[np.ndarray, "s 3"]]:
    """Every inner edge that is one of `chords` cut in two, and its two triangles with it."""
    places, faces = points.tolist(), [tuple(t) for t in triangles.tolist()]
    for i, j in sorted(chords):
        sides = [t for t in faces if i in t and j in t]
        if len(sides) != 2:
            continue
        middle = len(places)
        places.append(((points[i] + points[j]) / 2).tolist())
        faces = [t for t in faces if t not in sides]
        for t in sides:
            faces += [tuple(middle if v == gone else v for v in t) for gone in (i, j)]
    return np.array(places), np.array(faces, dtype=np.int32)


def _straightened(border: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Every run of vertices that are `inside` laid on the straight line between the vertices before and after it."""
    n, result = len(border), border.copy()
    steps = np.linalg.norm(np.roll(border, -1, axis=0) - border, axis=1)
    steps = np.maximum(steps, 1e-6 * steps.mean())
    anchors = np.flatnonzero(~inside)
    for start, end in zip(anchors, np.roll(anchors, -1), strict=True):
        run = (start + np.arange(1, (end - start) % n)) % n
        if len(run):
            along = np.cumsum(steps[np.append(start, run)])
            fraction = (along[:-1] / along[-1])[:, None]
            result[run] = border[start] + fraction * (border[end] - border[start])
    return result


def _ellipse(border: np.ndarray) -> np.ndarray:
    """The loop evenly round the ellipse in its box, turned so that vertices move as little as possible."""
    low, high = border.min(axis=0), border.max(axis=0)
    half = np.maximum((high - low) / 2, 1e-3 * (high - low).max())
    place = (border - (low + high) / 2) / half
    turn = np.exp(2j * np.pi * np.arange(len(border)) / len(border))
    phase = np.angle((np.conj(turn) * (place[:, 0] + 1j * place[:, 1])).sum())
    turned = turn * np.exp(1j * phase)
    return (low + high) / 2 + half * np.stack([turned.real, turned.imag], axis=1)

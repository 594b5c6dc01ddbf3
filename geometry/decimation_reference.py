"""Quadric decimation, slow and obvious: all candidates are weighed anew for each collapse, by the definitions.

For tests: ``decimate(..., collapse=geometry.decimation_reference.collapse)``.
"""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

Simplex = frozenset[int]
_SAME_COST = 1e-12  # measured costs that are equal but for rounding
_OUTSIDE = -1  # the vertex that the link condition of a surface with a rim puts outside of it


def collapse(
    positions: Float[np.ndarray, "v 3"],
    triangles: Int[np.ndarray, "t 3"],
    quadrics: Float[np.ndarray, "v 10"],
    locked: Bool[np.ndarray, " v"],
    n_removals: int,
    smallest_cosine: float,
    points: Float[np.ndarray, "p 3"],
    homes: Int[np.ndarray, " p"],
) -> tuple[Int[np.ndarray, " r"], Int[np.ndarray, " r"], Bool[np.ndarray, " r"]]:
    """Remove `n_removals` vertices r, each onto a neighbour k: (r, k, whether a triangle turned over), in their order.

    Always the pair of least cost (Q_r + Q_k)(x_k), then of lowest r and k, among those that keep the topology (the link
    condition of Dey, Edelsbrunner, Guha and Nekhayev 1999 for 2-complexes), that leave rims' vertices on the rims, and
    that turn no surviving triangle by more than arccos(`smallest_cosine`). Where no pair is left but such that turn a
    triangle, the cheapest of those. Fewer removals come back where the topology, or what is `locked`, allows no more.

    With `points`, each of which lies nearest to the triangle ``homes[p]``, the cost is measured instead: by how much the
    squared distances of the points on r's triangles grow.
    """
    surface = {t: tuple(corners) for t, corners in enumerate(triangles.tolist())}
    homes = homes.copy()
    matrices = [_matrix(q) for q in quadrics]
    places = np.column_stack([positions, np.ones(len(positions))])
    steps: list[tuple[int, int, bool]] = []
    while len(steps) < n_removals:
        stars = _stars(surface.values())
        open_edges = _open_edges(surface.values())
        links = {v: _link(v, star, open_edges) for v, star in stars.items()}
        candidates = []
        for r, star in stars.items():
            open_ends = [e for e in open_edges if r in e]
            if locked[r] or len(open_ends) not in (0, 2):
                continue
            for k in {v for t in star for v in t} - {r}:
                if open_ends and frozenset({r, k}) not in open_edges:
                    continue
                if links[r] & links[k] == _edge_link(r, k, star, open_edges) and _rims_stay(r, k, open_edges):
                    if len(points):
                        cost = _growth(r, k, surface, positions, points, homes)
                    else:
                        cost = max(float(places[k] @ (matrices[r] + matrices[k]) @ places[k]), 0.0)
                    candidates.append((_turns_over(r, k, star, positions, smallest_cosine), cost, r, k))
        if not candidates:
            break
        turned, _, r, k = min(candidates)
        gone = [t for t, corners in surface.items() if r in corners and k in corners]
        surface = {t: tuple(k if v == r else v for v in c) for t, c in surface.items() if t not in gone}
        ring = sorted(t for t, corners in surface.items() if k in corners)
        for p in np.flatnonzero(np.isin(homes, gone + ring)):
            homes[p] = _nearest(points[p], ring, surface, positions)
        matrices[k] = matrices[k] + matrices[r]
        steps.append((r, k, turned))
    table = np.array(steps, dtype=np.int32).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2].astype(bool)


def _matrix(q: np.ndarray) -> np.ndarray:
    upper = np.zeros((4, 4))
    upper[np.triu_indices(4)] = q
    return upper + np.triu(upper, 1).T


def _stars(surface: Iterable[tuple[int, ...]]) -> dict[int, list[tuple[int, ...]]]:
    """The triangles of each vertex."""
    stars: dict[int, list[tuple[int, ...]]] = {}
    for t in surface:
        for v in t:
            stars.setdefault(v, []).append(t)
    return stars


def _open_edges(surface: Iterable[tuple[int, ...]]) -> set[Simplex]:
    """Edges of other than two triangles: rims, and where sheets meet."""
    counts: dict[Simplex, int] = {}
    for t in surface:
        for edge in combinations(t, 2):
            counts[frozenset(edge)] = counts.get(frozenset(edge), 0) + 1
    return {edge for edge, count in counts.items() if count != 2}


def _link(v: int, star: list[tuple[int, ...]], open_edges: set[Simplex]) -> set[Simplex]:
    """What closes `v` in: the far edge of each of its triangles, where every open edge has one more, to the outside."""
    edges = [frozenset(t) - {v} for t in star]
    edges += [(e - {v}) | {_OUTSIDE} for e in open_edges if v in e]
    return {*edges, *(frozenset({u}) for e in edges for u in e)}


def _edge_link(r: int, k: int, star: list[tuple[int, ...]], open_edges: set[Simplex]) -> set[Simplex]:
    """The vertices across the edge r–k, and the outside where it is open."""
    across = {frozenset(t) - {r, k} for t in star if k in t}
    return across | ({frozenset({_OUTSIDE})} if frozenset({r, k}) in open_edges else set())


def _rims_stay(r: int, k: int, open_edges: set[Simplex]) -> bool:
    """The link condition of the graph of open edges: no loop of three collapses."""
    ends = [{u for e in open_edges if v in e for u in e - {v}} for v in (r, k)]
    return not ends[0] & ends[1]


def _turns_over(r: int, k: int, star: list[tuple[int, ...]], positions: np.ndarray, smallest_cosine: float) -> bool:
    for t in star:
        if k in t:
            continue
        before = _area_vector(positions[list(t)])
        after = _area_vector(positions[[k if v == r else v for v in t]])
        length = np.linalg.norm(before)
        if length > 0 and before @ after <= smallest_cosine * length * np.linalg.norm(after):
            return True
    return False


def _area_vector(corners: np.ndarray) -> np.ndarray:
    return np.cross(corners[1] - corners[0], corners[2] - corners[0])


def _growth(
    r: int, k: int, surface: dict[int, tuple[int, ...]], positions: np.ndarray, points: np.ndarray, homes: np.ndarray
) -> float:
    """By how much the squared distances of the points on r's triangles grow when r goes onto k."""
    ring = [t for t, corners in surface.items() if r in corners]
    staying = [[k if v == r else v for v in surface[t]] for t in ring if k not in surface[t]]
    staying = staying or [[k if v == r else v for v in surface[t]] for t in ring]  # a lone triangle leaves a side
    growth = 0.0
    for t in ring:
        those = points[homes == t]
        after = np.min([_squared_distances(those, positions[corners]) for corners in staying], axis=0)
        growth += (after - _squared_distances(those, positions[list(surface[t])])).sum()
    return float(np.rint(growth / _SAME_COST) * _SAME_COST)


def _nearest(point: np.ndarray, ring: list[int], surface: dict[int, tuple[int, ...]], positions: np.ndarray) -> int:
    """The lowest of the nearest triangles."""
    squared = {t: _squared_distances(point[None], positions[list(surface[t])])[0] for t in ring}
    nearest = min(squared.values()) * (1 + 1e-9) + 1e-24  # equal but for rounding, on a mesh of size one
    return min(t for t in ring if squared[t] <= nearest)


def _squared_distances(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """From a triangle: from its plane where the nearest point of that is inside, else from the nearest of its sides."""
    spans = corners[1:] - corners[0]
    shares = (points - corners[0]) @ np.linalg.pinv(spans)
    inside = (shares.min(axis=1) >= 0) & (shares.sum(axis=1) <= 1)
    from_plane = ((points - corners[0] - shares @ spans) ** 2).sum(axis=1)
    from_sides = []
    for a, b in combinations(corners, 2):
        share = np.clip((points - a) @ (b - a) / max((b - a) @ (b - a), 1e-300), 0, 1)
        from_sides.append(((points - a - share[:, None] * (b - a)) ** 2).sum(axis=1))
    return np.where(inside, from_plane, np.min(from_sides, axis=0))

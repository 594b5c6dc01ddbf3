"""Unfold a flat layout of a surface: what lies well stays where it is, what is folded is laid out anew, without folds.

A layout (a cylinder's, a free boundary's) is often right but for some places where it folds over itself. Here those
places become a **convex combination map** (Floater 2003, "One-to-one piecewise linear mappings over triangulations")
whose weights say what each vertex should keep: around a vertex that lies well the mean-value weights *of the layout*,
which hold it exactly where it is; around one that does not, the mean-value weights *of the surface* (Floater 2003,
"Mean value coordinates"), which open it. Only the surroundings of folds are solved for at first, the rest is fixed; the
surroundings grow wherever a fold is left. At the end of growing everything is free but a rectangle round the shape,
joined to its border by a scaffold of triangles (:mod:`geometry.scaffold`): then all weights are positive and what is
fixed is convex, so that by Floater's theorem **no triangle folds and none overlaps another**. Rounding alone can leave
folds (a tube so long that its end is smaller than a float64 can tell); they are counted.

A convex combination map makes protruding parts small. Rounds of stretch relaxation (Yoshizawa, Belyaev and Seidel 2004,
"A fast and simple stretch-minimizing mesh parameterization") give them their area back: weights toward a vertex are
divided by the stretch there, stay positive, and a round is kept only if nothing folds and the stretch is less.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from jaxtyping import Bool, Float, Int

from geometry.edge_weights import CornerGeometry, laplacian, mean_value_weights
from geometry.plane_areas import doubled_areas
from geometry.scaffold import FRAME, crossing_sides, scaffold, simple_border

_REACH = 8.0
"""How far around a fold vertices are free at first, in mean edge lengths along the surface."""

_THINNEST = 1e-6
"""Triangles of the layout whose height is below this share of their longest side have no weights to go by."""

_WIDENINGS = 6
"""How often a round of stretch relaxation may free more vertices before it is given up."""

_LEAST_GAIN = 0.01
"""A round of stretch relaxation that gains less than this share is the last."""


@dataclass(frozen=True, slots=True)
class Unfolding:
    """A layout without folds, and what it took.

    layout          positions in the unit of the layout that came in
    n_folded        triangles folded all the same: 0 but for rounding
    n_folded_before triangles that were folded, or flatter than asked for
    free            vertices that were solved for; all others are exactly where they were
    n_straightened  vertices of the border that were moved since the border crossed itself
    n_rounds        rounds of stretch relaxation that were kept
    stretch         Sander's L² stretch of all triangles, before and after these rounds (1: areas and angles kept)
    """

    layout: Float[np.ndarray, "v 2"]
    n_folded: int
    n_folded_before: int
    free: Bool[np.ndarray, " v"]
    n_straightened: int
    n_rounds: int
    stretch: tuple[float, float]


def unfolded(
    layout: Float[np.ndarray, "v 2"],
    *,
    vertices: Float[np.ndarray, "v 3"],
    triangles: Int[np.ndarray, "t 3"],
    border: Int[np.ndarray, " l"],
    flattest: float = 0.0,
    rounds: int = 0,
) -> Unfolding:
    """Unfold `layout`, a map of a disk: all holes but the `border` (a boundary loop) closed by triangles.

    flattest   triangles whose area in the layout is below this share of their area on the surface are laid out anew
               too; the layout is then in the vertices' unit
    rounds     at most so many rounds of stretch relaxation

    Raises ValueError when the layout is turned over as a whole.
    """
    problem = _Problem.of(layout, vertices, triangles, border, flattest)
    free = problem.near(problem.bad, _REACH)
    weights = problem.weights()
    placed, free = _widened_until_flat(problem, weights, free, _REACH, widenings=None)
    before = after = problem.stretch(placed)
    n_rounds = 0
    for _ in range(rounds if free.any() else 0):
        weights = (weights @ sp.diags_array(1 / problem.vertex_stretch(placed))).tocsr()
        trial, trial_free = _widened_until_flat(problem, weights, free, _REACH, widenings=_WIDENINGS)
        energy = problem.stretch(trial)
        if problem.folded(trial).any() or not energy < after:
            break
        gain, after = 1 - energy / after, energy
        placed, free, n_rounds = trial, trial_free, n_rounds + 1
        if gain < _LEAST_GAIN:
            break
    n = len(layout)
    return Unfolding(
        layout=placed[:n],
        n_folded=int(problem.folded(placed)[: problem.n_own].sum()),
        n_folded_before=int(problem.wrong.sum()),
        free=free[:n],
        n_straightened=problem.n_straightened,
        n_rounds=n_rounds,
        stretch=(before, after),
    )


@dataclass(frozen=True, slots=True)
class _Problem:
    """The layout in its scaffold: `points` are the vertices, then the scaffold's; `triangles` the surface's first."""

    points: np.ndarray
    triangles: np.ndarray
    n_vertices: int
    n_own: int
    on_surface: CornerGeometry
    areas: np.ndarray
    edges: sp.csr_array
    mean_edge: float
    wrong: np.ndarray
    bad: np.ndarray
    n_straightened: int

    @classmethod
    def of(
        cls, layout: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, border: np.ndarray, flattest: float
    ) -> "_Problem":
        layout = np.array(layout, dtype=np.float64)
        vertices = np.asarray(vertices, dtype=np.float64)
        corners = vertices[triangles]
        areas = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        wrong = _lies_badly(layout, triangles, flattest * areas)
        if doubled_areas(layout, triangles).sum() <= 0:
            raise ValueError(
                "the surface is turned over as a whole: its triangles are clockwise from outside; reverse them "
                "(triangles[:, ::-1])"
            )
        simple = simple_border(layout[border])
        moved = (simple != layout[border]).any(axis=1)
        layout[border] = simple
        around = scaffold(simple, joined=_joined_places(triangles, border))
        n, n_own = len(layout), len(triangles)
        outside = np.concatenate([border, n + np.arange(len(around.points))])[around.triangles].astype(np.int32)
        points, whole = np.concatenate([layout, around.points]), np.concatenate([triangles, outside]).astype(np.int32)

        bad = np.zeros(len(points), dtype=bool)
        bad[whole[_lies_badly(points, whole, np.append(flattest * areas, np.zeros(len(outside))))]] = True
        flat = CornerGeometry.of_mesh(_in_space(points), outside)
        surface = CornerGeometry.of_mesh(vertices, triangles)
        ends = np.concatenate([triangles[:, [k, (k + 1) % 3]] for k in range(3)])
        lengths = surface.lengths.T.ravel()
        once = ends[:, 0] < ends[:, 1]
        once |= ~np.isin(ends[:, 1].astype(np.int64) * n + ends[:, 0], ends[:, 0].astype(np.int64) * n + ends[:, 1])
        graph = sp.csr_array(
            (np.maximum(lengths[once], 1e-300), (ends[once, 0], ends[once, 1])), shape=(len(points), len(points))
        )
        problem = cls(
            points=points,
            triangles=whole,
            n_vertices=n,
            n_own=n_own,
            on_surface=_joined(surface, flat),
            areas=areas,
            edges=graph,
            mean_edge=float(lengths.mean()),
            wrong=wrong,
            bad=bad,
            n_straightened=int(moved.sum()),
        )
        bad |= problem._branches()
        bad[n : n + FRAME] = False
        return problem

    def _branches(self) -> np.ndarray:
        """Vertices round which the layout's triangles turn more than once (or less)."""
        corners = self.points[self.triangles]
        one, other = np.roll(corners, -1, axis=1) - corners, np.roll(corners, 1, axis=1) - corners
        angles = np.arctan2(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0], (one * other).sum(axis=2))
        total = np.bincount(self.triangles.ravel(), angles.ravel(), len(self.points))
        return np.abs(total - 2 * np.pi) > 1e-3

    def near(self, seeds: np.ndarray, reach: float) -> np.ndarray:
        """Vertices within `reach` mean edges of the seeds, along the surface."""
        if not seeds.any():
            return np.zeros(len(self.points), dtype=bool)
        distance = sp.csgraph.dijkstra(
            self.edges,
            directed=False,
            indices=np.flatnonzero(seeds),
            min_only=True,
            limit=reach * self.mean_edge,
        )
        reached = np.isfinite(distance) & self.may_move
        reached[self.n_vertices + FRAME :] = True  # in balance while their neighbours are
        return reached

    @property
    def may_move(self) -> np.ndarray:
        """All points but the frame."""
        place = np.arange(len(self.points)) - self.n_vertices
        return (place < 0) | (place >= FRAME)

    def weights(self) -> sp.csr_array:
        """Mean-value weights: of the layout round vertices that lie well, of the surface round the others."""
        n = len(self.points)
        well = sp.diags_array((~self.bad).astype(float))
        badly = sp.diags_array(self.bad.astype(float))
        # triangles with a bad corner have no say round good ones: there are none
        sound = self.triangles[~self.bad[self.triangles].all(axis=1)]
        sound = sound[~_lies_badly(self.points, sound, np.zeros(len(sound)))]
        of_layout = mean_value_weights(sound, n, CornerGeometry.of_mesh(_in_space(self.points), sound))
        of_surface = mean_value_weights(self.triangles, n, self.on_surface)
        return (well @ of_layout + badly @ of_surface).tocsr()

    def solve(self, weights: sp.csr_array, free: np.ndarray) -> np.ndarray:
        """Every free point at the weighted mean of its neighbours."""
        placed = self.points.copy()
        if free.any():
            rows = laplacian(weights)[free]
            # diagonally dominant, row by row: no pivoting, the factors stay sparse
            factors = spla.splu(
                rows[:, free].tocsc(),
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )
            placed[free] = factors.solve(-(rows[:, ~free] @ self.points[~free]))
        return placed

    def folded(self, points: np.ndarray) -> np.ndarray:
        """Triangles, the scaffold's too, without a positive area beyond rounding."""
        corners = points[self.triangles]
        longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
        extent = np.ptp(points, axis=0).max()
        return doubled_areas(points, self.triangles) <= 16 * np.finfo(np.float64).eps * longest * extent

    def vertex_stretch(self, points: np.ndarray) -> np.ndarray:
        """√(area on the surface / area in the layout) of each vertex's triangles; 1 at the frame."""
        own = self.triangles[: self.n_own]
        flat = np.maximum(0.5 * doubled_areas(points, own), 1e-300)
        n = len(points)
        curved = np.bincount(own.ravel(), np.repeat(self.areas, 3), n)
        laid = np.bincount(own.ravel(), np.repeat(flat, 3), n)
        stretch = np.sqrt(np.where(curved > 0, curved, 1.0) / np.where(curved > 0, laid, 1.0))
        return np.clip(stretch / np.median(stretch), 1e-3, 1e3)  # one round cannot make the weights unsolvable

    def stretch(self, points: np.ndarray) -> float:
        """Sander's L² stretch (Sander, Snyder, Gortler and Hoppe 2001, section 3), whatever the scale of the layout.

        √(Σ A (Γ² + γ²)/2 / Σ A · Σ a / Σ A), Γ and γ the singular values from the layout to the surface, A and a areas
        on the surface and in the layout; 1 where areas and angles are kept everywhere.
        """
        own = self.triangles[: self.n_own]
        laid = 0.5 * doubled_areas(points, own)
        sides = self.on_surface.lengths[: self.n_own]
        cotangents = self.on_surface.cotangents[: self.n_own]
        # (Γ² + γ²)/2 of the inverse map: the flat triangle's Dirichlet energy of the surface's sides
        corners = points[own]
        one, other = np.roll(corners, -1, axis=1) - corners, np.roll(corners, 1, axis=1) - corners
        flat_dots = (one * other).sum(axis=2)  # at corner k; opposite is side k + 1
        opposite = np.roll(sides, -1, axis=1) ** 2
        sound = (laid > 0) & (self.areas > 0) & np.isfinite(cotangents).all(axis=1)
        if not sound.any():
            return float("inf")
        ratio = (flat_dots * opposite).sum(axis=1)[sound] / (8 * laid[sound] ** 2)
        total = self.areas[sound].sum()
        return float(np.sqrt((self.areas[sound] * ratio).sum() / total * laid[sound].sum() / total))


def _widened_until_flat(
    problem: _Problem, weights: sp.csr_array, free: np.ndarray, reach: float, *, widenings: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Solve, and free more vertices round what is folded, twice as far each time, until nothing is or all are free."""
    placed = problem.solve(weights, free)
    while (folded := problem.folded(placed)).any() and (problem.may_move & ~free).any():
        if widenings == 0:
            break
        widenings = None if widenings is None else widenings - 1
        seeds = np.zeros(len(free), dtype=bool)
        seeds[problem.triangles[folded]] = True
        grown = free | problem.near(seeds, reach)
        if (grown == free).all() and reach * problem.mean_edge > 1e3 * problem.edges.data.sum():
            grown = problem.may_move
        reach *= 2
        if (grown != free).any():
            free = grown
            placed = problem.solve(weights, free)
    return placed, free


def overlaps_itself(layout: Float[np.ndarray, "v 2"], border: Int[np.ndarray, " l"]) -> bool:
    """Whether the border crosses itself; without that a disk whose triangles are all positive overlaps nowhere."""
    return bool(len(crossing_sides(layout[border])[0]))


def _lies_badly(points: np.ndarray, triangles: np.ndarray, least_areas: np.ndarray) -> np.ndarray:
    """Folded, smaller than the least area, or too thin to tell."""
    doubled = doubled_areas(points, triangles)
    corners = points[triangles]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    return doubled <= np.maximum(_THINNEST * longest**2, 2 * least_areas)


def _joined_places(triangles: np.ndarray, border: np.ndarray) -> list[tuple[int, int]]:
    """Places in the border between which an edge of the surface runs, the border's own sides left out."""
    place = np.full(int(triangles.max()) + 1, -1)
    place[border] = np.arange(len(border))
    ends = place[np.concatenate([triangles[:, [k, (k + 1) % 3]] for k in range(3)])]
    ends = np.unique(np.sort(ends[(ends >= 0).all(axis=1)], axis=1), axis=0)
    apart = ends[:, 1] - ends[:, 0]
    return [(int(i), int(j)) for i, j in ends[(apart > 1) & (apart < len(border) - 1)]]


def _in_space(points: np.ndarray) -> np.ndarray:
    return np.column_stack([points, np.zeros(len(points))])


def _joined(one: CornerGeometry, other: CornerGeometry) -> CornerGeometry:
    return CornerGeometry(
        np.concatenate([one.lengths, other.lengths]),
        np.concatenate([one.cotangents, other.cotangents]),
        np.concatenate([one.half_tangents, other.half_tangents]),
    )

"""The Tutte/Floater map: a face laid flat on a square, without folds.

The outer boundary is put on a convex border and every other vertex at the weighted mean of its neighbours. With
positive weights no triangle turns over (Tutte 1963, "How to draw a graph"; Floater 2003, "One-to-one piecewise linear
mappings over triangulations": so long as no inner edge between two boundary vertices lies in the border). The UV map of
the position maps of Feng et al. 2018 is such a map, with conformal weights and the boundary on the square (Bas et al.
2017, "3D morphable models as spatial transformer networks").

Conformal (cotangent) weights can be negative, so the theorem does not cover them. They are tried as they are first, and
the areas looked at; where something folds they are repaired, and :attr:`TutteMap.repair` says how. A natural border is
not convex and the theorem covers no weights within it; there the last repair is an unfolding, with weights and a frame
that the theorem covers again (:mod:`geometry.unfolding`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from jaxtyping import Float, Int, Int32

from geometry.atlas_border import circle_border, square_border
from geometry.edge_weights import (
    CornerGeometry,
    conformal_weights,
    laplacian,
    mean_value_weights,
    uniform_weights,
)
from geometry.intrinsic_delaunay import intrinsic_delaunay
from geometry.mesh import Mesh, boundary_loops, undirected_edges
from geometry.natural_boundary import fitted_to_square, natural_layout
from geometry.sound_surface import check_flattenable, close_holes, sound_loops
from geometry.unfolding import overlaps_itself, unfolded
from geometry.uv import UVAtlas

Weights = Literal["uniform", "mean-value", "conformal"]
Boundary = Literal["square", "circle", "natural"]
InnerLoops = Literal["fill", "free"]
Repair = Literal["none", "closing triangles clamped", "intrinsic Delaunay", "all clamped", "unfolded"]

_BULGE = 0.01
"""How far, of its length, a square's side stands out where an edge would otherwise lie in it."""

_LEAST_WEIGHT = 0.01
"""What clamped cotangent weights are raised to: the weight of an edge with two opposite angles of 89.4°."""


@dataclass(frozen=True, slots=True)
class TutteMap:
    """An atlas and how it came about.

    n_folded         triangles of the atlas that are folded or collapsed; 0 where the theorem's conditions were given
    repair           what was done to conformal weights that folded: "none"; "closing triangles clamped" (only what the
                     triangles over holes add was raised, the surface's own weights are as they are); "intrinsic
                     Delaunay" (the weights of another triangulation of the same surface); "all clamped" (small and
                     negative ones raised everywhere); "unfolded" (natural borders alone: the folds and their
                     surroundings were laid out anew). The first that leaves nothing folded, and a natural border that
                     does not cross itself
    n_folded_plain   triangles that the unrepaired weights folded
    n_negative       negative weights among those used, edges within the border left out
    residual         the largest ‖Σ_j w_ij (uv_i − uv_j)‖∞ / Σ_j |w_ij| over the free vertices, in UV units; where the
                     map was unfolded it shows how far that is from the weights asked for
    notes            sentences for people on everything that was not as usual; mostly none
    """

    atlas: UVAtlas
    weights: Weights
    repair: Repair
    n_folded: int
    n_folded_plain: int
    n_negative: int
    residual: float
    notes: tuple[str, ...]


def tutte(
    mesh: Mesh,
    *,
    weights: Weights = "conformal",
    boundary: Boundary | Float[np.ndarray, "l 2"] = "square",
    inner_loops: InnerLoops = "fill",
    closing_triangles: Int[np.ndarray, "c 3"] | None = None,
) -> UVAtlas:
    """Lay `mesh` flat, every triangle with positive area; the arguments are those of :func:`tutte_map`.

    Raises ValueError as `tutte_map` does, and when triangles fold or collapse all the same (a border that is not
    convex, a tube so long that its end shrinks below what a float64 can tell apart).
    """
    result = tutte_map(
        mesh, weights=weights, boundary=boundary, inner_loops=inner_loops, closing_triangles=closing_triangles
    )
    if result.n_folded:
        raise ValueError(
            f"{result.n_folded} of {len(result.atlas.triangles)} triangles fold or collapse with {weights} weights: "
            "the boundary is not convex, or the surface is too long for its boundary; cut it closer to the face, "
            "or look at the folds with tutte_map"
        )
    return result.atlas


def tutte_map(
    mesh: Mesh,
    *,
    weights: Weights = "conformal",
    boundary: Boundary | Float[np.ndarray, "l 2"] = "square",
    inner_loops: InnerLoops = "fill",
    closing_triangles: Int[np.ndarray, "c 3"] | None = None,
) -> TutteMap:
    """Lay `mesh` flat and tell how.

    weights             "uniform" (connections alone), "mean-value" (never folds, exact on flat meshes), "conformal"
                        (the least Dirichlet energy, exact on flat meshes)
    boundary            the longest loop (in millimetres) goes on the "square" or the "circle" by arc length, the face
                        upright (:mod:`geometry.atlas_border`); or where the free conformal map puts it, "natural"
                        (:mod:`geometry.natural_boundary`): with conformal weights the map is that one, with others it
                        lends its border; or to given positions: one UV for each vertex of :func:`outer_loop`, in [0, 1]
    inner_loops         "fill" closes eyes, mouth and other holes with triangles that become part of the atlas; "free"
                        leaves them open
    closing_triangles   triangles that close some holes (a model's own); those that make no manifold surface with the
                        mesh are left aside, and a note says so. Holes that they leave open are filled

    The atlas has the mesh's triangles first, then the closing ones. Raises ValueError for what cannot be laid flat:
    vertices that are not finite or that no triangle uses, several components, edges with more than two triangles,
    triangles wound against their neighbours, surfaces that are closed or have handles.
    """
    _check_names(weights, boundary, inner_loops)
    loops = sound_loops(mesh)
    outer, holes = loops[0], loops[1:]
    notes: list[str] = []
    triangles = mesh.triangles
    if inner_loops == "fill":
        triangles = close_holes(mesh, holes, closing_triangles, notes)
    check_flattenable(triangles, n_vertices=len(mesh.vertices), n_loops=1 if inner_loops == "fill" else len(loops))

    geometry = CornerGeometry.of_mesh(mesh.vertices, triangles)
    if geometry.lengthened:
        notes.append(
            f"some triangles have no area: every edge was taken {geometry.lengthened:.2g} mm longer for the weights"
        )
    is_natural = isinstance(boundary, str) and boundary == "natural"
    if is_natural:
        fixed = np.concatenate(boundary_loops(triangles))
        layouts = _natural_layouts(mesh, triangles, outer, weights, geometry, notes)
    else:
        fixed, border = outer, _border(mesh.vertices, triangles, outer, boundary, notes)
        candidates = _candidates(weights, mesh, triangles, geometry)
        layouts = ((repair, matrix, _solve(matrix, outer, border)) for repair, matrix in candidates)

    best, faults, n_folded_plain = None, None, None
    for repair, matrix, uv in layouts:
        # weights that fold may put vertices outside the border; an atlas lies in the square
        atlas = UVAtlas(np.clip(uv, 0.0, 1.0), triangles)
        n_folded = int(atlas.folded.sum())
        n_folded_plain = n_folded if n_folded_plain is None else n_folded_plain
        found = (n_folded, is_natural and overlaps_itself(uv, outer))
        if faults is None or found < faults:
            n_negative, residual = _negative_count(matrix, fixed), _residual(matrix, uv, fixed)
            best = TutteMap(atlas, weights, repair, n_folded, n_folded_plain, n_negative, residual, tuple(notes))
            faults = found
        if not any(found):
            break
    assert best is not None  # every kind of weights has a first candidate
    if faults is not None and faults[1]:
        crossing = "the natural border crosses itself, and no repair was found: parts of the atlas lie over each other"
        best = replace(best, notes=(*best.notes, crossing))
    return best


def outer_loop(mesh: Mesh) -> Int32[np.ndarray, " l"]:
    """The boundary loop that :func:`tutte` puts on the border: the longest in millimetres, as its triangles run."""
    return sound_loops(mesh)[0]


def _natural_layouts(
    mesh: Mesh, triangles: np.ndarray, outer: np.ndarray, weights: Weights, geometry: CornerGeometry, notes: list[str]
) -> Iterator[tuple[Repair, sp.csr_array, np.ndarray]]:
    """The free conformal map, or the one by other weights within its border; then the repairs."""
    vertices, loops = np.asarray(mesh.vertices, dtype=np.float64), boundary_loops(triangles)
    first: tuple[sp.csr_array, np.ndarray] | None = None
    for repair, conformal in _candidates("conformal", mesh, triangles, geometry):
        if repair not in ("none", "intrinsic Delaunay"):
            continue  # raised weights are not conformal: a free border of theirs means nothing
        uv = fitted_to_square(natural_layout(conformal, vertices, loops))
        if weights == "conformal":
            first = first or (conformal, uv)
            yield repair, conformal, uv
            continue
        _, matrix = next(_candidates(weights, mesh, triangles, geometry))
        first = (matrix, np.clip(_solve(matrix, outer, uv[outer]), 0.0, 1.0))
        yield "none", *first
        break
    assert first is not None  # "none" is the first candidate
    unfolded_uv = _unfolded_uv(mesh, triangles, loops, outer, first[1])
    if overlaps_itself(first[1], outer) and not overlaps_itself(unfolded_uv, outer):
        notes.append("the natural border crosses itself: it was redrawn where it does")
    yield "unfolded", first[0], unfolded_uv


def _unfolded_uv(
    mesh: Mesh, triangles: np.ndarray, loops: list[np.ndarray], outer: np.ndarray, uv: np.ndarray
) -> Float[np.ndarray, "v 2"]:
    """The layout without folds; holes that stay open are closed for as long as it takes."""
    holes = [loop for loop in loops if set(loop.tolist()) != set(outer.tolist())]
    disk = close_holes(Mesh(mesh.vertices, triangles), holes, None, [])
    result = unfolded(uv, vertices=np.asarray(mesh.vertices, dtype=np.float64), triangles=disk, border=outer)
    return fitted_to_square(result.layout)


def _candidates(
    weights: Weights, mesh: Mesh, triangles: np.ndarray, geometry: CornerGeometry
) -> Iterator[tuple[Repair, sp.csr_array]]:
    """The weights asked for, then their repairs, each made only when it is wanted."""
    n_vertices, n_own = len(mesh.vertices), len(mesh.triangles)
    if weights == "uniform":
        yield "none", uniform_weights(triangles, n_vertices)
    elif weights == "mean-value":
        yield "none", mean_value_weights(triangles, n_vertices, geometry)
    else:
        plain = conformal_weights(triangles, n_vertices, geometry)
        yield "none", plain
        if len(triangles) > n_own:
            # needles over a slit are no part of the face; their weights need only be positive
            closing = conformal_weights(triangles[n_own:], n_vertices, geometry.part(slice(n_own, None)))
            own = conformal_weights(triangles[:n_own], n_vertices, geometry.part(slice(n_own)))
            yield "closing triangles clamped", (own + _clamped(closing)).tocsr()
        delaunay = intrinsic_delaunay(triangles, geometry.lengths)
        intrinsic = CornerGeometry.of_lengths(delaunay.lengths)
        yield "intrinsic Delaunay", conformal_weights(delaunay.triangles, n_vertices, intrinsic)
        yield "all clamped", _clamped(plain)


def _clamped(weights: sp.csr_array) -> sp.csr_array:
    """The same with weights below the least one raised to it."""
    return sp.csr_array((np.maximum(weights.data, _LEAST_WEIGHT), weights.indices, weights.indptr), shape=weights.shape)


def _solve(weights: sp.csr_array, outer: np.ndarray, border: np.ndarray) -> Float[np.ndarray, "v 2"]:
    """UV of all vertices with the outer loop on the border."""
    uv = np.zeros((weights.shape[0], 2))
    uv[outer] = border
    free = np.ones(len(uv), dtype=bool)
    free[outer] = False
    if not free.any():
        return uv
    rows = laplacian(weights)[free]
    # diagonally dominant (uniform, mean-value) or positive definite (conformal): no pivoting, the factors stay sparse
    factors = spla.splu(
        rows[:, free].tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    uv[free] = factors.solve(-(rows[:, outer] @ border))
    return uv


def _residual(weights: sp.csr_array, uv: np.ndarray, fixed: np.ndarray) -> float:
    """The residual as :class:`TutteMap` defines it, over all vertices but the `fixed` ones."""
    free = np.setdiff1d(np.arange(len(uv)), fixed)
    if not len(free):
        return 0.0
    pull = np.abs(laplacian(weights)[free] @ uv).max(axis=1) / abs(weights[free]).sum(axis=1)
    return float(pull.max())


def _negative_count(weights: sp.csr_array, outer: np.ndarray) -> int:
    """Edges of negative weight that end in a free vertex at least once; the others have no say."""
    fixed = np.zeros(weights.shape[0], dtype=bool)
    fixed[outer] = True
    upper = sp.triu(weights).tocoo()
    return int(((upper.data < 0) & ~(fixed[upper.row] & fixed[upper.col])).sum())


def _border(
    vertices: np.ndarray,
    triangles: np.ndarray,
    outer: np.ndarray,
    boundary: Boundary | np.ndarray,
    notes: list[str],
) -> Float[np.ndarray, "l 2"]:
    """UV of the outer loop."""
    if isinstance(boundary, np.ndarray):
        if boundary.shape != (len(outer), 2):
            raise ValueError(
                f"{boundary.shape} boundary positions for a loop of {len(outer)} vertices; "
                "give one (u, v) for each of outer_loop(mesh)"
            )
        if not (np.isfinite(boundary).all() and boundary.min() >= 0 and boundary.max() <= 1):
            raise ValueError("boundary positions lie in [0, 1], as UV coordinates do; these do not")
        return boundary.astype(np.float64)
    if boundary == "circle":
        return circle_border(vertices, outer)
    square = square_border(vertices, outer)
    i, j = _chords(triangles, outer, len(vertices))
    n_flat = int(square.on_one_side(i, j).sum())
    if n_flat:
        notes.append(
            f"{n_flat} edges join two vertices of one side of the square and would lie flat in it: "
            f"the sides stand out by {_BULGE:.0%} of their length"
        )
        square = square_border(vertices, outer, bulge=_BULGE)
    return square.positions


def _chords(triangles: np.ndarray, outer: np.ndarray, n_vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Inner edges between two vertices of the outer loop ("dividing edges"), as places in the loop."""
    place = np.full(n_vertices, -1)
    place[outer] = np.arange(len(outer))
    edges, uses = undirected_edges(triangles[(place[triangles] >= 0).sum(axis=1) >= 2])
    i, j = place[edges[:, 0]], place[edges[:, 1]]
    neighbours = ((i - j) % len(outer) == 1) | ((j - i) % len(outer) == 1)
    dividing = (i >= 0) & (j >= 0) & ~(neighbours & (uses == 1))
    return i[dividing], j[dividing]


def _check_names(weights: str, boundary: str | np.ndarray, inner_loops: str) -> None:
    for what, value, allowed in (
        ("weights", weights, get_args(Weights)),
        ("boundary", boundary, get_args(Boundary)),
        ("inner_loops", inner_loops, get_args(InnerLoops)),
    ):
        if isinstance(value, str) and value not in allowed:
            raise ValueError(f"{what} {value!r} is none of {', '.join(allowed)}")

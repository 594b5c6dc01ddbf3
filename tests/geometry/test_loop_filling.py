from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.loop_filling import fill_loop
from geometry.mesh import boundary_loops, undirected_edges


def ring(n, rng, *, slit=1.0):
    """A lopsided annulus: its hole has vertices 0 … n − 1, squeezed to a slit; the outer rim n … 2n − 1."""
    s = np.arange(n)
    angle = 2 * np.pi * (s + rng.uniform(-0.3, 0.3, n)) / n
    hole = np.stack([np.cos(angle), slit * np.sin(angle), 0.2 * rng.normal(size=n)], axis=1)
    outer = np.stack([3 * np.cos(angle), 2 * np.sin(angle), rng.normal(size=n)], axis=1)
    after = (s + 1) % n
    triangles = np.concatenate([np.stack([s, s + n, after + n], 1), np.stack([s, after + n, after], 1)])
    return np.concatenate([hole, outer]), triangles.astype(np.int32)


def edges_of(triangles):
    return {frozenset(pair) for triangle in triangles.tolist() for pair in combinations(triangle, 2)}


@given(n=st.integers(3, 40), slit=st.sampled_from([1.0, 0.05, 0.0]), seed=st.integers(0, 2**32 - 1))
def test_a_filled_hole_is_closed_by_two_triangles_fewer_than_its_vertices(n, slit, seed):
    vertices, triangles = ring(n, np.random.default_rng(seed), slit=slit)
    hole = next(loop for loop in boundary_loops(triangles) if loop.max() < n)
    filling = fill_loop(vertices, triangles, hole)
    assert filling.shape == (n - 2, 3)
    closed = np.concatenate([triangles, filling])
    (rim,) = boundary_loops(closed)  # which also finds triangles wound against their neighbours
    assert sorted(rim.tolist()) == list(range(n, 2 * n))
    assert undirected_edges(closed)[1].max() == 2


def test_a_slit_is_closed_across_and_not_along():
    """Ten vertices on either lip, a tenth apart: no chord of the filling is longer than one step and the gap."""
    x = np.linspace(0, 1, 10)
    upper, lower = np.stack([x, x * 0 + 0.01, x * 0], 1), np.stack([x, x * 0 - 0.01, x * 0], 1)
    vertices = np.concatenate([lower, upper[::-1]])
    filling = fill_loop(vertices, np.zeros((0, 3), dtype=np.int32), np.arange(20, dtype=np.int32))
    lengths = [np.linalg.norm(np.subtract(*vertices[list(edge)])) for edge in edges_of(filling)]
    assert max(lengths) < 0.12


def test_an_edge_that_the_mesh_has_already_is_no_chord():
    """Rim 0 1 2 3 of a hole whose diagonal 0–2 is an edge of the mesh, round the outside by way of vertex 1's ear."""
    vertices = np.array([[0.0, 0, 0], [5, -0.1, 0], [0.1, 0.1, 0], [-5, 0.1, 0]])
    mesh = np.array([[0, 1, 2]], dtype=np.int32)  # 0–2 is far shorter than 1–3
    filling = fill_loop(vertices, mesh, np.array([0, 1, 2, 3], dtype=np.int32))
    assert frozenset((0, 2)) not in edges_of(filling)
    assert frozenset((1, 3)) in edges_of(filling)


def test_a_hole_whose_every_chord_is_an_edge_is_refused():
    """Császár's torus joins every two of seven vertices; the hole that a vertex leaves has no chord left."""
    i = np.arange(7)
    torus = np.concatenate([np.stack([i, i + 1, i + 3], 1), np.stack([i, i + 3, i + 2], 1)]) % 7
    triangles = torus[(torus != 0).all(axis=1)].astype(np.int32)
    (hole,) = boundary_loops(triangles)
    assert len(hole) == 6
    vertices = np.random.default_rng(0).normal(size=(7, 3))
    with pytest.raises(
        ValueError, match=r"hole at vertex 1 \(6 vertices\) cannot be closed: .* a surface with a handle"
    ):
        fill_loop(vertices, triangles, hole)

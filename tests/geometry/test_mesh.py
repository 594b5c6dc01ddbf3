import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from geometry.mesh import (
    Mesh,
    boundary_loops,
    check_triangles,
    component_count,
    signed_volume,
    submesh,
    undirected_edges,
    vertex_normals,
)
from geometry.rotation import rotation_from_vector

ROOT = Path(__file__).resolve().parents[2]
SEEDS = st.integers(0, 2**32 - 1)
TETRAHEDRON = Mesh(
    np.array([[0.0, 0, 0], [2, 0, 0], [0, 3, 0], [0, 0, 4]]),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=np.int32),
)


def annulus(sectors=5, *, offset=0):
    """Inner vertices 0 …, outer ones sectors …, counter-clockwise seen from +z."""
    s = np.arange(sectors)
    a, b = s, (s + 1) % sectors
    triangles = np.concatenate([np.stack([a, a + sectors, b + sectors], 1), np.stack([a, b + sectors, b], 1)])
    return (triangles + offset).astype(np.int32)


def hull(rng, n=30):
    """A lopsided convex solid, counter-clockwise from outside."""
    points = rng.normal(size=(n, 3)) * (1, 2, 3)
    solid = ConvexHull(points)
    outward = np.einsum("tx,tx->t", solid.equations[:, :3], np.cross(*edge_pair(points, solid.simplices)))
    triangles = np.where(outward[:, None] < 0, solid.simplices[:, ::-1], solid.simplices)
    return Mesh(points, triangles.astype(np.int32)), solid.volume


def edge_pair(points, triangles):
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return b - a, c - a


@given(seed=SEEDS)
def test_the_volume_is_positive_from_outside_and_turns_with_the_winding(seed):
    mesh, volume = hull(np.random.default_rng(seed))
    assert signed_volume(mesh.vertices, mesh.triangles) == pytest.approx(volume)
    assert signed_volume(mesh.vertices, mesh.triangles[:, ::-1]) == pytest.approx(-volume)


@given(seed=SEEDS)
def test_the_volume_does_not_move_with_the_mesh_and_turns_in_the_mirror(seed):
    rng = np.random.default_rng(seed)
    mesh, volume = hull(rng)
    moved = mesh.vertices @ rotation_from_vector(rng.normal(size=3)).T + rng.normal(size=3) * 100
    assert signed_volume(moved, mesh.triangles) == pytest.approx(volume)
    assert signed_volume(mesh.vertices * (1, -1, 1), mesh.triangles) == pytest.approx(-volume)


def test_a_tetrahedrons_volume_by_hand():
    assert signed_volume(TETRAHEDRON.vertices, TETRAHEDRON.triangles) == pytest.approx(2 * 3 * 4 / 6)


@given(seed=SEEDS)
def test_normals_are_unit_point_outward_and_turn_with_the_mesh(seed):
    rng = np.random.default_rng(seed)
    mesh, _ = hull(rng)
    used = np.unique(mesh.triangles)
    normals = vertex_normals(mesh.vertices, mesh.triangles)
    np.testing.assert_allclose(np.linalg.norm(normals[used], axis=1), 1)
    inside = mesh.vertices[used].mean(axis=0)
    assert (np.einsum("vx,vx->v", normals[used], mesh.vertices[used] - inside) > 0).all()
    rotation = rotation_from_vector(rng.normal(size=3))
    turned = vertex_normals(mesh.vertices @ rotation.T, mesh.triangles)
    np.testing.assert_allclose(turned, normals @ rotation.T, atol=1e-10)
    np.testing.assert_allclose(vertex_normals(mesh.vertices, mesh.triangles[:, ::-1]), -normals, atol=1e-12)


def test_normals_are_weighted_by_area_one_vertex_at_a_time():
    normals = vertex_normals(TETRAHEDRON.vertices, TETRAHEDRON.triangles)
    for vertex in range(4):
        total = np.zeros(3)
        for a, b, c in TETRAHEDRON.triangles[(TETRAHEDRON.triangles == vertex).any(axis=1)]:
            p, q, r = TETRAHEDRON.vertices[[a, b, c]]
            total += np.cross(q - p, r - p)
        np.testing.assert_allclose(normals[vertex], total / np.linalg.norm(total))


def test_normals_of_unused_vertices_and_flat_needles_are_zero():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 5, 5]], dtype=np.float32)
    normals = vertex_normals(vertices, np.array([[0, 1, 2]], dtype=np.int32))
    np.testing.assert_array_equal(normals, np.zeros((4, 3)))
    assert normals.dtype == np.float32


@given(seed=SEEDS)
def test_on_a_closed_surface_every_edge_has_two_triangles_and_eulers_number_is_two(seed):
    mesh, _ = hull(np.random.default_rng(seed))
    edges, uses = undirected_edges(mesh.triangles)
    assert (uses == 2).all()
    assert len(np.unique(mesh.triangles)) - len(edges) + len(mesh.triangles) == 2
    assert boundary_loops(mesh.triangles) == []


def test_edges_are_listed_once_in_order_with_their_triangles_counted():
    triangles = np.array([[3, 1, 2], [1, 3, 0], [3, 1, 4]], dtype=np.int32)
    edges, uses = undirected_edges(triangles)
    np.testing.assert_array_equal(edges, [[0, 1], [0, 3], [1, 2], [1, 3], [1, 4], [2, 3], [3, 4]])
    np.testing.assert_array_equal(uses, [1, 1, 1, 3, 1, 1, 1])
    assert edges.dtype == np.int32


def test_edges_of_no_triangles_are_none():
    edges, uses = undirected_edges(np.zeros((0, 3), dtype=np.int32))
    assert edges.shape == (0, 2)
    assert uses.shape == (0,)


def test_an_annulus_has_two_loops_along_its_triangles_each_from_its_lowest_vertex():
    inner, outer = boundary_loops(annulus(5))  # equal lengths: the lowest vertex decides which is first
    np.testing.assert_array_equal(inner, [0, 4, 3, 2, 1])
    np.testing.assert_array_equal(outer, [5, 6, 7, 8, 9])


def test_the_longest_loop_comes_first_and_of_equals_the_one_with_the_lowest_vertex():
    two = np.concatenate([annulus(4), annulus(6, offset=8)])
    loops = boundary_loops(two)
    assert [len(loop) for loop in loops] == [6, 6, 4, 4]
    assert [int(loop[0]) for loop in loops] == [8, 14, 0, 4]


@given(seed=SEEDS)
def test_every_edge_of_a_loop_has_one_triangle_which_runs_the_same_way(seed):
    rng = np.random.default_rng(seed)
    mesh, _ = hull(rng)
    triangles = mesh.triangles[1:]  # one triangle taken out: a hole of three
    (loop,) = boundary_loops(triangles)
    directed = {tuple(edge) for t in triangles.tolist() for edge in zip(t, t[1:] + t[:1], strict=True)}
    for a, b in zip(loop.tolist(), np.roll(loop, -1).tolist(), strict=True):
        assert (a, b) in directed
        assert (b, a) not in directed
    assert set(loop.tolist()) == set(mesh.triangles[0].tolist())
    assert loop[0] == loop.min()


@pytest.mark.parametrize(
    ("triangles", "sentence"),
    [
        ([[0, 1, 2], [0, 1, 3]], "edge 0–1 is used twice in one direction"),
        ([[0, 1, 2], [0, 3, 4]], "two boundary loops touch in vertex 0"),
    ],
)
def test_what_has_no_clear_boundary_is_refused(triangles, sentence):
    with pytest.raises(ValueError, match=sentence):
        boundary_loops(np.array(triangles, dtype=np.int32))


def test_components_are_counted_among_used_vertices_alone():
    two = np.concatenate([annulus(4), annulus(6, offset=8)])
    assert component_count(annulus(4), 8) == 1
    assert component_count(two, 20) == 2
    assert component_count(two, 25) == 2
    assert component_count(np.zeros((0, 3), dtype=np.int32), 7) == 0


@given(seed=SEEDS)
def test_a_submesh_keeps_whole_triangles_and_their_vertices_places(seed):
    rng = np.random.default_rng(seed)
    mesh, _ = hull(rng)
    keep = rng.random(len(mesh.vertices)) < 0.7
    triangles, new_index = submesh(mesh.triangles, keep)
    whole = keep[mesh.triangles].all(axis=1)
    np.testing.assert_array_equal(mesh.vertices[keep][triangles], mesh.vertices[mesh.triangles[whole]])
    np.testing.assert_array_equal(new_index >= 0, keep)
    np.testing.assert_array_equal(new_index[keep], np.arange(keep.sum()))


def test_indices_from_matlab_are_noticed():
    one_based = TETRAHEDRON.triangles + 1
    with pytest.raises(
        ValueError, match=r"refer to vertex 4 but the mesh has 4 vertices; .* \(MATLAB files count from one"
    ):
        Mesh(TETRAHEDRON.vertices, one_based)
    with pytest.raises(ValueError, match="refer to vertex -1; indices start at zero"):
        check_triangles(np.array([[0, 1, -1]], dtype=np.int32), 4)
    check_triangles(np.zeros((0, 3), dtype=np.int32), 0)


@pytest.mark.parametrize("corners", [2, 4])
def test_polygons_of_other_than_three_corners_are_refused_where_no_type_hook_does_it(corners):
    code = (
        "import numpy as np\n"
        "from geometry.mesh import check_triangles\n"
        f"check_triangles(np.zeros((5, {corners}), dtype=np.int32), 4)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"ValueError: triangles come as an array of shape (5, {corners}); (T, 3) is needed" in run.stderr

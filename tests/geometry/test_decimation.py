import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, Delaunay

from geometry import decimation, decimation_kernel, decimation_reference
from geometry.decimation import SMALLEST_COSINE, collapsed, decimate, tidied, vertex_quadrics
from geometry.mesh import Mesh, boundary_loops, component_count, undirected_edges
from geometry.nearest import walk_to_nearest

SEEDS = st.integers(0, 2**32 - 1)


def bumpy_annulus(rng, n=150, height=0.3):
    """Lopsided, irregular, with a hole and a concave outer rim."""
    points = rng.uniform(-1, 1, (n, 2)) * (1.0, 1.4)
    triangles = Delaunay(points).simplices
    centres = points[triangles].mean(axis=1)
    kept = triangles[(np.hypot(*(centres - 0.1).T) > 0.35) & (np.hypot(*(centres - (1.0, 1.4)).T) > 0.5)]
    used, kept = np.unique(kept, return_inverse=True)
    if not is_annulus(kept.reshape(-1, 3)):
        return bumpy_annulus(rng, n, height)
    vertices = np.column_stack([points[used], height * rng.normal(size=len(used))])
    return Mesh(vertices, kept.reshape(-1, 3).astype(np.int32))


def is_annulus(triangles):
    """Whether the rims are two: a cut through random points may leave some that touch in a vertex."""
    try:
        return len(boundary_loops(triangles)) == 2
    except ValueError:
        return False


def bumpy_ball(rng, n=150, roughness=0.2):
    directions = rng.normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    hull = ConvexHull(directions)
    a, b, c = (directions[hull.simplices[:, k]] for k in range(3))
    inward = (np.cross(b - a, c - a) * a).sum(axis=1) < 0
    triangles = np.where(inward[:, None], hull.simplices[:, ::-1], hull.simplices)
    scale = rng.uniform(1 - roughness, 1 + roughness, (n, 1)) * (1.0, 1.3, 0.8)
    return Mesh(directions * scale, triangles.astype(np.int32))


def open_book(rng, n=20):
    """Three sheets that meet in one spine: its edges have three triangles."""
    across = np.concatenate([np.zeros(6), rng.uniform(0.2, 1, n)])
    along = np.concatenate([np.array([0, 0.5, 0.8, 1.3, 1.6, 2]), rng.uniform(0, 2, n)])
    page = Delaunay(np.stack([across, along], axis=1)).simplices
    vertices, triangles = [np.stack([0 * along[:6], along[:6], 0 * along[:6]], axis=1)], []
    for sheet, angle in enumerate((0.1, 2.0, 4.5)):
        offset = np.where(page < 6, 0, sheet * n)
        triangles.append(page + offset)
        bump = 0.05 * rng.normal(size=n)
        x, z = across[6:] * np.cos(angle) - bump * np.sin(angle), across[6:] * np.sin(angle) + bump * np.cos(angle)
        vertices.append(np.stack([x, along[6:], z], axis=1))
    return Mesh(np.concatenate(vertices), np.concatenate(triangles).astype(np.int32))


MESHES = {"annulus": bumpy_annulus, "ball": bumpy_ball, "book": open_book}
SMALL = {"annulus": 24, "ball": 14, "book": 6}


def part(mesh, became):
    """What is left, with the old vertices' numbers."""
    return Mesh(mesh.vertices, collapsed(mesh.triangles, became))


def topology(triangles):
    """Euler characteristic, components, rims, and how many edges have one, two and three triangles' worth of meeting."""
    edges, counts = undirected_edges(triangles)
    euler = len(np.unique(triangles)) - len(edges) + len(triangles)
    return euler, component_count(triangles, int(triangles.max()) + 1), int(counts.max())


# The compiled loop and the reference ---------------------------------------------------------------------------


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("kind", MESHES)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_compiled_loop_collapses_what_the_reference_collapses(kind, measured, seed):
    rng = np.random.default_rng(seed)
    mesh = MESHES[kind](rng, SMALL[kind])
    points, homes = np.zeros((0, 3)), np.zeros(0, dtype=np.int32)
    if measured:
        points = mesh.vertices + 0.1 * rng.normal(size=mesh.vertices.shape)
        homes = walk_to_nearest(points, mesh, starts=np.arange(len(points))).triangles
    locked = rng.random(len(mesh.vertices)) < 0.3
    quadrics = vertex_quadrics(mesh.vertices, mesh.triangles)
    arguments = (mesh.vertices, mesh.triangles, quadrics, locked, len(locked), SMALLEST_COSINE, points, homes)
    compiled, reference = decimation_kernel.collapse(*arguments), decimation_reference.collapse(*arguments)
    for one, other in zip(compiled, reference, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(compiled[0]) > len(locked) // 4


def test_the_search_finds_with_the_compiled_loop_what_it_finds_with_the_reference(monkeypatch):
    monkeypatch.setattr(decimation, "N_TRIALS", 4)
    mesh = bumpy_ball(np.random.default_rng(3), 12)
    one = decimate(mesh, n_vertices=8)
    other = decimate(mesh, n_vertices=8, collapse=decimation_reference.collapse)
    np.testing.assert_array_equal(one.removed, other.removed)
    np.testing.assert_array_equal(one.onto, other.onto)
    assert len(one.removed) == 4


def test_a_collapse_that_turns_a_triangle_waits_until_no_other_is_left():
    """The centre of a flat star costs nothing, but none of its neighbours sees all the others; a pyramid's apex is dear."""
    angle = np.pi * np.arange(10) / 5
    radius = np.where(np.arange(10) % 2, 0.2, 1.0)
    star = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], axis=1)
    fan = np.stack([np.full(10, 10), np.arange(10), (np.arange(10) + 1) % 10], axis=1)
    pyramid = np.array([[3.0, 0, 0], [5, 0, 0], [5, 2, 0], [3, 2, 0], [4, 1, 1]])
    sides = np.array([[4, 0, 1], [4, 1, 2], [4, 2, 3], [4, 3, 0]]) + 11
    mesh = Mesh(np.concatenate([star, [[0.0, 0, 0]], pyramid]), np.concatenate([fan, sides]).astype(np.int32))
    locked = ~np.isin(np.arange(16), (10, 15))
    for collapse in (decimation_kernel.collapse, decimation_reference.collapse):
        collapses = decimate(mesh, n_vertices=1, locked=locked, measured_below=0, collapse=collapse)
        np.testing.assert_array_equal(collapses.removed, [15, 10])
        np.testing.assert_array_equal(collapses.turned, [False, True])


# Laws ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MESHES)
@given(seed=SEEDS)
@settings(max_examples=6)
def test_topology_stays_at_every_size(kind, seed):
    mesh = MESHES[kind](np.random.default_rng(seed))
    n = len(mesh.vertices)
    collapses = decimate(mesh, n_vertices=3)
    before = topology(mesh.triangles)
    for n_left in (n // 2, n // 4, n - len(collapses.removed)):
        triangles = collapsed(mesh.triangles, collapses.followed(n, n_left))
        assert topology(triangles) == before
        assert len(np.unique(triangles)) == n_left
        assert len(np.unique(np.sort(triangles, axis=1), axis=0)) == len(triangles)
        if kind == "annulus":
            assert len(boundary_loops(triangles)) == len(boundary_loops(mesh.triangles))


@given(seed=SEEDS)
@settings(max_examples=6)
def test_rim_vertices_go_along_their_own_rim(seed):
    mesh = bumpy_annulus(np.random.default_rng(seed))
    rim = np.full(len(mesh.vertices), -1)
    for i, loop in enumerate(boundary_loops(mesh.triangles)):
        rim[loop] = i
    collapses = decimate(mesh, n_vertices=12)
    on_rim = rim[collapses.removed] >= 0
    np.testing.assert_array_equal(rim[collapses.removed][on_rim], rim[collapses.onto][on_rim])


@given(seed=SEEDS)
@settings(max_examples=6)
def test_a_flat_square_stays_the_same_square(seed):
    rng = np.random.default_rng(seed)
    rim = [(x, y) for x in np.linspace(0, 1, 7) for y in np.linspace(0, 1, 7) if x in (0, 1) or y in (0, 1)]
    points = np.concatenate([rim, rng.uniform(0.05, 0.95, (60, 2))])
    mesh = Mesh(np.column_stack([points, 0 * points[:, 0]]), Delaunay(points).simplices.astype(np.int32))
    collapses = decimate(mesh, n_vertices=8, measured_below=0)
    left = collapsed(mesh.triangles, collapses.followed(len(points), 8))
    a, b, c = (points[left[:, k]] for k in range(3))
    areas = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    assert areas.min() > 0
    np.testing.assert_allclose(areas.sum(), 1.0)
    assert not collapses.turned.any()


def test_neither_size_nor_place_of_a_mesh_matters():
    mesh = bumpy_ball(np.random.default_rng(3))
    moved = Mesh(8 * mesh.vertices + (64.0, -16.0, 4.0), mesh.triangles)
    one, other = decimate(mesh, n_vertices=20), decimate(moved, n_vertices=20)
    np.testing.assert_array_equal(one.removed, other.removed)
    np.testing.assert_array_equal(one.onto, other.onto)


def test_locked_vertices_stay():
    mesh = bumpy_ball(np.random.default_rng(4))
    locked = np.arange(len(mesh.vertices)) % 5 == 2
    collapses = decimate(mesh, n_vertices=30, locked=locked)
    assert not locked[collapses.removed].any()
    assert len(collapses.removed) == len(mesh.vertices) - 30


def test_measured_collapses_leave_a_nearer_surface_than_quadrics_alone():
    mesh = bumpy_ball(np.random.default_rng(5), 1500, 0.005)
    distances = []
    for measured_below in (0, 4096):
        became = decimate(mesh, n_vertices=60, measured_below=measured_below).followed(1500, 60)
        distances.append(walk_to_nearest(mesh.vertices, part(mesh, became), starts=became).distances.mean())
    assert distances[1] < 0.95 * distances[0]


def test_a_tetrahedron_and_a_triangle_cannot_lose_a_vertex():
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    closed = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]], dtype=np.int32)
    assert len(decimate(Mesh(corners, closed), n_vertices=1).removed) == 0
    assert len(decimate(Mesh(corners[:3], closed[:1]), n_vertices=1).removed) == 0


def test_what_a_vertex_became_is_the_end_of_its_chain():
    mesh = bumpy_ball(np.random.default_rng(6))
    collapses = decimate(mesh, n_vertices=10)
    followed = list(range(150))
    for r, k in zip(collapses.removed.tolist(), collapses.onto.tolist(), strict=True):
        followed = [k if v == r else v for v in followed]
    np.testing.assert_array_equal(collapses.followed(150, 10), followed)


def test_coincident_vertices_are_merged_and_their_triangles_tidied():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, -0.0], [1, 1, 0]])
    triangles = np.array([[0, 1, 2], [1, 4, 3], [2, 3, 4], [3, 1, 0]], dtype=np.int32)
    tidy, stands_for = tidied(vertices, triangles)
    np.testing.assert_array_equal(stands_for, [0, 1, 2, 2, 4])
    np.testing.assert_array_equal(tidy, [[0, 1, 2], [1, 4, 2]])

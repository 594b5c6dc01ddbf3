import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.mesh import boundary_loops
from geometry.scaffold import crossing_sides
from geometry.unfolding import _Problem, overlaps_itself, unfolded

SEEDS = st.integers(0, 2**32 - 1)


def cap(shapes):
    mesh = shapes.sphere_cap()
    return mesh, boundary_loops(mesh.triangles)[0], np.ascontiguousarray(mesh.vertices[:, :2])


def areas(layout, triangles):
    a, b, c = (layout[triangles[:, k]] for k in range(3))
    return 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def test_a_layout_without_folds_is_not_touched(shapes):
    mesh, border, layout = cap(shapes)
    result = unfolded(layout, vertices=mesh.vertices, triangles=mesh.triangles, border=border, rounds=5)
    np.testing.assert_array_equal(result.layout, layout)
    assert (result.n_folded, result.n_folded_before, result.n_straightened, result.n_rounds) == (0, 0, 0, 0)
    assert not result.free.any()


def test_one_vertex_over_its_neighbour_moves_the_surroundings_alone(shapes):
    mesh, border, layout = cap(shapes)
    crumpled = layout.copy()
    crumpled[3] += 20.0
    result = unfolded(crumpled, vertices=mesh.vertices, triangles=mesh.triangles, border=border)
    assert result.n_folded_before > 0
    assert result.n_folded == 0
    assert (areas(result.layout, mesh.triangles) > 0).all()
    np.testing.assert_array_equal(result.layout[~result.free], layout[~result.free])
    assert 0.05 < result.free.mean() < 0.95
    assert np.abs(result.layout[3] - crumpled[3]).max() > 5


def test_vertices_that_lie_well_are_in_balance_where_they_are(shapes):
    """Solving for every vertex moves none when every weight comes from the layout, however far from the surface."""
    mesh, border, layout = cap(shapes)
    sheared = layout @ np.array([[1.0, 0.3], [0.0, 0.1]])
    problem = _Problem.of(sheared, mesh.vertices, mesh.triangles, border, 0.0)
    free = np.arange(len(problem.points)) < len(layout)
    assert not problem.bad.any()
    placed = problem.solve(problem.weights(), free)
    np.testing.assert_allclose(placed, problem.points, atol=1e-9)


@settings(max_examples=25)
@given(seed=SEEDS, noise=st.sampled_from([2.0, 10.0, 40.0, 200.0]), rounds=st.sampled_from([0, 3]))
def test_whatever_the_layout_nothing_folds_and_nothing_overlaps(shapes, seed, noise, rounds):
    mesh, border, layout = cap(shapes)
    rng = np.random.default_rng(seed)
    hit = rng.random(len(layout)) < rng.uniform(0.02, 0.5)
    crumpled = layout + noise * hit[:, None] * rng.normal(size=layout.shape)
    if areas(crumpled, mesh.triangles).sum() <= 0:
        return
    result = unfolded(crumpled, vertices=mesh.vertices, triangles=mesh.triangles, border=border, rounds=rounds)
    assert result.n_folded == 0
    assert (areas(result.layout, mesh.triangles) > 0).all()
    assert len(crossing_sides(result.layout[border])[0]) == 0  # with positive areas: no two points in one place
    assert result.stretch[1] <= result.stretch[0]


@settings(max_examples=20)
@given(seed=SEEDS, noise=st.sampled_from([5.0, 30.0]))
def test_ears_on_the_border_do_not_collapse(shapes, seed, noise):
    """Corners of the border in one triangle alone, folded inward: a chord outside would enclose one with its edge."""
    mesh, border, layout = cap(shapes)
    rng = np.random.default_rng(seed)
    tips = (layout[border] + layout[np.roll(border, -1)]) / 2 * rng.choice([1.03, 0.9], size=(len(border), 1))
    n = len(layout)
    ears = np.stack([np.roll(border, -1), border, n + np.arange(len(border))], axis=1).astype(np.int32)
    triangles = np.concatenate([mesh.triangles, ears])
    vertices = np.concatenate([mesh.vertices, np.column_stack([1.05 * tips, np.full(len(tips), 20.0)])])
    crumpled = np.concatenate([layout, tips])
    crumpled += noise * (rng.random(len(crumpled)) < 0.05)[:, None] * rng.normal(size=crumpled.shape)
    rim = boundary_loops(triangles)[0]
    result = unfolded(crumpled, vertices=vertices, triangles=triangles, border=rim)
    assert result.n_folded_before > 0
    assert result.n_folded == 0
    assert (areas(result.layout, triangles) > 0).all()
    assert not overlaps_itself(result.layout, rim)


def test_a_border_that_crosses_itself_is_said_and_mended(shapes):
    mesh, border, layout = cap(shapes)
    crumpled = layout.copy()
    crumpled[border[[4, 5]]] = crumpled[border[[5, 4]]]
    assert overlaps_itself(crumpled, border)
    result = unfolded(crumpled, vertices=mesh.vertices, triangles=mesh.triangles, border=border)
    assert 2 <= result.n_straightened <= 6
    assert result.n_folded == 0
    assert not overlaps_itself(result.layout, border)


def test_a_layout_wound_twice_round_a_vertex_is_unfolded(shapes):
    """Every triangle is positive, yet the map is two-to-one: the angle is doubled round the pole."""
    mesh, border, layout = cap(shapes)
    turn = (layout[:, 0] + 1j * layout[:, 1]) ** 2 / 80
    doubled = np.stack([turn.real, turn.imag], axis=1)
    assert (areas(doubled, mesh.triangles) > 0).mean() > 0.95
    result = unfolded(doubled, vertices=mesh.vertices, triangles=mesh.triangles, border=border)
    assert result.n_folded == 0
    assert not overlaps_itself(result.layout, border)
    assert (areas(result.layout, mesh.triangles) > 0).all()


def test_stretch_relaxation_gives_a_protruding_part_its_area(shapes):
    mesh, border, layout = cap(shapes)
    pole = np.linalg.norm(layout, axis=1) < 12
    layout[pole] *= -0.2  # a small turned-over middle
    plain, relaxed = (
        unfolded(layout, vertices=mesh.vertices, triangles=mesh.triangles, border=border, rounds=rounds)
        for rounds in (0, 6)
    )
    assert relaxed.n_rounds > 0
    assert relaxed.n_folded == plain.n_folded == 0
    assert relaxed.stretch[1] < relaxed.stretch[0]
    assert relaxed.stretch[0] == pytest.approx(plain.stretch[0])


def test_a_layout_turned_over_as_a_whole_is_refused(shapes):
    mesh, border, layout = cap(shapes)
    with pytest.raises(ValueError, match="turned over as a whole: its triangles are clockwise"):
        unfolded(layout * (-1, 1), vertices=mesh.vertices, triangles=mesh.triangles, border=border)

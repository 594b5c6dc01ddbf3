import numpy as np
import pytest
import scipy.linalg
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geometry.atlas_report import coverage_count, report_atlas
from geometry.edge_weights import CornerGeometry, conformal_weights
from geometry.mesh import Mesh, boundary_loops
from geometry.natural_boundary import fitted_to_square, natural_layout
from geometry.scaffold import crossing_sides
from geometry.unwrap import outer_loop, tutte, tutte_map

SEEDS = st.integers(0, 2**32 - 1)


def layout_of(mesh):
    geometry = CornerGeometry.of_mesh(mesh.vertices, mesh.triangles)
    weights = conformal_weights(mesh.triangles, len(mesh.vertices), geometry)
    return natural_layout(weights, mesh.vertices, boundary_loops(mesh.triangles))


def after_similarity(found, expected):
    """`found` turned, scaled and moved onto `expected`, least squares; a mirror image stays far off."""
    z, w = (p[:, 0] + 1j * p[:, 1] for p in (found, expected))
    system = np.column_stack([z, np.ones(len(z))])
    moved = system @ np.linalg.lstsq(system, w, rcond=None)[0]
    return np.stack([moved.real, moved.imag], axis=1)


def conformal_energy(mesh, uv):
    """½ Σ A (σ₁ − σ₂)²: triangle by triangle, without cotangents (Lévy et al. 2002, eq. 3)."""
    total = 0.0
    for triangle in mesh.triangles:
        a, b, c = mesh.vertices[triangle]
        x = (b - a) / np.linalg.norm(b - a)
        y = np.cross(np.cross(x, c - a), x)
        y = y / np.linalg.norm(y)
        local = np.array([[np.linalg.norm(b - a), 0], [(c - a) @ x, (c - a) @ y]]).T
        jacobian = np.stack([uv[triangle[1]] - uv[triangle[0]], uv[triangle[2]] - uv[triangle[0]]], axis=1)
        jacobian = jacobian @ np.linalg.inv(local)
        sigma = (np.hypot(jacobian[0, 0] + jacobian[1, 1], jacobian[1, 0] - jacobian[0, 1]),
                 np.hypot(jacobian[0, 0] - jacobian[1, 1], jacobian[1, 0] + jacobian[0, 1]))  # fmt: skip
        total += 0.5 * abs(np.linalg.det(local)) * 0.5 * sigma[1] ** 2
    return total


def spread(mesh, uv):
    """The second moment of the boundary about its centre, by arc length."""
    total, first, second = 0.0, np.zeros(2), 0.0
    for loop in boundary_loops(mesh.triangles):
        steps = np.linalg.norm(mesh.vertices[np.roll(loop, -1)] - mesh.vertices[loop], axis=1)
        weights = (steps + np.roll(steps, 1)) / 2
        total, first, second = (
            total + weights.sum(),
            first + weights @ uv[loop],
            second + weights @ (uv[loop] ** 2).sum(1),
        )
    return second / total - ((first / total) ** 2).sum()


def bumpy(shapes, seed, *, flat=False):
    mesh = shapes.annulus()
    rng = np.random.default_rng(seed)
    vertices = mesh.vertices + 0.5 * rng.normal(size=mesh.vertices.shape)
    return Mesh(vertices * (1, 1, 0) if flat else vertices, mesh.triangles)


@settings(max_examples=15)
@given(seed=SEEDS)
def test_a_flat_mesh_stays_as_it_is_up_to_a_similarity(shapes, seed):
    """With its hole open, however its triangles are shaped, wherever it lies in space."""
    rng = np.random.default_rng(seed)
    mesh = bumpy(shapes, seed, flat=True)
    a, b, c = (mesh.vertices[mesh.triangles[:, k], :2] for k in range(3))
    assume(((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0] > 0.05).all())
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn = turn * np.linalg.det(turn)  # a rotation: reflections turn a surface over
    layout = layout_of(Mesh(mesh.vertices @ turn.T + rng.normal(size=3), mesh.triangles))
    flat = mesh.vertices[:, :2]
    assert np.abs(after_similarity(layout, flat) - flat).max() < 1e-7 * np.ptp(flat)


def test_no_map_of_the_same_spread_has_less_conformal_energy(shapes):
    mesh = bumpy(shapes, 0)
    natural = layout_of(mesh)
    least = conformal_energy(mesh, natural) / spread(mesh, natural)
    rng = np.random.default_rng(1)
    others = [
        tutte(mesh, weights=weights, boundary=boundary, inner_loops="free").uv
        for weights in ("uniform", "mean-value", "conformal")
        for boundary in ("square", "circle", "natural")
    ]
    np.testing.assert_allclose(after_similarity(others.pop(), natural), natural, atol=1e-8)
    others += [natural + size * rng.normal(size=natural.shape) for size in (1e-3, 1e-2, 0.1)]
    others += [natural * (1.01, 1.0), natural + 0.01 * natural[:, ::-1]]
    for uv in others:
        assert conformal_energy(mesh, uv) / spread(mesh, uv) > least


def test_the_layout_is_the_dense_eigenvector(shapes):
    mesh = bumpy(shapes, 3)
    n = len(mesh.vertices)
    energy, moment = np.zeros((2 * n, 2 * n)), np.zeros((2 * n, 2 * n))
    for triangle in mesh.triangles.tolist():  # as in the paper: real matrices, cotangents and areas one by one
        for k in range(3):
            i, j, o = triangle[k], triangle[(k + 1) % 3], triangle[(k + 2) % 3]
            one, other = mesh.vertices[i] - mesh.vertices[o], mesh.vertices[j] - mesh.vertices[o]
            w = 0.25 * (one @ other) / np.linalg.norm(np.cross(one, other))
            for d in (0, n):
                energy[i + d, i + d] += w
                energy[j + d, j + d] += w
                energy[i + d, j + d] -= w
                energy[j + d, i + d] -= w
            for a, b, sign in ((i, j, -0.25), (j, i, 0.25)):  # −area = −½ Σ (u_i v_j − u_j v_i)
                energy[a, b + n] += sign
                energy[b + n, a] += sign
    for loop in boundary_loops(mesh.triangles):
        steps = np.linalg.norm(mesh.vertices[np.roll(loop, -1)] - mesh.vertices[loop], axis=1)
        for d in (0, n):
            moment[loop + d, loop + d] += (steps + np.roll(steps, 1)) / 2
    # 1/λ, since the moment is singular: the largest values of moment against energy, raised off zero
    centred = np.eye(2 * n)
    for d in (0, n):
        share = moment[d : d + n, d : d + n].diagonal()
        centred[d : d + n, d : d + n] -= np.outer(np.ones(n), share / share.sum())
    values, vectors = scipy.linalg.eigh(centred.T @ moment @ centred, energy + 1e-9 * np.eye(2 * n))
    assert values[-1] == pytest.approx(values[-2], rel=1e-5)  # the same map, turned by a right angle
    assert values[-3] < 0.9 * values[-2]
    expected = vectors[:, -1].reshape(2, n).T
    found = after_similarity(layout_of(mesh), expected)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.ptp(expected))


def test_the_map_of_a_spherical_cap_becomes_conformal_as_the_mesh_is_refined(shapes):
    """And lies near the stereographic one; not ever nearer, since in the limit all conformal maps have no energy."""
    energies = []
    for rings in (6, 12, 24):
        mesh, exact = shapes.exact_cap(rings)
        uv = tutte(mesh, boundary="natural").uv
        energies.append(conformal_energy(mesh, uv))
        assert np.abs(after_similarity(uv, exact) - exact).max() < 1e-3
    assert energies[1] < energies[0] / 3.5
    assert energies[2] < energies[1] / 3.5


@pytest.mark.parametrize("weights", ["uniform", "mean-value", "conformal"])
@pytest.mark.parametrize("name", ["sphere cap", "annulus", "head with eye holes", "slivers", "needles"])
def test_nothing_folds_or_overlaps_within_a_natural_border(shapes, name, weights):
    mesh = shapes.SHAPES[name]()
    result = tutte_map(mesh, weights=weights, boundary="natural")
    assert result.n_folded == 0
    assert (result.atlas.signed_areas > 0).all()
    assert len(crossing_sides(result.atlas.uv[outer_loop(mesh)])[0]) == 0
    low, high = result.atlas.uv.min(axis=0), result.atlas.uv.max(axis=0)
    assert max(high - low) == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose((low + high) / 2, 0.5, atol=0.03)


def spiral_stair():
    """A strip that goes round more than once: flat, it lies over itself."""
    n = 200
    angle = np.linspace(0, 9.0, n)
    rise = 1.0 * angle
    inner, outer = (np.stack([r * np.cos(angle), r * np.sin(angle), rise], axis=1) for r in (6.0, 14.0))
    i = np.arange(n - 1)
    triangles = np.concatenate([np.stack([i, n + i, n + i + 1], 1), np.stack([i, n + i + 1, i + 1], 1)])
    return Mesh(np.concatenate([inner, outer]), triangles.astype(np.int32))


def test_a_natural_border_that_crosses_itself_is_unfolded_and_said_so():
    mesh = spiral_stair()
    geometry = CornerGeometry.of_mesh(mesh.vertices, mesh.triangles)
    plain = natural_layout(
        conformal_weights(mesh.triangles, len(mesh.vertices), geometry), mesh.vertices, boundary_loops(mesh.triangles)
    )
    assert len(crossing_sides(plain[outer_loop(mesh)])[0]) > 0
    result = tutte_map(mesh, boundary="natural")
    assert result.repair == "unfolded"
    assert any("the natural border crosses itself" in note for note in result.notes)
    assert result.n_folded == 0
    assert coverage_count(result.atlas, 400).max() == 1


def test_natural_maps_keep_angles_better_than_any_on_a_square(shapes):
    mesh = shapes.on_a_grid(40)
    stretch = {
        boundary: report_atlas(tutte(mesh, boundary=boundary), mesh, size=64).stretch_ratio
        for boundary in ("square", "circle", "natural")
    }
    assert stretch["natural"].p99 < min(stretch["square"].p99, stretch["circle"].p99)
    assert stretch["natural"].p50 < 1.1


def test_right_is_right_and_up_is_up(shapes):
    for name in ("sphere cap", "annulus"):
        mesh = shapes.SHAPES[name]()
        uv = tutte(mesh, boundary="natural").uv
        assert np.corrcoef(uv[:, 0], mesh.vertices[:, 0])[0, 1] > 0.9
        assert np.corrcoef(uv[:, 1], mesh.vertices[:, 1])[0, 1] > 0.9


def test_the_longer_side_fills_the_square_and_the_other_keeps_the_shape():
    uv = fitted_to_square(np.array([[0.0, 10], [4, 10], [4, 12], [0, 12]]))
    np.testing.assert_allclose(uv, [[0, 0.25], [1, 0.25], [1, 0.75], [0, 0.75]])


def test_the_vertices_numbers_do_not_matter(shapes):
    mesh = shapes.annulus()
    rng = np.random.default_rng(4)
    order = rng.permutation(len(mesh.vertices))
    renumbered = Mesh(mesh.vertices[order], rng.permutation(np.argsort(order).astype(np.int32)[mesh.triangles]))
    expected = tutte(mesh, boundary="natural", inner_loops="free").uv[order]
    np.testing.assert_allclose(tutte(renumbered, boundary="natural", inner_loops="free").uv, expected, atol=1e-7)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry import cylindrical
from geometry.built_in import load_built_in
from geometry.cylinder import Cylinder, cylindrical_map, fit_cylinder
from geometry.mesh import Mesh, component_count

SEEDS = st.integers(0, 2**32 - 1)


def wall(*, n_around=24, n_up=5, span=1.6, radius=70.0, centre=(12.0, -30.0), uneven=0.0, closed=False):
    """A part of an upright cylinder, or all of it, 100 mm high, the front in its middle."""
    s = np.linspace(-1, 1, n_around, endpoint=not closed)
    angle = span * (s + uneven * (s**2 - 1) / 2)
    height = np.linspace(-40, 60, n_up)
    angle, height = (a.ravel() for a in np.meshgrid(angle, height))
    vertices = np.stack([centre[0] + radius * np.sin(angle), height, centre[1] + radius * np.cos(angle)], axis=1)
    columns = n_around if closed else n_around - 1
    i, j = (a.ravel() for a in np.meshgrid(np.arange(columns), np.arange(n_up - 1)))
    a, b = j * n_around + i, j * n_around + (i + 1) % n_around
    triangles = np.concatenate([np.stack([a, b, b + n_around], 1), np.stack([a, b + n_around, a + n_around], 1)])
    return Mesh(vertices, triangles.astype(np.int32)), angle


def meets_back_half_plane(cylinder, a, b):
    """By hand: does the segment from a to b (x, z from the axis) pass x = 0 where z < 0?"""
    (ax, az), (bx, bz) = a, b
    if (ax < 0) == (bx < 0):
        return False
    return az + (bz - az) * (0 - ax) / (bx - ax) < 0


@given(span=st.floats(0.3, 3.0), radius=st.floats(20, 200), uneven=st.floats(-0.9, 0.9))
def test_the_cylinder_that_a_surface_lies_on_is_found_however_little_of_it_there_is(span, radius, uneven):
    mesh, _ = wall(span=span, radius=radius, uneven=uneven)
    cylinder = fit_cylinder(mesh)
    np.testing.assert_allclose(cylinder.centre_xz, (12, -30), atol=1e-6 * radius / span**2)
    assert cylinder.radius == pytest.approx(radius, rel=1e-6 / span**2)


def test_noise_does_not_shrink_the_circle_of_a_short_arc():
    mesh, angle = wall(n_around=200, n_up=12, span=0.5)
    noise = np.random.default_rng(0).normal(size=len(angle))
    outward = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=1)
    noisy = mesh.vertices + 2.0 * noise[:, None] * outward
    x, z = noisy[:, [0, 2]].T
    linear = np.linalg.lstsq(np.column_stack([2 * x, 2 * z, np.ones(len(x))]), x**2 + z**2, rcond=None)[0]
    shrunken = np.sqrt(linear[2] + linear[:2] @ linear[:2])
    assert shrunken < 0.9 * 70
    assert abs(fit_cylinder(Mesh(noisy, mesh.triangles)).radius - 70) < 0.5 * (70 - shrunken)


def test_how_finely_a_part_is_meshed_does_not_matter(shapes):
    coarse = shapes.on_a_grid(30)
    mesh = shapes.on_a_grid(59)  # its even rows and columns are the coarse ones
    half = mesh.triangles[mesh.vertices[mesh.triangles, 0].mean(axis=1) > 0]
    other = coarse.triangles[coarse.vertices[coarse.triangles, 0].mean(axis=1) < 0]
    mixed = Mesh(np.concatenate([mesh.vertices, coarse.vertices]), np.concatenate([half, other + len(mesh.vertices)]))
    cylinder, even = fit_cylinder(mixed), fit_cylinder(coarse)
    np.testing.assert_allclose(cylinder.centre_xz, even.centre_xz, atol=1.5)


def test_u_is_the_angle_and_v_the_height():
    mesh, angle = wall()
    uv = cylindrical(mesh).uv
    np.testing.assert_allclose(uv[:, 0], 0.5 + angle / 3.2, atol=1e-9)
    np.testing.assert_allclose(uv[:, 1], (mesh.vertices[:, 1] + 40) / 100, atol=1e-12)
    result = cylindrical_map(mesh)
    assert (len(result.crossing), len(result.unplaced), result.n_folded, result.notes) == (0, 0, 0, ())
    assert (result.atlas.signed_areas > 0).all()


def test_the_front_is_in_the_middle_even_when_one_side_goes_farther():
    mesh, angle = wall(uneven=0.4)
    keep = angle[mesh.triangles].max(axis=1) < 0.9
    uv = cylindrical(Mesh(mesh.vertices, mesh.triangles[keep])).uv
    used = np.unique(mesh.triangles[keep])
    order = np.argsort(angle[used])
    np.testing.assert_allclose(np.interp(0, angle[used][order], uv[used, 0][order]), 0.5, atol=1e-6)


def test_the_column_behind_the_axis_is_left_out_and_nothing_else():
    mesh, _ = wall(n_around=24, span=np.pi * (1 - 1e-9), closed=True)
    turned = Mesh(mesh.vertices * (1, 1, -1), mesh.triangles[:, ::-1].copy())  # the seam between two columns
    result = cylindrical_map(turned)
    assert len(result.crossing) == 2 * 4
    assert len(result.atlas.triangles) == len(mesh.triangles) - len(result.crossing)
    assert component_count(result.atlas.triangles, len(mesh.vertices)) == 1
    assert (result.atlas.signed_areas > 0).all()
    assert result.notes == (
        f"{len(result.crossing)} triangles cross the seam behind the axis and are left out of the atlas",
    )


def test_a_vertex_on_the_seam_lies_at_the_right_end():
    cylinder = Cylinder(np.array([1.0, 2.0]), 10.0)
    points = np.array([[1.0, 0, -3], [1.0, 0, 5], [3.0, 0, 2], [-1.0, 0, 2]])
    np.testing.assert_allclose(cylinder.angles(points), [np.pi, 0, np.pi / 2, -np.pi / 2])
    np.testing.assert_allclose(cylinder.angles(points * (-1, 1, 1) + (2, 0, 0))[0], np.pi)


@given(seed=SEEDS)
def test_crossing_triangles_are_those_that_meet_the_half_plane_behind_the_axis(seed):
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(30, 3))
    triangles = np.stack([rng.permutation(30)[:3] for _ in range(40)]).astype(np.int32)
    cylinder = Cylinder(rng.normal(size=2) * 0.3, 1.0)
    crosses = cylinder.crosses_seam(vertices, triangles)
    flat = vertices[:, [0, 2]] - cylinder.centre_xz
    for t, corners in enumerate(flat[triangles]):
        sides = [meets_back_half_plane(cylinder, corners[k], corners[(k + 1) % 3]) for k in range(3)]
        assert crosses[t] == any(sides)


def test_a_triangle_round_the_axis_is_left_out():
    crown = np.array([[0.0, 5, 2], [-2, 5, -1], [2, 5, -1]])
    assert Cylinder(np.zeros(2), 1.0).crosses_seam(crown, np.array([[0, 1, 2]], dtype=np.int32)).all()


def test_the_built_in_head_folds_at_its_ears_and_loses_a_strip_behind():
    model = load_built_in()
    result = cylindrical_map(Mesh(model.mean_shape, model.triangles))
    assert abs(result.cylinder.centre_xz[0]) < 0.1
    assert 60 < result.cylinder.radius < 80
    assert 100 < len(result.crossing) < 250
    assert (model.mean_shape[model.triangles[result.crossing], 2].max(axis=1) < 0).all()
    assert 5_000 < result.n_folded < 10_000
    assert len(result.unplaced) == 0
    folded = np.unique(result.atlas.triangles[result.atlas.folded])
    ears = np.abs(model.mean_shape[:, 0]) > 75
    assert np.isin(folded, np.flatnonzero(ears)).mean() > 0.1
    u, _ = result.atlas.uv[model.landmark_vertices].T
    assert abs(u[30] - 0.5) < 0.01  # the tip of the nose
    assert (u[:8] < 0.5).all()  # the jaw's right half
    assert (u[9:17] > 0.5).all()


def test_several_components_are_laid_round_one_axis():
    mesh, _ = wall()
    two = Mesh(
        np.concatenate([mesh.vertices, mesh.vertices + (0, 150, 0)]),
        np.concatenate([mesh.triangles, mesh.triangles + len(mesh.vertices)]).astype(np.int32),
    )
    assert cylindrical_map(two).n_folded == 0


@pytest.mark.parametrize(
    ("vertices", "triangles", "sentence"),
    [
        (np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), [[0, 1, 2]], "seen from above the surface is a line"),
        (np.array([[3.0, 0, 5], [3, 1, 5], [3, 2, 5]]), [[0, 1, 2]], "the surface has no area"),
        (np.array([[0.0, 2, 0], [1, 2, 0], [0, 2, 1]]), [[0, 1, 2]], "every triangle of the mesh crosses the seam"),
        (np.array([[0.0, np.nan, 0], [1, 0, 0], [0, 1, 1]]), [[0, 1, 2]], r"vertex 0 \(1 in all\) has coordinates"),
        (np.zeros((3, 3)), np.zeros((0, 3)), "a mesh without triangles"),
    ],
)
def test_what_no_cylinder_fits_is_refused(vertices, triangles, sentence):
    with pytest.raises(ValueError, match=sentence):
        cylindrical(Mesh(vertices, np.array(triangles, dtype=np.int32).reshape(-1, 3)))


def test_a_level_ring_has_no_height_to_unwrap():
    angle = np.linspace(-1, 1, 20)
    ring = np.concatenate([np.stack([r * np.sin(angle), 0 * angle, r * np.cos(angle)], axis=1) for r in (50, 60)])
    i = np.arange(19)
    triangles = np.concatenate([np.stack([i, i + 1, i + 21], 1), np.stack([i, i + 21, i + 20], 1)]).astype(np.int32)
    with pytest.raises(ValueError, match="is 0 mm high"):
        cylindrical(Mesh(ring, triangles))

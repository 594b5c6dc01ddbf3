import numpy as np
import pytest

from geometry import optimal_cylindrical
from geometry.atlas_report import coverage_count
from geometry.built_in import load_built_in
from geometry.cylinder import cylindrical_map, uv_of_flattened
from geometry.mesh import Mesh, boundary_loops
from geometry.optimal_cylinder import optimal_cylindrical_map
from geometry.scaffold import crossing_sides


def check_bijective(result):
    """All areas positive and a border that does not cross itself: no two points of the surface share a place."""
    atlas = result.atlas
    loops = boundary_loops(atlas.triangles)
    assert len(loops) == 1
    assert result.n_folded == 0
    assert (atlas.signed_areas > 0).all()
    assert len(crossing_sides(atlas.uv[loops[0]])[0]) == 0
    assert coverage_count(atlas, 300).max() == 1


@pytest.fixture(scope="module")
def skin():
    model = load_built_in()
    mesh = Mesh(model.mean_shape, model.triangles)
    return model, mesh, optimal_cylindrical_map(mesh, closing_triangles=model.closing_triangles)


@pytest.mark.parametrize("name", ["sphere cap", "annulus", "head with eye holes", "slivers", "needles"])
def test_nothing_folds_or_overlaps(shapes, name):
    mesh = shapes.SHAPES[name]()
    result = optimal_cylindrical_map(mesh)
    check_bijective(result)
    held = result.atlas.holds(mesh.triangles)
    np.testing.assert_array_equal(np.flatnonzero(~held), result.crossing)


def test_a_surface_that_the_cylinder_does_not_fold_stays_on_it(shapes):
    mesh = shapes.sphere_cap()
    result = optimal_cylindrical_map(mesh)
    np.testing.assert_array_equal(result.atlas.uv, cylindrical_map(mesh).atlas.uv)
    assert result.kept_share == 1
    assert result.notes == ()


def test_the_built_in_head_is_unfolded_and_what_was_right_is_kept(skin):
    _, mesh, result = skin
    plain = cylindrical_map(mesh)
    assert plain.n_folded > 5_000
    check_bijective(result)
    np.testing.assert_array_equal(result.crossing, plain.crossing)
    flat = result.cylinder.flattened(mesh.vertices)
    kept = np.abs(uv_of_flattened(flat) - result.atlas.uv).max(axis=1) < 0.01
    assert kept.mean() > 0.3
    assert result.kept_share > 0.25
    before, after = result.stretch
    assert after < 0.5 * before
    areas = result.atlas.signed_areas[: len(plain.atlas.triangles)]
    ears = np.abs(mesh.vertices[plain.atlas.triangles, 0]).min(axis=1) > 78
    assert ears.sum() > 500
    # the ears have texels at last: the median triangle gets more than a tenth of what the median of all gets
    assert np.median(areas[ears]) > 0.1 * np.median(areas)


def test_a_closed_surface_is_opened_by_the_seam(shapes):
    mesh = shapes.head(20)
    loops = boundary_loops(mesh.triangles)
    lids = []
    for loop in loops:
        apex = len(mesh.vertices) + len(lids)
        lids.append(
            (mesh.vertices[loop].mean(axis=0), np.stack([np.roll(loop, -1), loop, np.full(len(loop), apex)], 1))
        )
    closed = Mesh(
        np.concatenate([mesh.vertices, [top for top, _ in lids]]),
        np.concatenate([mesh.triangles, *(triangles for _, triangles in lids)]).astype(np.int32),
    )
    assert boundary_loops(closed.triangles) == []
    result = optimal_cylindrical_map(closed)
    check_bijective(result)
    assert len(result.crossing) > 10


def test_what_hangs_on_by_the_seam_or_by_a_vertex_alone_is_left_out(shapes):
    """A spike that points backwards through the seam: its tip is on both sides of the strip that is cut out."""
    mesh = shapes.head(30)
    vertices = mesh.vertices.copy()
    behind = (np.abs(vertices[:, 0] - 1) < 12) & (vertices[:, 2] < -70) & (np.abs(vertices[:, 1]) < 25)
    vertices[behind, 0] = 1 + 2.5 * np.sin(3.0 * np.arange(behind.sum()))  # tangled about the seam
    result = optimal_cylindrical_map(Mesh(vertices, mesh.triangles))
    check_bijective(result)
    crosses = result.cylinder.crosses_seam(vertices, mesh.triangles)
    assert crosses[result.crossing].sum() == crosses.sum()


def test_a_border_that_crosses_itself_on_the_cylinder_is_mended_and_said_so(shapes):
    mesh = shapes.annulus()
    rim = boundary_loops(mesh.triangles)[0]
    vertices = mesh.vertices.copy()
    vertices[rim[[10, 11]]] = vertices[rim[[11, 10]]]
    result = optimal_cylindrical_map(Mesh(vertices, mesh.triangles))
    check_bijective(result)
    assert any("the border crosses itself" in note for note in result.notes)


def test_holes_are_closed_with_the_models_own_triangles(skin):
    model, _, result = skin
    closing = result.atlas.triangles[-len(model.closing_triangles) :]
    np.testing.assert_array_equal(closing, model.closing_triangles)


def test_the_same_mesh_gives_the_same_bytes(shapes):
    mesh = shapes.head(16)
    assert optimal_cylindrical(mesh).uv.tobytes() == optimal_cylindrical(mesh).uv.tobytes()


def test_what_is_no_single_surface_is_refused(shapes):
    mesh = shapes.sphere_cap()
    n = len(mesh.vertices)
    two = Mesh(
        np.concatenate([mesh.vertices, mesh.vertices + 200]), np.concatenate([mesh.triangles, mesh.triangles + n])
    )
    with pytest.raises(ValueError, match="2 separate components"):
        optimal_cylindrical(two)
    with pytest.raises(ValueError, match="turned over as a whole"):
        optimal_cylindrical(Mesh(mesh.vertices, np.ascontiguousarray(mesh.triangles[:, ::-1])))


def test_a_handle_is_refused():
    n, m = 12, 8
    i, j = (a.ravel() for a in np.meshgrid(np.arange(n), np.arange(m), indexing="ij"))
    a, b, c, d = i * m + j, (i + 1) % n * m + j, (i + 1) % n * m + (j + 1) % m, i * m + (j + 1) % m
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    s, t = 2 * np.pi * i / n, 2 * np.pi * j / m
    ring = 60 + 20 * np.cos(t)  # a lying torus: one handle in front of the axis, cut once by the seam
    upright = np.stack([ring * np.cos(s), ring * np.sin(s), 200 + 20 * np.sin(t)], axis=1)
    with pytest.raises(ValueError, match="closed and does not go round its axis|has handles"):
        optimal_cylindrical(Mesh(upright, triangles))

import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial import cKDTree

from geometry import hierarchy as hierarchy_module
from geometry.built_in import load_built_in
from geometry.hierarchy import build_hierarchy, cached_hierarchy, hierarchy_fingerprint
from geometry.hierarchy_report import farthest_point_level, farthest_points, report_hierarchy, report_level
from geometry.mesh import Mesh, boundary_loops, component_count, undirected_edges

spec = importlib.util.spec_from_file_location("face_meshes", Path(__file__).with_name("face_meshes.py"))
face_meshes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(face_meshes)

LEVELS = (16, 64, 256, 1024)


@pytest.fixture(scope="module")
def face():
    return face_meshes.face_like_annulus(1500, 90, 24)


@pytest.fixture(scope="module")
def hierarchy(face):
    return build_hierarchy(face, levels=LEVELS)


@pytest.fixture(scope="module")
def built_in():
    model = load_built_in()
    started = time.perf_counter()
    hierarchy = build_hierarchy(Mesh(model.mean_shape, model.triangles))
    return hierarchy, time.perf_counter() - started


def check_matrices(hierarchy):
    for i, (down, up) in enumerate(zip(hierarchy.down, hierarchy.up, strict=True)):
        fine, coarse = (hierarchy.meshes[i + k].vertices for k in (0, 1))
        assert down.shape == (len(coarse), len(fine))
        assert up.shape == (len(fine), len(coarse))
        # down: one-hot, and no vertex twice
        np.testing.assert_array_equal(np.diff(down.indptr), 1)
        np.testing.assert_array_equal(down.data, 1)
        assert len(np.unique(down.indices)) == len(coarse)
        np.testing.assert_array_equal(down @ fine, coarse)
        np.testing.assert_array_equal(hierarchy.kept[i][down.indices], hierarchy.kept[i + 1])
        # up: barycentric
        assert np.abs(up.sum(axis=1) - 1).max() < 1e-6
        assert up.data.min() > 0
        assert np.diff(up.indptr).max() <= 3
        # there and back: nothing happens to what was kept
        assert abs(down @ up - sp.eye_array(len(coarse))).max() == 0
        np.testing.assert_array_equal((up @ (down @ fine))[down.indices], fine[down.indices])


# Laws ----------------------------------------------------------------------------------------------------------


def test_down_rows_are_one_hot_and_up_rows_barycentric(hierarchy):
    check_matrices(hierarchy)


def test_every_level_has_its_size_and_the_whole_meshs_topology(hierarchy, face):
    assert [len(mesh.vertices) for mesh in hierarchy.meshes] == [1500, 1024, 256, 64, 16]
    for mesh in hierarchy.meshes:
        edges, counts = undirected_edges(mesh.triangles)
        assert counts.max() == 2
        assert len(mesh.vertices) - len(edges) + len(mesh.triangles) == 0
        assert component_count(mesh.triangles, len(mesh.vertices)) == 1
        assert len(boundary_loops(mesh.triangles)) == 2
    assert hierarchy.n_turned == (0, 0, 0, 0, 0)


def test_levels_keep_the_winding(hierarchy):
    for mesh in hierarchy.meshes[:4]:
        a, b, c = (mesh.vertices[mesh.triangles[:, k]] for k in range(3))
        assert ((b - a)[:, 0] * (c - a)[:, 1] > (b - a)[:, 1] * (c - a)[:, 0]).mean() > 0.99


def test_levels_lie_nearer_than_those_of_farthest_point_sampling(hierarchy, face):
    for ours in report_hierarchy(hierarchy):
        theirs = farthest_point_level(face, ours.n_vertices)
        assert ours.n_vertices - 2 <= theirs.n_vertices <= ours.n_vertices
        assert ours.mean_distance < theirs.mean_distance


def test_up_sampling_puts_vertices_where_they_are_nearest(hierarchy, face):
    back = hierarchy.up[0] @ hierarchy.meshes[1].vertices
    error = np.linalg.norm(back - face.vertices, axis=1)
    np.testing.assert_allclose(error.mean(), report_hierarchy(hierarchy)[0].mean_distance)
    assert error.mean() < 0.3  # of a face of 200


def test_a_hierarchy_is_the_same_every_time():
    mesh = face_meshes.face_like_annulus(500, 50, 16)
    first, again = (build_hierarchy(mesh, levels=(16, 200)) for _ in range(2))
    for one, other in zip(first.up + first.down, again.up + again.down, strict=True):
        np.testing.assert_array_equal(one.indices, other.indices)
        np.testing.assert_array_equal(one.data, other.data)


def test_the_built_in_model_goes_down_to_sixteen_in_under_a_minute(built_in):
    hierarchy, seconds = built_in
    assert [len(mesh.vertices) for mesh in hierarchy.meshes] == [53099, 16384, 4096, 1024, 256, 64, 16]
    check_matrices(hierarchy)
    for mesh in hierarchy.meshes:
        assert len(boundary_loops(mesh.triangles)) == 4  # neck, mouth, eyes
    assert hierarchy.n_turned[-1] == 0
    assert seconds < 60


def test_the_built_in_models_coarsest_levels_lie_nearer_than_those_of_farthest_points(built_in):
    """Theirs, which take long, are in docs/hierarchy.md. One search after the other, none looking ahead, once lost at 16."""
    hierarchy, _ = built_in
    points = hierarchy.meshes[0].vertices[::8]
    for level, theirs in ((hierarchy.meshes[-2], 3.88), (hierarchy.meshes[-1], 13.8)):
        starts = cKDTree(level.vertices).query(points)[1]
        assert report_level(points, level, starts=starts).mean_distance < 0.9 * theirs


def closed_lips():
    """A curtain cut along the middle of its centre line, whose two sides hang in different waves, touching here and there."""
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-0.5, 0.5, 21)))
    i, j = (a.ravel() for a in np.meshgrid(np.arange(40), np.arange(20)))
    a = 41 * j + i
    triangles = np.concatenate([np.stack([a, a + 1, a + 42], axis=1), np.stack([a, a + 42, a + 41], axis=1)])
    slit = np.flatnonzero((np.abs(y) < 1e-9) & (np.abs(x) < 0.8))
    above = np.arange(len(x))
    above[slit] = len(x) + np.arange(len(slit))
    upper = y[triangles].mean(axis=1) > 0
    triangles[upper] = above[triangles[upper]]
    x, y, is_upper = (np.concatenate([v, v[slit]]) for v in (x, y, y > 0))
    is_upper[len(is_upper) - len(slit) :] = True
    free = np.clip(0.8 - np.abs(x), 0, 0.2) * np.exp(-20 * np.abs(y))
    z = free * np.where(is_upper, np.sin(23 * x), np.sin(31 * x + 1)) + 0.1 * y
    return Mesh(np.stack([x, y, z], axis=1), triangles.astype(np.int32)), is_upper


def test_no_vertex_goes_up_onto_the_other_lip():
    """In space the nearest triangle of eight of these vertices is the other lip's."""
    mesh, is_upper = closed_lips()
    hierarchy = build_hierarchy(mesh, levels=(60,))
    on_upper = is_upper | (np.abs(mesh.vertices[:, 1]) < 1e-9) & (np.abs(mesh.vertices[:, 0]) > 0.75)
    matrix, middle = hierarchy.up[0], np.abs(mesh.vertices[:, 0]) < 0.6
    for v in np.flatnonzero(middle & is_upper):
        reached = hierarchy.kept[1][matrix.indices[matrix.indptr[v] : matrix.indptr[v + 1]]]
        assert on_upper[reached].all()


# Coincident vertices -------------------------------------------------------------------------------------------


def test_coincident_vertices_count_once_and_go_up_alike():
    face = face_meshes.face_like_annulus(500, 50, 16)
    n = len(face.vertices)
    copies = np.arange(0, n, 7)
    vertices = np.concatenate([face.vertices, face.vertices[copies]])
    triangles = face.triangles.copy()
    swapped = np.arange(len(triangles)) % 2 == 0
    as_copy = np.arange(n)
    as_copy[copies] = n + np.arange(len(copies))
    triangles[swapped] = as_copy[triangles[swapped]]
    hierarchy = build_hierarchy(Mesh(vertices, triangles), levels=(16, 256))
    check_matrices(hierarchy)
    assert hierarchy.kept[1].max() < n
    up = hierarchy.up[0].toarray()
    np.testing.assert_array_equal(up[n:], up[copies])
    plain = build_hierarchy(face, levels=(16, 256))
    np.testing.assert_array_equal(hierarchy.kept[1], plain.kept[1])


# The cache -----------------------------------------------------------------------------------------------------


def test_the_second_time_a_hierarchy_is_read(face, hierarchy, tmp_path, monkeypatch):
    first = cached_hierarchy(face, cache_folder=tmp_path / "new", levels=LEVELS)
    (file,) = (tmp_path / "new").iterdir()
    content = file.read_bytes()
    monkeypatch.setattr(hierarchy_module, "build_hierarchy", lambda *_, **__: pytest.fail("built again"))
    second = cached_hierarchy(face, cache_folder=tmp_path / "new", levels=LEVELS)
    for h in (first, second):
        assert h.fingerprint == hierarchy.fingerprint
        assert h.n_turned == hierarchy.n_turned
        for one, other in zip(hierarchy.up + hierarchy.down, h.up + h.down, strict=True):
            assert one.shape == other.shape
            np.testing.assert_array_equal(one.indices, other.indices)
            np.testing.assert_array_equal(one.data, other.data)
        for one, other in zip(hierarchy.meshes, h.meshes, strict=True):
            np.testing.assert_array_equal(one.vertices, other.vertices)
            np.testing.assert_array_equal(one.triangles, other.triangles)
    assert file.read_bytes() == content


def test_a_damaged_cache_file_is_made_again(tmp_path):
    mesh = face_meshes.face_like_annulus(300, 30, 12)
    cached_hierarchy(mesh, cache_folder=tmp_path, levels=(256,))
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    middle = len(content) // 2
    turned = bytes([content[middle] ^ 255])
    for damaged in (b"", content[:middle], content[:middle] + turned + content[middle + 1 :], b"no archive at all"):
        file.write_bytes(damaged)
        hierarchy = cached_hierarchy(mesh, cache_folder=tmp_path, levels=(256,))
        check_matrices(hierarchy)
        assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_the_fingerprint_knows_positions_triangles_levels_and_the_recipe(face, monkeypatch):
    moved = Mesh(face.vertices + (0, 0, 1e-6), face.triangles)
    other = Mesh(face.vertices, face.triangles[::-1].copy())
    prints = {hierarchy_fingerprint(mesh, LEVELS) for mesh in (face, moved, other)} | {
        hierarchy_fingerprint(face, (16,))
    }
    monkeypatch.setattr(hierarchy_module, "RECIPE", hierarchy_module.RECIPE + 1)
    assert len(prints | {hierarchy_fingerprint(face, LEVELS)}) == 5


# Bad input -----------------------------------------------------------------------------------------------------


def test_bad_meshes_and_levels_are_refused_with_a_reason(face):
    for levels in ((), (64, 16), (16, 16), (2, 16)):
        with pytest.raises(ValueError, match="must ascend from at least 3"):
            build_hierarchy(face, levels=levels)
    with pytest.raises(ValueError, match="a level has 16,384 vertices but the mesh only 1,500 distinct ones"):
        build_hierarchy(face)
    broken = face.vertices.copy()
    broken[17, 1] = np.nan
    with pytest.raises(ValueError, match="vertex 17 is at .* must be finite"):
        build_hierarchy(Mesh(broken, face.triangles), levels=LEVELS)
    idle = np.concatenate([face.vertices, [[0.0, 0.0, 500.0]]])
    with pytest.raises(ValueError, match="vertex 1500 belongs to no triangle"):
        build_hierarchy(Mesh(idle, face.triangles), levels=LEVELS)


def test_a_level_below_what_the_topology_needs_is_refused(face):
    parts = [Mesh(face.vertices[[0, 1, 2]] + 300.0 * k, np.array([[0, 1, 2]], dtype=np.int32)) for k in range(1, 9)]
    vertices = np.concatenate([face.vertices, *(p.vertices for p in parts)])
    triangles = np.concatenate([face.triangles, *(p.triangles + 1500 + 3 * k for k, p in enumerate(parts))])
    with pytest.raises(ValueError, match="ended at 30 vertices, above the level of 16"):
        build_hierarchy(Mesh(vertices, triangles.astype(np.int32)), levels=LEVELS)


def test_farthest_points_are_far_apart(face):
    chosen = farthest_points(face.vertices, 40)
    distance = np.linalg.norm(face.vertices[chosen][:, None] - face.vertices[chosen], axis=2)
    gaps = [distance[i, :i].min() for i in range(1, 40)]
    assert (np.diff(gaps) <= 1e-9).all()
    cover = np.linalg.norm(face.vertices[:, None] - face.vertices[chosen], axis=2).min(axis=1)
    assert cover.max() <= gaps[-1] + 1e-9

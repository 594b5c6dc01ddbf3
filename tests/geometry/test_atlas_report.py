import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.atlas_report import coverage_count, report_atlas
from geometry.mesh import Mesh
from geometry.rotation import rotation_from_vector
from geometry.uv import UVAtlas

SEEDS = st.integers(0, 2**32 - 1)


def grid(n=8):
    """A flat unit square of n × n cells, halved along lopsided diagonals: (n + 1)² UV coordinates and 2n² triangles."""
    ticks = np.linspace(0, 1, n + 1)
    uv = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    i, j = (a.ravel() for a in np.meshgrid(np.arange(n), np.arange(n)))
    a = j * (n + 1) + i
    triangles = np.concatenate([np.stack([a, a + 1, a + n + 2], 1), np.stack([a, a + n + 2, a + n + 1], 1)])
    return uv, triangles.astype(np.int32)


def in_space(flat, rng):
    """Flat points turned and moved in space, in millimetres."""
    return (np.column_stack([flat, np.zeros(len(flat))]) * 200) @ rotation_from_vector(rng.normal(size=3)).T + 50


def five(quantiles):
    return [quantiles.p1, quantiles.p5, quantiles.p50, quantiles.p95, quantiles.p99]


def test_a_flat_square_is_reported_as_perfect():
    uv, triangles = grid(8)
    report = report_atlas(UVAtlas(uv, triangles), Mesh(in_space(uv, np.random.default_rng(0)), triangles), size=65)
    assert (report.n_folded, report.n_closing, report.n_triangles, report.n_vertices) == (0, 0, 128, 81)
    assert report.coverage == 1
    assert report.overlap == 0
    assert report.smallest_area == pytest.approx(1 / 128)
    np.testing.assert_allclose(five(report.area_ratio), 1, rtol=1e-9)
    np.testing.assert_allclose(five(report.stretch_ratio), 1, rtol=1e-6)
    assert report.texels_per_vertex.p50 == pytest.approx(64)  # a cell of 8 × 8 texels
    assert report.n_distinct_texels == 81


@given(seed=SEEDS, stretch=st.floats(1, 8), angle=st.floats(0, 3.2))
def test_an_affine_stretch_is_read_off_whatever_its_direction(seed, stretch, angle):
    uv, triangles = grid(4)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flat = uv @ turn.T * (1, stretch)
    report = report_atlas(UVAtlas(uv, triangles), Mesh(in_space(flat, np.random.default_rng(seed)), triangles), size=64)
    np.testing.assert_allclose(five(report.stretch_ratio), stretch, rtol=1e-5)
    np.testing.assert_allclose(five(report.area_ratio), 1, rtol=1e-9)


def test_a_triangle_twice_as_large_in_the_atlas_has_twice_the_area_ratio():
    uv = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [1.0, 1.0], [0.0, 1.0], [1.0, 0.5]])
    triangles = np.array([[0, 1, 2], [3, 4, 5]], dtype=np.int32)  # areas 1/8 and 1/4
    space = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5], [6, 5, 5], [5, 6, 5]])  # both ½
    ratio = report_atlas(UVAtlas(uv, triangles), Mesh(space, triangles), size=32).area_ratio
    assert ratio.p1 == pytest.approx(2 / 3, rel=0.02)
    assert ratio.p99 == pytest.approx(4 / 3, rel=0.02)


def test_folds_overlaps_holes_and_closing_triangles_are_told_apart():
    uv, triangles = grid(4)
    mesh = Mesh(in_space(uv, np.random.default_rng(1)), triangles[2:])  # the first two triangles close a hole
    report = report_atlas(UVAtlas(uv, np.concatenate([triangles[2:], triangles[:2]])), mesh, size=16)
    assert (report.n_closing, report.n_folded, report.coverage) == (2, 0, 1)
    open_hole = report_atlas(UVAtlas(uv, triangles[2:]), mesh, size=16)
    assert open_hole.coverage == pytest.approx(1 - 2 / 32, abs=2e-3)

    moved = uv.copy()
    moved[12] = [0.9, 0.5]  # the middle vertex pushed over its right neighbour at (0.75, 0.5)
    folded = report_atlas(UVAtlas(moved, triangles), mesh, size=16)
    assert folded.n_folded == int((UVAtlas(moved, triangles).signed_areas < 0).sum()) > 0
    assert folded.smallest_area < 0
    assert folded.overlap > 0.01
    assert folded.coverage == 1
    assert any("folded" in sentence for sentence in folded.sentences())


def test_the_report_is_json():
    uv, triangles = grid(2)
    report = report_atlas(UVAtlas(uv, triangles), Mesh(in_space(uv, np.random.default_rng(1)), triangles), size=16)
    assert json.loads(json.dumps(report.as_dict()))["area_ratio"]["p50"] == pytest.approx(1)


def test_triangles_without_area_on_the_surface_stay_out_of_the_ratios():
    uv, triangles = grid(3)
    flat = uv.copy()
    flat[1] = flat[0]
    report = report_atlas(UVAtlas(uv, triangles), Mesh(in_space(flat, np.random.default_rng(2)), triangles), size=16)
    assert np.isfinite(five(report.area_ratio)).all()
    assert np.isfinite(five(report.stretch_ratio)).all()


def test_overlaps_without_a_fold_are_told_from_folds():
    """Two sheets over each other, both upright: nothing is folded, a quarter of the square is covered twice."""
    uv, triangles = grid(4)
    shifted = np.concatenate([uv / 2, uv / 2 + (0.25, 0.25)])
    both = np.concatenate([triangles, triangles + len(uv)])
    mesh = Mesh(in_space(shifted, np.random.default_rng(3)), both)
    report = report_atlas(UVAtlas(shifted, both), mesh, size=32)
    assert report.n_folded == 0
    assert report.overlap == pytest.approx(1 / 16, abs=1e-3)
    assert report.coverage == pytest.approx(7 / 16, abs=1e-3)
    assert report.n_overlapping == 2 * 8  # a quarter of each sheet's 32


def test_triangles_left_out_and_vertices_without_a_place_are_counted():
    uv, triangles = grid(3)
    mesh = Mesh(in_space(uv, np.random.default_rng(4)), triangles)
    corner = (triangles == 3).any(axis=1)  # the lower right vertex
    report = report_atlas(UVAtlas(uv, triangles[~corner]), mesh, size=16)
    assert (report.n_left_out, report.n_unplaced, report.n_closing) == (int(corner.sum()), 1, 0)
    assert f"{int(corner.sum())} triangles of the mesh are not in the atlas" in " ".join(report.sentences())
    np.testing.assert_allclose(five(report.area_ratio), 1, rtol=1e-9)


def test_a_collapsed_triangles_stretch_is_none_in_json():
    uv, triangles = grid(2)
    space = in_space(uv, np.random.default_rng(5))
    space[1] += (0, 20, 0)
    triangles = np.concatenate([triangles, [[0, 1, 2]]]).astype(np.int32)  # in line in the atlas, not in space
    told = report_atlas(UVAtlas(uv, triangles), Mesh(space, triangles), size=8)
    assert told.n_folded == 1
    assert told.stretch_ratio.p99 > 1e6
    stretch = json.loads(json.dumps(told.as_dict(), allow_nan=False))["stretch_ratio"]
    assert stretch["p99"] is None or stretch["p99"] > 1e6
    assert stretch["p50"] < 3


def test_an_atlas_of_another_mesh_is_refused():
    uv, triangles = grid(2)
    with pytest.raises(ValueError, match="an atlas of 9 vertices cannot unwrap a mesh of 16"):
        report_atlas(UVAtlas(uv, triangles), Mesh(np.zeros((16, 3)), triangles), size=16)


@given(seed=SEEDS, n_samples=st.integers(1, 40))
def test_coverage_is_that_of_the_point_in_triangle_test(seed, n_samples):
    rng = np.random.default_rng(seed)
    uv = rng.random((12, 2))
    triangles = np.stack([rng.permutation(12)[:3] for _ in range(7)]).astype(np.int32)
    counted = coverage_count(UVAtlas(uv, triangles), n_samples)
    for i, j in np.ndindex(n_samples, n_samples):
        point = np.array([(j + 0.5) / n_samples, (i + 0.5) / n_samples])
        assert counted[i, j] == sum(is_inside(point, uv[t]) for t in triangles)


def is_inside(point, corners):
    turns = [np.linalg.det([corners[(k + 1) % 3] - corners[k], point - corners[k]]) for k in range(3)]
    return min(turns) > 0 or max(turns) < 0


@given(n=st.integers(1, 9), n_samples=st.integers(1, 37))
def test_samples_on_common_edges_count_once(n, n_samples):
    assert (coverage_count(UVAtlas(*grid(n)), n_samples) == 1).all()

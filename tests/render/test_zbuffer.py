"""Laws of the z-buffer; each runs on the slow reference, on the one-image kernel and in the lanes of the other one.

tests/train/test_zbuffer.py runs the same laws on the twin in torch: those that take a `draw`.
"""

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from render import zbuffer_lanes, zbuffer_lanes_kernel
from render.zbuffer import (
    RasterBuffers,
    interpolate,
    rasterize,
    rasterize_in_lanes,
    rasterize_one_by_one,
    rasterize_reference,
)  # fmt: skip

seeds = st.integers(0, 2**32 - 1)


def draw_in_company(vertices, triangles, *, size_hw, cull=True) -> RasterBuffers:
    """The picture of one of sixteen meshes that are drawn together and all different; which one depends on the mesh."""
    rng = np.random.default_rng(len(triangles))
    meshes = (vertices + rng.normal(size=(16, 1, 3)) * 3).astype(vertices.dtype)
    lane = int(rng.integers(16))
    meshes[lane] = vertices
    return rasterize_in_lanes(meshes, triangles, size_hw=size_hw, cull=cull)[lane]


IMPLEMENTATIONS = pytest.mark.parametrize("draw", [rasterize_one_by_one, draw_in_company, rasterize_reference])

# Three triangles of one quad with a flap, turned toward the viewer (counter-clockwise with y up), none like another.
VERTICES = np.array([[1.2, 9.1, 3.0], [11.7, 8.3, 4.0], [10.4, 1.6, 7.0], [2.3, 0.4, 1.0], [15.1, 3.9, 9.0]])
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3], [1, 4, 2]], dtype=np.int32)


def random_mesh(seed: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """A tangle of triangles, small and large, on and off the picture, with corners on pixel centres or anywhere."""
    rng = np.random.default_rng(seed)
    size_hw = (int(rng.integers(1, 33)), int(rng.integers(1, 33)))
    n = int(rng.integers(3, 30))
    vertices = rng.normal(size=(n, 3)) * (size_hw[1], size_hw[0], 20) + (size_hw[1] / 2, size_hw[0] / 2, 5)
    match rng.integers(5):
        case 0:  # corners and edges on pixel centres
            vertices[:, :2] = np.round(vertices[:, :2])
        case 1:  # between them, and many equal depths
            vertices = np.round(vertices * (2, 2, 0.1)) / (2, 2, 0.1)
        case 2:  # slivers
            vertices[:, 1] = 0.5 * vertices[:, 0] + rng.normal(size=n) * 0.02
        case 3:  # far outside
            vertices[rng.random(n) < 0.4, :2] *= 10.0 ** rng.integers(2, 9)
    triangles = rng.integers(0, n, (int(rng.integers(0, 50)), 3)).astype(np.int32)
    return vertices.astype(rng.choice([np.float32, np.float64])), triangles, size_hw


def sheet(seed: int) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float, float]]:
    """A rectangle cut into a crooked grid of triangles that do not fold; (left, top, right, bottom) in 1/256 px."""
    rng = np.random.default_rng(seed)
    columns, rows = rng.integers(1, 6, 2)
    step = int(rng.choice([1, 64, 128, 256]))  # how coarse a grid the corners lie on, 256: pixel centres
    left, top = rng.integers(-4, 3, 2) * 256 + rng.integers(0, 256 // step, 2) * step
    spacing_x, spacing_y = rng.integers(2, 9, 2) * 256
    x, y = np.meshgrid(left + np.arange(columns + 1) * spacing_x, top + np.arange(rows + 1) * spacing_y)
    limit = int(min(spacing_x, spacing_y)) // 5 // step
    jitter = rng.integers(-limit, limit + 1, (2, *x.shape)) * step
    jitter[0, :, [0, -1]] = 0
    jitter[1, [0, -1], :] = 0
    vertices = np.stack([(x + jitter[0]) / 256, (y + jitter[1]) / 256, rng.normal(size=x.shape)], axis=-1).reshape(
        -1, 3
    )
    index = np.arange(x.size, dtype=np.int32).reshape(x.shape)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate([np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, c, b), (a, d, c))])
    border = (left / 256, top / 256, (left + columns * spacing_x) / 256, (top + rows * spacing_y) / 256)
    return vertices, rng.permutation(triangles), border


def bumpy_sheet(rng: np.random.Generator, cells: int, side: float) -> tuple[np.ndarray, np.ndarray]:
    """A crumpled square over a picture of `side` pixels, 2·cells² triangles, a fold or two among them."""
    u, v = np.meshgrid(np.linspace(-0.1, 1.1, cells + 1), np.linspace(-0.07, 1.2, cells + 1))
    bumps = rng.normal(size=(4, 3)) * (6, 4, 4)
    z = sum(a * np.sin(b * u + c * v) for a, b, c in bumps)
    x, y = side * u + 0.4 * z, side * v + 0.2 * z * u
    vertices = np.stack([x, y, z + 9 * u], axis=-1).reshape(-1, 3) + rng.normal(size=((cells + 1) ** 2, 3)) * 0.2
    index = np.arange(len(vertices), dtype=np.int32).reshape(cells + 1, cells + 1)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    return vertices, rng.permutation(np.concatenate([np.stack([a, c, b], axis=-1), np.stack([a, d, c], axis=-1)]))


def assert_same(one: RasterBuffers, other: RasterBuffers) -> None:
    np.testing.assert_array_equal(one.triangle_id, other.triangle_id)
    np.testing.assert_allclose(one.barycentric, other.barycentric, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(one.depth, other.depth)


@IMPLEMENTATIONS
@given(seed=seeds, cull=st.booleans())
@settings(max_examples=300, deadline=None)
def test_kernels_and_reference_agree(draw, seed, cull):
    vertices, triangles, size_hw = random_mesh(seed)
    assert_same(
        draw(vertices, triangles, size_hw=size_hw, cull=cull),
        rasterize_reference(vertices, triangles, size_hw=size_hw, cull=cull),
    )


@IMPLEMENTATIONS
@pytest.mark.parametrize("cull", [True, False])
@pytest.mark.parametrize("cells", [3, 30])
def test_large_triangles_and_fine_ones_are_those_of_the_reference(draw, cells, cull):
    vertices, triangles = bumpy_sheet(np.random.default_rng(cells), cells, 40)
    assert_same(
        draw(vertices, triangles, size_hw=(37, 41), cull=cull),
        rasterize_reference(vertices, triangles, size_hw=(37, 41), cull=cull),
    )


@given(seed=seeds, n=st.integers(0, 40), cull=st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_picture_does_not_depend_on_its_company(seed, n, cull):
    vertices, triangles, size_hw = random_mesh(seed)
    rng = np.random.default_rng(seed)
    meshes = vertices + (rng.normal(size=(n, 1, 3)) + rng.normal(size=(n, *vertices.shape))) * rng.choice([0.1, 3])
    together = rasterize(meshes, triangles, size_hw=size_hw, cull=cull)
    assert together.depth.shape == (n, *size_hw)
    for i, mesh in enumerate(meshes):
        alone = rasterize(mesh, triangles, size_hw=size_hw, cull=cull)
        np.testing.assert_array_equal(together[i].triangle_id, alone.triangle_id)
        np.testing.assert_array_equal(together[i].depth, alone.depth)
        np.testing.assert_array_equal(together[i].barycentric, alone.barycentric)


def test_batches_of_batches_keep_their_shape():
    rng = np.random.default_rng(0)
    meshes = VERTICES + rng.normal(size=(3, 2, 1, 3))
    buffers = rasterize(meshes, TRIANGLES, size_hw=(12, 20))
    assert buffers.barycentric.shape == (3, 2, 12, 20, 3)
    assert buffers.covered.shape == (3, 2, 12, 20)
    assert_same(buffers[2, 1], rasterize(meshes[2, 1], TRIANGLES, size_hw=(12, 20)))
    assert_same(buffers[1], rasterize(meshes[1], TRIANGLES, size_hw=(12, 20)))


def test_lists_that_fill_up_are_drawn_and_begun_again(monkeypatch):
    monkeypatch.setattr(zbuffer_lanes, "_HITS_LISTED", 2 * zbuffer_lanes_kernel.HITS_TO_SPARE)
    monkeypatch.setattr(zbuffer_lanes, "_LARGE_LISTED", 2)
    monkeypatch.setattr(zbuffer_lanes, "_kept", threading.local())
    rng = np.random.default_rng(8)
    for cells in (4, 60):
        vertices, triangles = bumpy_sheet(rng, cells, 100)
        meshes = vertices + rng.normal(size=(18, 1, 3)) * (9, 9, 1)
        together = rasterize_in_lanes(meshes, triangles, size_hw=(90, 101), cull=False)
        one_by_one = rasterize_one_by_one(meshes, triangles, size_hw=(90, 101), cull=False)
        np.testing.assert_array_equal(together.triangle_id, one_by_one.triangle_id)
        np.testing.assert_array_equal(together.barycentric, one_by_one.barycentric)


def test_memory_beside_the_pictures_does_not_grow_with_their_number(monkeypatch):
    vertices, triangles = bumpy_sheet(np.random.default_rng(1), 50, 60)
    beside = []
    for n in (16, 96):
        monkeypatch.setattr(zbuffer_lanes, "_kept", threading.local())
        meshes = np.repeat(vertices[None], n, axis=0)
        tracemalloc.start()
        buffers = rasterize_in_lanes(meshes, triangles, size_hw=(64, 64))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        beside.append(peak - buffers.depth.nbytes - buffers.triangle_id.nbytes - buffers.barycentric.nbytes)
    assert beside[1] < beside[0] + 100_000
    assert beside[0] < 10e6 + 340 * len(vertices)


def test_threads_that_draw_at_once_do_not_meet():
    rng = np.random.default_rng(12)
    vertices, triangles = bumpy_sheet(rng, 40, 60)
    batches = [vertices + rng.normal(size=(16, 1, 3)) * (6, 6, 1) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda meshes: rasterize(meshes, triangles, size_hw=(60, 70)), batches))
    for meshes, buffers in zip(batches, at_once, strict=True):
        expected = rasterize_one_by_one(meshes, triangles, size_hw=(60, 70))
        np.testing.assert_array_equal(buffers.triangle_id, expected.triangle_id)
        np.testing.assert_array_equal(buffers.barycentric, expected.barycentric)


def test_a_mesh_of_another_size_is_drawn_right_after():
    rng = np.random.default_rng(13)
    for cells in (30, 5, 30):  # lists and corners of the one before lie in the memory that is used again
        vertices, triangles = bumpy_sheet(rng, cells, 40)
        meshes = vertices + rng.normal(size=(7, 1, 3)) * (6, 6, 1)
        assert_same(
            rasterize_in_lanes(meshes, triangles, size_hw=(45, 40)),
            rasterize_one_by_one(meshes, triangles, size_hw=(45, 40)),
        )


def test_pictures_too_long_for_the_lanes_are_drawn_one_by_one():
    vertices = np.array([[32764.2, 1.1, 5.0], [32770.8, 2.4, 6.0], [32771.3, -0.6, 9.0]])
    triangle = np.array([[0, 1, 2]], dtype=np.int32)
    size_hw = (3, 32775)
    meshes = vertices + np.random.default_rng(2).normal(size=(5, 1, 3)) * 0.1
    buffers = rasterize(meshes, triangle, size_hw=size_hw)
    assert buffers.covered.any(axis=(1, 2)).all()
    assert_same(buffers[4], rasterize_reference(meshes[4], triangle, size_hw=size_hw))
    with pytest.raises(ValueError, match="3 rows and 32775 columns cannot be drawn in lanes, only up to 32768"):
        rasterize_in_lanes(meshes, triangle, size_hw=size_hw)


@IMPLEMENTATIONS
@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_every_pixel_centre_of_a_sheet_has_one_owner(draw, seed):
    vertices, triangles, (left, top, right, bottom) = sheet(seed)
    size_hw = (24, 27)
    owners = sum(draw(vertices, triangle[None], size_hw=size_hw).covered.astype(int) for triangle in triangles)
    y, x = np.indices(size_hw)
    inside = (left <= x) & (x < right) & (top <= y) & (y < bottom)  # top and left borders belong to the sheet
    np.testing.assert_array_equal(owners, inside.astype(int))


@IMPLEMENTATIONS
@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_the_order_of_triangles_plays_no_part_but_in_ties(draw, seed):
    vertices, triangles, size_hw = random_mesh(seed)
    order = np.random.default_rng(seed).permutation(len(triangles))
    buffers = draw(vertices, triangles, size_hw=size_hw, cull=False)
    shuffled = draw(vertices, triangles[order], size_hw=size_hw, cull=False)
    np.testing.assert_array_equal(shuffled.depth, buffers.depth)
    for y, x in np.argwhere(buffers.covered):
        t, u = buffers.triangle_id[y, x], order[shuffled.triangle_id[y, x]]
        if t != u:  # then both are equally near, and each picture shows the one that comes first in its own list
            alone = draw(vertices, triangles[[u]], size_hw=size_hw, cull=False)
            assert alone.depth[y, x] == buffers.depth[y, x]
            assert t < u
            assert shuffled.triangle_id[y, x] < np.flatnonzero(order == t)[0]


@IMPLEMENTATIONS
@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_of_equal_depths_the_lowest_index_wins(draw, seed):
    vertices, triangles, size_hw = random_mesh(seed)
    once = draw(vertices, triangles, size_hw=size_hw)
    twice = draw(vertices, np.concatenate([triangles, triangles]), size_hw=size_hw)
    assert_same(once, twice)


@IMPLEMENTATIONS
@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_interpolated_position_is_the_pixel_centre(draw, seed):
    vertices, triangles, size_hw = random_mesh(seed)
    vertices = np.clip(vertices, -1000, 1000)
    buffers = draw(vertices, triangles, size_hw=size_hw, cull=False)
    found = interpolate(buffers, vertices, triangles)[buffers.covered]
    y, x = np.nonzero(buffers.covered)
    assert np.abs(found[:, :2] - np.stack([x, y], axis=1)).max(initial=0) < 4e-3
    np.testing.assert_allclose(found[:, 2], buffers.depth[buffers.covered], rtol=1e-4, atol=1e-3)


@IMPLEMENTATIONS
@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_weights_are_a_partition_of_one(draw, seed):
    vertices, triangles, size_hw = random_mesh(seed)
    buffers = draw(vertices, triangles, size_hw=size_hw, cull=False)
    assert buffers.barycentric.min() >= 0
    np.testing.assert_allclose(buffers.barycentric.sum(-1), buffers.covered, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.isneginf(buffers.depth), ~buffers.covered)


@IMPLEMENTATIONS
def test_front_faces_have_negative_area_in_pixels(draw):
    size_hw = (12, 20)
    seen = draw(VERTICES, TRIANGLES, size_hw=size_hw)
    assert set(np.unique(seen.triangle_id)) == {-1, 0, 1, 2}
    turned_away = TRIANGLES[:, ::-1].copy()
    assert not draw(VERTICES, turned_away, size_hw=size_hw).covered.any()
    kept = draw(VERTICES, turned_away, size_hw=size_hw, cull=False)
    np.testing.assert_array_equal(kept.triangle_id, seen.triangle_id)
    np.testing.assert_allclose(kept.barycentric[..., ::-1], seen.barycentric, rtol=0, atol=1e-6)


@IMPLEMENTATIONS
def test_nearer_means_larger_z(draw):
    vertices = np.concatenate([VERTICES[[0, 1, 2]], VERTICES[[0, 1, 2]] + (0, 0, 5)])
    triangles = np.array([[0, 1, 2], [3, 4, 5]], dtype=np.int32)
    assert set(np.unique(draw(vertices, triangles, size_hw=(12, 20)).triangle_id)) == {-1, 1}
    assert set(np.unique(draw(vertices, triangles[::-1].copy(), size_hw=(12, 20)).triangle_id)) == {-1, 0}


@IMPLEMENTATIONS
def test_surfaces_that_cross_are_cut_along_their_crossing(draw):
    vertices = np.array([[-9.0, 99, 0], [99, -9, 0], [-9, -9, 0], [-9, 99, -9], [99, -9, 99], [-9, -9, -9]])
    triangles = np.array([[0, 1, 2], [3, 4, 5]], dtype=np.int32)  # a level plane, and one with z = x
    buffers = draw(vertices, triangles, size_hw=(3, 9))
    np.testing.assert_array_equal(buffers.triangle_id, np.tile([0, 1, 1, 1, 1, 1, 1, 1, 1], (3, 1)))
    np.testing.assert_allclose(buffers.depth[1], np.arange(9), atol=1e-5)


@IMPLEMENTATIONS
def test_a_face_of_one_pixel_is_drawn_and_one_between_pixels_is_not(draw):
    triangle = np.array([[0, 1, 2]], dtype=np.int32)
    corners = np.array([[4.7, 3.4, 1.0], [5.1, 2.6, 1.0], [5.4, 3.3, 1.0]])[::-1].copy()
    covered = draw(corners, triangle, size_hw=(7, 9), cull=False).covered
    assert covered.sum() == 1
    assert covered[3, 5]
    assert draw(corners - (5, 3, 0), triangle, size_hw=(1, 1), cull=False).covered.all()
    assert not draw(corners + (0.45, 0.5, 0), triangle, size_hw=(7, 9), cull=False).covered.any()


@IMPLEMENTATIONS
def test_triangles_seen_edge_on_are_never_drawn(draw):
    corners = np.array([[2.0, 2, 0], [5, 5, 9], [8, 8, -9], [4, 4, 0]])
    triangles = np.array([[0, 1, 2], [0, 0, 1], [3, 3, 3], [2, 1, 0]], dtype=np.int32)
    assert not draw(corners, triangles, size_hw=(10, 10), cull=False).covered.any()


@IMPLEMENTATIONS
def test_an_empty_mesh_leaves_the_background(draw):
    nothing = np.zeros((0, 3))
    buffers = draw(nothing, nothing.astype(np.int32), size_hw=(2, 3))
    assert (buffers.triangle_id == -1).all()
    assert np.isneginf(buffers.depth).all()
    assert (buffers.barycentric == 0).all()
    assert interpolate(buffers, nothing, nothing.astype(np.int32)).shape == (2, 3, 3)


@IMPLEMENTATIONS
def test_corners_at_the_end_of_the_world_overflow_nothing(draw):
    far = 1e30
    vertices = np.array([[-far, far, 2.0], [far, far, 2.0], [5.25, -far, 2.0]])
    triangles = np.array([[0, 1, 2]], dtype=np.int32)
    buffers = draw(vertices, triangles, size_hw=(11, 11))
    assert buffers.covered.all()
    np.testing.assert_allclose(buffers.barycentric.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(buffers.depth, 2.0, atol=1e-5)


@IMPLEMENTATIONS
def test_vertices_that_are_not_finite_are_refused_by_number(draw):
    for bad in (np.nan, np.inf, -np.inf):
        for axis in range(3):
            vertices = VERTICES.copy()
            vertices[3, axis] = bad
            with pytest.raises(ValueError, match=r"vertex 3 (of mesh 0 )?is .* not finite"):
                draw(vertices, TRIANGLES, size_hw=(8, 8))


@IMPLEMENTATIONS
def test_depths_beyond_single_precision_are_refused(draw):
    vertices = VERTICES + (0, 0, 1e39)
    with pytest.raises(ValueError, match="vertex 0 .*not finite"):
        draw(vertices, TRIANGLES, size_hw=(8, 8))


@pytest.mark.parametrize("mesh", [0, 7, 15, 16, 18])
def test_of_many_meshes_the_one_that_is_not_finite_is_named(mesh):
    meshes = np.repeat(VERTICES[None], 19, axis=0)
    meshes[mesh, 2, 1] = np.nan
    with pytest.raises(ValueError, match=f"vertex 2 of mesh {mesh} is "):
        rasterize(meshes, TRIANGLES, size_hw=(8, 8))
    assert rasterize(VERTICES, TRIANGLES, size_hw=(12, 20)).covered.any()  # and the next picture is drawn as ever


@IMPLEMENTATIONS
def test_indices_outside_and_empty_pictures_are_refused(draw):
    with pytest.raises(ValueError, match="refer to vertex 5 but the mesh has 5 vertices"):
        draw(VERTICES, TRIANGLES + 1, size_hw=(8, 8))
    with pytest.raises(ValueError, match="0 rows and 8 columns"):
        draw(VERTICES, TRIANGLES, size_hw=(0, 8))


def test_values_go_to_pixels_by_the_weights_of_their_corners():
    buffers = rasterize(VERTICES, TRIANGLES, size_hw=(12, 20))
    values = np.random.default_rng(3).normal(size=(len(VERTICES), 4)).astype(np.float32)
    expected = np.einsum("hwk,hwkc->hwc", buffers.barycentric, values[TRIANGLES[buffers.triangle_id]])
    picture = interpolate(buffers, values, TRIANGLES)
    np.testing.assert_allclose(picture, np.where(buffers.covered[..., None], expected, 0), atol=1e-6)
    assert picture.dtype == np.float32


def test_buffers_of_another_mesh_are_refused():
    buffers = rasterize(VERTICES, TRIANGLES, size_hw=(12, 20))
    with pytest.raises(ValueError, match="show triangle 2 but there are only 1 triangles"):
        interpolate(buffers, VERTICES, TRIANGLES[:1])


def test_values_belong_to_one_mesh_or_to_all():
    rng = np.random.default_rng(4)
    meshes = VERTICES + rng.normal(size=(5, 1, 3))
    buffers = rasterize(meshes, TRIANGLES, size_hw=(12, 20))
    uv, colors = rng.normal(size=(len(VERTICES), 2)), rng.normal(size=(5, len(VERTICES), 3))
    for i in range(5):
        np.testing.assert_array_equal(interpolate(buffers, uv, TRIANGLES)[i], interpolate(buffers[i], uv, TRIANGLES))
        np.testing.assert_array_equal(
            interpolate(buffers, colors, TRIANGLES)[i], interpolate(buffers[i], colors[i], TRIANGLES)
        )
    with pytest.raises(ValueError, match=r"batch of \(4,\) meshes do not belong to a batch of \(5,\) pictures"):
        interpolate(buffers, colors[:4], TRIANGLES)

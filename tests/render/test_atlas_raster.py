import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.frames import texel_from_uv, uv_from_texel
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, TexelSampler, nearest_texels


def grid_atlas(n: int, m: int, *, seed: int = 0, jitter: float = 0.0) -> UVAtlas:
    """A sheet of n × m vertices over the whole square, its inner vertices moved at random: lopsided, never folded."""
    rng = np.random.default_rng(seed)
    u, v = np.meshgrid(np.linspace(0, 1, m), np.linspace(0, 1, n))
    inner = np.zeros((n, m), bool)
    inner[1:-1, 1:-1] = True
    u = u + inner * rng.uniform(-jitter, jitter, (n, m)) / (m - 1)
    v = v + inner * rng.uniform(-jitter, jitter, (n, m)) / (n - 1)
    index = np.arange(n * m, dtype=np.int32).reshape(n, m)
    a, b, c, d = (x.ravel() for x in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    triangles = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
    return UVAtlas(np.stack([u.ravel(), v.ravel()], axis=1), triangles[rng.permutation(len(triangles))])


atlases = st.builds(
    grid_atlas,
    st.integers(2, 7),
    st.integers(2, 7),
    seed=st.integers(0, 2**32 - 1),
    jitter=st.floats(0, 0.3),
)


@settings(max_examples=60)
@given(atlas=atlases, size=st.integers(2, 24), seed=st.integers(0, 2**32 - 1))
def test_the_operator_is_the_slow_reference_raster(atlas, size, seed):
    fast, slow = AtlasRaster(atlas, size), AtlasRaster.reference(atlas, size)
    np.testing.assert_array_equal(fast.corners, slow.corners)
    np.testing.assert_array_equal(fast.covered, slow.covered)
    np.testing.assert_allclose(fast.weights, slow.weights, atol=1e-6)

    vertices = np.random.default_rng(seed).normal(size=(len(atlas.uv), 3)).astype(np.float32)
    by_product = (slow.operator(len(vertices)) @ vertices.astype(np.float64)).reshape(size, size, 3)
    np.testing.assert_allclose(fast.apply(vertices), by_product, atol=1e-5)


@settings(max_examples=60)
@given(atlas=atlases, size=st.integers(2, 40))
def test_an_atlas_that_fills_the_square_covers_every_texel_the_last_row_and_column_too(atlas, size):
    assert AtlasRaster(atlas, size).covered.all()


@settings(max_examples=60)
@given(atlas=atlases, size=st.integers(16, 64), linear=st.lists(st.floats(-300, 300), min_size=9, max_size=9))
def test_on_a_mesh_that_is_affine_in_uv_the_map_is_exact(atlas, size, linear):
    coefficients = np.array(linear).reshape(3, 3)
    vertices = atlas.uv @ coefficients[:2] + coefficients[2]
    y, x = np.mgrid[:size, :size]
    expected = uv_from_texel(np.stack([x, y], axis=-1).astype(float), size) @ coefficients[:2] + coefficients[2]
    np.testing.assert_allclose(AtlasRaster(atlas, size).apply(vertices), expected, atol=1e-3)


def test_a_shift_of_half_a_texel_is_no_longer_exact():
    size, atlas = 64, grid_atlas(5, 6, jitter=0.2)
    vertices = np.concatenate([atlas.uv * 200, atlas.uv[:, :1]], axis=1)
    y, x = np.mgrid[:size, :size]
    shifted = uv_from_texel(np.stack([x + 0.5, y], axis=-1), size) * 200
    error = np.abs(AtlasRaster(atlas, size).apply(vertices)[..., :2] - shifted)
    assert error.max() > 1  # half a texel of this map is 200 / 63 / 2 px


def test_rows_count_downward_and_v_upward():
    atlas = grid_atlas(3, 3)
    vertices = np.concatenate([atlas.uv, np.zeros((9, 1))], axis=1)
    uv_map = AtlasRaster(atlas, 8).apply(vertices)
    np.testing.assert_allclose(uv_map[0, 0, :2], (0, 1), atol=1e-6)
    np.testing.assert_allclose(uv_map[0, 7, :2], (1, 1), atol=1e-6)
    np.testing.assert_allclose(uv_map[7, 0, :2], (0, 0), atol=1e-6)


def test_where_triangles_overlap_the_lowest_index_owns_the_texel_folded_or_not():
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 1.0], [1.0, 0.9]])
    upright, folded = [0, 1, 2], [0, 2, 1]
    for first, second in ((upright, folded), (folded, upright)):
        atlas = UVAtlas(uv, np.array([first, second], dtype=np.int32))
        raster = AtlasRaster(atlas, 9)
        np.testing.assert_array_equal(raster.corners[raster.covered], np.tile(first, (raster.covered.sum(), 1)))


def test_uncovered_texels_stay_zero_and_are_said_so():
    atlas = UVAtlas(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([[0, 1, 2]], dtype=np.int32))
    raster = AtlasRaster(atlas, 16)
    moved = raster.apply(np.ones((3, 3)), np.array([[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7.0]]))
    assert not raster.covered[0, 15]
    assert raster.covered[15, 0]
    np.testing.assert_array_equal(moved[~raster.covered], 0)
    np.testing.assert_allclose(moved[raster.covered], np.tile([6, 7, 8], (raster.covered.sum(), 1)), atol=1e-5)


@settings(max_examples=30)
@given(atlas=atlases, seed=st.integers(0, 2**32 - 1))
def test_an_affine_map_commutes_with_the_atlas(atlas, seed):
    rng = np.random.default_rng(seed)
    raster = AtlasRaster(atlas, 20)
    vertices, affine = rng.normal(size=(2, len(atlas.uv), 3)) * 50, rng.normal(size=(2, 3, 4))
    moved = vertices @ affine[:, :, :3].swapaxes(1, 2) + affine[:, None, :, 3]
    np.testing.assert_allclose(raster.apply(vertices, affine), raster.apply(moved), atol=1e-3)


@settings(max_examples=30)
@given(atlas=atlases, seed=st.integers(0, 2**32 - 1))
def test_one_flip_is_the_map_of_the_re_indexed_mesh_and_two_are_none(atlas, seed):
    rng = np.random.default_rng(seed)
    n = len(atlas.uv)
    pairs = rng.permutation(n)
    mirror = np.arange(n)
    for a, b in zip(pairs[0 : n - 1 : 2], pairs[1:n:2], strict=True):
        mirror[a], mirror[b] = b, a
    vertices = rng.normal(size=(n, 3))
    raster = AtlasRaster(atlas, 17)
    np.testing.assert_array_equal(raster.mirrored(mirror).apply(vertices), raster.apply(vertices[mirror]))
    np.testing.assert_array_equal(raster.mirrored(mirror).mirrored(mirror).corners, raster.corners)


def test_places_between_texels_are_read_from_covered_neighbours_alone():
    atlas = UVAtlas(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([[0, 1, 2]], dtype=np.int32))
    raster = AtlasRaster(atlas, 33)
    vertices = np.array([[0.0, 0, 1], [100, 0, 1], [0, 100, 1]])
    uv = np.array([[0.31, 0.4], [0.499, 0.499], [1.0, 0.0], [0.0, 1.0], [0.9, 0.9]])
    read = TexelSampler.at(raster, uv).read(raster.apply(vertices))
    np.testing.assert_allclose(read[0], (31, 40, 1), atol=1e-3)  # affine inside: exact
    np.testing.assert_allclose(read[1], (49.9, 49.9, 1), atol=100 / 32)  # on the rim: within a texel, z untouched
    np.testing.assert_allclose(read[2:4], [[100, 0, 1], [0, 100, 1]], atol=1e-3)
    assert np.isnan(read[4]).all()


def test_nearest_texels_are_x_then_y():
    np.testing.assert_array_equal(nearest_texels(np.array([[1.0, 0.0], [0.25, 1.0]]), 256), [[255, 255], [64, 0]])


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 1024))
def test_texels_and_uv_are_inverse(u, v, size):
    np.testing.assert_allclose(uv_from_texel(texel_from_uv(np.array([u, v]), size), size), (u, v), atol=1e-12)


def test_a_mesh_of_another_model_is_refused():
    raster = AtlasRaster(grid_atlas(4, 4), 16)
    with pytest.raises(ValueError, match="must come from one model"):
        raster.apply(np.zeros((9, 3)))


@pytest.mark.parametrize("size", [0, 1, 5000])
def test_senseless_sizes_are_refused(size):
    with pytest.raises(ValueError, match="cannot be rasterised"):
        AtlasRaster(grid_atlas(3, 3), size)

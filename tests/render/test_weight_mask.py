"""How much each texel counts: PRNet's 16 : 4 : 3 : 0 on any atlas at any size, and the mask that was published."""

import numpy as np
import pytest

import render
from geometry.morphable_model import REGION_NAMES
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, nearest_texels
from render.masks import face_mask, landmark_texels, region_map, weight_mask

SIZES = (128, 256, 512)
WEIGHT_OF_REGION = {"eyes": 4, "nose": 4, "mouth": 4, "neck": 0, "other": 0}  # all others 3


@pytest.fixture(scope="module", params=[(name, size) for name in ("own_atlas", "tutte_atlas") for size in SIZES])
def laid_flat(request) -> tuple[UVAtlas, AtlasRaster]:
    """Either atlas at every usual size."""
    name, size = request.param
    atlas = request.getfixturevalue(name)
    return atlas, AtlasRaster(atlas, size)


def test_weights_are_16_4_3_and_0_by_region_and_nothing_else(built_in, laid_flat):
    atlas, raster = laid_flat
    weights = weight_mask(built_in, atlas, raster.size, raster=raster)
    assert weights.dtype == np.float32
    assert set(np.unique(weights)) == {0, 3, 4, 16}
    x, y = nearest_texels(atlas.uv[built_in.landmark_vertices], raster.size).T
    np.testing.assert_array_equal(weights[y, x], 16)
    by_region = np.array([WEIGHT_OF_REGION.get(name, 3) for name in REGION_NAMES] + [0])  # the last: uncovered, −1
    expected = by_region[region_map(built_in, raster)]
    expected[y, x] = 16
    np.testing.assert_array_equal(weights, expected)


def test_the_neck_counts_nothing_and_is_there(built_in, laid_flat):
    atlas, raster = laid_flat
    all_neck = (built_in.regions[raster.corners] == REGION_NAMES.index("neck")).all(axis=-1) & raster.covered
    assert all_neck.mean() > 0.1
    assert not weight_mask(built_in, atlas, raster.size, raster=raster)[all_neck].any()
    assert not face_mask(built_in, raster)[all_neck].any()


def test_uncovered_texels_count_nothing_in_either_mask(built_in, own_atlas):
    raster = AtlasRaster(own_atlas, 256)
    assert 0.05 < (~raster.covered).mean() < 0.1
    for compat in (None, "prnet"):
        weights = weight_mask(built_in, own_atlas, 256, raster=raster, compat=compat)
        assert not weights[~raster.covered].any()
    assert not face_mask(built_in, raster)[~raster.covered].any()


def test_the_published_mask_is_the_floored_mean_of_the_corners_and_its_neck_counts_3(built_in, laid_flat):
    atlas, raster = laid_flat
    weights = weight_mask(built_in, atlas, raster.size, raster=raster, compat="prnet")
    x, y = nearest_texels(atlas.uv[built_in.landmark_vertices], raster.size).T
    np.testing.assert_array_equal(weights[y, x], np.float32(255 / 16))

    landmarks = set(built_in.landmark_vertices.tolist())
    features = {REGION_NAMES.index(name) for name in ("eyes", "nose", "mouth")}

    def of_vertex(v: int) -> int:
        return 16 if v in landmarks else 4 if built_in.regions[v] in features else 3

    at_landmark = set(zip(x.tolist(), y.tolist(), strict=True))
    beside = [(x + dx, y + dy) for dx, dy in ((1, 0), (0, -1))]  # where landmarks weigh in through a corner
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.integers(0, raster.size, (400, 2)), *(np.stack(place, axis=1) for place in beside)])
    for column, row in places.tolist():
        if (column, row) in at_landmark:
            continue
        total = sum(of_vertex(v) for v in raster.corners[row, column].tolist())
        expected = (16 * total // 3) / 16 if raster.covered[row, column] else 0
        assert weights[row, column] == min(expected, 255 / 16), (column, row)

    neck = (built_in.regions[raster.corners] == REGION_NAMES.index("neck")).all(axis=-1) & raster.covered
    neck[y, x] = False
    assert set(np.unique(weights[neck])) - {3} <= {w / 16 for w in range(49, 256)}  # jaw landmarks beside the neck
    assert np.median(weights[neck]) == 3


def test_regions_map_back_to_the_vertices_they_came_from(built_in, own_atlas):
    """The region at a vertex's own place is the vertex's, but beside the borders between regions."""
    raster = AtlasRaster(own_atlas, 256)
    regions = np.pad(region_map(built_in, raster), 1, constant_values=-1)
    x, y = nearest_texels(own_atlas.uv, 256).T + 1
    assert (regions[y, x] == built_in.regions).mean() > 0.98
    around = np.stack([regions[y + dy, x + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    assert (around == built_in.regions).any(axis=0).mean() > 0.998


def test_a_landmark_beside_the_raster_is_put_on_the_nearest_covered_texel(sheet):
    """A landmark on a sliver that covers no texel: its weight may not land outside the face."""
    uv = 0.2 + 0.6 * sheet.uv
    far = int(sheet.landmark_vertices[7])
    uv[far] = (0.97, 0.5)  # the sliver's tip
    kept = sheet.triangles[~(sheet.triangles == far).any(axis=1)]
    sliver = np.array([[far - 1, far, far - 1]], np.int32)
    atlas = UVAtlas(uv, np.concatenate([kept, sliver]))
    raster = AtlasRaster(atlas, 32)
    (x, y), nearest = landmark_texels(sheet, atlas, raster)[7], nearest_texels(uv[[far]], 32)[0]
    assert not raster.covered[nearest[1], nearest[0]]
    assert raster.covered[y, x]
    candidates = np.argwhere(raster.covered)[:, ::-1]
    assert np.hypot(*(nearest - (x, y))) == np.hypot(*(candidates - nearest).T).min()
    for compat, weight in ((None, 16), ("prnet", 255 / 16)):
        weights = weight_mask(sheet, atlas, 32, raster=raster, compat=compat)
        assert weights[y, x] == weight
        assert not weights[~raster.covered].any()


def test_the_package_offers_the_function_whatever_was_imported_before(sheet):
    weights = render.weight_mask(sheet, UVAtlas(sheet.uv, sheet.triangles), 64)
    assert weights.shape == (64, 64)
    assert (weights == 16).sum() == 68


def test_a_raster_of_another_size_is_refused(sheet):
    atlas = UVAtlas(sheet.uv, sheet.triangles)
    with pytest.raises(ValueError, match="128 × 128 texels cannot be made from a raster of 64"):
        weight_mask(sheet, atlas, 128, raster=AtlasRaster(atlas, 64))


def test_an_atlas_that_covers_no_texel_is_refused(sheet):
    atlas = UVAtlas(0.5 + 1e-4 * sheet.uv, sheet.triangles)
    with pytest.raises(ValueError, match="covers none of its 16 × 16 texels"):
        weight_mask(sheet, atlas, 16)

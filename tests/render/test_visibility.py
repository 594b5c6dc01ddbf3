"""Self-occlusion of vertices and texels against rays, and the photograph carried into the atlas and back."""

import numpy as np
import pytest

from geometry.camera import ScaledOrthographicCamera
from geometry.mesh import vertex_normals
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, TexelSampler
from render.correspondence import FieldTemplate, draw_field
from render.face_buffers import draw_faces
from render.sampling import sample_bilinear
from render.texture_map import texture_map
from render.visibility import vertices_seen_in, visible_texels, visible_vertices

SIZE_HW = (240, 200)


@pytest.fixture(scope="module", params=[(0.1, 0.2, 0.0), (-0.2, -1.0, 0.1)], ids=["frontal", "turned"])
def head(request, built_in) -> np.ndarray:
    """The mean head, pixels; its shoulders reach out of the picture."""
    camera = ScaledOrthographicCamera(1.1, rotation_from_euler(*request.param), np.array([100.0, 130.0, 0.0]))
    return camera.project(built_in.mean_shape)


@pytest.fixture(scope="module")
def raster(own_atlas) -> AtlasRaster:
    return AtlasRaster(own_atlas, 128)


def surface_before(vertices: np.ndarray, triangles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The definition: how far before each point (px) its ray to the viewer meets the surface last; −inf: never."""
    corners = vertices[triangles].astype(np.float64)
    low, high = corners[..., :2].min(axis=1).T.copy(), corners[..., :2].max(axis=1).T.copy()
    before = np.full(len(points), -np.inf)
    for k, point in enumerate(points.astype(np.float64)):
        near = (low[0] <= point[0]) & (high[0] >= point[0]) & (low[1] <= point[1]) & (high[1] >= point[1])
        a, b, c = np.moveaxis(corners[near], 1, 0)
        b, c, p = b - a, c - a, point - a
        area = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
        sound = area != 0
        along_b = (p[:, 0] * c[:, 1] - p[:, 1] * c[:, 0])[sound] / area[sound]
        along_c = (b[:, 0] * p[:, 1] - b[:, 1] * p[:, 0])[sound] / area[sound]
        z = a[sound, 2] + along_b * b[sound, 2] + along_c * c[sound, 2]
        inside = (along_b >= 0) & (along_c >= 0) & (along_b + along_c <= 1)
        before[k] = (z - point[2])[inside].max(initial=-np.inf)
    return before


def test_visible_vertices_are_those_whose_ray_to_the_viewer_is_free(built_in, head):
    some = np.random.default_rng(2).choice(len(head), 400, replace=False)
    seen = visible_vertices(head, built_in.triangles, size_hw=SIZE_HW)[some]
    points = head[some]
    inside = (points[:, :2] >= -0.5).all(axis=1) & (points[:, 0] < 199.5) & (points[:, 1] < 239.5)
    assert not seen[~inside].any()
    facing = -vertex_normals(head.astype(np.float64), built_in.triangles)[some, 2]
    clearly = inside & (facing > 0.3)
    before = surface_before(head, built_in.triangles, points)
    free = before < 1e-3
    assert (seen == free)[clearly].mean() > 0.98
    assert seen[clearly & free].mean() > 0.99
    far_behind = before > 12
    assert far_behind.sum() > 30
    assert not seen[far_behind].any()
    assert not seen[facing < 0].any()


def test_the_zbuffer_that_drew_a_face_knows_its_visible_vertices_nearly_as_well_as_a_finer_one(built_in, head):
    drawn = draw_faces([head], built_in.triangles, size_hw=SIZE_HW)
    seen = vertices_seen_in(drawn, head, built_in.triangles, index=0)
    finer = visible_vertices(head, built_in.triangles, size_hw=SIZE_HW)
    assert (seen == finer).mean() > 0.97
    x, y = head[seen, :2].T
    assert (x > -0.6).all()
    assert (y < SIZE_HW[0] - 0.4).all()


def test_a_vertex_behind_another_face_is_hidden_and_one_in_the_open_is_not():
    triangles = np.array([[0, 2, 1], [1, 2, 3]], dtype=np.int32)
    far = np.array([[10.0, 10, 0], [60, 10, 0], [10, 60, 0], [60, 60, 0]])
    near = far + (30, 20, -500)
    drawn = draw_faces([near, far], triangles, size_hw=(100, 100))
    assert vertices_seen_in(drawn, far, triangles, index=1).tolist() == [True, True, True, False]
    assert vertices_seen_in(drawn, near, triangles, index=0).all()
    assert not vertices_seen_in(drawn, near * (-1, 1, 1) + (100, 0, 0), triangles, index=0).any()  # seen from behind


@pytest.mark.parametrize(("gap", "is_seen"), [(0.3, True), (2.0, False)])
def test_a_vertex_is_hidden_by_what_lies_more_than_a_pixel_before_it(gap, is_seen):
    far = np.array([[10.0, 10, 0], [60, 10, 0], [10, 60, 0], [60, 60, 0]])
    mesh = np.concatenate([far, far + (30, 20, gap)])
    square = np.array([[0, 2, 1], [1, 2, 3]], dtype=np.int32)
    triangles = np.concatenate([square, square + 4]).astype(np.int32)
    drawn = draw_faces([mesh], triangles, size_hw=(100, 100))
    assert visible_vertices(mesh, triangles, size_hw=(100, 100)).tolist() == [True] * 3 + [is_seen] + [True] * 4
    assert vertices_seen_in(drawn, mesh, triangles, index=0).tolist() == [True] * 3 + [is_seen] + [True] * 4


def test_texels_are_visible_where_their_surface_is(built_in, own_atlas, raster, head):
    seen = visible_texels(raster, head, built_in.triangles, size_hw=SIZE_HW)
    assert not seen[~raster.covered].any()
    rows, columns = np.nonzero(raster.covered)
    some = np.random.default_rng(3).choice(len(rows), 300, replace=False)
    rows, columns = rows[some], columns[some]
    points = raster.apply(head)[rows, columns]
    normals = raster.apply(vertex_normals(head.astype(np.float64), built_in.triangles))[rows, columns]
    facing = -normals[:, 2] / np.maximum(np.linalg.norm(normals, axis=1), 1e-9)
    inside = (points[:, :2] >= 0).all(axis=1) & (points[:, 0] < 199) & (points[:, 1] < 239)
    clearly = inside & (facing > 0.3)
    free = surface_before(head, built_in.triangles, points) < 0.05
    assert clearly.sum() > 60
    assert (seen[rows, columns] == free)[clearly].mean() > 0.97


def smooth_picture() -> np.ndarray:
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    return np.stack([x, y, 120 + 60 * np.sin(x / 17) * np.cos(y / 23)], axis=-1).astype(np.uint8)


def test_the_photograph_carried_into_the_atlas_is_the_photograph_when_looked_up_through_the_field(
    built_in, own_atlas, head
):
    picture = smooth_picture()
    raster = AtlasRaster(own_atlas, 256)
    visible = visible_texels(raster, head, built_in.triangles, size_hw=SIZE_HW)
    texture = texture_map(picture, raster.apply(head), visible)
    assert not texture.colors[~visible].any()
    field = draw_field(FieldTemplate.of(built_in, own_atlas, np.zeros((2, 2), np.uint8)), [head], size_hw=SIZE_HW)
    sampler = TexelSampler.at(raster, field.uv[field.is_face].astype(np.float64))
    known = visible[sampler.rows, sampler.columns].all(axis=1)
    assert known.mean() > 0.8
    again = sampler.read(texture.colors.astype(np.float32))[known]
    off = np.abs(again - picture[field.is_face][known])
    assert np.median(off) < 1
    assert np.percentile(off, 99) < 4


def test_texels_are_read_at_their_own_places():
    """A sheet parallel to the picture: each texel's colour is known."""
    uv = np.array([[0.0, 1], [1, 1], [0, 0], [1, 0]])
    triangles = np.array([[0, 2, 1], [1, 2, 3]], dtype=np.int32)
    sheet = np.array([[10, 20, 0], [73, 20, 0], [10, 83, 0], [73, 83, 0]], dtype=np.float32)
    raster = AtlasRaster(UVAtlas(uv, triangles), 64)
    visible = visible_texels(raster, sheet, triangles, size_hw=SIZE_HW)
    assert visible.all()
    texture = texture_map(smooth_picture(), raster.apply(sheet), visible)
    np.testing.assert_array_equal(texture.colors, smooth_picture()[20:84, 10:74])


def test_a_visible_texel_outside_the_picture_is_refused():
    with pytest.raises(ValueError, match="lies outside the picture: position map, visibility and picture must share"):
        texture_map(smooth_picture(), np.full((2, 2, 3), 500, dtype=np.float32), np.ones((2, 2), dtype=bool))


def test_bilinear_reading_is_exact_on_a_plane_and_holds_the_border():
    y, x = np.mgrid[:5, :7]
    plane = (3 * x - 2 * y + 0.5)[..., None].astype(np.float32)
    places = np.random.default_rng(0).uniform((0, 0), (6, 4), (50, 2))
    np.testing.assert_allclose(
        sample_bilinear(plane, places)[:, 0], 3 * places[:, 0] - 2 * places[:, 1] + 0.5, atol=1e-5
    )
    beside = sample_bilinear(plane, np.array([[-0.4, 2.0], [6.4, 0.0], [6.6, 0.0], [2.0, np.nan], [0.0, -0.6]]))
    np.testing.assert_allclose(beside[:2, 0], [-3.5, 18.5])
    assert np.isnan(beside[2:]).all()

"""From UV back to the surface: exact on every atlas, nothing across a seam, nothing where one place has two names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry import cylindrical, optimal_cylindrical
from geometry.camera import ScaledOrthographicCamera
from geometry.mesh import Mesh
from geometry.morphable_model import REGION_NAMES
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.correspondence import FieldTemplate, correspondence_field, with_eyes_closed
from render.face_buffers import draw_faces
from render.surface_lookup import SurfaceLookup
from render.zbuffer import interpolate

seeds = st.integers(0, 2**32 - 1)
SIZE = 200


@settings(max_examples=40)
@given(seeds)
def test_a_place_in_a_triangle_is_found_with_its_own_weights(sheet, seed):
    rng = np.random.default_rng(seed)
    atlas = UVAtlas(0.03 + 0.9 * sheet.uv, sheet.triangles)
    triangle = rng.integers(0, len(sheet.triangles), 200)
    weights = rng.dirichlet((1, 1, 1), 200)
    uv = np.einsum("pc,pcx->px", weights, atlas.uv[sheet.triangles[triangle]])
    points, found = SurfaceLookup.of(atlas).points(uv)
    assert found.all()
    np.testing.assert_array_equal(points.corners, sheet.triangles[triangle])
    np.testing.assert_allclose(points.weights, weights, atol=1e-9)


def test_corners_and_borders_of_the_square_are_found(sheet):
    uv = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0], [1, 0.37]])
    points, found = SurfaceLookup.of(UVAtlas(sheet.uv, sheet.triangles)).points(uv)
    assert found.all()
    np.testing.assert_allclose(np.einsum("pc,pcx->px", points.weights, sheet.uv[points.corners]), uv, atol=1e-12)


@settings(max_examples=30)
@given(seeds, st.floats(1e-5, 1 / 256))
def test_a_place_beside_the_surface_goes_to_its_nearest_point_within_reach_and_no_farther(sheet, seed, reach):
    """The sheet laid over [0.2, 0.8]²: the nearest point of the square is known."""
    atlas = UVAtlas(0.2 + 0.6 * sheet.uv, sheet.triangles)
    rng = np.random.default_rng(seed)
    uv = np.concatenate([rng.uniform(0.2 - 2 * reach, 0.2, (60, 2)), rng.uniform(0.2 - reach, 0.8 + reach, (60, 2))])
    nearest = np.clip(uv, 0.2, 0.8)
    distance = np.linalg.norm(uv - nearest, axis=1)
    points, found = SurfaceLookup.of(atlas).points(uv, reach=reach)
    clear = np.abs(distance - reach) > 1e-9
    np.testing.assert_array_equal(found[clear], (distance <= reach)[clear])
    back = np.einsum("pc,pcx->px", points.weights, atlas.uv[points.corners])
    np.testing.assert_allclose(back[found], nearest[found], atol=1e-9)
    assert (points.weights >= -1e-12).all()


def test_where_two_layers_lie_over_each_other_there_is_no_answer_but_a_shared_edge_has_one():
    uv = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9], [0.6, 0.9]])
    flat = UVAtlas(uv, np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32))
    on_edge = np.array([[0.5, 0.5], [0.1, 0.1], [0.9, 0.9]])
    assert SurfaceLookup.of(flat).points(on_edge)[1].all()
    folded = UVAtlas(uv, np.array([[0, 1, 2], [0, 1, 4]], dtype=np.int32))
    points, found = SurfaceLookup.of(folded).points(np.array([[0.5, 0.3], [0.85, 0.7], [0.5, 0.72]]))
    assert found.tolist() == [False, True, True]
    assert points.corners[1:].tolist() == [[0, 1, 2], [0, 1, 4]]


def test_places_far_outside_and_nan_are_found_nowhere(sheet):
    uv = np.array([[np.nan, 0.5], [0.5, np.nan], [-3.0, 0.5], [0.5, 1e30], [1.01, 0.5], [np.inf, np.inf]])
    points, found = SurfaceLookup.of(UVAtlas(sheet.uv, sheet.triangles)).points(uv)
    assert not found.any()
    assert np.isfinite(points.weights).all()


# ---------------------------------------------------------------------------------------- a cylinder, seam included


RADIUS, HEIGHT = 60.0, 110.0
COLUMNS, ROWS = 90, 7
WIDEST = np.pi * (1 - 1 / COLUMNS)


@pytest.fixture(scope="module")
def column() -> Mesh:
    """An upright cylinder (y up); its seam runs behind the axis through the middle of a facet."""
    angle, height = np.meshgrid(np.linspace(-WIDEST, WIDEST, COLUMNS), np.linspace(0, HEIGHT, ROWS))
    vertices = np.stack([RADIUS * np.sin(angle), height, RADIUS * np.cos(angle)], axis=-1).reshape(-1, 3)
    index = np.arange(ROWS * COLUMNS, dtype=np.int32).reshape(ROWS, COLUMNS)
    right = np.roll(index, -1, axis=1)
    a, b, c, d = (k.ravel() for k in (index[:-1], right[:-1], index[1:], right[1:]))
    return Mesh(vertices, np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)]))


def test_on_a_cylinder_u_and_v_lead_to_the_angle_and_height_of_the_closed_form(column):
    atlas = cylindrical(column)
    places = np.random.default_rng(0).uniform(0, 1, (2000, 2))
    points, found = SurfaceLookup.of(atlas).points(places)
    assert found.all()
    back = np.einsum("pc,pcx->px", points.weights, column.vertices[points.corners])
    angle = (2 * places[:, 0] - 1) * WIDEST  # u = ½ is the front, the widest angles lie at 0 and 1
    assert np.abs(np.arctan2(back[:, 0], back[:, 2]) - angle).max() < np.deg2rad(0.01)  # a facet of 4° is a chord
    np.testing.assert_allclose(back[:, 1], places[:, 1] * HEIGHT, atol=1e-6)


def test_beyond_the_seam_a_place_belongs_to_the_last_column_and_never_to_both_ends(column):
    lookup = SurfaceLookup.of(cylindrical(column))
    ends, found = lookup.points(np.array([[-0.003, 0.4], [0.0, 0.4], [1.0, 0.4], [1.003, 0.4], [-0.02, 0.4]]))
    assert found.tolist() == [True, True, True, True, False]
    back = np.einsum("pc,pcx->px", ends.weights, column.vertices[ends.corners])
    np.testing.assert_allclose(back[0], back[1], atol=1e-6)
    np.testing.assert_allclose(back[2], back[3], atol=1e-6)
    distance = np.hypot(back[:4, 0], back[:4, 2])
    assert distance.min() > RADIUS * np.cos(np.pi / COLUMNS) - 1e-6  # on the wall, not inside the cylinder


# ---------------------------------------------------------------------------------------- heads


@pytest.fixture(scope="module", params=["own", "cylinder", "unfolded"])
def atlas(request, built_in, own_atlas) -> UVAtlas:
    shape = built_in.mean_shape.astype(np.float64)
    if request.param == "own":
        return own_atlas
    if request.param == "cylinder":
        return cylindrical(Mesh(shape, with_eyes_closed(built_in)))
    return optimal_cylindrical(Mesh(shape, built_in.triangles), closing_triangles=built_in.closing_triangles)


@pytest.mark.parametrize("pose", [(0.1, 0.2, 0.0), (-0.2, -1.0, 0.1)], ids=["frontal", "turned"])
def test_every_pixel_of_a_field_leads_back_to_the_surface_point_that_was_drawn(built_in, atlas, pose):
    template = FieldTemplate.of(built_in, atlas, np.zeros((2, 2), np.uint8))
    camera = ScaledOrthographicCamera(0.95, rotation_from_euler(*pose), np.array([100.0, 110.0, 0.0]))
    head = camera.project(built_in.mean_shape).astype(np.float64)
    drawn = draw_faces([head], template.triangles, size_hw=(SIZE, SIZE))
    field = correspondence_field(drawn, template)
    points, found = SurfaceLookup.of_template(template).points(field.uv[field.is_face])
    assert found.mean() > (0.98 if atlas.folded.any() else 0.9999)  # folds have two names for a place
    back = np.einsum("pc,pcx->px", points.weights, head[points.corners])[found]
    truth = interpolate(drawn.buffers, head, template.triangles)[field.is_face][found]
    off = np.linalg.norm(back - truth, axis=1)
    assert np.median(off) < 2e-4  # float32 of u and v
    assert np.percentile(off, 99) < 0.02


def test_between_the_lips_there_is_no_surface(built_in, own_atlas):
    lookup = SurfaceLookup.of_template(FieldTemplate.of(built_in, own_atlas, np.zeros((2, 2), np.uint8)))
    over_eyes = (built_in.regions[built_in.closing_triangles] == REGION_NAMES.index("eyes")).all(axis=1)
    inside_mouth = own_atlas.uv[built_in.closing_triangles[~over_eyes]].mean(axis=1)
    inside_eyes = own_atlas.uv[built_in.closing_triangles[over_eyes]].mean(axis=1)
    assert lookup.points(inside_eyes, reach=0.0)[1].all()
    assert not lookup.points(inside_mouth, reach=0.0)[1].any()


def test_an_atlas_without_triangles_and_a_wide_reach_are_refused(sheet):
    with pytest.raises(ValueError, match="an atlas without triangles has no surface"):
        SurfaceLookup.of(UVAtlas(sheet.uv, sheet.triangles[:0]))
    with pytest.raises(ValueError, match="a reach of 0.1 is not between 0 and 1/256"):
        SurfaceLookup.of(UVAtlas(sheet.uv, sheet.triangles)).points(np.zeros((1, 2)), reach=0.1)

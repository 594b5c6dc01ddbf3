"""Correspondence fields: against closed forms, and back onto the surface that was drawn."""

import numpy as np
import pytest

from geometry import cylindrical
from geometry.camera import ScaledOrthographicCamera
from geometry.cylinder import fit_cylinder
from geometry.frames import texel_from_uv
from geometry.mesh import Mesh
from geometry.morphable_model import REGION_NAMES, Coefficients
from geometry.optimal_cylinder import optimal_cylindrical
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, TexelSampler
from render.correspondence import (
    FACE,
    CorrespondenceField,
    FieldTemplate,
    box_mask,
    correspondence_field,
    draw_field,
    draw_fields,
    unannotated_boxes,
    with_eyes_closed,
    without_openings,
)
from render.correspondence_kernel import OPENING, UNPLACED
from render.face_buffers import FaceBuffers, draw_faces
from render.parts import DENSEREG_PARTS, densereg_parts, part_map
from render.quantization import BACKGROUND, IGNORE, dequantize
from render.surface_maps import label_map
from render.zbuffer import interpolate

NO_PARTS = np.zeros((2, 2), dtype=np.uint8)

# ---------------------------------------------------------------------------------------- a cylinder in closed form

RADIUS, HEIGHT, CENTRE, TOP = 70.3, 120.0, 80.2, 15.6  # pixels
COLUMNS, ROWS = 180, 9


def cylinder(*, yaw: float, doubled_seam: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (pixels), triangles and closed-form UV of an upright cylinder; the seam is at the back for yaw 0."""
    n = COLUMNS + 1 if doubled_seam else COLUMNS
    angle, height = np.meshgrid(np.linspace(-np.pi, np.pi, COLUMNS + 1)[:n], np.linspace(0, 1, ROWS))
    turned = angle + yaw
    vertices = np.stack([CENTRE + RADIUS * np.sin(turned), TOP + HEIGHT * (1 - height), RADIUS * np.cos(turned)], -1)
    uv = np.stack([angle / (2 * np.pi) + 0.5, height], axis=-1)
    index = np.arange(ROWS * n, dtype=np.int32).reshape(ROWS, n)
    right = index[:, 1:] if doubled_seam else np.roll(index, -1, axis=1)
    left = index[:, : right.shape[1]]
    a, b, c, d = (k.ravel() for k in (left[:-1], right[:-1], left[1:], right[1:]))  # rows run upward
    triangles = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
    return vertices.reshape(-1, 3), np.ascontiguousarray(triangles), uv.reshape(-1, 2)


def closed_form(*, yaw: float, size_hw: tuple[int, int]) -> np.ndarray:
    """(u, v) of the cylinder at every pixel; NaN beside it."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float64)
    aside, v = (x - CENTRE) / RADIUS, 1 - (y - TOP) / HEIGHT
    inside = (np.abs(aside) <= 1) & (v >= 0) & (v <= 1)
    u = (np.arcsin(np.where(inside, aside, 0)) - yaw) / (2 * np.pi) + 0.5
    return np.where(inside[..., None], np.stack([u % 1, v], axis=-1), np.nan)


def distance(u: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Between places on the circle of length 1."""
    return np.abs((u - other + 0.5) % 1 - 0.5)


@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.2, np.pi - 0.05, np.pi], ids="{:.2f}".format)
def test_a_cylinder_s_coordinates_are_those_of_the_closed_form_seam_included(yaw):
    vertices, triangles, uv = cylinder(yaw=yaw, doubled_seam=True)
    template = FieldTemplate.of_surface(triangles, UVAtlas(uv, triangles), NO_PARTS)
    field = draw_field(template, [vertices], size_hw=(150, 161))
    truth = closed_form(yaw=yaw, size_hw=(150, 161))
    both = field.is_face & np.isfinite(truth[..., 0])
    assert both.sum() > 0.99 * np.isfinite(truth[..., 0]).sum()
    assert (field.is_face & ~both).sum() <= 2  # rounding at the border
    texels = 255 * np.stack([distance(field.uv[..., 0], truth[..., 0]), np.abs(field.uv[..., 1] - truth[..., 1])], -1)
    assert np.median(texels[both]) < 0.3
    assert np.percentile(texels[both], 99) < 2
    away_from_rim = both & (np.abs((np.arange(161) - CENTRE) / RADIUS) < 0.98)
    assert texels[away_from_rim].max() < 0.05  # beside the rim a pixel of the grid of 1/256 is many degrees


@pytest.mark.parametrize("yaw", [0.0, -2.2, np.pi - 0.05], ids="{:.2f}".format)
def test_where_the_atlas_leaves_the_seam_out_its_pixels_are_ignored_and_never_mixed_from_both_ends(yaw):
    vertices, triangles, _ = cylinder(yaw=0.0, doubled_seam=False)
    model_frame = (vertices - (CENTRE, TOP, 0)) * (1, -1, 1)
    atlas = cylindrical(Mesh(model_frame, triangles))
    template = FieldTemplate.of_surface(triangles, atlas, NO_PARTS)
    seam = ~atlas.holds(triangles)
    assert seam.sum() == 2 * (ROWS - 1)
    turned, _, _ = cylinder(yaw=yaw, doubled_seam=False)
    drawn = draw_faces([turned], triangles, size_hw=(150, 161))
    field = correspondence_field(drawn, template)
    on_seam = drawn.buffers.covered & seam[drawn.buffers.triangle_id]
    assert on_seam.any() == (abs(yaw) > np.pi / 2)
    np.testing.assert_array_equal(field.label == IGNORE, on_seam)
    assert (field.face_index[on_seam] == 0).all()  # it is known whose they are
    truth = closed_form(yaw=yaw, size_hw=(150, 161))
    # u = ½ is the front, and the widest angle, half a turn or a column less, lies at the border
    widest = np.abs(fit_cylinder(Mesh(model_frame, triangles)).angles(model_frame)).max()
    stretch = np.pi / widest
    clear = field.is_face & (np.abs((np.arange(161) - CENTRE) / RADIUS) < 0.98)
    expected = (truth[clear, 0] - 0.5) * stretch + 0.5
    assert np.abs(field.uv[clear, 0] - expected).max() < 0.05 / 255
    assert np.abs(field.uv[clear, 1] - truth[clear, 1]).max() < 0.05 / 255


def test_fields_drawn_together_are_those_drawn_alone():
    vertices, triangles, uv = cylinder(yaw=0.7, doubled_seam=True)
    template = FieldTemplate.of_surface(triangles, UVAtlas(uv, triangles), np.arange(16, dtype=np.uint8).reshape(4, 4))
    moved = vertices + np.random.default_rng(5).normal(size=(19, 1, 3)) * (40, 9, 3)
    moved[4] += 500  # out of the picture
    together = draw_fields(template, moved, size_hw=(120, 131))
    assert len(together) == 19
    for field, face in zip(together, moved, strict=True):
        alone = draw_field(template, [face], size_hw=(120, 131))
        for name in CorrespondenceField.__slots__:
            np.testing.assert_array_equal(getattr(field, name), getattr(alone, name))
    assert draw_fields(template, moved[:0], size_hw=(120, 131)) == []


# ---------------------------------------------------------------------------------------- heads: there and back

SIZE = 256
POSES = ((0.05, 0.1, 0.0), (-0.2, 0.5, 0.1), (0.1, -1.1, 0.2), (0.3, 1.4, 0.0))  # pitch, yaw, roll


@pytest.fixture(scope="module")
def atlases(built_in, own_atlas) -> dict[str, UVAtlas]:
    shape = built_in.mean_shape.astype(np.float64)
    unfolded = optimal_cylindrical(Mesh(shape, built_in.triangles), closing_triangles=built_in.closing_triangles)
    return {"own": own_atlas, "cylinder": cylindrical(Mesh(shape, with_eyes_closed(built_in))), "unfolded": unfolded}


@pytest.fixture(scope="module")
def labels(built_in) -> np.ndarray:
    return densereg_parts(built_in)


@pytest.fixture(scope="module", params=["own", "cylinder", "unfolded"])
def flat(request, built_in, atlases, labels) -> tuple[UVAtlas, FieldTemplate]:
    atlas = atlases[request.param]
    return atlas, FieldTemplate.of(built_in, atlas, part_map(labels, atlas, 1024))


@pytest.fixture(scope="module")
def heads(built_in) -> list[np.ndarray]:
    """Drawn people under several poses, in pixels of a picture of 256 × 256."""
    rng = np.random.default_rng(1)
    heads = []
    for pose in POSES:
        coefficients = Coefficients(built_in.draw_identity(rng), built_in.draw_expression(rng))
        camera = ScaledOrthographicCamera(1.2, rotation_from_euler(*pose), np.array([128.0, 140.0, 0.0]))
        heads.append(camera.project(built_in.vertices(coefficients)))
    return heads


def texels_off(template, atlas, raster, drawn, field, head) -> np.ndarray:
    """How far from what was drawn the atlas leads, in texels: pixels over the size of a texel at that place."""
    face = field.is_face
    back = TexelSampler.at(raster, field.uv[face].astype(np.float64)).read(raster.apply(head))
    truth = interpolate(drawn.buffers, head, template.triangles)[face]

    def doubled_areas(corners: np.ndarray) -> np.ndarray:
        first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        squares = [(a * b).sum(axis=1) for a, b in ((first, first), (second, second), (first, second))]
        return np.sqrt(np.maximum(squares[0] * squares[1] - squares[2] ** 2, 1e-12))

    corners = template.triangles[drawn.buffers.triangle_id[face]]
    texel_size = np.sqrt(
        doubled_areas(head[corners].astype(np.float64)) / doubled_areas(texel_from_uv(atlas.uv, raster.size)[corners])
    )
    return np.linalg.norm(back - truth, axis=1) / texel_size


def test_coordinates_lead_back_to_the_surface_point_that_was_drawn(flat, heads):
    atlas, template = flat
    raster = AtlasRaster(atlas, SIZE)
    for head in heads:
        drawn = draw_faces([head], template.triangles, size_hw=(SIZE, SIZE))
        field = correspondence_field(drawn, template)
        assert field.is_face.mean() > 0.4
        off = texels_off(template, atlas, raster, drawn, field, head)
        assert np.median(off) < 0.3
        assert np.percentile(off, 99) < 2


def test_parts_carried_through_uv_are_the_parts_drawn_directly(flat, heads, labels, built_in):
    atlas, template = flat
    skull = np.isin(built_in.regions, [REGION_NAMES.index(name) for name in ("neck", "ears", "forehead")])
    for head in heads:
        drawn = draw_faces([head], template.triangles, size_hw=(SIZE, SIZE))
        field = correspondence_field(drawn, template)
        direct = label_map(drawn, labels, template.triangles)
        agree = field.part == direct
        assert agree[field.is_face].mean() > 0.995
        names = np.unique(field.part[field.is_face])
        assert set(names) <= set(range(1, 9))
        inner_face = label_map(drawn, np.where(skull, 0, 1).astype(np.uint8), template.triangles) == 1
        # Without what is plainly "other"; the plain cylinder folds lips and lids over each other.
        assert agree[field.is_face & inner_face].mean() > (0.995 if not atlas.folded.any() else 0.99)


def test_an_open_mouth_shows_no_back_of_the_head(built_in, atlases):
    template = FieldTemplate.of(built_in, atlases["own"], NO_PARTS)
    units = built_in.unit_weights({"jawOpen": 0.9})
    coefficients = Coefficients(np.zeros(built_in.n_identity), built_in.expression_from_units(units))
    camera = ScaledOrthographicCamera(2.0, rotation_from_euler(0.25, 0.2, 0.0), np.array([128.0, 60.0, 0.0]))
    head = camera.project(built_in.vertices(coefficients))
    field = draw_field(template, [head], size_hw=(SIZE, SIZE))
    inner = head[built_in.landmark_vertices[60:68], :2]
    middle = np.rint(inner.mean(axis=0)).astype(int)
    assert np.ptp(inner[:, 1]) > 20  # it is open
    around = (slice(middle[1] - 6, middle[1] + 7), slice(middle[0] - 6, middle[0] + 7))
    assert (field.label[around] == BACKGROUND).all()
    assert (field.face_index[around] == -1).all()

    behind = camera.project(built_in.mean_shape)  # nor is another person seen through it
    drawn = draw_faces([head, behind], template.triangles, size_hw=(SIZE, SIZE))
    cleared = without_openings(drawn, template)
    for buffers in (drawn, cleared):
        assert (correspondence_field(buffers, template).label[around] == BACKGROUND).all()
    assert drawn.buffers.covered[around].all()
    assert not cleared.buffers.covered[around].any()
    same = cleared.buffers.covered
    np.testing.assert_array_equal(cleared.buffers.triangle_id[same], drawn.buffers.triangle_id[same])


def test_eyes_have_coordinates_although_the_model_has_holes_there(built_in, atlases, labels):
    template = FieldTemplate.of(built_in, atlases["own"], part_map(labels, atlases["own"], 512))
    camera = ScaledOrthographicCamera(4.0, rotation_from_euler(0.0, 0.0, 0.0), np.array([128.0, 200.0, 0.0]))
    head = camera.project(built_in.mean_shape)
    field = draw_field(template, [head], size_hw=(SIZE, SIZE))
    for name, eye in (("right eye", slice(36, 42)), ("left eye", slice(42, 48))):
        x, y = np.rint(head[built_in.landmark_vertices[eye], :2].mean(axis=0)).astype(int)
        assert field.label[y, x] == FACE
        assert DENSEREG_PARTS[field.part[y, x] - 1] == name


# ---------------------------------------------------------------------------------------- depth, labels, whose face


@pytest.fixture(scope="module")
def pair(built_in, atlases) -> tuple[FieldTemplate, list[np.ndarray], list[float]]:
    """Two people who overlap, the smaller one first in the list and with the larger z."""
    template = FieldTemplate.of(built_in, atlases["own"], NO_PARTS)
    rng = np.random.default_rng(4)
    scales = [0.6, 0.9]
    faces = []
    for scale, yaw, x, z in zip(scales, (0.4, -0.3), (70.0, 165.0), (900.0, -50.0), strict=True):
        coefficients = Coefficients(built_in.draw_identity(rng), built_in.draw_expression(rng))
        camera = ScaledOrthographicCamera(scale, rotation_from_euler(0.1, yaw, 0.0), np.array([x, 130.0, z]))
        faces.append(camera.project(built_in.vertices(coefficients)))
    return template, faces, scales


@pytest.fixture(scope="module")
def of_pair(pair) -> CorrespondenceField:
    template, faces, scales = pair
    return draw_field(template, faces, size_hw=(230, 260), scales=scales)


def test_the_larger_scale_is_nearer_and_each_pixel_knows_whose_it_is(pair, of_pair):
    template, faces, _ = pair
    alone = [draw_field(template, [face], size_hw=(230, 260)) for face in faces]
    overlap = alone[0].is_face & alone[1].is_face
    assert overlap.sum() > 500
    assert (of_pair.face_index[overlap] == 1).all()
    for k, single in enumerate(alone):
        mine = of_pair.face_index == k
        assert mine.sum() > 4000
        np.testing.assert_array_equal(of_pair.uv[mine], single.uv[mine])
    np.testing.assert_array_equal(of_pair.is_face, of_pair.face_index >= 0)  # nothing is unplaced in this atlas


def test_depth_runs_from_0_to_1_over_what_is_seen_of_each_face_and_comes_back_in_pixels(pair, of_pair):
    template, faces, scales = pair
    drawn = draw_faces(faces, template.triangles, size_hw=(230, 260), scales=scales)
    for k in range(2):
        mine = of_pair.is_face & (of_pair.face_index == k)
        assert of_pair.depth[mine].min() == 0
        assert of_pair.depth[mine].max() == pytest.approx(1, abs=1e-6)
        low, high = of_pair.depth_range_px[k]
        z = low + of_pair.depth[mine] * (high - low)
        np.testing.assert_allclose(z, drawn.buffers.depth[mine], atol=1e-3)
    assert not of_pair.depth[~of_pair.is_face].any()


def test_a_face_outside_the_picture_has_no_depth_range(pair):
    template, faces, _ = pair
    field = draw_field(template, [faces[0], faces[1] + np.float32(5000)], size_hw=(230, 260))
    assert np.isfinite(field.depth_range_px[0]).all()
    assert np.isnan(field.depth_range_px[1]).all()


def test_a_surface_parallel_to_the_picture_has_depth_0():
    square = np.array([[2, 2, 5], [12, 2, 5], [2, 12, 5], [12, 12, 5]], dtype=np.float32)
    triangles = np.array([[0, 2, 1], [1, 2, 3]], dtype=np.int32)
    atlas = UVAtlas(np.array([[0.0, 1], [1, 1], [0, 0], [1, 0]]), triangles)
    field = draw_field(FieldTemplate.of_surface(triangles, atlas, NO_PARTS), [square], size_hw=(16, 16))
    assert field.is_face.sum() == 100
    assert not field.depth.any()
    assert field.depth_range_px.tolist() == [[5, 5]]


@pytest.mark.parametrize("role", [UNPLACED, OPENING])
def test_depth_runs_over_the_surface_that_has_coordinates_and_no_other(role):
    """Neither what closes a mouth nor what an atlas leaves out stretches the range, wherever it lies."""
    square = np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [10, 10, 0]])
    sloping = square + square[:, :1] * (0, 0, 1)
    before, behind = square * (0.3, 0.3, 1) + (1, 1, 700), square + (12, 0, -700)
    vertices = np.concatenate([sloping, before, behind]).astype(np.float32)
    triangles = np.array([[0, 2, 1], [1, 2, 3]], dtype=np.int32)
    triangles = np.concatenate([triangles, triangles + 4, triangles + 8]).astype(np.int32)
    template = FieldTemplate(
        triangles, np.array([0, 0, role, role, role, role], np.uint8), np.zeros((12, 2), np.float32), NO_PARTS
    )
    field = draw_field(template, [vertices], size_hw=(12, 24))
    assert (field.depth_range_px[0] == [0, 9]).all()
    assert field.depth[field.is_face].max() == 1


def test_ignored_places_are_ignored_but_where_a_face_is_drawn(pair, of_pair):
    template, faces, scales = pair
    ignored = box_mask(np.array([[0.0, 0.0, 99.5, 300.0]]), size_hw=(230, 260))
    field = draw_field(template, faces, size_hw=(230, 260), scales=scales, ignored=ignored)
    np.testing.assert_array_equal(field.uv, of_pair.uv)
    np.testing.assert_array_equal(field.label == FACE, of_pair.is_face)
    np.testing.assert_array_equal(field.label == IGNORE, ignored & ~of_pair.is_face)


def test_a_detected_box_is_unannotated_when_it_holds_no_landmark():
    boxes = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30], [50, 0, 60, 10]])
    faces = [np.array([[5.0, 10, 3], [np.nan, np.nan, np.nan]]), np.array([[31.0, 25], [25, 31]])]
    np.testing.assert_array_equal(unannotated_boxes(boxes, faces), boxes[1:])
    np.testing.assert_array_equal(unannotated_boxes(boxes, []), boxes)


def test_a_box_covers_the_pixels_whose_centres_it_holds_and_may_reach_outside():
    boxes = np.array([[1.5, 0.4, 3.7, 2.8], [-7.0, 2.0, 0.0, 9.0], [50.0, 50, 60, 60], [-9.0, -9, -4, -4]])
    assert box_mask(boxes, size_hw=(4, 5)).astype(int).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0],
        [1, 0, 1, 1, 0],
        [1, 0, 0, 0, 0],
    ]


def test_a_quantised_field_decodes_to_itself(of_pair):
    classes, residual = of_pair.quantized(10)
    assert set(np.unique(classes[~of_pair.is_face])) == {0}
    assert np.abs(dequantize(classes, residual, 10) - of_pair.uv).max() < 1e-6


def test_a_field_without_faces_is_background(pair):
    template, _, _ = pair
    field = draw_field(template, [], size_hw=(8, 9))
    assert not field.label.any()
    assert field.depth_range_px.shape == (0, 2)


def test_buffers_of_other_triangles_are_refused(pair):
    template, faces, _ = pair
    drawn = FaceBuffers.of_one(draw_faces([faces[0] - np.float32(60)], template.triangles, size_hw=(60, 60)).buffers)
    assert drawn.buffers.covered.any()
    few = FieldTemplate(template.triangles[:9], template.role[:9], template.uv, template.part_map)
    with pytest.raises(ValueError, match="the template has 9: draw template.triangles"):
        correspondence_field(drawn, few)
    with pytest.raises(ValueError, match=r"ignored places \(3, 3\) do not fit a picture of 60 × 60"):
        correspondence_field(drawn, template, ignored=np.zeros((3, 3), dtype=bool))


def test_an_atlas_of_another_model_is_refused(built_in, sheet):
    with pytest.raises(ValueError, match="the atlas places 156 vertices and built-in has 53099"):
        FieldTemplate.of(built_in, UVAtlas(sheet.uv, sheet.triangles), NO_PARTS)

"""Parts: named once on the template, on their own sides, and carried to pictures as they are."""

import numpy as np
import pytest

from geometry.morphable_model import REGION_NAMES
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, nearest_texels
from render.correspondence import FieldTemplate, draw_field
from render.parts import DENSEREG_PARTS, FINE_PARTS, carry_mask, densereg_parts, fine_parts, part_map


@pytest.fixture(scope="module")
def fine(built_in) -> np.ndarray:
    return fine_parts(built_in)


def names_of(codes: np.ndarray) -> np.ndarray:
    return np.array(["", *FINE_PARTS])[codes]


def test_every_part_is_there_and_every_vertex_is_in_one(built_in, fine):
    counts = np.bincount(fine, minlength=len(FINE_PARTS) + 1)
    assert counts[0] == 0
    assert (counts[1:-1] > 100).all()
    assert len(FINE_PARTS) == 17
    assert DENSEREG_PARTS[:7] == FINE_PARTS[:7]


def test_the_eight_classes_are_the_fine_ones_with_all_but_seven_called_other(built_in, fine):
    eight = densereg_parts(built_in)
    assert set(np.unique(eight)) == set(range(1, 9))
    np.testing.assert_array_equal(eight[fine <= 7], fine[fine <= 7])
    assert (eight[fine > 7] == 8).all()


def test_sides_are_the_subject_s_and_mirror_each_other(built_in, fine):
    """The subject's right lies at −x; beside the plane between the sides a vertex and its mirror may share one."""
    shape, names = built_in.mean_shape, names_of(fine)
    for name in ("eye", "eyebrow", "cheek", "ear"):
        right, left = (shape[names == f"{side} {name}", 0] for side in ("right", "left"))
        assert right.max() < 0.1
        assert left.min() > -0.1
    swapped = np.array([w.replace("right", "#").replace("left", "right").replace("#", "left") for w in names])
    assert (swapped[built_in.mirror] == names).mean() > 0.995


def test_the_lips_part_at_the_line_between_them_whatever_is_hidden_behind(built_in, fine):
    names, shape = names_of(fine), built_in.mean_shape
    corners = built_in.landmark_vertices
    upper, lower = names == "upper lip", names == "lower lip"
    assert upper[corners[[61, 62, 63]]].all()
    assert lower[corners[[65, 66, 67]]].all()
    # What touches what, along the surface: lips meet only at the corners of the mouth.
    edges = np.concatenate([built_in.triangles[:, [0, 1]], built_in.triangles[:, [1, 2]]])
    meeting = edges[(upper[edges[:, 0]] & lower[edges[:, 1]]) | (lower[edges[:, 0]] & upper[edges[:, 1]])]
    half_width = np.ptp(shape[corners[48:60], 0]) / 2
    assert (np.abs(shape[meeting, 0]) > 0.8 * half_width).all()


def test_outlines_run_through_the_landmarks(built_in, fine):
    """A little inside a landmark of the outline is the part, a little outside it is not."""
    names, shape = names_of(fine), built_in.mean_shape.astype(np.float64)
    seen = shape[:, 2] > 25
    for part, points, reach in (("right eye", range(36, 42), 3.0), ("upper lip", range(49, 54), 2.5)):
        middle = shape[names == part].mean(axis=0)
        for p in points:
            landmark = shape[built_in.landmark_vertices[p]]
            inward = (middle - landmark)[:2] / np.linalg.norm((middle - landmark)[:2])
            for sign, expected in ((1, True), (-1, False)):
                place = landmark[:2] + sign * reach * inward
                near = np.flatnonzero(seen & (np.linalg.norm(shape[:, :2] - place, axis=1) < 1.5))
                if len(near):
                    assert (names[near] == part).mean() > 0.5 if expected else (names[near] == part).mean() < 0.5


def test_the_eyes_holes_are_closed_by_eye(built_in, fine):
    closing = built_in.closing_triangles
    over_eyes = (built_in.regions[closing] == REGION_NAMES.index("eyes")).all(axis=1)
    assert over_eyes.sum() > 100
    assert (fine[closing[over_eyes]] <= 2).all()


def test_a_part_map_holds_the_strongest_vertex_s_part_and_goes_on_beside_the_surface(sheet):
    atlas = UVAtlas(0.2 + 0.6 * sheet.uv, sheet.triangles)
    raster = AtlasRaster(atlas, 64)
    parts = (1 + np.arange(sheet.n_vertices) % 5).astype(np.uint8)
    flat = part_map(parts, atlas, 64, raster=raster)
    assert flat.dtype == np.uint8
    assert flat.min() >= 1  # no texel without a part
    for row, column in np.argwhere(raster.covered)[::37]:
        corner = raster.corners[row, column, raster.weights[row, column].argmax()]
        assert flat[row, column] == parts[corner]
    covered = np.argwhere(raster.covered)
    for row, column in np.argwhere(~raster.covered)[::211]:
        squared = ((covered - (row, column)) ** 2).sum(axis=1)
        nearest = covered[squared == squared.min()]
        assert flat[row, column] in flat[nearest[:, 0], nearest[:, 1]]


def test_a_part_map_of_nothing_is_refused(sheet):
    with pytest.raises(ValueError, match="covers none of its 16 × 16 texels"):
        part_map(np.ones(sheet.n_vertices, np.uint8), UVAtlas(0.5 + 1e-4 * sheet.uv, sheet.triangles), 16)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_painted_mask_lies_in_every_picture_where_it_was_painted(sheet, channels):
    """A patch painted in UV: pixels see it exactly where their coordinates fall in it."""
    atlas = UVAtlas(sheet.uv, sheet.triangles)
    mask = np.zeros((100, 100, *channels), dtype=np.uint8)
    mask[10:30, 40:90] = 200  # high up (v near 1), right of the middle
    pixels = sheet.mean_shape * (0.8, -0.8, 0.8) + (70, 100, 0)
    template = FieldTemplate.of_surface(sheet.triangles, atlas, np.ones((2, 2), np.uint8))
    field = draw_field(template, [pixels.astype(np.float32)], size_hw=(180, 150))
    carried = carry_mask(mask, field.uv, field.is_face)
    assert carried.shape == (180, 150, *channels)
    assert carried.dtype == np.uint8
    u, v = np.moveaxis(field.uv, -1, 0)
    inside = field.is_face & (u > 39.5 / 99) & (u < 89.5 / 99) & (1 - v > 9.5 / 99) & (1 - v < 29.5 / 99)
    assert 300 < inside.sum() < 4000
    assert (carried[inside] == 200).all()
    assert not carried[~inside & ((np.abs(u * 99 % 1 - 0.5) > 1e-3) | ~field.is_face)].any()


def test_a_mask_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match="this one has 4 rows of 5 texels"):
        carry_mask(np.zeros((4, 5), np.uint8), np.zeros((2, 2, 2)), np.ones((2, 2), bool))


def test_a_field_s_part_is_the_map_s_nearest_texel(built_in, own_atlas, fine):
    flat = part_map(fine, own_atlas, 256)
    rng = np.random.default_rng(0)
    head = built_in.mean_shape * np.float32(0.7) * (1, -1, 1) + (70, 80, 0)
    field = draw_field(FieldTemplate.of(built_in, own_atlas, flat), [head.astype(np.float32)], size_hw=(160, 140))
    rows, columns = np.nonzero(field.is_face)
    some = rng.choice(len(rows), 500, replace=False)
    x, y = nearest_texels(field.uv[rows[some], columns[some]], 256).T
    assert (field.part[rows[some], columns[some]] == flat[y, x]).mean() > 0.995  # ties of float32

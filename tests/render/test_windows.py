"""What is seen through a window on a photograph: values that were there, or none."""

import numpy as np
import pytest

from geometry.frames import Similarity2D
from geometry.uv import UVAtlas
from render.correspondence import FieldTemplate, draw_field
from render.paper_crops import densereg_crop, densereg_photograph
from render.quantization import IGNORE
from render.windows import Window, cut_field, cut_picture


@pytest.fixture(scope="module")
def drawn_sheet(sheet):
    """The bent sheet's field in a picture of 200 × 170, its vertices, and its template."""
    template = FieldTemplate.of_surface(
        sheet.triangles,
        UVAtlas(sheet.uv, sheet.triangles),
        (1 + np.arange(64 * 64) % 7).reshape(64, 64).astype(np.uint8),
    )
    vertices = (sheet.mean_shape * (0.8, -0.8, 0.8) + (75, 105, 0)).astype(np.float32)
    return draw_field(template, [vertices], size_hw=(200, 170)), vertices, template


def test_a_field_cut_out_holds_only_values_that_were_there_and_ignores_what_lies_outside(drawn_sheet):
    field, _, _ = drawn_sheet
    window = Window(Similarity2D.of(scale=1.25, translation_px=(30.0, -40.0)), (300, 250))
    cut = cut_field(field, window)
    x, y = np.meshgrid(np.arange(250), np.arange(300))
    places = window.crop_from_image.inverse.apply(np.stack([x, y], axis=-1).astype(np.float64))
    outside = (places < -0.5).any(axis=-1) | (places[..., 0] > 169.5) | (places[..., 1] > 199.5)
    assert 100 < outside.sum() < outside.size - 100
    assert (cut.label[outside] == IGNORE).all()
    assert not cut.uv[outside].any()
    assert (cut.face_index[outside] == -1).all()
    column, row = np.floor(places[~outside] + 0.5).astype(int).T
    for name in ("uv", "depth", "part", "label", "face_index"):
        np.testing.assert_array_equal(getattr(cut, name)[~outside], getattr(field, name)[row, column])
    np.testing.assert_allclose(cut.depth_range_px, 1.25 * field.depth_range_px)


def test_a_field_cut_out_is_the_field_drawn_there_to_within_half_a_pixel(drawn_sheet):
    field, vertices, template = drawn_sheet
    window = densereg_crop((200, 170), rng=np.random.default_rng(5), crop_px=160)
    cut = cut_field(field, window)
    moved = window.crop_from_image.apply(vertices.astype(np.float64))
    again = draw_field(template, [moved], size_hw=(160, 160))
    both = cut.is_face & again.is_face
    assert both.sum() > 0.9 * again.is_face.sum() * (cut.label != IGNORE).mean()
    slope = np.abs(np.diff(field.uv, axis=1))[field.is_face[:, 1:] & field.is_face[:, :-1]]
    assert np.percentile(np.abs(cut.uv - again.uv)[both], 99) < 2 * np.percentile(slope, 99)


def test_the_whole_picture_is_what_it_was(drawn_sheet):
    field, _, _ = drawn_sheet
    same = cut_field(field, Window(Similarity2D.of(), (200, 170)))
    for name in ("uv", "depth", "part", "label", "face_index", "depth_range_px"):
        np.testing.assert_array_equal(getattr(same, name), getattr(field, name))
    image = np.random.default_rng(0).integers(0, 256, (200, 170, 3), dtype=np.uint8)
    np.testing.assert_array_equal(cut_picture(image, Window(Similarity2D.of(), (200, 170))), image)


def test_shrinking_a_picture_does_not_turn_fine_stripes_into_others():
    stripes = np.zeros((400, 400, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    window = densereg_photograph((400, 400), longest_px=150)
    small = cut_picture(stripes, window)[5:-5, 5:-5].astype(float)
    assert small.std() < 30
    assert small.mean() == pytest.approx(127.5, abs=3)

import numpy as np
import pytest

from geometry.mesh import Mesh
from geometry.uv import UVAtlas
from render.checkerboard import atlas_picture, checker_colors, checkerboard_sheet, checkerboard_view


@pytest.fixture
def square():
    """A flat square of 100 mm facing the viewer, and its atlas: itself."""
    uv = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    return Mesh(np.column_stack([100 * uv, np.zeros(4)]), triangles), UVAtlas(uv, triangles)


def is_grey(color):
    return np.ptp(color.astype(int)) < 8


def test_squares_alternate_and_the_lower_left_one_is_dark():
    middles = (np.arange(4) + 0.5) / 4
    colors = checker_colors(np.stack(np.meshgrid(middles, middles), axis=-1), squares=4)
    dark = colors.mean(axis=-1) < 190
    np.testing.assert_array_equal(dark, np.indices((4, 4)).sum(axis=0) % 2 == 0)


def test_the_view_shows_the_board_upright_on_a_white_ground(square):
    mesh, atlas = square
    picture = checkerboard_view(mesh, atlas, side=120, squares=2)
    assert picture.shape == (120, 120, 3)
    assert (picture[0] == 255).all()
    lower_left, lower_right, upper_left, upper_right = (
        picture[85, 35],
        picture[85, 85],
        picture[35, 35],
        picture[35, 85],
    )
    assert lower_left.mean() < lower_right.mean()
    assert upper_right.mean() < upper_left.mean()
    assert lower_left[2] > lower_left[0]  # blue on the left
    assert upper_right[0] > upper_right[2]  # red on the right


def test_triangles_that_are_not_in_the_atlas_are_grey(square):
    mesh, atlas = square
    picture = checkerboard_view(mesh, UVAtlas(atlas.uv, atlas.triangles[:1]), side=120, squares=2)
    assert is_grey(picture[40, 30])  # above the diagonal
    assert not is_grey(picture[90, 40])


def test_the_back_is_darker_than_the_front(square):
    mesh, atlas = square
    front, back = (checkerboard_view(mesh, atlas, yaw=yaw, side=90, squares=2) for yaw in (0.0, np.pi))
    assert back[45].mean() < front[45].mean() - 30


def test_folds_and_overlaps_stand_out_in_the_flat_picture(square):
    _, atlas = square
    assert atlas_picture(atlas, side=60, squares=3).shape == (60, 60, 3)
    twice = UVAtlas(atlas.uv, np.concatenate([atlas.triangles, atlas.triangles[:1]]))
    orange = atlas_picture(twice, side=60, squares=3)[50, 40]
    assert orange[0] > 150 > orange[2]
    turned = UVAtlas(atlas.uv, np.concatenate([atlas.triangles[1:], atlas.triangles[:1, ::-1]]))
    red, pale = atlas_picture(turned, side=60, squares=3)[[50, 20], [50, 5]].astype(int)
    assert red[0] > 2 * red[1]
    assert not pale[0] > 2 * pale[1]


def test_what_no_triangle_covers_is_white(square):
    _, atlas = square
    half = UVAtlas(atlas.uv, atlas.triangles[:1])
    assert (atlas_picture(half, side=60)[5, 5] == 255).all()


def test_the_sheet_has_three_views_and_the_atlas(square):
    assert checkerboard_sheet(*square, side=64).shape == (64, 256, 3)

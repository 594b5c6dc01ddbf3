import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.uv import UVAtlas

SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
TWO = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)


def test_areas_are_positive_where_counter_clockwise_with_v_up():
    np.testing.assert_array_equal(UVAtlas(SQUARE, TWO).signed_areas, [0.5, 0.5])
    np.testing.assert_array_equal(UVAtlas(SQUARE, TWO[:, ::-1].copy()).signed_areas, [-0.5, -0.5])


@given(seed=st.integers(0, 2**32 - 1))
def test_turning_a_triangles_list_of_corners_keeps_its_area_and_swapping_two_negates_it(seed):
    rng = np.random.default_rng(seed)
    uv = rng.random((9, 2))
    triangles = np.stack([rng.permutation(9)[:3] for _ in range(6)]).astype(np.int32)
    areas = UVAtlas(uv, triangles).signed_areas
    np.testing.assert_allclose(UVAtlas(uv, np.roll(triangles, 1, axis=1)).signed_areas, areas, atol=1e-15)
    np.testing.assert_allclose(UVAtlas(uv, triangles[:, [1, 0, 2]]).signed_areas, -areas, atol=1e-15)


def test_turned_and_collapsed_triangles_are_folded():
    uv = np.array([[0.1, 0.2], [0.9, 0.3], [0.4, 0.8], [0.5, 0.25], [0.1, 0.2]])
    triangles = np.array([[0, 1, 2], [2, 1, 0], [0, 3, 1], [0, 1, 4], [1, 1, 1]], dtype=np.int32)
    np.testing.assert_array_equal(UVAtlas(uv, triangles).folded, [False, True, True, True, True])


def test_a_tiny_triangle_is_not_folded_and_one_within_rounding_is():
    corner = np.array([0.7, 0.3])
    tiny = corner + 1e-9 * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    line = corner + np.array([[0.0, 0.0], [0.1, 0.3], [0.05, 0.15 + 3e-17]])
    assert not UVAtlas(tiny, np.array([[0, 1, 2]], dtype=np.int32)).folded[0]
    assert UVAtlas(line, np.array([[0, 1, 2]], dtype=np.int32)).folded[0]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ([1.25, 0.5], r"lie in \[0, 1\], these in \[0, 1.25\]"),
        ([-0.5, 0.5], r"these in \[-0.5, 1\]"),
        ([np.nan, 0.5], "with NaN"),
    ],
)
def test_coordinates_outside_the_square_are_refused(row, sentence):
    with pytest.raises(ValueError, match=sentence):
        UVAtlas(np.concatenate([SQUARE, [row]]), TWO)


def test_triangles_of_another_mesh_are_refused():
    with pytest.raises(ValueError, match="refer to vertex 4 but the mesh has 4 vertices"):
        UVAtlas(SQUARE, TWO + 1)


def test_an_atlas_holds_the_triangles_that_are_in_it_corner_by_corner():
    atlas = UVAtlas(np.eye(4, 2), np.array([[0, 1, 2], [1, 3, 2]], dtype=np.int32))
    asked = np.array([[1, 3, 2], [3, 2, 1], [0, 1, 3], [0, 1, 2]], dtype=np.int32)
    assert atlas.holds(asked).tolist() == [True, False, False, True]

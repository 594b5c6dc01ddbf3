import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geometry.frames import Similarity2D, nearest_similarity, texel_from_uv, uv_from_texel

POINTS_2D = arrays(np.float64, (5, 2), elements=st.floats(-500, 500))
POINTS_3D = arrays(np.float64, (5, 3), elements=st.floats(-500, 500))


@st.composite
def similarities(draw):
    """Any of them, mirrored or not."""
    turned = Similarity2D.of(
        scale=draw(st.floats(0.05, 20)),
        angle=draw(st.floats(-7, 7)),
        translation_px=(draw(st.floats(-600, 600)), draw(st.floats(-600, 600))),
    )
    return turned @ Similarity2D.mirror(draw(st.integers(1, 450))) if draw(st.booleans()) else turned


@given(s=similarities())
def test_the_inverse_undoes_a_similarity_from_both_sides(s):
    np.testing.assert_allclose((s.inverse @ s).matrix, np.eye(3), atol=1e-8)
    np.testing.assert_allclose((s @ s.inverse).matrix, np.eye(3), atol=1e-8)
    assert s.inverse.scale == pytest.approx(1 / s.scale)


@given(a=similarities(), b=similarities(), points=POINTS_3D)
def test_a_product_does_the_right_factor_first(a, b, points):
    np.testing.assert_allclose((a @ b).apply(points), a.apply(b.apply(points)), rtol=1e-9, atol=1e-5)


@given(a=similarities(), b=similarities(), c=similarities())
def test_products_are_associative(a, b, c):
    np.testing.assert_allclose(((a @ b) @ c).matrix, (a @ (b @ c)).matrix, rtol=1e-9, atol=1e-6)


@given(a=similarities(), b=similarities())
def test_scales_multiply_and_mirrors_cancel(a, b):
    assert (a @ b).scale == pytest.approx(a.scale * b.scale)
    assert (a @ b).is_mirrored == (a.is_mirrored != b.is_mirrored)


@given(s=similarities(), points=POINTS_2D)
def test_all_distances_grow_by_the_scale(s, points):
    moved = s.apply(points)
    before = np.linalg.norm(points[:, None] - points, axis=-1)
    after = np.linalg.norm(moved[:, None] - moved, axis=-1)
    np.testing.assert_allclose(after, s.scale * before, rtol=1e-9, atol=1e-9)


@given(scale=st.floats(0.05, 20), angle=st.floats(-7, 7), points=POINTS_3D)
def test_depth_is_multiplied_by_the_scale_and_not_by_s_cos_theta(scale, angle, points):
    similarity = Similarity2D.of(scale=scale, angle=angle, translation_px=(3.0, -4.0))
    np.testing.assert_allclose(similarity.apply(points)[:, 2], scale * points[:, 2], rtol=1e-12)


def test_depth_keeps_its_sign_in_a_quarter_turn_and_in_the_mirror():
    """There the matrix's first entry is 0 and −1."""
    point = np.array([[10.0, 20.0, 30.0]])
    quarter = Similarity2D.of(scale=2.0, angle=np.pi / 2)
    np.testing.assert_allclose(quarter.apply(point), [[-40.0, 20.0, 60.0]], atol=1e-12)
    np.testing.assert_allclose(Similarity2D.mirror(100).apply(point), [[89.0, 20.0, 30.0]])


@given(s=similarities(), points=POINTS_3D)
def test_the_affine_map_and_points_in_the_plane_agree(s, points):
    moved = s.apply(points)
    affine = s.affine3d
    np.testing.assert_allclose(points @ affine[:, :3].T + affine[:, 3], moved)
    np.testing.assert_allclose(s.apply(points[:, :2]), moved[:, :2])
    np.testing.assert_allclose((np.column_stack([points[:, :2], np.ones(5)]) @ s.matrix.T)[:, :2], moved[:, :2])


@given(width=st.integers(1, 2000), points=POINTS_3D)
def test_two_mirrors_are_none(width, points):
    mirror = Similarity2D.mirror(width)
    np.testing.assert_array_equal((mirror @ mirror).matrix, np.eye(3))
    np.testing.assert_allclose(mirror.apply(mirror.apply(points)), points, atol=1e-12)
    assert mirror.is_mirrored
    assert mirror.scale == 1


def test_the_mirror_swaps_the_first_and_the_last_column():
    picture = np.arange(12).reshape(3, 4)
    columns = Similarity2D.mirror(4).apply(np.stack([np.arange(4.0), np.zeros(4)], axis=1))[:, 0].astype(int)
    np.testing.assert_array_equal(picture[:, columns], picture[:, ::-1])


def test_a_turn_goes_from_x_toward_y():
    turned = Similarity2D.of(angle=0.1, translation_px=(5.0, 7.0)).apply(np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(turned, [[5 + np.cos(0.1), 7 + np.sin(0.1)]])


def test_points_of_any_leading_shape_are_moved():
    points = np.random.default_rng(0).normal(size=(2, 3, 4, 3))
    similarity = Similarity2D.of(scale=1.5, angle=1.0)
    assert similarity.apply(points).shape == (2, 3, 4, 3)
    np.testing.assert_allclose(similarity.apply(points)[1, 2, 3], similarity.apply(points[1, 2, 3][None])[0])


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        ([[1.0, 0.2, 0], [0, 1, 0], [0, 0, 1]], "shear or unequal scales"),
        ([[1.0, 0, 0], [0, 1.01, 0], [0, 0, 1]], "shear or unequal scales"),
        ([[0.0, 0, 5], [0, 0, 5], [0, 0, 1]], "shear or unequal scales"),
        ([[1.0, 0, 0], [0, 1, 0], [1e-3, 0, 1]], "last row"),
        ([[1.0, 0, np.nan], [0, 1, 0], [0, 0, 1]], "finite"),
        ([[1.0, 0, np.inf], [0, 1, 0], [0, 0, 1]], "finite"),
    ],
)
def test_what_is_no_similarity_is_refused(matrix, sentence):
    with pytest.raises(ValueError, match=sentence):
        Similarity2D(np.array(matrix))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_very_small_and_very_large_similarities_are_fine(scale):
    assert Similarity2D.of(scale=scale, angle=0.7).inverse.scale == pytest.approx(1 / scale)


@given(uv=arrays(np.float64, (6, 2), elements=st.floats(0, 1)), size=st.integers(2, 1024))
def test_texels_and_uv_are_each_others_inverse(uv, size):
    texel = texel_from_uv(uv, size)
    np.testing.assert_allclose(uv_from_texel(texel, size), uv, atol=1e-14)
    assert texel.min() >= 0
    assert texel.max() <= size - 1


def test_the_corners_of_the_atlas_are_the_centres_of_its_corner_texels():
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.25, 0.75]])
    expected = [[0, 255], [255, 255], [0, 0], [255, 0], [63.75, 63.75]]
    np.testing.assert_allclose(texel_from_uv(uv, 256), expected)


def test_a_point_of_weight_two_counts_as_two_points_and_one_of_weight_zero_as_none():
    rng = np.random.default_rng(5)
    source, target = rng.normal(size=(2, 7, 2))
    weights = np.array([2.0, 1, 1, 0, 1, 1, 1])
    repeated = [0, 0, 1, 2, 4, 5, 6]
    for found, expected in zip(
        nearest_similarity(source, target, weights), nearest_similarity(source[repeated], target[repeated]), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-12)

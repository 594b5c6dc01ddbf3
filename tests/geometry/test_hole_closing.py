import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.hole_closing import close_inner_loops, triangulate_polygon
from geometry.mesh import boundary_loops
from geometry.plane_areas import doubled_area
from geometry.uv import UVAtlas


def star(radii: np.ndarray, turn: float = 0.0) -> np.ndarray:
    """A star-shaped polygon, counter-clockwise, often far from convex."""
    angle = turn + 2 * np.pi * np.arange(len(radii)) / len(radii)
    return radii[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ring(inner: np.ndarray, outer: np.ndarray, first: int = 0) -> np.ndarray:
    """Triangles between two loops of equal length, counter-clockwise; vertices inner then outer, from `first` on."""
    n = len(inner)
    i = np.arange(n)
    j = (i + 1) % n
    return first + np.concatenate([np.stack([i, n + i, n + j], 1), np.stack([i, n + j, j], 1)]).astype(np.int32)


def annulus(radii: np.ndarray, turn: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """A lopsided hole in a disk, in [0, 1]²."""
    inner = star(radii, turn)
    outer = star(np.full(len(radii), 2.0), turn)
    return 0.5 + 0.2 * np.concatenate([inner, outer]), ring(inner, outer)


radii_of_stars = st.lists(st.floats(0.2, 1.0), min_size=3, max_size=40).map(np.array)


@given(radii_of_stars, st.floats(0, 6))
def test_a_filled_polygon_keeps_its_area_and_has_no_fold(radii: np.ndarray, turn: float) -> None:
    polygon = star(radii, turn)
    if doubled_area(polygon) <= 0:
        return
    corners = triangulate_polygon(polygon)
    if (
        len(radii) > 6
    ):  # with fewer points the rays may lie more than 90 degrees apart, and the star be no simple polygon
        assert corners is not None
    if corners is not None:
        assert corners.shape == (len(radii) - 2, 3)
        areas = UVAtlas(0.5 + polygon / 4, corners.astype(np.int32)).signed_areas
        assert (areas > 0).all()
        np.testing.assert_allclose(areas.sum(), doubled_area(polygon) / 32, rtol=1e-9)


@given(radii_of_stars.filter(lambda radii: len(radii) > 6))
def test_closing_leaves_one_boundary_loop_and_every_triangle_unfolded(radii: np.ndarray) -> None:
    uv, triangles = annulus(radii)
    closed = np.concatenate([triangles, close_inner_loops(uv, triangles)])
    assert (UVAtlas(uv, closed).signed_areas > 0).all()
    assert [len(loop) for loop in boundary_loops(closed)] == [len(radii)]


@given(radii_of_stars.filter(lambda radii: len(radii) > 6))
def test_an_atlas_seen_from_behind_is_closed_with_its_own_winding(radii: np.ndarray) -> None:
    uv, triangles = annulus(radii)
    mirrored = uv * [-1, 1]  # nothing is rounded, so of equally good closings the same one is taken
    closing = close_inner_loops(mirrored, triangles)
    np.testing.assert_array_equal(closing, close_inner_loops(uv, triangles))
    assert (UVAtlas(mirrored + [1, 0], np.concatenate([triangles, closing])).signed_areas < 0).all()


def test_the_outer_loop_is_the_one_of_largest_area_however_few_vertices_it_has() -> None:
    # a square with a round hole of 30 vertices: the hole's loop is the longer one
    angle = 2 * np.pi * np.arange(30) / 30
    hole = 0.5 + 0.1 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    square = np.array([[0.9, 0.5], [0.5, 0.95], [0.1, 0.5], [0.5, 0.1]])
    uv = np.concatenate([hole, square])
    # each hole edge to the square's corner of its quadrant, and a triangle where the quadrant changes
    quadrant = np.minimum(np.arange(30) * 4 // 30, 3)
    triangles = [(i, 30 + quadrant[i], (i + 1) % 30) for i in range(30)]
    changes = [i for i in range(30) if quadrant[i] != quadrant[(i + 1) % 30]]
    triangles += [((i + 1) % 30, 30 + quadrant[i], 30 + quadrant[(i + 1) % 30]) for i in changes]
    triangles = np.array(triangles, dtype=np.int32)
    assert len(boundary_loops(triangles)[0]) == 30
    closing = close_inner_loops(uv, triangles)
    assert closing.shape == (28, 3)
    assert closing.max() < 30


def test_two_holes_are_both_closed() -> None:
    # a grid of 5 x 8 squares without two of its squares, one of them twice as wide
    column, row = np.meshgrid(np.arange(9), np.arange(6))
    uv = np.stack([column.ravel() / 8, row.ravel() / 5], axis=1)
    squares = np.array([[9 * r + c, 9 * r + c + 1, 9 * r + c + 10, 9 * r + c + 9] for r in range(5) for c in range(8)])
    squares = np.delete(squares, [8 + 1, 3 * 8 + 4, 3 * 8 + 5], axis=0)
    triangles = np.concatenate([squares[:, [0, 1, 2]], squares[:, [0, 2, 3]]]).astype(np.int32)
    assert sorted(len(loop) for loop in boundary_loops(triangles)) == [4, 6, 26]
    closed = np.concatenate([triangles, close_inner_loops(uv, triangles)])
    assert [len(loop) for loop in boundary_loops(closed)] == [26]
    areas = UVAtlas(uv, closed).signed_areas
    assert (areas > 0).all()
    np.testing.assert_allclose(areas.sum(), 1.0)


def test_a_disk_needs_no_closing() -> None:
    assert close_inner_loops(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([[0, 1, 2]])).shape == (0, 3)


def test_a_hole_that_crosses_itself_is_refused_by_name() -> None:
    uv, triangles = annulus(np.array([0.5, 0.9, 0.4, 0.8, 0.6, 1.0, 0.7, 0.9]))
    uv[[0, 3]] = uv[[3, 0]]
    uv[[1, 6]] = uv[[6, 1]]
    with pytest.raises(ValueError, match=r"boundary loop of 8 vertices from vertex 0 cannot be closed without a fold"):
        close_inner_loops(uv, triangles)

"""Pictures of fits: marks lie on the pixels that they mean."""

import numpy as np

from render.fit_view import draw_residuals, fit_panels, shade_mesh, sheet

GRAY = np.full((80, 100, 3), 120, dtype=np.uint8)


def triangle_toward_the_viewer() -> tuple[np.ndarray, np.ndarray]:
    """Counter-clockwise with y up, so clockwise on the screen's y down turned round: negative area."""
    return np.array([[20.0, 60.0, 0.0], [80.0, 60.0, 5.0], [30.0, 15.0, 2.0]]), np.array([[0, 1, 2]], dtype=np.int32)


def test_given_points_are_red_fitted_ones_green_and_unknown_ones_left_out():
    given = np.array([[30.0, 20.0], [70.0, 50.0], [np.nan, np.nan]])
    fitted = np.array([[40.0, 20.0], [70.0, 60.0], [10.0, 10.0]])
    drawn = draw_residuals(GRAY, given, fitted, enlarge=3)
    assert drawn.shape == (240, 300, 3)
    for points, strongest in ((given[:2], 0), (fitted[:2], 1)):
        for x, y in points:
            pixel = drawn[round(3 * (y + 0.5) - 0.5), round(3 * (x + 0.5) - 0.5)].astype(int)
            assert pixel.argmax() == strongest
            assert np.delete(pixel, strongest).max() < pixel.max() - 60
    assert (drawn[5:60, 5:60] == 120).all()  # the third pair is not drawn
    between = drawn[round(3 * 20.5 - 0.5), round(3 * 35.5 - 0.5)].astype(int)
    assert between[2] < between[:2].min() - 60  # yellow


def test_a_perfect_fit_shows_what_was_given():
    points = np.array([[30.0, 20.0]])
    assert draw_residuals(GRAY, points, points)[41, 61].argmax() == 0


def test_the_mesh_covers_its_own_pixels_and_nothing_else():
    vertices, triangles = triangle_toward_the_viewer()
    drawn = shade_mesh(GRAY, vertices, triangles)
    assert (drawn[45, 42] != 120).all()
    assert (drawn[5, 5] == 120).all()
    assert (drawn[59, 75] != drawn[59, 95]).any()
    np.testing.assert_array_equal(shade_mesh(GRAY, vertices, triangles[:, ::-1].copy()), GRAY)  # turned away


def test_panels_have_one_size_and_a_sheet_has_a_title_for_each():
    vertices, triangles = triangle_toward_the_viewer()
    square = GRAY[:80, :80]
    panels = fit_panels(square, vertices, triangles, given_px=vertices[:, :2], fitted_px=vertices[:, :2], side=160)
    assert [panel.shape for panel in panels] == [(160, 160, 3)] * 3
    drawn = sheet(panels, ["a", "b", "c"], title="all", across=2)
    assert drawn.shape == (18 + 2 * (18 + 160), 2 * 160, 3)
    assert (drawn[-10, -10] == 255).all()  # the empty place

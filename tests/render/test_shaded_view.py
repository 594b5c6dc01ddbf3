"""The shaded view stands upright, turns the right way, and says what to install where it cannot be drawn."""

import re
import sys

import numpy as np
import pytest

from geometry.extras import how_to_get
from geometry.rotation import rotation_from_euler, yaw_from_rotation
from render.shaded_view import NoRenderer, shaded_view

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (40, 40, 230)


def board_with_nose() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grey board with a red knob above, a green one at the viewer's right, and a blue one standing out in front."""
    cube = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    box = np.array([corners for a, b, c, d in sides for corners in ((a, b, c), (a, c, d))])
    parts = (
        (np.array([40, 60, 3]), (0, 0, 0), (190, 190, 190)),
        (np.array([10, 10, 3]), (0, 70, 0), RED),
        (np.array([10, 10, 3]), (50, 0, 0), GREEN),
        (np.array([6, 6, 25]), (0, -20, 30), BLUE),
    )
    vertices = np.concatenate([cube * half + centre for half, centre, _ in parts])
    colors = np.concatenate([np.tile(np.array(color, np.uint8), (8, 1)) for *_, color in parts])
    return vertices, np.concatenate([box + 8 * k for k in range(len(parts))]), colors


def centre_of(view: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """(x, y) of the pixels in which the colour's strongest channel stands out."""
    strongest = int(np.argmax(color))
    others = np.delete(view.astype(int), strongest, axis=-1).max(axis=-1)
    rows, columns = np.nonzero(view[..., strongest] > others + 60)
    assert len(rows) > 20
    return np.array([columns.mean(), rows.mean()])


def nose_from_top(view: np.ndarray) -> np.ndarray:
    """From the red knob to the blue one, which stands out: the middle of the picture is the middle of the box."""
    return centre_of(view, BLUE) - centre_of(view, RED)


def test_the_view_is_upright_and_not_mirrored():
    vertices, triangles, colors = board_with_nose()
    view = shaded_view(vertices, triangles, side=200, colors=colors)
    assert view.shape == (200, 200, 3)
    assert view.dtype == np.uint8
    red, green, blue = (centre_of(view, color) for color in (RED, GREEN, BLUE))
    # The box spans x −40…60 and y −60…80 about (10, 10), and 70 mm go from the middle to the edge, less a margin.
    px = 100 / (70 * 1.05)
    for found, (x, y) in ((red, (0, 70)), (green, (50, 0)), (blue, (0, -20))):
        np.testing.assert_allclose(found, (99.5 + (x - 10) * px, 99.5 - (y - 10) * px), atol=1.5)
    assert (view[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()


@pytest.mark.parametrize("yaw", [0.6, -0.6])
def test_positive_yaw_turns_the_face_to_the_viewers_left_as_in_300w_lp(yaw):
    vertices, triangles, colors = board_with_nose()
    straight, turned = (shaded_view(vertices, triangles, yaw=y, side=200, colors=colors) for y in (0.0, yaw))
    moved = nose_from_top(turned)[0] - nose_from_top(straight)[0]
    assert np.sign(moved) == -np.sign(yaw_from_rotation(rotation_from_euler(0.0, yaw, 0.0)))
    assert abs(moved) > 10


def test_positive_pitch_lifts_the_face():
    vertices, triangles, colors = board_with_nose()
    straight, lifted = (shaded_view(vertices, triangles, pitch=p, side=200, colors=colors) for p in (0.0, 0.5))
    assert nose_from_top(lifted)[1] < nose_from_top(straight)[1] - 10


@pytest.mark.parametrize("color", [(0, 0, 0), (30, 30, 30), (90, 60, 40), (178, 133, 118), (255, 255, 255)])
def test_what_looks_at_the_viewer_keeps_its_colour(color):
    vertices = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    view = shaded_view(vertices, triangles, side=64, colors=np.array([color] * 4, dtype=np.uint8))
    np.testing.assert_allclose(view[8:-8, 8:-8], np.broadcast_to(color, (48, 48, 3)), atol=3)


def test_a_head_without_colours_is_grey_on_white_and_fills_the_picture(built_in):
    view = shaded_view(built_in.mean_shape, built_in.triangles, side=128)
    assert np.ptp(view.astype(int), axis=-1).max() <= 2
    drawn = (view < 250).any(axis=-1)
    assert 0.25 < drawn.mean() < 0.6
    rows = np.flatnonzero(drawn.any(axis=1))
    assert np.ptp(rows) > 0.9 * 128
    assert view[drawn].std() > 8  # shaded, not flat


def test_a_machine_without_pyrender_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrender", None)
    with pytest.raises(NoRenderer, match=rf"pyrender.*{re.escape(how_to_get('render'))}.*libegl1") as raised:
        shaded_view(*board_with_nose()[:2])
    assert "\n" not in str(raised.value)


def test_a_machine_without_egl_is_told_what_to_install(monkeypatch):
    import pyrender

    def no_device(width: int, height: int) -> None:
        raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")

    monkeypatch.setattr(pyrender, "OffscreenRenderer", no_device)
    with pytest.raises(NoRenderer, match="AttributeError: .*eglQueryString.*apt-get install libegl1"):
        shaded_view(*board_with_nose()[:2])

"""The template ear: what the landmarks promise, and that the surface is laid flat."""

import numpy as np
import pytest
from skimage.measure import points_in_poly

from geometry.built_in import load_built_in
from geometry.ear import EAR_CURVES, EAR_OUTLINE, EAR_PIECES, N_EAR_LANDMARKS, EarTemplate, load_ear_template
from geometry.mesh import boundary_loops, component_count
from geometry.morphable_model import Coefficients


def positions(template: EarTemplate, vertices: np.ndarray) -> np.ndarray:
    return np.einsum("pk,pkc->pc", template.landmarks.weights, vertices[template.landmarks.corners].astype(np.float64))


@pytest.fixture(scope="module")
def right() -> EarTemplate:
    return load_ear_template("right")


@pytest.fixture(scope="module")
def seen(right: EarTemplate) -> np.ndarray:
    """The mean right ear's landmarks from the person's right: (to the nose, up)."""
    xyz = positions(right, load_built_in().mean_shape)
    return xyz[:, [2, 1]]


@pytest.mark.parametrize("pieces", [EAR_CURVES, EAR_PIECES])
def test_curves_and_pieces_name_every_landmark_once(pieces):
    assert [i for piece in pieces.values() for i in range(piece.start, piece.stop)] == list(range(N_EAR_LANDMARKS))


def test_every_piece_lies_on_one_curve():
    for piece in EAR_PIECES.values():
        assert any(curve.start <= piece.start and piece.stop <= curve.stop for curve in EAR_CURVES.values())


def test_the_template_is_one_disk_without_folds(right):
    triangles = right.atlas.triangles
    assert len(boundary_loops(triangles)) == 1
    assert component_count(triangles, len(right.vertices)) == 1
    edges = len(np.unique(np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0))
    assert len(right.vertices) - edges + len(triangles) == 1  # Euler: no handle
    assert not right.atlas.folded.any()
    assert np.ptp(right.atlas.uv, axis=0).max() == 1.0


def test_every_landmark_lies_on_the_template_and_on_the_right_ear(right):
    assert np.isin(right.landmarks.corners, right.vertices).all()
    assert (load_built_in().mean_shape[right.vertices, 0] < -60).all()
    np.testing.assert_allclose(right.landmarks.weights.sum(axis=1), 1, atol=1e-9)
    assert right.landmarks.weights.min() >= -1e-9


def test_the_landmarks_in_the_atlas_are_those_on_the_surface(right):
    place = {int(vertex): i for i, vertex in enumerate(right.vertices)}
    for point in range(N_EAR_LANDMARKS):
        corners = [place[int(v)] for v in right.landmarks.corners[point]]
        np.testing.assert_allclose(right.landmarks.weights[point] @ right.atlas.uv[corners], right.landmarks_uv[point])


@pytest.mark.parametrize("view", ["seen", "landmarks_uv"])
def test_the_landmarks_run_as_the_data_set_describes_them(right, seen, view):
    # up and to the nose, in the side view of the mean ear and in the atlas alike
    to_nose, up = (seen if view == "seen" else right.landmarks_uv).T
    piece = EAR_PIECES
    assert (np.diff(up[piece["ascending helix"]]) > 0).all()
    assert up.argmax() in range(3, 8)  # where the ascending helix turns to the descending one
    assert (np.diff(up[piece["helix"]]) < 0).all()
    assert up.argmin() in range(15, 19)  # the lobe
    assert (np.diff(up[piece["ascending inner helix"]]) > 0).all()
    assert (np.diff(up[piece["inner helix"]]) < 0).all()
    assert (np.diff(up[piece["tragus"]]) < 0).all()
    assert (np.diff(to_nose[piece["antitragus"]]) < 0).all()
    assert (np.diff(up[piece["concha"]]) > 0).all()
    assert (np.diff(to_nose[piece["inferior crus"]]) > 0).all()
    assert (np.diff(up[piece["superior crus"]]) > 0).all()
    from_behind = [to_nose[piece[name]].min() for name in ("helix", "inner helix", "superior crus", "concha", "tragus")]
    assert (np.diff(from_behind) > 0).all()
    # the helix's root above the tragus, the first inner point between them
    assert up[0] > up[20] > up[35]


def test_all_inner_landmarks_lie_inside_the_outline(right, seen):
    for places in (seen, right.landmarks_uv):
        inner = np.setdiff1d(np.arange(N_EAR_LANDMARKS), EAR_OUTLINE)
        assert points_in_poly(places[inner], places[list(EAR_OUTLINE)]).all()


def test_landmarks_between_tied_ones_divide_the_curve_equally(right):
    xyz = positions(right, load_built_in().mean_shape)
    for curve in (slice(0, 15), slice(14, 20), slice(20, 35), slice(35, 39), slice(42, 47), slice(50, 55)):
        steps = np.linalg.norm(np.diff(xyz[curve], axis=0), axis=1)
        assert steps.max() < 1.25 * steps.min()  # chords of equal arcs differ where the curve bends


def test_the_left_ear_is_the_mirror_image_with_the_same_coordinates(right):
    model, left = load_built_in(), load_ear_template("left")
    rng = np.random.default_rng(3)
    person = Coefficients(model.draw_identity(rng), np.zeros(model.n_expression))
    vertices = model.vertices(person)
    np.testing.assert_allclose(
        positions(left, vertices), positions(right, model.mirror_vertices(vertices)) * (-1, 1, 1), atol=1e-4
    )
    assert left.landmarks_uv is right.landmarks_uv
    assert left.atlas is right.atlas
    assert (model.mean_shape[left.vertices, 0] > 60).all()

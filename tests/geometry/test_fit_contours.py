"""Landmark marching: its places on the face, and fits to landmarks that lie on the outline of a drawn head."""

from functools import cache

import numpy as np
import pytest

from geometry.built_in import load_built_in
from geometry.camera import ScaledOrthographicCamera
from geometry.contour_paths import contour_paths
from geometry.fit import FitConfig, FitResult, LandmarkFitter, fit_landmarks
from geometry.fit_poses import Poses
from geometry.frames import Similarity2D
from geometry.landmarks import JAW, MIRROR, landmark_scheme
from geometry.morphable_model import DenseModel, SurfacePoints

MARCH, FIXED = FitConfig(contour="march", noise_px=1.0), FitConfig(noise_px=1.0)
RULES = ("across", "height", "evenly")


@cache
def fitter(contour="march"):
    return LandmarkFitter.of(load_built_in(), config=FitConfig(contour=contour, noise_px=1.0))


@cache
def profiles(fit_faces):
    """Faces turned by more than 45°."""
    return fit_faces.draw_people(load_built_in(), 16, seed=1, yaw_deg=(45.0, 90.0))


@cache
def outlines(fit_faces, rule):
    """Their landmarks, hidden jaw points on the outline, and which these are."""
    return profiles(fit_faces).outlined_px(rule)


def noisy(landmarks, seed):
    return landmarks + np.random.default_rng(seed).normal(size=landmarks.shape)


# ---------------------------------------------------------------------------------------------- places on the face


def test_every_jaw_point_but_the_chin_has_a_parallel_that_starts_at_its_vertex():
    model = load_built_in()
    paths = contour_paths(model)
    assert (paths.of_jaw >= 0).tolist() == [point != 8 for point in range(17)]
    starts = paths.places.corners[paths.index[paths.of_jaw[paths.of_jaw >= 0], 0], 0]
    np.testing.assert_array_equal(starts, model.landmark_vertices[[*range(8), *range(9, 17)]])
    assert (paths.side[paths.of_jaw[:8]] == -1).all()
    assert (paths.side[paths.of_jaw[9:]] == 1).all()


def test_a_parallel_keeps_its_height_and_leads_across_the_face():
    model = load_built_in()
    paths = contour_paths(model)
    positions = np.einsum("pcx,pc->px", model.mean_shape[paths.places.corners], paths.places.weights)
    np.testing.assert_allclose(paths.places.weights.sum(axis=1), 1, atol=1e-12)
    assert (paths.places.weights > -1e-9).all()
    for side, path in zip(paths.side, paths.index, strict=True):
        x, y, _ = positions[path].T
        assert np.ptp(y) < 0.01
        assert side * x[0] > 10
        assert side * x[-1] < 0
        assert (side * np.diff(x) < 2).all()


def test_neighbours_up_and_down_the_face_lie_there():
    model = load_built_in()
    paths = contour_paths(model)
    here, above, below = (
        np.einsum("pcx,pc->px", model.mean_shape[points.corners], points.weights)
        for points in (paths.places, paths.above, paths.below)
    )
    assert (np.linalg.norm(above - here, axis=1) < 12).all()
    assert (above[:, 1] - below[:, 1] > 3.9).all()


def test_a_mesh_that_is_no_face_has_no_contour():
    bumps = np.random.default_rng(2).normal(size=(70, 3)) * 60
    nothing = np.zeros((1, 210), np.float32)
    model = DenseModel(
        "bumps", "", bumps.astype(np.float32), nothing, nothing, np.ones(1), np.ones(1),
        np.array([[0, 1, 2]], np.int32), np.arange(68, dtype=np.int32), np.zeros(70, np.uint8),
    )  # fmt: skip
    with pytest.raises(ValueError, match="nothing of bumps lies in front of its jaw at a height of"):
        LandmarkFitter.of(model, config=MARCH)


# ---------------------------------------------------------------------------------------------- the visible contour


def test_at_the_true_pose_the_z_buffer_hides_the_same_points_and_shows_the_same_outline(fit_faces):
    people = fit_faces.draw_people(load_built_in(), 12, seed=3, yaw_deg=(10.0, 90.0))
    outlined, hidden = people.outlined_px("height")
    agreed, distances = [], []
    for i in range(len(people)):
        camera = ScaledOrthographicCamera(people.scale[i], people.rotation[i], np.append(fit_faces.CENTRE_PX, 0.0))
        points = fitter().visible_landmarks(people.face(i), camera)
        marched = (points.corners != fitter().landmarks.corners).any(axis=1)
        agreed.append((marched == hidden[i])[: JAW.stop])
        both = marched & hidden[i]
        corners = people.model.vertices(people.face(i))[points.corners].astype(np.float64)
        seen = camera.project(np.einsum("pcx,pc->px", corners, points.weights))[:, :2]
        distances.append(np.linalg.norm(seen - outlined[i], axis=1)[both] / people.scale[i])
    assert np.mean(agreed) > 0.96
    distances = np.concatenate(distances)
    assert len(distances) > 50
    assert np.median(distances) < 1.0  # millimetres
    assert np.quantile(distances, 0.9) < 5.0


@pytest.mark.parametrize("rule", RULES)
def test_marching_lowers_the_error_beyond_45_degrees_by_far_more_than_a_third(fit_faces, rule):
    people = profiles(fit_faces)
    outlined, hidden = outlines(fit_faces, rule)
    assert hidden.sum(axis=1).mean() > 6
    landmarks = noisy(outlined, 4)
    marched = fitter().fit(landmarks, image_size_hw=fit_faces.SIZE_HW)
    fixed = fitter("fixed").fit(landmarks, image_size_hw=fit_faces.SIZE_HW)
    assert {fit.result for fit in marched} == {FitResult.CONVERGED}
    assert people.errors_mm(marched).mean() < 0.4 * people.errors_mm(fixed).mean()  # a third less would be 0.67
    assert people.turned_deg(marched).mean() < 0.2 * people.turned_deg(fixed).mean()


def test_marching_on_the_outline_is_as_good_as_knowing_the_hidden_vertices(fit_faces):
    people = profiles(fit_faces)
    outlined, _ = outlines(fit_faces, "evenly")
    marched = fitter().fit(noisy(outlined, 5), image_size_hw=fit_faces.SIZE_HW)
    informed = fitter("fixed").fit(noisy(people.landmarks_px, 5), image_size_hw=fit_faces.SIZE_HW)
    without_jaw = noisy(outlined, 5)
    without_jaw[:, JAW] = np.nan
    blind = fitter("fixed").fit(without_jaw, image_size_hw=fit_faces.SIZE_HW)
    best, found, worst = (people.errors_mm(fits).mean() for fits in (informed, marched, blind))
    assert found < 1.15 * best
    assert found < 0.95 * worst


def test_a_face_from_the_front_keeps_its_jaw_where_it_is(fit_faces):
    people = fit_faces.draw_people(load_built_in(), 8, seed=6, yaw_deg=(0.0, 3.0), pitch_deg=5.0)
    fits = fitter().fit(noisy(people.landmarks_px, 7), image_size_hw=fit_faces.SIZE_HW)
    moved = [(fit.points.corners != fitter().landmarks.corners).any(axis=1).sum() for fit in fits]
    assert np.mean(moved) < 2


def test_hidden_points_say_how_far_the_contour_is_and_nothing_along_it(fit_faces):
    outlined, _ = outlines(fit_faces, "evenly")
    fit = fitter().fit(outlined[:1], image_size_hw=fit_faces.SIZE_HW)[0]
    hidden = (fit.points.corners != fitter().landmarks.corners).any(axis=1)
    assert hidden.sum() >= 6
    singular = np.linalg.svd(fit.information, compute_uv=False)
    np.testing.assert_allclose(singular[hidden], np.tile([1.0, 0.0], (hidden.sum(), 1)), atol=1e-6)
    np.testing.assert_allclose(singular[JAW.stop :], 1.0, atol=1e-9)
    assert np.median(fit.residual_px[hidden]) < 2


def test_the_66_points_march_as_the_68_without_two_of_them(fit_faces):
    people = profiles(fit_faces)
    landmarks = noisy(outlines(fit_faces, "evenly")[0], 8)[:6]
    scheme = landmark_scheme("3dfaw-66")
    fits = fit_landmarks(
        people.model, scheme.of_68(landmarks), points="3dfaw-66", config=MARCH, image_size_hw=fit_faces.SIZE_HW
    )
    landmarks[:, [60, 64]] = np.nan
    same = fitter().fit(landmarks, image_size_hw=fit_faces.SIZE_HW)
    for a, b in zip(fits, same, strict=True):
        assert fit_faces.degrees_between(a.camera.rotation, b.camera.rotation) < 0.05


def test_a_mirrored_picture_marches_on_the_other_side(fit_faces):
    people = fit_faces.draw_people(load_built_in(), 6, seed=9, yaw_deg=(30.0, 70.0))
    landmarks = people.outlined_px("evenly")[0]
    mirrored = np.stack([Similarity2D.mirror(450).apply(points)[MIRROR] for points in landmarks])
    fits, flipped = (fitter().fit(points, image_size_hw=fit_faces.SIZE_HW) for points in (landmarks, mirrored))
    flip = np.diag([-1.0, 1.0, 1.0])
    for fit, other in zip(fits, flipped, strict=True):
        assert fit_faces.degrees_between(flip @ fit.camera.rotation @ flip, other.camera.rotation) < 1.5


@pytest.mark.parametrize("contour", ["march", "fixed"])
def test_a_fit_is_the_same_bit_by_bit_whatever_faces_are_beside_it(fit_faces, contour):
    """In profile, where all of the jaw marches, and from the front, where none of it does."""
    front = fit_faces.draw_people(load_built_in(), 2, seed=5, yaw_deg=(0.0, 5.0)).landmarks_px
    landmarks = noisy(np.concatenate([outlines(fit_faces, "evenly")[0][:3], front]), 10)

    def numbers(places):
        return [
            np.concatenate([np.ravel(part) for part in (
                fit.coefficients.identity, fit.coefficients.expression, fit.camera.scale, fit.camera.rotation,
                fit.camera.translation_px, fit.residual_px, fit.information, fit.determined_modes, fit.points.corners,
            )])
            for fit in fitter(contour).fit(landmarks[places], image_size_hw=fit_faces.SIZE_HW)
        ]  # fmt: skip

    together = numbers(range(5))
    for places in ([0], [4], [3, 1], [4, 3, 2, 1, 0]):
        for place, found in zip(places, numbers(places), strict=True):
            np.testing.assert_array_equal(found, together[place])


def test_wrong_points_among_marching_ones_are_let_go(fit_faces):
    people = fit_faces.draw_people(load_built_in(), 10, seed=11, yaw_deg=(20.0, 70.0))
    clean = noisy(people.outlined_px("evenly")[0], 12)
    spoiled, rng = clean.copy(), np.random.default_rng(13)
    for face in spoiled:
        turn = rng.uniform(0, 2 * np.pi, 7)
        face[rng.choice(68, 7, replace=False)] += 30 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    config = MARCH.model_copy(update={"loss": "geman_mcclure"})
    robust = LandmarkFitter.of(people.model, config=config)
    fits = robust.fit(spoiled, image_size_hw=fit_faces.SIZE_HW)
    expected = fitter().fit(clean, image_size_hw=fit_faces.SIZE_HW)
    turned = [
        fit_faces.degrees_between(a.camera.rotation, b.camera.rotation) for a, b in zip(fits, expected, strict=True)
    ]
    assert np.median(turned) < 1
    assert np.mean(turned) < 2


@pytest.mark.parametrize("points", ["inner-51", "aflw-21", SurfacePoints.at_vertices(np.arange(9))])
def test_points_without_a_jaw_cannot_march(points):
    with pytest.raises(ValueError, match="contour='march' moves jaw landmarks, and .* has none that it knows of"):
        LandmarkFitter.of(load_built_in(), points=points, config=MARCH)


def test_fixed_landmarks_have_no_visible_places():
    camera = ScaledOrthographicCamera(1.0, np.eye(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"the landmarks of this fitter are fixed; make it with"):
        fitter("fixed").visible_landmarks(load_built_in().neutral(), camera)


def test_seen_from_far_away_a_perspective_camera_shows_the_same_contour():
    """The far camera's perspective is that of a face 10 m away: parallels leave the outline at the same places."""
    z = np.zeros((1, 228))
    rotation = np.array([[[0.5, 0, -np.sqrt(0.75)], [0, 1, 0], [np.sqrt(0.75), 0, 0.5]]])
    near, far = (
        Poses(np.array([1.5]), rotation, np.zeros((1, 2)), np.array([inverse_focal]))
        for inverse_focal in (0.0, 1 / 15_000)
    )
    targets = np.zeros((1, 2, 68))
    a, b = (fitter().marcher.march(poses, z, targets, np.ones(1))[0] for poses in (near, far))
    assert (a > 67).sum() >= 6
    assert (a == b).mean() > 0.95

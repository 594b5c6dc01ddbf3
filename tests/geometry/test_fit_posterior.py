"""How sure a fit is: against its definition, against draws, and against what truly happened."""

import numpy as np
import pytest

from geometry.built_in import load_built_in
from geometry.camera import PerspectiveCamera
from geometry.fit import FitConfig, LandmarkFitter, fit_landmarks
from geometry.fit_posterior import posterior, posteriors_of_person
from geometry.morphable_model import Coefficients, SurfacePoints
from geometry.rotation import rotation_from_vector

KNOWN = FitConfig(noise_px=1.0)
INSIDE = 1.96  # 95 % of a normal distribution


def turned_by(true, found):
    """The small rotation vector from the found pose to the true one, about the camera's axes."""
    turn = true @ found.T
    return np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2


@pytest.fixture(scope="module")
def drawn(fit_faces):
    """Faces of the fit's own prior with 1 px of noise, and their fits."""
    people = fit_faces.draw_people(load_built_in(), 128, seed=1, yaw_deg=(0.0, 80.0), from_prior=True)
    landmarks = people.landmarks_px + np.random.default_rng(2).normal(size=(128, 68, 2))
    return people, fit_landmarks(people.model, landmarks, image_size_hw=fit_faces.SIZE_HW, config=KNOWN)


def test_it_is_the_inverse_of_the_objectives_curvature(fit_faces):
    """On landmarks without residual the Gauss-Newton matrix is half the objective's own second derivative."""
    model = fit_faces.leading_modes(load_built_in(), 5, 3)
    people = fit_faces.draw_people(model, 1, seed=3, from_prior=True)
    config = FitConfig(noise_px=0.05, step_tolerance=1e-9, scale_estimate="joint")
    fit = fit_landmarks(model, people.landmarks_px[0], image_size_hw=fit_faces.SIZE_HW, config=config)
    found = posterior(model, fit)
    rows, stddevs = model.rows(fit.points), np.concatenate([model.identity_stddevs, model.expression_stddevs])
    z = np.concatenate([fit.coefficients.identity, fit.coefficients.expression]) / stddevs
    landmarks_on_face = rows.positions(fit.coefficients)
    on_image = fit.camera.project(landmarks_on_face)[:, :2]
    centre = fit.camera.project(found.centroid_mm)[:2]

    def residuals(change):
        c, turn, log_scale, shift = change[:8], change[8:11], change[11], change[12:14]
        shape = rows.positions(Coefficients.from_stddevs(model, (z + c)[:5], (z + c)[5:])) - found.centroid_mm
        scale = fit.camera.scale * np.exp(log_scale)
        seen = scale * (shape @ (rotation_from_vector(turn) @ fit.camera.rotation).T)[:, :2]
        image = centre + (seen + shift) * (1, -1)
        return np.concatenate([((image - on_image) / 0.05).ravel(), z + c])

    step = 1e-5
    columns = [(residuals(step * unit) - residuals(-step * unit)) / (2 * step) for unit in np.eye(14)]
    expected = np.linalg.inv(np.array(columns) @ np.array(columns).T)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-3, atol=1e-6 * np.abs(expected).max())


def test_stated_intervals_hold_the_truth_95_times_in_100(drawn):
    people, fits = drawn
    model = people.model
    rotation, scale, coefficients = [], [], []
    for i, fit in enumerate(fits):
        sure = posterior(model, fit)
        error = np.degrees(turned_by(people.rotation[i], fit.camera.rotation))
        rotation.append(np.abs(error) < INSIDE * sure.rotation_stddev_deg)
        scale.append(abs(np.log(people.scale[i] / fit.camera.scale)) < INSIDE * sure.scale_stddev)
        true, found = people.face(i).in_stddevs(model), fit.coefficients.in_stddevs(model)
        stddevs = sure.coefficient_stddevs()
        coefficients.append(np.abs(true.identity - found.identity) < INSIDE * stddevs.identity)
        coefficients.append(np.abs(true.expression - found.expression) < INSIDE * stddevs.expression)
    # 128 faces leave the shares themselves uncertain by 2 %
    assert (np.abs(np.mean(rotation, axis=0) - 0.95) < 0.05).all()
    assert abs(np.mean(scale) - 0.95) < 0.05
    assert abs(np.mean(np.concatenate(coefficients)) - 0.95) < 0.01


def test_every_vertex_lies_where_it_is_said_to_lie(drawn, fit_faces):
    people, fits = drawn
    model, shape, posed = people.model, [], []
    some = SurfacePoints.at_vertices(np.arange(0, model.n_vertices, 500))
    rows = model.rows(some)
    for i, fit in enumerate(fits[:24]):
        sure = posterior(model, fit)
        true, found = rows.positions(people.face(i)), rows.positions(fit.coefficients)
        shape.append(np.abs(true - found) < INSIDE * sure.vertex_stddev_mm(model, points=some))
        stddevs, scale = sure.posed_vertex_stddev_mm(model, points=some), fit.camera.scale
        seen = people.scale[i] * (true @ people.rotation[i].T)[:, :2] * (1, -1) + fit_faces.CENTRE_PX
        in_picture = np.abs(seen - fit.camera.project(found)[:, :2]) / scale
        depth, fitted_depth = (
            s * ((x - sure.centroid_mm) @ turn.T)[:, 2] / scale
            for s, x, turn in ((people.scale[i], true, people.rotation[i]), (scale, found, fit.camera.rotation))
        )
        off = np.concatenate([in_picture, np.abs(depth - fitted_depth)[:, None]], axis=1)
        posed.append(off < INSIDE * stddevs)
    # the vertices of a face move together, so twenty-four faces leave some per cent open
    assert abs(np.mean(shape) - 0.95) < 0.04
    assert (np.abs(np.mean(posed, axis=(0, 1)) - 0.95) < 0.05).all()


def test_all_vertices_and_some_points_are_equally_sure(drawn):
    people, fits = drawn
    model, sure = people.model, posterior(people.model, fits[0])
    some = np.arange(7, model.n_vertices, 5000)
    points = SurfacePoints.at_vertices(some)
    for stddevs in (sure.vertex_stddev_mm, sure.posed_vertex_stddev_mm):
        np.testing.assert_allclose(stddevs(model)[some], stddevs(model, points=points), rtol=1e-3, atol=1e-3)


def test_the_plain_ridge_is_surer_of_the_scale_than_it_should_be(drawn, fit_faces):
    """Why "marginal" is the default: heads come out some 4 % too small, and too far away to be covered."""
    people, fits = drawn
    joint = fit_landmarks(
        people.model,
        np.stack([fit.landmarks_px for fit in fits]),
        image_size_hw=fit_faces.SIZE_HW,
        config=KNOWN.model_copy(update={"scale_estimate": "joint"}),
    )
    bias, ridge_bias = (
        np.mean(np.log([fit.camera.scale for fit in some]) - np.log(people.scale)) for some in (fits, joint)
    )
    assert 0.03 < ridge_bias < 0.06
    assert abs(bias) < 0.01
    assert people.errors_mm(fits[:40]).mean() < 0.9 * people.errors_mm(joint[:40]).mean()


@pytest.mark.parametrize("camera", ["scaled_orthographic", "perspective"])
def test_posed_vertices_spread_as_draws_of_pose_and_face_do(fit_faces, camera):
    model = fit_faces.leading_modes(load_built_in(), 12, 4)
    people = fit_faces.draw_people(model, 1, seed=4, yaw_deg=(40.0, 50.0), from_prior=True)
    config = FitConfig(noise_px=0.3, camera=camera, focal_px=700.0 if camera == "perspective" else None)
    fit = fit_landmarks(model, people.landmarks_px[0], image_size_hw=fit_faces.SIZE_HW, config=config)
    sure = posterior(model, fit)
    scaled = fit.coefficients.in_stddevs(model)
    z = np.concatenate([scaled.identity, scaled.expression])
    places = []
    for change in np.random.default_rng(5).multivariate_normal(np.zeros(len(sure.covariance)), sure.covariance, 2500):
        face = Coefficients.from_stddevs(model, (z + change[:16])[:12], (z + change[:16])[12:])
        turned = (model.vertices(face) - sure.centroid_mm) @ (
            rotation_from_vector(change[16:19]) @ fit.camera.rotation
        ).T
        places.append(seen_mm(fit.camera, sure.centroid_mm, turned, change[19:22]))
    spread = np.std(places, axis=0)
    np.testing.assert_allclose(sure.posed_vertex_stddev_mm(model), spread, rtol=0.1, atol=0.01)


def seen_mm(camera, centroid, turned, change):
    """Picture and relative depth in millimetres of points about the centroid, after a change of scale and place."""
    if isinstance(camera, PerspectiveCamera):
        place = camera.rotation @ centroid + camera.translation_mm
        scale, inverse_focal = -camera.focal_px / place[2], 1 / camera.focal_px
        translation = scale * place[:2]
    else:
        scale, inverse_focal, translation = camera.scale, 0.0, np.zeros(2)
    pixels = scale * np.exp(change[0]) * turned
    seen = (pixels[:, :2] + translation + change[1:3]) / (1 - inverse_focal * pixels[:, 2:])
    return np.concatenate([seen, pixels[:, 2:]], axis=1) / scale


def test_the_prior_is_what_is_known_where_landmarks_are_few(fit_faces):
    people = fit_faces.draw_people(load_built_in(), 1, seed=6)
    model, landmarks = people.model, people.landmarks_px[0]
    few = np.full_like(landmarks, np.nan)
    few[[36, 45, 48, 54]] = landmarks[[36, 45, 48, 54]]
    sure, unsure = (
        posterior(model, fit_landmarks(model, given, image_size_hw=fit_faces.SIZE_HW, config=KNOWN))
        for given in (landmarks, few)
    )
    assert unsure.coefficient_stddevs().identity[50:].min() > 0.95
    assert unsure.fit.determined_modes < 9 < 30 < sure.fit.determined_modes
    assert (unsure.rotation_stddev_deg > 2 * sure.rotation_stddev_deg).all()
    some = SurfacePoints.at_vertices(np.arange(0, model.n_vertices, 500))
    before, after = (one.vertex_stddev_mm(model, points=some) for one in (unsure, sure))
    assert (before > after * 0.98).mean() > 0.99


def test_less_noise_and_more_weight_make_surer(fit_faces):
    people = fit_faces.draw_people(load_built_in(), 1, seed=7)
    options = {"image_size_hw": fit_faces.SIZE_HW}
    landmarks = people.landmarks_px[0]
    fits = [
        fit_landmarks(people.model, landmarks, config=FitConfig(noise_px=2.0), **options),
        fit_landmarks(people.model, landmarks, config=FitConfig(noise_px=2.0), weights=np.full(68, 4.0), **options),
        fit_landmarks(people.model, landmarks, config=KNOWN, **options),
    ]
    loose, weighted, tight = (posterior(people.model, fit) for fit in fits)
    np.testing.assert_allclose(weighted.covariance, tight.covariance, rtol=1e-2, atol=1e-3)
    assert (np.diag(loose.covariance) > 0.98 * np.diag(tight.covariance)).all()
    assert (loose.rotation_stddev_deg > tight.rotation_stddev_deg).all()


def test_points_on_the_contour_are_as_sure_as_they_say(fit_faces):
    people = fit_faces.draw_people(load_built_in(), 24, seed=8, yaw_deg=(30.0, 80.0))
    landmarks = people.outlined_px("evenly")[0] + np.random.default_rng(9).normal(size=(24, 68, 2))
    fitter = LandmarkFitter.of(people.model, config=FitConfig(contour="march", noise_px=1.0))
    inside = []
    for i, fit in enumerate(fitter.fit(landmarks, image_size_hw=fit_faces.SIZE_HW)):
        error = np.degrees(turned_by(people.rotation[i], fit.camera.rotation))
        inside.append(np.abs(error) < INSIDE * posterior(people.model, fit).rotation_stddev_deg)
    assert np.mean(inside) > 0.85


def test_a_robust_fit_does_not_count_the_points_that_it_let_go(fit_faces):
    people = fit_faces.draw_people(load_built_in(), 1, seed=10, yaw_deg=(0.0, 30.0))
    spoiled, wrong = people.landmarks_px[0].copy(), [3, 30, 45, 57]
    spoiled[wrong] += (60.0, -45.0)
    config = FitConfig(noise_px=1.0, loss="geman_mcclure")
    fit = fit_landmarks(people.model, spoiled, image_size_hw=fit_faces.SIZE_HW, config=config)
    counted = np.trace(fit.information, axis1=1, axis2=2)
    assert counted[wrong].max() < 0.02
    assert np.delete(counted, wrong).min() > 1.5


def test_a_fit_without_a_face_has_no_posterior(fit_faces):
    model = load_built_in()
    fit = fit_landmarks(model, np.full((68, 2), 100.0), image_size_hw=fit_faces.SIZE_HW, source_ids="flat")
    with pytest.raises(ValueError, match="the fit of flat has no face to be sure of: the landmarks coincide"):
        posterior(model, fit)


def test_pictures_of_different_people_have_no_common_posterior(drawn):
    people, fits = drawn
    with pytest.raises(ValueError, match="the fits of 0 and 1 have different identities; fit the pictures together"):
        posteriors_of_person(people.model, fits[:2])

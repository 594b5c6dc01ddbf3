"""Fits with a perspective camera, its focal length known or estimated."""

import numpy as np
import pytest

from geometry.built_in import load_built_in
from geometry.camera import PerspectiveCamera
from geometry.fit import FitConfig, FitResult, LandmarkFitter, fit_landmarks
from geometry.fit_poses import Poses
from geometry.fit_posterior import posterior
from geometry.fit_reference import reference_minimise
from geometry.fit_solver import minimise
from geometry.landmarks import INNER

SIZE_HW = (480, 640)
CENTRE = np.array([319.5, 239.5])
FOCAL = 900.0


def photographs(fit_faces, model, n, *, seed, distance_mm, noise_px=0.0, yaw=60.0, from_prior=True):
    """n faces before a camera of 900 px: the people, the true cameras and (n 68 2) landmarks."""
    people = fit_faces.draw_people(model, n, seed=seed, yaw_deg=(0.0, yaw), from_prior=from_prior)
    rng = np.random.default_rng(seed)
    aside = rng.uniform(-0.15, 0.15, (n, 2)) * distance_mm
    cameras = [
        PerspectiveCamera(FOCAL, CENTRE, rotation, np.array([*place, -distance_mm]))
        for rotation, place in zip(people.rotation, aside, strict=True)
    ]
    points = model.rows(model.landmarks).positions(people.coefficients)
    seen = np.stack([camera.project(p)[:, :2] for camera, p in zip(cameras, points, strict=True)])
    return people, cameras, seen + noise_px * rng.normal(size=seen.shape)


def perspective(**changes):
    return FitConfig(camera="perspective", **{"focal_px": FOCAL, **changes})


@pytest.mark.parametrize("minimiser", [minimise, reference_minimise])
@pytest.mark.parametrize("distance_mm", [400.0, 900.0])
def test_noise_free_landmarks_give_back_the_camera(fit_faces, minimiser, distance_mm):
    model = fit_faces.leading_modes(load_built_in(), 12, 4)
    n = 20 if minimiser is minimise else 2
    people, cameras, landmarks = photographs(fit_faces, model, n, seed=1, distance_mm=distance_mm)
    config = perspective(noise_px=1e-3, step_tolerance=1e-8)
    fits = fit_landmarks(model, landmarks, image_size_hw=SIZE_HW, config=config, minimiser=minimiser)
    assert {fit.result for fit in fits} == {FitResult.CONVERGED}
    assert max(fit.residual_px.max() for fit in fits) < 0.01
    assert people.turned_deg(fits).max() < 0.01
    for fit, camera in zip(fits, cameras, strict=True):
        np.testing.assert_allclose(fit.camera.translation_mm, camera.translation_mm, atol=0.05)
        np.testing.assert_allclose(fit.camera.principal_point_px, CENTRE)
        projected = fit.camera.project(model.vertices(fit.coefficients).astype(float))[:, :2]
        np.testing.assert_allclose(projected, fit.landmarks_px, atol=0.01)


def test_an_unknown_focal_length_is_found_from_near_and_noise_free_landmarks(fit_faces):
    model = fit_faces.leading_modes(load_built_in(), 12, 4)
    people, _, landmarks = photographs(fit_faces, model, 20, seed=2, distance_mm=300.0)
    config = perspective(focal_px=None, noise_px=1e-3, step_tolerance=1e-8)
    fits = fit_landmarks(model, landmarks, image_size_hw=SIZE_HW, config=config)
    assert people.turned_deg(fits).max() < 0.01
    np.testing.assert_allclose([fit.camera.focal_px for fit in fits], FOCAL, rtol=2e-3)


def test_the_perspective_objective_is_as_low_as_scipys(fit_faces):
    model = fit_faces.leading_modes(load_built_in(), 40, 15)
    _, _, landmarks = photographs(fit_faces, model, 1, seed=3, distance_mm=400.0, noise_px=1.0)
    landmarks = landmarks[:, INNER][:, ::2]  # 52 coordinates: fewer than 55 modes
    for changes in ({}, {"focal_px": None}):
        config = perspective(noise_px=1.0, step_tolerance=1e-7, **changes)
        values = []
        for one in (minimise, reference_minimise):
            found = []
            fit_landmarks(
                model, landmarks, image_size_hw=SIZE_HW, points=np.arange(17, 68, 2), config=config,
                minimiser=lambda *given, one=one, found=found: found.append(one(*given)) or found[-1],
            )  # fmt: skip
            values.append(found[-1].objective)
        assert (values[0] <= values[1] + 1e-6 * np.abs(values[1])).all()


def test_a_near_face_needs_perspective(fit_faces):
    model = load_built_in()
    people, _, landmarks = photographs(fit_faces, model, 24, seed=4, distance_mm=350.0, noise_px=0.5, from_prior=False)
    near = fit_landmarks(model, landmarks, image_size_hw=SIZE_HW, config=perspective(noise_px=0.5))
    flat = fit_landmarks(model, landmarks, image_size_hw=SIZE_HW, config=FitConfig(noise_px=0.5))
    assert people.errors_mm(near).mean() < 0.6 * people.errors_mm(flat).mean()
    assert people.turned_deg(near).mean() < 2


def test_from_far_away_both_cameras_agree(fit_faces):
    model = load_built_in()
    people = fit_faces.draw_people(model, 4, seed=5, yaw_deg=(0.0, 60.0))
    landmarks = people.landmarks_px
    far = fit_landmarks(
        model, landmarks, image_size_hw=fit_faces.SIZE_HW, config=perspective(focal_px=1e7, step_tolerance=1e-7)
    )
    flat = fit_landmarks(model, landmarks, image_size_hw=fit_faces.SIZE_HW, config=FitConfig(step_tolerance=1e-7))
    for a, b in zip(far, flat, strict=True):
        assert fit_faces.degrees_between(a.camera.rotation, b.camera.rotation) < 0.01
        assert a.camera.scale == pytest.approx(b.camera.scale, rel=1e-4)
        simple = a.camera.scaled_orthographic()
        np.testing.assert_allclose(simple.translation_px[:2], b.camera.translation_px[:2], atol=0.05)


def test_contours_march_before_a_near_camera_too(fit_faces):
    """The outline's truth is drawn without perspective, so the near camera stands far enough away for half a pixel."""
    people = fit_faces.draw_people(load_built_in(), 6, seed=6, yaw_deg=(50.0, 80.0))
    landmarks = people.outlined_px("evenly")[0]
    config = perspective(focal_px=15_000.0, contour="march")
    fits = fit_landmarks(people.model, landmarks, image_size_hw=fit_faces.SIZE_HW, config=config)
    assert {fit.result for fit in fits} <= {FitResult.CONVERGED}
    assert people.turned_deg(fits).mean() < 3


def test_the_derivatives_are_those_of_the_projection():
    rng = np.random.default_rng(7)
    rotation = np.linalg.qr(rng.normal(size=(1, 3, 3)))[0]
    poses = Poses(np.array([1.7]), rotation, rng.normal(size=(1, 2)) * 30, np.array([1 / 700]))
    shapes = rng.normal(size=(1, 3, 5)) * 60
    here = poses.linearise(shapes, with_focal=True)
    np.testing.assert_allclose(here.points_px, poses.project(shapes)[0], atol=1e-10)
    for axis in range(3):
        step = np.zeros_like(shapes)
        step[:, axis] = 1e-4
        slope = (poses.project(shapes + step)[0] - poses.project(shapes - step)[0]) / 2e-4
        np.testing.assert_allclose(here.rows[:, :, axis], slope, atol=1e-6)
    for direction in range(7):
        step = np.zeros((1, 7))
        step[0, direction] = 1e-6
        slope = (poses.moved(step).project(shapes)[0] - poses.moved(-step).project(shapes)[0]) / 2e-6
        np.testing.assert_allclose(here.jacobian[:, direction], slope, atol=1e-4)


def test_the_posterior_knows_how_little_a_face_tells_of_the_focal_length(fit_faces):
    model = load_built_in()
    _, _, landmarks = photographs(fit_faces, model, 40, seed=8, distance_mm=500.0, noise_px=1.0)
    fits = fit_landmarks(model, landmarks, image_size_hw=SIZE_HW, config=perspective(focal_px=None, noise_px=1.0))
    z = [np.log(fit.camera.focal_px / FOCAL) / posterior(model, fit).focal_stddev for fit in fits]
    assert np.abs(np.mean(z)) < 0.7  # the prior's middle, 768 px, is not the truth
    assert 0.6 < np.std(z) < 1.3
    known = fit_landmarks(model, landmarks[0], image_size_hw=SIZE_HW, config=perspective(noise_px=1.0))
    assert posterior(model, known).focal_stddev is None


def test_a_face_that_cannot_be_fitted_has_a_perspective_camera_of_nan():
    landmarks = np.full((68, 2), np.nan)
    fit = fit_landmarks(load_built_in(), landmarks, image_size_hw=SIZE_HW, config=perspective())
    assert fit.result == FitResult.TOO_FEW_POINTS
    assert isinstance(fit.camera, PerspectiveCamera)
    assert np.isnan(fit.camera.focal_px)


def test_a_camera_needs_a_picture_or_its_own_numbers():
    model, landmarks = load_built_in(), 200 + 60 * np.random.default_rng(9).normal(size=(68, 2))
    with pytest.raises(ValueError, match="give image_size_hw, or both focal_px and principal_point_px"):
        fit_landmarks(model, landmarks, image_size_hw=None, config=perspective())
    config = perspective(principal_point_px=(200.0, 200.0))
    assert LandmarkFitter.of(model, config=config).fit(landmarks, image_size_hw=None).camera.focal_px == FOCAL

"""Fits to the sample folder's own files: what the folder says of its `_0` pictures must come back."""

import numpy as np
import pytest

from geometry.built_in import load_built_in
from geometry.fit import FitConfig, FitResult, fit_landmarks
from geometry.fit_posterior import posterior
from geometry.landmarks import INNER, JAW
from storage import read_annotation
from storage.annotations import write_annotation
from storage.sample_photograph import image_from_photograph, photograph_landmarks_px
from storage.synthetic import draw_face, draw_shot, plan_families

SIZE_HW = (450, 450)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    """The folder's `_0` annotations of the default seed's first people; their pictures, which nobody reads, are left out."""
    folder, model, read = tmp_path_factory.mktemp("sample"), load_built_in(), []
    for family in plan_families(seed=0, n_identities=12, n_expressions=2, n_views=8)[::4]:
        face = draw_face(family)
        shot = draw_shot(family, 0, face)
        points = shot.camera.project(model.rows(model.landmarks).positions(face.coefficients))
        path = folder / f"{family.photograph}_0.mat"
        write_annotation(
            path,
            coefficients=face.coefficients,
            camera=shot.camera,
            landmarks_px=None,
            pt2d=points[:, :2].T + 1.0,
            model=model,
        )
        read.append(read_annotation(path))
    return read


def test_the_samples_own_landmarks_give_back_pose_and_points_and_the_posterior_says_how_well(annotations, fit_faces):
    model = load_built_in()
    landmarks = np.stack([annotation.landmarks_px[:, :2] for annotation in annotations])
    fits = fit_landmarks(model, landmarks, image_size_hw=SIZE_HW)
    assert {fit.result for fit in fits} == {FitResult.CONVERGED}
    turned = np.array(
        [
            fit_faces.degrees_between(f.camera.rotation, a.camera.rotation)
            for f, a in zip(fits, annotations, strict=True)
        ]
    )
    assert turned.mean() < 2  # 3 are asked for
    assert np.mean(turned < 3) > 0.75
    assert max(fit.residual_px.mean() for fit in fits) < 1
    stated = np.array([np.linalg.norm(posterior(model, fit).rotation_stddev_deg) for fit in fits])
    assert 1.5 < stated.mean() < 3
    assert (turned < 2.5 * stated).all()
    # one for a calibrated posterior, less what the missing noise would add
    assert 0.5 < np.sqrt(np.mean(np.square(turned / stated))) < 1.1


def test_pictures_of_one_person_share_what_they_know(annotations, fit_faces):
    """The pose of a picture is better known where others of the person, from the side, are fitted with it."""
    model, rng = load_built_in(), np.random.default_rng(1)
    points = model.rows(model.landmarks)
    turned = {"alone": [], "together": []}
    for annotation in annotations:
        people = fit_faces.draw_people(model, 3, seed=int(rng.integers(1000)), yaw_deg=(20.0, 60.0))
        seen = [annotation.landmarks_px[:, :2]]
        for rotation, scale in zip(people.rotation, people.scale, strict=True):
            turned_points = scale * points.positions(annotation.coefficients) @ rotation.T
            seen.append(fit_faces.CENTRE_PX + turned_points[:, :2] * (1, -1))
        for name, persons in (("alone", None), ("together", ["one"] * 4)):
            fit = fit_landmarks(model, np.stack(seen), image_size_hw=SIZE_HW, person_ids=persons)[0]
            turned[name].append(fit_faces.degrees_between(fit.camera.rotation, annotation.camera.rotation))
    assert np.mean(turned["together"]) < 0.8 * np.mean(turned["alone"])


@pytest.mark.parametrize("contour", ["fixed", "march"])
def test_the_samples_photograph_is_fitted_to_two_per_cent_of_the_eyes_distance(contour):
    landmarks = image_from_photograph().apply(photograph_landmarks_px())
    fit = fit_landmarks(load_built_in(), landmarks, image_size_hw=SIZE_HW, config=FitConfig(contour=contour))
    between_eyes = np.linalg.norm(landmarks[45] - landmarks[36])
    assert fit.result == FitResult.CONVERGED
    assert fit.residual_px[INNER].mean() < 0.02 * between_eyes
    assert fit.residual_px[JAW].mean() < 0.02 * between_eyes

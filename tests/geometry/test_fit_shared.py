"""Several images of one person: one identity, and an expression and a pose for each image."""

import numpy as np
import pytest

from geometry.built_in import load_built_in
from geometry.fit import FitConfig, FitResult, fit_landmarks
from geometry.fit_posterior import posterior, posteriors_of_person
from geometry.fit_reference import reference_minimise
from geometry.fit_solver import minimise
from geometry.morphable_model import Coefficients
from storage.sample_photograph import photograph_landmarks_px

EXACT = FitConfig(noise_px=1e-3, step_tolerance=1e-8)


def albums(fit_faces, model, n_persons, n_images, *, seed, noise_px=0.0, from_prior=False):
    """People with the same identity in every `n_images` rows, who is who, and landmarks."""
    people = fit_faces.draw_people(model, n_persons * n_images, seed=seed, yaw_deg=(0, 60), from_prior=from_prior)
    identity = np.repeat(people.coefficients.identity[::n_images], n_images, axis=0)
    people = fit_faces.People(
        model, Coefficients(identity, people.coefficients.expression), people.rotation, people.scale, people.yaw_deg
    )
    noise = noise_px * np.random.default_rng(seed).normal(size=(len(people), 68, 2))
    return people, [f"person {row // n_images}" for row in range(len(people))], people.landmarks_px + noise


@pytest.mark.parametrize("minimiser", [minimise, reference_minimise])
def test_noise_free_images_give_back_identity_expressions_and_poses(fit_faces, minimiser):
    model = fit_faces.leading_modes(load_built_in(), 12, 4)
    n_persons = 5 if minimiser is minimise else 1
    people, ids, landmarks = albums(fit_faces, model, n_persons, 3, seed=1, from_prior=True)
    fits = fit_landmarks(
        model, landmarks, image_size_hw=fit_faces.SIZE_HW, config=EXACT, person_ids=ids, minimiser=minimiser
    )
    assert {fit.result for fit in fits} == {FitResult.CONVERGED}
    assert max(fit.residual_px.max() for fit in fits) < 0.01
    assert people.turned_deg(fits).max() < 0.01
    found = np.stack([fit.coefficients.identity for fit in fits]) / model.identity_stddevs
    np.testing.assert_allclose(found, people.coefficients.identity / model.identity_stddevs, atol=1e-3)


@pytest.mark.parametrize("changes", [{}, {"scale_estimate": "joint"}, {"shared_error": 0.0}])
def test_the_shared_objective_is_as_low_as_scipys(fit_faces, changes):
    model = fit_faces.leading_modes(load_built_in(), 20, 6)
    _, ids, landmarks = albums(fit_faces, model, 1, 2, seed=2, noise_px=1.5, from_prior=True)
    landmarks[1, 20:30] = np.nan
    config, values = FitConfig(noise_px=1.0, step_tolerance=1e-7, **changes), []
    for one in (minimise, reference_minimise):
        found = []
        fit_landmarks(
            model, landmarks, image_size_hw=fit_faces.SIZE_HW, person_ids=ids, config=config,
            minimiser=lambda *given, one=one, found=found: found.append(one(*given)) or found[-1],
        )  # fmt: skip
        values.append(found[0].objective)
    assert (values[0] <= values[1] + 1e-6 * np.abs(values[1])).all()


def test_one_image_of_each_person_is_the_ordinary_fit(fit_faces):
    model = load_built_in()
    people = fit_faces.draw_people(model, 4, seed=3)
    landmarks = people.landmarks_px + np.random.default_rng(4).normal(size=(4, 68, 2))
    config = FitConfig(noise_px=1.0, step_tolerance=1e-7)
    options = {"image_size_hw": fit_faces.SIZE_HW, "config": config}
    ordinary = fit_landmarks(model, landmarks, **options)
    # two images of the last person force the solver for persons; the first ones are alone
    twice = np.concatenate([landmarks, landmarks[3:]])
    shared = fit_landmarks(model, twice, person_ids=["a", "b", "c", "d", "d"], **options)
    for a, b in zip(ordinary[:3], shared[:3], strict=True):
        assert fit_faces.degrees_between(a.camera.rotation, b.camera.rotation) < 0.01
        assert a.determined_modes == pytest.approx(b.determined_modes, rel=1e-4)
        np.testing.assert_allclose(
            a.coefficients.identity / model.identity_stddevs,
            b.coefficients.identity / model.identity_stddevs,
            atol=2e-3,
        )
    alone = fit_landmarks(model, landmarks, person_ids=list("abcd"), **options)
    for a, b in zip(ordinary, alone, strict=True):
        np.testing.assert_array_equal(a.coefficients.identity, b.coefficients.identity)


def test_more_images_know_the_person_better(fit_faces):
    model = load_built_in()
    people, ids, landmarks = albums(fit_faces, model, 8, 4, seed=5, noise_px=1.0)
    options = {"image_size_hw": fit_faces.SIZE_HW, "config": FitConfig(noise_px=1.0)}
    shared = fit_landmarks(model, landmarks, person_ids=ids, **options)
    single = fit_landmarks(model, landmarks, **options)

    def neutral_error(fits):
        zero = np.zeros(model.n_expression)
        return np.mean(
            [
                np.linalg.norm(
                    model.vertices(Coefficients(fit.coefficients.identity, zero))
                    - model.vertices(Coefficients(people.coefficients.identity[i], zero)),
                    axis=1,
                ).mean()
                for i, fit in enumerate(fits)
            ]
        )

    assert neutral_error(shared) < 0.85 * neutral_error(single)
    for first in range(0, len(people), 4):
        identities = [fit.coefficients.identity for fit in shared[first : first + 4]]
        assert all(np.array_equal(identities[0], other) for other in identities)
        expressions = [fit.coefficients.expression for fit in shared[first : first + 4]]
        assert not np.allclose(expressions[0], expressions[1])


def test_any_number_of_copies_of_a_picture_is_one_picture_where_all_errors_are_common(fit_faces):
    model = load_built_in()
    people = fit_faces.draw_people(model, 1, seed=10, yaw_deg=(20.0, 40.0))
    landmarks = people.landmarks_px + np.random.default_rng(11).normal(size=(1, 68, 2))
    config = FitConfig(noise_px=1.0, shared_error=1.0, step_tolerance=1e-8)
    options = {"image_size_hw": fit_faces.SIZE_HW, "config": config}
    (alone,) = fit_landmarks(model, landmarks, **options)
    copies = fit_landmarks(model, np.repeat(landmarks, 5, axis=0), person_ids=["one"] * 5, **options)
    assert {fit.result for fit in copies} == {FitResult.CONVERGED}
    assert fit_faces.degrees_between(copies[3].camera.rotation, alone.camera.rotation) < 1e-3
    assert copies[3].camera.scale == pytest.approx(alone.camera.scale, rel=1e-5)
    identities = [fit.coefficients.identity / model.identity_stddevs for fit in (copies[3], alone)]
    np.testing.assert_allclose(*identities, atol=1e-3)
    together, single = posteriors_of_person(model, copies)[3], posterior(model, alone)
    np.testing.assert_allclose(together.rotation_stddev_deg, single.rotation_stddev_deg, rtol=1e-3)
    np.testing.assert_allclose(
        together.coefficient_stddevs().identity, single.coefficient_stddevs().identity, rtol=1e-3
    )


@pytest.mark.parametrize("contour", ["fixed", "march"])
def test_many_like_pictures_of_a_real_face_do_not_drag_it_out_of_the_model(contour):
    """A face that is none of the model's is so on every picture: with errors taken for independent, thirty pictures made
    the head half as large, its identity seven standard deviations off, and the fit did not converge."""
    model = load_built_in()
    landmarks = photograph_landmarks_px() + 0.5 * np.random.default_rng(12).normal(size=(30, 68, 2))
    options = {"image_size_hw": (512, 512), "config": FitConfig(contour=contour)}
    alone = fit_landmarks(model, landmarks[0], **options)
    fits = fit_landmarks(model, landmarks, person_ids=["she"] * 30, **options)
    assert {fit.result for fit in fits} == {FitResult.CONVERGED}
    assert fits[0].camera.scale == pytest.approx(alone.camera.scale, rel=0.1)
    assert np.abs(fits[0].coefficients.identity / model.identity_stddevs).max() < 3.5


def test_the_order_of_the_pictures_means_nothing(fit_faces):
    model = load_built_in()
    _, ids, landmarks = albums(fit_faces, model, 3, 2, seed=6, noise_px=1.0)
    order = np.array([4, 1, 3, 0, 5, 2])
    options = {"image_size_hw": fit_faces.SIZE_HW, "config": FitConfig(noise_px=1.0, step_tolerance=1e-8)}
    fits = fit_landmarks(model, landmarks, person_ids=ids, **options)
    shuffled = fit_landmarks(model, landmarks[order], person_ids=[ids[i] for i in order], **options)
    for place, i in enumerate(order):
        assert fit_faces.degrees_between(shuffled[place].camera.rotation, fits[i].camera.rotation) < 1e-4
        assert shuffled[place].source_id == str(place)


def test_a_picture_that_cannot_be_fitted_leaves_the_persons_others(fit_faces):
    model = load_built_in()
    _, ids, landmarks = albums(fit_faces, model, 1, 3, seed=7, noise_px=1.0)
    landmarks[1] = 100.0
    options = {"image_size_hw": fit_faces.SIZE_HW, "config": FitConfig(noise_px=1.0)}
    fits = fit_landmarks(model, landmarks, person_ids=ids, **options)
    assert [fit.result for fit in fits] == [FitResult.CONVERGED, FitResult.COLLINEAR, FitResult.CONVERGED]
    others = fit_landmarks(model, landmarks[[0, 2]], person_ids=ids[:2], **options)
    np.testing.assert_allclose(fits[2].coefficients.identity, others[1].coefficients.identity, rtol=1e-6, atol=1.0)


def test_contours_march_in_every_picture_of_a_person(fit_faces):
    model = load_built_in()
    people, ids, _ = albums(fit_faces, model, 2, 3, seed=8)
    landmarks = people.outlined_px("evenly")[0]
    fits = fit_landmarks(
        model, landmarks, person_ids=ids, image_size_hw=fit_faces.SIZE_HW, config=FitConfig(contour="march")
    )
    assert {fit.result for fit in fits} == {FitResult.CONVERGED}
    assert people.turned_deg(fits).mean() < 3


def test_a_person_is_surer_than_a_picture_and_as_sure_as_it_says(fit_faces):
    model = load_built_in()
    people, ids, landmarks = albums(fit_faces, model, 12, 3, seed=9, noise_px=1.0, from_prior=True)
    options = {"image_size_hw": fit_faces.SIZE_HW, "config": FitConfig(noise_px=1.0, shared_error=0.0)}
    fits = fit_landmarks(model, landmarks, person_ids=ids, **options)
    inside, scales = [], []
    for first in range(0, len(people), 3):
        sure = posteriors_of_person(model, fits[first : first + 3])
        alone = posterior(model, fits[first])
        stddevs = sure[0].coefficient_stddevs().identity
        assert (stddevs <= alone.coefficient_stddevs().identity + 1e-9).all()
        error = (fits[first].coefficients.identity - people.coefficients.identity[first]) / model.identity_stddevs
        inside.append(np.abs(error) < 1.96 * stddevs)
        scales += [
            abs(np.log(fits[first + i].camera.scale / people.scale[first + i])) < 1.96 * one.scale_stddev
            for i, one in enumerate(sure)
        ]
    assert 0.92 < np.mean(inside) < 0.98
    assert np.mean(scales) > 0.85


def test_persons_must_be_given_for_every_picture(fit_faces):
    with pytest.raises(ValueError, match="1 person ids were given for 2 faces"):
        fit_landmarks(load_built_in(), np.zeros((2, 68, 2)), image_size_hw=fit_faces.SIZE_HW, person_ids=["both"])

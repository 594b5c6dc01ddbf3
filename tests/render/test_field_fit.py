"""A model fitted to a field: the truth where the field is exact, and sense where it is coarse, noisy or wrong."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from geometry import cylindrical
from geometry.camera import ScaledOrthographicCamera
from geometry.fit import Fit, FitConfig, FitResult, fit_landmarks
from geometry.mesh import Mesh
from geometry.morphable_model import Coefficients
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.correspondence import CorrespondenceField, FieldTemplate, draw_field, with_eyes_closed
from render.field_fit import FieldFitter, fit_field
from render.field_landmarks import landmarks_of_field

NO_PARTS = np.zeros((2, 2), dtype=np.uint8)
SIZE_HW = (250, 230)
N_POINTS = 500
POSES = {"frontal": (0.1, 0.05, 0.0), "half": (-0.15, 0.6, 0.2), "sixty": (0.1, -1.05, -0.1)}  # pitch, yaw, roll


class Person:
    """One drawn head, its field, and how far fits are from it."""

    def __init__(self, model, template, pose, seed, scale=0.85):
        rng = np.random.default_rng(seed)
        self.model = model
        self.coefficients = Coefficients(model.draw_identity(rng), model.draw_expression(rng))
        self.camera = ScaledOrthographicCamera(scale, rotation_from_euler(*pose), np.array([112.3, 121.7, 0.0]))
        self.head = self.camera.project(model.vertices(self.coefficients)).astype(np.float64)
        self.field = draw_field(template, [self.head], size_hw=SIZE_HW)
        self.landmarks = self.head[model.landmark_vertices, :2]

    def error_mm(self, fit: Fit) -> float:
        """Mean distance of all vertices, model frame."""
        assert fit.result == FitResult.CONVERGED
        there, here = self.model.vertices(self.coefficients), self.model.vertices(fit.coefficients)
        return float(np.linalg.norm(there - here, axis=1).mean())

    def turned_deg(self, fit: Fit) -> float:
        return float(np.degrees(np.linalg.norm(fit.camera.rotation - self.camera.rotation) / np.sqrt(2)))

    def landmarks_off_px(self, fit: Fit) -> np.ndarray:
        places = fit.camera.project(self.model.vertices(fit.coefficients)[self.model.landmark_vertices])[:, :2]
        return np.linalg.norm(places - self.landmarks, axis=1)


@pytest.fixture(scope="module")
def template(built_in, own_atlas) -> FieldTemplate:
    return FieldTemplate.of(built_in, own_atlas, NO_PARTS)


@pytest.fixture(scope="module")
def people(built_in, template) -> dict[str, Person]:
    return {name: Person(built_in, template, pose, seed) for seed, (name, pose) in enumerate(POSES.items(), 30)}


@pytest.fixture(scope="module")
def fitter(built_in, template) -> FieldFitter:
    return FieldFitter.of(built_in, template)


@pytest.fixture(scope="module")
def clean_fits(people, fitter) -> dict[str, Fit]:
    return {
        name: fitter.fit(person.field.uv, person.field.is_face, n_points=N_POINTS) for name, person in people.items()
    }


@pytest.mark.parametrize("name", POSES)
def test_a_noise_free_field_leaves_at_most_a_third_of_the_error_that_68_exact_landmarks_leave(
    built_in, people, clean_fits, name
):
    person, fit = people[name], clean_fits[name]
    sparse = fit_landmarks(
        built_in, person.landmarks, image_size_hw=SIZE_HW, config=FitConfig(noise_px=0.1), source_ids="68"
    )
    assert person.error_mm(fit) < person.error_mm(sparse) / 3
    assert person.error_mm(fit) < 0.6
    assert person.turned_deg(fit) < 0.2
    assert np.percentile(person.landmarks_off_px(fit), 40) < 0.02  # hidden ones are the prior's
    assert fit.config.noise_px < 0.02  # it is found out that the field is exact


def test_the_fit_s_correspondences_are_few_lie_in_the_face_and_show_what_they_say(people, clean_fits):
    person, fit = people["half"], clean_fits["half"]
    assert 0.7 * N_POINTS < len(fit.landmarks_px) <= N_POINTS
    vertices = person.head[:, :2]
    drawn = np.einsum("pc,pcx->px", fit.points.weights, vertices[fit.points.corners])
    assert np.percentile(np.linalg.norm(fit.landmarks_px - drawn, axis=1), 95) < 0.02
    x, y = np.rint(fit.landmarks_px).astype(int).T
    assert person.field.is_face[y, x].mean() > 0.99
    # spread over all of it: no face pixel is far from a correspondence
    rows, columns = np.nonzero(person.field.is_face)
    gaps = [
        np.hypot(fit.landmarks_px[:, 0] - c, fit.landmarks_px[:, 1] - r).min()
        for r, c in zip(rows[::97], columns[::97], strict=True)
    ]
    assert max(gaps) < 2 * np.sqrt(len(rows) / N_POINTS)


def test_a_field_in_bins_with_residuals_fits_as_the_field_itself(people, fitter, clean_fits):
    from render.quantization import dequantize

    person = people["half"]
    classes, residual = person.field.quantized(10)
    fit = fitter.fit(dequantize(classes, residual, 10), person.field.is_face, n_points=N_POINTS)
    assert person.error_mm(fit) < 1.5 * person.error_mm(clean_fits["half"]) + 0.02


def test_bins_alone_fit_to_within_a_bin(people, fitter):
    """A coarse field is a noisy one: fifty bins of some six millimetres, without residuals."""
    person = people["half"]
    uv = ((np.minimum(np.floor(person.field.uv * 50), 49) + 0.5) / 50).astype(np.float32)
    fit = fitter.fit(uv, person.field.is_face, n_points=N_POINTS)
    assert person.error_mm(fit) < 4
    assert np.median(person.landmarks_off_px(fit)) < 1.5


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_wrong_pixels_anywhere_do_not_move_the_fit(people, fitter, share):
    person, rng = people["frontal"], np.random.default_rng(0)
    uv = person.field.uv.copy()
    wrong = person.field.is_face & (rng.random(SIZE_HW) < share)
    uv[wrong] = rng.random((wrong.sum(), 2))
    fit = fitter.fit(uv, person.field.is_face, n_points=N_POINTS)
    assert person.error_mm(fit) < 0.8
    assert person.turned_deg(fit) < 0.3


def test_a_patch_that_shows_another_place_is_let_go(people, fitter):
    """A hand before the chin that a network took for a cheek: a fifth of the face, alike wrong everywhere."""
    person = people["frontal"]
    rows, _ = np.nonzero(person.field.is_face)
    patch = person.field.is_face & (np.arange(SIZE_HW[0])[:, None] > np.quantile(rows, 0.8))
    uv = person.field.uv.copy()
    uv[patch] = 0.6 * uv[patch] + np.float32(0.3)
    fit = fitter.fit(uv, person.field.is_face, n_points=N_POINTS)
    assert person.error_mm(fit) < 1
    assert person.turned_deg(fit) < 0.3


def network_like(person: Person, spread: float) -> np.ndarray:
    """Errors that are alike over some ten pixels."""
    rng = np.random.default_rng(3)
    error = np.stack([gaussian_filter(rng.normal(size=SIZE_HW), 5) for _ in range(2)], axis=-1)
    return (person.field.uv + spread * error / error.std()).astype(np.float32)


def test_of_a_noisy_field_the_fit_s_landmarks_are_nearer_than_the_field_s_own_and_the_noise_is_known(
    built_in, people, fitter, own_atlas
):
    person = people["frontal"]
    uv = network_like(person, 0.01)
    fit = fitter.fit(uv, person.field.is_face, n_points=N_POINTS)
    (read,) = landmarks_of_field(uv, person.field.is_face, own_atlas.uv[built_in.landmark_vertices])
    alone = np.linalg.norm(read.pixels - person.landmarks, axis=1)
    assert person.landmarks_off_px(fit).mean() < 0.6 * alone.mean()
    twice = fitter.fit(network_like(person, 0.02), person.field.is_face, n_points=N_POINTS)
    assert 0.5 < fit.config.noise_px < 3
    assert 1.6 < twice.config.noise_px / fit.config.noise_px < 2.6


def test_only_the_face_s_pixels_are_looked_at(people, fitter, clean_fits):
    person = people["sixty"]
    uv = np.where(person.field.is_face[..., None], person.field.uv, np.float32(np.nan))
    fit = fitter.fit(uv, person.field.is_face, n_points=N_POINTS)
    expected = clean_fits["sixty"]
    np.testing.assert_array_equal(fit.landmarks_px, expected.landmarks_px)
    np.testing.assert_array_equal(fit.coefficients.identity, expected.coefficients.identity)


def test_each_of_two_faces_is_fitted_by_its_own_pixels(built_in, template, fitter):
    left = Person(built_in, template, POSES["frontal"], 5, scale=0.6)
    right = Person(built_in, template, POSES["half"], 6, scale=0.7)
    right.head = right.head + (70, 10, 0)
    left.head = left.head - (40, 0, 0)
    both = draw_field(template, [left.head, right.head], size_hw=SIZE_HW, scales=[0.6, 0.7])
    assert both.is_face.sum() > 1.2 * (both.face_index == 1).sum() > 0
    for index, person in enumerate((left, right)):
        fit = fitter.fit(both.uv, both.is_face & (both.face_index == index), n_points=N_POINTS, source_id=str(index))
        assert fit.source_id == str(index)
        assert person.error_mm(fit) < 1
        assert person.turned_deg(fit) < 0.3


def test_an_atlas_with_folds_and_a_seam_serves_as_well(built_in, template, fitter):
    """A cylinder's lids, lips and nostrils have two names, its back none; the rest says enough."""
    atlas = cylindrical(Mesh(built_in.mean_shape.astype(np.float64), with_eyes_closed(built_in)))
    assert atlas.folded.any()
    pose = (0.1, -1.3, 0.0)
    on_cylinder = FieldTemplate.of(built_in, atlas, NO_PARTS)
    person = Person(built_in, on_cylinder, pose, 9)
    fit = fit_field(built_in, on_cylinder, person.field.uv, person.field.is_face, n_points=N_POINTS)
    in_own = Person(built_in, template, pose, 9).field
    own = fitter.fit(in_own.uv, in_own.is_face, n_points=N_POINTS)
    assert person.error_mm(fit) < 1.3 * person.error_mm(own) + 0.1
    assert person.turned_deg(fit) < 0.3


def small(field: CorrespondenceField, n: int) -> np.ndarray:
    """A mask of the first n face pixels."""
    mask = np.zeros_like(field.is_face)
    rows, columns = np.nonzero(field.is_face)
    mask[rows[:n], columns[:n]] = True
    return mask


@pytest.mark.parametrize("n_pixels", [0, 3])
def test_a_field_without_a_face_is_a_result_and_no_error(people, fitter, n_pixels):
    person = people["frontal"]
    fit = fitter.fit(person.field.uv, small(person.field, n_pixels), source_id="empty")
    assert fit.result == FitResult.TOO_FEW_POINTS
    assert fit.source_id == "empty"
    assert np.isnan(fit.coefficients.identity).all()


def test_a_face_of_few_pixels_stays_near_the_prior(built_in, template, fitter):
    """A head of twenty pixels with an error of some six millimetres in each of them."""
    person = Person(built_in, template, POSES["frontal"], 8, scale=0.1)
    assert 100 < person.field.is_face.sum() < 1000
    rng = np.random.default_rng(0)
    uv = (person.field.uv + rng.normal(0, 0.02, person.field.uv.shape)).astype(np.float32)
    fit = fitter.fit(uv, person.field.is_face, n_points=80)
    assert fit.config.noise_px > 0.1
    assert person.error_mm(fit) < 8
    assert np.abs(fit.coefficients.in_stddevs(built_in).identity).max() < 4


def test_forty_points_that_228_modes_can_explain_do_not_show_that_a_field_is_exact(built_in, template, fitter):
    person = Person(built_in, template, POSES["frontal"], 9, scale=0.15)
    few = fitter.fit(person.field.uv, person.field.is_face, n_points=40)
    assert few.determined_modes > 0.4 * 2 * len(few.landmarks_px)
    assert few.config.noise_px > 0.03  # without regard to the modes 0.01
    many = fitter.fit(person.field.uv, person.field.is_face, n_points=500)
    assert many.config.noise_px < 0.02


def test_a_template_of_another_model_and_no_points_are_refused(built_in, sheet, people, fitter):
    with pytest.raises(ValueError, match="the template places 156 vertices and built-in has 53099"):
        FieldFitter.of(
            built_in, FieldTemplate.of_surface(sheet.triangles, UVAtlas(sheet.uv, sheet.triangles), NO_PARTS)
        )
    with pytest.raises(ValueError, match="a fit to 0 points"):
        fitter.fit(people["half"].field.uv, people["half"].field.is_face, n_points=0)

"""Laws of the built-in model's colours. Frozen numbers were taken from the code that made the shipped file."""

import numpy as np
import pytest

from geometry.albedo import AlbedoSampler, load_albedo_sampler
from geometry.built_in import BuiltInModel, load_built_in
from geometry.built_in_file import PARTS
from geometry.display_colour import GAMMA
from geometry.linear_albedo import LinearAlbedo


@pytest.fixture(scope="module")
def skin() -> BuiltInModel:
    return load_built_in()


@pytest.fixture(scope="module")
def whole() -> BuiltInModel:
    return load_built_in("all")


@pytest.fixture(scope="module")
def sampler(skin: BuiltInModel) -> AlbedoSampler:
    return load_albedo_sampler(skin)


@pytest.fixture(scope="module")
def linear(skin: BuiltInModel) -> LinearAlbedo:
    return LinearAlbedo(skin)


# seed: the mean over the skin; tip of the nose, upper lip, right brow, chin; the mean gloss
FROZEN = {
    1: (
        [0.417181, 0.221400, 0.172384],
        [[0.534330, 0.269995, 0.212105], [0.525655, 0.232987, 0.193431],
         [0.220626, 0.153979, 0.134915], [0.525605, 0.291108, 0.222343]],
        0.053282,
    ),
    3: (
        [0.490861, 0.243489, 0.203526],
        [[0.647364, 0.311137, 0.266070], [0.604377, 0.233016, 0.213663],
         [0.213742, 0.114794, 0.094671], [0.617446, 0.325635, 0.267749]],
        0.079870,
    ),
}  # fmt: skip


@pytest.mark.parametrize("seed", FROZEN)
def test_drawn_colours_never_change(sampler: AlbedoSampler, skin: BuiltInModel, seed: int) -> None:
    mean, places, gloss = FROZEN[seed]
    drawn = sampler.sample(np.random.default_rng(seed))
    np.testing.assert_allclose(drawn.albedo.mean(axis=0, dtype=np.float64), mean, atol=1e-4)
    np.testing.assert_allclose(drawn.albedo[skin.landmark_vertices[[30, 51, 19, 8]]], places, atol=1e-4)
    assert drawn.gloss.mean(dtype=np.float64) == pytest.approx(gloss, abs=1e-5)


@pytest.mark.parametrize("parts", [("skin", "eye_cavity", "mouth_cavity"), ("skin", "eyeball_l", "teeth_u"), PARTS])
def test_equal_generators_give_equal_people_on_any_parts(sampler: AlbedoSampler, parts: tuple[str, ...]) -> None:
    model = load_built_in(parts)
    on_parts, on_skin = load_albedo_sampler(model), model.part == 0
    for seed in range(3):
        first, second = np.random.default_rng(seed), np.random.default_rng(seed)
        more, less = on_parts.sample(first), sampler.sample(second)
        np.testing.assert_allclose(more.albedo[on_skin], less.albedo, atol=1e-6)
        np.testing.assert_allclose(more.gloss[on_skin], less.gloss, atol=1e-6)
        assert first.random() == second.random()  # the same number of draws


def test_colours_are_linear_rgb_and_people_differ(sampler: AlbedoSampler) -> None:
    drawn = [sampler.sample(np.random.default_rng(seed)) for seed in range(12)]
    albedo = np.stack([person.albedo for person in drawn])
    assert albedo.dtype == np.float32
    assert np.isfinite(albedo).all()
    assert albedo.min() >= 0.002 - 1e-9
    assert albedo.max() <= 1
    means = albedo.mean(axis=1)
    assert (means[:, 0] > means[:, 1]).all()  # skin is reddest in red, bluest in nothing
    assert (means[:, 1] > means[:, 2]).all()
    assert means[:, 0].max() > 1.5 * means[:, 0].min()
    assert all((person.gloss > 0).all() and (person.gloss < 0.5).all() for person in drawn)


def test_lips_are_redder_than_cheeks_and_brows_darker(sampler: AlbedoSampler, skin: BuiltInModel) -> None:
    for seed in range(6):
        albedo = sampler.sample(np.random.default_rng(seed)).albedo[skin.landmark_vertices]
        lips, jaw, brows, nose = albedo[50:53].mean(0), albedo[4], albedo[[19, 24]].mean(0), albedo[28]
        assert lips[0] / lips[1] > jaw[0] / jaw[1]
        assert brows.sum() < nose.sum()


def test_eyes_have_a_dark_pupil_and_a_pale_sclera(whole: BuiltInModel) -> None:
    drawn = load_albedo_sampler(whole).sample(np.random.default_rng(4))
    for name in ("eyeball_l", "eyeball_r"):
        eye = drawn.albedo[whole.part == PARTS.index(name)]
        angle = whole.file.eye_angle_deg
        assert eye[angle < 6].max() < 0.02
        assert eye[(angle > 30) & (angle < 40)].max(axis=0).min() > 0.3  # most of it lies in the lids' shade
        assert (drawn.gloss[whole.part == PARTS.index(name)] == np.float32(0.35)).all()


def test_no_albedo_coefficients_give_the_mean(linear: LinearAlbedo) -> None:
    np.testing.assert_array_equal(linear.albedo(np.zeros(199)), np.clip(linear.mean, 0, 1))


def test_projecting_linear_colours_gives_their_coefficients_back(linear: LinearAlbedo) -> None:
    coefficients = 0.2 * linear.stddevs * np.random.default_rng(5).normal(size=199)
    albedo = linear.albedo(coefficients)
    assert 0 < albedo.min() < albedo.max() < 1  # nothing was clipped
    np.testing.assert_allclose(linear.project(albedo) / linear.stddevs, coefficients / linear.stddevs, atol=1e-4)


def test_the_modes_explain_drawn_people_to_three_levels(linear: LinearAlbedo, sampler: AlbedoSampler) -> None:
    for seed in (31, 32):
        shown = sampler.sample(np.random.default_rng(seed)).albedo ** (1 / GAMMA)
        coefficients = linear.project(shown)
        residue = np.sqrt(((linear.albedo(coefficients) - shown) ** 2).mean()) * 255
        assert residue < 3
        assert residue < 0.4 * np.sqrt(((linear.mean - shown) ** 2).mean()) * 255
        assert np.abs(coefficients / linear.stddevs).max() < 4


def test_linear_colours_on_parts_are_cut_from_the_whole_head(
    linear: LinearAlbedo, skin: BuiltInModel, whole: BuiltInModel
) -> None:
    coefficients = 0.8 * linear.stddevs * np.random.default_rng(6).normal(size=199)
    on_whole = LinearAlbedo(whole).albedo(coefficients)
    np.testing.assert_allclose(on_whole[skin.template_vertices], linear.albedo(coefficients), atol=1e-6)


def test_albedo_columns_are_unit_vectors_in_levels_over_the_whole_template(whole: BuiltInModel) -> None:
    linear = LinearAlbedo(whole)
    for mode in (1, 50, 198):
        coefficients = np.zeros(199)
        coefficients[mode] = 0.2 * linear.stddevs[mode]
        moved = 255 * (linear.albedo(coefficients).astype(np.float64) - linear.mean)
        assert np.linalg.norm(moved) == pytest.approx(coefficients[mode], rel=5e-3)


def test_another_number_of_albedo_coefficients_is_refused(linear: LinearAlbedo) -> None:
    with pytest.raises(ValueError, match="80 albedo coefficients given, the built-in model has 199"):
        linear.albedo(np.zeros(80))

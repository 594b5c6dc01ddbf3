"""Augmented copies of a build: copy 0 is what it was, the others are what a reader's epochs draw, and labels agree."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from flows.atlases import own_atlas
from flows.config import PosmapConfig
from flows.local import build_here
from flows.posmaps import PosmapRecipe
from geometry import load_model
from render.atlas_raster import AtlasRaster, TexelSampler
from render.augmentation_config import AugmentationConfig, OcclusionConfig
from render.augmentation_draws import AugmentationDraw, draw_augmentation
from render.augmentation_presets import as_mixture
from render.crop import CropConfig
from render.spreads import Sometimes, Uniform
from storage.dataset import open_dataset
from train.reading_augmentation import ReadingAugmentation

AUGMENTATION = AugmentationConfig(
    rotation=Uniform(low=-0.6, high=0.6),
    scale=Uniform(low=0.85, high=1.1),
    translation=Uniform(low=-0.05, high=0.05),
    flip=0.5,
    gamma=Sometimes(amount=Uniform(low=0.8, high=1.3)),
    occlusion=OcclusionConfig(probability=0.5, kinds=("shape", "surface_mask"), size=Uniform(low=0.2, high=0.4)),
)
PLAIN = PosmapConfig(
    crop=CropConfig(size_px=128), shard_size=50, seed=9, targets=("posmap", "field"), field_atlas="maps"
)
AUGMENTED = PLAIN.model_copy(update={"copies": 3, "augment": as_mixture(AUGMENTATION)})


@pytest.fixture(scope="module")
def plain(sample_folder, tmp_path_factory):
    return open_dataset(build_here(PLAIN, source=sample_folder, out=tmp_path_factory.mktemp("plain"), workers=1).path)


@pytest.fixture(scope="module")
def built(sample_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("augmented")
    return open_dataset(build_here(AUGMENTED, source=sample_folder, out=out, workers=1).path)


def test_copy_zero_is_the_sample_of_a_plain_build(plain, built):
    assert len(built) == 3 * len(plain)
    for index in range(len(plain)):
        before, after = plain[index], built[3 * index]
        assert after["copy_index"] == 0
        for name in before:
            np.testing.assert_array_equal(after[name], before[name])
        assert not after["occluded"].any()
        np.testing.assert_array_equal(after["augmented_from_crop"], np.eye(3))


def test_copies_are_what_their_draws_say_and_are_recorded(plain, built):
    mirrored, occluded = set(), 0
    for index in range(len(built)):
        sample, before = built[index], plain[index // 3]
        copy = int(sample["copy_index"])
        assert copy == index % 3
        draw = draw_augmentation(AUGMENTED.augment, seed=9, source_id=sample["source_id"], copy_index=copy)
        assert AugmentationDraw.from_json(sample["augmentation"]) == draw
        assert sample["seed"] == draw.seed
        way = draw.geometric.augmented_from_crop(128)
        np.testing.assert_array_equal(sample["augmented_from_crop"], way.matrix)
        np.testing.assert_allclose(sample["crop_from_image"], way.matrix @ before["crop_from_image"])
        assert bool(sample["mirrored"]) == draw.geometric.flip
        assert sample["occluded"].any() == bool(draw.occluders)
        assert sample["z_offset_px"] == pytest.approx(before["z_offset_px"] * way.scale, abs=1e-3)
        mirrored.add(draw.geometric.flip)
        occluded += bool(draw.occluders)
    assert mirrored == {False, True}
    assert occluded > 3


@pytest.mark.parametrize("epoch", [0, 1])
def test_copy_k_is_what_a_reader_draws_in_epoch_k_minus_one(plain, built, epoch):
    reader = ReadingAugmentation(plain, AUGMENTED.augment, seed=9)
    names = ["image", "position_map", "landmarks_px", "mirrored", "crop_from_model", "covered"]
    read = reader.read(range(len(plain)), names, epoch)
    for index in range(len(plain)):
        stored = built[3 * index + epoch + 1]
        assert str(read["augmentation"][index]) == stored["augmentation"]
        np.testing.assert_allclose(read["landmarks_px"][index], stored["landmarks_px"], atol=2e-3)
        np.testing.assert_allclose(read["crop_from_model"][index], stored["crop_from_model"], atol=1e-4)
        error = np.linalg.norm(read["position_map"][index] - stored["position_map"], axis=-1)
        assert np.quantile(error, 0.97) < (0.7 if stored["mirrored"] else 0.03)  # re-sampled; of 1/64 px
        draw = AugmentationDraw.from_json(stored["augmentation"])
        if "surface_mask" not in {occluder.kind for occluder in draw.occluders}:
            np.testing.assert_array_equal(read["occluded"][index], stored["occluded"])
        # The picture was read once there and twice here, and black corners are not black there.
        seen = (read["image"][index] > 0).all(axis=-1)
        difference = np.abs(read["image"][index].astype(int) - stored["image"])[seen]
        assert difference.mean() < 4


def test_fields_of_augmented_copies_are_the_inverse_of_their_maps(built):
    raster = AtlasRaster.from_tables(*(built.table(f"atlas_{part}") for part in ("corners", "weights", "covered")))
    for index in range(len(built)):
        sample = built[index]
        rows, columns = np.nonzero(sample["label"] == 1)
        sampler = TexelSampler.at(raster, sample["uv"][rows, columns].astype(np.float64))
        whole = sample["covered"][sampler.rows, sampler.columns].all(axis=1)
        xyz = sampler.read(sample["position_map"])
        off = np.hypot(xyz[:, 0] - columns, xyz[:, 1] - rows)[whole]
        assert np.median(off) < 0.05  # of a mirrored copy too: uv and map hold the same side
        seen = sample["landmark_visible"]
        assert 20 < seen.sum() <= 68


def test_the_plain_config_is_written_as_it_always_was():
    assert "augment" not in PLAIN.model_dump()
    assert "augment" in AUGMENTED.model_dump()
    again = PosmapConfig.model_validate_json(AUGMENTED.model_dump_json())
    assert again == AUGMENTED
    assert json.loads(AUGMENTED.model_dump_json())["augment"]["portions"][0]["config"]["flip"] == 0.5


def test_an_augmentation_has_a_name_and_needs_copies():
    by_name = PosmapConfig.model_validate({"copies": 2, "augment": "prnet"})
    assert by_name.augment == as_mixture("prnet")
    with pytest.raises(ValidationError, match="copy 0 is never augmented: an augmentation needs --copies 2 or more"):
        PosmapConfig.model_validate({"augment": "prnet"})
    with pytest.raises(ValidationError, match="there is no augmentation 'blur'"):
        PosmapConfig.model_validate({"copies": 2, "augment": "blur"})


def test_a_model_that_does_not_know_left_from_right_is_not_mirrored():
    dense = load_model("built-in").dense()
    recipe = PosmapRecipe.of(AUGMENTED, dense, own_atlas(dense))
    with pytest.raises(ValueError, match="the augmentation mirrors, and built-in has no left-right permutation"):
        recipe.augmented.check(replace(dense, mirror=None))
    recipe.augmented.check(dense)


def test_fields_that_a_reader_moves_are_the_inverse_of_the_maps_that_it_moves(plain):
    reader = ReadingAugmentation(plain, AUGMENTED.augment, seed=9)
    read = reader.read(range(len(plain)), ["uv", "label", "position_map", "mirrored", "landmark_visible"], 0)
    raster = AtlasRaster.from_tables(*(plain.table(f"atlas_{part}") for part in ("corners", "weights", "covered")))
    assert set(read["mirrored"].tolist()) == {False, True}
    for index in range(len(plain)):
        rows, columns = np.nonzero(read["label"][index] == 1)
        sampler = TexelSampler.at(raster, read["uv"][index][rows, columns].astype(np.float64))
        xyz = sampler.read(read["position_map"][index])
        off = np.hypot(xyz[:, 0] - columns, xyz[:, 1] - rows)[raster.covered[sampler.rows, sampler.columns].all(axis=1)]
        assert np.median(off) < 0.6  # the nearest pixel's coordinates: up to 0.71 px off, 0.38 in the middle
        assert np.quantile(off, 0.9) < 1.5

"""Several families of targets from the same crops: they agree with each other, and a plain build is what it was."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from flows import build, presets
from flows.config import PosmapConfig
from flows.local import build_here
from flows.recipe import RECIPES, PlannedFile, PlannedPicture, Recipe, recipe_name, recipe_named
from geometry import load_model
from geometry.camera import apply_affine
from geometry.morphable_model import Coefficients
from render.atlas_raster import AtlasRaster, TexelSampler
from render.crop import CropConfig
from render.heatmaps import disc_radius, distance_heatmap, gaussian_heatmaps, part_discs, z_targets
from render.visibility import visible_vertices
from storage.dataset import ShardedDataset, open_dataset
from storage.local_store import LocalStore
from storage.verify import verify
from tests.folders import tree

spec = importlib.util.spec_from_file_location("field_proofs", Path(__file__).with_name("field_proofs.py"))
field_proofs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(field_proofs)

EVERYTHING = ("posmap", "field", "parts", "heatmaps")
CONFIG = PosmapConfig(crop=CropConfig(size_px=128), shard_size=5, targets=EVERYTHING, field_atlas="maps")
"""Three shards of the sample folder's 14 pictures; u and v count in the position maps' own atlas."""


@pytest.fixture(scope="module")
def built(sample_folder, tmp_path_factory) -> build.Published:
    return build_here(CONFIG, source=sample_folder, out=tmp_path_factory.mktemp("built"), workers=1)


@pytest.fixture(scope="module")
def dataset(built) -> ShardedDataset:
    return open_dataset(built.path)


@pytest.fixture(scope="module")
def samples(dataset) -> list[dict]:
    return [dataset[index] for index in range(len(dataset))]


def head_px(sample: dict) -> np.ndarray:
    vertices = load_model("built-in").vertices(Coefficients(sample["identity"], sample["expression"]))
    return apply_affine(sample["crop_from_model"], vertices)


def test_the_position_map_at_a_pixels_coordinates_is_that_pixel(samples, dataset):
    """Two targets drawn by different rasters, each read back from its own code: the field is the map's inverse."""
    raster = AtlasRaster.from_tables(*(dataset.table(f"atlas_{part}") for part in ("corners", "weights", "covered")))
    for sample in samples:
        rows, columns = np.nonzero(sample["label"] == 1)
        sampler = TexelSampler.at(raster, sample["uv"][rows, columns].astype(np.float64))
        xyz = sampler.read(sample["position_map"])
        whole = sample["covered"][sampler.rows, sampler.columns].all(axis=1)  # not on the atlas's rim
        off = np.hypot(xyz[:, 0] - columns, xyz[:, 1] - rows)[whole]
        assert whole.mean() > 0.9
        assert np.median(off) < 0.05
        features = (sample["part"][rows, columns] < 8)[whole]  # where texels are small, and not the neck's rim
        assert features.sum() > 100
        assert np.percentile(off[features], 95) < 0.5
        low, high = sample["depth_range_px"]
        z = low + sample["depth"][rows, columns] * (high - low)
        assert np.median(np.abs(xyz[:, 2] - z)[whole]) < 0.05


def test_a_visible_landmark_has_its_own_coordinates_in_the_field(samples, dataset):
    landmark_uv = dataset.table("vertex_uv")[load_model("built-in").landmark_vertices]
    distances = []
    for sample in samples:
        seen = sample["landmark_visible"]
        x, y = np.rint(sample["landmarks_px"][seen, :2]).astype(int).T
        distances.append(np.linalg.norm(sample["uv"][y, x] - landmark_uv[seen], axis=-1))
    assert np.median(np.concatenate(distances)) < 0.01
    assert np.concatenate(distances).size > 500


def test_what_is_read_back_leads_to_the_surface_and_to_its_parts(samples, dataset):
    off = np.concatenate([field_proofs.texels_off(sample, dataset, [head_px(sample)]) for sample in samples])
    assert np.median(off) < 0.3
    assert np.percentile(off, 99) < 2
    assert min(field_proofs.parts_agreement(sample, dataset, [head_px(sample)]) for sample in samples) > 0.995


def test_vertices_count_as_visible_as_a_finer_zbuffer_says(samples, dataset):
    triangles, n = dataset.table("field_triangles"), load_model("built-in").n_vertices
    for sample in samples[::5]:
        stored = np.unpackbits(sample["vertex_visible"], count=n).astype(bool)
        finer = visible_vertices(head_px(sample), triangles, size_hw=(128, 128))
        assert (stored == finer).mean() > 0.95
        assert 0.1 < stored.mean() < 0.6


def test_heatmaps_are_drawn_when_they_are_named_and_only_then(samples, dataset):
    assert "dan_heatmap" not in samples[0]
    read = dataset.read([2, 11], ["dan_heatmap", "landmark_discs", "landmark_heatmaps", "landmark_z"])
    for place, index in enumerate((2, 11)):
        points = samples[index]["landmarks_px"]
        xy = points[:, :2]
        np.testing.assert_array_equal(read["dan_heatmap"][place], distance_heatmap(xy, size_hw=(128, 128)))
        heatmaps = gaussian_heatmaps(xy, size_hw=(128, 128))
        np.testing.assert_array_equal(read["landmark_heatmaps"][place], np.moveaxis(heatmaps, 0, -1))
        discs = part_discs(xy, size_hw=(128, 128), radius_px=disc_radius(float(np.ptp(xy[:, 1]))))
        np.testing.assert_array_equal(read["landmark_discs"][place], np.moveaxis(discs, 0, -1))
        np.testing.assert_array_equal(read["landmark_z"][place], z_targets(points))
        np.testing.assert_allclose(samples[index]["face_box_px"], [*xy.min(axis=0), *xy.max(axis=0)])
    assert dataset.read([], ["landmark_heatmaps", "landmark_z"])["landmark_heatmaps"].shape == (0, 128, 128, 68)
    with pytest.raises(KeyError, match="landmark_discs"):
        dataset.read([0], ["heat"])


def test_each_family_alone_stores_what_it_stores_in_company(samples, sample_folder, tmp_path):
    for targets in (("field",), ("parts", "heatmaps")):
        # In other shards, so that the z-buffer draws each sample in another company.
        config = CONFIG.model_copy(update={"targets": targets, "shard_size": 14})
        alone = open_dataset(build_here(config, source=sample_folder, out=tmp_path, workers=1).path)
        assert "position_map" not in alone.schema.names
        for index in (0, 7, 13):
            for name, value in alone[index].items():
                np.testing.assert_array_equal(value, samples[index][name], err_msg=name)


def test_the_maps_and_crops_are_those_of_a_plain_build(samples, sample_folder, tmp_path):
    plain = open_dataset(
        build_here(PosmapConfig(crop=CropConfig(size_px=128)), source=sample_folder, out=tmp_path, workers=1).path
    )
    for index in range(14):
        for name, value in plain[index].items():
            np.testing.assert_array_equal(value, samples[index][name], err_msg=name)


def test_the_number_of_workers_changes_no_byte(built, sample_folder, tmp_path):
    assert verify(LocalStore(built.path)) == []
    again = build_here(CONFIG, source=sample_folder, out=tmp_path, workers=2)
    assert tree(again.path) == tree(built.path)


def test_copies_have_fields_of_their_own(sample_folder, tmp_path):
    config = CONFIG.model_copy(update={"copies": 2, "targets": ("posmap", "field")})
    dataset = open_dataset(build_here(config, source=sample_folder, out=tmp_path, workers=1).path)
    assert len(dataset) == 28
    raster = AtlasRaster.from_tables(*(dataset.table(f"atlas_{part}") for part in ("corners", "weights", "covered")))
    for index in (0, 1, 2, 27):
        sample = dataset[index]
        rows, columns = np.nonzero(sample["label"] == 1)
        xyz = TexelSampler.at(raster, sample["uv"][rows, columns].astype(np.float64)).read(sample["position_map"])
        assert np.median(np.hypot(xyz[:, 0] - columns, xyz[:, 1] - rows)) < 0.05


def test_the_contact_sheet_shows_every_family(built, dataset):
    import cv2

    from flows.sheets import sample_sheet

    sheet = cv2.imread(str(built.contact_sheet))
    assert sheet.shape == (12 * (160 + 18), 10 * 160, 3)  # five panels of the map, four of the field, DAN's
    assert sample_sheet(dataset, 3, side=96).shape[1] == 3 * 96


# -------------------------------------------------------------------------------------------------------------- config


def test_a_config_without_new_targets_is_written_as_it_always_was():
    """Its digest is in every fingerprint: a field more would make another version of every data set there is."""
    assert set(PosmapConfig().model_dump(mode="json")) == {
        "name", "crop", "maps", "atlas", "copies", "compat", "seed", "landmark_tolerance", "shard_size",
    }  # fmt: skip
    assert PosmapConfig.model_validate(CONFIG.model_dump(mode="json")) == CONFIG
    assert CONFIG.model_dump(mode="json")["targets"] == list(EVERYTHING)


def test_the_order_in_which_targets_are_named_means_nothing():
    config = presets.posmaps_300wlp(targets=["heatmaps", "field", "posmap", "field"])
    assert config.targets == ("posmap", "field", "heatmaps")
    for wrong in ([], ["depth"]):
        with pytest.raises(ValidationError):
            presets.posmaps_300wlp(targets=wrong)


def test_a_mask_needs_the_parts(sample_folder, tmp_path):
    config = CONFIG.model_copy(update={"targets": ("posmap",)})
    with pytest.raises(ValueError, match="belongs to the targets `parts`"):
        build.planned_build(
            config, source=sample_folder, model="built-in", out=tmp_path, files={"mask": tmp_path / "mask.png"}
        )


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_found_by_its_configs_class_and_is_whole(name):
    recipe = recipe_named(name)
    assert issubclass(recipe, Recipe)
    assert recipe.config_type.__name__ == name
    assert not getattr(recipe, "__abstractmethods__", None)
    assert recipe_name(recipe.config_type()) == name


@pytest.mark.parametrize("n_files", [0, 1, 2, 5])
def test_a_planned_picture_survives_being_listed(n_files):
    files = tuple(PlannedFile(f"a/{k}.mat", f"{k:064d}") for k in range(n_files))
    picture = PlannedPicture("a/b", files, "x.y" if not n_files else "", "why" if not n_files else "")
    assert PlannedPicture.of_listed(picture.listed()) == picture
    assert len(picture.listed()) == max(7, 3 + 2 * n_files)


@pytest.mark.parametrize(
    ("preset", "given", "strange"),
    [("densereg-fields", {"maps": "parametric"}, "--maps"), ("300wlp-posmaps", {"longest": 300}, "--longest")],
)
def test_an_option_of_another_data_set_is_refused_by_name(preset, given, strange):
    with pytest.raises(ValueError, match=f"{strange} does not belong to this data set; it takes --"):
        presets.PRESETS[preset].config_of(given)

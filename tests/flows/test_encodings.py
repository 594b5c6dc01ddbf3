"""Builds with other encodings of pictures and maps: what readers get, and that the default is what it was."""

import hashlib
import json

import numpy as np
import pytest
import zarr
from pydantic import ValidationError

from flows.build import build_shard, draft_of, opened_build, publish_with
from flows.config import PosmapConfig
from flows.posmap_statistics import merged
from flows.presets import posmaps_300wlp
from render.augmentation_presets import as_mixture
from storage.dataset import open_dataset
from storage.publish import publish
from storage.stores import store_at
from storage.verify import verify
from train.loader import make_loader

SIZE = 128


@pytest.fixture(scope="module")
def built(sample_folder, tmp_path_factory):
    """Data sets of the same pictures, two copies of each, by the changes to the config; without sheets and cards."""
    out = tmp_path_factory.mktemp("encodings")
    made = {}

    def publish_new(version, job):
        publish(version, draft_of(version, job.plan, merged))

    def build(**changes):
        key = json.dumps(changes, sort_keys=True)
        if key not in made:
            config = posmaps_300wlp(size_px=SIZE, copies=2, **changes)
            with opened_build(config, source=sample_folder, model="built-in", out=out) as opened:
                for shard in opened.missing_shards:
                    build_shard(opened.job, shard)
                made[key] = publish_with(opened, publish_new).path
        return open_dataset(made[key])

    return build


def test_every_choice_is_a_version_of_its_own_and_the_default_is_written_as_it_always_was(built):
    plain = built()
    assert "images" not in plain.manifest.plan.config
    others = [
        built(images="jpeg:90"),
        built(images="source"),
        built(images="uncompressed", maps="uncompressed"),
        built(maps="float"),
        built(maps="parametric"),
    ]
    versions = [dataset.manifest.version for dataset in (plain, *others)]
    assert len(set(versions)) == len(versions)
    assert built(images="lossless", maps="materialized").manifest.version == plain.manifest.version
    for dataset in others:
        assert verify(store_at(dataset.path)) == []
        assert set(dataset.schema.names) == set(plain.schema.names)
        for name in ("landmarks_px", "crop_from_image", "pose", "seed"):
            np.testing.assert_array_equal(dataset.read(slice(None))[name], plain.read(slice(None))[name])


def test_the_crop_of_the_sources_own_file_is_the_crop_that_the_builder_would_store(built, sample_folder):
    plain, source = built(), built(images="source")
    np.testing.assert_array_equal(source.read(slice(None))["image"], plain.read(slice(None))["image"])
    assert np.moveaxis(source.read([0])["image"], -1, 1).flags.c_contiguous
    files = {hashlib.sha256(path.read_bytes()).hexdigest() for path in sample_folder.rglob("*.jpg")}
    stored = source.read(slice(None), ["photograph"])["photograph"]
    assert {hashlib.sha256(content).hexdigest() for content in stored} == files
    assert "photograph" not in source.schema.names


def test_uncompressed_is_the_same_content_in_chunks_of_plain_numbers(built):
    plain, loose = built(), built(images="uncompressed", maps="uncompressed")
    n, texels = len(plain), SIZE * SIZE * 3
    for name, bytes_of_a_number in (("image", 1), ("position_map", 2)):
        np.testing.assert_array_equal(*(dataset.read(slice(None), [name])[name] for dataset in (plain, loose)))
        at_least = n * texels * bytes_of_a_number
        kept = sum(info.bytes for info in loose.manifest.objects if info.key.startswith(f"{name}/c."))
        assert at_least < kept < 1.01 * at_least + 5000
        array = zarr.open_group(loose.path, mode="r")[name]
        assert [codec.to_dict()["name"] for codec in array.metadata.codecs[0].codecs] == ["bytes", "crc32c"]


def test_a_jpeg_loses_what_the_manifest_says(built):
    plain, jpeg = (built(**images).read(slice(None))["image"] for images in ({}, {"images": "jpeg:90"}))
    lost = np.square(jpeg.astype(np.float64) - plain).mean(axis=(1, 2, 3))
    decibels = 10 * np.log10(255**2 / lost)
    stated = built(images="jpeg:90").manifest.statistics["image_psnr_db"]
    assert stated["n"] == len(plain)
    assert stated["mean"] == pytest.approx(decibels.mean(), abs=1e-3)
    assert stated["worst"] == pytest.approx(decibels.min(), abs=1e-3)
    assert stated["worst"] > 35
    assert "image_psnr_db" not in built().manifest.statistics


def test_every_encoding_of_a_map_is_off_by_no_more_than_it_states(built):
    exact = built(maps="float")
    truth = exact.read(slice(None), ["position_map"])["position_map"]
    assert exact.schema["position_map"].attributes["precision"] == 0
    for maps in ("materialized", "parametric"):
        dataset = built(maps=maps)
        target = dataset.schema["position_map"]
        off = np.abs(dataset.read(slice(None), ["position_map"])["position_map"] - truth).max()
        assert off <= (target.precision or target.code.precision)
        assert (off > 1e-3) == (maps == "materialized")  # fixed point rounds, and the comparison is not of one thing


@pytest.mark.parametrize("images", ["jpeg:90", "source"])
def test_pictures_of_every_encoding_are_augmented_while_reading(built, images):
    options = {
        "batch_size": 4,
        "shards_in_flight": 0,
        "targets": ["image", "landmarks_px", "position_map"],
        "augment": "prnet",
    }
    plain, other = (next(iter(make_loader(built(**one), **options))) for one in ({}, {"images": images}))
    assert plain["augmentation"] == other["augmentation"]
    np.testing.assert_array_equal(plain["landmarks_px"], other["landmarks_px"])
    assert float((plain["image"] - other["image"]).abs().mean()) < 0.02


@pytest.mark.parametrize("images", ["png", "jpeg", "jpeg:0", "jpeg:101", "jpeg:95.5", "Source", "jpeg:95 "])
def test_an_encoding_that_does_not_exist_is_refused(images):
    with pytest.raises(ValidationError, match="images"):
        PosmapConfig(images=images)


def test_augmented_copies_are_no_crops_of_their_source():
    with pytest.raises(ValidationError, match="no crop of its source's file"):
        PosmapConfig(images="source", copies=2, augment=as_mixture("prnet"))
    assert PosmapConfig(images="jpeg:95", copies=2, augment=as_mixture("prnet")).jpeg_quality == 95

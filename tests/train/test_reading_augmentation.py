"""Augmentation while reading: each sample as if drawn alone, by any worker and on any device, another one each epoch."""

import json

import numpy as np
import pytest
import torch

from geometry import load_model
from geometry.frames import texel_from_uv
from geometry.morphable_model import Coefficients
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, TexelSampler
from render.augmentation import augment_sample
from render.augmentation_config import AugmentationConfig, OcclusionConfig
from render.augmentation_draws import AugmentationDraw, draw_augmentation
from render.augmentation_presets import as_mixture
from render.mirrored_atlas import MirroredAtlas
from render.spreads import Sometimes, Uniform
from storage.dataset import open_dataset
from storage.face_targets import position_map_schema
from storage.local_store import LocalStore
from storage.manifest import DatasetPlan, ModelInfo, SourceInfo, table_digests
from storage.publish import draft_manifest, publish, start_version
from storage.schema import Schema, Target
from storage.shards import ShardWriter
from train.loader import make_loader

SIZE = 48
TARGETS = ["image", "position_map", "landmarks_px", "crop_from_image", "mirrored", "source_id", "covered"]
AUGMENTATION = AugmentationConfig(
    rotation=Uniform(low=-0.5, high=0.5),
    scale=Uniform(low=0.8, high=1.2),
    flip=0.5,
    channel_scale=Sometimes(amount=Uniform(low=0.7, high=1.3)),
    occlusion=OcclusionConfig(
        probability=0.7, kinds=("shape", "surface_mask", "patch"), size=Uniform(low=0.2, high=0.4)
    ),
    blur=Sometimes(probability=0.3, amount=Uniform(low=0.5, high=1)),
    noise=Sometimes(probability=0.3, amount=Uniform(low=1, high=9)),
    jpeg=Sometimes(probability=0.2, amount=Uniform(low=50, high=90)),
)


@pytest.fixture(scope="module")
def world():
    """The built-in model, its atlas as a raster, and that atlas's counterparts."""
    model = load_model("built-in")
    atlas = UVAtlas(model.uv.astype(np.float64), np.concatenate([model.triangles, model.closing_triangles]))
    raster = AtlasRaster(atlas, SIZE)
    return model, raster, MirroredAtlas.of(atlas, raster, model.mirror)


@pytest.fixture(scope="module", params=["materialized", "parametric"])
def folder(request, tmp_path_factory, world):
    return published(tmp_path_factory.mktemp("out"), request.param, world)


def published(out, maps, world):
    model, raster, _ = world
    tables = {
        "atlas_corners": raster.corners,
        "atlas_weights": raster.weights,
        "atlas_covered": raster.covered.astype(np.uint8),
    }
    sampler = TexelSampler.at(raster, model.uv[model.landmark_vertices].astype(np.float64))
    tables |= {"vertex_uv": model.uv, "triangles": np.concatenate([model.triangles, model.closing_triangles])}
    tables |= {f"landmark_{part}": getattr(sampler, part) for part in ("rows", "columns", "weights")}
    schema = position_map_schema(
        image_size=SIZE, map_size=SIZE, n_identity=model.n_identity, n_expression=model.n_expression, maps=maps
    )
    plan = DatasetPlan(
        name="few",
        config={},
        recipe_version=1,
        model=ModelInfo(name=model.name, fingerprint=model.fingerprint),
        sources=(SourceInfo(kind="numbers", n_files=0, fingerprint="0"),),
        sample_schema=schema,
        tables=table_digests(tables),
        shard_size=4,
        n_slots=7,
    )
    store = LocalStore(out / "few" / plan.version)
    start_version(store, plan, tables)
    for shard in range(plan.n_shards):
        writer = ShardWriter(store, plan, shard)
        for slot in plan.slots(shard):
            sample = made(slot, model, raster)
            writer.add(slot, {target.name: sample[target.name] for target in schema.targets})
        writer.finish()
    publish(store, draft_manifest(store, plan))
    return store.root


def made(slot, model, raster):
    rng = np.random.default_rng(slot)
    coefficients = Coefficients(model.draw_identity(rng), model.draw_expression(rng))
    affine = np.array([[0.2, 0.02, 0.03, 24.5], [0.02, -0.2, 0.04, 21.0], [0.03, 0.04, 0.2, 30.0]])
    vertices = model.vertices(
        Coefficients(*(c.astype(np.float32) for c in (coefficients.identity, coefficients.expression)))
    )
    y, x = np.mgrid[:SIZE, :SIZE]
    picture = np.stack([5 * x, 5 * y, 128 + 100 * np.sin(0.3 * x + 0.2 * y + slot)], axis=-1).astype(np.uint8)
    landmarks = vertices[model.landmark_vertices] @ affine[:, :3].T + affine[:, 3]
    return {
        "image": picture,
        "position_map": raster.apply(vertices, affine),
        "landmarks_px": landmarks.astype(np.float32),
        "landmark_residual_px": np.float32(1.0),
        "identity": coefficients.identity.astype(np.float32),
        "expression": coefficients.expression.astype(np.float32),
        "pose": np.arange(7.0),
        "crop_from_image": np.eye(3),
        "crop_from_model": affine,
        "z_offset_px": np.float64(3.0),
        "mirrored": np.bool_(False),
        "source_id": f"AFW/{slot}",
        "copy_index": np.int32(0),
        "seed": np.int64(slot),
    }


def batches(folder, **options):
    options = {"batch_size": 3, "seed": 11, "targets": TARGETS, "augment": AUGMENTATION} | options
    return list(make_loader(folder, **options))


def joined(several, name):
    values = [batch[name] for batch in several]
    return torch.cat(values).numpy() if isinstance(values[0], torch.Tensor) else [v for value in values for v in value]


def test_every_sample_is_what_its_own_draw_makes_of_it(folder, world):
    model, _, mirrored_atlas = world
    dataset = open_dataset(folder)
    read = batches(folder, epoch=2, batch_size=7)[0]
    kinds, flips = set(), set()
    for row, source in enumerate(read["source_id"]):
        draw = draw_augmentation(as_mixture(AUGMENTATION), seed=11, source_id=source, copy_index=3)
        assert AugmentationDraw.from_json(read["augmentation"][row]) == draw
        sample = {name: dataset[int(source.split("/")[1])][name] for name in TARGETS}
        alone = augment_sample(
            sample, draw, atlas=mirrored_atlas,
            landmark_texels=texel_from_uv(model.uv[model.landmark_vertices].astype(np.float64), SIZE),
            donor=lambda place: dataset[int(place * len(dataset))]["image"],
        )  # fmt: skip
        kinds |= {occluder.kind for occluder in draw.occluders}
        flips.add(draw.geometric.flip)
        image = np.rint(np.moveaxis(read["image"][row].numpy(), 0, -1) * 255)
        if "surface_mask" in {o.kind for o in draw.occluders}:  # parametric maps are mirrored more exactly
            assert (np.abs(image - alone["image"]).max(axis=-1) > 40).mean() < 0.02
        else:
            np.testing.assert_array_equal(image, alone["image"])
            np.testing.assert_array_equal(read["occluded"][row], alone["occluded"])
        np.testing.assert_allclose(read["landmarks_px"][row], alone["landmarks_px"], atol=1e-4)
        np.testing.assert_allclose(read["crop_from_image"][row], alone["crop_from_image"])
        np.testing.assert_allclose(read["augmented_from_crop"][row], alone["augmented_from_crop"])
        assert bool(read["mirrored"][row]) == draw.geometric.flip
        error = np.abs(np.moveaxis(read["position_map"][row].numpy(), 0, -1) - alone["position_map"]).max(axis=-1)
        assert np.quantile(error, 0.97) < 0.5
        assert np.median(error) < 0.05
    assert kinds == {"shape", "surface_mask", "patch"}
    assert flips == {False, True}


def assert_equal_batches(here, there):
    for name in ("source_id", "augmentation"):
        assert joined(here, name) == joined(there, name)
    for name in ("occluded", "landmarks_px", "position_map", "augmented_from_crop"):
        np.testing.assert_array_equal(joined(here, name), joined(there, name))
    # one level of floating point's rounding, except behind JPEG, which makes more of it
    sharp = np.array([json.loads(draw)["photometric"]["jpeg_quality"] is None for draw in joined(here, "augmentation")])
    levels = np.abs(joined(here, "image") - joined(there, "image")) * 255
    assert levels[sharp].max() <= 1.001
    assert levels.mean() < 0.05


def test_the_device_does_what_the_reader_does(folder):
    assert_equal_batches(batches(folder), batches(folder, augment_on="device"))


def test_workers_change_nothing_and_know_the_epoch(tmp_path, world):
    folder = published(tmp_path, "materialized", world)
    options = {"batch_size": 3, "seed": 11, "targets": TARGETS, "augment": AUGMENTATION}
    here = make_loader(folder, **options)
    there = make_loader(folder, workers=2, augment_on="device", **options)
    for _ in range(2):
        assert_equal_batches(list(here), list(there))


def test_epochs_differ_repeat_and_go_on_where_they_were_left(folder):
    by_source = [
        dict(zip(joined(several, "source_id"), joined(several, "augmentation"), strict=True))
        for several in (batches(folder, epoch=0), batches(folder, epoch=1), batches(folder, epoch=1))
    ]
    assert by_source[1] == by_source[2]
    assert all(by_source[0][source] != by_source[1][source] for source in by_source[0])

    options = {"batch_size": 2, "seed": 11, "targets": TARGETS, "augment": AUGMENTATION}
    whole = [batch["augmentation"] for batch in make_loader(folder, **options)]
    broken, resumed = make_loader(folder, **options), make_loader(folder, **options)
    iterator = iter(broken)
    next(iterator), next(iterator)
    resumed.load_state_dict(broken.state_dict())
    assert [batch["augmentation"] for batch in resumed] == whole[2:]


def test_only_the_targets_asked_for_come_and_what_was_drawn(folder):
    batch = batches(folder, targets=["image", "landmarks_px"])[0]
    assert set(batch) == {"image", "landmarks_px", "occluded", "augmented_from_crop", "augmentation"}
    assert batch["image"].dtype == torch.float32
    plain = next(iter(make_loader(folder, batch_size=2, targets=["image"])))
    assert set(plain) == {"image"}


def test_a_name_is_enough(folder):
    batch = next(iter(make_loader(folder, batch_size=2, targets=["image"], augment="prnet:2+dan")))
    assert len(batch["augmentation"]) == 2
    with pytest.raises(ValueError, match="there is no augmentation 'prnett'"):
        make_loader(folder, batch_size=2, augment="prnett")


def test_targets_that_cannot_move_are_refused_before_anything_is_read(tmp_path):
    schema = Schema(
        targets=(
            Target(name="image", dtype="uint8", sample_shape=(8, 8, 3), description="", channels_first=True),
            Target(name="taste", dtype="float32", sample_shape=(2,), description=""),
        )
    )
    plan = DatasetPlan(
        name="odd", config={}, recipe_version=1, model=ModelInfo(name="nobody", fingerprint="0"),
        sources=(SourceInfo(kind="numbers", n_files=0, fingerprint="0"),), sample_schema=schema, shard_size=1, n_slots=1,
    )  # fmt: skip
    store = LocalStore(tmp_path / "odd" / plan.version)
    start_version(store, plan)
    writer = ShardWriter(store, plan, 0)
    writer.add(0, {"image": np.zeros((8, 8, 3), np.uint8), "taste": np.zeros(2, np.float32)})
    writer.finish()
    publish(store, draft_manifest(store, plan))
    with pytest.raises(ValueError, match="an augmented sample cannot have taste"):
        make_loader(store.root, batch_size=1, augment="prnet")
    with pytest.raises(ValueError, match="occluders on the surface need the target position_map, which odd lacks"):
        make_loader(store.root, batch_size=1, targets=["image"], augment="everything")

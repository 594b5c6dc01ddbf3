"""Reading: what was written, or an exception; never a fill value, never a neighbour's sample."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.camera import apply_affine
from geometry.model_archive import open_model, save_model
from geometry.morphable_model import Coefficients, DenseModel
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster
from storage import dataset as dataset_module
from storage.codes import FixedPoint
from storage.dataset import open_dataset
from storage.decoding import MissingModel
from storage.face_targets import position_map_schema
from storage.local_store import LocalStore
from storage.manifest import (
    DatasetPlan,
    ModelInfo,
    NewerFormat,
    SourceInfo,
    Unpublished,
    read_manifest,
    table_digests,
)
from storage.publish import draft_manifest, publish, start_version
from storage.schema import DerivedTarget, Schema
from storage.shards import ShardWriter
from storage.store import DamagedObject, MissingObject
from storage.verify import verify

GOOD = [0, 1, 2, 4, 5, 6, 7, 9]
"""The slots of the toy data set that hold a sample."""


@pytest.fixture(scope="module")
def toy_dataset(tmp_path_factory, build):
    out = tmp_path_factory.mktemp("out")
    build(out)
    return open_dataset(out / "toy")


@pytest.fixture
def breakable(tmp_path, build):
    manifest = build(tmp_path)
    return open_dataset(tmp_path / "toy"), LocalStore(tmp_path / "toy" / manifest.version)


def assert_is_sample(read, written):
    for name, value in written.items():
        if name == "position_map":
            assert np.abs(read[name] - value).max() <= 1 / 128
        else:
            np.testing.assert_array_equal(read[name], value)


# --------------------------------------------------------------------------------------------------------- what is read


def test_samples_are_dense_over_the_good_slots(toy_dataset, sample, tables):
    assert len(toy_dataset) == len(GOOD)
    assert toy_dataset.slots(slice(None)).tolist() == GOOD
    assert toy_dataset.shard_sizes.tolist() == [3, 4, 1]
    for index, slot in enumerate(GOOD):
        assert_is_sample(toy_dataset[index], sample(slot))
        assert_is_sample(toy_dataset[index - len(GOOD)], sample(slot))
        np.testing.assert_array_equal(toy_dataset[index]["covered"], tables["atlas_covered"] == 1)


def test_a_sample_has_the_types_of_its_schema(toy_dataset):
    read = toy_dataset[2]
    assert tuple(read) == toy_dataset.schema.names
    for name in ("image", "position_map", "landmarks_px", "crop_from_image", "covered"):
        target = toy_dataset.schema[name]
        assert (read[name].shape, str(read[name].dtype)) == (target.sample_shape, target.dtype)
    assert [type(read[name]) for name in ("seed", "mirrored", "source_id")] == [int, bool, str]


def test_pictures_are_views_of_channels_first_memory(toy_dataset):
    batch = toy_dataset.read([0, 1])
    assert np.moveaxis(batch["image"], -1, 1).flags.c_contiguous
    assert np.moveaxis(batch["position_map"], -1, 1).flags.c_contiguous


@given(indices=st.lists(st.integers(-len(GOOD), len(GOOD) - 1), max_size=12))
def test_a_batch_is_its_samples_in_any_order_and_repetition(toy_dataset, sample, indices):
    batch = toy_dataset.read(indices)
    for row, index in enumerate(indices):
        assert_is_sample({name: values[row] for name, values in batch.items()}, sample(GOOD[index]))
    assert all(len(values) == len(indices) for values in batch.values())


def test_small_targets_that_are_read_together_are_the_same(toy_dataset, sample, monkeypatch):
    monkeypatch.setattr("storage.dataset.READ_TOGETHER", 1)
    indices = [6, 0, 3, 3, 7, 1]
    batch = toy_dataset.read(indices)
    for row, index in enumerate(indices):
        assert_is_sample({name: values[row] for name, values in batch.items()}, sample(GOOD[index]))


def test_slices_and_arrays_are_indices(toy_dataset):
    assert toy_dataset.read(slice(1, 6, 2))["seed"].tolist() == toy_dataset.read([1, 3, 5])["seed"].tolist()
    assert toy_dataset.read(np.array([-1], dtype=np.int32))["seed"].tolist() == [9 * 1_000_003]
    assert [sample["seed"] for sample in toy_dataset] == toy_dataset.read(slice(None))["seed"].tolist()


def test_only_the_targets_asked_for_are_read(breakable):
    dataset, store = breakable
    for key in list(store.list("image/c")):
        store.delete(key)
    assert set(dataset.read([0], ["seed", "covered"])) == {"seed", "covered"}
    with pytest.raises(MissingObject):
        dataset.read([0], ["image"])
    with pytest.raises(KeyError, match="no target 'depth' in this data set"):
        dataset.read([0], ["depth"])


@pytest.mark.parametrize("index", [8, -9, 10**6])
def test_an_index_outside_says_how_many_there_are(toy_dataset, index):
    with pytest.raises(IndexError, match=f"sample {index} is outside this data set of 8 samples"):
        toy_dataset[index]
    with pytest.raises(IndexError):
        toy_dataset.read([0, index])


@pytest.mark.parametrize("index", [2**63, 2**64 - 1, 2**64, -(2**63) - 1])
def test_a_number_that_no_int64_holds_is_no_other_sample(toy_dataset, index):
    with pytest.raises(IndexError):
        toy_dataset.slots([index])


def test_a_mask_is_no_list_of_indices(toy_dataset):
    with pytest.raises(IndexError, match=r"indices are a list of whole numbers, not bool of shape \(8,\)"):
        toy_dataset.read([True] * 8)


# ----------------------------------------------------------------------------------------------- processes and threads


def test_a_copy_opens_its_own_files(toy_dataset):
    toy_dataset.read([0])
    other = copy.deepcopy(toy_dataset)  # what pickling to a worker does
    assert not other._readers
    np.testing.assert_array_equal(other[3]["image"], toy_dataset[3]["image"])


def test_threads_may_share_a_data_set_whose_files_do_not_all_fit(breakable, sample, monkeypatch):
    dataset, _ = breakable
    monkeypatch.setattr(dataset_module, "OPEN_OBJECTS", 3)
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, len(GOOD), 5) for _ in range(60)]
    with ThreadPoolExecutor(8) as pool:
        for indices, batch in zip(batches, pool.map(dataset.read, batches), strict=True):
            for row, index in enumerate(indices):
                assert_is_sample({name: values[row] for name, values in batch.items()}, sample(GOOD[index]))
    assert len(dataset._readers) <= 3


# --------------------------------------------------------------------------------------------------------------- damage


def test_a_missing_shard_is_an_error_and_not_zeros(breakable):
    dataset, store = breakable
    store.delete("seed/c.1")
    with pytest.raises(MissingObject, match=r"object seed/c\.1 is missing; a missing object is never read as zeros"):
        dataset[4]
    assert dataset[0]["seed"] == 0


def test_shards_that_changed_places_are_noticed_though_their_sizes_agree(tmp_path, build):
    build(tmp_path, holes=())
    dataset = open_dataset(tmp_path / "toy")
    store = LocalStore(dataset.path)
    first, second = store.get("seed/c.0"), store.get("seed/c.1")
    assert len(first) == len(second)
    store.put("seed/c.0", second)
    store.put("seed/c.1", first)
    for index in (0, 4):
        with pytest.raises(DamagedObject, match=r"seed/c\.. belongs to another array, shard or data set"):
            dataset[index]


def test_truncation_is_noticed_by_size_alone(breakable):
    dataset, store = breakable
    store.put("image/c.0.0.0.0", store.get("image/c.0.0.0.0")[:-1])
    with pytest.raises(DamagedObject, match="bytes where the manifest says"):
        dataset[0]


def test_a_flipped_bit_is_noticed_in_its_sample_and_the_others_are_read(breakable, sample):
    dataset, store = breakable
    data = bytearray(store.get("image/c.1.0.0.0"))
    data[60] ^= 1
    (store.root / "image/c.1.0.0.0").write_bytes(data)
    with pytest.raises(DamagedObject, match=r"object image/c\.1\.0\.0\.0 sample 0 does not match its checksum"):
        dataset[3]
    assert_is_sample(dataset[4], sample(5))


def test_a_damaged_table_is_noticed(breakable):
    dataset, store = breakable
    key = "tables/weight_mask/c.0.0"
    store.put(key, store.get(key)[:-1] + b"!")
    with pytest.raises(DamagedObject, match="tables/weight_mask"):
        dataset.table("weight_mask")
    with pytest.raises(MissingObject, match="tables/nose"):
        dataset.table("nose")


def test_tables_are_read_only(toy_dataset, tables):
    np.testing.assert_array_equal(toy_dataset.table("weight_mask"), tables["weight_mask"])
    with pytest.raises(ValueError, match="read-only"):
        toy_dataset.table("weight_mask")[0, 0] = 1


# -------------------------------------------------------------------------------------------------------------- opening


def test_a_data_set_is_opened_by_its_name_by_version_or_by_folder(tmp_path, build):
    old, new = build(tmp_path), build(tmp_path, recipe_version=2)
    folder = tmp_path / "toy"
    assert open_dataset(folder).manifest == new
    assert open_dataset(str(folder), old.version).manifest == old
    assert open_dataset(folder / old.version).manifest == old
    assert open_dataset(folder / old.version, old.version).manifest == old


def test_what_cannot_be_opened_says_why(tmp_path, build):
    with pytest.raises(Unpublished, match=r"is not a folder; a data set is <out>/<name>"):
        open_dataset(tmp_path / "nothing")
    with pytest.raises(Unpublished, match=r"has no manifest\.json"):
        open_dataset(tmp_path)
    manifest = build(tmp_path)
    with pytest.raises(Unpublished, match=f"toy has no published version v7; it has {manifest.version}"):
        open_dataset(tmp_path / "toy", "v7")
    with pytest.raises(Unpublished, match="and version v7 was asked for"):
        open_dataset(tmp_path / "toy" / manifest.version, "v7")
    LocalStore(tmp_path / "toy").delete("latest")  # the builder died between the manifest and the pointer
    with pytest.raises(
        Unpublished, match=f"toy does not say which version is the latest; name one of {manifest.version}"
    ):
        open_dataset(tmp_path / "toy")


def test_a_data_set_of_a_later_program_is_refused(breakable):
    _, store = breakable
    content = json.loads(store.get("manifest.json"))
    store.put("manifest.json", json.dumps({**content, "format_version": 99}).encode())
    with pytest.raises(NewerFormat, match="update facefoundry"):
        open_dataset(store.root)


def test_a_decoder_of_a_later_program_concerns_its_target_alone(tmp_path, build, plan):
    schema = plan().sample_schema
    later = DerivedTarget(name="depth", dtype="float32", sample_shape=(2,), description="", decoder="holography")
    manifest = build(tmp_path, sample_schema=Schema(targets=schema.targets, derived=(later,)))
    dataset = open_dataset(tmp_path / "toy" / manifest.version)
    assert dataset.read([0], ["seed"])["seed"] == 0
    with pytest.raises(ValueError, match="depth is decoded by 'holography', which this program does not know"):
        dataset.read([0])


# ----------------------------------------------------------------------------------------------------- parametric maps

N_IDENTITY, N_EXPRESSION, SIZE = 5, 3, 12


def lopsided_model() -> DenseModel:
    """A bumpy sheet of 5 × 4 vertices, mirrored left to right."""
    rng = np.random.default_rng(3)
    row, column = (a.ravel() for a in np.mgrid[:5, :4])
    corners = np.array([0, 1, 4]), np.array([1, 5, 4])
    squares = [4 * r + c for r in range(4) for c in range(3)]
    n = 20
    return DenseModel(
        name="sheet",
        licence="CC0",
        mean=np.stack([30.0 * column, -25.0 * row, rng.uniform(0, 40, n)], axis=1).astype(np.float32),
        identity_basis=(1e-3 * rng.normal(size=(N_IDENTITY, 3 * n))).astype(np.float32),
        expression_basis=rng.normal(size=(N_EXPRESSION, 3 * n)).astype(np.float32),
        identity_stddevs=np.full(N_IDENTITY, 2e3),
        expression_stddevs=np.ones(N_EXPRESSION),
        triangles=np.array([corner + square for square in squares for corner in corners], dtype=np.int32),
        landmark_vertices=(np.arange(68) % n).astype(np.int32),
        regions=np.zeros(n, np.uint8),
        mirror=(4 * row + 3 - column).astype(np.int32),
        uv=np.stack([column / 3, 0.1 + 0.8 * (1 - row / 4)], axis=1),
    )


def face(slot: int) -> dict[str, object]:
    rng = np.random.default_rng([11, slot])
    affine = np.concatenate([rng.normal(size=(3, 3)), rng.uniform(60, 200, (3, 1))], axis=1)
    return {
        "image": rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
        "landmarks_px": rng.normal(size=(68, 3)).astype(np.float32),
        "landmark_residual_px": np.float32(np.nan),
        "identity": rng.normal(scale=2e3, size=N_IDENTITY).astype(np.float32),
        "expression": rng.normal(size=N_EXPRESSION).astype(np.float32),
        "pose": rng.normal(size=7),
        "crop_from_image": np.eye(3),
        "crop_from_model": affine,
        "z_offset_px": np.float64(3.5),
        "mirrored": np.bool_(slot % 3 == 1),
        "source_id": f"HELEN/{slot}",
        "copy_index": np.int32(0),
        "seed": np.int64(slot),
    }


def build_faces(out: Path, maps: str) -> tuple[DenseModel, AtlasRaster, Path]:
    model = lopsided_model()
    raster = AtlasRaster(UVAtlas(model.uv, model.triangles), SIZE)
    tables = {
        "atlas_corners": raster.corners,
        "atlas_weights": raster.weights,
        "atlas_covered": raster.covered.astype(np.uint8),
    }
    plan = DatasetPlan(
        name=maps,
        config={},
        recipe_version=1,
        model=ModelInfo(name=model.name, fingerprint=model.fingerprint),
        sources=(SourceInfo(kind="numbers", n_files=0, fingerprint="00"),),
        sample_schema=position_map_schema(
            image_size=8, map_size=SIZE, n_identity=N_IDENTITY, n_expression=N_EXPRESSION, maps=maps
        ),
        tables=table_digests(tables),
        shard_size=5,
        n_slots=7,
    )
    store = LocalStore(out / maps / plan.version)
    start_version(store, plan, tables)
    for shard in range(plan.n_shards):
        writer = ShardWriter(store, plan, shard)
        for slot in plan.slots(shard):
            writer.add(slot, face(slot) if maps == "parametric" else {**face(slot), "position_map": slow_map(slot)})
        writer.finish()
    publish(store, draft_manifest(store, plan))
    return model, raster, store.root


def slow_map(slot: int) -> np.ndarray:
    """The position map by its definition, one texel at a time: mirrored samples hold the vertices of the other side."""
    model, sample = lopsided_model(), face(slot)
    raster = AtlasRaster.reference(UVAtlas(model.uv, model.triangles), SIZE)
    vertices = model.vertices(Coefficients(sample["identity"], sample["expression"])).astype(np.float64)
    if sample["mirrored"]:
        vertices = vertices[model.mirror]
    position_map = np.zeros((SIZE, SIZE, 3))
    for y, x in np.argwhere(raster.covered):
        mixed = raster.weights[y, x].astype(np.float64) @ vertices[raster.corners[y, x]]
        position_map[y, x] = apply_affine(sample["crop_from_model"], mixed[None])[0]
    return position_map.astype(np.float32)


def test_parametric_and_materialized_data_sets_read_the_same(tmp_path):
    model, raster, parametric = build_faces(tmp_path, "parametric")
    _, _, materialized = build_faces(tmp_path, "materialized")
    (tmp_path / "models").mkdir()
    save_model(model, tmp_path / "models" / f"{model.fingerprint}.ffmodel.npz")
    indices = [6, 1, 0, 3, 4, 1]
    decoded, stored = open_dataset(parametric).read(indices), open_dataset(materialized).read(indices)
    assert set(decoded) == set(stored)
    for name in decoded:
        assert decoded[name].dtype == stored[name].dtype
        if name == "position_map":
            np.testing.assert_allclose(decoded[name], stored[name], rtol=0, atol=1 / 128 + 1e-4)
        else:
            np.testing.assert_array_equal(decoded[name], stored[name])
    assert 0 < raster.covered.mean() < 1
    assert (decoded["position_map"][:, ~raster.covered] == 0).all()
    assert decoded["covered"].shape == (6, SIZE, SIZE)


def test_one_sample_decodes_as_it_does_in_a_batch(tmp_path):
    model, _, folder = build_faces(tmp_path, "parametric")
    (tmp_path / "models").mkdir()
    save_model(model, tmp_path / "models" / f"{model.fingerprint}.ffmodel.npz")
    dataset = open_dataset(folder)
    batch = dataset.read(range(7), ["position_map"])["position_map"]
    for index in range(7):
        np.testing.assert_allclose(dataset[index]["position_map"], batch[index], rtol=0, atol=1e-4)
    assert dataset.read([], ["position_map"])["position_map"].shape == (0, SIZE, SIZE, 3)


def test_a_missing_model_is_named_with_what_to_do_and_the_rest_can_be_read(tmp_path):
    model, _, folder = build_faces(tmp_path, "parametric")
    dataset = open_dataset(folder)
    with pytest.raises(MissingModel, match=f"of the model 'sheet', and {model.fingerprint}.* is not in .*models"):
        dataset[0]
    assert dataset.read([2], ["source_id", "covered"])["source_id"] == "HELEN/2"


def test_a_model_file_that_holds_another_model_is_refused(tmp_path):
    model, _, folder = build_faces(tmp_path, "parametric")
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / f"{model.fingerprint}.ffmodel.npz"
    save_model(DenseModel(**{**_fields(model), "mean": model.mean + 1}), path)
    with pytest.raises(ValueError, match="not that of its name"):
        open_dataset(folder)[0]


def flipped_bit(path: Path) -> None:
    """In the middle of the identity basis: a file that opens as before."""
    content = bytearray(path.read_bytes())
    content[content.index(b"identity_basis.npy") + 400] ^= 64
    path.write_bytes(content)


def test_a_damaged_model_gives_an_error_and_no_wrong_maps(tmp_path):
    model, _, folder = build_faces(tmp_path, "parametric")
    (tmp_path / "models").mkdir()
    path = save_model(model, tmp_path / "models" / f"{model.fingerprint}.ffmodel.npz")
    whole = open_dataset(folder).read([0], ["position_map"])["position_map"]
    assert open_model(path).fingerprint == model.fingerprint
    flipped_bit(path)
    assert open_model(path).fingerprint == model.fingerprint, "the fingerprint in the file does not tell"
    with pytest.raises(ValueError, match=r"ffmodel\.npz: its content has fingerprint .* import the model again"):
        open_dataset(folder)[0]
    save_model(model, path)
    np.testing.assert_array_equal(open_dataset(folder).read([0], ["position_map"])["position_map"], whole)


def test_a_model_is_read_in_full_once_by_a_process(tmp_path, monkeypatch):
    model, _, folder = build_faces(tmp_path, "parametric")
    (tmp_path / "models").mkdir()
    save_model(model, tmp_path / "models" / f"{model.fingerprint}.ffmodel.npz")
    asked = []
    monkeypatch.setattr(
        "geometry.model_archive.open_model", lambda path, *, verify: asked.append(verify) or open_model(path)
    )
    first, second = open_dataset(folder), open_dataset(folder)
    assert first.model() is second.model()
    assert asked == [True]


def test_verification_covers_the_model_that_parameters_are_decoded_with(tmp_path):
    model, _, folder = build_faces(tmp_path, "parametric")
    _, _, materialized = build_faces(tmp_path, "materialized")
    key = f"models/{model.fingerprint}.ffmodel.npz"
    for full in (True, False):
        (finding,) = verify(LocalStore(folder), full=full)
        assert (finding.key, finding.problem) == (key, "missing")
        assert "facefoundry model import" in finding.explanation
        assert verify(LocalStore(materialized), full=full) == []
    (tmp_path / "models").mkdir()
    save_model(model, tmp_path / key)
    assert verify(LocalStore(folder)) == verify(LocalStore(folder), full=False) == []
    flipped_bit(tmp_path / key)
    (finding,) = verify(LocalStore(folder))
    assert (finding.key, finding.problem) == (key, "unreadable")
    assert verify(LocalStore(folder), full=False) == []
    (tmp_path / key).write_bytes((tmp_path / key).read_bytes()[:-500])
    assert [finding.key for finding in verify(LocalStore(folder), full=False)] == [key]


def test_a_folder_that_is_no_data_set_is_named_plainly(tmp_path):
    with pytest.raises(
        Unpublished, match=r"has no manifest\.json, and no folder in it has one: it is neither"
    ) as refusal:
        open_dataset(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path} ")
    with pytest.raises(Unpublished) as refusal:
        read_manifest(LocalStore(tmp_path))
    assert str(refusal.value).startswith(f"{tmp_path} has no manifest.json")


def _fields(model: DenseModel) -> dict[str, object]:
    return {name: getattr(model, name) for name in DenseModel.__dataclass_fields__}


def test_the_precision_in_the_attributes_is_the_one_that_holds():
    assert FixedPoint().precision == 1 / 128


def test_an_open_reader_notices_that_a_shard_was_exchanged_and_that_it_was_put_back(tmp_path, build):
    """Label and index were read when the file was opened; another shard's chunks pass every checksum of their own."""
    build(tmp_path, holes=())
    dataset = open_dataset(tmp_path / "toy")
    right = dataset.read([0])["seed"]
    first, second = dataset.path / "seed/c.0", dataset.path / "seed/c.1"
    good = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(DamagedObject, match="belongs to another array, shard or data set"):
        dataset.read([0])
    LocalStore(dataset.path).put("seed/c.0", good)
    np.testing.assert_array_equal(dataset.read([0])["seed"], right)

"""Shards are plain Zarr to Zarr, and to us: checked to the last bit, the same bytes every time."""

import errno
import json

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from zarr.core.buffer import default_buffer_prototype

from storage.bad_sample import BadSample
from storage.codes import FILL_CODE
from storage.dataset import read_table
from storage.local_store import LocalStore
from storage.publish import describe_object, start_version
from storage.shards import LABEL_BYTES, ShardReader, ShardWriter, is_read_together, label
from storage.store import DamagedObject, MissingObject
from storage.zarr_format import ChunkFormat, DamagedBytes, ShardFormat

COMPRESSIONS = ("none", "lz4_shuffle", "lz4_bitshuffle", "zstd_bitshuffle")
HOLES = (3, 8)


@pytest.fixture
def version(tmp_path, plan, tables, write_shard):
    """A version folder with all shards written, slots 3 and 8 left out."""
    store = LocalStore(tmp_path)
    start_version(store, plan(), tables)
    for shard in (2, 0, 1):
        write_shard(store, plan(), shard, HOLES)
    return store


def open_shard(store, plan, name, shard, *, labelled=True):
    format = dict(plan.shard_formats())[name]
    key = f"{name}/{format.key(shard)}"
    expected = label(plan.fingerprint, name, shard) if labelled else None
    return format, ShardReader(store.open(key), format, key=key, expected_label=expected)


def test_zarr_reads_every_array_as_it_was_written(version, plan, sample):
    group = zarr.open_group(version.root, mode="r")
    schema = plan().sample_schema
    assert {name for name, _ in group.arrays()} == {target.name for target in schema.targets}
    for target in schema.targets:
        array = group[target.name]
        for slot in range(plan().n_slots):
            if slot not in HOLES:
                expected = target.encode(sample(slot)[target.name])
                assert array.dtype == expected.dtype
                np.testing.assert_array_equal(array[slot], expected)


def test_zarr_reads_holes_as_values_that_no_sample_has_where_the_dtype_has_one(version):
    group = zarr.open_group(version.root, mode="r")
    for slot in HOLES:
        assert (group["position_map"][slot] == FILL_CODE).all()
        assert np.isnan(group["crop_from_image"][slot]).all()
        assert group["seed"][slot] == np.iinfo(np.int64).min


def test_zarr_reads_tables_and_attributes(version, tables, plan):
    group = zarr.open_group(version.root, mode="r")
    for name, table in tables.items():
        np.testing.assert_array_equal(group[f"tables/{name}"][...], table)
        np.testing.assert_array_equal(read_table(version, name), table)
    attributes = dict(group["position_map"].attrs)
    assert (attributes["units"], attributes["scale_factor"], attributes["add_offset"]) == ("px", 1 / 64, -256)
    assert group.attrs["fingerprint"] == plan().fingerprint
    assert group["image"].metadata.dimension_names == ("sample", "channel", "row", "column")


def test_zarr_writes_the_same_metadata(version):
    for path in version.root.glob("*/zarr.json"):
        ours = json.loads(path.read_text())
        if ours["node_type"] == "array":
            metadata = zarr.open_array(path.parent, mode="r").metadata
            assert json.loads(metadata.to_buffer_dict(default_buffer_prototype())["zarr.json"].to_bytes()) == ours


def test_we_read_the_shards_that_zarr_writes(tmp_path, plan, tables, sample):
    store = LocalStore(tmp_path)
    start_version(store, plan(), tables)
    group = zarr.open_group(tmp_path, mode="r+")
    for target in plan().sample_schema.targets:
        values = np.stack([target.encode(sample(slot)[target.name]) for slot in range(10)])
        with zarr.config.set({"array.write_empty_chunks": True}):  # or zarr makes holes of values equal to the fill
            group[target.name][:] = values
        for slot in range(10):
            format, reader = open_shard(store, plan(), target.name, slot // 4, labelled=False)
            out = np.empty(format.chunk.shape, dtype=values.dtype)
            reader.read_into(slot % 4, out)
            np.testing.assert_array_equal(out, values[slot])


@given(data=st.data(), compression=st.sampled_from(COMPRESSIONS))
def test_chunks_come_back_and_are_the_same_bytes_every_time(data, compression):
    dtype = data.draw(st.sampled_from(["bool", "uint8", "uint16", "int64", "float32", "float64"]))
    array = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, max_side=9)))
    chunk = ChunkFormat(dtype, array.shape, compression)
    encoded = b"".join(chunk.encode(array))
    assert encoded == b"".join(chunk.encode(np.array(array)))
    out = np.empty(array.shape, dtype=chunk.numpy_dtype)
    chunk.decode_into(encoded, out)
    np.testing.assert_array_equal(out, array)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_large_chunks_are_the_same_bytes_every_time(compression):
    chunk = ChunkFormat("uint16", (3, 256, 256), compression)
    array = np.random.default_rng(0).integers(0, 999, chunk.shape).astype(np.uint16)
    assert len({chunk.encode(array) for _ in range(5)}) == 1


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("data", [b"", b"abc", b"abcd", b"\0" * 4, bytes(8)])
def test_scraps_are_not_chunks(compression, data):
    with pytest.raises(DamagedBytes):
        ChunkFormat("uint8", (3,), compression).decode_into(data, np.empty(3, dtype=np.uint8))


def test_a_chunk_of_another_length_is_noticed_though_its_checksum_is_right():
    for compression in COMPRESSIONS:
        data = b"".join(ChunkFormat("uint8", (200,), compression).encode(np.zeros(200, dtype=np.uint8)))
        with pytest.raises(DamagedBytes, match="holds 200 bytes for an array of 100"):
            ChunkFormat("uint8", (100,), compression).decode_into(data, np.empty(100, dtype=np.uint8))


@pytest.mark.parametrize(("name", "step"), [("position_map", 7), ("seed", 1), ("source_id", 3)])
def test_no_flipped_bit_goes_unnoticed(version, plan, name, step):
    """In every part of an object: label, chunks, index."""
    key = f"{name}/{dict(plan().shard_formats())[name].key(0)}"
    good = version.get(key)
    for place in range(0, len(good), step):
        flipped = bytearray(good)
        flipped[place] ^= 1 << (place % 8)
        (version.root / key).write_bytes(flipped)
        with pytest.raises(DamagedObject, match=key):
            read_all(version, plan(), name, 0)
    (version.root / key).write_bytes(good)
    read_all(version, plan(), name, 0)


@pytest.mark.parametrize(("name", "step"), [("seed", 1), ("source_id", 3)])
def test_no_flipped_bit_goes_unnoticed_where_samples_are_read_together(version, plan, name, step):
    key = f"{name}/{dict(plan().shard_formats())[name].key(0)}"
    good = version.get(key)
    places = np.array([place for place, slot in enumerate(plan().slots(0)) if slot not in HOLES])
    format, reader = open_shard(version, plan(), name, 0)
    assert is_read_together(format.chunk)
    together, alone = reader.read_many(places), np.empty(format.chunk.shape, dtype=format.chunk.numpy_dtype)
    for row, place in zip(together, places.tolist(), strict=True):
        reader.read_into(place, alone)
        np.testing.assert_array_equal(row, alone)
    for place in range(0, len(good), step):
        flipped = bytearray(good)
        flipped[place] ^= 1 << (place % 8)
        (version.root / key).write_bytes(flipped)
        with pytest.raises(DamagedObject, match=key):
            open_shard(version, plan(), name, 0)[1].read_many(places)


def test_small_samples_come_by_one_read_however_far_apart(tmp_path, plan, write_shard, monkeypatch):
    """A data card that asks for every fourth sample of a large data set would wait for 150,000 reads."""
    large, store, places = plan(shard_size=40, n_slots=40), LocalStore(tmp_path), np.array([0, 13, 39])
    write_shard(store, large, 0)
    _, reader = open_shard(store, large, "seed", 0)
    with monkeypatch.context() as patched:
        patched.setattr("storage.shards._GAPS_BYTES", 0)
        alone = reader.read_many(places)
    reads = []
    read = reader._source.read
    monkeypatch.setattr(reader._source, "read", lambda *span: reads.append(span) or read(*span))
    np.testing.assert_array_equal(reader.read_many(places), alone)
    assert len(reads) == 1


def test_a_hole_is_an_error_among_samples_that_are_read_together(version, plan):
    hole = next(iter(HOLES))
    shard, place = divmod(hole, plan().shard_size)
    with pytest.raises(MissingObject):
        open_shard(version, plan(), "seed", shard)[1].read_many(np.array(sorted({0, place})))


def test_no_truncation_goes_unnoticed(version, plan):
    key = f"seed/{dict(plan().shard_formats())['seed'].key(1)}"
    good = version.get(key)
    for length in range(len(good)):
        (version.root / key).write_bytes(good[:length])
        with pytest.raises(DamagedObject):
            read_all(version, plan(), "seed", 1)


def read_all(store, plan, name, shard):
    format, reader = open_shard(store, plan, name, shard)
    out = np.empty(format.chunk.shape, dtype=format.chunk.numpy_dtype)
    for slot in plan.slots(shard):
        if slot not in HOLES:
            reader.read_into(slot - plan.slots(shard).start, out)


def test_objects_that_changed_places_are_noticed(version, plan):
    first, second = (version.root / "seed" / f"c.{shard}" for shard in (0, 1))
    first_bytes, second_bytes = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_bytes)
    second.write_bytes(first_bytes)
    with pytest.raises(DamagedObject, match=r"object seed/c\.0 belongs to another array, shard or data set"):
        open_shard(version, plan(), "seed", 0)


def test_a_hole_is_an_error_and_never_a_fill_value(version, plan):
    format, reader = open_shard(version, plan(), "seed", 0)
    with pytest.raises(MissingObject, match=r"seed/c\.0\[3\] is missing"):
        reader.read_into(3, np.empty(format.chunk.shape, dtype=np.int64))


def test_an_index_that_leads_outside_is_noticed(tmp_path):
    format = ShardFormat(ChunkFormat("uint8", (2,)), 3)
    index = format.empty_index()
    index[1] = 10_000, 6
    LocalStore(tmp_path).put("x", bytes(50) + format.encode_index(index))
    reader = ShardReader(LocalStore(tmp_path).open("x"), format, key="x")
    with pytest.raises(DamagedObject, match="leads outside it at sample 1"):
        reader.read_into(1, np.empty(2, dtype=np.uint8))


def test_the_bytes_do_not_depend_on_the_order_in_which_samples_come(tmp_path, plan, sample):
    receipts = []
    for name, order in (("a", [0, 1, 2, 3]), ("b", [3, 0, 2, 1])):
        writer = ShardWriter(LocalStore(tmp_path / name), plan(), 0)
        for slot in order:
            writer.add(slot, sample(slot))
        receipts.append(writer.finish())
    assert receipts[0] == receipts[1]


def test_a_receipt_describes_the_objects_as_they_are(version, plan, sample):
    writer = ShardWriter(version, plan(), 2)
    writer.reject(8, "AFW/8", BadSample("mat.truncated", "cut short"))
    writer.add(9, sample(9))
    receipt = writer.finish({"worst_px": 0.25})
    assert (receipt.first, receipt.stop, receipt.n_samples) == (8, 10, 1)
    assert [hole.model_dump() for hole in receipt.rejected] == [
        {"index": 8, "source_id": "AFW/8", "code": "mat.truncated", "reason": "cut short"}
    ]
    for info in receipt.objects:
        found = describe_object(version, info.key)
        assert (found.bytes, found.sha256) == (info.bytes, info.sha256)
        assert (info.first, info.stop) == (8, 10)


def test_a_shard_of_holes_alone_can_be_written_and_read_by_zarr(tmp_path, plan, tables, write_shard):
    store = LocalStore(tmp_path)
    start_version(store, plan(), tables)
    write_shard(store, plan(), 1, range(10))
    assert store.size("seed/c.1") == LABEL_BYTES + 4 * 16 + 4
    assert (zarr.open_array(tmp_path / "seed", mode="r")[4:8] == np.iinfo(np.int64).min).all()


def test_a_shard_has_no_receipt_when_one_of_its_arrays_cannot_be_stored(tmp_path, plan, sample):
    class FullDisk(LocalStore):
        def put(self, key, data):
            if key.startswith("position_map/"):
                raise OSError(errno.ENOSPC, "No space left on device")
            super().put(key, data)

    writer = ShardWriter(FullDisk(tmp_path), plan(), 2)
    for slot in plan().slots(2):
        writer.add(slot, sample(slot))
    with pytest.raises(OSError, match="No space left"):
        writer.finish()
    assert "receipts/00002.json" not in set(LocalStore(tmp_path).list())


def test_a_shard_is_not_finished_before_every_slot_is_decided(tmp_path, plan, sample):
    writer = ShardWriter(LocalStore(tmp_path), plan(), 1)
    writer.add(5, sample(5))
    with pytest.raises(ValueError, match="3 slots of shard 1 have neither sample nor reason, first 4"):
        writer.finish()
    assert list(LocalStore(tmp_path).list()) == []


def test_a_slot_is_decided_once_and_in_its_own_shard(tmp_path, plan, sample):
    writer = ShardWriter(LocalStore(tmp_path), plan(), 1)
    writer.add(5, sample(5))
    with pytest.raises(ValueError, match="slot 5 was already given"):
        writer.reject(5, "x", BadSample("a", "b"))
    with pytest.raises(ValueError, match="slot 8 is not in shard 1, which has 4 to 7"):
        writer.add(8, sample(8))


def test_a_bad_sample_leaves_its_slot_open(tmp_path, plan, sample):
    writer = ShardWriter(LocalStore(tmp_path), plan(), 2)
    far = sample(8)
    far["position_map"] = far["position_map"] + np.float32(2000)
    with pytest.raises(BadSample, match="position_map: values from") as bad:
        writer.add(8, far)
    writer.reject(8, "AFW/8", bad.value)
    writer.add(9, sample(9))
    assert writer.finish().rejected[0].code == "target.range"

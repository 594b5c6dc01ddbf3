"""Codes of variable length: a file comes back byte for byte, a JPEG within its loss, damage is noticed, room is kept."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.bad_sample import BadSample
from storage.byte_codes import LENGTH_BYTES, FileBytes, Jpeg, packed, unpacked
from storage.dataset import open_dataset
from storage.face_targets import position_map_schema
from storage.local_store import LocalStore
from storage.manifest import DatasetManifest
from storage.publish import draft_manifest, publish, start_version
from storage.schema import Schema, Target
from storage.shards import ShardWriter
from storage.store import DamagedObject
from storage.zarr_format import DamagedBytes

FILE = FileBytes(max_bytes=64)


def smooth_picture(height: int, width: int) -> np.ndarray:
    """A lopsided ramp in three colours, channels first."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 200 // width + 20, y * 150 // height + 60, (x + 2 * y) * 80 // (width + 2 * height)]).astype(
        np.uint8
    )


@given(contents=st.lists(st.binary(max_size=64), max_size=4))
def test_files_come_back_byte_for_byte_with_their_zeros(contents):
    stored = np.array([FILE.encode(np.asarray(content, dtype=object)) for content in contents], dtype=np.uint8)
    assert FILE.decode(stored.reshape(-1, LENGTH_BYTES + 64)).tolist() == contents


def test_a_file_longer_than_its_room_is_refused_and_not_cut():
    assert unpacked(packed(b"x" * 64, 64)).tobytes() == b"x" * 64
    with pytest.raises(BadSample, match=r"65 bytes do not fit into the 64 that the plan has room for"):
        packed(b"x" * 65, 64)


def test_a_length_that_leads_outside_its_room_is_noticed():
    stored = packed(b"abc", 8)
    stored[0] = 9
    with pytest.raises(DamagedBytes, match="says that 9 bytes follow where there is room for 8"):
        unpacked(stored)


@pytest.mark.parametrize(("quality", "most"), [(50, 12), (95, 4), (100, 3)])
def test_a_jpeg_of_a_smooth_picture_is_off_by_few_grey_levels_and_by_fewer_at_higher_quality(quality, most):
    code = Jpeg(quality=quality, size_hw=(40, 56))
    picture = smooth_picture(40, 56)
    back = code.decode(code.encode(picture)[None])
    assert back.shape == (1, 3, 40, 56)
    assert np.abs(back[0].astype(int) - picture).max() <= most  # a colour or an axis exchanged is off by a hundred


def test_a_jpeg_of_noise_at_the_highest_quality_has_room():
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    code = Jpeg(quality=100, size_hw=(64, 64))
    assert unpacked(code.encode(noise)).size < code.max_bytes


def test_the_bytes_of_a_jpeg_are_those_of_any_decoder():
    code = Jpeg(quality=95, size_hw=(40, 56))
    content = unpacked(code.encode(smooth_picture(40, 56)))
    assert content[:3].tobytes() == b"\xff\xd8\xff"
    bgr = cv2.imdecode(content, cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(
        bgr[..., ::-1], np.moveaxis(code.decode(code.encode(smooth_picture(40, 56))[None])[0], 0, -1)
    )


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xd9"])
def test_what_is_no_jpeg_is_damage_even_where_its_checksum_is_right(content):
    code = Jpeg(quality=95, size_hw=(40, 56))
    with pytest.raises(DamagedBytes, match="are no JPEG of 56 × 40"):
        code.decode(packed(content, code.max_bytes)[None])


def test_a_jpeg_of_another_size_is_damage():
    stored = Jpeg(quality=95, size_hw=(56, 40)).encode(smooth_picture(56, 40))
    with pytest.raises(DamagedBytes, match="no JPEG of 56 × 40"):
        Jpeg(quality=95, size_hw=(40, 56)).decode(stored[None])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"dtype": "bytes"}, "dtype bytes and the file_bytes code go together"),
        ({"dtype": "uint8", "code": FILE}, "dtype bytes and the file_bytes code go together"),
        ({"dtype": "bytes", "code": FILE, "sample_shape": (2,)}, "one file a sample"),
        (
            {"dtype": "uint8", "sample_shape": (8, 8, 3), "code": Jpeg(quality=9, size_hw=(8, 8))},
            "channels first in memory",
        ),
        (
            {
                "dtype": "uint8",
                "sample_shape": (8, 9, 3),
                "channels_first": True,
                "code": Jpeg(quality=9, size_hw=(9, 8)),
            },
            r"holds uint8 of shape \(9, 8, 3\)",
        ),
    ],
)
def test_codes_and_shapes_that_do_not_go_together_are_refused(fields, sentence):
    with pytest.raises(ValidationError, match=sentence):
        Target(name="x", description="", **fields)


def test_without_the_new_encodings_a_schema_is_written_as_it_always_was():
    """It is in every fingerprint: one field more would make another version of every data set there is."""
    schema = position_map_schema(image_size=32, map_size=32, n_identity=3, n_expression=2, maps="materialized")
    for target in schema.model_dump(mode="json")["targets"]:
        assert set(target) == {
            "name", "dtype", "sample_shape", "axes", "unit", "description", "code", "compression", "channels_first",
            "limits", "allow_nan",
        }  # fmt: skip
    assert schema["image"].attributes == {
        "long_name": "the crop of the photograph, red green blue",
        "units": "sRGB",
        "code": "plain",
    }


def test_attributes_state_what_each_encoding_loses():
    sizes = {"image_size": 32, "map_size": 32, "n_identity": 3, "n_expression": 2}
    exact = position_map_schema(**sizes, maps="float", jpeg_quality=95)
    assert exact["position_map"].attributes["precision"] == 0
    assert exact["image"].attributes["quality"] == 95
    assert position_map_schema(**sizes, maps="materialized")["position_map"].attributes["precision"] == 1 / 128
    assert position_map_schema(**sizes, maps="parametric")["position_map"].precision == 1 / 1024
    for schema in (exact, position_map_schema(**sizes, maps=None, photograph_bytes=100)):
        assert Schema.model_validate_json(schema.model_dump_json()) == schema


# ---------------------------------------------------------------------------------------------------- through the store


@pytest.fixture
def jpegs(tmp_path, plan) -> tuple[LocalStore, DatasetManifest]:
    """Ten JPEGs, and a file each, in three shards."""
    schema = Schema(
        targets=(
            Target(
                name="image", dtype="uint8", sample_shape=(40, 56, 3), description="", channels_first=True,
                code=Jpeg(quality=95, size_hw=(40, 56)), compression="lz4_shuffle",
            ),
            Target(name="photograph", dtype="bytes", description="", code=FILE, on_request=True),
        ),
    )  # fmt: skip
    content = plan(sample_schema=schema, tables={})
    store = LocalStore(tmp_path / content.version)
    start_version(store, content, {})
    for shard in range(content.n_shards):
        writer = ShardWriter(store, content, shard)
        for slot in content.slots(shard):
            picture = np.roll(smooth_picture(40, 56), 5 * slot, axis=2)
            writer.add(slot, {"image": np.moveaxis(picture, 0, -1), "photograph": f"file {slot}".encode()})
        writer.finish({})
    return store, publish(store, draft_manifest(store, content))


def test_jpegs_are_read_as_pictures_and_files_when_they_are_named(jpegs):
    dataset = open_dataset(jpegs[0].root)
    assert dataset.schema.names == ("image",)
    assert set(dataset[3]) == {"image"}
    batch = dataset.read([7, 2], ["image", "photograph"])
    assert batch["photograph"].tolist() == [b"file 7", b"file 2"]
    assert (batch["image"].shape, batch["image"].dtype) == ((2, 40, 56, 3), np.uint8)
    assert np.moveaxis(batch["image"], -1, 1).flags.c_contiguous
    for row, slot in enumerate((7, 2)):
        picture = np.moveaxis(np.roll(smooth_picture(40, 56), 5 * slot, axis=2), 0, -1)
        assert np.abs(batch["image"][row].astype(int) - picture).mean() < 3
    assert dataset.read([], ["image", "photograph"])["image"].shape == (0, 40, 56, 3)


def test_any_flipped_bit_in_a_stored_jpeg_is_noticed(jpegs):
    store, manifest = jpegs
    (key,) = (info.key for info in manifest.objects if info.key.startswith("image/c.0"))
    path = store.root / key
    whole = bytearray(path.read_bytes())
    pixels = open_dataset(store.root).read([0])["image"]
    noticed = 0
    for place in range(32, len(whole), 397):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(open_dataset(store.root).read([0])["image"], pixels)  # the bit was another's
        except DamagedObject:
            noticed += 1
    assert noticed


def test_a_flipped_bit_in_the_jpeg_of_the_only_sample_is_damage(jpegs):
    store, manifest = jpegs
    key = max((info.key for info in manifest.objects if info.key.startswith("image/c.")), key=lambda key: key)
    path = store.root / key
    damaged = bytearray(path.read_bytes())
    damaged[32 + 300] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(DamagedObject, match="does not match its checksum"):
        open_dataset(store.root).read([8])


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_what_is_read_does_not_depend_on_the_number_of_threads(jpegs, monkeypatch, threads):
    monkeypatch.setattr("storage.dataset._WORTH_A_THREAD", 1)
    dataset = open_dataset(jpegs[0].root)
    order = [9, 0, 4, 4, 7, 1, 2]
    alone, together = (dataset.read(order, ["image", "photograph"], threads=n) for n in (1, threads))
    for name, values in alone.items():
        np.testing.assert_array_equal(together[name], values)


def test_a_damaged_sample_raises_from_whichever_thread_meets_it(jpegs, monkeypatch):
    monkeypatch.setattr("storage.dataset._WORTH_A_THREAD", 1)
    store, manifest = jpegs
    (key,) = (info.key for info in manifest.objects if info.key.startswith("image/c.2"))
    path = store.root / key
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    for order in ([0, 1, 8], [8, 0, 1]):
        with pytest.raises(DamagedObject):
            open_dataset(store.root).read(order, threads=3)

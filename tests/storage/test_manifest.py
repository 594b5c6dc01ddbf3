"""The documents: canonical, self-checked, and free of everything that differs between machines."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.local_store import LocalStore
from storage.manifest import (
    FORMAT_VERSION,
    MANIFEST_KEY,
    DatasetPlan,
    ModelInfo,
    NewerFormat,
    Receipt,
    RejectedSlot,
    SourceInfo,
    Unpublished,
    canonical_json,
    digest_of,
    read_manifest,
    table_digests,
)
from storage.store import DamagedObject

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture
def published(tmp_path, build):
    manifest = build(tmp_path)
    return manifest, LocalStore(tmp_path / "toy" / manifest.version)


@settings(max_examples=40)
@given(content=st.dictionaries(TEXT, JSON, max_size=4))
def test_equal_contents_have_equal_bytes_in_whatever_order(content):
    turned = dict(reversed(content.items()))
    assert canonical_json(content) == canonical_json(turned)
    assert json.loads(canonical_json(content)) == content


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"a": float("nan")}, "NaN and infinity have no place in a manifest"),
        ({"a": [float("inf")]}, "NaN and infinity have no place in a manifest"),
        ({"a": np.float32(1)}, "convert NumPy numbers"),
        ({"a": np.zeros(2)}, "convert NumPy numbers"),
        ({1: "a"}, "keys must be texts"),
        ({"a": {None: 1}}, "keys must be texts"),
    ],
)
def test_what_json_does_not_hold_is_refused(content, sentence):
    with pytest.raises(ValueError, match=sentence):
        digest_of(content)


@pytest.mark.parametrize("path", ["/home/someone/300W_LP", "C:\\data", "\\\\server\\share", "~/faces"])
def test_no_absolute_path_is_published(plan, path):
    with pytest.raises(ValidationError, match="config.source holds the absolute path"):
        plan(config={"source": path})
    with pytest.raises(ValidationError, match="details of a source.roots holds the absolute path"):
        plan(sources=(SourceInfo(kind="a", n_files=1, fingerprint="f", details={"roots": ["a", path]}),))


def test_every_field_of_the_plan_but_its_name_makes_another_version(plan, tables):
    changes = [
        {},
        {"config": {"size_px": 7, "jitter": 0.2}},
        {"recipe_version": 2},
        {"model": ModelInfo(name="nobody", fingerprint="1" * 32)},
        {"sources": (SourceInfo(kind="numbers", n_files=20, fingerprint="cd" * 32),)},
        {"tables": table_digests({**tables, "weight_mask": tables["weight_mask"] + 1})},
        {"shard_size": 5},
        {"n_slots": 11},
    ]
    assert len({plan(**change).version for change in changes}) == len(changes)
    assert plan(name="other").fingerprint == plan().fingerprint


@given(n_slots=st.integers(1, 300), shard_size=st.integers(1, 40))
def test_shards_are_a_partition_of_the_slots(n_slots, shard_size):
    plan = DatasetPlan.model_construct(n_slots=n_slots, shard_size=shard_size)
    slots = [slot for shard in range(plan.n_shards) for slot in plan.slots(shard)]
    assert slots == list(range(n_slots))
    with pytest.raises(ValueError, match=f"shard {plan.n_shards} is outside the plan"):
        plan.slots(plan.n_shards)


def test_a_table_is_known_by_dtype_shape_and_contents():
    digests = [
        table_digests({"a": array})["a"]
        for array in (np.zeros(4, "f4"), np.zeros((2, 2), "f4"), np.zeros(4, "i4"), np.ones(4, "f4"))
    ]
    assert len(set(digests)) == 4


def test_a_manifest_comes_back_as_it_was_written(published):
    manifest, store = published
    assert read_manifest(store) == manifest
    assert (manifest.name, manifest.n_samples, manifest.plan.n_slots) == ("toy", 8, 10)
    assert [hole.index for hole in manifest.rejected] == [3, 8]
    assert manifest.statistics == {"mean": 1.5}


def test_the_manifest_covers_every_other_object(published, files_of):
    manifest, store = published
    assert [info.key for info in manifest.objects] == sorted(files_of(store.root).keys() - {MANIFEST_KEY})
    shards = {info.key: (info.first, info.stop) for info in manifest.objects if info.first is not None}
    assert shards["seed/c.2"] == (8, 10)
    assert len(shards) == 3 * 7


def test_no_flipped_bit_of_a_manifest_changes_what_is_read(published):
    manifest, store = published
    good = store.get(MANIFEST_KEY)
    for place in range(0, len(good), 41):
        flipped = bytearray(good)
        flipped[place] ^= 1 << (place % 8)
        (store.root / MANIFEST_KEY).write_bytes(flipped)
        with contextlib.suppress(DamagedObject, NewerFormat):
            assert read_manifest(store) == manifest  # 1e-05 and 1E-05 are one number


DEEP = b'{"a": ' + b"[" * 700 + b"]" * 700 + b"}"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"format_version": 1}', b'{"a": NaN}', b"\xff", DEEP, b"[" * 9999]
)
def test_what_is_not_a_manifest_is_not_read(tmp_path, content):
    (tmp_path / MANIFEST_KEY).write_bytes(content)
    with pytest.raises(DamagedObject, match=r"object manifest\.json"):
        read_manifest(LocalStore(tmp_path))


def test_a_manifest_that_lies_consistently_is_still_refused(published):
    manifest, _ = published
    content = manifest.model_dump(mode="json")
    outside = {**content["objects"][0], "key": "../../secret"}
    changes = {"n_samples": 9}, {"fingerprint": "0" * 64}, {"statistics": {"where": "/tmp"}}, {"objects": [outside]}
    for change in changes:
        with pytest.raises(ValidationError):
            type(manifest).model_validate({**content, **change})


def test_a_newer_format_is_refused_with_the_remedy(published):
    _, store = published
    content = json.loads(store.get(MANIFEST_KEY))
    store.put(MANIFEST_KEY, json.dumps({**content, "format_version": FORMAT_VERSION + 1}).encode())
    with pytest.raises(NewerFormat, match="has format version 2 and this program reads up to 1: update facefoundry"):
        read_manifest(store)


def test_a_folder_without_a_manifest_is_no_data_set(tmp_path):
    with pytest.raises(Unpublished, match=r"has no manifest\.json: it is not a published version"):
        read_manifest(LocalStore(tmp_path))


@pytest.mark.parametrize(("indices", "n_samples"), [((5,), 3), ((1, 0), 2), ((1, 1), 2), ((1,), 2)])
def test_a_receipt_that_does_not_add_up_is_refused(indices, n_samples):
    holes = tuple(RejectedSlot(index=index, source_id="", code="", reason="") for index in indices)
    with pytest.raises(ValidationError):
        Receipt(
            fingerprint="0" * 64, shard=0, first=0, stop=4, objects=(), n_samples=n_samples, rejected=holes
        )  # fmt: skip

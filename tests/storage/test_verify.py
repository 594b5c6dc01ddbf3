"""Verification names every object that is not as it was published."""

import pytest

from storage.local_store import LocalStore
from storage.manifest import MANIFEST_KEY, Unpublished
from storage.verify import verify


@pytest.fixture
def published(tmp_path, build):
    manifest = build(tmp_path)
    return LocalStore(tmp_path / "toy" / manifest.version)


def found(store, **options):
    return [(finding.key, finding.problem) for finding in verify(store, **options)]


def test_a_whole_version_has_no_findings(published):
    assert verify(published) == []
    assert verify(published, full=False) == []


KINDS = ["image/c.1.0.0.0", "seed/zarr.json", "zarr.json", "tables/weight_mask/c.0.0", "receipts/00002.json"]


@pytest.mark.parametrize("key", KINDS)
def test_a_flipped_bit_in_any_kind_of_object_is_found(published, key):
    data = bytearray(published.get(key))
    data[len(data) // 2] ^= 4
    (published.root / key).write_bytes(data)
    assert found(published) == [(key, "digest")]
    assert found(published, full=False) == []


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("key", KINDS)
def test_missing_and_truncated_objects_of_any_kind_are_found_by_either_look(published, key, full):
    data = published.get(key)
    (published.root / key).write_bytes(data[:-3])
    assert found(published, full=full) == [(key, "size")]
    assert f"{key}: is cut short: {len(data) - 3} bytes" in str(verify(published, full=full)[0])
    (published.root / key).write_bytes(data + b"x")
    assert found(published, full=full) == [(key, "size")]
    published.delete(key)
    assert found(published, full=full) == [(key, "missing")]


def test_swapped_objects_are_named_with_what_they_hold(published):
    first, second = published.root / "seed/c.0", published.root / "seed/c.1"
    first_bytes, second_bytes = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_bytes)
    second.write_bytes(first_bytes)
    assert [str(finding) for finding in verify(published)] == [
        "seed/c.0: holds the bytes of seed/c.1",
        "seed/c.1: holds the bytes of seed/c.0",
    ]


def test_objects_that_came_later_are_found(published):
    published.put("seed/c.3", b"data?")
    assert found(published) == [("seed/c.3", "extra")]


def test_a_folder_in_the_place_of_an_object_is_found(published):
    published.delete("seed/c.0")
    (published.root / "seed/c.0").mkdir()
    assert found(published) in ([("seed/c.0", "unreadable")], [("seed/c.0", "missing")])


def test_a_damaged_manifest_is_a_finding_and_a_missing_one_an_error(published):
    (published.root / MANIFEST_KEY).write_bytes(published.get(MANIFEST_KEY).replace(b"toy", b"boy"))
    assert found(published) == [(MANIFEST_KEY, "unreadable")]
    published.delete(MANIFEST_KEY)
    with pytest.raises(Unpublished):
        verify(published)


def test_progress_counts_every_object(published):
    told = []
    verify(published, threads=3, progress=lambda done, total: told.append((done, total)))
    total = len(list(published.list())) - 1
    assert told == [(done, total) for done in range(1, total + 1)]

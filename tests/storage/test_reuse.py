"""Shards taken over from one version into the next: bytes as if they were built, and never into what is published."""

import pytest

from storage.local_store import LocalStore
from storage.manifest import SourceInfo, receipt_key
from storage.publish import PublishedMeanwhile, start_version
from storage.reuse import take_over

OTHER = (SourceInfo(kind="numbers", n_files=21, fingerprint="cd" * 32),)


class Bucket(LocalStore):
    """Several builders may write at once."""

    has_lock = False


@pytest.fixture
def old(tmp_path, build):
    return LocalStore(tmp_path / "toy" / build(tmp_path).version)


def test_what_is_taken_over_is_what_building_it_stores(old, tmp_path, plan, tables, write_shard, files_of):
    new = plan(sources=OTHER)
    for name in ("taken", "built"):
        start_version(LocalStore(tmp_path / name), new, tables)
    assert take_over(old, LocalStore(tmp_path / "taken"), new, {0: 0, 1: 1, 2: 2}) == [0, 1, 2]
    for shard in range(3):
        write_shard(LocalStore(tmp_path / "built"), new, shard, (3, 8))
    assert files_of(tmp_path / "taken") == files_of(tmp_path / "built")


@pytest.mark.parametrize("key", ["image/c.0.0.0.0", receipt_key(0)])
def test_where_there_is_no_lock_nothing_is_taken_over_into_what_another_builder_published(
    key, old, tmp_path, build, plan, files_of
):
    """That of another type of machine, say, whose bytes may be others."""
    manifest = build(tmp_path, sources=OTHER)
    new = Bucket(tmp_path / "toy" / manifest.version)
    new.put(key, b"its own")
    before = files_of(new.root)
    with pytest.raises(PublishedMeanwhile):
        take_over(old, new, plan(sources=OTHER), {0: 0, 1: 1, 2: 2})
    assert files_of(new.root) == before

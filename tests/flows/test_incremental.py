"""Rebuilding after a change of the sources: the same bytes as from nothing, only what changed is made, the old stays."""

import shutil
from pathlib import Path

import pytest

from flows import upkeep
from flows.build import build_shard, publish_build
from flows.config import PosmapConfig
from flows.incremental import opened_rebuild
from flows.local import build_here
from flows.posmaps import PosmapRecipe
from render.crop import CropConfig
from storage.dataset import open_dataset
from storage.local_store import LocalStore
from storage.manifest import Unpublished
from storage.phases import Phase, observed
from storage.verify import verify
from tests.folders import tree

SMALL = PosmapConfig(crop=CropConfig(size_px=64), shard_size=4, copies=2)
"""Seven shards of two pictures each."""


@pytest.fixture(scope="module")
def once(sample_folder, tmp_path_factory) -> Path:
    return build_here(SMALL, source=sample_folder, out=tmp_path_factory.mktemp("built"), workers=1).path


@pytest.fixture
def here(once, sample_folder, tmp_path) -> tuple[Path, Path, str]:
    """A data set of its own, its source, and its only version."""
    dataset, source = tmp_path / "out" / once.parent.name, tmp_path / "source"
    shutil.copytree(once.parent, dataset)
    shutil.copytree(sample_folder, source)
    return dataset, source, once.name


def rebuilt(dataset: Path, source: Path) -> tuple[Path, bool, list[str]]:
    """The latest version's folder, whether it is new, and the image objects that were written by building."""
    written = []

    def observer(phase: Phase, what: str) -> None:
        if phase is Phase.SHARD and what.startswith("image/"):
            written.append(what)

    with observed(observer), opened_rebuild(dataset, source=source) as rebuild:
        for shard in rebuild.build.missing_shards:
            build_shard(rebuild.build.job, shard)
        published, changed = publish_build(rebuild.build), rebuild.changed
    return published.path, changed, written


def test_when_nothing_changed_nothing_is_built_and_nothing_is_published(here):
    dataset, source, version = here
    before = {path: path.stat().st_mtime_ns for path in (dataset / version).rglob("*")}
    path, changed, written = rebuilt(dataset, source)
    assert (path.name, changed, written) == (version, False, [])
    assert {path: path.stat().st_mtime_ns for path in (dataset / version).rglob("*")} == before
    assert [folder.name for folder in dataset.iterdir() if folder.is_dir()] == [version]


def test_a_changed_picture_costs_its_shard_alone_and_the_bytes_are_those_of_a_build_from_nothing(here, tmp_path):
    dataset, source, version = here
    old = tree(dataset / version)
    changed_file = sorted(source.glob("AFW/*.jpg"))[-1]
    changed_file.write_bytes(changed_file.read_bytes() + b"\xff")  # decoders do not care, digests do
    path, changed, written = rebuilt(dataset, source)
    assert changed
    assert len(written) == 1
    fresh = build_here(SMALL, source=source, out=tmp_path / "fresh", workers=1)
    assert tree(path) == tree(fresh.path)
    assert tree(dataset / version) == old
    assert open_dataset(dataset).manifest.version == path.name != version


def test_shards_that_moved_are_taken_over_with_their_new_numbers(here, tmp_path):
    """The first two pictures go, one shard's worth: all others move up by one shard."""
    dataset, source, _ = here
    rows = open_dataset(dataset)
    ids = [str(rows[slot]["source_id"]) for slot in (0, 2)]
    for source_id in ids:
        for path in source.glob(f"{source_id}.*"):
            path.unlink()
    with opened_rebuild(dataset, source=source) as planned:
        assert planned.build.job.plan.n_shards == 6
        assert planned.reused == (0, 1, 2, 3, 4, 5)
        assert not planned.build.missing_shards
    path, changed, written = rebuilt(dataset, source)
    assert (changed, written) == (True, [])
    assert tree(path) == tree(build_here(SMALL, source=source, out=tmp_path / "fresh", workers=1).path)


def test_a_damaged_shard_of_the_old_version_is_built_and_not_taken_over(here):
    dataset, source, version = here
    victim = next((dataset / version / "image").glob("c.0.*"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    changed_file = sorted(source.glob("AFW/*.jpg"))[-1]
    changed_file.write_bytes(changed_file.read_bytes() + b"\xff")
    path, _, written = rebuilt(dataset, source)
    assert len(written) == 2
    assert verify(LocalStore(path)) == []


def test_of_a_version_whose_list_is_damaged_nothing_is_taken_over(here):
    dataset, source, version = here
    listed = dataset / version / "pictures.json"
    listed.write_bytes(listed.read_bytes().replace(b"AFW/AFW_", b"AFW/AFX_", 1))
    changed_file = sorted(source.glob("AFW/*.jpg"))[-1]
    changed_file.write_bytes(changed_file.read_bytes() + b"\xff")
    with opened_rebuild(dataset, source=source) as planned:
        assert (planned.latest, planned.reused) == (version, ())


def test_a_data_set_without_a_version_is_planned_by_the_preset_of_its_name(tmp_path, sample_folder):
    with opened_rebuild(tmp_path / "300wlp-posmaps", source=sample_folder) as planned:
        assert (planned.latest, planned.changed, planned.reused) == ("", True, ())
        assert planned.build.job.plan.name == "300wlp-posmaps"
    unknown = opened_rebuild(tmp_path / "faces", source=sample_folder)
    with pytest.raises(Unpublished, match="no version to take the config from, and faces is no preset's data set"):
        unknown.__enter__()


def test_the_sample_does_not_take_the_place_of_a_source_that_is_not_named(here, sample_folder, monkeypatch):
    """A nightly rebuild without parameters would publish drawn faces, and trainings would start on them."""
    dataset, source, version = here
    monkeypatch.setattr(PosmapRecipe, "sample_source", lambda out, progress=None: sample_folder)
    with opened_rebuild(dataset, source=None) as planned:  # that is what it was built from
        assert not planned.changed
    for path in source.rglob("*_1.*"):
        path.unlink()
    own, changed, _ = rebuilt(dataset, source)
    assert changed
    with pytest.raises(ValueError, match="not built from the built-in sample.*: name the source"):
        opened_rebuild(dataset, source=None).__enter__()
    assert open_dataset(dataset).manifest.version == own.name != version


def test_upkeep_finds_the_damaged_version_of_many_and_prunes_by_the_rule(here):
    dataset, source, version = here
    changed_file = sorted(source.glob("AFW/*.jpg"))[-1]
    changed_file.write_bytes(changed_file.read_bytes() + b"\xff")
    latest, _, _ = rebuilt(dataset, source)
    assert [
        (seen.version, seen.is_latest, len(seen.findings)) for seen in upkeep.verified_versions(dataset.parent)
    ] == [
        (latest.name, True, 0),
        (version, False, 0),
    ]
    next((dataset / version / "image").glob("c.1.*")).write_bytes(b"")
    damaged = [seen for seen in upkeep.verified_versions(dataset.parent, full=False) if seen.findings]
    assert [(seen.version, seen.findings[0].key) for seen in damaged] == [(version, "image/c.1.0.0.0")]
    (dataset.parent / "sources").mkdir()
    done = upkeep.pruned_datasets(dataset.parent, keep=1, keep_days=0, now_s=latest.stat().st_mtime + 1)
    assert {name: pruned.removed for name, pruned in done.items()} == {dataset.name: (version,)}
    assert not (dataset / version).exists()

"""The list of pictures that a plan writes is what workers go by: one that the disk has changed makes no sample."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from flows import build, fit_shards, fits
from flows.config import FitsConfig
from flows.errors import ShardsDamaged
from flows.planned_list import PICTURES_KEY, planned_list
from geometry.fit_result import FitConfig
from storage.local_store import LocalStore
from storage.manifest import DatasetPlan, canonical_json
from storage.publish import finished_shards
from storage.store import DamagedObject
from tests.hardening.kept import FACES, GOLDEN

CHANGES = {
    "another name": lambda listed, rows: rows[0].__setitem__(0, "AFW/another"),
    "another digest": lambda listed, rows: rows[0].__setitem__(2, "0" * 64),
    "two rows swapped": lambda listed, rows: rows.reverse(),
    "another config": lambda listed, rows: listed["config"].__setitem__("shard_size", 77),
    "half of it": lambda listed, rows: rows.pop(),
}


def changed(path: Path, rows: str, change: str) -> None:
    listed = json.loads(path.read_text())
    CHANGES[change](listed, listed[rows])
    path.write_bytes(canonical_json(listed))


def test_a_worker_that_finds_another_list_makes_nothing(tmp_path):
    with build.opened_build(GOLDEN, source=FACES, model="built-in", out=tmp_path) as opened:
        place = opened.job.folder / PICTURES_KEY
        right = place.read_bytes()
        for change in CHANGES:
            changed(place, "pictures", change)
            build._prepared_once.cache_clear()  # a worker that has just been started
            with pytest.raises(DamagedObject, match="the build was planned with"):
                build.build_shard(opened.job, 0)
            place.write_bytes(right)
        assert finished_shards(opened.version, opened.job.plan) == {}
        build.build_shard(opened.job, 0)
        assert list(finished_shards(opened.version, opened.job.plan)) == [0]
        refused_though_its_digest_is_right(opened.version, opened.job.plan)


def refused_though_its_digest_is_right(version: LocalStore, plan: DatasetPlan) -> None:
    """A version from elsewhere may come with a plan that names the digest of anything."""
    for listed in (b"{}", b"[1", b"[" * 100_000, b'[],"pictures":[]', b"\xff"):
        [source] = plan.sources
        named = source.model_copy(update={"fingerprint": hashlib.sha256(listed).hexdigest()})
        version.put(PICTURES_KEY, b'{"config":' + canonical_json(plan.config) + b',"pictures":' + listed + b"}")
        with pytest.raises(DamagedObject, match="the build was planned with"):
            planned_list(version, plan.model_copy(update={"sources": (named,)}), "pictures")


def test_fits_are_held_to_their_list_by_every_worker_and_before_publishing(tmp_path):
    shutil.copytree(FACES / "AFW", tmp_path / "photographs")
    config = FitsConfig(fit=FitConfig(contour="fixed"))
    with fits.opened_fits(config, source=tmp_path / "photographs", model="built-in", out=tmp_path / "out") as opened:
        place = opened.job.folder / PICTURES_KEY
        right = place.read_bytes()
        changed(place, "faces", "another name")
        fit_shards._prepared.cache_clear()
        with pytest.raises(DamagedObject, match="the build was planned with"):
            fit_shards.fit_shard(opened.job, 0)
        place.write_bytes(right)
        assert not fit_shards.fit_shard(opened.job, 0).rejected
        changed(place, "faces", "another name")
        with pytest.raises(ShardsDamaged, match="the build was planned with"):
            fits.publish_fits(opened)

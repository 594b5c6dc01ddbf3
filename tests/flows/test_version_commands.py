"""`list`, `diff`, `prune`, `pin` and `verify` on data sets with several versions."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from storage.manifest import MANIFEST_KEY, DatasetPlan, ModelInfo, SourceInfo
from storage.publish import builders_lock, draft_manifest, point_latest, publish, start_version
from storage.schema import Schema, Target
from storage.shards import ShardWriter

SCHEMA = Schema(targets=(Target(name="seed", dtype="int64", description="a number"),))


def publish_numbers(out: Path, recipe_version: int) -> str:
    """A version of four numbers."""
    source = SourceInfo(kind="numbers", n_files=0, fingerprint="0" * 64)
    model = ModelInfo(name="nobody", fingerprint="0" * 32)
    plan = DatasetPlan(
        name="numbers", config={"first": 0}, recipe_version=recipe_version, model=model, sources=(source,),
        sample_schema=SCHEMA, shard_size=2, n_slots=4,
    )  # fmt: skip
    with builders_lock(out / plan.name) as dataset:
        store = dataset.folder(plan.version)
        start_version(store, plan)
        for shard in range(2):
            writer = ShardWriter(store, plan, shard)
            for slot in plan.slots(shard):
                writer.add(slot, {"seed": np.int64(slot + (recipe_version if slot == 3 else 0))})
            writer.finish()
        publish(store, draft_manifest(store, plan))
        point_latest(dataset, plan.version)
    return plan.version


@pytest.fixture
def three(tmp_path) -> SimpleNamespace:
    versions = []
    for recipe in (1, 2, 3):
        versions.append(publish_numbers(tmp_path, recipe))
        day = 86_400 * (20_000 + recipe)
        os.utime(tmp_path / "numbers" / versions[-1] / MANIFEST_KEY, times=(day, day))
    return SimpleNamespace(out=tmp_path, path=tmp_path / "numbers", versions=versions)


def test_list_names_every_version_its_day_and_its_pins(three, run):
    assert run("pin", three.path, three.versions[0], "prnet-run-7").code == 0
    lines = run("list", "--out", three.out).out.splitlines()
    oldest, newest = three.versions[0], three.versions[2]
    assert f"  numbers  {oldest}  2024-10-05 00:00  pinned by prnet-run-7" in lines
    assert f"* numbers  {newest}  2024-10-07 00:00" in lines
    assert len(lines) == 3


def test_diff_tells_what_changed_and_which_samples(three, run):
    first, second, _ = three.versions
    told = run("diff", three.path, first, second)
    assert told.code == 0
    assert told.out.splitlines() == [
        "config.recipe_version: 1 -> 2",
        "samples changed in seed: 1: slot 3 (0)",
        "samples the same: 3",
    ]
    answer = json.loads(run("diff", three.path, first, second, "--json").out)
    assert (answer["equal"], answer["n_same"], answer["changed"]) == (False, 3, {"seed": [["slot 3", 0]]})
    assert json.loads(run("diff", three.path, first, first, "--json").out)["equal"] is True


def test_prune_keeps_what_its_rule_keeps_and_says_why(three, run):
    oldest, middle, newest = three.versions
    run("pin", three.path, oldest, "paper")
    told = run("prune", three.path, "--keep", 1)
    assert told.out.splitlines() == [
        f"removed  {middle}",
        f"kept     {newest}  it is the latest",
        f"kept     {oldest}  pinned by paper",
    ]
    run("pin", three.path, oldest, "paper", "--release")
    assert json.loads(run("prune", three.path, "--keep", 1, "--json").out) == {
        "removed": [oldest],
        "kept": {newest: "it is the latest"},
    }
    assert run("prune", three.path).code == 2
    assert "Missing option '--keep'" in run("prune", three.path).err


def test_prune_beside_a_builder_leaves_with_exit_code_4(three, run):
    with builders_lock(three.path):
        ended = run("prune", three.path, "--keep", 1)
    assert ended.code == 4
    assert "is building numbers at this moment" in ended.err


def test_a_pin_on_nothing_fails_with_one_sentence(three, run):
    ended = run("pin", three.path, "0123", "x")
    assert ended.code == 1
    assert "0123 has no manifest.json: it is not a published version" in ended.err
    assert run("pin", three.path, three.versions[0], "x", "--release").code == 1


def test_a_repair_of_what_no_recipe_makes_is_refused(three, run):
    (three.path / three.versions[2] / "seed/c.1").write_bytes(b"")
    ended = run("verify", three.path, "--repair")
    assert ended.code == 1
    assert "was not made by a recipe that can be repeated shard by shard" in ended.err


def test_verify_counts_objects_while_it_reads(three, run):
    assert "objects" in run("verify", three.path).err
    assert run("verify", three.path, "--json").err == ""

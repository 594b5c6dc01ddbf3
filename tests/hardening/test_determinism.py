"""The same inputs give the same bytes, whoever makes them, in whatever order and kind of process; golden ones stay."""

import json
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from flows import build
from flows.local import build_here
from storage.dataset import ShardedDataset, open_dataset
from tests.hardening.kept import (
    DATA,
    FACES,
    GOLDEN,
    TOLERANCES,
    differences,
    golden_build,
    objects_of,
    signature,
    values_of,
)

ELSEWHERE = {"machine": "another"}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> ShardedDataset:
    return golden_build(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads((DATA / "golden.json").read_text())


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    with np.load(DATA / "golden.npz", allow_pickle=False) as stored:
        return dict(stored)


# ----------------------------------------------------------------------------------------------------- golden


def test_the_golden_data_set_is_what_it_was(built, golden, values):
    """Byte for byte on the type of machine that it was made on; elsewhere within tolerances."""
    assert differences(built, golden, values, signature()) == []


def test_its_values_are_the_golden_ones_on_every_machine(built, golden, values):
    assert differences(built, golden, values, ELSEWHERE) == []


def test_on_a_machine_of_its_signature_every_changed_object_is_named(built):
    here = {"signature": signature(), "objects": objects_of(built)}
    assert differences(built, here, {}, signature()) == []
    keys = ["image/c.0.0.0.0", "manifest of another", "tables/weight_mask/c.0.0"]
    changed = {"signature": signature(), "objects": here["objects"] | {key: "0" * 64 for key in keys}}
    assert differences(built, changed, {}, signature()) == keys


def test_on_other_machines_a_value_beyond_its_tolerance_is_named_and_one_within_is_not(built, golden):
    right = values_of(built)
    near = right | {"position_map": right["position_map"] + 0.9 * TOLERANCES["position_map"]}
    assert differences(built, golden, near, ELSEWHERE) == []
    for name, step in (("position_map", 0.1), ("landmarks_px", 0.02), ("identity", 1.0), ("image", 3), ("uv", 0.01)):
        far = right | {name: right[name].astype(np.float64) + step}
        assert differences(built, golden, far, ELSEWHERE) == [name]
    lacking = {name: value for name, value in right.items() if name != "pose"}
    assert differences(built, golden, lacking, ELSEWHERE) == ["pose"]


# -------------------------------------------------------------------------------------- workers, order, processes


def test_the_number_of_workers_changes_no_byte(built, tmp_path):
    assert objects_of(golden_build(tmp_path, workers=2)) == objects_of(built)


def test_the_order_in_which_files_came_to_the_disk_changes_no_byte(built, tmp_path):
    """Folders list in the order of creation, or by a hash: what is built must not."""
    source = tmp_path / "backwards"
    for path in sorted((path for path in FACES.rglob("*") if path.is_file()), reverse=True):
        place = source / path.relative_to(FACES)
        place.parent.mkdir(parents=True, exist_ok=True)
        passing = place.with_name(f"{place.name}.passing")
        passing.touch()  # takes a place in the folder, and leaves it
        shutil.copyfile(path, place)
        passing.unlink()
    assert objects_of(golden_build(tmp_path / "out", source=source)) == objects_of(built)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_way_in_which_processes_start_changes_no_byte(built, tmp_path, monkeypatch, method):
    monkeypatch.setenv("PYTHONHASHSEED", "12345")  # sets of texts have another order there
    with build.opened_build(GOLDEN, source=FACES, model="built-in", out=tmp_path) as opened:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            shards = list(pool.map(build.build_shard, [opened.job] * 2, reversed(opened.missing_shards)))
        assert len(shards) == opened.job.plan.n_shards
        published = build.publish_build(opened)
    assert objects_of(open_dataset(published.path)) == objects_of(built)
    assert os.environ["PYTHONHASHSEED"] == "12345"


def test_a_faces_bytes_do_not_depend_on_how_many_faces_are_beside_it(tmp_path):
    """BLAS rounds a product of one row otherwise than one of several: a face that is alone is not computed alone."""
    together = GOLDEN.model_copy(update={"shard_size": 8})
    shutil.copytree(FACES / "AFW", tmp_path / "one" / "AFW")
    alone, beside = (
        open_dataset(build_here(together, source=source, out=tmp_path / name, workers=1).path)
        for name, source in (("alone", tmp_path / "one"), ("beside", FACES))
    )
    ids = [str(name) for name in beside.read(range(len(beside)), ("source_id",))["source_id"]]
    rows = [row for row, name in enumerate(ids) if name.startswith("AFW/")]
    assert len(rows) == len(alone) == 2
    expected, found = beside.read(rows), alone.read(range(2))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)

"""A build on Dask's workers: the same bytes, whoever dies, and sentences where it cannot be."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.config import PosmapConfig
from flows.dask_workers import _on_worker, on_dask, versions_here
from flows.errors import OtherVersions
from flows.local import build_here
from render.crop import CropConfig
from storage.dataset import open_dataset
from storage.stores import store_at
from storage.verify import verify

SMALL = PosmapConfig(crop=CropConfig(size_px=64), shard_size=1)
"""Fourteen shards: enough for one to be under way when a worker is killed."""

BUILD_AND_KILL = """
import json, os, signal, sys, threading, time

from distributed import LocalCluster

from flows.config import PosmapConfig
from flows.local import build_here
from storage.stores import store_at


def receipts(out):
    return [key for key in store_at(out).list() if "/receipts/" in key]


def kill_after_the_first_shard(pid, out, killed):
    while not receipts(out):
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    killed.append(len(receipts(out)))


if __name__ == "__main__":
    config, source, out = PosmapConfig.model_validate_json(sys.argv[1]), sys.argv[2], sys.argv[3]
    with LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=None) as cluster:
        before, killed = {worker.pid for worker in cluster.workers.values()}, []
        victim = min(before)
        thread = threading.Thread(target=kill_after_the_first_shard, args=(victim, out, killed), daemon=True)
        thread.start()
        published = build_here(config, source=source, out=out, scheduler=cluster.scheduler_address)
        thread.join()
    print(json.dumps({"path": str(published.path), "workers": len(before), "shards_at_the_kill": killed[0]}))
"""


def objects(version: str | Path) -> dict[str, str]:
    """The sha256 of every object."""
    store = store_at(version)
    return {key: hashlib.sha256(bytes(store.get(key))).hexdigest() for key in store.list()}


def built_while_one_is_killed(source: Path, out: str, script: Path) -> str:
    """Where the version lies that two workers built, one of them until it was killed."""
    script.write_text(BUILD_AND_KILL)
    command = [sys.executable, str(script), SMALL.model_dump_json(), str(source), out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["workers"] == 2
    assert 1 <= told["shards_at_the_kill"] < 14
    return told["path"]


@pytest.fixture(scope="module")
def alone(sample_folder, tmp_path_factory) -> Path:
    """The version as one process builds it on a local file system."""
    return build_here(SMALL, source=sample_folder, out=tmp_path_factory.mktemp("alone"), workers=1).path


@pytest.mark.slow
def test_a_worker_of_two_that_is_killed_changes_no_byte(alone, sample_folder, tmp_path):
    version = built_while_one_is_killed(sample_folder, str(tmp_path / "dask"), tmp_path / "build_and_kill.py")
    assert objects(version) == objects(alone)


@pytest.mark.slow
def test_nor_does_it_on_s3_where_the_bytes_are_those_of_a_local_build_and_can_be_learnt_from(
    alone, s3_server, sample_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("AWS_TIMEOUT", "30s")  # nothing is injected here: slowness is the machine's
    version = built_while_one_is_killed(sample_folder, "s3://faces/dask", tmp_path / "build_and_kill.py")
    assert objects(version) == objects(alone)
    assert verify(store_at(version)) == []
    assert open_dataset("s3://faces/dask/300wlp-posmaps")[13]["position_map"].shape == (64, 64, 3)


@pytest.mark.parametrize("address", ["nonsense", "tcp://", "http://127.0.0.1:9", "tcp://host"])
def test_what_is_no_schedulers_address_is_refused_before_a_client_is_made(address):
    """A client that fails for its address leaves a thread behind, and the command would print its sentence and hang."""
    with pytest.raises(ValueError, match="is no address of a Dask scheduler"):
        list(on_dask(pow, [(2, 3)], 1, scheduler=address))


def test_dask_that_is_missing_is_told_before_a_sample_is_drawn_for_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match="--scheduler needs Dask"):
        build_here(SMALL, out=tmp_path, scheduler="local")
    assert not list(tmp_path.iterdir())


def test_an_address_where_nobody_answers_is_named_with_what_to_do():
    with pytest.raises(ValueError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 .* start one"):
        next(on_dask(abs, [(-1,)], 1, scheduler="tcp://127.0.0.1:9", patience_s=1.0))


def test_a_worker_with_other_libraries_is_refused_before_it_makes_a_shard():
    ours = {**versions_here(), "numpy": "1.0"}
    with pytest.raises(OtherVersions, match=r"has numpy .* and not 1\.0: shards of one version come from one set"):
        _on_worker(ours, pytest.fail, "a shard was made")

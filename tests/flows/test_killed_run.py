"""Worker and flow killed together in mid-build, on a real server: noticed, started again, resumed, published, learnt from."""

import time
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from flows.config import PosmapConfig
from flows.local import build_here
from render.crop import CropConfig
from storage.dataset import open_dataset
from storage.synthetic import write_sample_folder

SMALL = PosmapConfig(crop=CropConfig(size_px=128), shard_size=1)
"""Fourteen shards, so that there is a middle to be killed in."""


@pytest.mark.orchestration
@pytest.mark.server
@pytest.mark.slow
def test_a_killed_build_crashes_within_two_minutes_goes_on_where_it_was_and_leads_to_training_and_evaluation(
    prefect_house, tmp_path
):
    source = tmp_path / "source"
    write_sample_folder(source, n_identities=2, n_expressions=1, n_views=3)
    with prefect_house.opened_house(tmp_path) as house:
        before = build_here(SMALL, source=source, out=house.checkout / "datasets", workers=1)
        for picture in source.rglob("*.jpg"):
            picture.write_bytes(picture.read_bytes() + b"\xff")
        learn_one_step(house)
        house.shell("facefoundry deploy --on train-prnet --on evaluate")
        dataset = before.path.parent
        with house.running(prefect_house.WORKER, tmp_path / "first-worker.log") as worker:
            run = house.start(f"prefect deployment run rebuild -p source={source} -p workers=1")
            prefect_house.wait_until(lambda: len(receipts(dataset, before.version)) >= 2, "the second shard")
            prefect_house.kill(worker)
        killed, made = time.time(), receipts(dataset, before.version)
        assert 2 <= len(made) < 14
        assert open_dataset(dataset).manifest.version == before.version
        assert house.flow_run(run)["state_type"] == "RUNNING"  # as far as anybody knows

        with house.running(prefect_house.WORKER, tmp_path / "second-worker.log"):
            prefect_house.wait_until(lambda: house.flow_run(run)["state_type"] in ("COMPLETED", "FAILED"), "its end")
            ended = house.flow_run(run)
            assert (ended["state_type"], ended["run_count"]) == ("COMPLETED", 2)
            states = house.get(f"/flow_run_states/?flow_run_id={run}")
            [crashed] = [state for state in states if state["type"] == "CRASHED"]
            assert datetime.fromisoformat(crashed["timestamp"]).timestamp() - killed < 120
            assert receipts(dataset, before.version).items() >= made.items()  # neither made again nor touched

            manifest = open_dataset(dataset).manifest
            assert (manifest.n_samples, manifest.plan.n_shards) == (14, 14)
            assert ended["name"] == f"rebuild 300wlp-posmaps {manifest.version}"
            assert {"facefoundry", "dataset:300wlp-posmaps", f"version:{manifest.version}"} <= set(ended["tags"])
            summary = house.artifact("300wlp-posmaps-summary")
            assert "| samples | 14 |" in summary
            assert "card.html" in summary
            assert "![contact sheet](data:image/webp;base64," in summary
            for flow in ("train-prnet", "evaluate"):
                house.wait_for(flow)
            [training] = house.runs("train-prnet")
            assert training["parameters"]["fingerprint"] == manifest.fingerprint
            assert "training_samples" in house.artifact("prnet-metrics")


def learn_one_step(house) -> None:
    """Put parameters for a short training into the trigger, as people do."""
    steps = house.checkout / "infra/prefect.yaml"
    document = yaml.safe_load(steps.read_text())
    train = next(each for each in document["deployments"] if each["entrypoint"].endswith("train_prnet"))
    train["triggers"][0]["parameters"] |= {"steps": 1, "preset": "tiny", "hold_out": 0.5}
    steps.write_text(yaml.safe_dump(document))


def receipts(dataset: Path, version: str) -> dict[str, int]:
    """When each finished shard of other versions than this one was written (ns)."""
    found = (path for path in dataset.glob("*/receipts/*.json") if path.parent.parent.name != version)
    return {path.name: path.stat().st_mtime_ns for path in found}

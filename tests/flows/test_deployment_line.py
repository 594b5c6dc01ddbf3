"""The README's line, `prefect deployment run build-300wlp-posmaps`, against a real server and a real worker."""

import contextlib
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flows.config import PosmapConfig
from flows.local import build_here
from render.crop import CropConfig
from storage.dataset import open_dataset
from storage.sample_photographs import write_sample_photographs
from storage.synthetic import write_sample_folder
from storage.synthetic_groups import write_group_folder


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A folder shaped like 300W-LP with a few pictures in it."""
    folder = tmp_path_factory.mktemp("source")
    write_sample_folder(folder, n_identities=1, n_expressions=1, n_views=2)
    return folder


@pytest.fixture(scope="module")
def house(prefect_house, tmp_path_factory) -> Iterator[object]:
    """A server and a worker."""
    folder = tmp_path_factory.mktemp("prefect")
    with prefect_house.opened_house(folder) as house:
        house.shell("prefect work-pool create local --type process")
        with house.running(prefect_house.WORKER, folder / "worker.log"):  # stopped before the server
            yield house


@pytest.mark.server
def test_the_readme_line_builds_a_data_set_that_opens(house, source):
    house.shell("prefect --no-prompt deploy --all --prefect-file infra/prefect.yaml")

    house.finish(f"prefect deployment run build-300wlp-posmaps -p source={source} -p size=128 -p workers=1")

    dataset = open_dataset(house.checkout / "datasets/300wlp-posmaps")
    assert len(dataset) == len(list(source.rglob("*.mat")))
    assert dataset[-1]["position_map"].shape == (128, 128, 3)


@pytest.mark.server
def test_fields_of_whole_photographs_are_built_by_the_line_of_their_own_flow(house, tmp_path):
    write_group_folder(tmp_path / "groups", n_photographs=2)
    house.shell("prefect --no-prompt deploy --all --prefect-file infra/prefect.yaml")

    source = tmp_path / "groups"
    house.finish(f"prefect deployment run build-densereg-fields -p source={source} -p longest=256 -p workers=1")

    dataset = open_dataset(house.checkout / "datasets/densereg-fields")
    assert len(dataset) == 2
    assert dataset[1]["n_faces"] == 2


@pytest.mark.server
def test_photographs_are_fitted_by_the_line_of_their_own_flow(house, source, tmp_path):
    write_sample_photographs(tmp_path / "photographs", source)
    house.shell("prefect --no-prompt deploy --all --prefect-file infra/prefect.yaml")

    house.finish(f"prefect deployment run fit-landmarks -p source={tmp_path / 'photographs'} -p workers=1")

    dataset = open_dataset(house.checkout / "datasets/fits")
    assert len(dataset) == len(list(tmp_path.rglob("*.pts"))) == 2
    folder = house.checkout / "datasets/sources/fits" / dataset.manifest.version
    assert len(list(folder.rglob("*.mat"))) == 2


@pytest.mark.orchestration
@pytest.mark.server
@pytest.mark.slow
def test_a_schedule_fires_and_what_it_publishes_starts_training_then_evaluation_and_nothing_changed_starts_none(
    house, prefect_house, source
):
    steps = house.checkout / "infra/prefect.yaml"
    document = yaml.safe_load(steps.read_text())
    deployed = {each["entrypoint"].rpartition(".")[2]: each for each in document["deployments"]}
    deployed["rebuild"]["parameters"] = {"source": str(source), "scheduler": "local", "workers": 2}
    deployed["train_prnet"]["triggers"][0]["parameters"] |= {"steps": 1, "preset": "tiny", "hold_out": 0.5}
    steps.write_text(yaml.safe_dump(document))
    picture = next(source.rglob("*.jpg"))
    picture.write_bytes(picture.read_bytes() + b"\xff")

    house.shell("facefoundry deploy --on rebuild --on train-prnet --on evaluate")
    told = json.loads(house.shell("facefoundry deploy --json").splitlines()[-1])  # again: what is on stays on
    on = {each["name"] for each in told["deployments"] if True in {**each["schedules"], **each["triggers"]}.values()}
    assert on == {"rebuild/default", "train-prnet/default", "evaluate/default"}
    soon = {"active": True, "schedule": {"interval": 60}, "max_scheduled_runs": 1}  # 03:00 is far away
    deployment = house.get("/deployments/name/rebuild/default")["id"]
    house.ask(f"/deployments/{deployment}/schedules", [soon])
    prefect_house.wait_until(lambda: {"RUNNING", "COMPLETED"} & set(house.states("rebuild")), "the schedule to fire")
    house.shell("prefect deployment schedule clear rebuild/default --accept-yes")  # or it would fire again and again
    for flow in ("train-prnet", "evaluate"):  # the one's event starts the other
        house.wait_for(flow)

    assert any(run["auto_scheduled"] for run in house.runs("rebuild") if run["state_type"] == "COMPLETED")
    manifest = open_dataset(house.checkout / "datasets/300wlp-posmaps").manifest
    [training] = house.runs("train-prnet")
    assert training["name"] == f"prnet on 300wlp-posmaps {manifest.version}"
    assert {f"version:{manifest.version}", "system:prnet", "facefoundry"} <= set(training["tags"])
    metrics = {row["metric"]: row["value"] for row in json.loads(house.artifact("prnet-metrics"))}
    assert int(metrics["steps"]) >= 1
    assert "![curves](data:image/webp;base64," in house.artifact("prnet-card")
    assert "![predictions.png](data:" in house.artifact("evaluation")

    house.finish("prefect deployment run rebuild")  # nothing changed
    time.sleep(3)
    assert len(house.runs("train-prnet")) == 1
    house.finish("prefect deployment run verify -p keep=1 -p keep_days=0")
    versions = [path.name for path in (house.checkout / "datasets/300wlp-posmaps").iterdir() if path.is_dir()]
    assert versions == [manifest.version]
    house.shell("facefoundry deploy --off train-prnet --off evaluate")


@pytest.mark.orchestration
@pytest.mark.server
def test_the_smoke_check_is_well_after_a_deploy_and_names_what_is_off_or_open(house, prefect_house):
    def smoke(*options: str) -> tuple[int, str]:
        command = [sys.executable, prefect_house.ROOT / "infra" / "smoke.py", *options]
        done = subprocess.run(command, env=house.environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout

    house.shell("facefoundry deploy")
    prefect_house.wait_until(lambda: smoke()[0] == 0, "the worker to be seen")
    told = smoke()[1].splitlines()
    assert [line.split()[1].rstrip(":") for line in told] == ["server", "deployments", "automations", "worker"]
    assert all(line.startswith("ok ") for line in told)
    code, told = smoke("--refuses-strangers")
    assert (code, "whoever reaches the server may use it" in told) == (1, True)
    house.shell('prefect automation pause "silent runs have crashed"')
    try:
        code, told = smoke()
        assert (code, "the automation 'silent runs have crashed' is off" in told) == (1, True)
    finally:
        house.shell('prefect automation resume "silent runs have crashed"')


@pytest.mark.server
@pytest.mark.slow
def test_two_flows_that_write_one_data_set_wait_for_each_other(house, prefect_house, source):
    """Without the wait the second one leaves at once: the builders' lock is held."""
    house.shell("facefoundry deploy")
    first = house.start(f"prefect deployment run build-300wlp-posmaps -p source={source} -p out=race -p size=128")
    second = house.start(f"prefect deployment run rebuild -p source={source} -p dataset=race/300wlp-posmaps")
    for run in (first, second):
        prefect_house.wait_until(
            lambda run=run: house.flow_run(run)["state_type"] in prefect_house.FINAL_STATES, "both runs to end"
        )
        assert house.flow_run(run)["state_type"] == "COMPLETED"
    limits = house.ask("/v2/concurrency_limits/filter", {})
    assert {limit["limit"] for limit in limits if limit["name"].startswith("300wlp-posmaps ")} == {1}


@pytest.mark.orchestration
@pytest.mark.server
@pytest.mark.slow
def test_what_fails_is_told_by_events_and_a_notification_and_damage_keeps_what_is_old(
    house, prefect_house, source, tmp_path
):
    published = build_here(PosmapConfig(crop=CropConfig(size_px=64)), source=source, out=tmp_path / "out", workers=1)
    victim = next((published.path / "image").glob("c.*"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with listener() as (address, heard):
        assert "not there" in house.shell("facefoundry deploy")  # nobody has made the block yet
        make_webhook(house, "facefoundry", address)
        told = json.loads(house.shell("facefoundry deploy --json").splitlines()[-1])
        assert set(told["automations"].values()) == {"on"}

        why = house.fail(f"prefect deployment run verify -p out={tmp_path / 'out'} -p keep=1 -p keep_days=0")
        assert f"image/{victim.name}" in why
        assert published.path.is_dir()
        for flow in ("build-300wlp-posmaps", "fit-landmarks", "profile-faces"):
            why = house.fail(f"prefect deployment run {flow} -p source={tmp_path / 'nowhere'}")
            assert "nowhere" in why
        prefect_house.wait_until(lambda: len(heard) == 4, "four notifications")

    wanted = {"filter": {"event": {"prefix": ["dataset.damaged", "dataset.failed"]}}}
    prefect_house.wait_until(lambda: len(house.ask("/events/filter", wanted)["events"]) >= 4, "the events' record")
    told = [event["payload"] for event in house.ask("/events/filter", wanted)["events"]]
    assert {payload["dataset"] for payload in told} == {"300wlp-posmaps", "fits", "profiles"}
    assert [payload["version"] for payload in told if "version" in payload] == [published.version]
    assert {text.partition("|")[0] for text in heard} == {
        "300wlp-posmaps: dataset.damaged",
        "300wlp-posmaps: dataset.failed",
        "fits: dataset.failed",
        "profiles: dataset.failed",
    }
    assert all("nowhere" in text for text in heard if "failed" in text)


@contextlib.contextmanager
def listener() -> Iterator[tuple[str, list[str]]]:
    """A web server that keeps what is posted to it; its address, and what it has heard."""
    heard: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", heard
    finally:
        server.shutdown()
        server.server_close()


def make_webhook(house, name: str, address: str) -> None:
    """What a user does on the server's page."""
    script = (
        "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Webhook\n"
        f"Webhook(name='test', url={address!r}, json_data={{'text': '{{{{subject}}}}|{{{{body}}}}'}}).save({name!r})\n"
    )
    path = house.checkout / "webhook.py"
    path.write_text(script)
    house.shell(f"python {path}")

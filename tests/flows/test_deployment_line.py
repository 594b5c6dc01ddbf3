"""The README's line, `prefect deployment run build-300wlp-posmaps`, against a real server and a real worker."""

import contextlib
import functools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.config import PosmapConfig
from flows.local import build_here
from render.crop import CropConfig
from storage.dataset import open_dataset
from storage.sample_photographs import write_sample_photographs
from storage.synthetic import write_sample_folder
from storage.synthetic_groups import write_group_folder

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180
"""A limit for slow machines, never a wait: everything below goes on as soon as it can."""

FINAL_STATES = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True, slots=True)
class House:
    """A folder that looks like the checkout, a server on a free port and a worker, all of this test's own."""

    checkout: Path
    environment: Mapping[str, str]

    @property
    def api(self) -> str:
        return self.environment["PREFECT_API_URL"]

    def shell(self, line: str) -> str:
        """Run a command as a user types it; what it printed."""
        done = subprocess.run(
            shlex.split(line),
            cwd=self.checkout,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"`{line}` ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def finish(self, line: str) -> None:
        """Start a run as a user does and wait until it has ended well."""
        run = self._ended(line)
        assert run["state_type"] == "COMPLETED", run["state"]["message"]

    def fail(self, line: str) -> str:
        """Start a run that is to fail; what the server says of it."""
        run = self._ended(line)
        assert run["state_type"] == "FAILED", run["state"]["message"]
        return run["state"]["message"]

    def _ended(self, line: str) -> dict:
        run_id = re.search(r"UUID: (\S+)", self.shell(line))[1]
        wait_until(lambda: self.flow_run(run_id)["state_type"] in FINAL_STATES, "the run to end")
        return self.flow_run(run_id)

    def flow_run(self, run_id: str) -> dict:
        with urllib.request.urlopen(f"{self.api}/flow_runs/{run_id}", timeout=30) as answer:
            return json.load(answer)

    def ask(self, path: str, body: object) -> Any:
        """POST of a JSON body to the server's API."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.api}{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    @contextlib.contextmanager
    def running(self, line: str, log: Path) -> Iterator[subprocess.Popen]:
        """Run a command meanwhile; at the end stop it, politely first, with everything it started and nothing else."""
        with log.open("w") as output:
            started = subprocess.Popen(
                shlex.split(line),
                cwd=self.checkout,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
                # Tests started with `&` ignore SIGINT and would hand that on: a worker turns SIGTERM into SIGINT and
                # would never stop.
                preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )
        family: list[psutil.Process] = []
        try:
            yield started
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                leader = psutil.Process(started.pid)
                # A worker gives each flow run a process group of its own: killpg would miss it.
                family = [leader, *leader.children(recursive=True)]
            started.terminate()
            _, stubborn = psutil.wait_procs(family, timeout=30)
            for member in stubborn:
                member.kill()
            started.wait()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A folder shaped like 300W-LP with a few pictures in it."""
    folder = tmp_path_factory.mktemp("source")
    write_sample_folder(folder, n_identities=1, n_expressions=1, n_views=2)
    return folder


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Iterator[House]:
    assert entry_points(group="prefect.plugins", name="facefoundry"), "the project is not installed: make setup"
    folder = tmp_path_factory.mktemp("prefect")
    checkout = folder / "checkout"
    shutil.copytree(ROOT / "infra", checkout / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.toml", checkout)

    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": "127.0.0.1",
    }
    house = House(checkout, environment)
    server_log, worker_log = folder / "server.log", folder / "worker.log"

    with contextlib.ExitStack() as running:  # the worker is stopped before the server
        server = running.enter_context(
            house.running(f"prefect server start --host 127.0.0.1 --port {port}", server_log)
        )
        wait_until(lambda: server.poll() is not None or is_healthy(house.api), "the server to be healthy")
        assert server.poll() is None, f"the server died:\n{server_log.read_text()}"

        house.shell("prefect work-pool create local --type process")
        running.enter_context(house.running("prefect worker start --pool local --type process", worker_log))
        try:
            yield house
        finally:
            for log in (server_log, worker_log):  # pytest shows this only when a test failed
                print(f"--- {log.name}\n{log.read_text()[-4000:]}")


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_healthy(api: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.2)


@pytest.mark.server
@pytest.mark.slow
def test_a_rebuild_that_publishes_starts_training_then_evaluation_and_one_that_does_not_starts_none(house, source):
    steps = house.checkout / "infra/prefect.yaml"
    text, trigger = steps.read_text(), 'data: "{{ event.payload.path }}"'
    steps.write_text(text.replace(trigger, f"{trigger}\n      steps: 1\n      preset: tiny\n      hold_out: 0.5"))
    house.shell("facefoundry deploy --on train-prnet --on evaluate")
    told = json.loads(house.shell("facefoundry deploy --json").splitlines()[-1])  # again: what is on stays on
    on = {each["name"] for each in told["deployments"] if True in {**each["schedules"], **each["triggers"]}.values()}
    assert on == {"train-prnet/default", "evaluate/default"}
    assert told["automations"] == {"silent runs have crashed": True}

    on_dask = "-p scheduler=local -p workers=2"
    line = f"prefect deployment run rebuild -p dataset=datasets/300wlp-posmaps -p source={source} {on_dask}"
    picture = next(source.rglob("*.jpg"))
    picture.write_bytes(picture.read_bytes() + b"\xff")
    house.finish(line)
    for flow in ("train-prnet", "evaluate"):  # the one's event starts the other
        wait_until(lambda flow=flow: states(house, flow) and set(states(house, flow)) <= FINAL_STATES, f"{flow} to end")
        assert states(house, flow) == ["COMPLETED"], flow
    artifacts = house.ask("/artifacts/filter", {"artifacts": {"key": {"any_": ["prnet-card"]}}})
    version = open_dataset(house.checkout / "datasets/300wlp-posmaps").manifest.version
    assert version in artifacts[-1]["data"]

    house.finish(line)  # nothing changed
    time.sleep(3)
    assert states(house, "train-prnet") == ["COMPLETED"]
    house.finish("prefect deployment run verify -p keep=1 -p keep_days=0")
    versions = [path.name for path in (house.checkout / "datasets/300wlp-posmaps").iterdir() if path.is_dir()]
    assert versions == [version]


@pytest.mark.server
@pytest.mark.slow
def test_what_fails_is_told_by_an_event_and_damage_fails_the_verification_and_keeps_what_is_old(
    house, source, tmp_path
):
    published = build_here(PosmapConfig(crop=CropConfig(size_px=64)), source=source, out=tmp_path / "out", workers=1)
    victim = next((published.path / "image").glob("c.*"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    house.shell("facefoundry deploy")

    why = house.fail(f"prefect deployment run verify -p out={tmp_path / 'out'} -p keep=1 -p keep_days=0")
    assert f"image/{victim.name}" in why
    assert published.path.is_dir()
    why = house.fail(f"prefect deployment run build-300wlp-posmaps -p source={tmp_path / 'nowhere'}")
    assert "nowhere" in why

    wanted = {"filter": {"event": {"prefix": ["dataset.damaged", "dataset.failed"]}}}
    wait_until(lambda: len(house.ask("/events/filter", wanted)["events"]) == 2, "both events")
    told = {event["event"]: event["payload"] for event in house.ask("/events/filter", wanted)["events"]}
    assert told["dataset.damaged"]["version"] == published.version
    assert "nowhere" in told["dataset.failed"]["reason"]


def states(house: House, flow: str) -> list[str]:
    runs = house.ask("/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}})
    return [run["state_type"] for run in runs]

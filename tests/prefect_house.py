"""A Prefect server of the tests' own, a folder that looks like the checkout, and workers that can be killed."""

import base64
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
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 400
"""A limit for slow machines, never a wait: everything below goes on as soon as it can."""

FINAL_STATES = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

WORKER = "prefect worker start --pool local --type process"


@dataclass(frozen=True, slots=True)
class House:
    """A folder that looks like the checkout, and a server on a free port."""

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

    def start(self, line: str) -> str:
        """Start a run as a user does; its id."""
        return re.search(r"UUID: (\S+)", self.shell(line))[1]

    def _ended(self, line: str) -> dict:
        run_id = self.start(line)
        wait_until(lambda: self.flow_run(run_id)["state_type"] in FINAL_STATES, "the run to end")
        return self.flow_run(run_id)

    def runs(self, flow: str) -> list[dict]:
        """All runs of a flow that have begun, or are about to."""
        runs = self.ask("/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}})
        return [run for run in runs if run["state_name"] != "Scheduled"]  # the schedule's next ones are there already

    def states(self, flow: str) -> list[str]:
        """What has become of them."""
        return [run["state_type"] for run in self.runs(flow)]

    def wait_for(self, flow: str) -> None:
        """Wait until a flow has run, and all its runs have ended well."""
        wait_until(lambda: bool(ended := self.states(flow)) and set(ended) <= FINAL_STATES, f"{flow} to end")
        assert set(self.states(flow)) == {"COMPLETED"}, flow

    def artifact(self, key: str) -> Any:
        """The data of the latest artifact with this key."""
        wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"}
        return self.ask("/artifacts/filter", wanted)[0]["data"]

    def flow_run(self, run_id: str) -> dict:
        return self.get(f"/flow_runs/{run_id}")

    def get(self, path: str) -> Any:
        """GET from the server's API."""
        return answered(urllib.request.Request(f"{self.api}{path}", headers=self._headers()))

    def ask(self, path: str, body: object) -> Any:
        """POST of a JSON body to the server's API."""
        headers = {"Content-Type": "application/json", **self._headers()}
        return answered(urllib.request.Request(f"{self.api}{path}", json.dumps(body).encode(), headers))

    def _headers(self) -> dict[str, str]:
        """The password, where the server wants one."""
        auth = self.environment.get("PREFECT_API_AUTH_STRING", "")
        return {"Authorization": "Basic " + base64.b64encode(auth.encode()).decode()} if auth else {}

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


@contextlib.contextmanager
def opened_house(folder: Path) -> Iterator[House]:
    """A house whose server answers, without a worker; everything ends with the block."""
    assert entry_points(group="prefect.plugins", name="facefoundry"), "the project is not installed: make setup"
    checkout = folder / "checkout"
    shutil.copytree(ROOT / "infra", checkout / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.toml", checkout)

    house = House(checkout, client_environment(folder, free_port()))
    with served(house, folder / "server.log"):
        try:
            yield house
        finally:
            for path in folder.glob("*.log"):  # pytest shows this only when a test failed
                print(f"--- {path.name}\n{path.read_text()[-4000:]}")


def client_environment(folder: Path, port: int) -> dict[str, str]:
    """What leads `prefect` and `facefoundry` to a server of the tests' own, and keeps them from everybody else's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return environment | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": "127.0.0.1",
    }


@contextlib.contextmanager
def served(house: House, log: Path) -> Iterator[None]:
    """The house's server meanwhile, from the moment when it answers."""
    port = urllib.parse.urlsplit(house.api).port
    with house.running(f"prefect server start --host 127.0.0.1 --port {port}", log) as server:
        wait_until(lambda: server.poll() is not None or is_healthy(house.api), "the server to be healthy")
        assert server.poll() is None, f"the server died:\n{log.read_text()}"
        yield


def kill(process: subprocess.Popen) -> None:
    """SIGKILL for a process and all that it has started, whose ends nobody is left to tell of."""
    leader = psutil.Process(process.pid)
    for member in (leader, *leader.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answered(request: urllib.request.Request) -> Any:
    """The JSON answer; a server whose database is busy says 503, and is asked again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > deadline:
                raise
        time.sleep(1)


def is_healthy(api: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Ask again and again; a server that is too busy to answer at one time may do so at the next."""
    deadline = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.2)

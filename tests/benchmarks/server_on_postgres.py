"""infra/compose.yaml without an engine: Prefect on Debian's Postgres with a password, deploy, worker, smoke from outside.

    apt-get install postgresql && python tests/benchmarks/server_on_postgres.py      (as root: Postgres wants its own user)

    python tests/benchmarks/server_on_postgres.py --lose-database 20

does not ask for smoke: Postgres is stopped in the middle of a build of fourteen shards (at once, so that every connection
breaks), and started again after so many seconds. Told is what became of the run, and whether the data set is whole; a run that
did not end as Completed is started once more.

Everything lies in a temporary folder and ends with the script. Exit code 0 when all is well.
"""

import argparse
import base64
import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flows.config import PosmapConfig
from flows.local import build_here
from render.crop import CropConfig
from storage.dataset import open_dataset, version_store
from storage.synthetic import write_sample_folder
from storage.verify import verify

ROOT = Path(__file__).resolve().parents[2]
DEBIANS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(
    command: list[str], log: Path, ending: int = signal.SIGTERM, **options: object
) -> Iterator[subprocess.Popen]:
    """A command meanwhile; what is started from here must not inherit an ignored SIGINT."""
    unignore = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=unignore, **options)
    try:
        yield process
    finally:
        process.send_signal(ending)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


class Postgres:
    """A database of its own with scram passwords, which can be stopped and started again."""

    def __init__(self, folder: Path, password: str) -> None:
        self._binaries, self._data, self._log, self._port = DEBIANS[-1], folder / "database", folder, free_port()
        self._data.mkdir()
        shutil.chown(self._data, "postgres", "postgres")
        folder.chmod(0o755)
        (folder / "password").write_text(f"{password}\n")
        words = ["-D", f"{self._data}", "-U", "prefect", "-A", "scram-sha-256", "--pwfile", f"{folder}/password"]
        make = [f"{self._binaries}/initdb", *words]
        subprocess.run(make, user="postgres", cwd="/tmp", check=True, stdout=subprocess.DEVNULL)
        self.url = f"postgresql+asyncpg://prefect:{password}@127.0.0.1:{self._port}/prefect"
        self._running = contextlib.ExitStack()
        self.start()
        address = ["-h", "127.0.0.1", "-p", f"{self._port}", "-U", "prefect"]
        environment = {**os.environ, "PGPASSWORD": password}
        subprocess.run([f"{self._binaries}/createdb", *address, "prefect"], env=environment, check=True)

    def start(self) -> None:
        """Run it, and wait until it answers."""
        words = [
            "-D",
            f"{self._data}",
            "-p",
            f"{self._port}",
            "-c",
            "listen_addresses=127.0.0.1",
            "-k",
            f"{self._data}",
        ]
        command = [f"{self._binaries}/postgres", *words]
        log = self._log / f"postgres-{time.monotonic_ns()}.log"
        # SIGQUIT: an immediate end, as of a machine that is cut off, without a word to those connected.
        self._running.enter_context(running(command, log, signal.SIGQUIT, user="postgres", cwd="/tmp"))
        ready = [f"{self._binaries}/pg_isready", "-q", "-h", "127.0.0.1", "-p", f"{self._port}"]
        wait(lambda: subprocess.run(ready, check=False).returncode == 0, "Postgres")

    def stop(self) -> None:
        """End it at once, and wait until it has ended."""
        self._running.close()


def wait(condition, what: str, patience_s: float = 600) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.3)


def healthy(api: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=20) as answer:
            return answer.status == 200
    except OSError:
        return False


def asked(api: str, auth: str, path: str, body: object = None) -> Any:
    """The server's JSON answer."""
    data = None if body is None else json.dumps(body).encode()
    words = {"Content-Type": "application/json", "Authorization": "Basic " + base64.b64encode(auth.encode()).decode()}
    with urllib.request.urlopen(urllib.request.Request(f"{api}{path}", data, words), timeout=30) as answer:
        return json.load(answer)


def lose_database(database: Postgres, ask: Callable[..., Any], folder: Path, seconds: float) -> int:
    """Stop the database in the middle of a rebuild; what became of the run and of the data."""
    source, out = folder / "source", folder / "data" / "datasets"
    write_sample_folder(source, n_identities=2, n_expressions=1, n_views=3)
    config = PosmapConfig(crop=CropConfig(size_px=128), shard_size=1)
    before = build_here(config, source=source, out=out, workers=1)
    for picture in source.rglob("*.jpg"):
        picture.write_bytes(picture.read_bytes() + b"\xff")
    dataset = before.path.parent

    def receipts() -> int:
        return sum(path.parent.parent != before.path for path in dataset.glob("*/receipts/*.json"))

    deployment = ask("/deployments/name/rebuild/default")["id"]

    def started() -> str:
        body = {"parameters": {"source": f"{source}", "workers": 1}, "state": {"type": "SCHEDULED"}}
        return ask(f"/deployments/{deployment}/create_flow_run", body)["id"]

    def state_of(run: str) -> str:
        try:
            return ask(f"/flow_runs/{run}")["state_type"]
        except (OSError, ValueError):
            return "unknown"

    run = started()
    wait(lambda: receipts() >= 2, "the second shard", 900)
    began = time.monotonic()
    database.stop()
    made = receipts()
    time.sleep(seconds)
    database.start()
    print(
        f"lost after {made} of 14 shards, for {time.monotonic() - began:.0f} s; {receipts()} when it was back",
        flush=True,
    )
    final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
    seen = [time.monotonic(), state_of(run)]

    def has_ended() -> bool:
        """Completed, or anything else that nobody has started again within 100 s."""
        if (now := state_of(run)) != seen[1]:
            seen[:] = time.monotonic(), now
        return now == "COMPLETED" or (now in final and time.monotonic() - seen[0] > 100)

    wait(has_ended, "the run's end", 1500)
    ended = ask(f"/flow_runs/{run}")
    states = [each["name"] for each in ask(f"/flow_run_states/?flow_run_id={run}")]
    print(f"run: {' → '.join(states)}; {ended['run_count']} processes; {time.monotonic() - began:.0f} s after the loss")
    if ended["state_type"] != "COMPLETED":
        again = started()
        wait(lambda: state_of(again) in final, "the second run's end", 900)
        print(f"started again: {state_of(again)}")
    opened = open_dataset(dataset)
    findings = verify(version_store(dataset), full=True)
    well = opened.manifest.version != before.version and len(opened) == 14 and not findings
    print(f"data set: {opened.manifest.version}, {len(opened)} samples, {findings or 'whole'}")
    return 0 if well else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lose-database", type=float, metavar="SECONDS", default=0.0)
    seconds = parser.parse_args().lose_database
    if not DEBIANS or os.geteuid():
        print("needs root, and Postgres: apt-get install postgresql", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as house:
        folder, auth, port = Path(name), f"facefoundry:{secrets.token_hex(8)}", free_port()
        (folder / "data").mkdir()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PREFECT_HOME": f"{folder / 'home'}",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
            "DO_NOT_TRACK": "1",
        }
        database = Postgres(folder, secrets.token_hex(8))
        house.callback(database.stop)
        api = f"http://127.0.0.1:{port}/api"
        own = environment | {
            "PREFECT_API_DATABASE_CONNECTION_URL": database.url,
            "PREFECT_SERVER_API_AUTH_STRING": auth,
        }
        server = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", f"{port}"]
        house.enter_context(running(server, folder / "server.log", env=own, cwd=folder))
        wait(lambda: healthy(api), "the server")
        client = environment | {"PREFECT_API_URL": api}
        stranger = subprocess.run(["facefoundry", "deploy"], env=client, cwd=ROOT, capture_output=True, text=True)
        assert stranger.returncode == 1, stranger.stdout
        assert "wants a password" in stranger.stderr, stranger.stderr
        client |= {"PREFECT_API_AUTH_STRING": auth}
        subprocess.run(
            ["facefoundry", "deploy", "--infra", ROOT / "infra"], env=client, cwd=folder / "data", check=True
        )
        worker = ["prefect", "worker", "start", "--pool", "local", "--type", "process"]
        house.enter_context(running(worker, folder / "worker.log", env=client, cwd=folder / "data"))
        if seconds:
            code = lose_database(database, functools.partial(asked, api, auth), folder, seconds)
            for log in (folder / "server.log", folder / "worker.log") if code else ():
                print(f"--- {log.name}\n{log.read_text()[-6000:]}")
            return code
        smoke = [sys.executable, ROOT / "infra/smoke.py", "--run", "--refuses-strangers"]
        for _ in range(10):  # the worker says so after a few seconds
            looked = subprocess.run([*smoke[:2], "--refuses-strangers"], env=client, capture_output=True, check=False)
            if looked.returncode == 0:
                break
            time.sleep(2)
        return subprocess.run(smoke, env=client, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

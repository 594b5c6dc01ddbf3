"""infra/compose.yaml without an engine: Prefect on Debian's Postgres with a password, deploy, worker, smoke from outside.

    apt-get install postgresql && python tests/benchmarks/server_on_postgres.py      (as root: Postgres wants its own user)

Everything lies in a temporary folder and ends with the script. Exit code 0 when the smoke check is well.
"""

import contextlib
import functools
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
from collections.abc import Iterator
from pathlib import Path

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


@contextlib.contextmanager
def postgres(folder: Path, password: str) -> Iterator[str]:
    """A database of its own with scram passwords; its address."""
    binaries, data, port = DEBIANS[-1], folder / "database", free_port()
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    folder.chmod(0o755)
    (folder / "password").write_text(f"{password}\n")
    make = [
        f"{binaries}/initdb",
        "-D",
        f"{data}",
        "-U",
        "prefect",
        "-A",
        "scram-sha-256",
        "--pwfile",
        f"{folder}/password",
    ]
    subprocess.run(make, user="postgres", cwd="/tmp", check=True, stdout=subprocess.DEVNULL)
    command = [
        f"{binaries}/postgres",
        "-D",
        f"{data}",
        "-p",
        f"{port}",
        "-c",
        "listen_addresses=127.0.0.1",
        "-k",
        f"{data}",
    ]
    with running(command, folder / "postgres.log", signal.SIGINT, user="postgres", cwd="/tmp"):
        ready = [f"{binaries}/pg_isready", "-q", "-h", "127.0.0.1", "-p", f"{port}"]
        wait(lambda: subprocess.run(ready, check=False).returncode == 0, "Postgres")
        address = ["-h", "127.0.0.1", "-p", f"{port}", "-U", "prefect"]
        environment = {**os.environ, "PGPASSWORD": password}
        subprocess.run([f"{binaries}/createdb", *address, "prefect"], env=environment, check=True)
        yield f"postgresql+asyncpg://prefect:{password}@127.0.0.1:{port}/prefect"


def wait(condition, what: str, patience_s: float = 120) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.3)


def healthy(api: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=3) as answer:
            return answer.status == 200
    except OSError:
        return False


def main() -> int:
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
        url = house.enter_context(postgres(folder, secrets.token_hex(8)))
        api = f"http://127.0.0.1:{port}/api"
        own = environment | {"PREFECT_API_DATABASE_CONNECTION_URL": url, "PREFECT_SERVER_API_AUTH_STRING": auth}
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
        smoke = [sys.executable, ROOT / "infra/smoke.py", "--run", "--refuses-strangers"]
        for _ in range(10):  # the worker says so after a few seconds
            looked = subprocess.run([*smoke[:2], "--refuses-strangers"], env=client, capture_output=True, check=False)
            if looked.returncode == 0:
                break
            time.sleep(2)
        return subprocess.run(smoke, env=client, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

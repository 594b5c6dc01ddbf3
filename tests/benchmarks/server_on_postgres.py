"""infra/compose.yaml without an engine: Prefect on Debian's Postgres with a password, deploy, worker, smoke from outside.

    apt-get install postgresql && python -m tests.benchmarks.server_on_postgres    (as root: Postgres wants its own user)

    python -m tests.benchmarks.server_on_postgres --lose-database 20

does not ask for smoke: Postgres is stopped in the middle of a build of fourteen shards (at once, so that every connection
breaks), and started again after so many seconds. Told is what became of the run, and whether the data set is whole; a run that
did not end as Completed is started once more.

Everything lies in a temporary folder and ends with the script. Exit code 0 when all is well.
"""

import argparse
import contextlib
import functools
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from flows.config import PosmapConfig
from flows.local import build_here
from render.crop import CropConfig
from storage.dataset import open_dataset, version_store
from storage.synthetic import write_sample_folder
from storage.verify import verify
from tests.prefect_house import FINAL_STATES, ROOT, WORKER, House, client_environment, free_port, served, wait_until

DEBIANS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class Postgres:
    """A database of its own with scram passwords, which can be stopped and started again."""

    def __init__(self, folder: Path, password: str) -> None:
        self._binaries, self._data, self._port = DEBIANS[-1], folder / "database", free_port()
        self._log = folder / "postgres.log"
        self._data.mkdir()
        shutil.chown(self._data, "postgres", "postgres")
        folder.chmod(0o755)
        (folder / "password").write_text(f"{password}\n")
        words = ["-D", self._data, "-U", "prefect", "-A", "scram-sha-256", "--pwfile", folder / "password"]
        make = [self._binaries / "initdb", *words]
        subprocess.run(make, user="postgres", cwd="/tmp", check=True, stdout=subprocess.DEVNULL)
        self.url = f"postgresql+asyncpg://prefect:{password}@127.0.0.1:{self._port}/prefect"
        self.start()
        address = ["-h", "127.0.0.1", "-p", f"{self._port}", "-U", "prefect"]
        environment = {**os.environ, "PGPASSWORD": password}
        subprocess.run([self._binaries / "createdb", *address, "prefect"], env=environment, check=True)

    def start(self) -> None:
        """Run it, and wait until it answers."""
        place = ["-D", self._data, "-p", f"{self._port}", "-k", self._data]
        command = [self._binaries / "postgres", *place, "-c", "listen_addresses=127.0.0.1"]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user="postgres", cwd="/tmp")
        ready = [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", f"{self._port}"]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, "Postgres")

    def stop(self) -> None:
        """End it at once, as a machine that is cut off, without a word to those connected; wait until it has ended."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()


def lose_database(database: Postgres, house: House, folder: Path, seconds: float) -> int:
    """Stop the database in the middle of a rebuild; what became of the run and of the data."""
    source, out = folder / "source", house.checkout / "datasets"
    write_sample_folder(source, n_identities=2, n_expressions=1, n_views=3)
    config = PosmapConfig(crop=CropConfig(size_px=128), shard_size=1)
    before = build_here(config, source=source, out=out, workers=1)
    for picture in source.rglob("*.jpg"):
        picture.write_bytes(picture.read_bytes() + b"\xff")
    dataset = before.path.parent
    start = f"prefect deployment run rebuild/default -p source={source} -p workers=1"

    def receipts() -> int:
        return sum(path.parent.parent != before.path for path in dataset.glob("*/receipts/*.json"))

    run = house.start(start)
    wait_until(lambda: receipts() >= 2, "the second shard", 900)
    began = time.monotonic()
    database.stop()
    made = receipts()
    time.sleep(seconds)
    database.start()
    away = time.monotonic() - began
    print(f"lost after {made} of 14 shards, for {away:.0f} s; {receipts()} when it was back", flush=True)
    seen = [time.monotonic(), "unknown"]

    def has_ended() -> bool:
        """Completed, or anything else that nobody has started again within 100 s."""
        if (now := house.flow_run(run)["state_type"]) != seen[1]:
            seen[:] = time.monotonic(), now
        return now == "COMPLETED" or (now in FINAL_STATES and time.monotonic() - seen[0] > 100)

    wait_until(has_ended, "the run's end", 1500)
    ended = house.flow_run(run)
    states = [each["name"] for each in house.get(f"/flow_run_states/?flow_run_id={run}")]
    print(f"run: {' → '.join(states)}; {ended['run_count']} processes; {time.monotonic() - began:.0f} s after the loss")
    if ended["state_type"] != "COMPLETED":
        again = house.start(start)
        wait_until(lambda: house.flow_run(again)["state_type"] in FINAL_STATES, "the second run's end", 900)
        print(f"started again: {house.flow_run(again)['state_type']}")
    opened = open_dataset(dataset)
    findings = verify(version_store(dataset), full=True)
    well = opened.manifest.version != before.version and len(opened) == 14 and not findings
    print(f"data set: {opened.manifest.version}, {len(opened)} samples, {findings or 'whole'}")
    return 0 if well else 1


def smoke(house: House) -> int:
    """infra/smoke.py with a run, once the worker has told the server of itself; its exit code."""
    command = [sys.executable, ROOT / "infra" / "smoke.py", "--refuses-strangers"]
    ask = functools.partial(subprocess.run, env=house.environment, cwd=house.checkout, check=False)
    wait_until(lambda: ask(command, capture_output=True).returncode == 0, "the worker to be seen", 60)
    return ask([*command, "--run"]).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lose-database", type=float, metavar="SECONDS", default=0.0)
    seconds = parser.parse_args().lose_database
    if not DEBIANS or os.geteuid():
        print("needs root, and Postgres: apt-get install postgresql", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, auth = Path(name), f"facefoundry:{secrets.token_hex(8)}"
        data = folder / "data"  # as in the image: no checkout, no prefect.toml
        data.mkdir()
        stranger = House(
            data,
            client_environment(folder, free_port())
            | {
                "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
                "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
                "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
                "PYTHONSAFEPATH": "1",
            },
        )
        house = House(data, {**stranger.environment, "PREFECT_API_AUTH_STRING": auth})
        database = Postgres(folder, secrets.token_hex(8))
        stack.callback(database.stop)
        own = {"PREFECT_API_DATABASE_CONNECTION_URL": database.url, "PREFECT_SERVER_API_AUTH_STRING": auth}
        stack.enter_context(served(House(data, {**stranger.environment, **own}), folder / "server.log"))
        deploy = f"facefoundry deploy --infra {shlex.quote(str(ROOT / 'infra'))}"
        refused = subprocess.run(
            shlex.split(deploy), env=stranger.environment, cwd=data, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 1, refused.stdout
        assert "wants a password" in refused.stderr, refused.stderr
        print(house.shell(deploy), flush=True)
        stack.enter_context(house.running(WORKER, folder / "worker.log"))
        code = lose_database(database, house, folder, seconds) if seconds else smoke(house)
        for log in (folder / "server.log", folder / "worker.log") if code else ():
            print(f"--- {log.name}\n{log.read_text()[-6000:]}")
        return code


if __name__ == "__main__":
    sys.exit(main())

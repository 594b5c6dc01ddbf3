"""A Prefect server that is lost, or loses its database, at each phase of a flow's build.

``python -m tests.hardening.server_faults [--only server|database] [--phases shard …]``

The flow runs in a process of its own against a server of its own (SQLite in a folder of its own). At the phase the server is
killed (SIGKILL), or its database is locked by somebody else for a quarter of a minute, longer than the server waits. Whatever
the flow ends in, the data set is whole or not there, and a build without a server ends it with the usual bytes.
"""

import argparse
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from flows.local import build_here
from flows.presets import posmaps_300wlp
from storage.dataset import open_dataset
from storage.local_store import LocalStore
from storage.manifest import Unpublished
from storage.synthetic import write_sample_folder
from storage.verify import verify
from tests.hardening.build_faults import BUILD_PHASES
from tests.hardening.builders import files_of
from tests.prefect_house import client_environment, free_port, is_healthy, wait_until

ROOT = Path(__file__).resolve().parents[2]
LOCKED_S = 15.0
FLOW = """
import sys
from pathlib import Path
from storage.phases import observed
from flows.build_300wlp_posmaps import build_300wlp_posmaps

if __name__ == "__main__":
    phase, source, out, reached = sys.argv[1:5]

    def tell(now, what):
        if now == phase:
            Path(reached).touch()
            import time
            time.sleep(1.0)  # whoever watches acts now

    with observed(tell):
        print(build_300wlp_posmaps(source=source, out=out, size=128, workers=1)["samples"])
"""


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """A server meanwhile, from the moment when it answers, and the environment that leads to it."""
    port = free_port()
    environment = client_environment(folder, port) | {
        "PYTHONPATH": str(ROOT),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "5",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True, cwd=folder)
    try:
        wait_until(
            lambda: process.poll() is not None or is_healthy(environment["PREFECT_API_URL"]), "the server to answer"
        )
        assert process.poll() is None, (folder / "server.log").read_text()[-500:]
        yield process, environment
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def has_reached(phase: str, out: Path, mark: Path) -> bool:
    """Shards are made in other processes: what they leave tells of them."""
    if phase == "shard":
        return any(out.glob("*/*/*/c.*.*.*.*"))
    if phase == "receipt":
        return any(out.glob("*/*/receipts/*.json"))
    return mark.exists()


def trial(fault: str, phase: str, source: Path, usual: dict[str, str], folder: Path) -> str:
    """How the flow ended. Raises AssertionError for half a data set or other bytes."""
    out, mark = folder / "out", folder / "reached"
    folder.mkdir(parents=True)
    with server(folder) as (process, environment), contextlib.ExitStack() as held:
        command = [sys.executable, "-c", FLOW, phase, str(source), str(out), str(mark)]
        log = held.enter_context((folder / "flow.log").open("wb"))
        begin = time.monotonic()
        flow = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        while flow.poll() is None and not has_reached(phase, out, mark):
            time.sleep(0.02)
        assert flow.poll() is None, f"the flow ended before {phase}: {(folder / 'flow.log').read_text()[-500:]}"
        if fault == "server":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            home = Path(environment["PREFECT_HOME"])
            database = sqlite3.connect(home / "prefect.db", isolation_level=None, timeout=30)
            database.execute("BEGIN EXCLUSIVE")
            time.sleep(LOCKED_S)
            database.execute("ROLLBACK")
            database.close()
        try:
            code = flow.wait(timeout=420)
        except subprocess.TimeoutExpired:
            flow.kill()
            flow.wait()
            raise AssertionError("the flow hung for seven minutes") from None
        seconds = time.monotonic() - begin
    with contextlib.suppress(Unpublished):
        assert verify(LocalStore(open_dataset(out / "300wlp-posmaps").path)) == []
    build_here(posmaps_300wlp(size_px=128), source=source, out=out, workers=1)
    assert files_of(out) == usual, "other bytes"
    last = [line for line in (folder / "flow.log").read_text(errors="replace").splitlines() if line.strip()][-1]
    return f"{'completed' if code == 0 else f'exit code {code}'}, {seconds:.0f} s: {last[:120]}"


def main() -> int:
    """Try everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["server", "database"])
    parser.add_argument("--phases", nargs="+", default=BUILD_PHASES)
    given, wrong = parser.parse_args(), 0
    with tempfile.TemporaryDirectory(prefix="server-faults-") as name:
        source = Path(name) / "source"
        write_sample_folder(source, n_identities=1, n_expressions=1, n_views=2)
        build_here(posmaps_300wlp(size_px=128), source=source, out=Path(name) / "usual", workers=1)
        usual = files_of(Path(name) / "usual")
        for fault in [given.only] if given.only else ["server", "database"]:
            for phase in given.phases:
                try:
                    told, right = trial(fault, phase, source, usual, Path(name) / f"{fault}-{phase}"), True
                except (AssertionError, TimeoutError) as error:
                    told, right = f"{type(error).__name__}: {error}", False
                wrong += not right
                print(f"{'  ' if right else '! '}{fault:9} {phase:8} {told}", flush=True)
    print(f"{wrong} trials ended otherwise than promised")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

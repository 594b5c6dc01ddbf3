"""Checks a deployment from outside: server, deployments, workers, and a real run from start to published data set.

    PREFECT_API_URL=http://127.0.0.1:4200/api python infra/smoke.py [--run] [--out s3://faces/smoke] [--refuses-strangers]

Standard library alone, so that it runs wherever there is Python 3.11. PREFECT_API_AUTH_STRING (user:password) is sent
where it is set. Each check is a line; exit code 0 when all are well, 1 otherwise.
"""

import argparse
import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
RUN = "build-300wlp-posmaps/default"
NEEDED = (RUN, "rebuild/default", "verify/default")
AUTOMATIONS = ("silent runs have crashed", "silent runs start again")


@dataclass(frozen=True, slots=True)
class Server:
    """Prefect's API, and who asks."""

    url: str
    auth: str = ""

    def ask(self, path: str, body: object = None) -> Any:
        """GET, or POST of a JSON body; the JSON answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})
        if self.auth:
            request.add_header("Authorization", "Basic " + base64.b64encode(self.auth.encode()).decode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


Check = tuple[str, Callable[[], str]]
"""What is looked at, and what looks: it tells what it found, or raises."""


def checks(server: Server, *, run: bool, out: str, patience_s: float, refuses_strangers: bool) -> Iterator[Check]:
    """The checks in order; each one needs those before it."""
    yield "server", lambda: _server(server)
    if refuses_strangers:
        yield "password", lambda: _refuses(server)
    yield "deployments", lambda: _deployments(server)
    yield "automations", lambda: _automations(server)
    yield "worker", lambda: _workers(server)
    if run:
        yield f"run of {RUN}", lambda: _run(server, out, patience_s)


def _server(server: Server) -> str:
    try:
        healthy = server.ask("/health")
    except (OSError, ValueError) as error:
        raise AssertionError(
            f"none answers at {server.url} ({error}); PREFECT_API_URL looks like http://127.0.0.1:4200/api"
        ) from None
    return f"healthy: {healthy}, version {server.ask('/admin/version')}"


def _refuses(server: Server) -> str:
    try:
        Server(server.url).ask("/deployments/filter", {})
    except urllib.error.HTTPError as error:
        if error.code == 401:
            return "strangers are refused"
        raise
    raise AssertionError("whoever reaches the server may use it: set PREFECT_SERVER_API_AUTH_STRING on the server")


def _deployments(server: Server) -> str:
    missing = []
    for name in NEEDED:
        try:
            server.ask(f"/deployments/name/{name}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            missing.append(name)
    assert not missing, f"missing: {', '.join(missing)}; run `facefoundry deploy`"
    return f"{', '.join(NEEDED)} are there"


def _automations(server: Server) -> str:
    there = [each for each in server.ask("/automations/filter", {"limit": 200}) if each["name"] in AUTOMATIONS]
    for name in AUTOMATIONS:
        found = [each for each in there if each["name"] == name]
        assert len(found) == 1, f"there are {len(found)} automations {name!r}, not one; run `facefoundry deploy`"
        assert found[0]["enabled"], f"the automation {name!r} is off"
    return "silent runs are noticed and started again"


def _workers(server: Server) -> str:
    pool = server.ask(f"/deployments/name/{RUN}")["work_pool_name"]
    online = [
        each["name"] for each in server.ask(f"/work_pools/{pool}/workers/filter", {}) if each["status"] == "ONLINE"
    ]
    assert online, f"nobody works for the pool {pool}: prefect worker start --pool {pool}"
    return f"{len(online)} online in the pool {pool}"


def _run(server: Server, out: str, patience_s: float) -> str:
    """The embedded sample, small maps: a minute or two."""
    deployment = server.ask(f"/deployments/name/{RUN}")
    body = {"parameters": {"size": 128, "out": out}, "name": "smoke", "state": {"type": "SCHEDULED"}}
    run_id = server.ask(f"/deployments/{deployment['id']}/create_flow_run", body)["id"]
    deadline = time.monotonic() + patience_s
    while (run := server.ask(f"/flow_runs/{run_id}"))["state_type"] not in FINAL:
        assert time.monotonic() < deadline, f"still {run['state_type']} after {patience_s:.0f} s (run {run_id})"
        time.sleep(1)
    assert run["state_type"] == "COMPLETED", f"{run['state_type']}: {run['state']['message']} (run {run_id})"
    artifacts = server.ask("/artifacts/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    assert any(each["key"] == "300wlp-posmaps-summary" for each in artifacts), f"run {run_id} left no summary"
    return f"completed in {run['total_run_time']:.0f} s, data set under {out}"


def main() -> int:
    """Look, and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", action="store_true", help="start a small build and wait until it is published")
    parser.add_argument("--out", default="datasets/smoke", help="where that build publishes; s3://… too")
    parser.add_argument("--patience", type=float, default=600, help="seconds that the run may take")
    parser.add_argument("--refuses-strangers", action="store_true", help="fail where no password is wanted")
    given = parser.parse_args()
    url = os.environ.get("PREFECT_API_URL", "http://127.0.0.1:4200/api").rstrip("/")
    server = Server(url, os.environ.get("PREFECT_API_AUTH_STRING", ""))
    options = {"run": given.run, "out": given.out, "patience_s": given.patience}
    for name, look in checks(server, **options, refuses_strangers=given.refuses_strangers):
        try:
            print(f"ok      {name}: {look()}", flush=True)
        except (AssertionError, OSError, ValueError, KeyError) as error:
            unknown = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403)
            advice = "; it wants a password: PREFECT_API_AUTH_STRING=user:password" if unknown else ""
            print(f"broken  {name}: {error}{advice}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

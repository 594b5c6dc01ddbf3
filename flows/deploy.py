"""`prefect deploy --all`, made safe: to be repeated as often as one likes, on a server where others have deployments too.

Before: a server must answer, and the work pools are made where they are missing. After: every deployment of the file is
looked for on the server. What somebody switched on or off there (schedules, triggers, automations) stays as it is unless
it is named here, schedules made by hand stay too, and nothing is deleted.
"""

import copy
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from flows.config_file import check_table, nearest, read_tables
from flows.errors import NoServer, NotDeployed, WrongConfig, WrongUse
from flows.plain_yaml import read_document

PREFECT_FILE, AUTOMATIONS_FILE = "prefect.yaml", "automations.yaml"


@dataclass(frozen=True, slots=True)
class Switches:
    """What is on at a server, of one deployment: its schedules by slug, and its triggers by the automation's name."""

    schedules: Mapping[str, bool] = field(default_factory=dict)
    triggers: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment as the server has it."""

    name: str
    """FLOW/DEPLOYMENT."""
    pool: str
    schedules: Mapping[str, bool]
    """Whether it is on, by ``slug: cron`` as people read it."""
    triggers: Mapping[str, bool]


def infra_folder(given: Path | None = None) -> Path:
    """Where the deployment files lie: the given folder, or ``infra`` here or in the checkout that the package runs from.

    Raises ValueError where they do not.
    """
    places = (Path("infra"), Path(__file__).resolve().parents[1] / "infra") if given is None else (given,)
    for place in places:
        if (place / PREFECT_FILE).is_file():
            return place.absolute()
    raise ValueError(
        f"there is no {PREFECT_FILE} in {' or '.join(str(place.absolute()) for place in places)}: run this in the "
        "checkout's top folder, or name its folder with --infra"
    )


def full_name(deployment: Mapping[str, Any]) -> str:
    """FLOW/DEPLOYMENT of an entry of the file: a flow is named as its function is, with dashes."""
    return f"{deployment['entrypoint'].rpartition('.')[2].replace('_', '-')}/{deployment['name']}"


def settled(
    document: Mapping[str, Any],
    there: Mapping[str, Switches],
    *,
    on: Collection[str] = (),
    off: Collection[str] = (),
    pool: str | None = None,
) -> dict[str, Any]:
    """The file as it is to be deployed: every schedule and trigger on or off.

    `on` and `off` are flows; all that they have is switched. Others keep what they have on the server (`there`, by full
    name), and new ones get what the file says. `pool` takes the place of every work pool. Raises WrongUse for a flow
    that the file does not deploy, that has nothing to switch, or that is in `on` and `off`.
    """
    done = copy.deepcopy(dict(document))
    flows = _by_flow(done)
    _check_switches(flows, on, off)
    for name, deployment in flows.items():
        before = there.get(full_name(deployment), Switches())
        forced = True if name in on else False if name in off else None
        for schedule in deployment.get("schedules", ()):
            kept = before.schedules.get(schedule["slug"], schedule.get("active", True))
            schedule["active"] = kept if forced is None else forced
        for trigger in deployment.get("triggers", ()):
            kept = before.triggers.get(trigger["name"], trigger.get("enabled", True))
            trigger["enabled"] = kept if forced is None else forced
        if pool is not None:
            deployment["work_pool"] = {**deployment.get("work_pool", {}), "name": pool}
    return done


def parametrized(document: Mapping[str, Any], config: Path) -> dict[str, Any]:
    """The file with the parameters of a config file's tables. Raises WrongConfig.

    Prefect would fill in what stands in ``{{ … }}``, or leave it out, where the command line takes it as it is: refused.
    """
    done = copy.deepcopy(dict(document))
    flows = _by_flow(done)
    for name, table in read_tables(config).items():
        if name not in flows:
            raise WrongConfig(f"{config}: [{name}] is not deployed by {PREFECT_FILE}; deployed: {', '.join(flows)}")
        module, _, function = flows[name]["entrypoint"].rpartition(".")
        types = get_type_hints(getattr(importlib.import_module(module), function).fn, include_extras=True)
        del types["return"]
        check_table(config, name, table, types)
        for key, value in table.items():
            if "{{" in json.dumps(value):
                raise WrongConfig(
                    f"{config}: [{name}] {key} = {value!r}: Prefect would put something else in the place of {{{{ … }}}}; "
                    f"write out what is meant, or put it under `parameters:` in {PREFECT_FILE}, where it is filled in"
                )
        flows[name]["parameters"] = {**flows[name].get("parameters", {}), **table}
    return done


def _by_flow(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {full_name(deployment).partition("/")[0]: deployment for deployment in document["deployments"]}


def _check_switches(flows: Mapping[str, Mapping[str, Any]], on: Collection[str], off: Collection[str]) -> None:
    able = [name for name, deployment in flows.items() if deployment.get("schedules") or deployment.get("triggers")]
    for name in (*on, *off):
        if name not in able:
            what = "has neither schedule nor trigger" if name in flows else f"is not deployed{nearest(name, able)}"
            raise WrongUse(f"{name} {what}; what can be switched on and off: {', '.join(able) or 'nothing'}")
    both = sorted(set(on) & set(off))
    if both:
        raise WrongUse(f"{both[0]} is to be switched on and off at once; name it once")


def deploy(
    infra: Path | None = None,
    *,
    on: Collection[str] = (),
    off: Collection[str] = (),
    pool: str | None = None,
    pool_type: str = "process",
    config: Path | None = None,
) -> tuple[list[Deployed], dict[str, str]]:
    """Deploy all of ``prefect.yaml`` and ``automations.yaml``; the deployments, and each automation's state in words.

    A run will start in the folder that this is called in. `pool` runs everything in that work pool; pools that are not
    there are made with `pool_type`. `config` is a TOML file (:mod:`flows.config_file`): what its tables say are the
    deployments' parameters, which a schedule, a trigger or a person starts them with. Raises NoServer, NotDeployed,
    ValueError where the files are not, and WrongUse for what cannot be meant, the last two without asking the server.
    """
    folder = infra_folder(infra)
    document = read_document(folder / PREFECT_FILE)
    _check_switches(_by_flow(document), on, off)
    if config is not None:
        document = parametrized(document, config)
    automations = read_document(folder / AUTOMATIONS_FILE)["automations"]
    names = [full_name(deployment) for deployment in document["deployments"]]
    with _server() as client:
        before = {name: found for name in names if (found := _schedules_of(client, name)) is not None}
        owned = _triggers(client)
        there = {
            name: Switches({s.slug: s.active for s in schedules if s.slug}, owned) for name, schedules in before.items()
        }
        wanted = settled(document, there, on=on, off=off, pool=pool)
        for work_pool in sorted({deployment["work_pool"]["name"] for deployment in wanted["deployments"]}):
            _make_pool(client, work_pool, pool_type)
        done = _prefect_deploy(wanted)
        _restore_schedules(client, before)
        states = _deploy_automations(client, automations)
        found = _deployed(client, wanted, _tail(done))
        if done.returncode:  # what was there before is there still, and is not what the file says
            raise NotDeployed(
                f"the server has not taken all of {PREFECT_FILE}, and what it refused is as it was before; `prefect deploy` "
                f"said: …{_tail(done)}"
            )
        return found, states


@contextmanager
def _server() -> Iterator[Any]:
    """A client of the server that Prefect's settings name, which answers. Raises NoServer."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:  # Prefect would start a server of its own for this call, and deploy to that
        raise NoServer(
            "no Prefect server is named: export PREFECT_API_URL=http://127.0.0.1:4200/api, and start one with "
            "`prefect server start`"
        )
    with get_client(sync_client=True) as client:
        trouble = client.api_healthcheck()
        if trouble is not None:
            raise NoServer(
                f"no Prefect server answers at {url} ({_first_sentence(trouble)}): start it with `prefect server start`, "
                "or mend PREFECT_API_URL, as in http://127.0.0.1:4200/api"
            )
        _check_rights(client, url)
        yield client


def _first_sentence(trouble: Exception) -> str:
    """What went wrong, without the answer and the link that Prefect puts after it."""
    said = str(trouble).partition(" - Response")[0].partition(" - For more information")[0]
    return said.strip() or type(trouble).__name__


def _check_rights(client: Any, url: str) -> None:
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        client.read_work_pools(limit=1)
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in (401, 403):
            raise
        raise NoServer(
            f"the Prefect server at {url} wants a password: export PREFECT_API_AUTH_STRING=user:password"
        ) from None
    except ValueError:
        raise NoServer(
            f"what answers at {url} is no Prefect server: mend PREFECT_API_URL, as in http://127.0.0.1:4200/api"
        ) from None


def _schedules_of(client: Any, name: str) -> Sequence[Any] | None:
    from prefect.exceptions import ObjectNotFound

    try:
        return list(client.read_deployment_schedules(client.read_deployment_by_name(name).id))
    except ObjectNotFound:
        return None


def _triggers(client: Any) -> dict[str, bool]:
    return {automation.name: automation.enabled for automation in _automations(client)}


def _automations(client: Any) -> list[Any]:
    found: list[Any] = []
    while page := _page(client, len(found)):
        found += page
    return found


def _page(client: Any, offset: int) -> list[Any]:
    from prefect.events.schemas.automations import Automation

    answer = client.request("POST", "/automations/filter", json={"limit": 100, "offset": offset})
    return Automation.model_validate_list(answer.json())


def _make_pool(client: Any, name: str, pool_type: str) -> None:
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        done = _prefect("work-pool", "create", name, "--type", pool_type)
        if done.returncode:
            raise NotDeployed(f"the work pool {name} could not be made: {_tail(done)}") from None


def _prefect_deploy(document: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(prefix="facefoundry-deploy-") as folder:
        path = Path(folder) / PREFECT_FILE
        path.write_text(yaml.safe_dump(dict(document), sort_keys=False))
        return _prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(path))


def _prefect(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.split())[-500:]


def _restore_schedules(client: Any, before: Mapping[str, Sequence[Any]]) -> None:
    """Make the schedules again that were made by hand without a slug: Prefect replaces those when a file has others."""
    for name, schedules in before.items():
        kept = [schedule.schedule for schedule in _schedules_of(client, name) or ()]
        lost = [(s.schedule, s.active) for s in schedules if s.slug is None and s.schedule not in kept]
        if lost:
            client.create_deployment_schedules(client.read_deployment_by_name(name).id, lost)


def _deploy_automations(client: Any, wanted: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Each automation once, by its name, on or off as it was; its state in words.

    A block is named in the file and known by its id on the server: an automation whose block nobody has made yet waits.
    """
    from prefect.events.schemas.automations import AutomationCore

    states = {}
    there = {automation.name: automation for automation in _automations(client)}
    for entry in wanted:
        named = [action["block_document_id"] for action in entry["actions"] if "block_document_id" in action]
        blocks = {name: _notifying_block(client, name) for name in named}
        if None in blocks.values():
            absent = next(name for name, found in blocks.items() if found is None)
            states[entry["name"]] = f"not there: it notifies by a block named {absent!r}, which nobody has made yet"
            continue
        for action in entry["actions"]:
            if "block_document_id" in action:
                action["block_document_id"] = blocks[action["block_document_id"]]
        before = there.get(entry["name"])
        enabled = before.enabled if before else entry.get("enabled", True)
        automation = AutomationCore.model_validate({**entry, "enabled": enabled})
        body = automation.model_dump(mode="json")
        if before is None:
            client.request("POST", "/automations/", json=body).raise_for_status()
        else:
            del body["owner_resource"]  # an update does not take it
            client.request("PUT", "/automations/{id}", path_params={"id": before.id}, json=body).raise_for_status()
        states[entry["name"]] = "on" if enabled else "off"
    return states


def _notifying_block(client: Any, name: str) -> str | None:
    """The id of a block of that name, of whatever type can notify (a Slack webhook, any webhook, mail …)."""
    wanted = {
        "block_documents": {"name": {"any_": [name]}},
        "block_schemas": {"block_capabilities": {"all_": ["notify"]}},
    }
    found = client.request("POST", "/block_documents/filter", json=wanted).json()
    return str(found[0]["id"]) if found else None


def _deployed(client: Any, document: Mapping[str, Any], said: str) -> list[Deployed]:
    """What the server has now. Raises NotDeployed for what is not as the file says."""
    owned = _triggers(client)
    found = []
    for wanted in document["deployments"]:
        name = full_name(wanted)
        schedules = _schedules_of(client, name)
        missing = [trigger["name"] for trigger in wanted.get("triggers", ()) if trigger["name"] not in owned]
        if schedules is None or missing:
            what = f"the trigger {missing[0]!r} of {name}" if missing else name
            raise NotDeployed(f"{what} did not arrive at the server; `prefect deploy` said: …{said}")
        pool = client.read_deployment_by_name(name).work_pool_name
        if pool != wanted["work_pool"]["name"]:
            raise NotDeployed(f"{name} is still in the work pool {pool}; `prefect deploy` said: …{said}")
        times = {f"{s.slug or 'by hand'}: {_when(s.schedule)}": s.active for s in schedules}
        triggers = {trigger["name"]: owned[trigger["name"]] for trigger in wanted.get("triggers", ())}
        found.append(Deployed(name, pool, times, triggers))
    return found


def _when(schedule: Any) -> str:
    zone = getattr(schedule, "timezone", None) or "UTC"
    if cron := getattr(schedule, "cron", None):
        return f"{cron} {zone}"
    interval = getattr(schedule, "interval", None)
    return f"every {interval}" if interval else str(getattr(schedule, "rrule", schedule))

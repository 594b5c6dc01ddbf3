"""What `facefoundry deploy` sends to a server, and what it refuses before it sends anything. No server here."""

import contextlib
import subprocess
from pathlib import Path

import pytest
import yaml

import flows.deploy
from flows import FLOW_NAMES
from flows.deploy import Switches, deploy, full_name, infra_folder, settled
from flows.errors import NoServer, NotDeployed, WrongUse

ROOT = Path(__file__).resolve().parents[2]

FILE = {
    "deployments": [
        {"name": "default", "entrypoint": "flows.build_x.build_x", "work_pool": {"name": "local"}},
        {
            "name": "default",
            "entrypoint": "flows.rebuild.rebuild",
            "work_pool": {"name": "local", "job_variables": {"stream_output": True}},
            "schedules": [{"slug": "nightly", "cron": "0 3 * * *", "active": False}],
        },
        {
            "name": "default",
            "entrypoint": "flows.train_x.train_x",
            "work_pool": {"name": "local"},
            "triggers": [{"name": "train-x", "type": "event", "enabled": False}],
        },
    ]
}


def states(document) -> list[bool]:
    """Of the schedule, and of the trigger."""
    _, rebuild, train = document["deployments"]
    return [rebuild["schedules"][0]["active"], train["triggers"][0]["enabled"]]


def test_what_is_new_gets_what_the_file_says_and_what_is_there_stays_as_it_is():
    assert states(settled(FILE, {})) == [False, False]
    there = {
        "rebuild/default": Switches({"nightly": True}, {}),
        "train-x/default": Switches({}, {"train-x": True}),
    }
    assert states(settled(FILE, there)) == [True, True]


def test_switches_win_over_the_server_and_touch_no_other_flow():
    there = {"rebuild/default": Switches({"nightly": True}), "train-x/default": Switches({}, {"train-x": True})}
    assert states(settled(FILE, there, off=["rebuild"])) == [False, True]
    assert states(settled(FILE, {}, on=["train-x"])) == [False, True]


def test_another_pool_takes_the_place_of_all_and_keeps_what_else_is_said_of_them():
    pools = [each["work_pool"] for each in settled(FILE, {}, pool="cluster")["deployments"]]
    assert [pool["name"] for pool in pools] == ["cluster"] * 3
    assert pools[1]["job_variables"] == {"stream_output": True}
    assert FILE["deployments"][1]["work_pool"]["name"] == "local"


@pytest.mark.parametrize(
    ("on", "off", "sentence"),
    [
        (["rebiuld"], [], r"rebiuld is not deployed \(did you mean 'rebuild'\?\); what can .*: rebuild, train-x"),
        ([], ["build-x"], r"build-x has neither schedule nor trigger"),
        (["rebuild"], ["rebuild"], r"rebuild is to be switched on and off at once"),
    ],
)
def test_a_switch_that_switches_nothing_is_refused(on, off, sentence):
    with pytest.raises(WrongUse, match=sentence):
        settled(FILE, {}, on=on, off=off)


def test_the_projects_own_file_can_be_kept_as_people_set_it():
    """Schedules need slugs and triggers names: by these the server's state is found again."""
    document = yaml.safe_load((infra_folder() / "prefect.yaml").read_text())
    assert [full_name(deployment) for deployment in document["deployments"]] == [
        f"{name}/default" for name in FLOW_NAMES
    ]
    for deployment in document["deployments"]:
        assert all(schedule["slug"] for schedule in deployment.get("schedules", ()))
        assert all(trigger["name"] for trigger in deployment.get("triggers", ()))
        assert "facefoundry" in deployment["tags"]  # infra/automations.yaml looks after these runs alone
    settled(document, {}, on=["rebuild", "verify"])


def test_without_a_server_nothing_is_tried_and_the_sentence_says_what_to_do():
    from prefect.settings import PREFECT_API_URL, temporary_settings

    nobody, unnamed = r"answers at http://127\.0\.0\.1:9/api", r"is named: export PREFECT_API_URL="
    named = temporary_settings(updates={PREFECT_API_URL: "http://127.0.0.1:9/api"})
    with named, pytest.raises(NoServer, match=rf"no Prefect server {nobody}"):
        deploy(ROOT / "infra")
    without = temporary_settings(restore_defaults={PREFECT_API_URL})
    with without, pytest.raises(NoServer, match=rf"no Prefect server {unnamed}"):
        deploy(ROOT / "infra")


def test_what_the_server_refused_of_a_deployment_that_it_had_is_no_success(monkeypatch):
    """It would be found there afterwards, with what it was given the last time."""
    client, restored = object(), []
    monkeypatch.setattr(flows.deploy, "_server", lambda: contextlib.nullcontext(client))
    monkeypatch.setattr(flows.deploy, "_schedules_of", lambda client, name: [])
    monkeypatch.setattr(flows.deploy, "_triggers", lambda client: {})
    monkeypatch.setattr(flows.deploy, "_make_pool", lambda client, name, kind: None)
    monkeypatch.setattr(flows.deploy, "_restore_schedules", lambda client, before: restored.append(before))
    monkeypatch.setattr(flows.deploy, "_deploy_automations", lambda client, wanted: {})
    monkeypatch.setattr(flows.deploy, "_deployed", lambda client, wanted, said: [])
    said = subprocess.CompletedProcess((), 1, stdout="Validation failed for field 'keep'.")
    monkeypatch.setattr(flows.deploy, "_prefect", lambda *arguments: said)
    with pytest.raises(NotDeployed, match=r"as it was before; .* said: …Validation failed for field 'keep'"):
        deploy(ROOT / "infra")
    assert len(restored) == 1
    said.returncode = 0
    assert deploy(ROOT / "infra") == ([], {})


def test_a_folder_without_the_file_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.deploy.__file__", str(tmp_path / "lib/flows/deploy.py"))
    with pytest.raises(ValueError, match=r"there is no prefect\.yaml in .*--infra"):
        infra_folder()
    with pytest.raises(ValueError, match=r"there is no prefect\.yaml in /\S+/elsewhere: "):
        infra_folder(tmp_path / "elsewhere")

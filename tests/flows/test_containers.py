"""The container files' promises, held without an engine: passwords, ports, users, and one set of names everywhere."""

import json
import re
import runpy
from pathlib import Path

import pytest
import yaml

INFRA = Path(__file__).resolve().parents[2] / "infra"
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
MANIFESTS = [
    document
    for name in ("namespace", "worker", "dask")
    for document in yaml.safe_load_all((INFRA / f"kubernetes/{name}.yaml").read_text())
]
DEPLOYMENTS = [document for document in MANIFESTS if document["kind"] == "Deployment"]


def environment_of(service: str) -> dict[str, str]:
    return {name: str(value) for name, value in COMPOSE["services"][service].get("environment", {}).items()}


def test_every_password_comes_from_the_environment_and_nothing_starts_without_it():
    secret = re.compile(r"PASSWORD|SECRET|AUTH|CONNECTION_URL")
    found = [
        (service, name, value)
        for service in COMPOSE["services"]
        for name, value in environment_of(service).items()
        if secret.search(name)
    ]
    assert {service for service, _, _ in found} == {"postgres", "server", "s3", "bucket", "deploy", "worker"}
    for service, name, value in found:
        assert re.search(r"\$\{\w+_PASSWORD:\?", value), f"{name} of {service} has a default, or is written down"


def test_nothing_listens_beyond_this_machine():
    ports = {service: entry.get("ports", []) for service, entry in COMPOSE["services"].items()}
    assert {service for service, given in ports.items() if given} == {"server", "s3"}
    assert all(port.startswith("127.0.0.1:") for given in ports.values() for port in given)


def test_our_own_services_have_no_capabilities_and_the_image_no_root():
    for service in ("server", "deploy", "worker"):
        entry = COMPOSE["services"][service]
        assert entry["cap_drop"] == ["ALL"]
        assert entry["security_opt"] == ["no-new-privileges:true"]
    lines = (INFRA / "Dockerfile").read_text().splitlines()
    user = max(place for place, line in enumerate(lines) if line.startswith("USER "))
    assert lines[user] == "USER 10001:10001"
    assert not any(line.startswith(("RUN ", "COPY ")) for line in lines[user:])


def test_every_image_is_of_a_named_release():
    """`latest` would be another one tomorrow."""
    for service, entry in COMPOSE["services"].items():
        tag = entry["image"].partition(":")[2]
        assert tag not in ("", "latest"), service


def test_the_image_installs_what_the_project_names_and_copies_every_package_of_it():
    text = (INFRA / "Dockerfile").read_text()
    project = (INFRA.parent / "pyproject.toml").read_text()
    for extras in re.findall(r"wanted=(\S+)", text):
        assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(","))
    copied = set(re.findall(r"^COPY (\w+) \1$", text, re.MULTILINE))
    assert copied == {"geometry", "render", "storage", "train", "flows"}
    assert "--constraint infra/constraints.txt" in text


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each["metadata"]["name"])
def test_every_pod_runs_without_root_rights_or_privileges(deployment):
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_the_job_of_the_template_is_whole_at_its_defaults_and_may_reach_dask():
    job = runpy.run_path(str(INFRA / "kubernetes/render_job.py"))["example_job"]()
    assert "{{" not in json.dumps(job)
    assert job["spec"]["completions"] == 1
    pod = job["spec"]["template"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert pod["spec"]["containers"][0]["workingDir"] == "/data"  # where deployments are made
    policy = next(document for document in MANIFESTS if document["kind"] == "NetworkPolicy")
    allowed = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchExpressions"][0]["values"]
    assert pod["metadata"]["labels"]["app"] in allowed


def test_workers_and_job_take_their_settings_from_the_same_two_places():
    job = runpy.run_path(str(INFRA / "kubernetes/render_job.py"))["example_job"]()
    containers = [job["spec"]["template"]["spec"]["containers"][0]]
    containers += [
        d["spec"]["template"]["spec"]["containers"][0] for d in DEPLOYMENTS if "worker" in d["metadata"]["name"]
    ]
    wanted = [{"configMapRef": {"name": "facefoundry"}}, {"secretRef": {"name": "facefoundry"}}]
    assert [container["envFrom"] for container in containers] == [wanted] * 3
    kustomization = yaml.safe_load((INFRA / "kubernetes/kustomization.yaml").read_text())
    assert kustomization["configMapGenerator"][0]["name"] == "facefoundry"
    assert kustomization["generatorOptions"]["disableNameSuffixHash"]


def test_no_file_names_a_registry_of_images():
    for path in (INFRA / "Dockerfile", INFRA / "compose.yaml", *(INFRA / "kubernetes").iterdir()):
        if path.is_file():
            assert not re.search(r"\b[\w-]+\.(io|com|org)/[\w-]+/", path.read_text()), path

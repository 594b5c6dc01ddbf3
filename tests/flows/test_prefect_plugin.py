"""The completion of bare deployment names: which lines it touches, and in which programs."""

import shlex
from pathlib import Path

import pytest
import yaml

from flows import DEPLOYMENT_NAME, FLOW_NAMES
from flows.prefect_plugin import complete, is_prefect_command

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("deployment run build-300wlp-posmaps", "deployment run build-300wlp-posmaps/default"),
        (
            "deployment run build-300wlp-posmaps --watch -p out=x",
            "deployment run build-300wlp-posmaps/default --watch -p out=x",
        ),
        ("deployment run --watch build-300wlp-posmaps", "deployment run --watch build-300wlp-posmaps/default"),
        ("deployments inspect build-300wlp-posmaps", "deployments inspect build-300wlp-posmaps/default"),
        (
            "deployment schedule pause build-300wlp-posmaps 5",
            "deployment schedule pause build-300wlp-posmaps/default 5",
        ),
    ],
)
def test_a_bare_flow_name_is_completed(line, completed):
    assert complete(shlex.split(line)) == shlex.split(completed)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "deployment",
        "deployment run",
        "deployment run --watch",
        "deployment run build-300wlp-posmaps/other",
        "deployment run somebody-elses-flow",
        "deployment run --tag build-300wlp-posmaps --id 5",
        "deployment run --flow-run-name build-300wlp-posmaps build-300wlp-posmaps/default",
        "deployment delete build-300wlp-posmaps",
        "deployment schedule clear build-300wlp-posmaps",
        "deployment schedule delete build-300wlp-posmaps 5",
        "deployment ls build-300wlp-posmaps",
        "flow-run ls --flow-name build-300wlp-posmaps",
        "run build-300wlp-posmaps",
    ],
)
def test_every_other_line_is_left_alone(line):
    assert complete(shlex.split(line)) == shlex.split(line)


@pytest.mark.parametrize(
    ("argv", "original", "expected"),
    [
        (["bin/prefect", "version"], ["python", "bin/prefect", "version"], True),
        (["-m", "version"], ["python", "-m", "prefect", "version"], True),
        (["-m"], ["python", "-Im", "prefect"], True),
        (["-m"], ["python", "-m", "prefect.engine"], False),
        (["-m", "prefect"], ["python", "-X", "dev", "-m", "pytest", "prefect"], False),
        (["bin/pytest"], ["python", "bin/pytest"], False),
        (["-c"], ["python", "-c", "import prefect"], False),
        ([], [], False),
        ([""], ["python"], False),
    ],
)
def test_only_the_prefect_command_is_touched(argv, original, expected):
    assert is_prefect_command(argv, original) is expected


def test_the_completed_names_are_the_deployed_ones():
    deployments = yaml.safe_load((ROOT / "infra/prefect.yaml").read_text())["deployments"]
    flow_functions = [deployment["entrypoint"].rpartition(".")[2] for deployment in deployments]
    assert flow_functions == [name.replace("-", "_") for name in FLOW_NAMES]
    assert {deployment["name"] for deployment in deployments} == {DEPLOYMENT_NAME}

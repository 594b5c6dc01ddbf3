"""Builders that race on an object store, as two people who type the same command: one version, exit codes 0 and 4."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.dataset import open_dataset
from storage.verify import verify

ROOT = Path(__file__).resolve().parents[2]
FACEFOUNDRY = "from flows.command_line import main; import sys; sys.argv[0] = 'facefoundry'; main()"
OVERTAKEN = """
import subprocess, sys
from storage.phases import Phase, observed
from flows.command_line import main

others = []

def overtake(phase, what):
    if phase == Phase.PUBLISH and not others:
        others.append(subprocess.run([sys.executable, "-c", {facefoundry!r}, *sys.argv[1:]], check=False))

sys.argv[0] = "facefoundry"
try:
    with observed(overtake):
        main()
finally:
    print("the other ended with", others[0].returncode, file=sys.stderr)
"""


@pytest.fixture
def arguments(sample_folder, s3_server, tmp_path, monkeypatch, request):
    """The command that both give."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.past_the_door)
    monkeypatch.setenv("AWS_TIMEOUT", "30s")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    out = f"s3://faces/racing/{request.node.name}"
    return ["build", "300wlp-posmaps", "--source", str(sample_folder), "--size", "128", "--workers", "1", "--out", out]


def begun(script: str, arguments: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def assert_one_whole_version(out: str) -> None:
    listed = begun(FACEFOUNDRY, ["list", "--out", out, "--json"])
    (row,) = json.loads(listed.communicate()[0])["datasets"]
    dataset = open_dataset(f"{out}/{row['dataset']}")
    assert dataset.manifest.version == row["version"]
    assert verify(dataset._store) == []


def test_who_is_overtaken_on_s3_leaves_with_exit_code_4_and_says_why(arguments):
    """The other builds and publishes in the moment in which the first is about to."""
    builder = begun(OVERTAKEN.format(facefoundry=FACEFOUNDRY), arguments)
    _, error = builder.communicate()
    assert "the other ended with 0" in error
    assert builder.returncode == 4, error
    (sentence,) = (line for line in error.splitlines() if line.startswith("facefoundry: "))
    assert "another builder has published" in sentence
    assert "CANARY" not in error
    assert_one_whole_version(arguments[-1])


@pytest.mark.slow
def test_of_two_who_begin_together_one_builds_and_both_end_with_a_code_that_says_so(arguments):
    ends = [
        (builder.communicate()[1], builder.returncode)
        for builder in [begun(FACEFOUNDRY, arguments), begun(FACEFOUNDRY, arguments)]
    ]
    codes = sorted(code for _, code in ends)
    assert codes in ([0, 4], [0, 0]), ends  # two zeros: the second came when all was done
    assert_one_whole_version(arguments[-1])

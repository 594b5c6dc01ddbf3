"""What bash offers after Tab, asked for as bash asks: through the script that typer gives it, and by its protocol."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from flows.command_line import app
from flows.commands import completion
from flows.commands.training import PROTOCOL_NAMES
from flows.deploy import full_name, infra_folder
from flows.plain_yaml import read_document
from tests.command_runs import START


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with two data sets, three versions, a training, an imported model and a fit, and us in it."""
    monkeypatch.chdir(tmp_path)
    for version in ("300wlp-posmaps/0123", "300wlp-posmaps/4567", "ear-fields/89ab"):
        folder = tmp_path / "datasets" / version
        folder.mkdir(parents=True)
        (folder / "manifest.json").touch()
    os.utime(tmp_path / "datasets/300wlp-posmaps/0123/manifest.json", (1e9, 1e9))
    (tmp_path / "datasets/300wlp-posmaps/latest").write_text('{"version": "0123"}\n')  # a build found it there
    for file in ("datasets/runs/prnet/one/best.pt", "datasets/models/ab.ffmodel.npz", "fits/face_0.fit.json"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    (tmp_path / "datasets/300wlp-posmaps/unfinished").mkdir()
    return tmp_path


def offered(line: str) -> list[str]:
    """What is offered for the last word of a line, in this process."""
    command, (*words, incomplete) = typer.main.get_command(app), line.split(" ")[1:]
    context = command.make_context("facefoundry", list(words), resilient_parsing=True)
    with context:
        while hasattr(command, "commands") and words:
            name, *words = words
            command = command.commands[name]
            context = command.make_context(name, list(words), parent=context, resilient_parsing=True)
    waiting = next((p for p in command.params if words and words[-1] in p.opts and words[-1].startswith("-")), None)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    parameter = waiting or next(p for p in arguments if context.params.get(p.name) is None or p.nargs == -1)
    return [item.value for item in parameter.shell_complete(context, incomplete)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("facefoundry info ", ["datasets/300wlp-posmaps", "datasets/ear-fields"]),
        ("facefoundry info datasets/e", ["datasets/ear-fields"]),
        ("facefoundry info datasets/300wlp-posmaps/", ["datasets/300wlp-posmaps/0123", "datasets/300wlp-posmaps/4567"]),
        ("facefoundry info s3://bucket/", []),
        ("facefoundry info nowhere/", []),
        ("facefoundry verify datasets/300wlp-posmaps --version ", ["4567", "0123"]),  # the newest first
        ("facefoundry diff datasets/300wlp-posmaps ", ["4567", "0123"]),
        ("facefoundry pin datasets/nothing ", []),
        ("facefoundry train prnet --data 300wlp-posmaps --version 0", ["0123"]),
        ("facefoundry build e", ["ear-fields"]),
        ("facefoundry build 300wlp-posmaps --maps p", ["parametric"]),
        ("facefoundry build --targets posmap,h", ["posmap,heatmaps"]),
        ("facefoundry build --augment prnet:2+da", ["prnet:2+dan"]),
        ("facefoundry train me", ["mesh_gcn"]),
        ("facefoundry evaluate ", ["datasets/runs/prnet/one/best.pt"]),
        ("facefoundry evaluate x.pt datasets/e", ["datasets/ear-fields"]),
        ("facefoundry evaluate --protocol 300w-c", ["300w-common", "300w-challenging"]),
        ("facefoundry model info ", ["built-in", "datasets/models/ab.ffmodel.npz"]),
        ("facefoundry fit --scheme inner", ["inner-51", "inner-49"]),
        ("facefoundry show fits/", ["fits/face_0.fit.json"]),
        ("facefoundry deploy --on reb", ["rebuild"]),
    ],
)
def test_what_is_offered(place, line, words):
    assert offered(line) == words


def test_names_that_are_known_before_their_modules_are_loaded_are_theirs():
    from flows.evaluations import PROTOCOLS
    from render.augmentation_presets import PRESETS

    assert set(completion.AUGMENTATION_NAMES) == set(PRESETS)
    assert tuple(PROTOCOLS) == PROTOCOL_NAMES
    deployments = read_document(infra_folder() / "prefect.yaml")["deployments"]
    switched = [each for each in deployments if each.get("schedules") or each.get("triggers")]
    assert completion.switched_flows(None, "") == [full_name(each).partition("/")[0] for each in switched]


def test_bash_completes_a_line_with_the_script_that_the_program_gives_it(place):
    """As a user's bash does it: the script is read, its function fills COMPREPLY."""
    (place / "bin").mkdir()
    command = place / "bin" / "facefoundry"
    command.write_text(f"#!{sys.executable}\n{START}\n")
    command.chmod(0o755)
    line = """
    source <(_FACEFOUNDRY_COMPLETE=source_bash facefoundry)
    tried() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _facefoundry_completion facefoundry; }
    complete -p facefoundry
    tried facefoundry inf; echo "${COMPREPLY[@]}"
    tried facefoundry info d; echo "${COMPREPLY[@]}"
    tried facefoundry verify datasets/300wlp-posmaps --version ""; echo "${COMPREPLY[@]}"
    """
    environment = {
        **os.environ,
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        ["bash", "--norc", "-c", line], env=environment, cwd=place, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    function, *answers = done.stdout.splitlines()
    assert function.endswith("-F _facefoundry_completion facefoundry")
    assert answers == ["info", "datasets/300wlp-posmaps datasets/ear-fields", "4567 0123"]


def test_completion_loads_nothing_heavy(place):
    script = "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); " + START
    asked = {"_FACEFOUNDRY_COMPLETE": "complete_bash", "COMP_WORDS": "facefoundry info d", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **asked, "PYTHONPATH": os.pathsep.join(sys.path)}, cwd=place, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["datasets/300wlp-posmaps", "datasets/ear-fields"]
    assert not set(done.stderr.split()) & {"numpy", "scipy", "zarr", "prefect", "torch", "numba", "obstore"}

"""Every command explains itself: examples that can be typed, help that fits the terminal, a page that is not stale."""

import importlib.util
import inspect
import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest
import typer.main

from flows.command_line import app
from tests.command_runs import NAMES_LOADED, in_a_process, loaded_by

ROOT = Path(__file__).resolve().parents[2]


def commands_of(group=None, before="") -> dict[str, object]:
    """Every command by its whole name, such as `model import`."""
    found = {}
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            found |= commands_of(command, f"{before}{name} ")
        else:
            found[before + name] = command
    return found


COMMANDS = commands_of()
every_command = pytest.mark.parametrize("name", COMMANDS)


def test_it_tells_its_version(run):
    ended = run("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"facefoundry {metadata.version('facefoundry')}\n", "")


def examples_of(name: str) -> list[str]:
    """The lines of a command's help that can be typed."""
    lines = inspect.cleandoc(COMMANDS[name].callback.__doc__).splitlines()
    return [line for line in lines if line.startswith("facefoundry ")]


@every_command
def test_it_shows_an_example_of_itself_that_its_own_parser_takes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = examples_of(name)
    assert any(line.startswith(f"facefoundry {name} ") or line == f"facefoundry {name}" for line in examples)
    for line in examples:
        words = shlex.split(line)[1:]
        shown = next(known for known in (" ".join(words[:2]), words[0]) if known in COMMANDS)
        COMMANDS[shown].make_context(shown, words[len(shown.split()) :])  # raises for what it does not take


@every_command
def test_its_help_keeps_examples_whole_and_fits_a_narrow_terminal(name, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    ended = run(*name.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: facefoundry {name} [OPTIONS]")
    for example in examples_of(name):
        assert f"\n  {example}\n" in ended.out
    whole = ("  facefoundry ", "  accelerate ", "Usage:")  # lines to be copied, and lists of choices, are not broken
    prose = [line for line in ended.out.splitlines() if not line.startswith(whole) and "|" not in line]
    assert max(map(len, prose)) <= 60


@every_command
def test_it_has_json_and_a_reason_in_the_list(name, run):
    assert "--json" in {spelling for parameter in COMMANDS[name].params for spelling in parameter.opts}
    *group, last = name.split()
    (line,) = re.findall(rf"^  {last} +(.*)$", run(*group, "--help").out, re.MULTILINE)
    assert line.endswith(".")
    assert not line.endswith("...")  # cut off


@every_command
def test_an_unknown_option_is_wrong_use_and_says_how_it_is_used(name, run):
    ended = run(*name.split(), "--frobnicate")
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith(f"Usage: facefoundry {name} ")
    assert "No such option" in ended.err


def test_the_program_alone_shows_its_help_and_the_exit_codes(run):
    ended = run()
    assert ended.code == 2  # nothing was asked for
    helped = run("--help")
    assert helped.code == 0
    assert "130 stopped by Ctrl-C" in " ".join(helped.out.split())


def test_help_loads_nothing_heavy():
    heavy = {"numpy", "scipy", "zarr", "prefect", "torch", "cv2", "numba", "skimage"}
    assert not loaded_by(in_a_process("--help", script=NAMES_LOADED)) & {*heavy, "pydantic"}
    assert not loaded_by(in_a_process("build", "--help", script=NAMES_LOADED)) & heavy


def test_the_page_is_what_the_program_says():
    path = ROOT / "docs" / "make_command_reference.py"
    specification = importlib.util.spec_from_file_location("make_command_reference", path)
    maker = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(maker)
    page = maker.PAGE.read_text()
    assert [name for name, _ in maker.commands()] == list(COMMANDS)
    assert page == maker.page_with(page, maker.reference()), "run: python docs/make_command_reference.py"
    assert set(maker.FURTHER_CODES) <= set(COMMANDS)

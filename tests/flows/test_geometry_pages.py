"""What the pages on unwraps and fits show must exist; `tests/flows/test_readme.py` does the same for the README."""

import re
from pathlib import Path

import pytest
import typer.main

from flows.command_line import app
from geometry.fit_result import FitConfig
from geometry.landmarks import SCHEMES

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("unwraps", "fit-landmarks", "fitting", "hierarchy", "thin-plate-splines")


def options_of(command):
    """Every spelling of every option of a subcommand."""
    return {
        spelling for parameter in typer.main.get_command(app).commands[command].params for spelling in parameter.opts
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_shows_has_its_options(page):
    text = (DOCS / f"{page}.md").read_text()
    lines = re.findall(r"^ *facefoundry ([a-z-]+)([^#\n]*)", text, re.MULTILINE)
    for command, rest in lines:
        assert set(re.findall(r"--[a-z-]+", rest)) <= options_of(command), f"{command}{rest}"
    known = set().union(*(options_of(command) for command in ("unwrap", "fit", "fit-landmarks", "show")))
    known |= options_of("build")
    shown = set(re.findall(r"`(--[a-z-]+)", text))
    assert shown <= known | {"--sample", "--faces"}


def test_the_schemes_and_settings_that_pages_name_are_those_that_there_are():
    text = (DOCS / "fit-landmarks.md").read_text() + (DOCS / "fitting.md").read_text()
    assert all(f"`{name}`" in text for name in SCHEMES)
    named = set(re.findall(r"FitConfig\(([a-z_]+)=", text)) | set(re.findall(r"`([a-z]+_[a-z]+)=", text))
    assert named <= set(FitConfig.model_fields) | {"person_ids"}

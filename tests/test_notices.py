"""The page of third-party notices, held to `pyproject.toml` and to what is installed."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "third-party.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements} - {"facefoundry"}


def rows(heading: str) -> dict[str, list[str]]:
    """Cells by package."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| (.+) \|$", section, re.MULTILINE)[1:]
    return {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.split(" |")] for line in lines)}


def test_every_package_that_is_needed_has_its_notice_and_no_other():
    assert set(rows("Needed")) == names(PROJECT["dependencies"])


def test_every_package_of_an_extra_has_its_notice_under_that_extra():
    wanted: dict[str, set[str]] = {}
    for extra, requirements in PROJECT["optional-dependencies"].items():
        for name in names(requirements):
            wanted.setdefault(name, set()).add(extra)
    assert {name: set(cells[0].split(", ")) for name, cells in rows("Extras").items()} == wanted


LICENCES = {name: cells[0] for name, cells in rows("Needed").items()} | {
    name: cells[1] for name, cells in rows("Extras").items()
}


def test_the_licences_are_those_that_the_installed_packages_state():
    wrong, seen = {}, 0
    for name, said in LICENCES.items():
        try:
            stated = importlib.metadata.metadata(name).get("License-Expression")
        except importlib.metadata.PackageNotFoundError:
            continue
        if stated is None:
            continue
        seen += 1
        if not set(said.split(", ")) <= set(re.split(r" (?:AND|OR) |[()]", stated)):
            wrong[name] = f"{said}, and not {stated}"
    assert wrong == {}
    assert seen > 20

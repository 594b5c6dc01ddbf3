"""Every page, held to the program: links and anchors, commands with their options, Python blocks and the names they import."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from flows.command_line import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "infra" / "README.md"])
OURS = ("geometry", "render", "storage", "train", "flows")
COMMANDS = typer.main.get_command(app)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Those of the headings, as MkDocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page.read_text()), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-") for heading in plain}


def command_lines(text: str) -> Iterator[str]:
    """Every `facefoundry …` of indented or fenced blocks, continued lines joined, comments and pipes cut off."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in re.findall(r"^(?: {4}|\t|\$ ?)? *(?:[A-Z_]+=\S+ )*facefoundry ((?:[a-z]|--).*)$", joined, re.MULTILINE):
        yield re.split(r"\s+#|\s[|>;&]|;", line)[0].strip()


def complaint(line: str) -> str:
    """What is wrong with the words of a command line: its command, or an option that the command lacks."""
    words = shlex.split(line.replace("…", "").replace("'", '"') if line.count("'") % 2 else line)
    command = COMMANDS
    path = []
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name = words.pop(0)
        if name not in command.commands:
            return "" if "$" in name or name.isupper() else f"no command {name}"
        command = command.commands[name]
        path.append(name)
    known = {spelling for parameter in command.params for spelling in (*parameter.opts, *parameter.secondary_opts)}
    missing = [word for word in words if word.startswith("--") and word.split("=")[0] not in known | {"--help"}]
    return f"{' '.join(path)} has no {', '.join(missing)}" if missing else ""


@every_page
def test_its_links_lead_somewhere(page):
    text = without_blocks(page.read_text())
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        if "://" in target:
            continue
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), f"a link to {target}"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{target} has no heading #{anchor}"


@every_page
def test_the_commands_it_shows_exist(page):
    wrong = [f"facefoundry {line}: {said}" for line in command_lines(page.read_text()) if (said := complaint(line))]
    assert wrong == []


def test_commands_are_found_in_pages_and_wrong_ones_are_noticed():
    found = [line for page in PAGES for line in command_lines(page.read_text())]
    assert len(found) > 60
    assert complaint("build 300wlp-posmaps --sorce DIR") == "build has no --sorce"
    assert complaint("bild 300wlp-posmaps") == "no command bild"


@every_page
def test_its_python_is_python_and_the_names_it_imports_exist(page):
    for info, code in re.findall(r"^```([^\n]*python[^\n]*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        tree = ast.parse(code)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
                module = importlib.import_module(node.module)
                for name in node.names:
                    if not hasattr(module, name.name):
                        importlib.import_module(f"{node.module}.{name.name}")
        assert info


def test_the_readme_leads_to_every_page():
    """By links in it, or in pages that it leads to."""
    found, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        linked = re.findall(r"\]\(([^)#:]+\.md)", page.read_text())
        new = {(page.parent / link).resolve() for link in linked} - found
        found |= new
        waiting += new
    reference = ROOT / "docs" / "api"  # which the site alone makes readable
    unseen = [page for page in PAGES if page not in {*found, ROOT / "README.md"} and page.parent != reference]
    assert [str(page.relative_to(ROOT)) for page in unseen] == []


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_shows_every_page(tmp_path):
    """Links, anchors, names of the reference, and that the navigation leaves nothing out."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rasterize" in (tmp_path / "site" / "api" / "render" / "index.html").read_text()
    assert (tmp_path / "site" / "infra" / "index.html").is_file()

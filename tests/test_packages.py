"""The packages themselves: importing one costs nothing, and every name it offers is there, whatever came before."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

PACKAGES = ("geometry", "render", "storage", "train", "flows")
HEAVY = ("numpy", "scipy", "numba", "cv2", "zarr", "h5py", "pydantic", "typer", "prefect", "torch", "pyrender")


def test_importing_the_packages_loads_nothing_else():
    script = f"import sys, {', '.join(PACKAGES)}; print(*(name for name in {HEAVY} if name in sys.modules))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_that_a_package_offers_is_there(name):
    package = importlib.import_module(name)
    assert dir(package) == sorted(package.__all__)
    for offered in package._HOME:
        thing = getattr(package, offered)
        assert thing.__module__.startswith(f"{name}."), f"{offered} lives in {thing.__module__}"


@pytest.mark.parametrize("name", PACKAGES)
def test_no_name_is_also_a_module_which_would_take_its_place_once_imported(name):
    package = importlib.import_module(name)
    modules = {path.stem for path in Path(package.__file__).parent.glob("*.py")}
    assert not modules & set(package.__all__)


@pytest.mark.parametrize("name", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"'{name}' has no attribute 'frobnicate'"):
        _ = importlib.import_module(name).frobnicate


@pytest.mark.parametrize("name", PACKAGES)
def test_type_checkers_are_told_the_same_names_from_the_same_modules(name):
    package = importlib.import_module(name)
    told = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text())
    homes = {
        alias.asname: node.module for node in told.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert homes == package._HOME, "run: python infra/stubs.py"


@pytest.mark.parametrize("name", PACKAGES)
def test_a_packages_map_has_a_place_for_every_module_and_for_no_other(name):
    package = importlib.import_module(name)
    folder = Path(package.__file__).parent
    modules = {path.stem for path in folder.glob("[a-z]*.py")}
    modules |= {path.parent.name for path in folder.glob("[a-z]*/__init__.py")}
    _, drawn, _ = package.__doc__.split("=====\n")
    words = set(re.findall(r"[a-z0-9_*]+", drawn))
    homeless = {module for module in modules if not any(fnmatchcase(module, word) for word in words)}
    assert homeless == set(), f"give them a place in the first lines of {name}/__init__.py"
    named = {word for word in words if "_" in word or "*" in word}
    assert {word for word in named if not any(fnmatchcase(module, word) for module in modules)} == set()


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_says_that_it_is_typed(name):
    assert Path(importlib.import_module(name).__file__).with_name("py.typed").is_file()


@pytest.mark.parametrize("name", PACKAGES)
def test_the_reference_has_every_name_that_a_package_offers(name):
    """Configs on their own page, all others on the package's."""
    docs = Path(__file__).parents[1] / "docs"
    page = (docs / "api" / f"{name}.md").read_text().splitlines() + (docs / "configs.md").read_text().splitlines()
    package = importlib.import_module(name)
    missing = [
        offered
        for offered, home in package._HOME.items()
        if f"::: {home}.{offered}" not in page and not (offered.endswith("Config") and f"### {offered}" in page)
    ]
    assert missing == []


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_offers_every_name_of_the_reference_but_those_that_are_its_modules(name):
    page = Path(__file__).parents[1] / "docs" / "api" / f"{name}.md"
    told = re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    package = importlib.import_module(name)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert {one.rpartition(".")[2] for one in told} - modules <= set(package.__all__)

"""The packages themselves: importing one costs nothing, and every name it offers is there, whatever came before."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("geometry", "render", "storage", "train", "flows")
OFFERING = ("geometry", "render", "storage")
HEAVY = ("numpy", "scipy", "numba", "cv2", "zarr", "h5py", "pydantic", "typer", "prefect", "torch", "pyrender")


def test_importing_the_packages_loads_nothing_else():
    script = f"import sys, {', '.join(PACKAGES)}; print(*(name for name in {HEAVY} if name in sys.modules))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []


@pytest.mark.parametrize("name", OFFERING)
def test_every_name_that_a_package_offers_is_there(name):
    package = importlib.import_module(name)
    assert dir(package) == sorted(package.__all__)
    for offered in package.__all__:
        thing = getattr(package, offered)
        assert thing.__module__.startswith(f"{name}."), f"{offered} lives in {thing.__module__}"


@pytest.mark.parametrize("name", OFFERING)
def test_no_name_is_also_a_module_which_would_take_its_place_once_imported(name):
    package = importlib.import_module(name)
    modules = {path.stem for path in Path(package.__file__).parent.glob("*.py")}
    assert not modules & set(package.__all__)


@pytest.mark.parametrize("name", OFFERING)
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"'{name}' has no attribute 'frobnicate'"):
        _ = importlib.import_module(name).frobnicate

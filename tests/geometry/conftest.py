"""Fixtures for the model files (the writers, and the made-up faces, each built once) and for the unwraps (meshes)."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _load_beside(module):
    """Beside this file lies no package, so a module is loaded by its path."""
    name = f"facefoundry_test_{module}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{module}.py"))
        sys.modules[name] = loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    return sys.modules[name]


@pytest.fixture(scope="session")
def writers():
    return _load_beside("model_writers")


@pytest.fixture(scope="session")
def face(writers):
    return writers.make_face()


@pytest.fixture(scope="session")
def face2017(writers):
    return writers.make_bfm2017()


@pytest.fixture(scope="session")
def shapes():
    """The meshes that every unwrap is tried on."""
    return _load_beside("unwrap_shapes")


@pytest.fixture(scope="session")
def fit_faces():
    """People to fit, and where the drawn outline of a turned head has their landmarks."""
    return _load_beside("fit_faces")

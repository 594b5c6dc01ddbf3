"""Fixtures for the model files: the writers, and the made-up faces, each built once."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _load_writers():
    """Beside this file lies no package, so the module is loaded by its path."""
    name = "facefoundry_test_model_writers"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("model_writers.py"))
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def writers():
    return _load_writers()


@pytest.fixture(scope="session")
def face(writers):
    return writers.make_face()


@pytest.fixture(scope="session")
def face2017(writers):
    return writers.make_bfm2017()

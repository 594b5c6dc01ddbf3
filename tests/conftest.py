"""What all tests share: hypothesis profiles, and an S3 server for those that ask for one.

Compiled kernels make the first example slow, so no test has a deadline.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("nightly", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci")


@pytest.fixture(scope="session")
def small_faces() -> ModuleType:
    """Builds small data sets of position maps, with poses, people and names of 300W-LP."""
    return _load_beside("small_faces")


@pytest.fixture(scope="session")
def prefect_house() -> ModuleType:
    """Prefect servers and workers as processes of their own."""
    return _load_beside("prefect_house")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[object]:
    """S3 on loopback with the bucket `faces`; the environment holds its address and invented credentials."""
    server = _load_beside("s3_server").S3Server()
    environment = {
        "AWS_ACCESS_KEY_ID": "CANARYKEY",
        "AWS_SECRET_ACCESS_KEY": "CANARYSECRET",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_TIMEOUT": "800ms",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setitem(os.environ, name, value)
        yield server
    server.close()


def _load_beside(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module

"""What tests of the flows share: a very small folder in 300W-LP's layout, drawn once, and the command line to be called."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.command_line import main
from storage.synthetic import write_sample_folder
from tests.command_runs import Ended


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., Ended]:
    """Run the command line in this process, from arguments to the exit code."""

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["facefoundry", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory) -> Path:
    """Two people, three views each, their mirror images, the photograph and its own: 14 pictures."""
    folder = tmp_path_factory.mktemp("source") / "sample"
    write_sample_folder(folder, n_identities=2, n_expressions=1, n_views=3)
    return folder


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """On a slow machine commands would say that they live; what they print is compared letter by letter here."""
    monkeypatch.setattr("flows.progress._SECONDS_BETWEEN_LINES", 3600.0)

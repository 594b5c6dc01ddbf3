"""A very small folder in 300W-LP's layout, drawn once for all tests of the flows."""

from pathlib import Path

import pytest

from storage.synthetic import write_sample_folder


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory) -> Path:
    """Two people, three views each, their mirror images, the photograph and its own: 14 pictures."""
    folder = tmp_path_factory.mktemp("source") / "sample"
    write_sample_folder(folder, n_identities=2, n_expressions=1, n_views=3)
    return folder

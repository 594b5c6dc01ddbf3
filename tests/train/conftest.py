"""A data set of a few drawn faces with everything that any of the five systems learns from."""

from pathlib import Path

import pytest

from flows.config import BuildConfig
from flows.local import build_here
from flows.presets import posmaps_300wlp
from storage.synthetic import write_sample_folder


@pytest.fixture(scope="session")
def few_faces(tmp_path_factory) -> Path:
    """Two people, two views each, their mirror images, the photograph and its own: ten crops of 128 px."""
    folder = tmp_path_factory.mktemp("few-faces")
    write_sample_folder(folder / "sample", n_identities=2, n_expressions=1, n_views=2)
    config: BuildConfig = posmaps_300wlp(size_px=128, targets=["posmap", "field", "parts"])
    return build_here(config, source=folder / "sample", out=folder / "datasets", workers=1).path

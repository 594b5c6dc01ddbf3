"""The fit to a stored field must run as docs/dense-fields.md shows it."""

import re
from pathlib import Path

import numpy as np
import pytest

from flows.config import DenseRegConfig
from flows.local import build_here
from geometry import load_model
from storage.dataset import open_dataset
from storage.synthetic_groups import write_group_folder

PAGE = Path(__file__).parents[2] / "docs" / "dense-fields.md"


def test_a_model_is_fitted_to_a_stored_field_as_the_page_shows(tmp_path, monkeypatch):
    write_group_folder(tmp_path / "groups", n_photographs=1)
    config = DenseRegConfig(longest_px=320, shard_size=1, atlas="own")
    built = build_here(config, source=tmp_path / "groups", out=tmp_path / "datasets", workers=1)
    assert built.path.parent == tmp_path / "datasets" / "densereg-fields"
    monkeypatch.chdir(tmp_path)
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "fitter" in block]
    names: dict = {}
    exec(code, names)
    model, sample = load_model("built-in"), open_dataset(built.path)[0]
    assert len(names["fits"]) == sample["n_faces"]
    for index, fit in enumerate(names["fits"]):
        landmarks = fit.camera.project(model.vertices(fit.coefficients)[model.landmark_vertices])[:, :2]
        off = np.linalg.norm(landmarks - sample["landmarks_px"][index, :, :2], axis=1)
        seen = sample["landmark_visible"][index]
        assert seen.sum() > 30
        assert off[seen].mean() == pytest.approx(0, abs=0.3)  # a stored coordinate is rounded to 2⁻¹⁵
        assert names["landmarks_px"].shape == (68, 2)

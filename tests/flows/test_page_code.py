"""Python that a page shows runs as it stands there, from top to bottom, where its data set lies."""

import re
from pathlib import Path

import numpy as np
import pytest

from flows.config import PosmapConfig
from flows.local import build_here
from flows.targets.parts import read_mask
from geometry import Coefficients, load_model
from geometry.camera import ScaledOrthographicCamera
from geometry.rotation import rotation_from_euler
from render.crop import CropConfig

ROOT = Path(__file__).resolve().parents[2]
RUN_HERE = (
    "built-in-model",
    "fitting",
    "hierarchy",
    "migration",
    "own-mask",
    "own-model",
    "thin-plate-splines",
    "unwraps",
)
RUN_BY = {
    "README": "test_readme.py",
    "dense-fields": "test_field_fit_page.py",
    "export": "test_data_pages.py",
    "extending": "test_extensions.py",
}
"""Pages whose code other tests run."""


def code_of(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_code_of_every_page_is_run_by_some_test():
    pages = {page.stem for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")] if code_of(page)}
    assert pages <= {*RUN_HERE, *RUN_BY}
    assert all((Path(__file__).parent / name).is_file() for name in RUN_BY.values())


@pytest.fixture(scope="module")
def workplace(sample_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    config = PosmapConfig(crop=CropConfig(size_px=64), targets=("posmap", "field", "parts"), shard_size=16)
    build_here(config, source=sample_folder, out=folder / "datasets", workers=1)
    return folder


@pytest.fixture(scope="module")
def given() -> dict[str, object]:
    """What the pages take from their reader: landmarks of three pictures, and a template's points."""
    model = load_model("built-in")
    camera = ScaledOrthographicCamera(1.6, rotation_from_euler(0.05, 0.3, 0.02), np.array([220.0, 230.0, 0.0]))
    rng = np.random.default_rng(0)
    faces = [Coefficients(model.draw_identity(rng), model.draw_expression(rng)) for _ in range(3)]
    points = [camera.project(model.vertices(face)[model.landmark_vertices])[:, :2].astype(np.float64) for face in faces]
    return {
        "landmarks_px": points[0],
        "batch_px": np.delete(np.stack(points), [60, 64], axis=1),  # 3DFAW's scheme lacks the mouth's inner corners
        "template": (points[1] - 100) / 300,
    }


@pytest.mark.parametrize("name", RUN_HERE)
def test_the_code_of_the_page_runs(name, workplace, given, monkeypatch):
    monkeypatch.chdir(workplace)
    names = dict(given)
    for code in code_of(ROOT / "docs" / f"{name}.md"):
        exec(code, names)
    if name == "own-mask":
        labels, colors = read_mask(Path("mask.png"))
        assert labels.shape == (1024, 1024)
        assert colors.tolist() == sorted([[0, 0, 0], [40, 120, 200], [220, 60, 60], [250, 200, 40]])

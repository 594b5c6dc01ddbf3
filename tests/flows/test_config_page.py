"""The page of configs is made from the configs."""

import importlib
import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_configs_is_what_the_configs_say():
    path = ROOT / "docs" / "make_config_reference.py"
    specification = importlib.util.spec_from_file_location("make_config_reference", path)
    maker = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(maker)
    assert maker.PAGE.read_text() == maker.page(), "run: python docs/make_config_reference.py"


def test_every_config_of_the_project_is_on_the_page():
    page = (ROOT / "docs" / "configs.md").read_text()
    packages = (importlib.import_module(name) for name in ("geometry", "render", "storage", "train", "flows"))
    sources = [path.read_text() for package in packages for path in Path(package.__file__).parent.rglob("*.py")]
    lines = [
        line for source in sources for line in source.splitlines() if line.startswith("class ") and "Config(" in line
    ]
    named = {
        line.split("(")[0].removeprefix("class ") for line in lines if "BaseModel" in line or "Config, frozen" in line
    }
    assert {name for name in named if f"### {name}" not in page} == {"BuildConfig", "CoarseConfig"}, "others' parents"

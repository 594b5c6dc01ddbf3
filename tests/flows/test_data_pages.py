"""What the pages on exports and the data card show must run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.config import PosmapConfig
from flows.local import build_here

ROOT = Path(__file__).resolve().parents[2]
EXPORT_PAGE = (ROOT / "docs" / "export.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", EXPORT_PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def workplace(sample_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    build_here(PosmapConfig(shard_size=8), source=sample_folder, out=folder / "datasets", workers=1)
    return folder


def test_every_snippet_of_the_page_runs(workplace):
    script = "\n\n".join(SNIPPETS)
    assert len(SNIPPETS) == 5
    path = workplace / "page.py"
    path.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{script}\nprint(len(profiles), len(steep), first.shape)\n"
    )
    done = subprocess.run([sys.executable, path], cwd=workplace, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    n_profiles, n_steep, shape = done.stdout.split(maxsplit=2)
    assert len(list((workplace / "profiles").rglob("*.glb"))) == int(n_profiles)
    assert int(n_steep) > 0
    assert shape.strip() == "(3, 256, 256)"

"""What the README shows must run as it stands there; `test_pages.py` looks at the commands and links of all pages."""

import os
import re
import subprocess
import sys
from pathlib import Path

from flows.config import PosmapConfig
from flows.local import build_here

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_training_code_reads_batches_as_shown(sample_folder, tmp_path):
    build_here(PosmapConfig(shard_size=8), source=sample_folder, out=tmp_path / "datasets", workers=1)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    script = tmp_path / "training.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}\n    print(float(loss), len(loader))\n")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    loss, batches = done.stdout.split()
    assert 0 < float(loss) < 10
    assert int(batches) == 1


def test_the_tour_runs_from_top_to_bottom(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "examples" / "tour.py", tmp_path / "tour"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TOUR_STEPS": "2"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "tour").iterdir()} >= {"sheet.png", "sample.png", "flat.png", "predicted"}
    assert "0 rejected" in done.stdout

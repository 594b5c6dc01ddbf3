"""What the README shows must run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

from flows.command_line import app
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


def test_every_command_and_option_that_the_readme_shows_exists():
    known = {command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands}
    shown = set(re.findall(r"^    facefoundry ([a-z]+)", README, re.MULTILINE))
    assert shown - {"model"} <= known
    help_text = subprocess.run(
        [sys.executable, "-c", "from flows.command_line import main; main()", "build", "--help"],
        cwd=ROOT, capture_output=True, text=True, env={"COLUMNS": "300", "PATH": ""},
    ).stdout  # fmt: skip
    for option in set(re.findall(r"--[a-z][a-z-]*", README)) - {
        "--no-prompt",
        "--type",
        "--pool",
        "--all",
        "--prefect-file",
    }:
        assert option in help_text, option


def test_every_page_that_is_linked_exists():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name} links to {link}"

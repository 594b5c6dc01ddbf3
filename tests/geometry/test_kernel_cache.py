"""Kernels are compiled once for all processes, and wherever they are installed there is a place to keep them."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from geometry import kernel_cache
from geometry.kernel_cache import VARIABLE, choose_cache_folder

ROOT = Path(__file__).resolve().parents[2]
KERNELS = sorted(path for folder in ("geometry", "render", "storage") for path in (ROOT / folder).glob("*kernel.py"))
NO_HOME = "/dev/null"  # for root too, who could make one elsewhere

USE = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import geometry, storage.fixed_point_kernel as kernel
assert kernel.__file__.startswith(sys.argv[1]), kernel.__file__
values = np.zeros(3, np.float32)
kernel.decode(np.array([1, 2, 3], np.uint16), values, np.float32(0.5), np.float32(1))
print(*values)
"""


def test_every_kernel_is_kept_between_processes():
    assert len(KERNELS) > 10
    for path in KERNELS:
        decorators = re.findall(r"\bnjit\(.*", path.read_text())
        assert decorators, path.name
        assert all("cache=True" in decorator for decorator in decorators), path.name


@pytest.fixture
def installed_read_only(tmp_path) -> Path:
    """The package where nobody may write, without compiled files."""
    place = tmp_path / "site"
    for name in ("geometry", "render", "storage"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.npz", "card"))
    folders = [place, *(path for path in place.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield place
    for folder in folders:
        folder.chmod(0o755)


def used(place: Path, temporary: Path) -> subprocess.CompletedProcess:
    """A kernel used by somebody without a home and without privileges; root is put in their place."""
    plain = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    environment = {"HOME": NO_HOME, "PATH": os.environ["PATH"], "TMPDIR": str(temporary), "NUMBA_DEBUG_CACHE": "1"}
    command = [*plain, sys.executable, "-B", "-c", USE, str(place)]
    return subprocess.run(command, env=environment, cwd=temporary, capture_output=True, text=True, timeout=300)


def test_a_read_only_installation_without_a_home_compiles_once(installed_read_only, tmp_path):
    first, second = used(installed_read_only, tmp_path), used(installed_read_only, tmp_path)
    for done in (first, second):
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("-0.5 0.0 0.5\n")
    assert "data saved to" in first.stdout
    assert "data loaded from" in second.stdout
    assert "data saved to" not in second.stdout
    (kept,) = tmp_path.glob("facefoundry-kernels-*")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


@pytest.fixture
def nowhere_to_write(monkeypatch, tmp_path) -> Path:
    """As in such an installation; gives the temporary folder."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(kernel_cache, "_can_be_made", lambda folder: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("numba.config.CACHE_DIR", "")
    return tmp_path


def test_code_is_not_loaded_from_a_folder_where_others_may_write(nowhere_to_write):
    planted = nowhere_to_write / f"facefoundry-kernels-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    choose_cache_folder()
    chosen = Path(os.environ[VARIABLE])
    assert chosen.parent == nowhere_to_write
    assert chosen != planted
    assert stat.S_IMODE(chosen.stat().st_mode) == 0o700


def test_a_link_that_somebody_planted_is_not_followed(nowhere_to_write, tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o700)
    planted = nowhere_to_write / f"facefoundry-kernels-{os.getuid()}"
    planted.symlink_to(tmp_path / "theirs")
    choose_cache_folder()
    assert Path(os.environ[VARIABLE]) != planted


def test_nothing_is_changed_where_numba_finds_a_place(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    choose_cache_folder()
    assert os.environ[VARIABLE] == str(tmp_path)
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    choose_cache_folder()
    assert VARIABLE not in os.environ

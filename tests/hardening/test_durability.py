"""In which order an object reaches the disk: its bytes, then its name, then the folder that holds the name."""

import os
import stat
from pathlib import Path

from storage.local_store import LocalStore


def test_bytes_are_on_the_disk_before_they_have_a_name_and_the_name_before_the_call_returns(tmp_path, monkeypatch):
    """A machine that loses power in between has the old object or the new one, and never a name without its bytes."""
    LocalStore(tmp_path).put("seed/c.0", b"old")
    done: list[str] = []
    replace = Path.replace

    def synced(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("folder" if is_folder else f"bytes {os.fstat(descriptor).st_size}")

    def renamed(self: Path, target: Path) -> Path:
        assert self.read_bytes() == b"whole"
        assert self != target
        done.append("name")
        return replace(self, target)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    LocalStore(tmp_path).put("seed/c.0", b"whole")
    assert done == ["bytes 5", "name", "folder"]
    assert (tmp_path / "seed/c.0").read_bytes() == b"whole"

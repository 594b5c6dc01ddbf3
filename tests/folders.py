"""What lies in a folder, for comparing two of them."""

import hashlib
from pathlib import Path


def tree(folder: Path) -> dict[str, str]:
    """The sha256 of every file, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

"""Where compiled kernels are kept between processes.

numba keeps them beside their source, or else in the user's cache folder. Where it may write to neither, as in a read-only
installation without a home, it refuses to import a kernel at all; then they are kept in the temporary folder.
"""

import os
import stat
import sys

VARIABLE = "NUMBA_CACHE_DIR"


def choose_cache_folder() -> None:
    """Name a folder of this user's in :data:`VARIABLE` where numba would find none by itself; otherwise change nothing."""
    users = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.environ.get(VARIABLE) or _can_be_made(os.path.join(os.path.dirname(__file__), "__pycache__")):
        return
    if _can_be_made(os.path.join(users, "numba")):
        return
    import tempfile  # here: seldom needed

    try:
        folder = os.path.join(tempfile.gettempdir(), f"facefoundry-kernels-{os.getuid()}")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            folder = tempfile.mkdtemp(prefix="facefoundry-kernels-")  # code is not loaded from where others may write
    except OSError:  # nothing can be written anywhere, and numba will say so
        return
    os.environ[VARIABLE] = folder  # for worker processes too
    if "numba" in sys.modules:  # which reads its environment once
        sys.modules["numba"].config.CACHE_DIR = folder


def _can_be_made(folder: str) -> bool:
    """Whether this process may make the folder, or write into it."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)

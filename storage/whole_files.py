"""Writing small files that appear whole or not at all: what can be made again, such as samples, reports and markers.

Objects of published versions are written by :mod:`storage.local_store`, which syncs them to the disk as well.
"""

import contextlib
import os
import threading
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a name of this thread's own and rename: a reader sees the old file, the new one, or none.

    No fsync: after a loss of power the file may be gone, and is made again. Raises OSError.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        say_where(error, path)
        raise


def say_where(error: OSError, path: Path) -> None:
    """Let the system's error name the file that was meant: it speaks of a full disk without a name, else of a private one."""
    private = error.filename is not None and str(error.filename).endswith(".partial")
    if error.errno is not None and (error.filename is None or private):
        error.filename = str(path)

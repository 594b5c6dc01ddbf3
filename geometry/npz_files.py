"""Reading `.npz` files that may be damaged or hostile: named arrays, no more bytes than they may have, one error.

NumPy's reader raises whatever lies beneath it for changed bytes, inflates without end, and of two members with one name takes the
last. Here the list of contents is looked at before anything is inflated.
"""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError,
    NotImplementedError, RuntimeError, OverflowError, MemoryError, SyntaxError,
)  # fmt: skip
"""What zipfile, zlib and NumPy raise for changed bytes, by where they lie."""


class NpzError(ValueError):
    """A file that is no whole `.npz`, or not the one that is expected."""


def read_npz(path: Path | str, names: Sequence[str], *, limit_bytes: int) -> dict[str, np.ndarray]:
    """The arrays `names` of a file whose members have at most `limit_bytes` in all when they are unpacked.

    Every member's CRC-32 is compared. Raises NpzError, and FileNotFoundError.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            listed = [member.filename for member in members]
            n_bytes = sum(member.file_size for member in members)
            lacking = [name for name in names if f"{name}.npy" not in listed]
            if lacking and n_bytes <= limit_bytes:
                raise NpzError(
                    f"{path.name} is another .npz file than the one that is expected: it has no {lacking[0]}"
                )
            if len(set(listed)) == len(listed) and n_bytes <= limit_bytes:
                file.seek(0)
                with np.load(file, allow_pickle=False) as stored:
                    return {name: stored[name] for name in names}
    except NpzError:
        raise
    except _UNREADABLE as error:
        why = (str(error) or type(error).__name__)[:200]
        raise NpzError(f"{path.name} cannot be read as an .npz file ({why}): damaged, or of another kind") from None
    if n_bytes > limit_bytes:
        raise NpzError(
            f"{path.name} would unpack to {n_bytes:,} bytes, and {limit_bytes:,} are the most that is expected"
        )
    raise NpzError(f"{path.name} holds two arrays of one name; which one is meant is unknown")

"""How numbers become the packed file's entries, and entries the file: same arrays, same bytes."""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np


def differences_along(values: np.ndarray, dtype: type) -> np.ndarray:
    """First differences along the last axis; the reader's cumulative sum in the same type undoes them."""
    return np.diff(values.astype(np.int64), axis=-1, prepend=0).astype(dtype)


def coded_modes(modes: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Modes (k n 3) as int16 (k 3 n) differences along n in steps of `step`, and the values that a reader will see."""
    steps = np.rint(modes / step).astype(np.int64).transpose(0, 2, 1)
    differences = np.diff(steps, axis=2, prepend=0)
    largest = max(np.abs(steps).max(), np.abs(differences).max())
    if largest > np.iinfo(np.int16).max:
        raise ValueError(f"a mode needs {largest} steps of {step}, more than 16 bits hold: take a larger step")
    return differences.astype(np.int16), (steps * step).transpose(0, 2, 1)


def as_bytes(mask: np.ndarray) -> np.ndarray:
    """[0, 1] as 0 to 255."""
    return np.rint(np.clip(mask, 0, 1) * 255).astype(np.uint8)


def content_hash(arrays: dict[str, np.ndarray]) -> str:
    """sha256 of names, types, shapes and values, not of the zip: it survives another version of liblzma."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write(path: Path, arrays: dict[str, np.ndarray]) -> str:
    """Write the entries as an LZMA zip without clocks or host details; returns the file's sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_LZMA, 3, 0o644 << 16
            stored = io.BytesIO()
            np.lib.format.write_array(stored, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            archive.writestr(entry, stored.getvalue())
    return hashlib.sha256(path.read_bytes()).hexdigest()

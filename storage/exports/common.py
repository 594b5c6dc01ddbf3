"""What every export shares: a folder that appears whole or not at all, batches, names, and what it came from."""

import fcntl
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from geometry.extras import how_to_get
from storage.dataset import ShardedDataset
from storage.json_files import plain
from storage.views import manifests_of
from storage.whole_files import say_where

Progress = Callable[[int], None]
"""Told how many samples were written since the last call."""

ABOUT = "dataset.json"
CONSTANT = ("covered",)
"""Targets that are equal in all samples and lie in a table (`atlas_covered`): exports do not repeat them."""

_AT_ONCE = 16
_OF_PRIVATE = re.compile(r"[0-9a-f]{8}\.partial")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. ()")


class MissingExtra(RuntimeError):
    """A format needs a library that is not installed."""


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A private folder to write into, which becomes `folder` when the block ends well and is removed otherwise.

    What an export to `folder` left that was killed is removed: nobody has its lock any more.
    Raises FileExistsError when `folder` is there and not empty: exports are never mixed.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there and not empty; choose a new folder for the export, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for path in folder.parent.iterdir():
        if path.name.startswith(f".{folder.name}.") and _OF_PRIVATE.fullmatch(path.name[len(folder.name) + 2 :]):
            _remove_if_left(path)
    private = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    private.mkdir()
    lock = os.open(private, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks: nobody removes anything there either
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield private
        if folder.exists():
            folder.rmdir()
        os.rename(private, folder)
    except OSError as error:
        say_where(error, folder)
        raise
    finally:
        os.close(lock)
        shutil.rmtree(private, ignore_errors=True)


def _remove_if_left(private: Path) -> None:
    """Remove the private folder of an export that has died; one that was made a moment ago is let be too."""
    with suppress(OSError):
        lock = os.open(private, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if any(private.iterdir()):  # it has something in it, so it was locked before
                shutil.rmtree(private)
        finally:
            os.close(lock)


def samples_of(
    dataset: ShardedDataset, targets: list[str], progress: Progress, *, first: int = 0, stop: int | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, {target: value}) of each sample in order, read a few at once."""
    stop = len(dataset) if stop is None else stop
    for start in range(first, stop, _AT_ONCE):
        numbers = np.arange(start, min(start + _AT_ONCE, stop))
        batch = dataset.read(numbers, targets)
        for place, number in enumerate(numbers.tolist()):
            yield number, {name: values[place] for name, values in batch.items()}
        progress(len(numbers))


def exported_targets(dataset: ShardedDataset) -> list[str]:
    """All that a sample holds, but what is equal in every one."""
    return [name for name in dataset.schema.names if name not in CONSTANT]


def loose_name(source_id: str, copy_index: int = 0) -> str:
    """A relative path below a folder for a sample of that id, different for different ids and copies.

    Source ids are strangers' texts: what is not a plain letter, digit or one of ``_-. ()`` becomes ``%XX`` of UTF-8, and so
    does a dot at a name's beginning; empty parts are ``%``. Copies but the first have ``+1``, ``+2`` … at the end.
    """
    parts = [_plain(part) for part in source_id.split("/")]
    return "/".join(parts) + (f"+{copy_index}" if copy_index else "")


def _plain(part: str) -> str:
    quoted = "".join(c if c in _PLAIN else "".join(f"%{byte:02X}" for byte in c.encode()) for c in part)
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted or "%"


def write_about(dataset: ShardedDataset, folder: Path) -> None:
    """`dataset.json`: what this is an export of, and on whose terms."""
    manifest, manifests = dataset.manifest, manifests_of(dataset)
    about = {
        "dataset": manifest.name,
        "version": manifest.version,
        "fingerprint": manifest.fingerprint,
        "samples": len(dataset),
        "model": [one.model.model_dump() for one in manifests],
        "sources": [source.model_dump(mode="json") for one in manifests for source in one.sources],
        "config": [one.config for one in manifests],
        "targets": {
            target.name: {
                "dtype": target.dtype,
                "shape": list(target.sample_shape),
                "unit": target.unit,
                "description": target.description,
            }
            for target in dataset.schema.everything
        },
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_tables(dataset: ShardedDataset, folder: Path) -> None:
    """Every constant table that the parts of `dataset` share, as ``tables/<name>.npy``."""
    names = set.intersection(*(set(one.plan.tables) for one in manifests_of(dataset)))
    for name in sorted(names):
        (folder / "tables").mkdir(exist_ok=True)
        (folder / "tables" / f"{name}.npy").write_bytes(npy_bytes(dataset.table(name)))


def npy_bytes(array: Shaped[np.ndarray, "..."]) -> bytes:
    """The array as NumPy's own file (format 1.0, C order, no pickle)."""
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return content.getvalue()


def json_value(value: Any) -> Any:
    """A scalar or text as JSON holds it: NaN and infinity are null."""
    return plain(value.item() if isinstance(value, np.ndarray) else value)


def arrow() -> Any:
    """The modules pyarrow and pyarrow.parquet. Raises MissingExtra."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra(f"Parquet needs pyarrow: {how_to_get('parquet')}") from None
    return pyarrow

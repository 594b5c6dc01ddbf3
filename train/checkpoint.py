"""Checkpoints: written whole or not at all, read without running anything that is in them."""

import os
import secrets
import zipfile
from pathlib import Path
from typing import Any

import torch

from storage.phases import Phase, reach

FORMAT = 1
"""Raised when a checkpoint of before cannot be read any more."""


class BadCheckpoint(ValueError):
    """A file that is no checkpoint, is damaged, or belongs to something else."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) under a private name and rename it: a reader sees the old file or the new."""
    private = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    for left in path.parent.glob(f".{path.name}.*"):  # by a training that was killed: a folder belongs to one
        left.unlink(missing_ok=True)
    try:
        reach(Phase.TRAINING, path.name)
        with private.open("wb") as file:
            torch.save({"facefoundry_checkpoint": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        private.replace(path)
    finally:
        private.unlink(missing_ok=True)


def load_checkpoint(path: Path, *, system: str | None = None) -> dict[str, Any]:
    """The state of a checkpoint, on the CPU; with `system`, of that system alone.

    Raises BadCheckpoint, which says what is wrong and what to do.
    """
    if path.is_dir():
        raise BadCheckpoint(f"{path} is a folder: name the last.pt or best.pt of a training's folder")
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise BadCheckpoint(f"{path} is no regular file: take last.pt or best.pt of a training's folder")
    try:
        _check_bytes(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch's reader fails in ways of its own for every damaged byte
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadCheckpoint(
            f"{path} cannot be read as a checkpoint ({first_line}): it is damaged or another kind of file; "
            "take last.pt or best.pt of a training's folder"
        ) from None
    if not isinstance(state, dict) or "facefoundry_checkpoint" not in state:
        raise BadCheckpoint(f"{path} holds weights but is no checkpoint of a training; take last.pt or best.pt")
    number, name = state["facefoundry_checkpoint"], state.get("system")
    if not isinstance(number, int) or number < 1:
        raise BadCheckpoint(f"{path} has checkpoint format {number!r}, which there never was: it is damaged")
    if number > FORMAT:
        raise BadCheckpoint(
            f"{path} has checkpoint format {number}, and this program knows {FORMAT}: update facefoundry"
        )
    if not isinstance(name, str):
        raise BadCheckpoint(f"{path} does not say which system it is of: it is damaged; take another checkpoint")
    if system is not None and name != system:
        raise BadCheckpoint(f"{path} is a checkpoint of {name}, not of {system}")
    return state


def _check_bytes(path: Path) -> None:
    """Compare the CRC-32 that torch writes for each part of a file, and never looks at when it reads them.

    Raises what :mod:`zipfile` does for a file that is no zip, and ValueError for one that changed since it was written.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names):
            raise ValueError("two of its parts have one name")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} has changed since it was written")

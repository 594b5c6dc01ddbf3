"""Checkpoints: written whole or not at all, read without running anything that is in them."""

import os
import pickle  # noqa: TID251  # only its exception: torch raises it for what it refuses to unpickle
import secrets
from pathlib import Path
from typing import Any

import torch

FORMAT = 1
"""Raised when a checkpoint of before cannot be read any more."""

_UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError)


class BadCheckpoint(ValueError):
    """A file that is no checkpoint, is damaged, or belongs to something else."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) under a private name and rename it: a reader sees the old file or the new."""
    private = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
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
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadCheckpoint(
            f"{path} cannot be read as a checkpoint ({first_line}): it is damaged or another kind of file; "
            "take last.pt or best.pt of a training's folder"
        ) from None
    if not isinstance(state, dict) or "facefoundry_checkpoint" not in state:
        raise BadCheckpoint(f"{path} holds weights but is no checkpoint of a training; take last.pt or best.pt")
    if state["facefoundry_checkpoint"] > FORMAT:
        raise BadCheckpoint(
            f"{path} has checkpoint format {state['facefoundry_checkpoint']}, and this program knows {FORMAT}: update it"
        )
    if system is not None and state["system"] != system:
        raise BadCheckpoint(f"{path} is a checkpoint of {state['system']}, not of {system}")
    return state

"""Systems from their checkpoints: by name, config and state, with what they were trained on.

A checkpoint is read without running anything in it (:mod:`train.checkpoint`). What does not fit is refused with a sentence
(BadCheckpoint): a system that this program does not know, a config of another version, weights of another network.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from pydantic import ValidationError

from train.checkpoint import BadCheckpoint, load_checkpoint
from train.system import System
from train.systems import UnknownSystem, system_class, system_names
from train.training_data import TrainingData, read_description

_ENTRIES = ("config", "system_state", "network", "dataset", "total_steps")


@dataclass(frozen=True, slots=True)
class Restored:
    """A trained system, ready to predict: in evaluation mode, without gradients."""

    system: System
    data: TrainingData
    path: Path
    sha256: str
    """Of the checkpoint's file."""
    total_steps: int

    @property
    def n_parameters(self) -> int:
        """Learnable ones."""
        return sum(parameter.numel() for parameter in self.system.network.parameters())

    @property
    def size_mb(self) -> float:
        """Of weights and statistics as they are used, in 10⁶ bytes: what papers call the model's size."""
        tensors = [*self.system.network.parameters(), *self.system.network.buffers()]
        return sum(_n_numbers(tensor) * tensor.element_size() for tensor in tensors) / 1e6


def _n_numbers(tensor: torch.Tensor) -> int:
    return tensor._nnz() if tensor.layout != torch.strided else tensor.numel()  # what a mesh's matrices store


def restore(path: str | os.PathLike[str], *, system: str | None = None, device: torch.device | str = "cpu") -> Restored:
    """The system that a checkpoint holds; with `system`, of that one alone.

    Raises BadCheckpoint, which says what is wrong and what to do, and FileNotFoundError.
    """
    path = Path(path)
    state = load_checkpoint(path, system=system)
    name = state["system"]
    try:
        kind = system_class(name)
    except UnknownSystem:
        raise BadCheckpoint(
            f"{path} is a checkpoint of {name!r}, and this program knows {', '.join(system_names())}: update it, or install "
            "the package that adds that system"
        ) from None
    lacking = [entry for entry in _ENTRIES if entry not in state]
    if lacking:
        raise BadCheckpoint(f"{path} has no {lacking[0]}: it is damaged, or was written by another version")
    restored = built_system(kind, state, path)
    try:
        restored.network.load_state_dict(state["network"])
    except (RuntimeError, TypeError, KeyError, AttributeError) as error:
        _refuse_weights(path, name, error)
    try:
        data = read_description(state["dataset"])
    except KeyError as error:
        raise BadCheckpoint(
            f"{path} does not say {error} of its data set, so that nobody knows how faces are cut out for it: it was written "
            "by an older program; go on with its training by this one, and take the new checkpoint"
        ) from None
    except (TypeError, AttributeError, ValueError) as error:
        raise BadCheckpoint(f"{path} describes no data set ({error}): it is damaged") from None
    restored.network.to(device).eval()
    restored.network.requires_grad_(False)
    if not isinstance(state["total_steps"], int):
        raise BadCheckpoint(f"{path} says {state['total_steps']!r} of how long it was trained: it is damaged")
    return Restored(restored, data, path, hashlib.sha256(path.read_bytes()).hexdigest(), state["total_steps"])


def built_system(kind: type[System], state: Mapping[str, Any], path: Path) -> System:
    """The untrained system of a checkpoint's config and state. Raises BadCheckpoint."""
    name = kind.name
    try:
        config = kind.config_type.model_validate(state["config"])
    except ValidationError as error:
        first = error.errors()[0]
        raise BadCheckpoint(
            f"{path} has a config of {name} that this program does not understand ({'.'.join(map(str, first['loc']))}: "
            f"{first['msg']}): it was written by another version"
        ) from None
    try:
        return kind.from_state(config, state["system_state"])
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise BadCheckpoint(f"{path} has no state of {name} that fits its config ({error}): it is damaged") from None


def _refuse_weights(path: Path, name: str, error: Exception) -> NoReturn:
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    first = next((line for line in lines[1:] if line), lines[0])
    raise BadCheckpoint(
        f"{path} holds weights of another network than its config of {name} describes ({first[:200]}): it is damaged, or of "
        "another model's topology"
    ) from None

"""What the training loop asks of a system, so that one loop trains all of them.

A system owns its network, says in which phases it is trained and with which optimiser, turns a loader's batch into a loss and
pictures into landmarks. It never sees files, epochs or devices' names.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from storage.dataset import ShardedDataset
from train import metrics

Batch = dict[str, Any]


class OptimiserConfig(BaseModel, frozen=True, extra="forbid"):
    """An optimiser and how its learning rate goes on."""

    kind: Literal["adam", "sgd"] = Field("adam", description="Adam, or stochastic gradient descent with momentum.")
    learning_rate: float = Field(1e-3, gt=0, description="The rate that the phase begins with.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Of SGD.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty on all weights.")
    decay: Literal["constant", "step", "exponential", "polynomial", "geometric"] = Field(
        "constant",
        description="step: × decay_factor every decay_epochs; exponential: × decay_factor every epoch; polynomial: "
        "(1 − t)^decay_factor over the phase; geometric: evenly in the logarithm down to last_rate at the phase's end.",
    )
    decay_factor: float = Field(0.5, gt=0, description="See decay.")
    decay_epochs: int = Field(5, ge=1, description="Epochs between two steps.")
    last_rate: float = Field(1e-5, gt=0, description="Where a geometric decay ends.")
    warm_up_steps: int = Field(0, ge=0, description="Steps over which the rate first rises linearly.")

    def rate(self, step: int, *, epoch: int, n_steps: int) -> float:
        """The learning rate of `step` (from 0) of a phase of `n_steps`, in `epoch` (from 0) of the phase."""
        done = step / max(n_steps, 1)
        factor = {
            "constant": 1.0,
            "step": self.decay_factor ** (epoch // self.decay_epochs),
            "exponential": self.decay_factor**epoch,
            "polynomial": max(1 - done, 0.0) ** self.decay_factor,
            "geometric": (self.last_rate / self.learning_rate) ** min(done, 1.0),
        }[self.decay]
        return self.learning_rate * factor * min((step + 1) / (self.warm_up_steps + 1), 1.0)

    def build(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser over `parameters`."""
        if self.kind == "adam":
            return torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            parameters, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )


class PhaseConfig(BaseModel, frozen=True, extra="forbid"):
    """One stretch of training: what is learnt, for how long and how."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="What is trained; the system knows what that means.")
    epochs: int | None = Field(None, ge=1, description="Passes over the data; this or steps.")
    steps: int | None = Field(None, ge=1, description="Batches; this or epochs.")
    patience: int | None = Field(
        None, ge=1, description="The phase ends early after so many validations without a better result."
    )
    batch_size: int | None = Field(None, ge=1, description="Where it differs from the run's.")
    optimiser: OptimiserConfig = OptimiserConfig()

    @model_validator(mode="after")
    def _one_length(self) -> "PhaseConfig":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"phase {self.name}: give its length as epochs or as steps, one of the two")
        return self


class SystemConfig(BaseModel, frozen=True, extra="forbid"):
    """What every system's config has; each adds its own fields."""

    batch_size: int = Field(16, ge=1, description="Samples of one step, over all processes and accumulated batches.")
    phases: tuple[PhaseConfig, ...] = Field(min_length=1, description="Trained one after another.")
    validation_samples: int | None = Field(
        None, ge=1, description="So many samples of the validation set are looked at, drawn once; none: all of them."
    )


class System(ABC):
    """A network and what it takes to train it and to use it."""

    name: str
    """The name on the command line and in checkpoints."""
    config_type: ClassVar[type[SystemConfig]]
    presets: ClassVar[Mapping[str, Callable[[], SystemConfig]]]
    """Whole configs by name: ``tiny``, which learns on a CPU in minutes, and ``paper``, where there is one."""
    config: SystemConfig
    network: nn.Module
    targets: tuple[str, ...]
    """The data set's targets that training reads."""

    landmark_indices: tuple[int, ...] = tuple(range(68))
    """Which of the 68 landmarks :meth:`predict_landmarks` gives, in its order."""

    augmentation: str
    """The preset of :mod:`render.augmentation_presets` that its paper trained with."""

    @classmethod
    @abstractmethod
    def for_dataset(cls, config: Any, dataset: ShardedDataset) -> "System":
        """The untrained system with what it takes from a data set beforehand. Raises ValueError for one that lacks that."""

    @abstractmethod
    def prepare(self, batch: Batch, *, rng: torch.Generator) -> Batch:
        """Inputs and targets of the network from a loader's batch, on the batch's device. `rng` is the CPU's."""

    @abstractmethod
    def losses(self, prepared: Batch, phase: PhaseConfig) -> dict[str, Tensor]:
        """Scalars by name; ``loss`` is what is minimised, the others are for the log."""

    @abstractmethod
    def predict_landmarks(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n p d"]:
        """Landmarks in pixels of the crops (2-D or 3-D). The network is in evaluation mode, without gradients."""

    def measure(self, phase: PhaseConfig) -> str:
        """The name of what :meth:`errors` gives in `phase`."""
        return "nme_bbox"

    def errors(self, batch: Batch, phase: PhaseConfig) -> Float[np.ndarray, " n"]:
        """How wrong the network is on each sample of a validation batch (its :attr:`targets`); smaller is better.

        :func:`train.metrics.nme_bbox` in the picture plane unless a system says otherwise. In evaluation mode.
        """
        return landmark_errors(self, self.predict_landmarks(batch["image"]), batch)

    def learns(self, phase: PhaseConfig) -> Iterator[nn.Parameter]:
        """The parameters that `phase` changes; all of them unless a system says otherwise."""
        yield from self.network.parameters()

    def begin(self, phase: PhaseConfig) -> None:
        """Put the network into training mode for `phase`; what it does not learn stays in evaluation mode."""
        self.network.train()

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside weights and config to build the system anew: tensors and plain values."""
        return {}

    @classmethod
    def from_state(cls, config: Any, state: dict[str, Any]) -> "System":
        """The untrained system again, from its config and its :meth:`state`; by default they are its constructor's arguments.

        Raises KeyError, TypeError or ValueError for a state that is no such one.
        """
        return cls(config, state)  # type: ignore[call-arg]

    def load_pretrained(self, path: Path) -> None:
        """Let the backbone begin with weights from a file. Raises ValueError for systems whose papers begin from nothing."""
        raise ValueError(f"{self.name} has no backbone that is passed around with weights; leave --pretrained out")


def check_targets(system: str, targets: Sequence[str], dataset: ShardedDataset) -> None:
    """Raise ValueError, with what to do, for a data set that lacks a target of the system's, or has no samples."""
    missing = [name for name in targets if name not in dataset.schema.names]
    if missing:
        raise ValueError(
            f"{system} learns from {', '.join(missing)}, and the data set {dataset.manifest.name} has only "
            f"{', '.join(dataset.schema.names)}: build it with these targets (--targets posmap,field,parts has those of all "
            "of this project's systems)"
        )
    if not len(dataset):
        raise ValueError(f"{dataset.manifest.name} {dataset.manifest.version} has no samples to learn from")


def landmark_errors(
    system: System, predicted: Float[Tensor, "n p d"], batch: Mapping[str, Any]
) -> Float[np.ndarray, " n"]:
    """`nme_bbox` of predicted landmarks in the picture plane; the box is that of all true ones, whichever a system knows."""
    found = predicted[..., :2].double().cpu().numpy()
    truth = batch["landmarks_px"][..., :2].double().cpu().numpy()
    return metrics.nme_bbox(found, truth[:, list(system.landmark_indices)], box_of=truth)

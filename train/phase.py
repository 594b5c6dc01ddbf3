"""A phase of a training, made ready: what it reads, what learns, and with which optimiser and average."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from storage.dataset import ShardedDataset
from train.averaging import WeightAverage
from train.loader import ShardLoader, make_loader
from train.photograph_crops import holds_photographs
from train.run_config import RunConfig
from train.system import Batch, PhaseConfig, System

_SEEDS_OF_A_PHASE = 1000


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase while it is trained; `trainable` is the network behind the loss."""

    config: PhaseConfig
    n_steps: int
    steps_per_epoch: int
    loader: ShardLoader
    trainable: nn.Module
    optimiser: Any
    average: WeightAverage | None

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.config.optimiser.rate(step, epoch=step // self.steps_per_epoch, n_steps=self.n_steps)

    def state(self) -> dict[str, Any]:
        """What :func:`prepare_phase` goes on with."""
        return {
            "loader": self.loader.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }


def prepare_phase(
    config: PhaseConfig,
    *,
    number: int,
    system: System,
    dataset: ShardedDataset,
    run: RunConfig,
    accelerator: Accelerator,
    state: Mapping[str, Any] | None = None,
) -> Phase:
    """The phase `number` of a run, at its beginning or at a :meth:`Phase.state`.

    Raises ValueError for batches that the processes cannot share, and for photographs without crops.
    """
    loader = _loader(config, number, system, dataset, run, accelerator)
    steps_per_epoch = max(len(loader) // run.accumulate, 1)
    n_steps = config.steps if config.steps is not None else (config.epochs or 0) * steps_per_epoch
    network = system.network
    learnt = {id(parameter) for parameter in system.learns(config)}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in learnt)
    optimiser = config.optimiser.build([p for p in network.parameters() if p.requires_grad])
    average = None if run.ema_decay is None else WeightAverage(network, run.ema_decay)
    if state is not None:
        loader.load_state_dict(state["loader"])
        optimiser.load_state_dict(state["optimiser"])
        if average is not None:
            average.load_state_dict(state["average"])
    trainable, optimiser = accelerator.prepare(_Trainable(system, config), optimiser)
    return Phase(config, n_steps, steps_per_epoch, loader, trainable, optimiser, average)


def _loader(
    config: PhaseConfig, number: int, system: System, dataset: ShardedDataset, run: RunConfig, accelerator: Accelerator
) -> ShardLoader:
    world, device = accelerator.num_processes, accelerator.device
    batch_size = config.batch_size or system.config.batch_size
    if batch_size % (world * run.accumulate):
        raise ValueError(
            f"batches of {batch_size} cannot be shared by {world} processes and {run.accumulate} accumulated "
            "batches: take a multiple"
        )
    augment = run.augmentation(system.augmentation)
    if augment is None and holds_photographs(dataset):
        raise ValueError(
            f"{dataset.manifest.name} holds whole photographs of many sizes, which make batches as crops alone: "
            f"take --augment {system.augmentation}"
        )
    where: Literal["device", "worker"] = "device" if device.type == "cuda" else "worker"
    return make_loader(
        dataset,
        batch_size=batch_size // (world * run.accumulate),
        workers=run.workers,
        seed=run.seed + _SEEDS_OF_A_PHASE * number,
        rank=accelerator.process_index,
        world_size=world,
        remainder="drop" if len(dataset) >= batch_size else "pad",
        targets=system.targets,
        device=device,
        augment=augment,
        augment_on=where,
        decode_on=where,
    )


class _Trainable(nn.Module):
    """The network behind the loss: what is wrapped for several processes, so that its forward pass is seen."""

    def __init__(self, system: System, phase: PhaseConfig) -> None:
        super().__init__()
        self.network = system.network
        self._system, self._phase = system, phase
        # Buffers that are constants are the same everywhere; a sparse one could not be sent either.
        self._ddp_params_and_buffers_to_ignore = [
            f"network.{name}" for name, buffer in self.network.named_buffers() if buffer.layout != torch.strided
        ]

    def forward(self, prepared: Batch) -> dict[str, Tensor]:
        return self._system.losses(prepared, self._phase)

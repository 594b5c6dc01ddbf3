"""The training loop: phases of steps, validated, saved and resumed exactly. One loop for all systems.

A step's randomness comes from (seed, phase, step, process) alone, and the loader's order from (seed, phase, epoch): so a run
that was stopped anywhere and resumed ends with the weights of an unbroken one (on a CPU, bit by bit).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from jaxtyping import Float
from pydantic import BaseModel, Field
from torch import Tensor, nn

from storage.dataset import ShardedDataset
from storage.views import subset
from train.averaging import WeightAverage
from train.checkpoint import BadCheckpoint, load_checkpoint, save_checkpoint
from train.loader import ShardLoader, make_loader
from train.photograph_crops import holds_photographs
from train.run_log import Progress, RunLog
from train.system import Batch, PhaseConfig, System, check_targets
from train.training_data import describe_data

LAST, BEST = "last.pt", "best.pt"
OWN, NONE = "own", "none"
_WITHOUT_EFFECT = {"workers", "compile", "save_every", "log_every"}
_SEEDS_OF_A_PHASE = 1000


class Diverged(RuntimeError):
    """The loss became NaN, infinite or very large; the last good checkpoint stays."""


class RunConfig(BaseModel, frozen=True, extra="forbid"):
    """How a system is trained, whichever it is. Lengths and rates are the system's (its phases)."""

    seed: int = Field(0, ge=0, lt=2**31, description="Seed of order, augmentation, dropout and what else is drawn.")
    augment: str = Field(
        OWN,
        description="own: the preset that the system's paper trained with; none; another preset or a mixture by weight "
        "(prnet:2+dan).",
    )
    precision: Literal["float32", "bf16"] = Field("float32", description="bf16: automatic mixed precision.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients make one step.")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Weights are averaged so; the average is what is validated and kept."
    )
    gradient_clip: float | None = Field(None, gt=0, description="Largest norm of the gradient.")
    diverged_above: float = Field(
        100.0, gt=1, description="A loss of so many times the phase's first one ends the run."
    )
    compile: bool = Field(False, description="torch.compile the network.")
    workers: int = Field(0, ge=0, description="Processes that read ahead.")
    validate_every: int = Field(200, ge=1, description="Steps between two validations.")
    save_every: int = Field(200, ge=1, description="Steps between two checkpoints.")
    log_every: int = Field(50, ge=1, description="Steps between two lines of the log.")

    def identity(self) -> dict[str, Any]:
        """The fields that a run's weights depend on."""
        return self.model_dump(mode="json", exclude=_WITHOUT_EFFECT)

    def augmentation(self, system: System) -> str | None:
        """The preset or mixture to read with."""
        return {OWN: system.augmentation, NONE: None}.get(self.augment, self.augment)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a call of :func:`train` came to; `finished` is False when it was asked to stop before the end.

    `is_main` is True in the one of several processes that writes and reports.
    """

    folder: Path
    measure: str | None
    best_validation: float | None
    steps: int
    finished: bool
    is_main: bool


def draw_weights_from(seed: int) -> None:
    """Let the first weights of the networks that are built next follow from the run's seed."""
    set_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))


def train(
    system: System,
    dataset: ShardedDataset,
    folder: Path,
    config: RunConfig,
    *,
    validation: ShardedDataset | None = None,
    resume: bool = True,
    report: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train `system` on `dataset`; `last.pt`, `best.pt`, `log.jsonl`, `tensorboard` and `curves.png` are in `folder`.

    With `resume` a run that was begun in `folder` goes on where its last checkpoint was taken. `stop` is asked after every
    step; when it says so, a checkpoint is written and the training ends. `best.pt` is the best of the phase that was
    trained last. Raises Diverged, BadCheckpoint for a checkpoint of another run, ValueError for a data set without a
    target that the system reads, or a config that does not fit it.
    """
    for one in (dataset, validation):
        if one is not None:
            check_targets(system.name, system.targets, one)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(system, dataset, folder, config, validation, report, stop)
    if resume and (folder / LAST).is_file():
        run.restore(load_checkpoint(folder / LAST, system=system.name))
    return run.run()


@dataclass
class _Phase:
    """A phase while it is trained."""

    config: PhaseConfig
    n_steps: int
    steps_per_epoch: int
    loader: ShardLoader
    trainable: nn.Module
    optimiser: Any
    average: WeightAverage | None


class _Run:
    """One training and where it stands."""

    def __init__(
        self,
        system: System,
        dataset: ShardedDataset,
        folder: Path,
        config: RunConfig,
        validation: ShardedDataset | None,
        report: Callable[[Progress], None],
        stop: Callable[[], bool],
    ) -> None:
        self.system, self.dataset, self.folder, self.config = system, dataset, folder, config
        self.report, self.stop = report, stop
        AcceleratorState._reset_state()  # what an earlier training in this process wanted
        self.accelerator = Accelerator(
            mixed_precision="bf16" if config.precision == "bf16" else "no",
            gradient_accumulation_steps=config.accumulate,
            cpu=not torch.cuda.is_available(),
        )
        self.device = self.accelerator.device
        system.network.to(self.device)
        # Buffers that are constants are the same everywhere; a sparse one could not be sent either.
        kept = [name for name, buffer in system.network.named_buffers() if buffer.layout != torch.strided]
        self._not_sent = [f"network.{name}" for name in kept]
        if config.compile:
            compile_network(system.network)
        wanted = system.config.validation_samples
        if validation is not None and wanted is not None and wanted < len(validation):
            validation = subset(validation, wanted, seed=config.seed)
        self.validation = validation
        self.described = describe_data(dataset)
        self.phase, self.step, self.total_steps = 0, 0, 0
        self.best: float | None = None
        self.first_loss: float | None = None
        self.without_gain = 0
        self.stopped = False
        self.restored: dict[str, Any] | None = None
        self.log: RunLog | None = None

    # ------------------------------------------------------------------------------------------------- phases

    def run(self) -> Trained:
        phases = self.system.config.phases
        if self.accelerator.is_main_process:
            self.log = RunLog(self.folder, self.total_steps)
        try:
            while self.phase < len(phases) and not self.stopped:
                if self._run_phase(phases[self.phase]):
                    self.phase, self.step, self.without_gain = self.phase + 1, 0, 0
                    if self.phase < len(phases):
                        self.best = None
                    self.first_loss = None
                    self._save(LAST, self._state(None))
        finally:
            if self.log is not None:
                self.log.close()
        measure = None if self.best is None else self.system.measure(phases[-1])
        finished, is_main = self.phase == len(phases), self.accelerator.is_main_process
        return Trained(self.folder, measure, self.best, self.total_steps, finished, is_main)

    def _run_phase(self, config: PhaseConfig) -> bool:
        """Train one phase, from where it stands; True when it came to its end."""
        phase = self._prepared(config)
        clock = _Clock()
        batches = _batches(phase.loader, clock)
        sums = _Means()
        while self.step < phase.n_steps and not self._is_patient_no_more(config):
            rate = self._rate(phase)
            for group in phase.optimiser.param_groups:
                group["lr"] = rate
            for micro in range(self.config.accumulate):
                batch = next(batches)
                clock.samples += len(batch["image"]) * self.accelerator.num_processes
                sums.add(self._backward(phase, batch, micro))
            self.step, self.total_steps = self.step + 1, self.total_steps + 1
            if phase.average is not None:
                phase.average.update(self.system.network)
            self.stopped = self._any_process(self.stop())
            self._after_step(phase, rate, clock, sums)
            if self.stopped:
                break
        at_end = self.step >= phase.n_steps or self._is_patient_no_more(config)
        if at_end:
            self._keep_what_is_best(phase)
        return at_end

    def _prepared(self, config: PhaseConfig) -> _Phase:
        loader = self._loader(config)
        steps_per_epoch = max(len(loader) // self.config.accumulate, 1)
        n_steps = config.steps if config.steps is not None else (config.epochs or 0) * steps_per_epoch
        network = self.system.network
        learnt = {id(parameter) for parameter in self.system.learns(config)}
        for parameter in network.parameters():
            parameter.requires_grad_(id(parameter) in learnt)
        optimiser = config.optimiser.build([p for p in network.parameters() if p.requires_grad])
        average = None if self.config.ema_decay is None else WeightAverage(network, self.config.ema_decay)
        if self.restored is not None:
            loader.load_state_dict(self.restored["loader"])
            optimiser.load_state_dict(self.restored["optimiser"])
            if average is not None:
                average.load_state_dict(self.restored["average"])
            self.restored = None
        trainable = _Trainable(self.system, config)
        trainable._ddp_params_and_buffers_to_ignore = self._not_sent  # type: ignore[assignment]
        trainable, optimiser = self.accelerator.prepare(trainable, optimiser)
        return _Phase(config, n_steps, steps_per_epoch, loader, trainable, optimiser, average)

    def _backward(self, phase: _Phase, batch: Batch, micro: int) -> dict[str, Tensor]:
        """One batch's share of a step; the last of them takes the step."""
        seed = [self.config.seed, self.phase, self.step, micro, self.accelerator.process_index]
        drawn = int(np.random.SeedSequence(seed).generate_state(1)[0])
        set_seed(drawn)  # dropout, on every device
        self.system.begin(phase.config)
        with self.accelerator.accumulate(phase.trainable):
            losses = phase.trainable(self.system.prepare(batch, rng=torch.Generator().manual_seed(drawn)))
            self.accelerator.backward(losses["loss"])
            if self.accelerator.sync_gradients and self.config.gradient_clip is not None:
                self.accelerator.clip_grad_norm_(phase.trainable.parameters(), self.config.gradient_clip)
            phase.optimiser.step()
            phase.optimiser.zero_grad()
        return losses

    def _rate(self, phase: _Phase) -> float:
        epoch = self.step // phase.steps_per_epoch
        return phase.config.optimiser.rate(self.step, epoch=epoch, n_steps=phase.n_steps)

    def _after_step(self, phase: _Phase, rate: float, clock: "_Clock", sums: "_Means") -> None:
        """Look at the loss, validate and save, where it is time to."""
        at_end = self.step == phase.n_steps
        validate = self.validation is not None and (at_end or self.step % self.config.validate_every == 0)
        save = at_end or self.stopped or self.step % self.config.save_every == 0
        if not (validate or save or self.step == 1 or self.step % self.config.log_every == 0):
            return
        losses = self._losses(phase, sums, rate)
        seconds, waited = clock.lap()
        found = self._validated(phase) if validate else None
        progress = Progress(
            phase=phase.config.name,
            step=self.step,
            n_steps=phase.n_steps,
            epoch=(self.step - 1) // phase.steps_per_epoch,
            rate=rate,
            losses=losses,
            samples_per_second=clock.samples / seconds,
            model_samples_per_second=clock.samples / max(seconds - waited, 1e-9),
            loader_samples_per_second=clock.samples / max(waited, 1e-9),
            waiting_share=waited / seconds,
            measure=None if found is None else self.system.measure(phase.config),
            validation=found,
        )
        clock.samples = 0
        if self.log is not None:
            self.log.add(progress, self.total_steps)
            self.report(progress)
        if save:
            self._save(LAST, self._state(phase))
        clock.lap()  # what validating and saving took is nobody's waiting

    def _losses(self, phase: _Phase, sums: "_Means", rate: float) -> dict[str, float]:
        """Means since the last look, over all processes; raises Diverged."""
        names, means = sums.take()
        means = self.accelerator.reduce(means, reduction="mean")
        losses = dict(zip(names, means.tolist(), strict=True))
        if self.first_loss is None:
            self.first_loss = losses["loss"]
        above = self.config.diverged_above * abs(self.first_loss)
        whole = all(bool(parameter.isfinite().all()) for parameter in self.system.network.parameters())
        if not (whole and math.isfinite(losses["loss"]) and losses["loss"] <= above):
            what = f"the loss of {self.system.name} became {losses['loss']:g}" if whole else "weights became NaN"
            kept = self.folder / LAST
            raise Diverged(
                f"{what} at step {self.step} of phase {phase.config.name}, after {self.first_loss:g} at first; "
                + (f"{kept} holds the last good weights. " if kept.is_file() else "no checkpoint was taken yet. ")
                + f"Lower the learning rate ({rate:g}) or clip gradients"
            )
        return losses

    def _is_patient_no_more(self, config: PhaseConfig) -> bool:
        return config.patience is not None and self.without_gain >= config.patience

    def _any_process(self, told: bool) -> bool:
        """Whether any of the processes was told so: all of them do the same then."""
        if self.accelerator.num_processes == 1:
            return told
        return bool(self.accelerator.reduce(torch.tensor(float(told), device=self.device), reduction="sum") > 0)

    def _keep_what_is_best(self, phase: _Phase) -> None:
        """What the next phase begins with: the best weights where validation ends the phase, else the last, averaged."""
        if phase.config.patience is not None and self.best is not None:
            self.accelerator.wait_for_everyone()
            best = load_checkpoint(self.folder / BEST, system=self.system.name)
            self.system.network.load_state_dict(best["network"])
        elif phase.average is not None:
            self.system.network.load_state_dict(phase.average.state)

    # ----------------------------------------------------------------------------------------------- batches

    def _loader(self, phase: PhaseConfig) -> ShardLoader:
        world = self.accelerator.num_processes
        batch_size = phase.batch_size or self.system.config.batch_size
        if batch_size % (world * self.config.accumulate):
            raise ValueError(
                f"batches of {batch_size} cannot be shared by {world} processes and {self.config.accumulate} accumulated "
                "batches: take a multiple"
            )
        augment = self.config.augmentation(self.system)
        if augment is None and holds_photographs(self.dataset):
            raise ValueError(
                f"{self.dataset.manifest.name} holds whole photographs of many sizes, which make batches as crops alone: "
                f"take --augment {self.system.augmentation}"
            )
        return make_loader(
            self.dataset,
            batch_size=batch_size // (world * self.config.accumulate),
            workers=self.config.workers,
            seed=self.config.seed + _SEEDS_OF_A_PHASE * self.phase,
            rank=self.accelerator.process_index,
            world_size=world,
            remainder="drop" if len(self.dataset) >= batch_size else "pad",
            targets=self.system.targets,
            device=self.device,
            augment=augment,
            augment_on="device" if self.device.type == "cuda" else "worker",
            decode_on="device" if self.device.type == "cuda" else "worker",
        )

    # -------------------------------------------------------------------------------------------- validation

    def _validated(self, phase: _Phase) -> float:
        """The mean error; where it is the best of the phase, `best.pt` is written."""
        assert self.validation is not None
        network, average = self.system.network, phase.average
        with nullcontext() if average is None else average.in_place_of(network):
            errors = validation_errors(self.system, self.validation, phase.config, device=self.device)
            found = float(errors.mean())
            better = self.best is None or found < self.best
            self.without_gain = 0 if better else self.without_gain + 1
            if better:
                self.best = found
                self._save(BEST, self._state(None))
        return found

    # ------------------------------------------------------------------------------------------- checkpoints

    def _save(self, name: str, state: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(self.folder / name, state)

    def _state(self, phase: _Phase | None) -> dict[str, Any]:
        """All that goes on from here needs; without `phase` it stands between two, or is for use alone."""
        average = None if phase is None else phase.average
        return {
            "system": self.system.name,
            "config": self.system.config.model_dump(mode="json"),
            "run": self.config.identity(),
            "system_state": self.system.state(),
            "network": self.system.network.state_dict(),
            "phase": self.phase,
            "step": self.step,
            "total_steps": self.total_steps,
            "best": self.best,
            "first_loss": self.first_loss,
            "without_gain": self.without_gain,
            "dataset": self.described,
            "loader": None if phase is None else phase.loader.state_dict(),
            "optimiser": None if phase is None else phase.optimiser.state_dict(),
            "average": None if average is None else average.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was saved."""
        own = self._state(None)
        different = [
            what
            for what, was, now in (
                ("config", state["config"], own["config"]),
                ("run config", state["run"], own["run"]),
                ("data set", state["dataset"]["fingerprint"], own["dataset"]["fingerprint"]),
            )
            if was != now
        ]
        if different:
            raise BadCheckpoint(
                f"{self.folder / LAST} was trained with another {' and another '.join(different)}: choose a new folder, or "
                "go on with what the run began with"
            )
        self.system.network.load_state_dict(state["network"])
        self.phase, self.step, self.total_steps = state["phase"], state["step"], state["total_steps"]
        self.best, self.first_loss = state["best"], state["first_loss"]
        self.without_gain = state["without_gain"]
        self.restored = dict(state) if state["loader"] is not None else None


def compile_network(network: nn.Module) -> None:
    """Let torch.compile have the network, each one of several by itself; weights and their names stay."""
    for module in network.values() if isinstance(network, nn.ModuleDict) else [network]:
        module.compile()


class _Trainable(nn.Module):
    """The network behind the loss: what is wrapped for several processes, so that its forward pass is seen."""

    def __init__(self, system: System, phase: PhaseConfig) -> None:
        super().__init__()
        self.network = system.network
        self._system, self._phase = system, phase

    def forward(self, prepared: Batch) -> dict[str, Tensor]:
        return self._system.losses(prepared, self._phase)


class _Means:
    """Means of the losses since they were last taken; they stay on the device until then."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._n = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach().float()
        self._n += 1

    def take(self) -> tuple[list[str], Tensor]:
        names, means = list(self._sums), torch.stack(list(self._sums.values())) / self._n
        self._sums, self._n = {}, 0
        return names, means


class _Clock:
    """Seconds since the last lap, and how many of them went by waiting for batches."""

    def __init__(self) -> None:
        self.samples = 0
        self._waited = 0.0
        self._start = time.perf_counter()

    def waiting(self, get: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = get()
        self._waited += time.perf_counter() - start
        return result

    def lap(self) -> tuple[float, float]:
        now = time.perf_counter()
        seconds, waited = now - self._start, self._waited
        self._start, self._waited = now, 0.0
        return seconds, waited


def _batches(loader: ShardLoader, clock: _Clock) -> Iterator[Batch]:
    """The rest of this epoch and then the next ones, without an end."""
    while True:
        batches = iter(loader)
        while (batch := clock.waiting(partial(next, batches, None))) is not None:
            yield batch


@torch.no_grad()
def validation_errors(
    system: System,
    dataset: ShardedDataset,
    phase: PhaseConfig,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
) -> Float[np.ndarray, " n"]:
    """What :meth:`System.errors` says of every sample, in the data set's order; of photographs, of one crop of each."""
    was_training = system.network.training
    system.network.eval()
    try:
        loader = make_loader(
            dataset,
            batch_size=batch_size,
            shards_in_flight=0,
            targets=system.targets,
            device=device,
            augment=system.augmentation if holds_photographs(dataset) else None,
            decode_on="device" if torch.device(device).type == "cuda" else "worker",
        )
        return np.concatenate([system.errors(batch, phase) for batch in loader])
    finally:
        system.network.train(was_training)

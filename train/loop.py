"""The training loop: phases of steps, validated, saved and resumed exactly. One loop for all systems.

A step's randomness comes from (seed, phase, step, process) alone, and the loader's order from (seed, phase, epoch): so a run
that was stopped anywhere and resumed ends with the weights of an unbroken one (on a CPU, bit by bit).
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor, nn

from storage.dataset import ShardedDataset
from storage.views import subset
from train.checkpoint import BadCheckpoint, load_checkpoint, save_checkpoint
from train.meters import BatchClock, LossMeans
from train.phase import Phase, prepare_phase
from train.run_config import RunConfig
from train.run_log import Progress, RunLog
from train.system import Batch, PhaseConfig, System, check_targets
from train.training_data import describe_data
from train.validation import validation_errors

LAST, BEST = "last.pt", "best.pt"


class Diverged(RuntimeError):
    """The loss became NaN, infinite or very large; the last good checkpoint stays."""


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
    set_seed(_seed_of(seed))


def _seed_of(*numbers: int) -> int:
    """One number of many, as generators are seeded with."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


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
        phase = prepare_phase(
            config,
            number=self.phase,
            system=self.system,
            dataset=self.dataset,
            run=self.config,
            accelerator=self.accelerator,
            state=self.restored,
        )
        self.restored = None
        clock, sums = BatchClock(), LossMeans()
        batches = clock.batches(phase.loader)
        while self.step < phase.n_steps and not self._is_patient_no_more(config):
            rate = phase.rate(self.step)
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

    def _backward(self, phase: Phase, batch: Batch, micro: int) -> dict[str, Tensor]:
        """One batch's share of a step; the last of them takes the step."""
        drawn = _seed_of(self.config.seed, self.phase, self.step, micro, self.accelerator.process_index)
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

    def _after_step(self, phase: Phase, rate: float, clock: BatchClock, sums: LossMeans) -> None:
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

    def _losses(self, phase: Phase, sums: LossMeans, rate: float) -> dict[str, float]:
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

    def _keep_what_is_best(self, phase: Phase) -> None:
        """What the next phase begins with: the best weights where validation ends the phase, else the last, averaged."""
        if phase.config.patience is not None and self.best is not None:
            self.accelerator.wait_for_everyone()
            best = load_checkpoint(self.folder / BEST, system=self.system.name)
            self.system.network.load_state_dict(best["network"])
        elif phase.average is not None:
            self.system.network.load_state_dict(phase.average.state)

    # -------------------------------------------------------------------------------------------- validation

    def _validated(self, phase: Phase) -> float:
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

    def _state(self, phase: Phase | None) -> dict[str, Any]:
        """All that goes on from here needs; without `phase` it stands between two, or is for use alone."""
        unfinished = {"loader": None, "optimiser": None, "average": None} if phase is None else phase.state()
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
            **unfinished,
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

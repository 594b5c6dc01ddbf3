"""What a training leaves to look at: lines of JSON, TensorBoard's events, and the curves of both as one picture."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

LOG, EVENTS, CURVES = "log.jsonl", "tensorboard", "curves.png"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the log says after some steps.

    losses                      means since the line before
    samples_per_second          through everything, over all processes
    model_samples_per_second    while it was not waiting for batches
    loader_samples_per_second   while the model waited for it; with workers, which go on reading meanwhile, at least so many
    waiting_share               of the time: near 0 the network is the slower one, near 1 the reading
    validation                  mean of what :meth:`train.system.System.measure` names over the validation set
    """

    phase: str
    step: int
    n_steps: int
    epoch: int
    rate: float
    losses: Mapping[str, float]
    samples_per_second: float
    model_samples_per_second: float
    loader_samples_per_second: float
    waiting_share: float
    measure: str | None = None
    validation: float | None = None


class RunLog:
    """The log of a run's folder. Lines of steps after `total_steps`, which are done again, are taken back first."""

    def __init__(self, folder: Path, total_steps: int) -> None:
        self._path, self._folder = folder / LOG, folder
        lines = [line for line in read_log(folder) if line["total_steps"] <= total_steps]
        private = folder / f".{LOG}.{os.getpid()}"
        private.write_text("".join(json.dumps(line) + "\n" for line in lines))
        private.replace(self._path)
        self._writer = SummaryWriter(str(folder / EVENTS), purge_step=total_steps + 1)

    def add(self, progress: Progress, total_steps: int) -> None:
        """One line, and its numbers for TensorBoard."""
        with self._path.open("a") as file:
            file.write(json.dumps({"total_steps": total_steps, **asdict(progress)}) + "\n")
        for name, value in progress.losses.items():
            self._writer.add_scalar(f"{progress.phase}/{name}", value, total_steps)
        for name in (
            "rate", "samples_per_second", "model_samples_per_second", "loader_samples_per_second", "waiting_share",
        ):  # fmt: skip
            self._writer.add_scalar(f"speed/{name}", getattr(progress, name), total_steps)
        if progress.validation is not None:
            self._writer.add_scalar(f"validation/{progress.measure}", progress.validation, total_steps)

    def close(self) -> None:
        """Everything is on disk afterwards, the picture too."""
        self._writer.close()
        lines = read_log(self._folder)
        if lines:
            draw_curves(lines, self._folder / CURVES)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last one that was cut off is left out."""
    path = folder / LOG
    lines = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def draw_curves(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The loss by step (logarithmic), the validation below it, and where phases begin."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    for phase in dict.fromkeys(line["phase"] for line in lines):
        own = [line for line in lines if line["phase"] == phase]
        above.plot([line["total_steps"] for line in own], [line["losses"]["loss"] for line in own], label=phase)
        validated = [line for line in own if line["validation"] is not None]
        if validated:
            steps = [line["total_steps"] for line in validated]
            name = f"{phase}: {validated[0]['measure']}"
            below.plot(steps, [100 * line["validation"] for line in validated], marker=".", label=name)
    if all(line["losses"]["loss"] > 0 for line in lines):
        above.set_yscale("log")
    above.set_ylabel("loss")
    below.set_ylabel("validation, %")
    below.set_xlabel("step")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    private = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(private, format="png", dpi=100)
    private.replace(path)

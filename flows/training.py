"""Training a system on a published data set, from its config to its model card. Torch is imported when it starts."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from flows.progress import is_first_process
from flows.training_card import EVALUATION, METRICS, TrainingDone, write_training_card
from flows.training_settings import PresetName, configs
from flows.training_split import learning_split
from storage.dataset import ShardedDataset, open_dataset
from storage.folder_lock import only_one_in
from storage.manifest import digest_of
from storage.publish import AlreadyBuilding
from train.systems import system_class

if TYPE_CHECKING:
    from train.run_log import Progress

RUNS_FOLDER = "runs"
_MEASURED_CROPS, _MEASURED_PHOTOGRAPHS = 500, 20
"""At the end of a training, of the validation set."""


class AlreadyTraining(AlreadyBuilding):
    """Another process trains in this run's folder."""

    def __str__(self) -> str:
        holder = "another process" if self.pid is None else f"process {self.pid}"
        return (
            f"{holder} is training in {self.folder} at this moment; wait until it ends, or stop it, and start again: this one "
            "goes on where that one stopped"
        )


def train_here(
    system_name: str,
    data: str | os.PathLike[str],
    *,
    version: str | None = None,
    preset: PresetName = "tiny",
    out: str | os.PathLike[str] = "datasets",
    validation: str | os.PathLike[str] | None = None,
    hold_out: float = 0.1,
    settings: Sequence[str] = (),
    steps: int | None = None,
    augment: str | None = None,
    pretrained: str | os.PathLike[str] | None = None,
    resume: bool = True,
    tell: Callable[[str], None] = lambda doing: None,
    report: "Callable[[Progress], None]" = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainingDone:
    """Train a system, or go on where its run stopped, in ``<out>/runs/<system>/<data set>-<version>-<digest of the config>``.

    `data` is a data set's folder, or the name of one in `out`. `validation` is another one; without it `hold_out` is the
    share of the people (where nobody is known, of the photographs) that is not learnt from. `settings` are
    ``field=value`` of the system's config or of :class:`train.run_config.RunConfig`; `steps` is the length of every phase. `tell`
    hears what is done beside steps. Raises AlreadyTraining while another process trains in that folder, ValueError for what
    does not fit, and as :func:`train.loop.train` does.
    """
    from train.loop import BEST, LAST, draw_weights_from, train
    from train.processor import threads_for

    start = time.monotonic()
    config, run_config = configs(system_name, preset, settings=settings, steps=steps, augment=augment)
    dataset = open_dataset(data_place(data, out), version)
    other = None if validation is None else open_dataset(data_place(validation, out))
    chosen = learning_split(dataset, other, hold_out=hold_out, seed=run_config.seed)
    draw_weights_from(run_config.seed)
    system = system_class(system_name).for_dataset(config, chosen.training)
    if pretrained is not None:
        system.load_pretrained(Path(pretrained))
    content = {
        "config": config.model_dump(mode="json"),
        "run": run_config.identity(),
        "validation": [chosen.described, "" if chosen.validation is None else chosen.validation.manifest.fingerprint],
        "pretrained": None if pretrained is None else hashlib.sha256(Path(pretrained).read_bytes()).hexdigest(),
    }
    name = f"{dataset.manifest.name}-{dataset.manifest.version}-{digest_of(content)[:12]}"
    folder = Path(out) / RUNS_FOLDER / system_name / name
    with _sole_trainer(folder), threads_for(system.network, os.environ) as trained_by:
        tell(f"{dataset.manifest.name} {dataset.manifest.version}, {chosen.counted}; {trained_by}")
        done = train(
            system,
            chosen.training,
            folder,
            run_config,
            validation=chosen.validation,
            resume=resume,
            report=report,
            stop=stop,
        )
        best = folder / BEST
        result = TrainingDone(
            folder=folder,
            checkpoint=best if done.best_validation is not None and best.is_file() else folder / LAST,
            measure=done.measure,
            validation=done.best_validation,
            steps=done.steps,
            seconds=time.monotonic() - start,
            finished=done.finished,
            is_main=done.is_main,
        )
        if done.is_main:
            if done.finished and chosen.validation is not None:
                tell("measuring on what was not learnt from")
                _measure(result, chosen.validation)
            write_training_card(result, system, run_config, preset, chosen)
    return result


def _sole_trainer(folder: Path) -> AbstractContextManager[None]:
    """Hold the run's folder; of several processes of one training the first one does."""
    return only_one_in(folder, AlreadyTraining) if is_first_process() else nullcontext()


def _measure(done: TrainingDone, validation: ShardedDataset) -> None:
    """The result on the validation set, or some of it, as `facefoundry evaluate` measures: figures, curves, predictions.

    Without ICP, which takes a hundred times as long as the rest. What was measured already stays.
    """
    from storage.views import subset
    from train.evaluation_datasets import evaluate_dataset
    from train.evaluation_report import write_report
    from train.photograph_crops import holds_photographs
    from train.prediction import Predictor, best_device
    from train.restore import restore

    device = best_device()
    restored = restore(done.checkpoint, device=device)
    folder = done.folder / EVALUATION
    if (folder / METRICS).is_file():
        before = json.loads((folder / METRICS).read_text())
        if before["checkpoint"]["sha256"] == restored.sha256:
            return
    most = _MEASURED_PHOTOGRAPHS if holds_photographs(validation) else _MEASURED_CROPS
    some = validation if len(validation) <= most else subset(validation, most, seed=0)
    write_report(evaluate_dataset(Predictor(restored, device=device), some, n_registered=0), folder)


def data_place(data: str | os.PathLike[str], out: str | os.PathLike[str]) -> str | Path:
    """A data set's folder, or one of that name in `out`."""
    named = Path(out) / data
    return named if not Path(data).exists() and "://" not in str(data) and named.is_dir() else str(data)

"""Training a system on a published data set: config, validation, run folder, model card. Torch is imported when it starts."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError

from flows.errors import what_is_wrong
from flows.progress import is_first_process
from storage.dataset import ShardedDataset, open_dataset
from storage.folder_lock import only_one_in
from storage.manifest import digest_of
from storage.publish import AlreadyBuilding
from storage.source_groups import place_of_group
from storage.views import groups_of, select
from train.systems import system_class

if TYPE_CHECKING:
    from train.run_config import RunConfig
    from train.run_log import Progress
    from train.system import System, SystemConfig

PresetName = Literal["tiny", "paper"]
CARD, METRICS, EVALUATION = "card.md", "metrics.json", "evaluation"
RUNS_FOLDER = "runs"
_MEASURED_CROPS, _MEASURED_PHOTOGRAPHS = 500, 20
"""At the end of a training, of the validation set."""


@dataclass(frozen=True, slots=True)
class TrainingDone:
    """What a training left.

    checkpoint   the best one of the last phase, or the last where nothing was validated
    is_main      whether this process is the one that speaks: of several, one does
    """

    folder: Path
    checkpoint: Path
    measure: str | None
    validation: float | None
    steps: int
    seconds: float
    finished: bool
    is_main: bool


@dataclass(frozen=True, slots=True)
class _Validation:
    """The validation set, how it was chosen, and what is left to learn from."""

    training: ShardedDataset
    validation: ShardedDataset | None
    described: str


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
    from train.loop import draw_weights_from, train
    from train.processor import threads_for

    start = time.monotonic()
    config, run_config = configs(system_name, preset, settings=settings, steps=steps, augment=augment)
    dataset = open_dataset(data_place(data, out), version)
    chosen = _validation_of(dataset, validation, out=out, hold_out=hold_out, seed=run_config.seed)
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
        tell(f"{dataset.manifest.name} {dataset.manifest.version}, {_counted(chosen)}; {trained_by}")
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
        best = folder / "best.pt"
        result = TrainingDone(
            folder=folder,
            checkpoint=best if done.best_validation is not None and best.is_file() else folder / "last.pt",
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
            _write_card(result, system, run_config, preset, chosen)
    return result


def _counted(chosen: _Validation) -> str:
    held_out = 0 if chosen.validation is None else len(chosen.validation)
    return f"{len(chosen.training)} samples to learn from, {held_out} to validate by"


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


def configs(
    system_name: str,
    preset: PresetName,
    *,
    settings: Sequence[str] = (),
    steps: int | None = None,
    augment: str | None = None,
) -> "tuple[SystemConfig, RunConfig]":
    """The preset's whole config and the run's, with what was asked for changed. Raises ValueError, naming the fields."""
    from train.run_config import RunConfig

    presets = system_class(system_name).presets
    if preset not in presets:
        raise ValueError(f"{system_name} has no preset {preset!r}; it has {', '.join(presets)}")
    chosen = presets[preset]()
    own: dict[str, Any] = chosen.model_dump(mode="json")
    run = RunConfig().model_dump(mode="json")
    if augment is not None:
        run["augment"] = augment
    if steps is not None:
        for phase in own["phases"]:
            phase |= {"steps": steps, "epochs": None}
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set takes field=value, such as batch_size=8, not {setting!r}")
        target = own if path.split(".")[0] in own else run
        _set(target, path, _value(text), known=(*own, *run))
    try:
        return type(chosen).model_validate(own), RunConfig.model_validate(run)
    except ValidationError as error:
        raise ValueError(f"--set {what_is_wrong(error.errors())}") from None


def _set(target: dict[str, Any], path: str, value: object, *, known: Sequence[str]) -> None:
    """Change one field; phases go by number or by name: ``phases.stage-1.optimiser.learning_rate``."""
    *way, last = path.split(".")
    place: Any = target
    there = f"there are {', '.join(known)}, and fields of theirs by dots"
    for number, step in enumerate(way, 1):
        place = _fields(place).get(step)
        if fields := _fields(place):
            names = [name for name in fields if not name.isdigit()] or list(fields)
            there = f"{'.'.join(way[:number])} has {', '.join(names)}"
    if not isinstance(place, dict) or last not in place:
        raise ValueError(f"there is no field {path!r} to --set; {there}")
    place[last] = value
    if last in ("steps", "epochs") and value is not None and {"steps", "epochs"} <= set(place):
        place["epochs" if last == "steps" else "steps"] = None  # a phase's length is one of the two


def _fields(value: object) -> dict[str, Any]:
    """What a dot may name: a table's fields, a list's parts by number and by name; of anything else nothing."""
    if isinstance(value, list):
        named = {one["name"]: one for one in value if isinstance(one, dict) and "name" in one}
        return {str(number): one for number, one in enumerate(value)} | named
    return value if isinstance(value, dict) else {}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def data_place(data: str | os.PathLike[str], out: str | os.PathLike[str]) -> str | Path:
    """A data set's folder, or one of that name in `out`."""
    named = Path(out) / data
    return named if not Path(data).exists() and "://" not in str(data) and named.is_dir() else str(data)


def _validation_of(
    dataset: ShardedDataset,
    validation: str | os.PathLike[str] | None,
    *,
    out: str | os.PathLike[str],
    hold_out: float,
    seed: int,
) -> _Validation:
    if validation is not None:
        other = open_dataset(data_place(validation, out))
        _refuse_shared_photographs(dataset, other)
        return _Validation(dataset, other, f"the data set {other.manifest.name} {other.manifest.version}")
    if not 0 <= hold_out < 1:
        raise ValueError(f"the share held out for validation is at least 0 and below 1, not {hold_out}")
    if hold_out == 0:
        return _Validation(dataset, None, "none")
    by: Literal["identity", "photograph"] = "identity" if "identity" in dataset.schema.names else "photograph"
    groups = groups_of(dataset, by)
    sizes = Counter(groups)
    if len(sizes) < 2:
        raise ValueError(
            f"{dataset.manifest.name} has too few {by} groups to hold {hold_out:g} of them out for validation: name another "
            "data set with --validation, or take --hold-out 0"
        )
    held_out = _held_out(sizes, hold_out, seed)
    rows = np.array([group in held_out for group in groups])
    people = "people" if by == "identity" else "photographs"
    described = f"{hold_out:g} of the {people}, split {seed}"
    return _Validation(select(dataset, np.flatnonzero(~rows)), select(dataset, np.flatnonzero(rows)), described)


def _held_out(sizes: Mapping[str, int], share: float, seed: int) -> Set[str]:
    """The groups that are not learnt from: some, never all, and as nearly that share of the samples as can be.

    Where a group's place and the share decide alone (:func:`storage.views.split`), a data set that grows moves nobody. So it
    is where there are many groups. Of a few the luck of the draw would hold out none of them or most: then those with the
    last places are taken, as many as come nearest to the share.
    """
    by_place = sorted(sizes, key=lambda group: place_of_group(group, seed), reverse=True)
    wanted = share * sum(sizes.values())
    drawn = [group for group in by_place if place_of_group(group, seed) >= 1 - share]
    if len(drawn) < len(by_place) and 0.5 <= sum(sizes[group] for group in drawn) / wanted <= 1.5:
        return set(drawn)
    ends = np.cumsum([sizes[group] for group in by_place[:-1]])
    return set(by_place[: int(np.argmin(np.abs(ends - wanted))) + 1])


def _refuse_shared_photographs(dataset: ShardedDataset, validation: ShardedDataset) -> None:
    from train.training_data import photographs_and_people

    learnt = {key for keys in photographs_and_people(dataset) for key in keys}
    shared = learnt & {key for keys in photographs_and_people(validation) for key in keys}
    if shared:
        raise ValueError(
            f"{len(shared)} photographs or people of {validation.manifest.name} are learnt from too ({min(shared)}, …): it "
            "would measure what was learnt by heart; take a data set of others, or --hold-out"
        )


def _write_card(
    done: TrainingDone, system: "System", run_config: "RunConfig", preset: str, chosen: _Validation
) -> None:
    """`card.md` and `metrics.json` beside the checkpoints."""
    from storage.whole_files import write_atomically
    from train.run_log import read_log

    manifest = chosen.training.manifest
    lines = read_log(done.folder)
    metrics = {
        "system": system.name,
        "finished": done.finished,
        "steps": done.steps,
        "measure": done.measure,
        "validation": done.validation,
        "validation_samples": 0 if chosen.validation is None else len(chosen.validation),
        "training_samples": len(chosen.training),
        "losses": lines[-1]["losses"] if lines else {},
        "parameters": sum(parameter.numel() for parameter in system.network.parameters()),
        "samples_per_second": _median([line["samples_per_second"] for line in lines]),
    }
    write_atomically(done.folder / METRICS, (json.dumps(metrics, indent=2) + "\n").encode())
    licences = sorted({s.licence for part in _parts(chosen.training) for s in part.plan.sources if s.licence})
    measured = (
        f"{done.measure} {100 * done.validation:.2f} % on {metrics['validation_samples']} samples held out"
        if done.validation is not None
        else "not validated"
    )
    text = [
        f"# {system.name}, {preset}",
        "",
        f"- weights: `{done.checkpoint.name}` ({metrics['parameters']:,} learnable parameters), after {done.steps} steps"
        + ("" if done.finished else ", **not finished**"),
        f"- trained on: {manifest.name} {manifest.version}, {len(chosen.training)} samples",
        f"- fingerprint of what was learnt from: `{manifest.fingerprint}`",
        *(f"- part: {part.name} {part.version}, fingerprint `{part.fingerprint}`" for part in _parts(chosen.training)),
        f"- terms of the sources: {'; '.join(licences) or 'none stated'}",
        f"- augmentation: {run_config.augmentation(system.augmentation) or 'none'}",
        f"- validation: {chosen.described}; {measured}",
        f"- losses at the end: {', '.join(f'{name} {value:.4g}' for name, value in metrics['losses'].items())}",
        "",
        "Measured on the set that chose the checkpoint; `facefoundry evaluate` measures it on others.",
        "",
        "![curves](curves.png)",
        "",
        *_shown_evaluation(done.folder),
        "```json",
        json.dumps(
            {"system": system.config.model_dump(mode="json"), "run": run_config.model_dump(mode="json")}, indent=1
        ),
        "```",
        "",
    ]
    write_atomically(done.folder / CARD, "\n".join(text).encode())


def _shown_evaluation(folder: Path) -> list[str]:
    """What :func:`_measure` wrote, as lines of the card."""
    if not (folder / EVALUATION / METRICS).is_file():
        return []
    from train.evaluation_report import markdown_table

    document = json.loads((folder / EVALUATION / METRICS).read_text())
    pictures = (f"{EVALUATION}/{name}" for name in ("ced.png", "predictions.png", "template.png"))
    links = [f"![{path}]({path})" for path in pictures if (folder / path).is_file()]
    return [f"## Measured on {document['n_images']} samples held out", "", *markdown_table(document), "", *links, ""]


def _parts(dataset: ShardedDataset) -> Sequence[Any]:
    """Manifests of the published versions behind a data set or a view."""
    return getattr(dataset.manifest, "parts", (dataset.manifest,))


def _median(values: Sequence[float]) -> float | None:
    return round(sorted(values)[len(values) // 2], 3) if values else None


def progress_line(progress: "Progress") -> str:
    """One line for people: where it stands, the losses, the validation, and who waits for whom."""
    losses: Mapping[str, float] = progress.losses
    parts = [
        f"{progress.phase} {progress.step}/{progress.n_steps}",
        ", ".join(f"{name} {value:.4g}" for name, value in losses.items()) + f", rate {progress.rate:.2g}",
    ]
    if progress.validation is not None:
        parts.append(f"{progress.measure} {100 * progress.validation:.2f} %")
    parts.append(
        f"{progress.samples_per_second:.3g} samples/s (network {progress.model_samples_per_second:.3g}, "
        f"reading {progress.loader_samples_per_second:.3g})"
    )
    return "  ".join(parts)

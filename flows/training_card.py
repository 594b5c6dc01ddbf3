"""What a training left, and its model card: what was learnt from, how, on whose terms, how well; and the same as numbers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.training_split import LearningSplit
from storage.views import manifests_of
from storage.whole_files import write_atomically

if TYPE_CHECKING:
    from train.run_config import RunConfig
    from train.system import System

CARD, METRICS, EVALUATION = "card.md", "metrics.json", "evaluation"


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


def write_training_card(
    done: TrainingDone, system: "System", run_config: "RunConfig", preset: str, chosen: LearningSplit
) -> None:
    """Write `card.md` and `metrics.json` beside the checkpoints."""
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
    licences = sorted({s.licence for part in manifests_of(chosen.training) for s in part.plan.sources if s.licence})
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
        *(
            f"- part: {part.name} {part.version}, fingerprint `{part.fingerprint}`"
            for part in manifests_of(chosen.training)
        ),
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
    """The evaluation on what was held out, as lines of the card; none where there was none."""
    if not (folder / EVALUATION / METRICS).is_file():
        return []
    from train.evaluation_report import CURVES, PAGE, TEMPLATE, markdown_table

    document = json.loads((folder / EVALUATION / METRICS).read_text())
    pictures = (f"{EVALUATION}/{name}" for name in (CURVES, PAGE, TEMPLATE))
    links = [f"![{path}]({path})" for path in pictures if (folder / path).is_file()]
    return [f"## Measured on {document['n_images']} samples held out", "", *markdown_table(document), "", *links, ""]


def _median(values: Sequence[float]) -> float | None:
    return round(sorted(values)[len(values) // 2], 3) if values else None

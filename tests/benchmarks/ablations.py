"""The papers' ablations on drawn people: every variant trained alike, seed by seed, and measured alike. Not collected by pytest.

python tests/benchmarks/ablations.py prnet --data data/train/300wlp-posmaps --validation data/validation/300wlp-posmaps \
    --seeds 3 --steps 1000 --out ablations

A variant is a preset with some fields changed, the same that `facefoundry train --set` takes; the training is the ordinary one
without validation on the way, the measures are those of `facefoundry evaluate` on the last weights. Each (variant, seed) leaves
a JSON row in the folder, and what lies there is not trained again: the command can be stopped, and two of them share the work
with `--only`. The Markdown table has means over the seeds and their standard deviations (n − 1).
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flows.training import train_here
from storage.dataset import open_dataset
from storage.whole_files import write_atomically
from train.evaluation import OURS
from train.evaluation_datasets import evaluate_dataset
from train.prediction import Predictor
from train.restore import restore

STEPS = 10**9 + 7
"""Stands for `--steps` in a setting that lists phases."""

DENSE = "dense nme_bbox 2-D"
"""Measures are found by how their names begin: the rest says which points they are of."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A row of a paper's table: its name there, and what it changes in the preset."""

    name: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ablation:
    """A paper's table: its variants, and which measures are its columns (heading: how the measure's name begins)."""

    title: str
    variants: tuple[Variant, ...]
    columns: tuple[tuple[str, str], ...]
    settings: tuple[str, ...] = ()
    augment: str | None = None


LANDMARKS_AND_DENSE = (
    ("68 points, 2-D", "nme_bbox 2-D"),
    ("68 points, 3-D", "nme_bbox 3-D"),
    ("dense, 2-D", DENSE),
    ("dense, 3-D", "dense nme_bbox 3-D"),
)


def stages(n: int) -> str:
    """DAN's first `n` stages as a setting of its phases; each of so many steps as are asked for."""
    optimiser = {"learning_rate": 1e-3, "decay": "geometric", "last_rate": 5e-5}
    phases = [{"name": f"stage-{k + 1}", "steps": STEPS, "optimiser": optimiser} for k in range(n)]
    return f"phases={json.dumps(phases)}"


ABLATIONS: dict[str, tuple[Ablation, ...]] = {
    "dan": (
        Ablation(
            "number of stages (DAN, table 6)",
            tuple(Variant(name, (stages(n),)) for n, name in ((1, "1 stage"), (2, "2 stages"), (3, "3 stages"))),
            (("68 points, 2-D", "nme_bbox 2-D"), ("inter-ocular", "nme_interocular")),
            augment="none",
        ),
    ),
    "densereg": (
        Ablation(
            "quantised regression (DenseReg, figure 6)",
            (
                *(Variant(f"K = {k}", (f"n_bins={k}",)) for k in (2, 4, 8, 10)),
                Variant("plain regression", ("kind=plain",)),
            ),
            (("u", "|u"), ("v", "|v"), ("68 points, 2-D", "nme_bbox 2-D")),
            augment="none",
        ),
    ),
    "fan3d": (
        Ablation(
            "depth with and without heatmaps (3DFAW, section 2.2)",
            (Variant("heatmaps"), Variant("none", ("depth_heatmaps=false",))),
            (("z", "GTE z"), ("xyz", "GTE xyz"), ("68 points, 3-D", "nme_bbox 3-D"), ("2-D", "nme_bbox 2-D")),
            augment="none",
        ),
    ),
    "prnet": (
        Ablation(
            "loss weights, landmarks : eyes, nose and mouth : rest : neck (PRNet, figure 10)",
            (
                Variant("1:1:1:1", ("weights=[1,1,1,1]",)),
                Variant("1:1:1:0", ("weights=[1,1,1,0]",)),
                Variant("16:4:3:0", ("weights=[16,4,3,0]",)),
            ),
            LANDMARKS_AND_DENSE,
            augment="none",
        ),
    ),
    "mesh_gcn": (
        Ablation(
            "aggregation (CNN+GCN, figure 7)",
            tuple(
                Variant(name, (f"aggregation={kind}",))
                for name, kind in (
                    ("none", "none"),
                    ("U-net", "u-net"),
                    ("no up", "no-up"),
                    ("no down", "no-down"),
                    ("full", "full"),
                )
            ),
            LANDMARKS_AND_DENSE,
            augment="none",
        ),
        Ablation(
            "loss (CNN+GCN, section IV-C)",
            tuple(
                Variant(name, (f"loss={kind}",))
                for name, kind in (
                    ("L1", "l1"),
                    ("L2", "l2"),
                    ("smooth L1", "smooth-l1"),
                    ("ours (equation 3)", "ours"),
                )
            ),
            LANDMARKS_AND_DENSE,
            augment="none",
        ),
    ),
}


def main() -> None:
    wanted = _arguments()
    for place, ablation in enumerate(ABLATIONS[wanted.system]):
        for variant in ablation.variants:
            if wanted.only and variant.name not in wanted.only:
                continue
            for seed in range(wanted.seeds):
                path = _row_path(wanted, place, variant, seed)
                if not path.is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    row = measured(wanted, ablation, variant, seed)
                    write_atomically(path, json.dumps(row, indent=1).encode())
                print(f"{wanted.system} {variant.name} seed {seed}: {path}", file=sys.stderr, flush=True)
        print(table(wanted, place, ablation), flush=True)


def measured(wanted: argparse.Namespace, ablation: Ablation, variant: Variant, seed: int) -> dict[str, Any]:
    """One training of a variant and what it came to: percent of each measure of ours, steps, seconds."""
    own = (setting.replace(str(STEPS), str(wanted.steps)) for setting in variant.settings)
    settings = (*ablation.settings, *own, f"seed={seed}", f"save_every={10**9}", *wanted.set)
    processor, wall = time.process_time(), time.monotonic()
    torch.manual_seed(seed)  # the first weights, too, are the seed's
    with tempfile.TemporaryDirectory() as folder:
        done = train_here(
            wanted.system,
            wanted.data,
            out=folder,
            hold_out=0,
            settings=settings,
            steps=wanted.steps,
            augment=wanted.augment or ablation.augment,
        )
        processor, wall = time.process_time() - processor, time.monotonic() - wall
        found = evaluate_dataset(Predictor(restore(done.checkpoint)), open_dataset(wanted.validation), n_registered=0)
    ours = {name: by_method.get(OURS, {}) for name, by_method in found.document["results"].items()}
    percent = {name: summary["mean_percent"] for name, summary in ours.items() if "mean_percent" in summary}
    return {
        "system": wanted.system,
        "table": ablation.title,
        "variant": variant.name,
        "settings": settings,
        "seed": seed,
        "steps": done.steps,
        "processor_s": round(processor, 1),
        "wall_s": round(wall, 1),
        "n_images": found.document["n_images"],
        "percent": percent,
    }


def table(wanted: argparse.Namespace, place: int, ablation: Ablation) -> str:
    """Markdown of all rows that are there."""
    lines = [
        f"**{wanted.system}: {ablation.title}**",
        "",
        f"| | {' | '.join(heading for heading, _ in ablation.columns)} | seeds | steps | processor s |",
        "|---" * (len(ablation.columns) + 4) + "|",
    ]
    for variant in ablation.variants:
        paths = (_row_path(wanted, place, variant, seed) for seed in range(wanted.seeds))
        rows = [json.loads(path.read_bytes()) for path in paths if path.is_file()]
        if not rows:
            continue
        cells = [spread([percent_of(row, begins) for row in rows]) for _, begins in ablation.columns]
        processor = statistics.mean(row["processor_s"] for row in rows)
        lines.append(f"| {variant.name} | {' | '.join(cells)} | {len(rows)} | {rows[0]['steps']:,} | {processor:.0f} |")
    return "\n".join(lines) + "\n"


def percent_of(row: dict[str, Any], begins: str) -> float:
    """The one measure whose name begins so (a whole name wins). Raises KeyError where there is none, or several."""
    found: dict[str, float] = row["percent"]
    names = [begins] if begins in found else [name for name in found if name.startswith(begins)]
    if len(names) != 1:
        raise KeyError(f"{len(names)} measures begin with {begins!r}; there are {', '.join(found)}")
    return found[names[0]]


def spread(values: list[float]) -> str:
    """Mean ± standard deviation over seeds, in percent."""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _row_path(wanted: argparse.Namespace, place: int, variant: Variant, seed: int) -> Path:
    plain = "".join(character if character.isalnum() else "-" for character in variant.name)
    return Path(wanted.out) / wanted.system / f"{place}-{plain}-{seed}.json"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=sorted(ABLATIONS))
    parser.add_argument("--data", required=True, help="what is learnt from")
    parser.add_argument("--validation", required=True, help="what is measured on: other people")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each variant")
    parser.add_argument("--steps", type=int, required=True, help="steps of every phase")
    parser.add_argument("--out", default="ablations", help="where rows are kept")
    parser.add_argument("--only", action="append", default=[], metavar="VARIANT", help="these variants alone")
    parser.add_argument("--augment", help="another augmentation than the table's own")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change all variants alike")
    return parser.parse_args()


if __name__ == "__main__":
    main()

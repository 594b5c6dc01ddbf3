"""Every system's tiny preset from nothing: people drawn, built, learnt from, measured on other people. Not collected by pytest.

    python tests/benchmarks/tiny_systems.py OUT [--system dan --system fan3d …] [--people 1200] [--views 8] [--threads 2]

Each step is a command of `facefoundry`, printed as it is run: `people` (seed 3, a tenth of them kept for validation), `build`
of both parts with position maps, fields and parts at 128 px, `train --preset tiny` with :data:`TRAINING`, `evaluate` on the
people that were kept, and `predict` on the astronaut's photograph that scikit-image brings along. What is there already is not
made again, and a stopped training goes on. The Markdown table has the mean over the pictures, of ours and of both baselines, and
what the training took: wall time, and processor time of all its threads (30 minutes are a quarter of an hour on two cores).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import skimage.data

SYSTEMS = ("dan", "densereg", "fan3d", "mesh_gcn", "prnet")
TRAINING = {
    "dan": ("--augment", "none", "--set", "validate_every=250"),
    "densereg": ("--augment", "none", "--set", "precision=bf16", "--set", "validate_every=500"),
    "fan3d": ("--augment", "none", "--set", "precision=bf16", "--set", "validate_every=500"),
    "mesh_gcn": ("--augment", "none", "--set", "ema_decay=0.998", "--set", "validate_every=400"),
    "prnet": (
        *("--augment", "none", "--set", "ema_decay=0.998", "--set", "precision=bf16"),
        *("--set", "validate_every=1500"),
    ),
}
"""What is said to a training beside its preset; where nothing stands, ``--augment none``."""

ASTRONAUT_BOX = (177, 84, 273, 178)
"""Brows to chin: left, top, right, bottom in pixels of the photograph."""

LANDMARKS, SOLID, DENSE = "nme_bbox 2-D", "nme_bbox 3-D", "dense nme_bbox 2-D"


def main() -> None:
    wanted = _arguments()
    out = Path(wanted.out)
    parts = {part: out / part / "300wlp-posmaps" for part in ("train", "validation")}
    people = ["--out", out / "people", "--seed", 3, "--n-people", wanted.people, "--views", wanted.views]
    run("people", *people)
    for part in parts:
        targets = ["--size", 128, "--targets", "posmap,field,parts"]
        run("build", "300wlp-posmaps", "--source", out / "people" / part, *targets, "--out", out / part)
    photograph = out / "astronaut" / "astronaut.png"
    photograph.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(photograph), cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR))
    boxes = photograph.with_name("boxes.csv")
    boxes.write_text(f"path,left,top,right,bottom\n{photograph.name},{','.join(map(str, ASTRONAUT_BOX))}\n")
    rows = []
    for system in wanted.system or SYSTEMS:
        trained = measured_training(system, parts, out, threads=wanted.threads)
        document = run("evaluate", trained["checkpoint"], parts["validation"], "--out", out / "evaluations" / system)
        run("predict", trained["checkpoint"], photograph, "--boxes", boxes, "--out", photograph.parent / system)
        rows.append((system, trained, document))
    print(table(rows), flush=True)


def measured_training(system: str, parts: dict[str, Path], out: Path, *, threads: int) -> dict[str, Any]:
    """The training's answer with `wall_s` and `processor_s`; of one that was finished before, those of then."""
    kept = out / "trained" / f"{system}.json"
    if kept.is_file():
        return json.loads(kept.read_bytes())
    wall, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    data = ["--data", parts["train"], "--validation", parts["validation"], "--out", out / "trained"]
    answer = run(
        "train", system, "--preset", "tiny", *TRAINING.get(system, ("--augment", "none")), *data, threads=threads
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer["wall_s"] = time.monotonic() - wall
    answer["processor_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    kept.write_text(json.dumps(answer, indent=1))
    return answer


def run(verb: str, *options: object, threads: int | None = None) -> dict[str, Any]:
    """A command of `facefoundry`, and what it answers."""
    words = [verb, *map(str, options)]
    print(f"facefoundry {' '.join(words)}", file=sys.stderr, flush=True)
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    command = [Path(sys.executable).with_name("facefoundry"), *words, "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(done.stdout)


def table(rows: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> str:
    """Markdown: a row for each system and measure."""
    lines = [
        "| system | measure | ours | mean shape | mean shape, true pose | steps | wall, min | processor, min |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for system, trained, document in rows:
        took = f"{trained['steps']:,} | {trained['wall_s'] / 60:.1f} | {trained['processor_s'] / 60:.1f}"
        for name, by_method in document["results"].items():
            if not name.startswith((LANDMARKS, SOLID, DENSE, "|u", "|v")):
                continue
            cells = [by_method.get(method) for method in ("ours", "mean shape", "mean shape, true pose")]
            figures = " | ".join("" if cell is None else f"{cell['mean_percent']:.2f} %" for cell in cells)
            lines.append(f"| `{system}` | {name.replace('|', '∣')} | {figures} | {took} |")
            took = " | | "
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="folder for everything that is made")
    parser.add_argument("--system", action="append", choices=SYSTEMS, help="these alone")
    parser.add_argument("--people", type=int, default=1200)
    parser.add_argument("--views", type=int, default=8, help="pictures of each person with each of two expressions")
    parser.add_argument("--threads", type=int, default=2, help="of a training")
    return parser.parse_args()


if __name__ == "__main__":
    main()

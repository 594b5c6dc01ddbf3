"""The main job beside the usual recipe, on the same core and the same files, in one run.

    python tests/benchmarks/main_job.py [--pictures 1536] [--rounds 2] [--json FILE]

Every contender is a process of its own with one thread, timed from start to end by the operating system: start-up,
reading the model, and for us checksums, verification, publishing and the contact sheet are all in it. They take turns, and
what counts is the ratio within a round: machines are noisy, ratios less so.
"""

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--pictures", type=int, default=1536, help="how many pictures each contender turns into samples"
    )
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--quick", action="store_true", help="few pictures, one round")
    arguments.add_argument("--json", type=Path, help="write the numbers to this file")
    given = arguments.parse_args()
    pictures, rounds = (192, 1) if given.quick else (given.pictures, given.rounds)

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        source = many_pictures(work, pictures)
        contenders = {
            "usual recipe": usual(work, source),
            "facefoundry, materialized": ours(work, source, "materialized"),
            "facefoundry, parametric": ours(work, source, "parametric"),
        }
        for command in contenders.values():  # compiles kernels and warms the disk's cache; not counted
            timed(command, work)
        seconds = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, command in contenders.items():
                seconds[name].append(timed(command, work))
        report(seconds, pictures, given.json)


def many_pictures(work: Path, n: int, *sample_options: str) -> Path:
    """A source of n pictures: the sample folder, its families copied under new names."""
    sample, source = work / "sample", work / "source"
    run([sys.executable, "-c", "from flows.command_line import main; main()", "sample", str(sample), *sample_options])
    originals = sorted(path for path in sample.glob("*/*.jpg") if not path.stem.startswith("astronaut"))
    for subset in {path.parent.name for path in originals}:
        (source / subset).mkdir(parents=True)
        shutil.copy(sample / subset / "model.json", source / subset)
    for i in range(n):
        repeat, picture = divmod(i, len(originals))
        picture = originals[picture]
        stem = re.sub(r"_(\d+)$", rf"_{repeat}_\1", picture.stem)  # the view's number stays last
        for suffix in (".jpg", ".mat"):
            shutil.copy(picture.with_suffix(suffix), source / picture.parent.name / f"{stem}{suffix}")
    return source


def first_pictures(source: Path, folder: Path, n: int) -> Path:
    """The first pictures of a source as a source of its own: links to the same files."""
    for picture in sorted(source.glob("*/*.jpg"))[:n]:
        subset = folder / picture.parent.name
        subset.mkdir(parents=True, exist_ok=True)
        for file in (picture, picture.with_suffix(".mat"), picture.with_name("model.json")):
            if not (subset / file.name).exists():
                os.link(file, subset / file.name)
    return folder


def usual(work: Path, source: Path) -> list[str]:
    script = (
        "import sys; from pathlib import Path; from tests.benchmarks import usual_recipe;"
        "from geometry.built_in import load_built_in;"
        "usual_recipe.run(sorted(Path(sys.argv[1]).glob('*/*.jpg')), Path(sys.argv[2]),"
        " usual_recipe.UsualRecipe.of(load_built_in().dense()))"
    )
    return [sys.executable, "-c", script, str(source), str(work / "usual")]


def ours(work: Path, source: Path, maps: str, *options: str) -> list[str]:
    command = [sys.executable, "-c", "from flows.command_line import main; main()", "build", "300wlp-posmaps"]
    return [
        *command,
        "--source",
        str(source),
        "--out",
        str(work / maps),
        "--maps",
        maps,
        "--workers",
        "1",
        "--json",
        *options,
    ]


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)


def environment() -> dict[str, str]:
    """This process's, with one thread for each library."""
    return {**os.environ, **ONE_THREAD}


def timed(command: list[str], work: Path) -> tuple[float, float]:
    """CPU and wall seconds of a fresh run, its children's included."""
    for name in ("usual", "materialized", "parametric"):
        shutil.rmtree(work / name, ignore_errors=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - start


def report(seconds: dict[str, list[tuple[float, float]]], pictures: int, path: Path | None) -> None:
    baseline = next(iter(seconds))
    rows = {}
    print(f"{pictures} pictures, {len(seconds[baseline])} rounds, one core; medians (lowest to highest)")
    print(f"{'':28}{'ratio of CPU time':>26}{'ratio of wall time':>22}{'CPU ms a sample':>18}{'wall':>8}")
    for name, runs in seconds.items():
        cpu, wall = (
            [ours[k] / theirs[k] for ours, theirs in zip(seconds[baseline], runs, strict=True)] for k in (0, 1)
        )
        per_sample = [1000 * statistics.median(run[k] for run in runs) / pictures for k in (0, 1)]
        spread = f"{statistics.median(cpu):.1f} × ({min(cpu):.1f} to {max(cpu):.1f})"
        print(f"{name:28}{spread:>26}{statistics.median(wall):>20.1f} ×{per_sample[0]:>18.2f}{per_sample[1]:>8.2f}")
        rows[name] = {"cpu_ratio": cpu, "wall_ratio": wall, "cpu_ms": per_sample[0], "wall_ms": per_sample[1]}
    if path:
        path.write_text(json.dumps({"pictures": pictures, "contenders": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

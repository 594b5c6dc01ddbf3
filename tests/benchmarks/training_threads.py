"""How many threads a training should have: samples a second of the tiny presets by OMP_NUM_THREADS, interleaved.

    python tests/benchmarks/training_threads.py [--systems prnet dan] [--threads 1 2 4] [--rounds 3] [--beside 0]

Each measurement is a training of a process of its own, of a sample that is built first; the orders are turned from round to
round, so that a load that comes and goes meets all. `--beside N` lets N other trainings of the same kind run meanwhile, each with
as many threads. Printed: medians, the least and the most, and the load.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from flows.local import build_here
from flows.presets import posmaps_300wlp

SETTINGS = ("log_every=10", "save_every=100000")


def command(system: str, out: Path, seed: int, steps: int) -> list[str]:
    """The line of a training that begins anew."""
    options = ["--out", f"{out}", "--hold-out", "0", "--augment", "none", "--fresh", "--steps", f"{steps}", "--json"]
    settings = [word for setting in (*SETTINGS, f"seed={seed}") for word in ("--set", setting)]
    start = "from flows.command_line import main; main()"
    return [sys.executable, "-c", start, "train", system, "--data", f"{out}/300wlp-posmaps", *options, *settings]


def speed(system: str, out: Path, threads: int, *, beside: int, steps: int) -> float:
    """Samples a second of the network, after its first lines."""
    environment = {**os.environ, "OMP_NUM_THREADS": f"{threads}"}
    others = [
        subprocess.Popen(command(system, out, 100 + n, 100_000), env=environment, stdout=subprocess.DEVNULL)
        for n in range(beside)
    ]
    try:
        done = subprocess.run(command(system, out, 0, steps), env=environment, stdout=subprocess.PIPE, check=True)
    finally:
        for other in others:
            other.kill()
            other.wait()
    lines = (Path(json.loads(done.stdout)["folder"]) / "log.jsonl").read_text().splitlines()
    by_phase: dict[str, list[float]] = {}
    for line in map(json.loads, lines):
        by_phase.setdefault(line["phase"], []).append(line["model_samples_per_second"])
    return statistics.harmonic_mean([statistics.median(rates[1:]) for rates in by_phase.values()])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--systems", nargs="+", default=["prnet", "dan"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    found: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        build_here(posmaps_300wlp(size_px=128), out=out, workers=1)
        for round_ in range(given.rounds):
            order = given.threads[round_ % len(given.threads) :] + given.threads[: round_ % len(given.threads)]
            for system in given.systems:
                for threads in order:
                    rate = speed(system, out, threads, beside=given.beside, steps=given.steps)
                    found.setdefault((system, threads), []).append(rate)
                    print(f"{system}, {threads} threads: {rate:.1f}/s, load {os.getloadavg()[0]:.1f}", flush=True)
    print("| system | threads | samples/s (least to most) |\n|---|---|---|")
    for (system, threads), rates in sorted(found.items()):
        print(f"| {system} | {threads} | {statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f}) |")


if __name__ == "__main__":
    main()

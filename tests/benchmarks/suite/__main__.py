"""Every stage and every whole job beside what a user would otherwise take: one run, one table. `make bench`.

    python -m tests.benchmarks.suite [--quick] [--gpu] [--only TEXT …] [--out FILE.json] [--plot FILE.png] [--markdown PAGE.md]

One thread each. The contenders of a row take turns; a ratio belongs to a round, and the table has the medians. Above 1
ours is faster. Baselines that are not installed are named (`pip install '.[bench]'` brings all of them).
"""

import os

os.environ.update(
    OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", NUMBA_NUM_THREADS="1"
)  # before NumPy

import argparse
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path

import cv2
from threadpoolctl import threadpool_limits

from tests.benchmarks.suite import device, machine, report
from tests.benchmarks.suite.every_row import every_row
from tests.benchmarks.suite.material import FULL, QUICK, Material
from tests.benchmarks.suite.rows import Measured, Row, measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes: fewer pictures, jobs once")
    parser.add_argument("--gpu", action="store_true", help="the rows of a CUDA device too")
    parser.add_argument("--only", nargs="+", default=[""], help="only the rows whose names hold one of these texts")
    parser.add_argument("--out", type=Path, help="everything measured, as JSON")
    parser.add_argument("--plot", type=Path, help="the ratios as a picture")
    parser.add_argument("--markdown", type=Path, help="a page whose marked part is written anew")
    given = parser.parse_args()
    if given.gpu and (lacking := device.lacking()):
        parser.error(f"--gpu: {lacking}")
    began = time.monotonic()
    command = command_of(given)
    facts = machine.description()
    with threadpool_limits(1), tempfile.TemporaryDirectory(prefix="bench-") as folder:
        cv2.setNumThreads(1)
        material = Material(Path(folder), QUICK if given.quick else FULL)
        results = [
            timed(row, is_quick=given.quick)
            for row in every_row(material, gpu=given.gpu)
            if any(text in row.name for text in given.only)
        ]
    text = report.markdown(results, facts, command)
    print(text)
    print(f"\n{time.monotonic() - began:.0f} s in all")
    if given.out:
        given.out.write_text(json.dumps(report.as_json(results, facts, command), indent=1) + "\n")
    if given.plot:
        report.plot(results, given.plot)
    if given.markdown:
        report.write_into(given.markdown, text)


def command_of(given: argparse.Namespace) -> str:
    """What repeats the run, without the files that it wrote."""
    only = ["--only", *given.only] if any(given.only) else []
    arguments = [*(["--quick"] * given.quick), *(["--gpu"] * given.gpu), *only]
    return f'make bench ARGS="{shlex.join(arguments)}"' if arguments else "make bench"


def timed(row: Row, *, is_quick: bool) -> Measured:
    """One row, with its ratios on standard error while one waits."""
    began = time.monotonic()
    if row.is_long:
        result = measure(row, turn_s=0, row_s=0, rounds=1 if is_quick else 3)
    else:
        turn_s, row_s, rounds = (0.02, 3.0, 7) if is_quick else (0.1, 20.0, 15)
        result = measure(row, turn_s=turn_s, row_s=row_s, rounds=rounds)
    ratios = [f"{result.ratio(name, row.clock).median:.2f} × {name}" for name in result.spent if name != row.ours.name]
    print(f"{row.name}: {', '.join(ratios)} [{time.monotonic() - began:.0f} s]", file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    main()

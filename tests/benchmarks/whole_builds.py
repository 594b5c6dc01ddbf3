"""What a build of 300W-LP's size takes, planned from measured rates: whole builds of several sizes beside bare decoding.

    python -m tests.benchmarks.whole_builds [--sizes 500 2000 8000] [--maps parametric] [--workers 1 2] [--source FOLDER]

Each build is a process from start to end, files to published data set; beside it every file is read, decoded and warped
in a process of its own, with nothing kept. Processor time of a size is fixed cost + samples × rate: both come from a
straight line through the sizes. Peak memory is that of the build's own process (VmHWM), which flat memory leaves alike.
With several numbers of workers a size is built with each in turn, and the first is held against the others by the clock:
processor time is that of this process's own children, which workers are not.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.benchmarks import main_job

SIZES_300WLP = (61_225, 122_450)
WATCHED = """
import sys
from pathlib import Path
from flows.command_line import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(peak.split()[1], file=sys.stderr)
"""
BARE = """
import sys
from pathlib import Path
import cv2, numpy as np
cv2.setNumThreads(1)
matrix = np.array([[1.05, 0, -100], [0, 1.05, -100.0]])
for path in sorted(Path(sys.argv[1]).glob("*/*.jpg")):
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    cv2.warpAffine(picture, matrix, (256, 256), flags=cv2.INTER_LINEAR)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--maps", default="parametric")
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--source", type=Path, help="a folder of as many pictures; by default they are drawn")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = given.source or main_job.many_pictures(Path(folder), max(given.sizes))
        rows = [measured(source, n, given.maps, workers) for n in given.sizes for workers in given.workers]
    report([row for row in rows if row["workers"] == 1], given.maps)
    for first, other in ((first, other) for first in rows for other in rows if first["n"] == other["n"]):
        if first["workers"] == given.workers[0] != other["workers"]:
            faster = first["wall"] / other["wall"]
            print(
                f"{first['n']} samples: {other['workers']} workers build {faster:.2f} times as fast as {first['workers']}"
            )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


def measured(everything: Path, n: int, maps: str, workers: int) -> dict[str, float]:
    """Seconds and megabytes of one size."""
    with tempfile.TemporaryDirectory(dir=everything.parent) as folder:
        work = Path(folder)
        source = main_job.first_pictures(everything, work / "source", n)
        line = main_job.ours(work, source, maps, "--workers", str(workers))
        cpu, wall, said = timed([sys.executable, "-c", WATCHED, *line[3:]])
        bare_cpu, bare_wall, _ = timed([sys.executable, "-c", BARE, str(source)])
    row = {"n": n, "workers": workers, "cpu": cpu, "wall": wall, "bare_cpu": bare_cpu, "bare_wall": bare_wall}
    row["peak_mb"] = int(said) / 1e3
    took = f"{cpu:.1f} s of processor time, {wall:.1f} by the clock" if workers == 1 else f"{wall:.1f} s by the clock"
    ratio = f": {cpu / bare_cpu:.2f} ×" if workers == 1 else ""
    print(
        f"{n:6d} samples, {workers} worker(s): {took}; bare decoding and warp {bare_cpu:.1f} ({bare_wall:.1f}){ratio}; "
        f"at most {row['peak_mb']:.0f} MB",
        flush=True,
    )
    return row


def timed(command: list[str]) -> tuple[float, float, str]:
    """Processor seconds with children, seconds by the clock, and the last word on standard error."""
    before, start = _children(), time.monotonic()
    done = subprocess.run(
        command, check=True, cwd=main_job.ROOT, env=main_job.environment(), capture_output=True, text=True
    )
    return _children() - before, time.monotonic() - start, (done.stderr.split() or [""])[-1]


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(rows: list[dict[str, float]], maps: str) -> None:
    """The straight lines through the sizes, and what they give for 300W-LP."""
    if len(rows) < 2:
        return
    rate, fixed = line(rows, "cpu")
    bare_rate, _ = line(rows, "bare_cpu")
    wall_rate, wall_fixed = line(rows, "wall")
    print(
        f"fixed {fixed:.1f} s, then {1e3 * rate:.2f} ms a sample; bare {1e3 * bare_rate:.2f} ms: {rate / bare_rate:.2f} ×"
    )
    for n in SIZES_300WLP:
        cpu, wall = fixed + rate * n, wall_fixed + wall_rate * n
        print(
            f"{n:,} samples, {maps}, one worker: {cpu / 60:.1f} min of processor time, "
            f"{wall / 60:.1f} min by the clock; {cpu / (bare_rate * n):.2f} × bare decoding and warp"
        )


def line(rows: list[dict[str, float]], what: str) -> tuple[float, float]:
    """(slope, offset) of seconds over samples."""
    slope, offset = np.polyfit([row["n"] for row in rows], [row[what] for row in rows], 1)
    return float(slope), float(offset)


if __name__ == "__main__":
    main()

"""How a build scales over Dask's workers: the phases of one process, and the wall time of 1 and 2 worker processes.

    python tests/benchmarks/dask_scaling.py SOURCE [--copies 8] [--workers 1 2] [--rounds 3]

SOURCE is a folder in 300W-LP's layout (facefoundry sample FOLDER). The cluster is made before the clock starts, and the numbers
of workers take turns. With a busy machine the walls mean little: the load is printed beside them, and the phases are in CPU
seconds.
"""

import argparse
import itertools
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from distributed import LocalCluster

from flows.build import build_shard, opened_build, publish_build
from flows.config import PosmapConfig
from flows.dask_workers import on_dask
from flows.local import build_here


def phases(config: PosmapConfig, source: Path, out: Path) -> tuple[float, float, float, int]:
    """CPU seconds of plan, shards and publishing in one process, and the number of samples."""
    marks = [time.process_time()]
    with opened_build(config, source=source, model="built-in", out=out) as build:
        marks.append(time.process_time())
        for shard in build.missing_shards:
            build_shard(build.job, shard)
        marks.append(time.process_time())
        published = publish_build(build)
    marks.append(time.process_time())
    plan, shards, publishing = (after - before for before, after in itertools.pairwise(marks))
    return plan, shards, publishing, published.samples


def wall(config: PosmapConfig, source: Path, out: Path, workers: int) -> float:
    """Seconds of a build by a Dask cluster of so many processes, from the plan to the published version."""
    with LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        list(on_dask(_warm, [(n,) for n in range(4 * workers)], workers, scheduler=address))
        start = time.perf_counter()
        build_here(config, source=source, out=out, scheduler=address)
        return time.perf_counter() - start


def _warm(n: int) -> int:
    """Import what a shard needs."""
    import flows.posmaps

    return n + len(flows.posmaps.__name__)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    config = PosmapConfig(copies=given.copies, shard_size=128)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        phases(config.model_copy(update={"copies": 1, "name": "warm"}), given.source, out)
        plan, shards, publishing, n = phases(config, given.source, out / "phases")
        serial = (plan + publishing) / (plan + shards + publishing)
        print(f"{n} samples; CPU seconds: plan {plan:.1f}, shards {shards:.1f}, publishing {publishing:.1f}")
        print(f"serial fraction {serial:.3f}: {1 / serial:.0f} times one process at most")
        walls: dict[int, list[float]] = {workers: [] for workers in given.workers}
        for round_, workers in itertools.product(range(given.rounds), given.workers):
            seconds = wall(config, given.source, out / f"workers-{workers}-{round_}", workers)
            walls[workers].append(seconds)
            load = os.getloadavg()[0]
            print(
                f"{workers} Dask workers: {seconds:.1f} s wall, load {load:.1f} on {os.cpu_count()} cores", flush=True
            )
            shutil.rmtree(out / f"workers-{workers}-{round_}")
        for workers, seconds_of in walls.items():
            median = statistics.median(seconds_of)
            ratio = statistics.median(walls[given.workers[0]]) / median
            print(
                f"{workers} Dask workers: {median:.1f} s ({min(seconds_of):.1f} to {max(seconds_of):.1f}), {ratio:.2f} times"
            )


if __name__ == "__main__":
    main()

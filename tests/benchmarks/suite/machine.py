"""The machine that a run was made on: what it is, and what it can do at best."""

import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from time import thread_time

import numpy as np

from tests.benchmarks.zbuffer_speed import copy_speed

VECTORS = ("avx512f", "avx2", "sse4_2")


def description() -> dict[str, object]:
    """In words and numbers; speeds are of one thread, now."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _from_cpuinfo("model name") or platform.processor() or platform.machine(),
        "vectors": next((name for name in VECTORS if name in _from_cpuinfo("flags").split()), "unknown"),
        "cores": cores,
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "copy_gb_s": round(copy_speed() / 1e9, 2),
        "product_gflop_s": round(_product_speed() / 1e9, 1),
        "sha256_gb_s": round(_hash_speed() / 1e9, 2),
    }


def _from_cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _product_speed() -> float:
    """Floating-point operations a second of a float32 matrix product."""
    a = np.random.default_rng(0).random((1024, 1024), dtype=np.float32)
    return 2 * 1024**3 / _least(lambda: a @ a)


def _hash_speed() -> float:
    data = bytes(1 << 24)
    return len(data) / _least(lambda: hashlib.sha256(data))


def _least(work: Callable[[], object]) -> float:
    def once() -> float:
        start = thread_time()
        work()
        return thread_time() - start

    return min(once() for _ in range(5))

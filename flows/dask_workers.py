"""Dask's workers in place of this machine's processes: the extra `cluster`.

Through the scheduler go the plan and small outcomes. Shards are written by the workers straight to the store, so all of
them must see the source and the output folder under the paths that the caller names (NFS), or write to S3. A worker that
dies costs the time of its shard: that is made again by another one, and its bytes are the same.
"""

import contextlib
import platform
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import version
from types import ModuleType
from typing import Any, TypeVar

from flows.errors import OtherVersions, WorkerDied
from geometry.extras import how_to_get
from storage.processes import usable_cores
from storage.store import MissingObject

T = TypeVar("T")

LOCAL = "local"
"""The scheduler's name for a cluster on this machine, made for one build."""

_PATIENCE_S = 30.0
_DECIDING = (
    "facefoundry",
    "numpy",
    "numba",
    "opencv-python-headless",
    "scipy",
    "simplejpeg",
    "numcodecs",
)  # versions that bytes depend on
_ONE_AT_A_TIME = threading.Lock()
"""In a worker with several threads: a shard keeps one core busy, and one child process."""

_ADDRESS = re.compile(r"(?:(?:tcp|tls|ucx|wss?)://)?[^/\s]+:[0-9]+$|inproc://.")


def on_dask(
    work: Callable[..., T],
    calls: Sequence[tuple[Any, ...]],
    workers: int,
    *,
    scheduler: str,
    patience_s: float = _PATIENCE_S,
) -> Iterator[T]:
    """``work(*call)`` of every call, as they come, by the workers of a Dask scheduler.

    `scheduler` is an address (``tcp://host:8786``), or ``local`` for `workers` processes on this machine (0: one for
    each core). Raises ValueError without the extra, for an address where nobody answers and for a cluster without workers;
    OtherVersions for a worker with other libraries; WorkerDied when one shard has killed several workers.
    """
    distributed = dask_here()
    with contextlib.ExitStack() as stack:
        if scheduler == LOCAL:
            # No limit of Dask's own on memory: it would kill a worker in the middle of a shard that fits the machine.
            address = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers or usable_cores(),
                    threads_per_worker=1,
                    memory_limit=0,
                    dashboard_address="127.0.0.1:0",  # Dask's own choice, 8787, may be another cluster's
                )
            ).scheduler_address
        else:
            address = scheduler
        client = stack.enter_context(_client(distributed, address, patience_s))
        try:
            client.wait_for_workers(1, timeout=patience_s)
        except TimeoutError:
            raise ValueError(
                f"the Dask scheduler at {address} has no workers: start some (dask worker {address} --nthreads 1) where "
                "facefoundry is installed"
            ) from None
        ours = versions_here()
        futures = [client.submit(_on_worker, ours, work, *call, pure=False) for call in calls]
        try:
            for future in distributed.as_completed(futures, loop=client.loop):
                yield future.result()
        except distributed.KilledWorker as killed:
            raise WorkerDied(
                f"workers died again and again over one shard, the last at {killed.last_worker.address}, perhaps for "
                "want of memory; finished shards are kept: start the build again, on workers with more memory"
            ) from None
        finally:  # after Ctrl-C or too many bad samples, shards that nobody wants any more are not begun
            client.cancel(futures)


@lru_cache(maxsize=1)
def versions_here() -> dict[str, str]:
    """What decides a shard's bytes beside the plan: the type of machine, Python and the libraries that compute."""
    python = ".".join(map(str, sys.version_info[:2]))
    return {"machine": platform.machine(), "python": python, **{name: version(name) for name in _DECIDING}}


def _on_worker(ours: dict[str, str], work: Callable[..., T], *call: Any) -> T:
    here = versions_here()
    if here != ours:
        other = ", ".join(f"{name} {here[name]} and not {ours[name]}" for name in ours if here[name] != ours[name])
        raise OtherVersions(
            f"the Dask worker on {platform.node()} has {other}: shards of one version come from one set of versions. "
            "Install from infra/constraints.txt on every machine, or use one image"
        )
    try:
        with _ONE_AT_A_TIME:
            return work(*call)
    except MissingObject as error:
        raise ValueError(
            f"the Dask worker on {platform.node()} does not find the plan's {error.key}: every worker must see --out under "
            "the same path (a shared file system), or --out be s3://…"
        ) from error


def _client(distributed: ModuleType, address: str, patience_s: float) -> Any:
    # A client that fails for this leaves a thread, for which the process would never end.
    if not _ADDRESS.match(address):
        raise ValueError(f"{address!r} is no address of a Dask scheduler: give one such as tcp://host:8786, or {LOCAL}")
    try:
        return distributed.Client(address, timeout=patience_s, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ValueError(
            f"no Dask scheduler answers at {address} ({type(error).__name__}): start one (dask scheduler), or name the "
            f"right one, such as tcp://host:8786, or {LOCAL}"
        ) from None


def dask_here() -> ModuleType:
    """Dask's package. Raises ValueError, with how to get it, where it is missing."""
    try:
        import distributed
    except ImportError as error:
        raise ValueError(f"--scheduler needs Dask ({error}): {how_to_get('cluster')}") from None
    return distributed

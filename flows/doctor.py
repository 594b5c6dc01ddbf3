"""What this machine has and lacks: each finding with what it is for and how to get it. Nothing is changed or downloaded."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from geometry.extras import install_line

if TYPE_CHECKING:
    from packaging.requirements import Requirement

State = Literal["ok", "absent", "broken"]
"""`absent`: something optional is not there. `broken`: something needed is not there, or something there does not work."""

_PACKAGE = "facefoundry"
_LEAST_PYTHON = (3, 11)
_GIB = 1 << 30
_MEMORY_PER_WORKER = _GIB
_FREE_DISK = 5 * _GIB
_EGL = "from render.shaded_view import load_pyrender; load_pyrender().OffscreenRenderer(8, 8).delete()"
_GPU = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
_PURPOSES = {
    "render": "shaded pictures",
    "train": "training",
    "fast": "smaller maps, quicker reading by others",
    "s3": "data sets on S3",
    "cluster": "builds on Dask",
    "detect": "landmarks by a detector",
    "parquet": "tables of landmarks, exports",
    "onnx": "trained systems as ONNX",
    "kubernetes": "workers on Kubernetes; not part of make setup",
}
_FOR_THE_PROJECT = ("all", "dev", "bench", "browser")
"""`all` is the others together; the rest are for who works on the project, and most machines do well without."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, what is there, and, unless all is well, what to do."""

    name: str
    state: State
    found: str
    remedy: str = ""


def examine(
    *, out: str = "datasets", model: str | Sequence[str] | None = None, environment: Mapping[str, str] = os.environ
) -> Iterator[Check]:
    """Look at everything, one after another: half a minute at most. `model` is a morphable model's file to be tried."""
    yield python_check(sys.version_info[:2])
    yield from package_checks(metadata.requires(_PACKAGE) or [])
    yield egl_check()
    yield weights_check()
    yield model_check(model)
    yield out_check(out)
    yield machine_check(usable_memory())
    yield gpu_check()
    yield server_check(environment)


def python_check(version: tuple[int, int]) -> Check:
    """The interpreter."""
    found = f"{'.'.join(map(str, version))} ({platform.machine()})"
    if version < _LEAST_PYTHON:
        return Check("Python", "broken", found, "install Python 3.11 or newer: PYTHON=/path/to/python3 make setup")
    return Check("Python", "ok", found)


def wanted_by_extra(requirements: Sequence[str]) -> "dict[str, list[Requirement]]":
    """What this machine and this Python are to have for each extra; under "" what is always needed."""
    from packaging.requirements import Requirement

    groups: dict[str, list[Requirement]] = {"": []}
    for text in requirements:
        marked = re.search(r"extra\s*==\s*[\"']([\w-]+)[\"']", text)
        extra, need = marked[1] if marked else "", Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            groups.setdefault(extra, []).append(need)
    return groups


def package_checks(requirements: Sequence[str]) -> Iterator[Check]:
    """The packages that are always needed as one finding, and each extra as another; versions against the bounds."""
    for extra, wanted in wanted_by_extra(requirements).items():
        if extra in _FOR_THE_PROJECT:
            continue
        versions = {need.name: _installed(need.name) for need in wanted}
        missing = [name for name, version in versions.items() if version is None]
        wrong = [
            f"{need.name} {versions[need.name]} (wanted {need.specifier})"
            for need in wanted
            if versions[need.name] and not need.specifier.contains(versions[need.name] or "", prereleases=True)
        ]
        name = f"extra {extra} ({_PURPOSES.get(extra, 'see pyproject.toml')})" if extra else "packages"
        remedy = install_line(extra)
        if wrong or (missing and not extra):
            yield Check(name, "broken", ", ".join([*wrong, *(f"{name} is missing" for name in missing)]), remedy)
        elif missing:
            yield Check(name, "absent", f"without {', '.join(missing)}", remedy)
        else:
            shown = (
                versions.items()
                if extra
                else [item for item in versions.items() if item[0] in ("numpy", "prefect", "zarr")]
            )
            more = "" if extra else f"{len(versions)} as wanted, "
            yield Check(name, "ok", more + ", ".join(f"{name} {version}" for name, version in shown))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def egl_check() -> Check:
    """Whether pyrender draws without a display; in a process of its own, since drivers may end the one that asks."""
    name = "EGL for pyrender"
    if _installed("pyrender") is None:
        return Check(name, "absent", "pyrender is not installed", install_line("render"))
    done = _run([sys.executable, "-c", _EGL])
    if done is None or done.returncode:
        return Check(
            name,
            "broken",
            "pyrender cannot draw here",
            "as root: apt-get install libegl1 libgl1 libgl1-mesa-dri libxrender1",
        )
    return Check(name, "ok", "draws without a display")


def weights_check() -> Check:
    """The 68-point model of dlib's detector."""
    from storage.detector import NoDetector, find_weights

    name = "dlib's 68-point model"
    try:
        return Check(name, "ok", str(find_weights().path))
    except NoDetector:
        return Check(
            name,
            "absent",
            "not where Debian's libdlib-data puts it",
            "as root: apt-get install libdlib-data, or give its path with --weights; non-commercial use only",
        )


def model_check(model: str | Sequence[str] | None) -> Check:
    """The built-in model, or the given one."""
    from geometry import load_model

    try:
        loaded = load_model("built-in" if model is None else model)
    except (ValueError, OSError) as error:
        return Check("model", "broken", str(error), "see README.md, “With your own 300W-LP and BFM”")
    own = "" if model else "; one of your own is tried with --model"
    return Check("model", "ok", f"{loaded.name}, {loaded.n_vertices} vertices{own}")


def out_check(out: str) -> Check:
    """Whether data sets can be written there, and how much room there is."""
    from storage.store import place_of

    place = place_of(out)
    if not isinstance(place, Path):
        return _bucket_check(out)
    name, existing = f"out ({out})", next(folder for folder in (place, *place.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check(name, "broken", f"{existing}: {error.strerror}", "choose an --out that this user may write to")
    free = shutil.disk_usage(existing).free
    found = f"writable, {free / _GIB:.0f} GiB free"
    if free < _FREE_DISK:
        return Check(name, "broken", found, "free some room: 300W-LP as maps of 256² takes about 25 GB")
    return Check(name, "ok", found)


def _bucket_check(out: str) -> Check:
    from storage.stores import store_at

    try:
        names = store_at(out).folders()
    except Exception as error:
        return Check(
            f"out ({out})",
            "broken",
            " ".join(str(error).split())[:200],
            "see docs/storage.md, “S3”: extra s3, AWS_… in the environment",
        )
    return Check(f"out ({out})", "ok", f"readable, {len(names)} folders; whether it can be written to was not tried")


def machine_check(memory: int) -> Check:
    """Cores that this process may use, and memory for as many workers."""
    from storage.processes import usable_cores

    cores = usable_cores()
    found = f"{cores} {'core' if cores == 1 else 'cores'}, {memory / _GIB:.1f} GiB of memory"
    workers = max(1, memory // _MEMORY_PER_WORKER)
    if workers < cores:
        return Check("machine", "absent", found, f"build with --workers {workers}: a worker wants about 1 GiB")
    return Check("machine", "ok", found)


def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's limit."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            memory = min(memory, int(text))
    return memory


def gpu_check() -> Check:
    """Whether torch sees a CUDA device."""
    name = "GPU"
    hardware = shutil.which("nvidia-smi") is not None
    if _installed("torch") is None:
        return Check(name, "absent", "torch is not installed", install_line("train"))
    done = _run([sys.executable, "-c", _GPU])
    if done is None or done.returncode:
        return Check(name, "broken", "torch cannot be imported", install_line("train"))
    if done.stdout.strip():
        return Check(name, "ok", done.stdout.strip())
    remedy = "install torch's CUDA build" if hardware else "training works on the CPU, slowly; building needs none"
    return Check(name, "absent", "none that torch can use", remedy)


def server_check(environment: Mapping[str, str]) -> Check:
    """The Prefect server, where one is named."""
    name, url = "Prefect server", environment.get("PREFECT_API_URL", "")
    if not url:
        return Check(
            name, "absent", "none is named", "builds need none; for one: docs/prefect.md, then export PREFECT_API_URL"
        )
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=5) as answer:
            if answer.status == 200:
                return Check(name, "ok", url)
            problem = f"answers {answer.status}"
    except (OSError, ValueError, urllib.error.URLError) as error:
        problem = str(getattr(error, "reason", error))
    remedy = "start it (prefect server start), or mend PREFECT_API_URL, as in http://127.0.0.1:4200/api"
    return Check(name, "broken", f"{url}: {problem}", remedy)


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return None

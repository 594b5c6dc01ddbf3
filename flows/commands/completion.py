"""What shells offer after Tab, beside the names of commands, options and choices: things that lie on disk.

Each function is called while a line is being typed, so it reads a few folders of this machine, imports nothing large,
never asks an object store, and offers nothing rather than complain.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows import FLOW_NAMES
from train.systems import system_names

AUGMENTATION_NAMES = ("prnet", "densereg", "dan", "fan3d", "mesh_gcn", "everything", "slight")
"""Those of :mod:`render.augmentation_presets`, known before its compiled kernels are loaded."""
_DATASETS = "datasets"
_MANIFEST, _LATEST = "manifest.json", "latest"


def data_sets(ctx: Any, incomplete: str) -> list[str]:
    """Data sets below the folder that was begun, or where data sets lie; below a data set, its versions."""
    start = incomplete if "/" in incomplete else f"{_out(ctx)}/"
    folder = os.path.dirname(start)
    return [
        os.path.join(folder, path.name)
        for path in _folders(folder or "/")
        if (path / _MANIFEST).is_file() or any((version / _MANIFEST).is_file() for version in _folders(path))
    ]


def versions(ctx: Any, incomplete: str) -> list[tuple[str, str]]:
    """Versions of the data set that the line names, the newest first, with the day of their publication."""
    # Behind an option that still waits for its value, arguments are words that nobody has taken yet.
    dataset = _named(ctx, "dataset", "what", "data") or next(iter(ctx.args), None)
    if dataset is None:
        return []
    places = [Path(dataset), Path(_out(ctx), dataset)]  # --data takes a name in --out too
    found = [(when, path.name) for place in places for path in _folders(place) if (when := _published(path))]
    latest = next((text for place in places if (text := _text(place / _LATEST))), "")
    return [
        (name, f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(when))}{', latest' if name in latest else ''}")
        for when, name in sorted(found, reverse=True)
    ]


def _published(version: Path) -> float:
    """When a version was published (s); 0 where it was not."""
    try:
        return (version / _MANIFEST).stat().st_mtime
    except OSError:
        return 0.0


def models(ctx: Any, incomplete: str) -> list[str]:
    """The built-in model, and those that `model import` has written; files are the shell's."""
    return ["built-in", *_matches(ctx, "models/*.ffmodel.npz")]


def checkpoints(ctx: Any, incomplete: str) -> list[str]:
    """Checkpoints of the trainings that lie here."""
    return [*_matches(ctx, "runs/*/*/best.pt"), *_matches(ctx, "runs/*/*/last.pt")]


def systems(ctx: Any, incomplete: str) -> list[str]:
    """This project's systems, and what installed packages add."""
    return list(system_names())


def fits(ctx: Any, incomplete: str) -> list[str]:
    """What can be shown: data sets, and the fits that `fit` writes."""
    here = os.path.dirname(incomplete) or "fits"
    return [*data_sets(ctx, incomplete), *(str(path) for path in sorted(Path(here).glob("*.fit.json")))]


def landmark_schemes(ctx: Any, incomplete: str) -> list[str]:
    """Orders of landmarks."""
    from geometry.landmarks import SCHEMES

    return list(SCHEMES)


def augmentations(ctx: Any, incomplete: str) -> list[str]:
    """Augmentations by name, after a ``+`` too."""
    before = incomplete[: incomplete.rfind("+") + 1]
    return [f"{before}{name}" for name in AUGMENTATION_NAMES]


def target_names(ctx: Any, incomplete: str) -> list[str]:
    """Families of targets, after a comma too."""
    from flows.targets import FAMILIES, POSITION_MAPS

    before = incomplete[: incomplete.rfind(",") + 1]
    return [f"{before}{name}" for name in (POSITION_MAPS, *FAMILIES)]


def switched_flows(ctx: Any, incomplete: str) -> list[str]:
    """Flows that have a schedule or a trigger, to be switched on and off."""
    return [name for name in FLOW_NAMES if name.startswith("train-") or name in ("evaluate", "rebuild", "verify")]


def _named(ctx: Any, *names: str) -> str | None:
    """What the line says for one of these parameters."""
    return next((str(ctx.params[name]) for name in names if ctx.params.get(name)), None)


def _out(ctx: Any) -> str:
    out = _named(ctx, "out") or _DATASETS
    return _DATASETS if "://" in out else out


def _matches(ctx: Any, pattern: str) -> list[str]:
    return [str(path) for path in sorted(Path(_DATASETS).glob(pattern))]


def _folders(folder: str | Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in Path(folder).iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""

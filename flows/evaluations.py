"""Evaluations: which data, by which protocol, into which folder. The measuring is done in ``train/evaluation*.py``.

A protocol says what the data are, which points they have, which errors are taken and where boxes come from, as the paper does.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from flows.progress import ProgressMaker, counted, silent_for
from flows.training import data_place
from geometry.landmarks import SCHEMES, LandmarkScheme, landmark_scheme
from storage.bad_sample import BadSample
from storage.dataset import open_dataset
from storage.evaluation_boxes import RULES, Boxes, boxes_by_rule, boxes_of_file
from storage.evaluation_sets import EvaluationSet, Subset, open_300w, open_aflw2000, open_table
from storage.json_files import parse_json
from storage.manifest import Unpublished
from storage.pose_renders import MARKER, open_pose_renders

DETECTOR = "detector"
DATASETS = "datasets"
"""Where data sets are looked for by name: where builds put them by default."""
_TABLES = (".csv", ".parquet")

Kind = Literal["data set", "aflw2000", "pts", "table", "renders"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a kind of set is measured.

    boxes    the rule that is taken when none is asked for
    passes   crops are cut again about what was found, so often
    """

    kind: Kind
    family: str = ""
    set_name: str = ""
    subset: Subset = "all"
    scheme: str | None = None
    boxes: str = "truth"
    passes: int = 1


PROTOCOLS: Mapping[str, Protocol] = {
    "dataset": Protocol("data set"),
    "aflw2000": Protocol("aflw2000", "dense-fits", scheme="ibug-68"),
    "300w-common": Protocol("pts", "300w", subset="common", scheme="ibug-68"),
    "300w-challenging": Protocol("pts", "300w", subset="challenging", scheme="ibug-68"),
    "300w-full": Protocol("pts", "300w", subset="full", scheme="ibug-68"),
    "300w-private": Protocol("pts", "300w", subset="private", scheme="ibug-68"),
    "menpo": Protocol("pts", "menpo", subset="menpo", scheme="ibug-68", boxes="centre-46", passes=2),
    "pts": Protocol("pts", "300w", scheme="ibug-68"),
    "3dfaw": Protocol("table", "3dfaw", "3DFAW", scheme="3dfaw-66"),
    "aflw": Protocol("table", "sparse", "AFLW", scheme="aflw-21"),
    "aflw-lfpa": Protocol("table", "sparse", "AFLW-LFPA"),
    "300vw": Protocol("table", "tracking", "300VW", scheme="ibug-68"),
    "ears": Protocol("table", "ears", "ears"),
    "florence": Protocol("renders"),
}


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A finished evaluation: its folder, what was written, and the document of ``metrics.json``."""

    folder: Path
    written: tuple[Path, ...]
    document: dict[str, Any]


def evaluate_here(
    checkpoint: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    version: str | None = None,
    protocol: str | None = None,
    pictures: str | os.PathLike[str] | None = None,
    boxes: str | None = None,
    scheme: str | None = None,
    label_yaw: str | os.PathLike[str] | None = None,
    model: str | list[str] | None = None,
    passes: int | None = None,
    latency: bool = True,
    out: str | os.PathLike[str] | None = None,
    progress: ProgressMaker = silent_for,
) -> Evaluated:
    """Measure a checkpoint on `data`: a data set (its folder, or its name in ``datasets``), photographs, a table, or renders.

    version    of a data set; default: the latest
    protocol   a key of :data:`PROTOCOLS`; by default what the data are
    pictures   of a table: the folder that its paths count from; default: the table's own
    boxes      a file (path, left, top, right, bottom), a rule's name, or "detector"; default: the protocol's
    scheme     which points the set has: a name, or a JSON file with the places among the 68 of each point
    model      of AFLW2000-3D: the morphable model of its coefficients, to measure every vertex
    Raises BadCheckpoint, TrainedOnTest, and ValueError, KeyError or FileNotFoundError for data that do not fit.
    """
    from train.evaluation_datasets import evaluate_dataset
    from train.evaluation_photographs import evaluate_photographs
    from train.evaluation_renders import evaluate_renders
    from train.evaluation_report import write_report
    from train.prediction import Predictor, best_device
    from train.processor import processor_name, threads_for
    from train.restore import restore

    data, name = _chosen(data, version, protocol)
    chosen = PROTOCOLS[name]
    device = best_device()
    predictor = Predictor(restore(checkpoint, device=device), device=device)
    with threads_for(predictor.system.network, os.environ):
        if chosen.kind == "data set":
            with counted(progress) as report:
                found = evaluate_dataset(predictor, open_dataset(data, version), progress=report)
        elif chosen.kind == "renders":
            renders = open_pose_renders(data)
            with progress(len(renders)) as report:
                found = evaluate_renders(predictor, renders, progress=report)
        else:
            test = open_test(chosen, Path(data), pictures=pictures, label_yaw=label_yaw)
            with progress(len(test.faces)) as report:
                found = evaluate_photographs(
                    predictor,
                    test,
                    boxes_for(test, boxes or _default_boxes(chosen, test)),
                    family=chosen.family,  # type: ignore[arg-type]
                    scheme=_scheme(scheme or chosen.scheme),
                    passes=chosen.passes if passes is None else passes,
                    model=None if model is None else _loaded(model),
                    progress=report,
                )
        document = {"protocol": name, **found.document}
        if latency:
            document["checkpoint"] |= {
                "latency_ms": round(predictor.latency_ms(), 3),
                "device": str(device),
                "processor": processor_name(),
            }
    whole = type(found)(document, found.errors, found.faces, found.template)
    folder = Path(out) if out is not None else Path("evaluations") / _folder_name(document)
    return Evaluated(folder, tuple(write_report(whole, folder)), document)


def name_of_data(data: str | os.PathLike[str], version: str | None, protocol: str | None) -> tuple[str, str | None]:
    """What is measured, for people: a data set's name and its version, or a folder's or table's own name.

    Raises as :func:`evaluate_here` does for data that do not fit.
    """
    place, name = _chosen(data, version, protocol)
    if PROTOCOLS[name].kind != "data set":
        return Path(place).absolute().name, None
    manifest = open_dataset(place, version).manifest
    return manifest.name, manifest.version


def _chosen(data: str | os.PathLike[str], version: str | None, protocol: str | None) -> tuple[str | Path, str]:
    """Where the data lie, and the name of the protocol."""
    place = data_place(data, DATASETS)
    place = place if "://" in str(place) else Path(place)
    name = protocol or guessed_protocol(place)
    if name not in PROTOCOLS:
        raise ValueError(f"there is no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    if version is not None and PROTOCOLS[name].kind != "data set":
        raise ValueError(f"data sets alone have versions, and {place} is measured by the protocol {name}")
    return place, name


def guessed_protocol(data: str | os.PathLike[str]) -> str:
    """What lies at `data`. Raises ValueError where it takes a word from the user, FileNotFoundError."""
    path = Path(data)
    if "://" in str(data):
        return "dataset"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give a data set, a folder of photographs, a table or renders")
    if path.is_file():
        if path.suffix.lower() not in _TABLES:
            raise ValueError(
                f"{path} is no table ({', '.join(_TABLES)}); give a data set, a folder of photographs, a table or renders"
            )
        tables = ", ".join(name for name, protocol in PROTOCOLS.items() if protocol.kind == "table")
        raise ValueError(f"{path} is a table: say by --protocol what it holds ({tables})")
    if (path / MARKER).is_file():
        return "florence"
    try:
        from storage.dataset import version_store

        version_store(path)
    except Unpublished:
        pass
    else:
        return "dataset"
    names = [file.name for _, file in zip(range(10_000), path.rglob("*.*"), strict=False)]
    if any(name.lower().endswith(".pts") for name in names):
        raise ValueError(
            f"{path} has .pts files: say by --protocol which set it is (300w-common, 300w-full, menpo, pts, …)"
        )
    if any(name.lower().endswith(".mat") for name in names):
        return "aflw2000"
    raise ValueError(
        f"{path} is no data set, no folder of renders, and has no .pts or .mat files: there is no truth in it"
    )


def open_test(
    protocol: Protocol,
    data: Path,
    *,
    pictures: str | os.PathLike[str] | None = None,
    label_yaw: str | os.PathLike[str] | None = None,
) -> EvaluationSet:
    """The faces of a protocol's data."""
    if protocol.kind == "aflw2000":
        return open_aflw2000(data, label_yaw=None if label_yaw is None else Path(label_yaw))
    if protocol.kind == "pts":
        return open_300w(data, protocol.subset)
    return open_table(data, data.parent if pictures is None else Path(pictures), name=protocol.set_name or None)


def boxes_for(test: EvaluationSet, boxes: str) -> Boxes:
    """Boxes by a rule's name, by the detector, or from a file. Raises NoDetector, ValueError."""
    if boxes == DETECTOR:
        return _detected(test)
    if boxes in RULES:
        return boxes_by_rule(test.faces, boxes)  # type: ignore[arg-type]
    if not Path(boxes).is_file():
        raise ValueError(f"{boxes!r} is no file of boxes, and no rule: there are {', '.join((*RULES, DETECTOR))}")
    return boxes_of_file(test.faces, boxes)


def _detected(test: EvaluationSet) -> Boxes:
    from storage.detector import FaceDetector

    detector = FaceDetector()
    found: list[np.ndarray | None] = []
    for face in test.faces:
        try:
            found.append(detector.landmark_box(face.read_picture()))
        except BadSample:
            found.append(None)
    source = f"dlib {detector.version}'s largest face, lowered and enlarged as PRNet's demonstration does"
    return Boxes(source, tuple(found))


def _default_boxes(protocol: Protocol, test: EvaluationSet) -> str:
    if protocol.kind == "table" and all(face.box_px is not None for face in test.faces):
        return "table"
    return protocol.boxes


def _scheme(name: str | None) -> LandmarkScheme | None:
    if name is None:
        return None
    return read_scheme(name) if name.endswith(".json") else landmark_scheme(name)


def read_scheme(name: str) -> LandmarkScheme:
    """The scheme of a JSON file: for each point its places among the 68. Raises ValueError for another file, and OSError."""
    try:
        content = parse_json(Path(name).read_bytes())
        places = tuple(tuple(int(place) for place in point) for point in content)  # type: ignore[attr-defined]
    except (ValueError, TypeError):
        raise ValueError(
            f"{name} is no scheme: write [[17], [19], [37, 40], …], the places among the 68 (from zero) of each point; "
            f"named ones are {', '.join(SCHEMES)}"
        ) from None
    return LandmarkScheme(Path(name).stem, places)


def _loaded(model: str | list[str]) -> Any:
    from geometry.models import load_model

    return load_model(model)


def _folder_name(document: dict[str, Any]) -> str:
    slug = "".join(c if c.isalnum() else "-" for c in document["set"].lower())[:40].strip("-")
    return f"{document['system']}-{document['checkpoint']['sha256'][:8]}-{slug}"

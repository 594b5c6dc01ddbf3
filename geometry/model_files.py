"""Foreign morphable model files: which is which by their content, and together one :class:`DenseModel`.

Only this module and the two readers behind it know MATLAB and HDF5 model files.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from geometry import model_hdf5, model_matlab
from geometry.landmarks import N_LANDMARKS
from geometry.model_archive import is_archive, open_model
from geometry.model_checks import LinearPart, ModelFileError, check_landmarks
from geometry.morphable_model import REGION_NAMES, DenseModel
from geometry.regions import regions_from_landmarks

_LICENCE = (
    "{name}: (c) University of Basel. For research and teaching under the licence you accepted when you downloaded it; "
    "neither the file nor a converted copy may be passed on."
)
_MODEL_KINDS = ("archive", "hdf5", "bfm2009", "300wlp-shape", "face3d")
_SIDE_KINDS = {
    "300wlp-expression": "an expression file",
    "tables": "a file of tables with trimIndex",
    "uv": "a file of UV coordinates",
    "landmarks": "a list of 68 landmark vertices",
}
_SUFFIXES = (".mat", ".h5", ".hdf5", ".ffmodel.npz")
_MOST_FILES_IN_A_FOLDER = 100
# A list of points that is right lies within a fold of skin of the file's own named points.
_NAMED_POINT_TOLERANCE_MM = 10.0


@dataclass(frozen=True, slots=True)
class _Source:
    """A file and what it is for; `matlab` where it is a MATLAB file."""

    path: Path
    kind: str
    matlab: model_matlab.MatlabFile | None = None


def read_model_files(paths: Sequence[Path]) -> DenseModel:
    """One model from the files of a Basel model (or a folder of them), in millimetres, counting from zero.

    Accepted together: one model (`01_MorphableModel.mat`, `Model_Shape.mat`, `BFM.mat`, a BFM 2017/2019 `.h5`, or our
    own archive), and beside a MATLAB one an expression file, a file with `trimIndex`, `BFM_UV.mat`; beside any foreign
    one a list of 68 landmark vertices counting from zero (text or JSON). Raises ModelFileError with what is wrong.
    """
    sources = _sources(paths)
    base = _base(sources)
    beside = {kind: _only(sources, kind, what) for kind, what in _SIDE_KINDS.items()}
    if base.kind == "archive":
        _refuse(base, beside, ("300wlp-expression", "tables", "uv", "landmarks"))
        return open_model(base.path)
    given = _landmark_list(beside["landmarks"].path) if beside["landmarks"] else None
    if base.matlab is None:
        _refuse(base, beside, ("300wlp-expression", "tables", "uv"))
        return _from_hdf5(model_hdf5.read_hdf5_model(base.path), given)
    if base.kind == "face3d":
        _refuse(base, beside, ("300wlp-expression",))
    matlab = {kind: source.matlab if source else None for kind, source in beside.items()}
    return _from_matlab(
        model_matlab.read_matlab_model(
            base.matlab, expression=matlab["300wlp-expression"], tables=matlab["tables"], uv=matlab["uv"]
        ),
        given,
    )


# ---------------------------------------------------------------- which file is what


def _sources(paths: Sequence[Path]) -> list[_Source]:
    sources = []
    for path in paths:
        if path.is_dir():
            found = [_recognise(inside) for inside in _model_files_in(path)]
            sources += [source for source in found if source is not None]
        elif not path.exists():
            raise FileNotFoundError(f"{path}: there is no such model file or folder")
        else:
            source = _recognise(path)
            if source is None:
                raise ModelFileError(
                    f"{path.name} is a MATLAB file without a morphable model in it (none of shapeMU, mu_shape, mu_exp, "
                    "model, trimIndex, UV): give 01_MorphableModel.mat, Model_Shape.mat, BFM.mat or a BFM 2017/2019 .h5"
                )
            sources.append(source)
    return sources


def _model_files_in(folder: Path) -> list[Path]:
    named = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name.endswith(_SUFFIXES)]
    lists = [path for path in sorted(folder.glob("landmarks*")) if path.suffix in (".txt", ".json")]
    if not named or len(named) > _MOST_FILES_IN_A_FOLDER:
        raise ModelFileError(
            f"{folder.name}/ holds {len(named)} files named {', '.join('*' + suffix for suffix in _SUFFIXES)}; "
            "a folder of a morphable model holds a few: name the model's files"
        )
    return named + lists


def _recognise(path: Path) -> _Source | None:
    """What a file is, by its first bytes; None for MATLAB files that hold nothing of a model."""
    with path.open("rb") as file:
        head = file.read(1024)
    _refuse_by_first_bytes(path, head)
    if head.startswith(b"PK\x03\x04"):
        if not is_archive(path):
            raise ModelFileError(
                f"{path.name} is a zip file, but not one that `facefoundry model import` wrote; unpack it"
            )
        return _Source(path, "archive")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _Source(path, "hdf5")
    if head.startswith(b"MATLAB 5.0"):
        matlab = model_matlab.recognise(path)
        return None if matlab is None else _Source(path, matlab.kind, matlab)
    if path.suffix in (".txt", ".json"):
        return _Source(path, "landmarks")
    raise ModelFileError(
        f"{path.name} is neither a MATLAB 5 nor an HDF5 file (it begins with {head[:16]!r}): not a morphable model as "
        "published"
    )


def _refuse_by_first_bytes(path: Path, head: bytes) -> None:
    """Say what a file is when it is something that often lies where a model should."""
    text = head.lstrip().lower()
    if not head:
        raise ModelFileError(f"{path.name} is empty: copy or download it again")
    if path.suffix in (".pkl", ".pickle") or (head[0] == 0x80 and 2 <= head[1] <= 5):
        raise ModelFileError(
            f"{path.name} is a Python pickle: opening one runs whatever code it holds, so none is ever opened here. "
            "Take the published .mat or .h5 file"
        )
    if text.startswith((b"<!doctype html", b"<html")) or b"<html" in text:
        raise ModelFileError(
            f"{path.name} is a web page, not a model (a log-in or error page saved under its name): download it again "
            "while logged in"
        )
    if head.startswith(b"version https://git-lfs"):
        raise ModelFileError(
            f"{path.name} is a Git LFS pointer of a few lines; fetch the file itself with `git lfs pull`"
        )
    if head.startswith(b"MATLAB 7.3"):
        raise ModelFileError(
            f"{path.name} is a MATLAB 7.3 file (HDF5 inside), as no Basel model is published: save it again in MATLAB "
            "with save(..., '-v7')"
        )
    if head.startswith(b"\x1f\x8b"):
        raise ModelFileError(f"{path.name} is compressed with gzip: unpack it first")


def _base(sources: list[_Source]) -> _Source:
    """The one file that is the model."""
    models = [source for source in sources if source.kind in _MODEL_KINDS]
    if {source.kind for source in models} == {"bfm2009", "300wlp-shape"}:
        models = [source for source in models if source.kind == "300wlp-shape"]  # the same model, cut already
    if not models:
        names = ", ".join(source.path.name for source in sources) or "nothing that belongs to a model"
        raise ModelFileError(
            f"no file with a mean face and its identity basis among: {names}. Add 01_MorphableModel.mat, "
            "Model_Shape.mat, BFM.mat or a .h5 of BFM 2017/2019"
        )
    if len(models) > 1:
        names = ", ".join(f"{source.path.name} ({source.kind})" for source in models)
        raise ModelFileError(f"several models at once: {names}. Name the one you want")
    return models[0]


def _only(sources: list[_Source], kind: str, what: str) -> _Source | None:
    found = [source for source in sources if source.kind == kind]
    if len(found) > 1:
        raise ModelFileError(
            f"more than {what}: {', '.join(source.path.name for source in found)}. Name the one you want"
        )
    return found[0] if found else None


def _refuse(base: _Source, beside: dict[str, _Source | None], kinds: tuple[str, ...]) -> None:
    """Refuse files that add nothing to `base`, since whoever gave them expects otherwise."""
    for kind in kinds:
        source = beside[kind]
        if source is not None:
            raise ModelFileError(
                f"{source.path.name} ({_SIDE_KINDS[kind]}) cannot be combined with {base.path.name} ({base.kind}): "
                "leave it out"
            )


def _landmark_list(path: Path) -> Int32[np.ndarray, "68"]:
    """68 vertices, counting from zero, in the order of the iBUG scheme: JSON, or numbers between blanks or commas."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        values = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [int(word) for word in text.replace(",", " ").split()]
        )
        vertices = np.array(values)
    except ValueError as error:
        raise ModelFileError(f"{path.name} is not a list of vertex indices ({error})") from error
    if vertices.dtype.kind != "i" or vertices.shape != (N_LANDMARKS,) or len(np.unique(vertices)) != N_LANDMARKS:
        raise ModelFileError(
            f"{path.name} holds {vertices.size} values, {len(np.unique(vertices))} of them different; a landmark "
            "list is 68 different vertex indices, counting from zero, in the iBUG order"
        )
    return vertices.astype(np.int32)


# ---------------------------------------------------------------- to the model frame


def _from_matlab(raw: model_matlab.MatlabModel, given: np.ndarray | None) -> DenseModel:
    landmarks = raw.landmark_vertices if given is None else given
    if landmarks is None:
        raise ModelFileError(
            f"{raw.file} has {raw.identity.n_vertices} vertices and names no landmarks: add a text file with the 68 "
            "landmark vertices, counting from zero, in the iBUG order"
        )
    model = _dense(raw, landmarks, mm_per_unit=1e-3)
    return _with_tables(model, raw)


def _from_hdf5(raw: model_hdf5.Hdf5Model, given: np.ndarray | None) -> DenseModel:
    if given is None:
        named = ", ".join(str(index) for index in sorted(raw.named_points)) or "none"
        raise ModelFileError(
            f"{raw.file} names {len(raw.named_points)} of the 68 landmarks (iBUG {named}, counting from zero) and no "
            "jaw: add a text file with the 68 landmark vertices, counting from zero, in the iBUG order"
        )
    model = _dense(raw, given, mm_per_unit=1.0)
    neutral = raw.identity.mean.reshape(-1, 3)
    for index, point in raw.named_points.items():
        distance = float(np.linalg.norm(neutral[given[index]] - point))
        if distance > _NAMED_POINT_TOLERANCE_MM:
            raise ModelFileError(
                f"landmark {index} of the list is vertex {given[index]}, {distance:.0f} mm from where {raw.file} "
                "itself has that point: the list belongs to another model, or is not in the iBUG order from zero"
            )
    return model


def _dense(
    raw: model_matlab.MatlabModel | model_hdf5.Hdf5Model, landmarks: np.ndarray, *, mm_per_unit: float
) -> DenseModel:
    """mean = mean identity + mean expression; bases in mm per unit of the file's own coefficients."""
    identity, expression = raw.identity, raw.expression or _no_expression(raw.identity)
    n_vertices = identity.n_vertices
    if landmarks.min() < 0 or landmarks.max() >= n_vertices:
        raise ModelFileError(
            f"the landmark list refers to vertex {landmarks.max()} but {raw.file} has {n_vertices} vertices, 0 to "
            f"{n_vertices - 1}"
        )
    mean = ((identity.mean + expression.mean) * mm_per_unit).astype(np.float32).reshape(-1, 3)
    check_landmarks(raw.file, mean, landmarks)
    return DenseModel(
        name=raw.name,
        licence=_LICENCE.format(name=raw.name),
        mean=mean,
        identity_basis=identity.basis * np.float32(mm_per_unit),
        expression_basis=expression.basis * np.float32(mm_per_unit),
        identity_stddevs=identity.stddevs,
        expression_stddevs=expression.stddevs,
        triangles=raw.triangles,
        landmark_vertices=landmarks,
        regions=regions_from_landmarks(mean, landmarks),
    )


def _no_expression(identity: LinearPart) -> LinearPart:
    zero = np.zeros_like(identity.mean)
    return LinearPart(identity.file, zero, np.zeros((0, len(zero)), np.float32), np.zeros(0))


def _with_tables(model: DenseModel, raw: model_matlab.MatlabModel) -> DenseModel:
    """The model with what only MATLAB files bring."""
    regions = _refined(model.regions, raw.segments) if raw.segments else model.regions
    return dataclasses.replace(
        model, closing_triangles=raw.closing_triangles, mirror=raw.mirror, uv=raw.uv, regions=regions
    )


def _refined(regions: UInt8[np.ndarray, "v"], segments: dict[str, np.ndarray]) -> UInt8[np.ndarray, "v"]:
    """Eyes, nose and mouth from the file's segments; the rest, and the brows within its eyes, from the landmarks."""
    code = {name: number for number, name in enumerate(REGION_NAMES)}
    refined = regions.copy()
    refined[np.isin(regions, [code["eyes"], code["nose"], code["mouth"]])] = code["cheek_jaw"]
    for name in ("eyes", "nose", "mouth"):
        refined[segments[name] & (regions != code["brows"])] = code[name]
    return refined

"""Morphable models in MATLAB 5 files: BFM 2009, its 300W-LP cut, face3d's `BFM.mat`, and the tables beside them.

========================  =====================================================  ==================================
kind                      known by its variables                                 published as
========================  =====================================================  ==================================
bfm2009                   shapeMU shapePC shapeEV tl                             01_MorphableModel.mat
300wlp-shape              mu_shape w sigma tri                                   Model_Shape.mat
300wlp-expression         mu_exp w_exp sigma_exp                                 Model_Exp.mat, Model_Expression.mat
face3d                    struct `model`                                         BFM.mat
tables                    trimIndex, alone or in a struct `model_info`           model_info.mat, BFM_info.mat
uv                        UV                                                     BFM_UV.mat
========================  =====================================================  ==================================

Lengths are µm, spreads are standard deviations (`shapeEV` too, in spite of its name), indices count from one, triangles
are wound inward. A file is asked for its list of variables first; only the ones needed are read, and nothing is built
from it that could run code.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from jaxtyping import Float, Int32
from scipy.io.matlab import MatReadError

from geometry.mesh import submesh
from geometry.model_checks import (
    LinearPart,
    ModelFileError,
    check_identity_spread,
    check_part_shapes,
    check_size,
    check_unit_columns,
    checked_part,
    wound_outward,
)
from geometry.model_tables import (
    N_CUT,
    N_WHOLE,
    Tables,
    closing_triangles,
    landmarks,
    mirror,
    segments,
    triangles,
    trim_index,
    uv_coordinates,
)

_PART_NAMES = {
    "bfm2009": ("shapeMU", "shapePC", "shapeEV"),
    "300wlp-shape": ("mu_shape", "w", "sigma"),
    "300wlp-expression": ("mu_exp", "w_exp", "sigma_exp"),
    "face3d": ("shapeMU", "shapePC", "shapeEV"),
}
_FACE3D_EXPRESSION_NAMES = ("expMU", "expPC", "expEV")
_TABLE_NAMES = ("tl", "tri", "tri_mouth", "keypoints", "kpt_ind", "symlist", "segbin", "trimIndex", "UV")
_STRUCTS = {"face3d": "model", "tables": "model_info"}
_READ_FAILURES = (
    MatReadError, ValueError, TypeError, KeyError, IndexError, OSError, EOFError, OverflowError, MemoryError, zlib.error
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MatlabFile:
    """A MATLAB file and what it is for; `contents` maps each variable's name to its shape and class."""

    path: Path
    kind: str
    contents: dict[str, tuple[tuple[int, ...], str]]


@dataclass(frozen=True, slots=True)
class MatlabModel:
    """A model brought to one vertex numbering that counts from zero; the lengths are still µm."""

    file: str
    name: str
    identity: LinearPart
    expression: LinearPart | None
    triangles: Int32[np.ndarray, "t 3"]
    closing_triangles: Int32[np.ndarray, "c 3"]
    landmark_vertices: Int32[np.ndarray, "68"] | None
    mirror: Int32[np.ndarray, "v"] | None
    segments: dict[str, np.ndarray]
    uv: Float[np.ndarray, "v 2"] | None


def recognise(path: Path) -> MatlabFile | None:
    """What a MATLAB file is, by the names of its variables; None when it holds nothing of a model."""
    _check_whole(path)
    try:
        contents = {name: (tuple(shape), kind) for name, shape, kind in scipy.io.whosmat(path)}
    except _READ_FAILURES as error:
        raise _damaged(path, error) from error
    if "Pose_Para" in contents or "pt2d" in contents:
        raise ModelFileError(
            f"{path.name} is the annotation of one photograph (it holds {', '.join(sorted(contents)[:4])}), "
            "not a morphable model"
        )
    if contents.get("model", ((), ""))[1] == "struct":
        return MatlabFile(path, "face3d", contents)
    for kind in ("bfm2009", "300wlp-shape", "300wlp-expression"):
        if len(contents.keys() & set(_PART_NAMES[kind])) >= 2:
            return MatlabFile(path, kind, contents)
    if "trimIndex" in contents or "model_info" in contents:
        return MatlabFile(path, "tables", contents)
    return MatlabFile(path, "uv", contents) if "UV" in contents else None


def read_matlab_model(
    base: MatlabFile, *, expression: MatlabFile | None, tables: MatlabFile | None, uv: MatlabFile | None
) -> MatlabModel:
    """The model of `base` with the files beside it; BFM 2009 is cut to 53,215 vertices when `tables` holds `trimIndex`.

    Raises ModelFileError when files are damaged, incomplete, or do not belong together.
    """
    own = _read(base)
    sources = tuple(_read(file) for file in (tables,) if file is not None)
    names = _PART_NAMES[base.kind]
    whole = _part(own, names)
    trim = trim_index(sources, N_WHOLE)
    cut = trim if base.kind == "bfm2009" and whole.n_vertices == N_WHOLE else None
    outward = wound_outward(whole.mean.reshape(-1, 3), triangles((own, *sources), base.kind, whole.n_vertices))
    identity = whole
    if cut is not None:
        identity = whole.at_vertices(cut)
        outward, _ = submesh(outward, np.isin(np.arange(whole.n_vertices), cut))
    _check_identity(identity, names)
    expressive = _expression(base, own, expression, identity)
    mean = (identity.mean + (expressive.mean if expressive else 0)).reshape(-1, 3)
    n, in_order = identity.n_vertices, (own, *sources)
    return MatlabModel(
        file=own.file,
        name=_model_name(base.kind, n),
        identity=identity,
        expression=expressive,
        triangles=outward,
        closing_triangles=closing_triangles(in_order, mean),
        landmark_vertices=landmarks(in_order, n),
        mirror=mirror(in_order, mean),
        segments=segments(in_order, n, trim),
        uv=None if uv is None else uv_coordinates(_read(uv), n, trim),
    )


def _model_name(kind: str, n_vertices: int) -> str:
    if kind == "bfm2009":
        return "BFM 2009, whole" if n_vertices == N_WHOLE else "BFM 2009, cut to the vertices of 300W-LP"
    return "BFM 2009, face3d's BFM.mat" if kind == "face3d" else "BFM 2009, 300W-LP's cut"


# ---------------------------------------------------------------- reading variables


def _damaged(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(
        f"{path.name} cannot be read to its end ({type(error).__name__}: {error}): "
        f"its {path.stat().st_size:,} bytes are cut short or damaged; copy or download it again"
    )


def _check_whole(path: Path) -> None:
    """Refuse a file whose last variable ends after the file does: SciPy would leave it out without a word."""
    size = path.stat().st_size
    with path.open("rb") as file:
        order = "<" if file.read(128)[126:] == b"IM" else ">"
        end = 128
        while end < size:
            file.seek(end)
            tag = file.read(8)  # each variable begins with its type and its number of bytes
            end += 8 + struct.unpack(order + "2I", tag)[1] if len(tag) == 8 else 8
    if end > size or end == 128:
        raise ModelFileError(
            f"{path.name} cannot be read to its end: its last variable ends at byte {end:,} but the file has {size:,} "
            "bytes: it is cut short; copy or download it again"
        )


def _read(file: MatlabFile) -> Tables:
    """The needed variables of a file; where it has a linear part, its shapes are checked before anything is read."""
    names = _PART_NAMES.get(file.kind, ())
    struct = _STRUCTS.get(file.kind)
    if struct in file.contents:
        return Tables(file.path.name, _fields(file.path.name, struct, _load(file.path, [struct])[struct]))
    _require(file.path.name, names, set(file.contents))
    if names:
        check_part_shapes(file.path.name, names, *(file.contents[name][0] for name in names))
    wanted = [name for name in (*names, *_TABLE_NAMES) if name in file.contents]
    return Tables(file.path.name, _load(file.path, wanted))


def _load(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    try:
        found = scipy.io.loadmat(path, variable_names=names)
        missing = [name for name in names if name not in found]
        if missing:
            raise EOFError(f"{', '.join(missing)} is announced and does not come")
    except _READ_FAILURES as error:
        raise _damaged(path, error) from error
    return {name: found[name] for name in names}


def _fields(file: str, name: str, value: np.ndarray) -> dict[str, np.ndarray]:
    if value.dtype.names is None or value.size != 1:
        raise ModelFileError(f"{file}: {name} is not a single struct, as face3d writes it")
    record = value.reshape(-1)[0]
    return {field: np.asarray(record[field]) for field in value.dtype.names}


def _require(file: str, names: tuple[str, ...], present: set[str]) -> None:
    missing = [name for name in names if name not in present]
    if missing:
        raise ModelFileError(
            f"{file} lacks {' and '.join(missing)} (it holds {', '.join(sorted(present)[:12])}): "
            "take the published file, not an extract of it"
        )


# ---------------------------------------------------------------- the linear parts


def _part(tables: Tables, names: tuple[str, str, str]) -> LinearPart:
    _require(tables.file, names, set(tables.variables))
    return checked_part(tables.file, names, *(tables.variables[name] for name in names))


def _check_identity(identity: LinearPart, names: tuple[str, str, str]) -> None:
    check_size(identity.file, identity.mean.reshape(-1, 3) * 1e-3, unit="µm")
    # A cut leaves out rows of unit columns, so its columns are a little shorter.
    check_unit_columns(identity, names[1], tolerance=1e-2 if identity.n_vertices == N_WHOLE else 0.1)
    check_identity_spread(identity, names[2], mm_per_unit=1e-3, stored_as="standard deviations")


def _expression(base: MatlabFile, own: Tables, file: MatlabFile | None, identity: LinearPart) -> LinearPart | None:
    """The expression part, of its own file or of face3d's struct; BFM 2009 alone has none."""
    if file is not None:
        part = _part(_read(file), _PART_NAMES["300wlp-expression"])
    elif base.kind == "face3d":
        part = _part(own, _FACE3D_EXPRESSION_NAMES)
    else:
        return None
    if part.n_vertices != identity.n_vertices:
        remedy = ""
        if (identity.n_vertices, part.n_vertices) == (N_WHOLE, N_CUT):
            remedy = "; add the file with trimIndex (model_info.mat or BFM_info.mat), or leave the expression out"
        raise ModelFileError(
            f"{part.file} moves {part.n_vertices} vertices but {identity.file} has {identity.n_vertices}{remedy}"
        )
    return part

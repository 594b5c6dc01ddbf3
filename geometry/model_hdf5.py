"""Basel Face Models of 2017 and 2019 in HDF5 files.

Groups `shape` and `expression`, each `model/{mean (3V), pcaBasis (3V, K), pcaVariance (K)}`; triangles in
`shape/representer/cells` (3, T), counting from zero; some named points in `metadata/landmarks/json`. Lengths are mm,
and the spread is stored as a **variance**, so the standard deviation is its root. The colour model is not read.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int32

from geometry.model_checks import (
    LinearPart,
    ModelFileError,
    check_identity_spread,
    check_part_shapes,
    check_size,
    checked_part,
    from_zero_based,
    wound_outward,
)

_PUBLISHED = {
    53_149: "BFM 2017",
    28_588: "BFM 2017, face12",
    47_439: "BFM 2019",
    27_657: "BFM 2019, face12",
    58_203: "BFM 2019, full head",
}

IBUG_OF_NAME = {
    "center.chin.tip": 8,
    "center.nose.tip": 30,
    "right.eye.corner_outer": 36,
    "right.eye.corner_inner": 39,
    "left.eye.corner_inner": 42,
    "left.eye.corner_outer": 45,
    "right.lips.corner": 48,
    "center.lips.upper.outer": 51,
    "left.lips.corner": 54,
    "center.lips.lower.outer": 57,
    "center.lips.upper.inner": 62,
    "center.lips.lower.inner": 66,
}
"""Which of the 68 points the named points of the files are, counting from zero. The jaw has no names."""


@dataclass(frozen=True, slots=True)
class Hdf5Model:
    """A model as read, in mm, with the named points among the 68: {iBUG index: position (3,) in mm}."""

    file: str
    name: str
    identity: LinearPart
    expression: LinearPart | None
    triangles: Int32[np.ndarray, "t 3"]
    named_points: dict[int, np.ndarray]


def read_hdf5_model(path: Path) -> Hdf5Model:
    """Read a BFM 2017 or 2019.

    Raises ModelFileError when the file is damaged, is no such model, or contradicts itself.
    """
    try:
        with h5py.File(path, "r") as file:
            return _read(path.name, file)
    except (OSError, RuntimeError, KeyError) as error:
        raise ModelFileError(
            f"{path.name} cannot be read to its end ({error}): its {path.stat().st_size:,} bytes are cut short or "
            "damaged; copy or download it again"
        ) from error


def _read(name: str, file: h5py.File) -> Hdf5Model:
    if "shape" not in file:
        raise ModelFileError(
            f"{name} is an HDF5 file without the group 'shape' (it holds {', '.join(sorted(file)[:8]) or 'nothing'}): "
            "not a Basel Face Model of 2017 or 2019"
        )
    identity = _part(name, file, "shape")
    expression = _part(name, file, "expression") if "expression" in file else None
    check_size(name, identity.mean.reshape(-1, 3), unit="mm")
    check_identity_spread(identity, "shape/model/pcaVariance", mm_per_unit=1.0, stored_as="variances")
    if expression is not None and expression.n_vertices != identity.n_vertices:
        raise ModelFileError(
            f"{name}: expression moves {expression.n_vertices} vertices but shape has {identity.n_vertices}"
        )
    return Hdf5Model(
        file=name,
        name=_PUBLISHED.get(identity.n_vertices, f"Basel Face Model with {identity.n_vertices:,} vertices"),
        identity=identity,
        expression=expression,
        triangles=_triangles(name, file, identity),
        named_points=_named_points(name, file),
    )


def _dataset(name: str, file: h5py.File, key: str) -> h5py.Dataset:
    found = file.get(key)
    if not isinstance(found, h5py.Dataset):
        raise ModelFileError(f"{name} lacks the data set {key}: take the published file, not an extract of it")
    return found


def _part(name: str, file: h5py.File, group: str) -> LinearPart:
    keys = (f"{group}/model/mean", f"{group}/model/pcaBasis", f"{group}/model/pcaVariance")
    datasets = [_dataset(name, file, key) for key in keys]
    check_part_shapes(name, keys, *(dataset.shape for dataset in datasets))
    mean, basis, variance = (dataset[()] for dataset in datasets)
    part = checked_part(name, keys, mean, basis, variance)
    return LinearPart(name, part.mean, part.basis, np.sqrt(part.stddevs))


def _triangles(name: str, file: h5py.File, identity: LinearPart) -> Int32[np.ndarray, "t 3"]:
    key = "shape/representer/cells"
    dataset = _dataset(name, file, key)
    if len(dataset.shape) != 2 or 3 not in dataset.shape:
        raise ModelFileError(f"{name}: {key} has shape {dataset.shape}; triangles are 3 × T")
    if dataset.shape[0] != 3:
        raise ModelFileError(
            f"{name}: {key} is transposed, {dataset.shape} where this format has 3 × T; "
            "transpose it, or take the published file"
        )
    triangles = from_zero_based(name, key, dataset[()].T, identity.n_vertices)
    return wound_outward(identity.mean.reshape(-1, 3), triangles)


def _named_points(name: str, file: h5py.File) -> dict[int, Float[np.ndarray, "3"]]:
    dataset = file.get("metadata/landmarks/json")
    if dataset is None:
        return {}
    value = np.asarray(dataset[()]).reshape(-1)[0]
    try:
        points = json.loads(value)
        return {
            IBUG_OF_NAME[point["id"]]: np.array(point["coordinates"], dtype=np.float64).reshape(3)
            for point in points
            if point["id"] in IBUG_OF_NAME
        }
    except (ValueError, TypeError, KeyError) as error:
        raise ModelFileError(f"{name}: metadata/landmarks/json is not a list of named points ({error})") from error

"""The tables beside a Basel model of 2009: triangles, landmarks, the other side's vertex, segments, UV coordinates.

Each function takes the files that may hold a table in order of preference, reads the first that does, and says what is
wrong with it; indices come out counting from zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int32

from geometry.landmarks import N_LANDMARKS
from geometry.model_checks import ModelFileError, from_one_based

N_WHOLE = 53_490
"""Vertices of BFM 2009 as published."""
N_CUT = 53_215
"""Vertices of its 300W-LP cut: the 275 of the inner mouth are left out."""

# fmt: off
CUT_LANDMARKS = np.array([
    21874, 22150, 21654, 21037, 43237, 44919, 46167, 47136, 47915, 48696, 49668, 50925, 52614, 33679, 33006, 32470,
    32710, 38696, 39393, 39783, 39988, 40155, 40894, 41060, 41268, 41662, 42368, 8162, 8178, 8188, 8193, 6516, 7244,
    8205, 9164, 9884, 2216, 3887, 4921, 5829, 4802, 3641, 10456, 11354, 12384, 14067, 12654, 11493, 5523, 6026, 7496,
    8216, 8936, 10396, 10796, 9556, 8837, 8237, 7637, 6916, 5910, 7385, 8224, 9065, 10538, 8830, 8230, 7630,
], dtype=np.int32) - 1
"""The vertices of the 68 points in the 300W-LP cut (published counting from one, as `keypoints` or `kpt_ind`)."""

# How many of the 275 vertices of the inner mouth come before each of them in the whole model.
_LEFT_OUT_BEFORE = np.array([
    275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275, 275,
    275, 275, 275, 275, 129, 129, 129, 129, 10, 57, 129, 201, 254, 0, 0, 0, 0, 0, 0, 275, 275, 275, 275, 275, 275, 0,
    0, 75, 129, 183, 274, 275, 237, 183, 138, 93, 39, 0, 66, 129, 192, 275, 183, 138, 93,
], dtype=np.int32)
# fmt: on
WHOLE_LANDMARKS = CUT_LANDMARKS + _LEFT_OUT_BEFORE
"""The same points in the 53,490 vertices of BFM 2009."""

SEGMENTS = ("nose", "eyes", "mouth", "rest")
"""The rows of `segbin`."""
# 14 vertices about the lips of the published symlist have a partner that has another partner; many more are damage.
_MOST_ONE_SIDED = 64


@dataclass(frozen=True, slots=True)
class Tables:
    """The variables of one file, under the file's own names."""

    file: str
    variables: Mapping[str, np.ndarray]


def _first(sources: tuple[Tables, ...], *names: str) -> tuple[str, str, np.ndarray] | None:
    """File, name and value of the first variable found."""
    for tables in sources:
        for name in names:
            if name in tables.variables:
                return tables.file, name, tables.variables[name]
    return None


def trim_index(sources: tuple[Tables, ...], n_vertices: int) -> Int32[np.ndarray, "n"] | None:
    """Which vertices of the whole model the cut keeps, ascending."""
    found = _first(sources, "trimIndex")
    if found is None:
        return None
    file, name, stored = found
    trim = from_one_based(file, name, stored.ravel(), n_vertices, covers_all=False)
    if len(trim) != N_CUT or (np.diff(trim) <= 0).any():
        raise ModelFileError(
            f"{file}: {name} holds {len(trim)} vertices, ascending: {bool((np.diff(trim) > 0).all())}; "
            f"the published one holds {N_CUT} ascending ones"
        )
    return trim


def triangles(sources: tuple[Tables, ...], kind: str, n_vertices: int) -> Int32[np.ndarray, "t 3"]:
    """`tl` (T × 3) of BFM 2009, or `tri` (3 × T) of its cuts, wound as stored."""
    wanted, by_rows = ("tl", True) if kind == "bfm2009" else ("tri", False)
    found = _first(sources, wanted)
    if found is None:
        files = " and ".join(tables.file for tables in sources)
        raise ModelFileError(f"{files}: no triangles ({wanted}); take the published file, not an extract of it")
    file, name, stored = found
    expected = "T × 3" if by_rows else "3 × T"
    if stored.ndim != 2 or 3 not in stored.shape:
        raise ModelFileError(f"{file}: {name} has shape {stored.shape}; triangles are {expected}")
    if (stored.shape[1] == 3) != by_rows:
        raise ModelFileError(
            f"{file}: {name} is transposed, {stored.shape} where this format has {expected}; "
            "transpose it, or take the published file"
        )
    return from_one_based(file, name, stored if by_rows else stored.T, n_vertices, covers_all=True)


def closing_triangles(sources: tuple[Tables, ...], mean: Float[np.ndarray, "v 3"]) -> Int32[np.ndarray, "c 3"]:
    """`tri_mouth`, each triangle turned toward the viewer; none where no file has it.

    The published 114 are wound both ways and overlap (51 of the slit's 78 edges carry two of them): they are for
    painting the atlas, not for topology.
    """
    found = _first(sources, "tri_mouth")
    if found is None:
        return np.zeros((0, 3), np.int32)
    file, name, stored = found
    if stored.ndim != 2 or stored.shape[0] != 3:
        raise ModelFileError(f"{file}: {name} has shape {stored.shape}; triangles are 3 × T")
    closing = from_one_based(file, name, stored.T, len(mean), covers_all=False)
    a, b, c = (mean[closing[:, corner], :2] for corner in range(3))
    first, second = b - a, c - a
    away = first[:, 0] * second[:, 1] < first[:, 1] * second[:, 0]
    closing[away] = closing[away][:, [0, 2, 1]]
    return np.ascontiguousarray(closing)


def landmarks(sources: tuple[Tables, ...], n_vertices: int) -> Int32[np.ndarray, "68"] | None:
    """The vertices of the 68 points: a file's, else the published ones; None for an unknown number of vertices."""
    if n_vertices == N_WHOLE:
        return WHOLE_LANDMARKS
    found = _first(sources, "keypoints", "kpt_ind")
    if found is None:
        return CUT_LANDMARKS if n_vertices == N_CUT else None
    file, name, stored = found
    if stored.size != N_LANDMARKS:
        raise ModelFileError(f"{file}: {name} holds {stored.size} vertices, not the 68 landmarks")
    vertices = from_one_based(file, name, stored.ravel(), n_vertices, covers_all=False)
    if n_vertices == N_CUT and (vertices + 1 == CUT_LANDMARKS).all():
        raise ModelFileError(
            f"{file}: {name} counts from zero: it begins with {vertices[0] + 1}, the published one with "
            f"{vertices[0] + 2}; MATLAB files count from one. Add one, or take the published file"
        )
    return vertices


def mirror(sources: tuple[Tables, ...], mean: Float[np.ndarray, "v 3"]) -> Int32[np.ndarray, "v"] | None:
    """The vertex on the other side of the face, from `symlist`; None where no file has it.

    A vertex with several partners, of which the published list has some about the lips, gets the one that lies nearest
    to its mirror image; there the map is not its own inverse.
    """
    found = _first(sources, "symlist")
    if found is None:
        return None
    file, name, stored = found
    if stored.ndim != 2 or stored.shape[0] != 2:
        raise ModelFileError(
            f"{file}: {name} has shape {stored.shape}; it is 2 × P, a column for each pair of vertices"
        )
    pairs = from_one_based(file, name, stored, len(mean), covers_all=True)
    source, target = np.concatenate([pairs, pairs[::-1]], axis=1)
    distance = np.linalg.norm(mean[source] * (-1.0, 1.0, 1.0) - mean[target], axis=1)
    farthest_first = np.argsort(-distance, kind="stable")  # so that the nearest partner is written last, and stays
    partner = np.full(len(mean), -1, dtype=np.int32)
    partner[source[farthest_first]] = target[farthest_first]
    if (partner < 0).any():
        raise ModelFileError(f"{file}: {name} leaves {int((partner < 0).sum())} vertices without a partner")
    one_sided = int((partner[partner] != np.arange(len(partner))).sum())
    if one_sided > _MOST_ONE_SIDED:
        raise ModelFileError(
            f"{file}: {name} gives {one_sided} vertices a partner that has another partner (the published one 14): "
            "it is damaged or belongs to another model"
        )
    return partner


def segments(
    sources: tuple[Tables, ...], n_vertices: int, trim: Int32[np.ndarray, "n"] | None
) -> dict[str, np.ndarray]:
    """A bool mask (V,) for each of :data:`SEGMENTS`, from `segbin`; empty where no file has it.

    `segbin` is (4, V) in BFM_info.mat and (V, 4), of the whole model, in model_info.mat.
    """
    found = _first(sources, "segbin")
    if found is None:
        return {}
    file, name, stored = found
    rows = stored if stored.ndim == 2 and stored.shape[0] == len(SEGMENTS) else stored.T
    if trim is not None and rows.shape[1:] == (N_WHOLE,) and n_vertices == N_CUT:
        rows = rows[:, trim]
    if rows.shape != (len(SEGMENTS), n_vertices):
        raise ModelFileError(f"{file}: {name} has shape {stored.shape}, which is not 4 × {n_vertices} vertices")
    masks = rows != 0
    if (masks.sum(axis=0) != 1).any():
        raise ModelFileError(f"{file}: {name} puts some vertices in no segment or in several: it is damaged")
    return dict(zip(SEGMENTS, masks, strict=True))


def uv_coordinates(tables: Tables, n_vertices: int, trim: Int32[np.ndarray, "n"] | None) -> Float[np.ndarray, "v 2"]:
    """`UV` (V, 2) in [0, 1]; one of the whole model is cut with `trimIndex`."""
    file, stored = tables.file, tables.variables["UV"]
    cut = stored[trim] if trim is not None and stored.shape == (N_WHOLE, 2) and n_vertices == N_CUT else stored
    if cut.shape != (n_vertices, 2):
        turned = " (transposed)" if stored.shape == (2, n_vertices) else ""
        raise ModelFileError(f"{file}: UV has shape {stored.shape}{turned}; this model needs {(n_vertices, 2)}")
    if cut.dtype.kind not in "fiu" or not np.isfinite(cut).all() or cut.min() < 0 or cut.max() > 1:
        raise ModelFileError(f"{file}: UV holds values outside [0, 1] or NaN; UV coordinates lie in the unit square")
    return np.ascontiguousarray(cut, dtype=np.float64)

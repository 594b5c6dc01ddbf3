"""Morphable models by name or by file, and what can be said about one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geometry.mesh import boundary_loops, component_count, undirected_edges
from geometry.model_archive import SUFFIX, open_model
from geometry.morphable_model import REGION_NAMES, MorphableModel

BUILT_IN = "built-in"


def load_model(source: str | Path | Sequence[str | Path]) -> MorphableModel:
    """The built-in model ("built-in"), or the one in a file, in several files that belong together, or in a folder.

    Readable are BFM 2009 (alone, cut, with expressions), the 300W-LP pair, face3d's BFM.mat, BFM 2017 and 2019, and our
    own `*.ffmodel.npz`; which is which is found by content. Raises FileNotFoundError, and
    :class:`~geometry.model_checks.ModelFileError` with what is wrong with which file and what to do.
    """
    if source == BUILT_IN:
        from geometry.built_in import load_built_in

        return load_built_in()
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    if not paths:
        raise ValueError(f"no model given: name its files, or {BUILT_IN!r}")
    if len(paths) == 1 and paths[0].name.endswith(SUFFIX) and paths[0].is_file():
        return open_model(paths[0])
    from geometry.model_child import read_in_child  # for foreign files alone

    return read_in_child(paths)


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What `facefoundry model info` tells. Lengths in millimetres."""

    name: str
    licence: str
    fingerprint: str
    units: str
    n_vertices: int
    n_triangles: int
    n_closing_triangles: int
    n_identity: int
    n_expression: int
    n_landmarks: int
    n_components: int
    euler_characteristic: int
    """Vertices used − edges + triangles: 1 for a face without holes, 0 for one with an open mouth."""
    boundary_loops: tuple[int, ...] | None
    """Vertices of each loop, longest first; None when the mesh is not manifold."""
    not_manifold: str
    """Why there are no boundary loops; empty where there are."""
    box_mm: tuple[tuple[float, float, float], tuple[float, float, float]]
    """The lowest and the highest corner of the mean face's box."""
    region_sizes: dict[str, int]
    has_atlas: bool
    has_mirror: bool


def describe_model(model: MorphableModel) -> ModelDescription:
    """Count and measure everything a person wants to know before using `model`."""
    edges, _ = undirected_edges(model.triangles)
    try:
        loops, not_manifold = tuple(len(loop) for loop in boundary_loops(model.triangles)), ""
    except ValueError as error:
        loops, not_manifold = None, str(error)
    mean = model.mean_shape
    counts = np.bincount(model.regions, minlength=len(REGION_NAMES))
    return ModelDescription(
        name=model.name,
        licence=model.licence,
        fingerprint=model.fingerprint,
        units="mm",
        n_vertices=model.n_vertices,
        n_triangles=len(model.triangles),
        n_closing_triangles=len(model.closing_triangles),
        n_identity=model.n_identity,
        n_expression=model.n_expression,
        n_landmarks=len(model.landmark_vertices),
        n_components=component_count(model.triangles, model.n_vertices),
        euler_characteristic=len(np.unique(model.triangles)) - len(edges) + len(model.triangles),
        boundary_loops=loops,
        not_manifold=not_manifold,
        box_mm=(_point(mean.min(axis=0)), _point(mean.max(axis=0))),
        region_sizes={name: int(count) for name, count in zip(REGION_NAMES, counts, strict=True)},
        has_atlas=model.uv is not None,
        has_mirror=model.mirror is not None,
    )


def _point(xyz: np.ndarray) -> tuple[float, float, float]:
    return float(xyz[0]), float(xyz[1]), float(xyz[2])

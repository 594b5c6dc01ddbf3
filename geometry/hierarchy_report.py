"""What a mesh hierarchy loses, and what farthest-point sampling would lose at the same numbers of vertices."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int32

from geometry.decimation import collapsed, decimate
from geometry.hierarchy import MeshHierarchy
from geometry.mesh import Mesh
from geometry.nearest import walk_to_nearest


@dataclass(frozen=True, slots=True)
class LevelReport:
    """One level beside the whole mesh: distances of *all* its vertices from the level's surface, in the mesh's unit.

    smallest_angle   the median over the level's triangles (degrees; 60: equilateral)
    n_turned         collapses so far that turned a triangle over
    """

    n_vertices: int
    n_triangles: int
    mean_distance: float
    p95_distance: float
    max_distance: float
    smallest_angle: float
    n_turned: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


def report_hierarchy(hierarchy: MeshHierarchy) -> tuple[LevelReport, ...]:
    """One report for every level below the whole mesh."""
    points = hierarchy.meshes[0].vertices.astype(np.float64)
    starts, reports = np.arange(len(points)), []
    for i, matrix in enumerate(hierarchy.up):
        starts = matrix.indices[matrix.indptr[:-1]][starts]  # a coarse vertex beside each, by way of the levels between
        level = hierarchy.meshes[i + 1]
        reports.append(report_level(points, level, starts=starts, n_turned=hierarchy.n_turned[i + 1]))
    return tuple(reports)


def report_level(
    points: Float[np.ndarray, "p 3"], level: Mesh, *, starts: Int[np.ndarray, " p"], n_turned: int = 0
) -> LevelReport:
    """The report of one mesh; the distance of point p is found walking from vertex ``starts[p]``."""
    distances = walk_to_nearest(points, level, starts=starts).distances
    return LevelReport(
        n_vertices=len(level.vertices),
        n_triangles=len(level.triangles),
        mean_distance=float(distances.mean()),
        p95_distance=float(np.quantile(distances, 0.95)),
        max_distance=float(distances.max()),
        smallest_angle=float(np.median(_smallest_angles(level))),
        n_turned=n_turned,
    )


def farthest_points(points: Float[np.ndarray, "p 3"], n: int) -> Int32[np.ndarray, " n"]:
    """Indices of `n` points, each the farthest from those before it, from the one farthest from the centroid on.

    Eldar, Lindenbaum, Porat and Zeevi 1997; distances in space.
    """
    points = points.astype(np.float64)
    chosen = np.empty(n, dtype=np.int32)
    nearest = np.full(len(points), np.inf)
    here = int(((points - points.mean(axis=0)) ** 2).sum(axis=1).argmax())
    for i in range(n):
        chosen[i] = here
        nearest = np.minimum(nearest, ((points - points[here]) ** 2).sum(axis=1))
        here = int(nearest.argmax())
    return chosen


def farthest_point_level(mesh: Mesh, n_vertices: int) -> LevelReport:
    """The report of a mesh over farthest points: all other vertices collapse, the cheapest (by quadrics) first.

    The topology keeps some that were not chosen (three on each rim); as many farthest points fewer are then taken, so that
    the mesh has `n_vertices` or one or two fewer.
    """
    order, n_chosen = farthest_points(mesh.vertices, n_vertices), n_vertices
    while True:
        locked = np.zeros(len(mesh.vertices), dtype=bool)
        locked[order[:n_chosen]] = True
        collapses = decimate(mesh, n_vertices=n_vertices, locked=locked, measured_below=0)
        n_left = len(mesh.vertices) - len(collapses.removed)
        if n_left <= n_vertices or n_chosen == 0:
            break
        n_chosen = max(n_chosen - max((n_left - n_vertices) // 2, 1), 0)
    became = collapses.followed(len(mesh.vertices), n_left)
    kept, starts = np.unique(became, return_inverse=True)
    place = np.zeros(len(mesh.vertices), dtype=np.int32)
    place[kept] = np.arange(n_left, dtype=np.int32)
    level = Mesh(np.ascontiguousarray(mesh.vertices[kept]), place[collapsed(mesh.triangles, became)])
    return report_level(mesh.vertices, level, starts=starts.reshape(-1), n_turned=int(collapses.turned.sum()))


def _smallest_angles(mesh: Mesh) -> np.ndarray:
    """Degrees, one a triangle."""
    corners = mesh.vertices[mesh.triangles].astype(np.float64)
    angles = []
    for k in range(3):
        a, b = corners[:, (k + 1) % 3] - corners[:, k], corners[:, (k + 2) % 3] - corners[:, k]
        angles.append(np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(axis=1)))
    return np.degrees(np.min(angles, axis=0))

"""The cylindrical unwrap: angle round an upright axis, and height.

Booth and Zafeiriou 2014 ("Optimal UV spaces for facial morphable model construction") lay a face flat on the cylinder
that fits it best, and DenseReg's template coordinates are such a map (Güler et al. 2017, section 2). The axis is
parallel to y, through the centre of the circle that fits the surface as seen from above (Coope 1993, "Circle fitting by
linear and nonlinear least squares"). The seam is at the back, where the half-plane of −z from the axis meets the
surface: u = ½ is the front, and u grows toward the viewer's right.

A vertex has one place in an atlas, so the surface cannot be cut along the seam: **triangles that cross the seam are
left out of the atlas**, the one that the axis pierces too, and :attr:`CylinderMap.crossing` names them. Where the
surface turns away from the axis (behind the ears, in the nostrils, under the chin) the plain map folds over itself;
those triangles stay and are counted. :mod:`geometry.optimal_cylinder` unfolds them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from geometry.mesh import Mesh
from geometry.sound_surface import check_has_a_shape
from geometry.uv import UVAtlas

_FLATTEST = 1e-4
"""A surface whose depth, seen from above, is below this share of its width lies on no circle worth the name."""


@dataclass(frozen=True, slots=True)
class Cylinder:
    """An upright cylinder in the model frame, millimetres: the axis is parallel to y, through (x, z) = `centre_xz`."""

    centre_xz: Float[np.ndarray, "2"]
    radius: float

    def angles(self, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, " v"]:
        """atan2(x − x₀, z − z₀) in (−π, π]: 0 in front, positive on the right; a vertex on the seam itself has π."""
        aside = np.asarray(vertices[:, 0], dtype=np.float64) - self.centre_xz[0]
        toward = np.asarray(vertices[:, 2], dtype=np.float64) - self.centre_xz[1]
        return np.arctan2(aside + 0.0, toward)  # + 0.0: minus zero would give −π

    def flattened(self, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 2"]:
        """Along the circle and up, (radius · angle, y), both in millimetres."""
        return np.stack([self.radius * self.angles(vertices), np.asarray(vertices[:, 1], dtype=np.float64)], axis=1)

    def crosses_seam(
        self, vertices: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"]
    ) -> Bool[np.ndarray, " t"]:
        """Triangles that meet the half-plane behind the axis; one round the axis has one or three such sides."""
        angles = self.angles(vertices)[triangles]
        return angles.max(axis=1) - angles.min(axis=1) > np.pi


@dataclass(frozen=True, slots=True)
class CylinderMap:
    """A cylindrical atlas and what it leaves open.

    crossing     the mesh's triangles that are not in the atlas since they cross the seam
    unplaced     vertices all of whose triangles cross the seam: they have UV but no texel
    n_folded     triangles of the atlas that are folded or seen edge-on
    notes        sentences for people
    """

    atlas: UVAtlas
    cylinder: Cylinder
    crossing: Int32[np.ndarray, " c"]
    unplaced: Int32[np.ndarray, " p"]
    n_folded: int
    notes: tuple[str, ...]


def cylindrical(mesh: Mesh) -> UVAtlas:
    """The atlas of :func:`cylindrical_map`: the mesh's triangles less those that cross the seam, folds as they are."""
    return cylindrical_map(mesh).atlas


def cylindrical_map(mesh: Mesh) -> CylinderMap:
    """Unwrap `mesh` round the cylinder that fits it, and tell what folds and what is left out.

    u is the angle, the front at ½ and the widest angle at 0 or 1; v is the height, from lowest to highest. Any mesh
    will do, with handles or of several components. Raises ValueError for vertices that are not finite, a mesh without
    triangles, and one that is flat or a point as seen from above, where no circle fits.
    """
    cylinder = fit_cylinder(mesh)
    crosses = cylinder.crosses_seam(mesh.vertices, mesh.triangles)
    kept = mesh.triangles[~crosses]
    if not len(kept):
        raise ValueError("every triangle of the mesh crosses the seam: it does not stand round an upright axis")
    atlas = UVAtlas(uv_of_flattened(cylinder.flattened(mesh.vertices)), np.ascontiguousarray(kept))
    crossing = np.flatnonzero(crosses).astype(np.int32)
    unplaced = np.setdiff1d(np.arange(len(mesh.vertices), dtype=np.int32), kept)
    n_folded = int(atlas.folded.sum())
    notes = []
    if len(crossing):
        notes.append(f"{len(crossing)} triangles cross the seam behind the axis and are left out of the atlas")
    if len(unplaced):
        notes.append(f"{len(unplaced)} vertices are in no triangle of the atlas")
    if n_folded:
        notes.append(f"{n_folded} triangles turn away from the axis and lie folded over others")
    return CylinderMap(atlas, cylinder, crossing, unplaced, n_folded, tuple(notes))


def fit_cylinder(mesh: Mesh) -> Cylinder:
    """The upright cylinder of least squared distance, every part of the surface counting by its area.

    The linear fit starts the geometric one, which alone is unbiased where the surface spans less than the full circle
    (a face cut before the ears). Raises ValueError as :func:`cylindrical_map` does.
    """
    check_has_a_shape(mesh)
    corners = np.asarray(mesh.vertices, dtype=np.float64)[mesh.triangles]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    weights = np.bincount(mesh.triangles.ravel(), np.repeat(areas, 3), len(mesh.vertices))
    if not weights.sum() > 0:
        raise ValueError("the surface has no area: no circle fits it")
    weights = weights / weights.sum()
    points = np.asarray(mesh.vertices[:, [0, 2]], dtype=np.float64)
    middle = weights @ points
    points = points - middle
    thick, wide = np.sqrt(np.linalg.eigvalsh((weights * points.T) @ points))
    if not thick > _FLATTEST * wide:
        raise ValueError(
            f"seen from above the surface is a line or a point ({wide:.3g} by {thick:.3g} mm rms): no circle fits it, "
            "and a cylinder says nothing about it; use a Tutte map, or turn the mesh so that it stands upright along y"
        )
    points, size = points / wide, wide
    roots = np.sqrt(weights)
    # |p|² = 2 c·p + (r² − |c|²) is linear in the centre and the bracket (Coope 1993, eq. 4)
    linear = np.column_stack([2 * points, np.ones(len(points))])
    solution = np.linalg.lstsq(linear * roots[:, None], (points**2).sum(axis=1) * roots, rcond=None)[0]
    start = np.append(solution[:2], np.sqrt(solution[2] + solution[:2] @ solution[:2]))

    def residuals(circle: np.ndarray) -> np.ndarray:
        return roots * (np.linalg.norm(points - circle[:2], axis=1) - circle[2])

    def jacobian(circle: np.ndarray) -> np.ndarray:
        away = points - circle[:2]
        distance = np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-300)
        return roots[:, None] * np.column_stack([-away / distance, -np.ones(len(points))])

    import scipy.optimize  # here: a fifth of a second that readers and workers need not spend

    fitted = scipy.optimize.least_squares(residuals, start, jacobian, method="lm", xtol=1e-12, ftol=1e-12).x
    return Cylinder(middle + size * fitted[:2], float(size * abs(fitted[2])))


def uv_of_flattened(flat: Float[np.ndarray, "v 2"]) -> Float[np.ndarray, "v 2"]:
    """The unit square filled: x = 0 at u = ½, the largest |x| at 0 or 1, y from its lowest to its highest."""
    x, y = flat.T
    widest, height = np.abs(x).max(), y.max() - y.min()
    if not (widest > 0 and height > 0):
        raise ValueError(f"the surface is {height:.3g} mm high and spans no angle: it cannot be unwrapped round y")
    return np.clip(np.stack([0.5 + x / (2 * widest), (y - y.min()) / height], axis=1), 0.0, 1.0)

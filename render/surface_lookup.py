"""From a place in UV back to the surface: the other direction of an atlas (ψ⁻¹ of DenseReg, Güler et al. 2017, eq. 1).

Exact, not by way of texels: which triangle holds (u, v), and where in it. A field that was drawn leads back to the point
that was drawn, but for rounding.

**Beside the surface.** A network's u, v may fall a little outside; such a place goes to the nearest point of the
surface, if that is within `reach`, and to none otherwise. So it is at a cylinder's seam, whose triangles the atlas leaves
out: a place just beyond the last column belongs to that column, and nothing reaches across.
**Folds.** Where an atlas lies over itself (a plain cylinder at lids, lips, nostrils and ears) one place is the name of
two; it has no surface point either.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from geometry.morphable_model import SurfacePoints
from geometry.uv import UVAtlas
from render.correspondence import FieldTemplate
from render.correspondence_kernel import SURFACE
from render.surface_lookup_kernel import find_places, triangles_of_cells

_N_CELLS = 256  # along a side of the square: some two triangles of a dense mesh in a cell


@dataclass(frozen=True, eq=False)
class SurfaceLookup:
    """The triangles of an atlas, sorted by where in the square they lie; made once, in some milliseconds.

    triangles  (T 3) those that can be found
    """

    triangles: Int32[np.ndarray, "t 3"]
    _corners: Float[np.ndarray, "t 3 2"]
    _ends: Int[np.ndarray, " cells"]
    _members: Int32[np.ndarray, " m"]

    @classmethod
    def of(cls, atlas: UVAtlas) -> "SurfaceLookup":
        """The lookup of an atlas; raises ValueError for one without triangles."""
        if not len(atlas.triangles):
            raise ValueError("an atlas without triangles has no surface to be looked up")
        corners = np.ascontiguousarray(atlas.uv[atlas.triangles], dtype=np.float64) * _N_CELLS
        starts = np.zeros(_N_CELLS**2 + 1, dtype=np.int64)
        triangles_of_cells(corners, _N_CELLS, starts, np.zeros(0, dtype=np.int32))
        members = np.zeros(int(starts[-1]), dtype=np.int32)
        triangles_of_cells(corners, _N_CELLS, starts, members)
        return cls(atlas.triangles, corners, starts, members)

    @classmethod
    def of_template(cls, template: FieldTemplate) -> "SurfaceLookup":
        """The lookup of what a field's face pixels show: the skin with closed eyes, not what closes the mouth."""
        surface = np.ascontiguousarray(template.triangles[template.role == SURFACE])
        return cls.of(UVAtlas(template.uv.astype(np.float64), surface))

    def points(
        self, uv: Float[np.ndarray, "p 2"], *, reach: float = 1 / 256
    ) -> tuple[SurfacePoints, Bool[np.ndarray, " p"]]:
        """The surface points at places (u, v), and which places have one.

        `reach` (in UV, at most 1/256) is how far beside the surface a place may lie. Where none is found the point is
        the first triangle's first corner; NaN is found nowhere.
        """
        if not 0 <= reach <= 1 / _N_CELLS:
            raise ValueError(f"a reach of {reach:g} is not between 0 and 1/{_N_CELLS} of the UV square")
        places = np.ascontiguousarray(uv, dtype=np.float64) * _N_CELLS
        triangle = np.empty(len(places), dtype=np.int64)
        weights = np.zeros((len(places), 3))
        n_layers = np.empty(len(places), dtype=np.int64)
        find_places(
            places, self._corners, _N_CELLS, self._ends, self._members, reach * _N_CELLS, triangle, weights, n_layers
        )
        found = (triangle >= 0) & (n_layers <= 1)
        weights[~found] = (1, 0, 0)
        return SurfacePoints(self.triangles[np.where(found, triangle, 0)], weights), found

"""UV atlases: a place on a flat square for every vertex."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from geometry.mesh import check_triangles
from geometry.plane_areas import doubled_areas


@dataclass(frozen=True, slots=True)
class UVAtlas:
    """UV coordinates in [0, 1]² (u right, v up, float64) of every vertex, and the triangles that cover the square.

    The triangles are the model's own with the ones that close its inner holes (the slit of the mouth).
    """

    uv: Float[np.ndarray, "v 2"]
    triangles: Int32[np.ndarray, "t 3"]

    def __post_init__(self) -> None:
        """Refuse coordinates outside the unit square and indices that point outside."""
        if not np.isfinite(self.uv).all() or self.uv.min() < 0 or self.uv.max() > 1:
            raise ValueError(
                f"UV coordinates lie in [0, 1], these in [{np.nanmin(self.uv):g}, {np.nanmax(self.uv):g}]"
                + (" with NaN" if np.isnan(self.uv).any() else "")
            )
        check_triangles(self.triangles, len(self.uv))

    @property
    def signed_areas(self) -> Float[np.ndarray, " t"]:
        """The area of every triangle in the square, positive where counter-clockwise (u right, v up)."""
        return 0.5 * doubled_areas(self.uv, self.triangles)

    @property
    def folded(self) -> Bool[np.ndarray, " t"]:
        """Triangles that are turned over or collapsed: without a positive area beyond what rounding of UV can feign."""
        sides = self.uv[self.triangles] - np.roll(self.uv[self.triangles], 1, axis=1)
        longest = np.linalg.norm(sides, axis=2).max(axis=1)
        return self.signed_areas <= 4 * np.finfo(np.float64).eps * longest

    def holds(self, triangles: Int[np.ndarray, "t 3"]) -> Bool[np.ndarray, " t"]:
        """Which of a mesh's triangles are in the atlas, their corners in the same order."""
        n = len(self.uv)
        own, asked = (t.astype(np.int64) @ (n * n, n, 1) for t in (self.triangles, triangles))
        return np.isin(asked, own)

"""Where the outline of a turned face can lie: parallels of the mean face, from behind the jaw to beyond the midline.

When a head turns, the outline of the averted cheek is another line on the face, and the jaw landmarks that people put on
the outline slide to it along curves of about constant height (Zhu et al. 2015, "High-Fidelity Pose and Expression
Normalization", section 3.1). Each side of the face has parallels at the heights of its jaw landmarks, some between
them, and a few above. A parallel is cut from the mean face by a horizontal plane: the places where rays from the
head's axis leave the surface.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from geometry.landmarks import JAW
from geometry.morphable_model import REGION_NAMES, MorphableModel, SurfacePoints

_SPACING = np.radians(5.0)  # six millimetres on a cheek: the outline between two places is off by 0.1 mm
_BEYOND_MIDLINE = np.radians(20.0)
_HEIGHT_STEP_MM = 9.0
_ABOVE_MM = 27.0  # how far above the jaw's first point a straight line across can leave a tilted face
_ACROSS_MM = 4.0  # half the stretch over which a normal is taken; a fold of the skin is narrower
_TIED_MM = 12.0  # a place above or below that is farther away lies on another part (the neck under a chin)
_OFF_VERTEX_MM = 1e-3  # planes through vertices have no clear triangles on either side
_LEFT_OUT = ("ears", "neck")
_CHIN = 8  # the midline's jaw point has no side


@dataclass(frozen=True, slots=True)
class ContourPaths:
    """The parallels of both sides, the subject's right first, each side from top to bottom.

    side        (l,) −1 for the subject's right (negative x), +1 for the left
    of_jaw      (17,) the parallel on which each jaw point lies; −1 for the chin
    index       (l m) a parallel's places in `places` from the jaw forward, the last one repeated at the end; the first
                place of a jaw point's parallel is the jaw point itself
    places      all places as surface points, and `above`, `below` their neighbours up and down the face
    """

    side: Int[np.ndarray, " l"]
    of_jaw: Int[np.ndarray, "17"]
    index: Int[np.ndarray, "l m"]
    places: SurfacePoints
    above: SurfacePoints
    below: SurfacePoints


def contour_paths(model: MorphableModel) -> ContourPaths:
    """The parallels of a model; the head's axis goes through the middle of its first and last jaw point.

    Raises ValueError where a plane cuts nothing in front of a jaw point: the model's triangles are no face.
    """
    mean = model.mean_shape.astype(np.float64)
    ends = mean[model.landmark_vertices[[0, JAW.stop - 1]]]
    axis = np.array([ends[:, 0].mean(), ends[:, 2].mean()])
    excluded = [REGION_NAMES.index(name) for name in _LEFT_OUT]
    left_out = np.isin(model.regions, excluded)
    a, b, c = model.triangles.T
    surface = _Surface(mean, model.triangles[~(left_out[a] | left_out[b] | left_out[c])], axis)

    of_jaw = np.full(JAW.stop, -1)
    sides: list[int] = []
    paths: list[np.ndarray] = []
    lists: tuple[list[SurfacePoints], list[SurfacePoints], list[SurfacePoints]] = ([], [], [])
    first = 0
    for side, jaw in ((-1, range(_CHIN)), (1, range(JAW.stop - 1, _CHIN, -1))):
        vertices = model.landmark_vertices[list(jaw)]
        own_angles = np.arctan2(mean[vertices, 0] - axis[0], mean[vertices, 2] - axis[1])
        for height, landmark, angle in _heights(mean[vertices, 1], own_angles):
            reach = max(side * angle, 0.0) + _BEYOND_MIDLINE
            angles = angle - side * np.arange(landmark >= 0, reach / _SPACING) * _SPACING
            there, seen = surface.on_plane(height + _OFF_VERTEX_MM, angles)
            if seen.sum() < 2:
                raise ValueError(
                    f"nothing of {model.name} lies in front of its jaw at a height of {height:.0f} mm: "
                    "its triangles do not make a face that a contour could be found on; fit with contour='fixed'"
                )
            here, angles = SurfacePoints(there.corners[seen], there.weights[seen]), angles[seen]
            if landmark >= 0:
                here = _joined([SurfacePoints.at_vertices(vertices[landmark : landmark + 1]), here])
                angles = np.append(angle, angles)
                of_jaw[jaw[landmark]] = len(paths)
            sides.append(side)
            paths.append(first + np.arange(len(angles)))
            first += len(angles)
            lists[0].append(here)
            for offset, neighbours in ((_ACROSS_MM, lists[1]), (-_ACROSS_MM, lists[2])):
                neighbours.append(surface.neighbours(height + offset, angles, here))
    longest = max(len(path) for path in paths)
    index = np.stack([np.append(path, np.full(longest - len(path), path[-1])) for path in paths])
    return ContourPaths(np.array(sides), of_jaw, index, *(_joined(points) for points in lists))


def _heights(heights: np.ndarray, angles: np.ndarray) -> list[tuple[float, int, float]]:
    """Height, which jaw point it belongs to (−1: none) and where to start, of one side's parallels from top to bottom."""
    above = np.arange(_ABOVE_MM, 0, -_HEIGHT_STEP_MM)
    found = [(float(heights[0] + more), -1, float(angles[0])) for more in above]
    for landmark in range(len(heights)):
        found.append((float(heights[landmark]), landmark, float(angles[landmark])))
        if landmark + 1 < len(heights):
            steps = max(int(np.ceil((heights[landmark] - heights[landmark + 1]) / _HEIGHT_STEP_MM)), 1)
            for part in np.arange(1, steps) / steps:
                height, angle = ((1 - part) * a[landmark] + part * a[landmark + 1] for a in (heights, angles))
                found.append((float(height), -1, float(angle)))
    return found


class _Surface:
    """The mean face as seen from the head's axis."""

    def __init__(self, mean: np.ndarray, triangles: np.ndarray, axis: np.ndarray) -> None:
        self.mean, self.triangles, self.axis = mean, triangles, axis
        a, b, c = mean[triangles, 1].T
        self.low, self.high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)

    def neighbours(self, height: float, angles: np.ndarray, here: SurfacePoints) -> SurfacePoints:
        """The places at another height; where there is none nearby, the place itself."""
        there, seen = self.on_plane(height + _OFF_VERTEX_MM, angles)
        seen &= np.linalg.norm(self.positions(there) - self.positions(here), axis=1) < _TIED_MM
        return SurfacePoints(
            np.where(seen[:, None], there.corners, here.corners), np.where(seen[:, None], there.weights, here.weights)
        )

    def positions(self, points: SurfacePoints) -> np.ndarray:
        return np.einsum("pcx,pc->px", self.mean[points.corners], points.weights)

    def on_plane(self, height: float, angles: Float[np.ndarray, " r"]) -> tuple[SurfacePoints, np.ndarray]:
        """The outermost surface point of each ray from the axis in a horizontal plane, and which rays meet the surface."""
        triangles = self.triangles[(self.low < height) & (self.high > height)]
        if len(triangles) == 0:
            return SurfacePoints.at_vertices(np.zeros(len(angles), np.int32)), np.zeros(len(angles), dtype=bool)
        above = self.mean[triangles, 1] - height
        # the corner that lies alone on its side of the plane comes first
        alone = np.where((above > 0).sum(axis=1) == 1, above.argmax(axis=1), above.argmin(axis=1))
        order = (alone[:, None] + np.arange(3)) % 3
        triangles, above = np.take_along_axis(triangles, order, axis=1), np.take_along_axis(above, order, axis=1)
        share = above[:, :1] / (above[:, :1] - above[:, 1:])  # (t 2) how far along the two edges from the lone corner
        corners = self.mean[triangles][:, :, [0, 2]] - self.axis  # (t 3 xz)
        ends = corners[:, :1] + share[:, :, None] * (corners[:, 1:] - corners[:, :1])  # (t 2 xz)

        direction = np.stack([np.sin(angles), np.cos(angles)], axis=1)  # (r xz)
        across = np.stack([np.cos(angles), -np.sin(angles)], axis=1)
        side, reach = ends @ across.T, ends @ direction.T  # (t 2 r)
        meets = (side[:, 0] > 0) != (side[:, 1] > 0)
        along = side[:, 0] / np.where(meets, side[:, 0] - side[:, 1], 1.0)  # (t r) where on the cut the ray meets it
        distance = reach[:, 0] + along * (reach[:, 1] - reach[:, 0])
        distance = np.where(meets & (distance > 0), distance, -1.0)
        best = distance.argmax(axis=0)
        seen = distance.max(axis=0) > 0
        part = np.where(seen, along[best, np.arange(len(angles))], 0.0)
        first, second = (1 - part) * share[best, 0], part * share[best, 1]
        weights = np.stack([1 - first - second, first, second], axis=1)
        return SurfacePoints(triangles[best].astype(np.int32), weights), seen


def _joined(lists: list[SurfacePoints]) -> SurfacePoints:
    return SurfacePoints(
        np.concatenate([points.corners for points in lists]), np.concatenate([points.weights for points in lists])
    )

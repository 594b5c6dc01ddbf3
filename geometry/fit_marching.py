"""Landmark marching: for a present fit, where on the face its jaw landmarks are seen.

On every parallel of the face (:mod:`geometry.contour_paths`) the outline is where the surface turns from averted to facing, seen
from its normals, and of several such places the one that lies farthest out in the picture, sideways to the head. A
jaw point whose own place faces the viewer, and is itself the farthest, is seen and stays there. One that is hidden
goes to the place of its side's outline that is nearest to the landmark in the picture, whatever its height: a person who
puts points on an outline knows where it is, but not where along it a hidden point belongs.

So a hidden point tells the distance from the outline and nothing along it, t: S = 1 − t·tᵀ removes that part of its
residual. A jaw point that is seen slips along the jaw line by some millimetres: with noise σ and a slip of λ·σ,
S = 1 − (1 − 1/√(1 + λ²))·t·tᵀ gives the shortened residual the same spread in all directions.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32, Int

from geometry.contour_paths import ContourPaths
from geometry.fit_points import FitPoints, row_by_row
from geometry.fit_poses import NEAREST, Poses
from geometry.morphable_model import MorphableModel


@dataclass(frozen=True)
class ContourMarcher:
    """The places of a face's outline in a bank of points, and the direction up the face at each of them.

    Places follow the landmarks in `points`: place q is point ``points.n_landmarks + q``.
    landmarks (l) are the landmarks that march, and jaw (l) which of the 17 jaw points each of them is.
    """

    points: FitPoints
    paths: ContourPaths
    landmarks: Int[np.ndarray, " l"]
    jaw: Int[np.ndarray, " l"]
    upward_mean: Float[np.ndarray, "q 3"]
    upward_design: Float[np.ndarray, "q3 k"]

    @classmethod
    def of(
        cls,
        model: MorphableModel,
        points: FitPoints,
        paths: ContourPaths,
        jaw: dict[int, int],
        stddevs: Float[np.ndarray, " k"],
    ) -> "ContourMarcher":
        """With the directions of the model's own surface; `jaw` names the jaw point of each landmark that has one."""
        above, below = (FitPoints.of(model.rows(places), stddevs) for places in (paths.above, paths.below))
        mean = (above.mean + above.centroid) - (below.mean + below.centroid)
        sided = {landmark: number for landmark, number in jaw.items() if paths.of_jaw[number] >= 0}
        return cls(
            points, paths, np.array(list(sided)), np.array(list(sided.values())), mean, above.design - below.design
        )

    @cached_property
    def _single(self) -> tuple[Float32[np.ndarray, "2 3 q"], Float32[np.ndarray, "k q6"]]:
        """Places and upward directions in single precision: a place is chosen, not measured."""
        first, n_modes = self.points.n_landmarks, self.points.n_modes
        design = self.points.design.reshape(3, -1, n_modes)[:, first:]
        both = np.stack([design, self.upward_design.reshape(3, -1, n_modes)])  # (2 3 q k)
        mean = np.stack([self.points.mean[first:].T, self.upward_mean.T])
        return mean.astype(np.float32), np.ascontiguousarray(both.reshape(-1, n_modes).T.astype(np.float32))

    def march(
        self,
        poses: Poses,
        coefficients: Float[np.ndarray, "n k"],
        targets: Float[np.ndarray, "n 2 p"],
        slip: Float[np.ndarray, " n"],
    ) -> tuple[Int[np.ndarray, "n p"], Float[np.ndarray, "n 2 p"]]:
        """Where in the bank each landmark lies (n p), and the vectors v of S = 1 − v·vᵀ (n 2 p), 0 for other points.

        `targets` are the landmarks (px, y up, in the pose's own frame), `slip` (n) is λ.
        """
        outline, place, hidden = self._outline(poses, coefficients)
        n, n_landmarks, path = len(targets), self.points.n_landmarks, self.paths.of_jaw[self.jaw]
        wanted = targets[:, :, self.landmarks] / poses.scale[:, None, None]  # (n 2 l)
        apart = np.square(wanted[:, 0, :, None] - outline[:, 0, None]) + np.square(
            wanted[:, 1, :, None] - outline[:, 1, None]
        )  # (n l all parallels)
        usable = hidden[:, None] & (self.paths.side[path][:, None] == self.paths.side)
        nearest = np.where(usable, apart, np.inf).argmin(axis=2)  # (n l)
        is_hidden = hidden[:, path]

        index = np.tile(np.arange(n_landmarks), (n, 1))
        marched = n_landmarks + np.take_along_axis(place, nearest, axis=1)
        index[:, self.landmarks] = np.where(is_hidden, marched, self.landmarks)
        along = self._stretches(outline, nearest, wanted)
        jaw_line = _unit(np.gradient(outline[:, :, path], axis=2))
        shortened = np.zeros((n, 2, n_landmarks))
        kept = np.sqrt(1 - 1 / np.sqrt(1 + slip**2))[:, None, None]
        shortened[:, :, self.landmarks] = np.where(is_hidden[:, None], along, kept * jaw_line)
        return index, shortened

    def own_places(self, poses: Poses, coefficients: Float[np.ndarray, "n k"]) -> Int[np.ndarray, "n p"]:
        """Where in the bank each landmark is seen on its own parallel: what a face's landmarks are without a picture."""
        _, place, hidden = self._outline(poses, coefficients)
        n, n_landmarks, path = len(coefficients), self.points.n_landmarks, self.paths.of_jaw[self.jaw]
        index = np.tile(np.arange(n_landmarks), (n, 1))
        index[:, self.landmarks] = np.where(hidden[:, path], n_landmarks + place[:, path], self.landmarks)
        return index

    def _outline(self, poses: Poses, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every parallel: the outline's place in the picture (n 2 l), which place it is, and whether it hides the jaw."""
        mean, design = self._single
        both = row_by_row(coefficients.astype(np.float32), design).reshape(len(coefficients), 2, 3, -1) + mean
        places, path, side = both[:, 0], self.paths.index, self.paths.side[:, None].astype(np.float32)
        seen = _seen_mm(poses, places)
        up = (_seen_mm(poses, places + both[:, 1]) - seen)[:, :, path]  # (n 2 l m)
        seen = seen[:, :, path]
        forward = np.gradient(seen, axis=3)
        facing = side * (forward[:, 1] * up[:, 0] - forward[:, 0] * up[:, 1]) > 0  # (n l m) the outward normal's z

        sideways = _sideways(poses)
        out = side * (sideways[:, 0, None, None] * seen[:, 0] + sideways[:, 1, None, None] * seen[:, 1])
        appears = facing.copy()
        appears[:, :, 1:] &= ~facing[:, :, :-1]
        choice = np.where(appears, out, -np.inf).argmax(axis=2)  # none appears: 0, the jaw's own place
        outline = np.take_along_axis(seen, choice[:, None, :, None], axis=3)[:, :, :, 0].astype(np.float64)
        place = np.take_along_axis(np.broadcast_to(path, facing.shape), choice[:, :, None], axis=2)[:, :, 0]
        return outline, place, choice > 0

    def _stretches(self, outline: np.ndarray, nearest: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The outline's direction (n 2 l) from the nearest place toward the neighbour on the landmark's side of it."""
        same_side = np.append(self.paths.side[1:] == self.paths.side[:-1], False)
        number = np.arange(len(same_side))
        following, before = np.where(same_side, number + 1, number), np.where(np.roll(same_side, 1), number - 1, number)
        here = np.take_along_axis(outline, nearest[:, None], axis=2)
        down, up = (
            np.take_along_axis(outline, neighbour[nearest][:, None], axis=2) - here for neighbour in (following, before)
        )
        offset = wanted - here
        toward = ((offset * _unit(down)).sum(axis=1) >= (offset * _unit(up)).sum(axis=1))[:, None]
        return _unit(np.where(toward, down, up))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _seen_mm(poses: Poses, places: np.ndarray) -> np.ndarray:
    """Where places (n 3 q) are seen in the pose's frame, y up, in pixels divided by the face's scale."""
    turned = poses.rotation.astype(np.float32) @ places
    seen = turned[:, :2] + (poses.translation / poses.scale[:, None]).astype(np.float32)[:, :, None]
    if not poses.inverse_focal.any():
        return seen
    depth = 1 - (poses.inverse_focal * poses.scale).astype(np.float32)[:, None] * turned[:, 2]
    return seen / np.maximum(depth, np.float32(NEAREST))[:, None]


def _sideways(poses: Poses) -> np.ndarray:
    """The direction in the picture (n 2) at a right angle to the head's own upward axis, to the viewer's right."""
    up = poses.rotation[:, :2, 1]
    across = np.stack([up[:, 1], -up[:, 0]], axis=1)
    length = np.linalg.norm(across, axis=1, keepdims=True)
    return np.where(length > 1e-6, across / np.maximum(length, 1e-6), (1.0, 0.0)).astype(np.float32)

"""Errors of reconstructed faces: by known correspondence, and by ICP as papers measure (Feng et al. 2018, section 4.3).

Ours is the first wherever meshes share a topology (:func:`train.metrics.reconstruction_error`): after ICP a point is held
against whatever lies nearest, so wrong faces look twice as good. ICP is for scans, whose points nobody has matched. There is
no published code for PRNet's; what it leaves open is said here and in every result: point to point, the direction, rotation
and translation alone, no point left out, the number of steps. Both clouds lie in one picture, so their scale is known; were it
free, a cloud that looks for its nearest points would shrink onto one of them, and a network that has learnt nothing would
have no error at all (:func:`icp` can do that too, for clouds in different units).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from train.metrics import best_similarity

Direction = Literal["predicted-to-truth", "truth-to-predicted"]
"""Whose points look for the nearest point of the other cloud."""

STEPS = 20
_SETTLED = 1e-9  # relative change of the mean squared distance at which another step would change nothing


@dataclass(frozen=True, slots=True)
class Registration:
    """A prediction brought onto the truth: ``scale · rotation · p + translation``.

    distances  of each point that looked (see the direction), in the truth's unit
    steps      motions that were worked out
    """

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    distances: Float[np.ndarray, " m"]
    steps: int

    def apply(self, points: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "p 3"]:
        """Points of the prediction's frame in the truth's."""
        return self.scale * points @ self.rotation.T + self.translation


def icp(
    predicted: Float[np.ndarray, "v 3"],
    truth: Float[np.ndarray, "t 3"],
    *,
    direction: Direction = "predicted-to-truth",
    steps: int = STEPS,
    with_scale: bool = False,
) -> Registration:
    """Iterative closest points (Besl and McKay 1992) from where both clouds are; `with_scale` for clouds in other units.

    Bring them near each other first: both in the picture's frame with equal mean depth, or by their landmarks. Raises
    ValueError for clouds of fewer than three points, and for a prediction that is not finite.
    """
    from scipy.spatial import cKDTree

    moved, target = predicted.astype(np.float64), truth.astype(np.float64)
    if min(len(moved), len(target)) < 3 or not (np.isfinite(moved).all() and np.isfinite(target).all()):
        raise ValueError(
            "ICP needs three finite points at least on either side; a missing prediction has no registration"
        )
    towards_truth = direction == "predicted-to-truth"
    source, tree = moved, cKDTree(target if towards_truth else moved)
    total: tuple[float, np.ndarray, np.ndarray] = (1.0, np.eye(3), np.zeros(3))
    before, done = np.inf, 0

    def matched() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs (of the source, of the truth) and their distances."""
        if towards_truth:
            distances, nearest = tree.query(moved)
            return source, target[nearest], distances
        scale, rotation, translation = total  # the truth is moved back instead, so that one tree does for all steps
        distances, nearest = tree.query((target - translation) @ rotation / scale)
        return source[nearest], target, scale * distances

    mine, theirs, distances = matched()
    for _ in range(steps):
        squared = float((distances**2).mean())
        if squared >= (1 - _SETTLED) * before:
            break
        before = squared
        scale, rotation, translation = best_similarity(mine, theirs)
        if not with_scale:  # the best rotation is the same at any scale
            scale, translation = 1.0, theirs.mean(axis=0) - rotation @ mine.mean(axis=0)
        total = (scale, rotation, translation)
        moved = total[0] * source @ total[1].T + total[2]
        done += 1
        mine, theirs, distances = matched()
    return Registration(*total, distances=np.asarray(distances), steps=done)


def icp_error(
    predicted: Float[np.ndarray, "v 3"],
    truth: Float[np.ndarray, "t 3"],
    *,
    interocular: float,
    direction: Direction = "predicted-to-truth",
    steps: int = STEPS,
) -> float:
    """Mean distance after :func:`icp` over the outer inter-ocular distance in 3-D; infinite for a missing prediction."""
    if not np.isfinite(predicted).all():
        return float("inf")
    return float(icp(predicted, truth, direction=direction, steps=steps).distances.mean() / interocular)

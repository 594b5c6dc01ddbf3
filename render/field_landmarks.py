"""Landmarks read from a correspondence field, so that a field can be scored as a landmark detector.

As in DenseReg (Güler et al. 2017, sec. 4.3): for each connected component of the face's pixels, a landmark is where
the field comes nearest to the landmark's canonical coordinates. That is a whole pixel, and where coordinates run fast
(in the creases of lids and lips, on the rim of the head) it can lie several pixels beside the landmark; so the place is
also worked out between the pixels.

A landmark that the picture does not show is nearest to something all the same (on the jaw that is "landmark marching"):
the distance that is left over tells.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

_REACH_PX = 2  # a landmark is placed by the 5 × 5 pixels about the nearest one,
_N_NEIGHBOURS = 8  # of which the nearest by coordinates count: across a crease lies another surface
_FARTHEST_PX = 1.0  # and it stays this near to the pixel in their middle
_MAX_STEPS = 8  # of at most _REACH_PX, on the way from the nearest pixel by coordinates
_RIDGE = 1e-4  # of the local fit, where the pixels' coordinates lie on one line


@dataclass(frozen=True, slots=True)
class FieldLandmarks:
    """The landmarks of one connected component of the face's pixels.

    pixels        (p 2) the pixel (x, y) whose coordinates come nearest to the landmark's: the paper's detection
    points_px     (p 2) the same between pixels, by a local affine fit of pixel to coordinates
    distances_uv  (p,) how far the nearest pixel's coordinates are from the landmark's
    n_pixels      how large the component is
    """

    pixels: Int[np.ndarray, "p 2"]
    points_px: Float[np.ndarray, "p 2"]
    distances_uv: Float[np.ndarray, " p"]
    n_pixels: int


def landmarks_of_field(
    uv: Float[np.ndarray, "h w 2"],
    is_face: Bool[np.ndarray, "h w"],
    landmarks_uv: Float[np.ndarray, "p 2"],
    *,
    min_pixels: int = 64,
) -> list[FieldLandmarks]:
    """The landmarks of every connected component (eight neighbours) of at least `min_pixels`, the largest first.

    Two faces that touch are one component, as in the paper; where it is known whose a pixel is, ask for each face
    alone: ``landmarks_of_field(field.uv, field.is_face & (field.face_index == k), …)``.
    """
    _, component, statistics, _ = cv2.connectedComponentsWithStats(is_face.astype(np.uint8), connectivity=8)
    sizes = statistics[1:, cv2.CC_STAT_AREA]
    large = np.flatnonzero(sizes >= min_pixels)
    order = large[np.argsort(-sizes[large], kind="stable")]
    return [_of_component(uv, component == k + 1, landmarks_uv) for k in order.tolist()]


def _of_component(uv: np.ndarray, inside: Bool[np.ndarray, "h w"], landmarks_uv: np.ndarray) -> FieldLandmarks:
    from scipy.spatial import cKDTree

    rows, columns = np.nonzero(inside)
    distances, index = cKDTree(uv[rows, columns].astype(np.float64)).query(landmarks_uv)
    pixels = np.stack([columns[index], rows[index]], axis=1)
    points = _between_pixels(uv, inside, landmarks_uv, pixels)
    return FieldLandmarks(pixels, points, np.asarray(distances, dtype=np.float64), len(rows))


def _between_pixels(
    uv: np.ndarray, inside: np.ndarray, landmarks_uv: np.ndarray, pixels: Int[np.ndarray, "p 2"]
) -> Float[np.ndarray, "p 2"]:
    """From the nearest pixel by coordinates to the one the landmark lies in: walk where the local fit points to.

    At the rim of a head coordinates run fast across it and slowly along it, so the nearest pixel by coordinates can be
    some pixels along. Of the places on the way the one counts that is the least way from its landmark.
    """
    at = pixels
    best, least = pixels.astype(np.float64), np.full(len(pixels), np.inf)
    for _ in range(_MAX_STEPS):
        shift = _way_to_landmark(uv, inside, landmarks_uv, at)
        way = np.linalg.norm(shift, axis=1)
        nearer = way < least
        best[nearer] = (at + np.clip(shift, -_FARTHEST_PX, _FARTHEST_PX))[nearer]
        least = np.minimum(way, least)
        step = np.rint(np.clip(shift, -_REACH_PX, _REACH_PX)).astype(at.dtype)
        if not step.any():
            break
        at = _stepped(inside, at, step)
    return best


def _stepped(inside: np.ndarray, at: Int[np.ndarray, "p 2"], step: Int[np.ndarray, "p 2"]) -> Int[np.ndarray, "p 2"]:
    """One step on; where that leaves the component only its part along one axis, or none."""
    result = at
    for axes in ((0, 0), (1, 0), (0, 1), (1, 1)):  # the last that stays inside counts
        x, y = np.clip(at + step * axes, 0, np.array(inside.shape[::-1]) - 1).T
        result = np.where(inside[y, x][:, None], np.stack([x, y], axis=1), result)
    return result


def _way_to_landmark(
    uv: np.ndarray, inside: np.ndarray, landmarks_uv: np.ndarray, pixels: Int[np.ndarray, "p 2"]
) -> Float[np.ndarray, "p 2"]:
    """Pixel ≈ place + slopes · (uv − landmark), fitted to the neighbours, the nearer in coordinates the heavier."""
    around = np.arange(-_REACH_PX, _REACH_PX + 1)
    offsets = np.stack(np.meshgrid(around, around), axis=-1).reshape(-1, 2)
    places = pixels[:, None] + offsets  # (p 25 xy)
    x, y = (np.clip(places[..., k], 0, size - 1) for k, size in ((0, inside.shape[1]), (1, inside.shape[0])))
    usable = inside[y, x] & (places == np.stack([x, y], axis=-1)).all(axis=-1)
    away = uv[y, x].astype(np.float64) - landmarks_uv[:, None]
    squared = np.where(usable, (away**2).sum(axis=-1), np.inf)
    chosen = np.argsort(squared, axis=1, kind="stable")[:, :_N_NEIGHBOURS]
    away, squared = (np.take_along_axis(v, c, 1) for v, c in ((away, chosen[..., None]), (squared, chosen)))
    shifts = np.take_along_axis((places - pixels[:, None]).astype(np.float64), chosen[..., None], axis=1)
    usable = np.isfinite(squared)

    weights = np.where(usable, 1 / (np.where(usable, squared, 0) + squared[:, :1] + 1e-14), 0)
    spread = np.sqrt(np.where(usable, squared, 0).sum(axis=1) / np.maximum(usable.sum(axis=1), 1)) + 1e-12
    columns = np.concatenate([np.ones((*weights.shape, 1)), away / spread[:, None, None]], axis=-1)  # (p n 3)
    gram = np.einsum("pn,pni,pnj->pij", weights, columns, columns)
    gram[:, [1, 2], [1, 2]] += _RIDGE * weights.sum(axis=1, keepdims=True)
    right = np.einsum("pn,pni,pnk->pik", weights, columns, shifts)
    return np.linalg.solve(gram, right)[:, 0]

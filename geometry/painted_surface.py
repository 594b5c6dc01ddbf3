"""The surface that skin is painted on, and soft spots on it: where a face is flushed, shadowed, bearded, and has its brows.

Positions are decimetres from the template's own origin: sizes were tuned in that unit.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from geometry.landmarks import LEFT_EYE, OUTER_LIPS, RIGHT_EYE

RIGHT, LEFT = -1, 1  # the sign of x on the subject's sides


@dataclass(frozen=True, slots=True)
class PaintedSurface:
    """What the sampler needs to know of the vertices it paints, and of the whole template's skin.

    `occlusion` is the open share of the sky, `eye_angle_deg` the angle from the gaze axis (eyeballs only, else NaN).
    Moles sit on `skin_dm`, every skin vertex of the template, so that draws do not depend on which parts are painted.
    """

    positions_dm: Float[np.ndarray, "v 3"]
    part: UInt8[np.ndarray, "v"]
    lips: Float[np.ndarray, "v"]
    eyelids: Float[np.ndarray, "v"]
    ears: Float[np.ndarray, "v"]
    occlusion: Float[np.ndarray, "v"]
    eye_angle_deg: Float[np.ndarray, "v"]
    landmarks_dm: Float[np.ndarray, "68 3"]
    skin_dm: Float[np.ndarray, "s 3"]


def eye_centre(landmarks_dm: Float[np.ndarray, "68 3"], side: int) -> Float[np.ndarray, "3"]:
    """The middle of the eye's six landmarks; `side` is :data:`LEFT` or :data:`RIGHT`."""
    return landmarks_dm[LEFT_EYE if side == LEFT else RIGHT_EYE].mean(0)


@dataclass(frozen=True, slots=True)
class Brow:
    """Every vertex's place relative to one eyebrow's five-point curve, from its outer (0) to its inner end (1)."""

    distance_dm: Float[np.ndarray, "v"]
    along: Float[np.ndarray, "v"]
    above_dm: Float[np.ndarray, "v"]

    @classmethod
    def of(cls, positions_dm: Float[np.ndarray, "v 3"], curve_dm: Float[np.ndarray, "5 3"]) -> "Brow":
        """Measured from every vertex to the nearest of the curve's four segments."""
        distance = np.full(len(positions_dm), 1e9)
        along, above = np.zeros(len(positions_dm)), np.zeros(len(positions_dm))
        for segment, (start, end) in enumerate(itertools.pairwise(curve_dm)):
            way = end - start
            t = np.clip(((positions_dm - start) @ way) / (way @ way), 0, 1)
            to_segment = np.linalg.norm(positions_dm - (start + t[:, None] * way), axis=1)
            nearer = to_segment < distance
            distance[nearer], along[nearer] = to_segment[nearer], (segment + t[nearer]) / 4
            above[nearer] = positions_dm[nearer, 1] - (start + t[nearer, None] * way)[:, 1]
        return cls(distance, along, above)


@dataclass(frozen=True, slots=True)
class FaceSpots:
    """Soft spots on the face, 0 to about 1 at every vertex, placed by the landmarks; the same for everybody."""

    cheeks: Float[np.ndarray, "v"]
    nose: Float[np.ndarray, "v"]
    chin: Float[np.ndarray, "v"]
    forehead: Float[np.ndarray, "v"]
    under_eyes: Float[np.ndarray, "v"]
    upper_lids: Float[np.ndarray, "v"]
    beard: Float[np.ndarray, "v"]
    above_hairline_dm: Float[np.ndarray, "v"]
    brows: tuple[Brow, Brow]

    @classmethod
    def of(cls, surface: PaintedSurface) -> "FaceSpots":
        """Placed by the surface's landmarks; sizes are a face's."""
        v, landmarks = surface.positions_dm, surface.landmarks_dm

        def spot(centre: np.ndarray, size: tuple[float, float, float]) -> np.ndarray:
            return np.exp(-(np.linalg.norm((v - centre) / np.asarray(size), axis=1) ** 2) / 2)

        nostrils = {LEFT: landmarks[35], RIGHT: landmarks[31]}
        cheeks = {side: np.array([side * 0.50, landmarks[33, 1] + 0.12, 0.95]) for side in (LEFT, RIGHT)}
        eyes = {side: eye_centre(landmarks, side) for side in (LEFT, RIGHT)}
        lids = {side: eyes[side] + [0, 0.10, 0.05] for side in (LEFT, RIGHT)}
        shadows = {side: eyes[side] + [side * -0.05, -0.17, 0.02] for side in (LEFT, RIGHT)}

        def both(centres: dict[int, np.ndarray], size: tuple[float, float, float]) -> np.ndarray:
            return spot(centres[LEFT], size) + spot(centres[RIGHT], size)

        return cls(
            cheeks=both(cheeks, (0.25, 0.22, 0.35)),
            nose=spot(landmarks[30], (0.16, 0.16, 0.22)) + 0.6 * both(nostrils, (0.10, 0.10, 0.14)),
            chin=spot(landmarks[8] + [0, 0.18, 0.05], (0.22, 0.16, 0.25)),
            forehead=spot((landmarks[21] + landmarks[22]) / 2 + [0, 0.45, 0], (0.5, 0.3, 0.4)),
            under_eyes=both(shadows, (0.20, 0.065, 0.2)),
            upper_lids=both(lids, (0.22, 0.08, 0.2)),
            beard=_beard(surface),
            # a curve over the forehead that falls toward the ears
            above_hairline_dm=v[:, 1]
            - (landmarks[27, 1] + 0.70 - 0.85 * np.clip(0.98 - v[:, 2], 0, 1.0) ** 1.25 + 0.06 * np.abs(v[:, 0])),
            brows=(Brow.of(v, landmarks[17:22]), Brow.of(v, landmarks[26:21:-1])),
        )


def _beard(surface: PaintedSurface) -> np.ndarray:
    """Where a beard grows: below the nose, above the neck's crease, not on lips, ears and the middle of the cheeks."""
    v, landmarks = surface.positions_dm, surface.landmarks_dm
    mouth = landmarks[OUTER_LIPS].mean(0)
    below_nose = 1 / (1 + np.exp(-(landmarks[33, 1] + 0.02 - v[:, 1]) / 0.05))
    above_crease = 1 / (1 + np.exp(-(v[:, 1] - (landmarks[8, 1] - 0.45)) / 0.10))
    bare_cheeks = sum(
        np.exp(-(((v - (mouth + [side * 0.48, 0.22, -0.2])) / np.array([0.26, 0.27, 0.5])) ** 2).sum(1))
        for side in (LEFT, RIGHT)
    )
    grown = np.clip(below_nose * above_crease * np.clip(v[:, 2] + 0.15, 0, 0.3) / 0.3 - 0.9 * bare_cheeks, 0, 1)
    return grown * (1 - surface.lips) * (1 - surface.ears)

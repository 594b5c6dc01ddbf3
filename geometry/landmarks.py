"""Landmark schemes: the 68 iBUG points and the lists derived from them. Indices are zero-based.

Of each scheme this module knows where its points lie on a model, which become which in a mirrored picture, and which
slide along the face's contour when the head turns. Models themselves know the 68 points only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from geometry.morphable_model import REGION_NAMES, MorphableModel, SurfacePoints

N_LANDMARKS = 68

JAW = slice(0, 17)
RIGHT_BROW = slice(17, 22)  # the subject's right, on the left of an unmirrored picture
LEFT_BROW = slice(22, 27)
NOSE_RIDGE = slice(27, 31)
NOSTRILS = slice(31, 36)
RIGHT_EYE = slice(36, 42)
LEFT_EYE = slice(42, 48)
OUTER_LIPS = slice(48, 60)
INNER_LIPS = slice(60, 68)
INNER = slice(17, 68)  # all but the jaw, whose points slide along the contour with pose
OUTER_EYE_CORNERS = (36, 45)

# 1-based, as published with 300W-LP's training code; a point that stands in no pair lies on the midline.
_MIRROR_PAIRS = (
    "1 17, 2 16, 3 15, 4 14, 5 13, 6 12, 7 11, 8 10, 18 27, 19 26, 20 25, 21 24, 22 23, 37 46, 38 45, 39 44, 40 43, 42 47, "
    "41 48, 32 36, 33 35, 51 53, 50 54, 49 55, 62 64, 61 65, 68 66, 60 56, 59 57"
)


def _mirror_permutation() -> np.ndarray:
    permutation = np.arange(N_LANDMARKS)
    for pair in _MIRROR_PAIRS.split(", "):
        a, b = (int(index) - 1 for index in pair.split())
        permutation[a], permutation[b] = b, a
    return permutation


MIRROR = _mirror_permutation()
"""``landmarks_of_mirrored_picture = mirrored_landmarks[MIRROR]``: after x' = w − 1 − x every point needs its new name."""
MIRROR.setflags(write=False)

# Two places beyond the 68 that AFLW's scheme needs; they stand after the 68 in the members of a scheme.
RIGHT_EAR_LOBE, LEFT_EAR_LOBE = 68, 69
_MIRROR_OF_PLACES = np.append(MIRROR, [LEFT_EAR_LOBE, RIGHT_EAR_LOBE])


@dataclass(frozen=True)
class LandmarkScheme:
    """A list of landmarks, each the mean of up to three of the 68 iBUG points (and of AFLW's two ear lobes).

    members[p]   the places whose mean is point p, mostly one: 0 … 67, :data:`RIGHT_EAR_LOBE`, :data:`LEFT_EAR_LOBE`
    """

    name: str
    members: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        """Refuse places that do not exist, and points whose mirror image is not in the list."""
        for point, places in enumerate(self.members):
            if not 1 <= len(places) <= 3 or not all(0 <= place <= LEFT_EAR_LOBE for place in places):
                raise ValueError(
                    f"point {point} of {self.name} is the mean of places {list(places)}; "
                    f"one to three are expected, of 0 to {LEFT_EAR_LOBE}, counted from zero"
                )
        _ = self.mirror

    def __len__(self) -> int:
        """How many points there are."""
        return len(self.members)

    @cached_property
    def mirror(self) -> Int[np.ndarray, " p"]:
        """``points_of_mirrored_picture = mirrored_points[scheme.mirror]``, as :data:`MIRROR` for the 68."""
        index_of = {frozenset(places): index for index, places in enumerate(self.members)}
        mirror = [index_of.get(frozenset(_MIRROR_OF_PLACES[list(places)].tolist())) for places in self.members]
        if None in mirror:
            raise ValueError(f"point {mirror.index(None)} of {self.name} has no counterpart on the other side")
        return np.array(mirror)

    @cached_property
    def jaw(self) -> dict[int, int]:
        """The points that slide along the contour: which of them is which of the 17 jaw points. A chin alone does not."""
        jaw = {p: places[0] for p, places in enumerate(self.members) if len(places) == 1 and places[0] < JAW.stop}
        return jaw if len(jaw) > 1 else {}

    def points(self, model: MorphableModel) -> SurfacePoints:
        """Where the points lie on `model`.

        Raises ValueError for ear lobes on a model without a region "ears".
        """
        vertices = model.landmark_vertices
        if any(place >= N_LANDMARKS for places in self.members for place in places):
            vertices = np.append(vertices, _ear_lobes(model, self.name))
        corners = np.array([vertices[list((places * 3)[:3])] for places in self.members], dtype=np.int32)
        weights = np.array([[1 / len(places)] * len(places) + [0.0] * (3 - len(places)) for places in self.members])
        return SurfacePoints(corners, weights)

    def of_68(self, landmarks: Float[np.ndarray, "*n 68 d"]) -> Float[np.ndarray, "*n p d"]:
        """This scheme's points from the 68, by the same means; ear lobes, which the 68 lack, are NaN."""
        places = np.concatenate([landmarks, np.full((*landmarks.shape[:-2], 2, landmarks.shape[-1]), np.nan)], axis=-2)
        return np.stack([places[..., list(members), :].mean(axis=-2) for members in self.members], axis=-2)


def _ear_lobes(model: MorphableModel, scheme_name: str) -> np.ndarray:
    """The lowest vertex of each ear in the mean shape, the subject's right (−x) first."""
    ears = np.flatnonzero(model.regions == REGION_NAMES.index("ears"))
    x, y = model.mean_shape[ears, 0], model.mean_shape[ears, 1]
    if not ((x < 0).any() and (x > 0).any()):
        raise ValueError(
            f"{scheme_name} has points on the ear lobes, and {model.name} has no ears; "
            "take aflw-19, which leaves them out, or give surface points of your own"
        )
    right = ears[np.argmin(np.where(x < 0, y, np.inf))]
    left = model.mirror[right] if model.mirror is not None else ears[np.argmin(np.where(x > 0, y, np.inf))]
    return np.array([right, left])


def _single(places: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple((int(place),) for place in places)


_68 = range(N_LANDMARKS)
_WITHOUT_INNER_CORNERS = [point for point in _68 if point not in (60, 64)]

# AFLW's order (Köstinger et al. 2011): "left" there is the viewer's left. Brows, eyes' corners, nose tip and mouth corners are
# points of the 68. Approximate are the pupils (between the lids), the centre of the mouth (between the inner lips), the
# wings of the nose (the 68 mark the outer ends of the nostrils), the chin (the 68 mark its lowest point) and the ear lobes.
_AFLW = (
    (17,), (19,), (21,), (22,), (24,), (26,),  # brows: outer end, middle, inner end; inner end, middle, outer end
    (36,), (37, 40), (39,), (42,), (44, 47), (45,),  # eyes: outer corner, pupil, inner corner; and back
    (RIGHT_EAR_LOBE,), (31,), (30,), (35,), (LEFT_EAR_LOBE,),  # ear, wing of the nose, tip, wing, ear
    (48,), (62, 66), (54,), (8,),  # corner of the mouth, its centre, corner; chin
)  # fmt: skip

SCHEMES = {
    scheme.name: scheme
    for scheme in (
        LandmarkScheme("ibug-68", _single(_68)),
        LandmarkScheme("3dfaw-66", _single(_WITHOUT_INNER_CORNERS)),
        LandmarkScheme("inner-51", _single(range(17, N_LANDMARKS))),
        LandmarkScheme("inner-49", _single(_WITHOUT_INNER_CORNERS[17:])),
        LandmarkScheme("aflw-21", _AFLW),
        LandmarkScheme("aflw-19", tuple(places for places in _AFLW if places[0] < N_LANDMARKS)),
    )
}
"""The named schemes; "ibug-68" and "3dfaw-66" have a contour to march along."""


def landmark_scheme(name: str) -> LandmarkScheme:
    """The scheme of that name; ValueError with the list of names for another one."""
    if name not in SCHEMES:
        raise ValueError(f"there is no landmark scheme {name!r}; there are {', '.join(SCHEMES)}")
    return SCHEMES[name]


def visible_only(
    landmarks_px: Float[np.ndarray, "*n p d"], visible: Bool[np.ndarray, "..."] | None = None
) -> Float[np.ndarray, "*n p d"]:
    """Landmarks with the invisible ones as NaN, as a fit wants them.

    `visible` (…, p) is AFLW's flag; without it a point is invisible where it is (−1, −1), or (−1, 452) as in the `pt2d` of
    AFLW2000-3D, whose y was turned over (h + 1 − y, h = 450) after −1 was written. Both are the files' own numbers,
    before anything is subtracted.
    """
    landmarks = np.array(landmarks_px, dtype=np.float64)
    x, y = landmarks[..., 0], landmarks[..., 1]
    hidden = (x == -1) & ((y == -1) | (y == 452)) if visible is None else ~np.asarray(visible, dtype=bool)
    if hidden.shape != landmarks.shape[:-1]:
        raise ValueError(f"visibility {hidden.shape} does not fit landmarks {landmarks.shape}: one flag a point")
    landmarks[hidden] = np.nan
    return landmarks

"""The 68-point iBUG scheme: groups, and which point becomes which in a mirrored picture. Indices are zero-based."""

import numpy as np

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

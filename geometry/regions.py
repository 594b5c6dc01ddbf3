"""The regions of a face (eyes, nose, mouth, brows, ears, neck, forehead, cheeks and jaw), found from its 68 landmarks.

For models that bring no segmentation of their own. Lengths are multiples of the distance between the outer eye corners,
so the same rules hold for every model, whatever its size and its number of vertices.
"""

import itertools

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from geometry import landmarks as lm
from geometry.morphable_model import REGION_NAMES

_CODE = {name: code for code, name in enumerate(REGION_NAMES)}

# Half-axes (x, y, z) of the ellipsoids about the centres of an eye and of the lips, and the reach of a brow.
_EYE_AXES = (0.33, 0.18, 0.73)
_MOUTH_AXES = (0.45, 0.28, 0.97)
_BROW_REACH = 0.09


def regions_from_landmarks(
    mean_shape: Float[np.ndarray, "v 3"], landmark_vertices: Int[np.ndarray, "68"]
) -> UInt8[np.ndarray, "v"]:
    """Every vertex's region, an index into :data:`~geometry.morphable_model.REGION_NAMES`.

    `mean_shape` stands upright in the model frame (x right, y up, z toward the viewer), in any unit. The neck is
    whatever lies below or behind the jaw's line, so a mask that gives it no weight ends where the face ends.
    """
    vertices, points = _in_eye_distances(mean_shape, landmark_vertices)
    regions = np.full(len(vertices), _CODE["cheek_jaw"], dtype=np.uint8)
    brow_height = points[lm.RIGHT_BROW.start + 2 : lm.LEFT_BROW.start + 3, 1].mean()
    mouth = _mouth(vertices, points)
    ears = _ears(vertices, points)
    # From the general to the particular: a later rule takes vertices from an earlier one.
    regions[vertices[:, 1] > brow_height + 0.145] = _CODE["forehead"]
    regions[_brows(vertices, points)] = _CODE["brows"]
    regions[_eyes(vertices, points)] = _CODE["eyes"]
    regions[mouth] = _CODE["mouth"]
    regions[_nose(vertices, points) & (regions != _CODE["eyes"])] = _CODE["nose"]
    regions[ears] = _CODE["ears"]
    regions[_neck(vertices, points) & ~ears & ~mouth] = _CODE["neck"]
    return regions


def _in_eye_distances(shape: np.ndarray, landmark_vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and landmarks about the middle of the outer eye corners, in units of their distance."""
    right, left = (shape[landmark_vertices[index]].astype(np.float64) for index in lm.OUTER_EYE_CORNERS)
    vertices = (shape.astype(np.float64) - (right + left) / 2) / np.linalg.norm(left - right)
    return vertices, vertices[landmark_vertices]


def _inside(vertices: np.ndarray, *, centre: np.ndarray, axes: tuple[float, float, float]) -> Bool[np.ndarray, "v"]:
    return (((vertices - centre) / axes) ** 2).sum(axis=1) < 1


def _eyes(vertices: np.ndarray, points: np.ndarray) -> Bool[np.ndarray, "v"]:
    right, left = (points[eye].mean(axis=0) for eye in (lm.RIGHT_EYE, lm.LEFT_EYE))
    return _inside(vertices, centre=right, axes=_EYE_AXES) | _inside(vertices, centre=left, axes=_EYE_AXES)


def _mouth(vertices: np.ndarray, points: np.ndarray) -> Bool[np.ndarray, "v"]:
    """The lips and their surroundings; the corner's depth keeps the neck and the ears behind out."""
    lips = points[lm.OUTER_LIPS]
    return _inside(vertices, centre=lips.mean(axis=0), axes=_MOUTH_AXES) & (vertices[:, 2] > lips[0, 2] - 0.18)


def _nose(vertices: np.ndarray, points: np.ndarray) -> Bool[np.ndarray, "v"]:
    """Between bridge and base, as wide as a nose is at that height, and no deeper than the nostrils' roots."""
    bridge, tip, base = points[27], points[30], points[33]
    heights = (base[1] - 0.073, base[1] + 0.097, tip[1] + 0.121, bridge[1])
    half_width = np.interp(vertices[:, 1], heights, (0.23, 0.29, 0.24, 0.133))
    high_enough, low_enough = vertices[:, 1] > base[1] - 0.06, vertices[:, 1] < bridge[1] + 0.024
    front = vertices[:, 2] > bridge[2] - 0.39
    return (np.abs(vertices[:, 0] - tip[0]) < half_width) & high_enough & low_enough & front


def _brows(vertices: np.ndarray, points: np.ndarray) -> Bool[np.ndarray, "v"]:
    near = np.zeros(len(vertices), dtype=bool)
    for brow in (points[lm.RIGHT_BROW], points[lm.LEFT_BROW]):
        for start, end in itertools.pairwise(brow):
            along = np.clip((vertices - start) @ (end - start) / ((end - start) ** 2).sum(), 0, 1)
            near |= np.linalg.norm(vertices - start - along[:, None] * (end - start), axis=1) < _BROW_REACH
    return near


def _ears(vertices: np.ndarray, points: np.ndarray) -> Bool[np.ndarray, "v"]:
    """Roughly: a block behind the first jaw point of either side, from a little above it down to the third."""
    ears = np.zeros(len(vertices), dtype=bool)
    for side, (top, third) in ((-1, (points[0], points[2])), (1, (points[16], points[14]))):
        x, y, z = vertices.T
        depth = top[2] - z
        tall = (y > third[1] - 0.09) & (y < top[1] + 0.12)
        ears |= (side * x > 0.88 * side * top[0]) & tall & (depth > 0.03) & (depth < 0.46)
    return ears


def _neck(vertices: np.ndarray, points: np.ndarray) -> Bool[np.ndarray, "v"]:
    """Below or behind the line through the jaw's angle and the chin, seen from the side, or deeper than the chin.

    Nothing above the jaw's third point: there the same line runs through the ear and the back of the head.
    """
    chin = points[8]
    _, y, z = vertices.T
    neck = y < chin[1] - 0.06
    for side, (angle, third) in ((-1, (points[4], points[2])), (1, (points[12], points[14]))):
        forward, down = chin[2] - angle[2], chin[1] - angle[1]
        outside = forward * (y - angle[1] + 0.024) < down * (z - angle[2])
        neck |= outside & (y < third[1]) & (side * (vertices[:, 0] - chin[0]) >= 0)
    return neck

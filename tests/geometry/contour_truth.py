"""Landmarks as a person places them, from a z-buffer: those of the jaw lie where the drawn head shows its outline.

A jaw point whose vertex is seen in the drawn picture stays at its vertex. One that is hidden lies somewhere on the outline
of the face on its own side of the head: the places, row by row, where the picture stops showing the face. Ears, neck and
what lies behind the jaw's first point do not count as face. People do not agree where along the outline, so there are
three rules: straight "across" from the hidden vertex, at the same "height" on the face, or "evenly" spaced.
Nothing here knows of normals or of paths on the face.
"""

import numpy as np

from geometry.camera import ScaledOrthographicCamera
from geometry.landmarks import JAW
from geometry.morphable_model import REGION_NAMES
from render.zbuffer import interpolate, rasterize

RULES = ("across", "height", "evenly")
CHIN = 8

FINER = 3  # the head is drawn at three times the size
HIDDEN_MM = 2.0


def front_triangles(model):
    """Whether a triangle belongs to the face in front of the ears."""
    mean = model.mean_shape
    front = mean[:, 2] > mean[model.landmark_vertices[[0, 16]], 2].mean() - 2
    front &= ~np.isin(model.regions, [REGION_NAMES.index(name) for name in ("ears", "neck")])
    return front[model.triangles].all(axis=1)


def landmarks_on_the_outline(model, coefficients, *, scale, rotation, centre_px, rule="across"):
    """(68 2) landmarks in the image frame of one face, and which of them were moved (68,)."""
    vertices = model.vertices(coefficients).astype(np.float64)
    up = rotation[:2, 1] / np.linalg.norm(rotation[:2, 1])
    upright = np.array([[up[1], -up[0], 0], [up[0], up[1], 0], [0, 0, 1]])  # turns the picture until the head stands
    turned = vertices @ (upright @ rotation).T * (scale * FINER)
    low, high = turned[:, :2].min(axis=0), turned[:, :2].max(axis=0)
    drawn = np.stack([turned[:, 0] - low[0] + 2, high[1] - turned[:, 1] + 2, turned[:, 2]], axis=1)
    size = tuple(int(n) + 5 for n in (high - low)[::-1])
    buffers = rasterize(drawn, model.triangles, size_hw=size)
    is_front = np.append(front_triangles(model), False)[buffers.triangle_id]
    heights = interpolate(buffers, model.mean_shape[:, 1:2].astype(np.float32), model.triangles)[:, :, 0]

    points = drawn[model.landmark_vertices].copy()
    seen = buffers.depth[tuple(np.round(points[: JAW.stop, 1::-1]).astype(int).T)]
    moved = np.append(points[: JAW.stop, 2] < seen - HIDDEN_MM * scale * FINER, np.zeros(68 - JAW.stop, bool))
    moved[CHIN] = False
    rows = np.flatnonzero(is_front.any(axis=1))
    for side, columns, edge in (
        (range(CHIN), is_front[rows].argmax(axis=1), -0.5),
        (range(CHIN + 1, JAW.stop), size[1] - 1 - is_front[rows, ::-1].argmax(axis=1), 0.5),
    ):
        outline = np.stack([columns + edge, rows], axis=1)
        hidden = [landmark for landmark in side if moved[landmark]]
        if hidden:
            points[hidden, :2] = _RULES[rule](model, hidden, points, outline, heights[rows, columns])
    upright_px = np.stack([points[:, 0] - 2 + low[0], high[1] + 2 - points[:, 1]], axis=1) / FINER
    return centre_px + upright_px @ upright[:2, :2] * (1, -1), moved


def _across(model, hidden, points, outline, heights):
    return outline[np.abs(outline[:, 1] - points[hidden, 1:2]).argmin(axis=1)]


def _at_the_same_height(model, hidden, points, outline, heights):
    wanted = model.mean_shape[model.landmark_vertices[hidden], 1]
    return outline[np.abs(heights - wanted[:, None]).argmin(axis=1)]


def _evenly(model, hidden, points, outline, heights):
    """From the height of the uppermost hidden point to the next one that is seen, in equal steps along the outline."""
    side = -1 if hidden[0] < CHIN else 1
    order = sorted(hidden, key=lambda landmark: side * (CHIN - landmark))  # from the ear to the chin
    upper = _at_the_same_height(model, [order[0]], points, outline, heights)[0]
    lower = points[order[-1] - side, :2]  # the neighbour toward the chin, which is seen
    between = outline[(outline[:, 1] >= upper[1]) & (outline[:, 1] <= lower[1])]
    line = np.concatenate([upper[None], between, lower[None]])
    length = np.append(0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1)))
    wanted = np.linspace(0, length[-1], len(order) + 1)[:-1]
    placed = np.stack([np.interp(wanted, length, line[:, k]) for k in range(2)], axis=1)
    return placed[[order.index(landmark) for landmark in hidden]]


_RULES = dict(zip(RULES, (_across, _at_the_same_height, _evenly), strict=True))


def camera_of(scale, rotation, centre_px):
    """The camera that `landmarks_on_the_outline` looks through."""
    return ScaledOrthographicCamera(scale, rotation, np.append(centre_px, 0.0))

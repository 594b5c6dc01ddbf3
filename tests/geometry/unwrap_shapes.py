"""The meshes that every unwrap is tried on: all lopsided, in millimetres, upright, the front toward +z."""

import numpy as np
from scipy.spatial import Delaunay

from geometry.mesh import Mesh, submesh


def sphere_cap():
    """A cap of a sphere of 80 mm about the front, 1.2 rad to its rim."""
    return _wrapped(_rings(10, 1.2), lambda polar: 80 * _on_sphere(polar))


def annulus():
    """The cap with a hole that is not in its middle, bumpy."""
    cap = _rings(12, 1.2)
    bumps = np.random.default_rng(3).normal(size=len(cap))
    mesh = _wrapped(cap, lambda polar: (80 + bumps)[:, None] * _on_sphere(polar))
    return _without(mesh, np.linalg.norm(cap - (0.2, -0.3), axis=1) < 0.3)


def head(rings=36):
    """Closed at the crown, open at the neck; ears that hang over, a nose, two eye holes, an open mouth."""
    polar = _rings(rings, 2.5)
    pole_angle, around = np.linalg.norm(polar, axis=1), np.arctan2(polar[:, 0], polar[:, 1])
    direction = np.stack(
        [np.sin(pole_angle) * np.sin(around), np.cos(pole_angle), np.sin(pole_angle) * np.cos(around)], axis=1
    )
    vertices = direction * (75, 110, 90) + (1.0, 0.0, -4.0)
    vertices[:, 2] += 28 * _bump(direction, (0.03, -0.15, 1.0), 0.16)  # a nose whose underside turns away
    vertices[:, 1] -= 10 * _bump(direction, (0.03, -0.22, 1.0), 0.12)
    for side, size in ((1, 38), (-1, 34)):
        ear = _bump(direction, (side, 0.0, -0.15), 0.17)[:, None]
        vertices += size * ear * np.array([0.4 * side, 0.1, -1.0])
    mesh = _wound(polar, vertices)
    holes = np.zeros(len(vertices), dtype=bool)
    for place, radius in (((0.38, 0.2, 1.0), 0.11), ((-0.36, 0.2, 1.0), 0.11), ((0.02, -0.5, 1.0), 0.1)):
        holes |= _angle_to(direction, place) < radius
    return _without(mesh, holes)


def slivers():
    """A strip a hundred times as wide as its triangles are high, bent round an axis."""
    rng = np.random.default_rng(1)
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-1, 1, 8), np.linspace(0, 0.05, 14)))
    inner = (np.abs(x) < 1) & (y > 0) & (y < 0.05)
    flat = np.stack(
        [x + inner * rng.uniform(-0.05, 0.05, x.size), y + inner * rng.uniform(-1e-3, 1e-3, x.size)], axis=1
    )
    i, j = (a.ravel() for a in np.meshgrid(np.arange(7), np.arange(13)))
    a = j * 8 + i
    triangles = np.concatenate([np.stack([a, a + 1, a + 9], 1), np.stack([a, a + 9, a + 8], 1)]).astype(np.int32)
    return Mesh(np.stack([80 * np.sin(flat[:, 0]), 80 * flat[:, 1], 80 * np.cos(flat[:, 0])], axis=1), triangles)


def needles():
    """A cap some of whose vertices all but coincide with their neighbours, a ten thousandth of an edge apart."""
    polar = _rings(9, 1.1)
    triangles = Delaunay(polar).simplices
    rng = np.random.default_rng(2)
    moved = polar.copy()
    taken = np.zeros(len(polar), dtype=bool)
    for t in rng.permutation(len(triangles)):
        a, b = triangles[t, :2]
        around = np.unique(triangles[(triangles == a).any(axis=1)])
        if not taken[around].any() and np.linalg.norm(polar[[a, b]], axis=1).max() < 0.95:
            moved[a] = polar[b] + 1e-4 * (polar[a] - polar[b])
            taken[around] = True
    mesh = _wrapped(polar, lambda _: 80 * _on_sphere(moved))
    assert taken.sum() > 20
    return mesh


SHAPES = {
    "sphere cap": sphere_cap,
    "annulus": annulus,
    "head with eye holes": head,
    "slivers": slivers,
    "needles": needles,
}


def on_a_grid(n):
    """A height field of n × n vertices like a face without holes, for speed."""
    x, y = np.meshgrid(np.linspace(-90, 90, n), np.linspace(-110, 100, n))
    z = 100 - x**2 / 110 - (y + 8) ** 2 / 260 + 30 * np.exp(-(((x - 1) / 12) ** 2) - ((y + 5) / 16) ** 2)
    i, j = (a.ravel() for a in np.meshgrid(np.arange(n - 1), np.arange(n - 1)))
    a = j * n + i
    triangles = np.concatenate([np.stack([a, a + 1, a + n + 1], 1), np.stack([a, a + n + 1, a + n], 1)])
    return Mesh(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1), triangles.astype(np.int32))


def _rings(rings, opening):
    """Polar places (angle from the pole as a vector), 6k of them on ring k, a little uneven."""
    rows = [np.zeros((1, 2))]
    for k in range(1, rings + 1):
        angle = 2 * np.pi * (np.arange(6 * k) + 0.3 * np.sin(k)) / (6 * k)
        rows.append(opening * k / rings * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    return np.concatenate(rows)


def _on_sphere(polar):
    theta = np.linalg.norm(polar, axis=1, keepdims=True)
    toward = polar / np.maximum(theta, 1e-300)
    return np.concatenate([np.sin(theta) * toward, np.cos(theta)], axis=1)


def _wrapped(polar, place):
    return _wound(polar, place(polar), mirrored=False)


def _wound(polar, vertices, *, mirrored=True):
    """The places' Delaunay triangles; `mirrored`: seen from the pole the places run clockwise in space."""
    rim = np.linalg.norm(polar, axis=1)
    triangles = Delaunay(polar * (1 + 1e-9 * rim[:, None])).simplices
    a, b, c = (polar[triangles[:, k]] for k in range(3))
    turned = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0] < 0
    triangles = np.where((turned != mirrored)[:, None], triangles[:, ::-1], triangles)
    return Mesh(np.ascontiguousarray(vertices), np.ascontiguousarray(triangles, dtype=np.int32))


def _bump(direction, place, width):
    return np.exp(-((_angle_to(direction, place) / width) ** 2))


def _angle_to(direction, place):
    return np.arccos(np.clip(direction @ (np.array(place) / np.linalg.norm(place)), -1, 1))


def _without(mesh, gone):
    triangles, _ = submesh(mesh.triangles, ~gone)
    used = np.zeros(len(mesh.vertices), dtype=bool)
    used[~gone] = np.isin(np.arange(int((~gone).sum())), triangles)
    triangles, _ = submesh(mesh.triangles, used)
    return Mesh(mesh.vertices[used], triangles)


def exact_cap(rings, opening=1.2):
    """A cap of the unit sphere about +z and its stereographic image, in a disk of radius ½ about (½, ½)."""
    polar = np.concatenate(
        [np.zeros((1, 2))]
        + [
            opening * k / rings * np.stack([np.cos(a), np.sin(a)], axis=1)
            for k in range(1, rings + 1)
            for a in [2 * np.pi * np.arange(6 * k) / (6 * k)]
        ]
    )
    theta = np.linalg.norm(polar, axis=1, keepdims=True)
    exact = np.tan(theta / 2) * polar / np.maximum(theta, 1e-300) / np.tan(opening / 2)
    return _wrapped(polar, _on_sphere), 0.5 + 0.5 * exact

"""A face-like mesh with the counts of the Basel Face Model's cut, for tests and benchmarks (loaded by its path)."""

import numpy as np
from scipy.spatial import Delaunay

from geometry.mesh import Mesh


def face_like_annulus(n_vertices=53_215, n_outer=512, n_inner=78):
    """A height field with nose and sockets whose inner rim is a slit; no symmetry, nothing random.

    Vertices lie on a sunflower's spiral between the two rims; the plane is then squeezed so that the inner one closes.
    """
    n_free = n_vertices - n_outer - n_inner
    spacing = np.sqrt(np.pi / n_free)
    hole = n_inner * spacing / (2 * np.pi)
    low, high = (hole + 0.7 * spacing) ** 2, (1 - 0.6 * max(spacing, 2 * np.pi / n_outer)) ** 2
    k = np.arange(n_free)
    spiral = np.sqrt(low + (high - low) * (k + 0.5) / n_free)[:, None] * on_circle(k * (3 - np.sqrt(5)) * np.pi)
    rims = (
        on_circle(2 * np.pi * np.arange(n_outer) / n_outer),
        hole * on_circle(2 * np.pi * np.arange(n_inner) / n_inner),
    )
    disk = np.concatenate([*rims, spiral])
    triangles = Delaunay(disk).simplices
    in_hole = ((triangles >= n_outer) & (triangles < n_outer + n_inner)).all(axis=1)
    a, b, c = (disk[triangles[~in_hole][:, i]] for i in range(3))
    turned = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    triangles = np.where(turned[:, None], triangles[~in_hole][:, ::-1], triangles[~in_hole]).astype(np.int32)
    squeezed = disk[:, 1] * (1 - 0.9 * (hole / np.linalg.norm(disk, axis=1)) ** 2)
    x, y = 88 * disk[:, 0] + 4 * squeezed**2, 105 * squeezed - 8
    return Mesh(np.stack([x, y, height(x, y)], axis=1), triangles)


def on_circle(angle):
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def height(x, y):
    skull = 100 - x**2 / 110 - (y + 8) ** 2 / 160
    nose = 38 * np.exp(-(((x - 1) / 12) ** 2) - ((y - 25) / 16) ** 2) * (1 - 0.3 * np.tanh((y - 12) / 3))
    sockets = 9 * np.exp(-(((np.abs(x + 0.5) - 32) / 11) ** 2) - ((y - 50) / 8) ** 2)
    return skull + nose - sockets

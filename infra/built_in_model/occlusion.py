"""Ambient occlusion of the vertices, by a small z-buffer of its own: its every bit is in the model's content hash."""

import numpy as np
from numba import njit

N_DIRECTIONS = 160
PICTURE_SIZE = 700
BIAS_DM = 0.010


def open_sky(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(v,) the cosine-weighted share of the outside hemisphere that is visible, 0 dark to 1 open, by shadow maps."""
    normals = _normals(vertices, triangles)
    k = np.arange(N_DIRECTIONS) + 0.5
    around, height = np.pi * (1 + 5**0.5) * k, 1 - 2 * k / N_DIRECTIONS  # Fibonacci's sphere
    ring = np.sqrt(1 - height * height)
    directions = np.stack([ring * np.cos(around), height, ring * np.sin(around)], 1)
    centre = (vertices.min(0) + vertices.max(0)) / 2
    radius = np.linalg.norm(vertices - centre, axis=1).max()
    seen, possible = np.zeros(len(vertices)), np.zeros(len(vertices))
    half = PICTURE_SIZE / 2
    for direction in directions:
        right = np.cross(direction, [0, 0, 1.0] if abs(direction[2]) < 0.9 else [1.0, 0, 0])
        right /= np.linalg.norm(right)
        up = np.cross(direction, right)
        offset = vertices - centre
        projected = np.stack(
            [half * (1 + offset @ right / radius * 0.98), half * (1 + offset @ up / radius * 0.98), offset @ direction],
            1,
        )
        depth = _depth_buffer(projected, triangles, PICTURE_SIZE, PICTURE_SIZE)
        x = np.clip(np.rint(projected[:, 0]).astype(int), 0, PICTURE_SIZE - 1)
        y = np.clip(np.rint(projected[:, 1]).astype(int), 0, PICTURE_SIZE - 1)
        cosine = np.clip(normals @ direction, 0, None)
        # a surface seen at a slant spans more depth within one pixel
        slant = np.sqrt(np.clip(1 - cosine**2, 0, 1)) / np.maximum(cosine, 0.15)
        bias = BIAS_DM + 2 * radius / PICTURE_SIZE * slant
        seen += cosine * (projected[:, 2] > depth[y, x] - bias)
        possible += cosine
    return seen / np.maximum(possible, 1e-9)


def _normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    scaled = np.cross(
        vertices[triangles[:, 1]] - vertices[triangles[:, 0]], vertices[triangles[:, 2]] - vertices[triangles[:, 0]]
    )
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], scaled)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


@njit(cache=True)
def _depth_buffer(points: np.ndarray, triangles: np.ndarray, height: int, width: int) -> np.ndarray:
    """Depth (height width) of the nearest triangle, larger z nearer, both faces; −1e30 where there is none."""
    depth = np.full((height, width), -1e30)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, x1, y1, x2, y2 = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-12:
            continue
        left, right = max(int(np.ceil(min(x0, x1, x2))), 0), min(int(np.floor(max(x0, x1, x2))), width - 1)
        top, bottom = max(int(np.ceil(min(y0, y1, y2))), 0), min(int(np.floor(max(y0, y1, y2))), height - 1)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                second = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
                third = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
                first = 1 - second - third
                if first < -1e-9 or second < -1e-9 or third < -1e-9:
                    continue
                z = first * points[a, 2] + second * points[b, 2] + third * points[c, 2]
                if z > depth[y, x]:
                    depth[y, x] = z
    return depth

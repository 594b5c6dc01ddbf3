"""A shirt below the built-in neck: the neck's open end is inside a collar, from which shoulders fall.

The shoulders turn less than the head does, about the neck, as people's do.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Int32
from scipy.spatial import cKDTree

from geometry.built_in import load_built_in
from geometry.mesh import boundary_loops, submesh
from geometry.rotation import rotation_from_euler
from render.lit_surface import Surface, surface_normals

_ROWS_MM = (3.0, 8.0, 16.0, 28.0, 44.0, 64.0, 90.0, 130.0, 200.0, 330.0)  # below the neck's end
_SHOULDERS_MM = (215.0, 95.0)  # half the width across, half the depth
_OUT = (0.03, 0.07, 0.14, 0.30, 0.52, 0.74, 0.90, 1.0, 1.04, 1.08)  # from the neck to the shoulders
_THICKNESS_MM = 3.0
_FOLLOWS = 0.45  # the share of the head's turn that shoulders share


@dataclass(frozen=True, slots=True)
class Clothes:
    """One person's shirt."""

    colour: Float[np.ndarray, "3"]
    stripes: float
    """Darkening of every second stripe; 0: plain."""
    collar_mm: float


def draw_clothes(rng: np.random.Generator) -> Clothes:
    """A shirt of any colour, every fourth one with stripes."""
    grey = np.exp(rng.uniform(np.log(0.015), np.log(0.7)))
    colour = np.clip(grey * np.exp(rng.normal(0, 0.4, 3)), 0.008, 0.8)
    return Clothes(colour, rng.uniform(0.2, 0.7) if rng.random() < 0.25 else 0.0, rng.uniform(5, 22))


@dataclass(frozen=True, eq=False)
class _Neck:
    """The skin's lower end (mm of the mean head)."""

    loop: Int32[np.ndarray, "l"]
    """Its border, in the direction of its triangles' edges."""
    vertices: Int32[np.ndarray, "n"]
    triangles: Int32[np.ndarray, "t 3"]
    """Among `vertices`, the part that a collar may cover."""
    above_end: Float[np.ndarray, "n"]
    """Height over the plane through the border's lowest points behind and its highest in front."""
    to_end: Float[np.ndarray, "n"]
    """Distance to the border."""
    loop_in_vertices: Int32[np.ndarray, "l"]


@lru_cache(maxsize=1)
def _neck() -> _Neck:
    skin = load_built_in()
    mean = skin.mean_shape.astype(np.float64)
    loop = max(boundary_loops(skin.triangles), key=lambda found: -mean[found, 1].mean())
    plane, *_ = np.linalg.lstsq(np.column_stack([np.ones(len(loop)), mean[loop, 2]]), mean[loop, 1], rcond=None)
    above = mean[:, 1] - plane[0] - plane[1] * mean[:, 2]
    keep = (above < 45) & (mean[:, 1] < -40)
    keep[loop] = True
    triangles, numbers = submesh(skin.triangles, keep)
    to_end = cKDTree(mean[loop]).query(mean[keep])[0]
    return _Neck(loop, np.flatnonzero(keep).astype(np.int32), triangles, above[keep], to_end, numbers[loop])


def shirt_surface(
    clothes: Clothes,
    skin: Float32[np.ndarray, "v 3"],
    normals: Float32[np.ndarray, "v 3"],
    *,
    pitch: float,
    yaw: float,
    roll: float,
) -> Surface:
    """The shirt under one head that is turned so (radians, as the camera sees it), in the head's own frame (mm).

    `skin` and `normals` are those of `load_built_in()`. The collar is a shell on the neck, like hair
    (:mod:`render.hair`); below the neck's end it goes on as rows that widen to the shoulders.
    """
    neck = _neck()
    tilt = 0.12 * (skin[neck.vertices, 2] + 60)
    inside = np.maximum(clothes.collar_mm - neck.above_end - tilt, 9.0 - neck.to_end)
    lift = np.clip(0.8 * inside, -2.0, _THICKNESS_MM).astype(np.float32)
    collar = skin[neck.vertices] + lift[:, None] * normals[neck.vertices]
    seen = (lift[neck.triangles] > -2.0).any(axis=1)

    loop = collar[neck.loop_in_vertices].astype(np.float64)
    pivot = np.array([loop[:, 0].mean(), loop[:, 1].max(), loop[:, 2].mean()])
    outward = loop - pivot
    outward[:, 1] = 0
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    head = rotation_from_euler(pitch, yaw, roll)
    width, depth = _SHOULDERS_MM
    # where a ray from the neck's axis meets the shoulders' outline, an ellipse with flat ends
    reach = ((np.abs(outward[:, 0]) / width) ** 2.4 + (np.abs(outward[:, 2]) / depth) ** 2.4) ** (-1 / 2.4)
    shoulders = pivot + outward * np.maximum(reach, np.linalg.norm((loop - pivot)[:, ::2], axis=1) + 15)[:, None]
    rows = []
    stays = _FOLLOWS + (1 - _FOLLOWS) * np.clip(1 - np.array(_OUT) / 0.6, 0, 1)
    head_from_body = head.T @ rotation_from_euler(pitch * stays, yaw * stays, roll * stays)  # (rows 3 3)
    for below, out, turn in zip(_ROWS_MM, _OUT, head_from_body, strict=True):
        row = loop + (shoulders - loop) * out
        level = min(below / 130.0, 1.0)
        end_y = np.minimum(loop[:, 1] - 6, pivot[1] - 30)
        row[:, 1] = loop[:, 1] * (1 - level) + end_y * level - below * (0.45 + 0.55 * level)
        rows.append((row - pivot) @ turn.T + pivot)
    first = len(collar)
    n, m = len(rows), len(loop)
    number = first + np.arange(n * m).reshape(n, m)
    number = np.vstack([neck.loop_in_vertices, number])  # the rows begin at the collar's own border
    here, there = number, np.roll(number, -1, axis=1)
    outside = np.concatenate(
        [
            neck.triangles[seen],
            np.stack([there[:-1], here[:-1], here[1:]], axis=-1).reshape(-1, 3),
            np.stack([there[1:], there[:-1], here[1:]], axis=-1).reshape(-1, 3),
        ]
    ).astype(np.int32)
    vertices = np.concatenate([collar, *rows]).astype(np.float32)
    triangles = np.concatenate([outside, outside[:, ::-1]])  # from below one sees the inside, and never through it
    down = np.concatenate([-neck.above_end, np.repeat(_ROWS_MM, m)])
    striped = 1 - clothes.stripes * (0.5 + 0.5 * np.tanh(3 * np.sin(down / 5.0)))
    return Surface.of(
        vertices,
        triangles,
        albedo=striped[:, None] * clothes.colour,
        gloss=0.004,
        shininess=6.0,
        normals=surface_normals(vertices, outside),
    )

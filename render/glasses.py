"""Glasses as geometry on the built-in head: rims and temples that are opaque, lenses that are not.

The frame is hung where a face carries one: the bridge above the nose's back, the lenses clear of brows and cheeks, the
temples along the sides of the head to the roots of the ears.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float32

from geometry.built_in import load_built_in
from geometry.landmarks import LEFT_EYE, RIGHT_EYE
from render.lit_surface import Surface, joined

FRAME_COLOURS = np.array(
    [
        [0.01, 0.01, 0.012],
        [0.05, 0.02, 0.01],
        [0.25, 0.22, 0.18],
        [0.3, 0.18, 0.05],
        [0.2, 0.01, 0.02],
        [0.02, 0.03, 0.12],
    ]
)
"""Linear RGB: black, tortoise, steel, gold, red, blue."""

_AROUND, _SECTION = 44, 6


@dataclass(frozen=True, slots=True)
class Glasses:
    """One person's glasses; lengths in mm."""

    half_width: float
    half_height: float
    roundness: float
    """Exponent of the rims' superellipse: 2 is an ellipse, 5 nearly a rectangle."""
    wire: float
    colour: Float[np.ndarray, "3"]
    tint: Float[np.ndarray, "3"]
    opacity: float
    """Of the lenses seen straight on."""
    clearance: float


def draw_glasses(rng: np.random.Generator, *, dark: bool) -> Glasses:
    """The glasses of one person, sun glasses when `dark`."""
    tint = np.exp(rng.uniform(np.log(0.004), np.log(0.03))) * np.exp(rng.normal(0, 0.4, 3))
    opacity = rng.uniform(0.75, 0.95)
    colour = FRAME_COLOURS[rng.integers(len(FRAME_COLOURS))] * rng.uniform(0.7, 1.3)
    half_width = rng.uniform(22.5, 27)
    return Glasses(
        half_width=half_width,
        half_height=half_width * (rng.uniform(0.72, 0.95) if dark else rng.uniform(0.58, 0.92)),
        roundness=rng.uniform(2.0, 4.5),
        wire=rng.uniform(0.8, 2.2),
        colour=colour,
        tint=tint if dark else np.full(3, 0.25),
        opacity=opacity if dark else rng.uniform(0.02, 0.10),
        clearance=rng.uniform(1.0, 3.0),
    )


@lru_cache(maxsize=1)
def _head() -> tuple[Bool[np.ndarray, "v"], Bool[np.ndarray, "v"]]:
    """Which skin vertices are ears, and which lie at the sides of the head between eyes and ears."""
    skin = load_built_in()
    mean = skin.mean_shape
    ears = skin.file.mask("ears")[skin.template_vertices] > 100
    sides = (mean[:, 2] < 25) & (mean[:, 2] > -30) & (mean[:, 1] > 5) & (mean[:, 1] < 40) & ~ears
    return ears, sides


def glasses_surfaces(
    glasses: Glasses, skin: Float32[np.ndarray, "v 3"], landmarks: Float32[np.ndarray, "68 3"]
) -> tuple[Surface, Surface]:
    """Frame and lenses on one head (skin and 68 landmarks in mm)."""
    ears, sides = _head()
    eyes = np.array([landmarks[RIGHT_EYE].mean(axis=0), landmarks[LEFT_EYE].mean(axis=0)], dtype=np.float64)
    centre_y = eyes[:, 1].mean() - 2.0
    apart = max(abs(eyes[1, 0] - eyes[0, 0]) / 2 + 1.0, glasses.half_width + 7.0)
    middle_x = eyes[:, 0].mean()
    # Before everything that the rims' opening spans, but for the nose, which the bridge sits on
    across = np.abs(skin[:, 0] - middle_x)
    spanned = (np.abs(skin[:, 1] - centre_y) < glasses.half_height + 1) & (across < apart + glasses.half_width)
    spanned &= (across > apart - glasses.half_width + 3) & (skin[:, 2] > 0)
    curve = 1 / 520.0
    plane_z = float((skin[spanned, 2] + curve * across[spanned] ** 2).max()) + glasses.clearance + glasses.wire
    bridge_y = centre_y + 0.35 * glasses.half_height
    nose = (across < 2.5) & (np.abs(skin[:, 1] - bridge_y) < 3) & (skin[:, 2] > 20)
    bridge_z = max(float(skin[nose, 2].max()) + 0.6 * glasses.wire + 0.3 if nose.any() else plane_z, plane_z - 1.0)

    def on_plane(x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, "n 3"]:
        return np.stack([middle_x + x, y, plane_z - curve * x**2], axis=-1)

    turn = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
    unit = [np.sign(f(turn)) * np.abs(f(turn)) ** (2 / glasses.roundness) for f in (np.cos, np.sin)]
    parts, lenses = [], []
    for side in (-1, 1):
        rim = on_plane(side * (apart + glasses.half_width * unit[0]), centre_y + glasses.half_height * unit[1])
        parts.append(_tube(np.vstack([rim, rim[:1]]), glasses.wire, glasses))
        lenses.append(_lens(rim, on_plane(np.array([side * apart]), np.array([centre_y]))[0], side, glasses))
        hinge = on_plane(
            np.array([side * (apart + glasses.half_width * 0.97)]), np.array([centre_y + 0.3 * glasses.half_height])
        )[0]
        own = ears & (skin[:, 0] * side > 0)
        root = skin[own][np.argmax(skin[own, 1])].astype(np.float64)
        beside = side * float((skin[sides, 0] * side).max()) + side * (1.2 + glasses.wire)
        corner = hinge + (side * 2.0, 0.5, -5.0)
        at_ear = np.array([beside, root[1] - 2.0, root[2] + 2.0])
        behind = at_ear + np.array([0.0, -16.0, -26.0])
        path = np.array([hinge, corner, corner * 0.5 + at_ear * 0.5, at_ear, behind])
        parts.append(_tube(path, max(glasses.wire * 0.9, 1.0), glasses))
    inner = apart - glasses.half_width * 0.99
    x = np.linspace(-inner, inner, 9)
    bridge = on_plane(x, bridge_y + 2.0 * (1 - (x / inner) ** 2))
    bridge[:, 2] += (bridge_z - plane_z) * (1 - (x / inner) ** 2)
    parts.append(_tube(bridge, glasses.wire * 1.05, glasses))
    return joined(parts), joined(lenses)


def _tube(path: Float[np.ndarray, "n 3"], radius: float, glasses: Glasses) -> Surface:
    """A round bar along a path; where the path closes, its last point repeats the first."""
    closed = np.allclose(path[0], path[-1])
    if closed:
        extended = np.vstack([path[-2], path, path[1]])
        along = extended[2:] - extended[:-2]
    else:
        along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    reference = np.where(np.abs(along[:, 2:]) < 0.9, np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]))
    first = np.cross(along, reference)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    turn = np.arange(_SECTION) / _SECTION * 2 * np.pi
    ring = np.cos(turn)[None, :, None] * first[:, None] + np.sin(turn)[None, :, None] * second[:, None]
    vertices = (path[:, None] + radius * ring).reshape(-1, 3).astype(np.float32)
    n = len(path)
    i, j = (index.ravel() for index in np.meshgrid(np.arange(n - 1), np.arange(_SECTION), indexing="ij"))
    a, b = i * _SECTION + j, i * _SECTION + (j + 1) % _SECTION
    triangles = np.concatenate([np.stack([a, a + _SECTION, b], 1), np.stack([b, a + _SECTION, b + _SECTION], 1)])
    return Surface.of(
        vertices, triangles.astype(np.int32)[:, ::-1].copy(), albedo=glasses.colour, gloss=0.10, shininess=60.0
    )


def _lens(rim: Float[np.ndarray, "n 3"], centre: Float[np.ndarray, "3"], side: int, glasses: Glasses) -> Surface:
    """A slightly bulging pane, seen from both sides."""
    rings = [centre + (rim - centre) * share + np.array([0, 0, 1.5 * (1 - share**2)]) for share in (0.5, 1.0)]
    vertices = np.vstack([centre + np.array([0, 0, 1.5]), *rings]).astype(np.float32)
    n = len(rim)
    here, there = np.arange(n), (np.arange(n) + 1) % n
    fan = np.stack([np.zeros(n, int), 1 + here, 1 + there], 1)
    band = np.concatenate(
        [np.stack([1 + here, 1 + n + here, 1 + there], 1), np.stack([1 + there, 1 + n + here, 1 + n + there], 1)]
    )
    triangles = np.concatenate([fan, band])[:, ::side].astype(np.int32)
    return Surface.of(vertices, np.ascontiguousarray(triangles), albedo=glasses.tint, gloss=0.05, shininess=200.0)

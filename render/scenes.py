"""More to stand before than :mod:`render.backgrounds` has: rooms, foliage, fabrics, streets, all invented.

Half of the draws are those backgrounds; the rest are shapes of many sizes, out of focus, since what a network should
learn to overlook is edges and colours, not places.
"""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float32

from render.backgrounds import draw_background

Picture = Float32[np.ndarray, "h w 3"]


def draw_scene(rng: np.random.Generator, *, size_hw: tuple[int, int]) -> Picture:
    """A background, RGB in [0, 1]; equal states of `rng` give equal pictures."""
    if rng.random() < 0.5:
        return draw_background(rng, size_hw=size_hw)
    kinds: tuple[Callable[..., Picture], ...] = (_room, _room, _foliage, _fabric, _street)
    # drawn at half the size: it is out of focus anyway
    small = kinds[rng.integers(len(kinds))](rng, (max(size_hw[0] // 2, 8), max(size_hw[1] // 2, 8)))
    blur_px = min(size_hw) / 512 * 0.6 * 12 ** rng.random()
    small = cv2.GaussianBlur(small, (0, 0), blur_px, borderType=cv2.BORDER_REFLECT)
    picture = cv2.resize(small, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip(picture * np.float32(rng.uniform(0.5, 1.15)), 0, 1)


def _colour(rng: np.random.Generator, low: float = 0.05, high: float = 0.95, spread: float = 0.15) -> np.ndarray:
    return np.clip(rng.uniform(low, high) * np.exp(rng.normal(0, spread, 3)), 0, 1).astype(np.float32)


def _flat(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    return np.ascontiguousarray(np.broadcast_to(_colour(rng), (*size_hw, 3)))


def _room(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    """A wall, perhaps a window, frames, shelves with things on them, and light that falls off."""
    height, width = size_hw
    picture = _flat(rng, size_hw)
    if rng.random() < 0.5:
        y = int(height * rng.uniform(0.55, 0.95))
        picture[y:] = _colour(rng, 0.05, 0.7)
    for _ in range(rng.integers(2, 9)):
        left, top = rng.uniform(-0.2, 1.0, 2)
        wide, high = np.exp(rng.uniform(np.log(0.05), np.log(0.6), 2))
        first = int(left * width), int(top * height)
        last = int((left + wide) * width), int((top + high) * height)
        cv2.rectangle(picture, first, last, _colour(rng).tolist(), -1)
        if rng.random() < 0.5:
            cv2.rectangle(picture, first, last, _colour(rng).tolist(), int(rng.integers(1, 6)))
    if rng.random() < 0.5:
        shelf = int(height * rng.uniform(0.1, 0.8))
        x = 0
        while x < width:
            wide, high = int(rng.integers(3, 14)), int(rng.integers(10, max(height // 4, 11)))
            cv2.rectangle(picture, (x, shelf - high), (x + wide, shelf), _colour(rng, spread=0.35).tolist(), -1)
            x += wide + int(rng.integers(0, 4))
        cv2.rectangle(picture, (0, shelf), (width, shelf + 3), _colour(rng, 0.05, 0.5).tolist(), -1)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    fall = 1 + np.float32(rng.uniform(0, 0.4)) * (np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y)
    return picture * fall[..., None]


def _foliage(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    """Leaves over leaves, lighter ones in front, sky behind."""
    height, width = size_hw
    picture = _flat(rng, size_hw)
    green = np.array([0.25, 0.4, 0.12], np.float32) * np.exp(rng.normal(0, 0.25, 3)).astype(np.float32)
    n = int(rng.integers(120, 300))
    places, sizes = rng.uniform(-0.05, 1.05, (n, 2)), np.exp(rng.uniform(np.log(0.01), np.log(0.06), n))
    turns, tones = rng.uniform(0, 180, n), rng.uniform(0.3, 1.9, n) * np.linspace(0.6, 1.1, n)
    for (x, y), size, turn, tone in zip(places, sizes, turns, tones, strict=True):
        axes = (max(int(size * width), 1), max(int(size * width * 0.45), 1))
        cv2.ellipse(picture, (int(x * width), int(y * height)), axes, turn, 0, 360, (green * tone).tolist(), -1)
    return picture


def _fabric(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    """Stripes or checks of two or three colours, at an angle, with folds."""
    height, width = size_hw
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
    angle, cycles = rng.uniform(0, np.pi), rng.uniform(3, 22)
    along = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    across = np.float32(-np.sin(angle)) * x + np.float32(np.cos(angle)) * y
    share = (np.sin(2 * np.pi * np.float32(cycles) * along) > rng.uniform(-0.7, 0.7)).astype(np.float32)
    if rng.random() < 0.5:
        share = (share + (np.sin(2 * np.pi * np.float32(cycles) * across) > 0)) / 2
    folds = 1 + np.float32(rng.uniform(0, 0.3)) * np.sin(2 * np.pi * (np.float32(rng.uniform(0.5, 3)) * across))
    one, other = _colour(rng), _colour(rng)
    return ((one * (1 - share[..., None]) + other * share[..., None]) * folds[..., None]).astype(np.float32)


def _street(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    """Blocks before a sky, with rows of windows, some of them lit, and a ground."""
    height, width = size_hw
    picture = _flat(rng, size_hw)
    sky = np.linspace(1.1, 0.8, height, dtype=np.float32)[:, None, None]
    picture = picture * sky
    x = int(-0.1 * width)
    while x < width:
        wide, top = int(width * rng.uniform(0.1, 0.4)), int(height * rng.uniform(0.0, 0.6))
        wall = _colour(rng, 0.05, 0.7, 0.12)
        cv2.rectangle(picture, (x, top), (x + wide, height), wall.tolist(), -1)
        step = int(rng.integers(8, 20))
        for row in range(top + step // 2, height, step):
            for column in range(x + step // 3, x + wide - step // 2, step):
                tone = wall * 0.5 if rng.random() < 0.75 else np.array([0.95, 0.85, 0.6])
                cv2.rectangle(picture, (column, row), (column + step // 2, row + step // 2), tone.tolist(), -1)
        x += wide + int(width * max(rng.normal(0, 0.06), 0))
    ground = int(height * rng.uniform(0.75, 1.0))
    picture[ground:] = _colour(rng, 0.1, 0.6, 0.1)
    return picture

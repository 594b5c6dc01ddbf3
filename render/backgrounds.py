"""Things to stand before: parts of photographs that scikit-image carries, nobody on them, and inventions.

Only pictures that lie in scikit-image's wheel are used, so nothing is downloaded.
"""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32

PHOTOGRAPHS = ("brick", "coffee", "grass", "gravel", "hubble_deep_field", "rocket")
"""Brick, coffee, grass, gravel: CC0; hubble, rocket: public domain (the docstrings of `skimage.data` say so)."""

Picture = Float32[np.ndarray, "h w 3"]


def draw_background(rng: np.random.Generator, *, size_hw: tuple[int, int]) -> Picture:
    """A background, RGB in [0, 1], more or less out of focus; equal states of `rng` give equal pictures."""
    kinds: tuple[Callable[..., Picture], ...] = (_photograph, _photograph, _photograph, _wall, _clouds, _lamps)
    picture = kinds[rng.integers(len(kinds))](rng, size_hw)
    blur_px = 0.4 * 20 ** rng.random()
    picture = cv2.GaussianBlur(picture, (0, 0), blur_px, borderType=cv2.BORDER_REFLECT)
    return np.clip(picture * np.float32(rng.uniform(0.55, 1.1)), 0, 1)


@lru_cache(maxsize=len(PHOTOGRAPHS))
def _read_photograph(name: str) -> Picture:
    import skimage.data  # on first use: 0.1 s

    picture = getattr(skimage.data, name)()
    return np.atleast_3d(picture).astype(np.float32) / np.float32(255) * np.ones(3, np.float32)


def _colour(rng: np.random.Generator, low: float, high: float) -> Float32[np.ndarray, "3"]:
    """A colour of moderate saturation with a brightness between `low` and `high`."""
    return (rng.uniform(low, high) * rng.uniform(0.85, 1.15, 3)).astype(np.float32)


def _photograph(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    """A part of a photograph, mirrored or not; grey ones are tinted."""
    picture = _read_photograph(PHOTOGRAPHS[rng.integers(len(PHOTOGRAPHS))])
    side = int(min(picture.shape[:2]) * rng.uniform(0.5, 1.0))
    top, left = (int(rng.integers(0, extent - side + 1)) for extent in picture.shape[:2])
    part = cv2.resize(picture[top : top + side, left : left + side], size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    part = part[:, ::-1] if rng.random() < 0.5 else part
    return np.ascontiguousarray(part * _colour(rng, 0.75, 1.0))


def _wall(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    """A slanted run from one colour to another, with a little grain."""
    height, width = size_hw
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    along = 1 / (1 + np.exp(-rng.uniform(0.8, 6) * (np.cos(angle) * x + np.sin(angle) * y)))[..., None]
    grain = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(rng.uniform(0, 0.08))
    return (_colour(rng, 0.2, 0.9) * (1 - along) + _colour(rng, 0.2, 0.9) * along + grain).astype(np.float32)


def _clouds(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    """Soft noise of several sizes between two colours."""
    share = np.full(size_hw, 0.5, dtype=np.float32)
    for octave in range(5):
        cells = rng.standard_normal((3 * 2**octave, 3 * 2**octave), dtype=np.float32)
        share += np.float32(0.3 * 0.55**octave) * cv2.resize(cells, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    share = np.clip(share, 0, 1)[..., None]
    return _colour(rng, 0.1, 0.9) * (1 - share) + _colour(rng, 0.1, 0.9) * share


def _lamps(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    """Bright discs out of focus in a dark room."""
    height, width = size_hw
    picture = np.ones((height, width, 3), np.float32) * _colour(rng, 0.05, 0.3)
    for _ in range(rng.integers(10, 50)):
        disc = np.zeros_like(picture)
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.circle(disc, centre, int(rng.integers(4, 40)), _colour(rng, 0.1, 0.6).tolist(), -1)
        picture += disc
    return picture

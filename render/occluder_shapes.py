"""Things that hide faces, drawn from nothing: colour and coverage of each pixel, anti-aliased and textured.

A layer is RGBA bytes, colours not multiplied by coverage. All shapes are this project's own drawings; a draw's seed
decides everything about them. Lengths are shares of a side, so that one draw looks alike at every size.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from render.augmentation_draws import OccluderDraw

Layer = UInt8[np.ndarray, "_ _ 4"]
Colours = Float32[np.ndarray, "s s 3"]

_SHIFT = 4  # OpenCV's fixed point: 1/16 px
_SKINS = ((236, 188, 160), (206, 150, 115), (160, 105, 75), (95, 60, 42))
_DARK, _BRIGHT = 18.0, 240.0


def coverage_of(outlines: Sequence[Float[np.ndarray, "_ 2"]], *, size_px: int) -> UInt8[np.ndarray, "s s"]:
    """How much of each pixel lies within any of the closed outlines (pixels, integers at centres), 0 … 255."""
    coverage = np.zeros((size_px, size_px), dtype=np.uint8)
    for outline in outlines:
        corners = np.rint(np.clip(outline, -8 * size_px, 8 * size_px) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(coverage, [corners], 255, lineType=cv2.LINE_AA, shift=_SHIFT)
    return coverage


def layer_of(colours: Float32[np.ndarray, "s s 3"], coverage: UInt8[np.ndarray, "s s"]) -> Layer:
    """Colours (0 … 255) where there is coverage."""
    return np.dstack([np.clip(np.rint(colours), 0, 255).astype(np.uint8), coverage])


def draw_shape(draw: OccluderDraw, size_px: int) -> Layer:
    """The layer of one occluder that needs nothing but its draw. Raises KeyError for the kinds that need more."""
    return _SHAPES[draw.kind](draw, size_px, np.random.default_rng(draw.seed))


def _noise(draw: OccluderDraw, size_px: int, rng: np.random.Generator) -> Layer:
    """PRNet's noise texture: a rectangle in which every pixel has a colour of its own."""
    sides = draw.size * np.sqrt(np.exp(rng.uniform(-0.7, 0.7) * np.array([1, -1])))
    outline = _placed(draw, size_px, np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * sides, turned=False)
    return layer_of(
        rng.integers(0, 256, (size_px, size_px, 3)).astype(np.float32), coverage_of([outline], size_px=size_px)
    )


def _shape(draw: OccluderDraw, size_px: int, rng: np.random.Generator) -> Layer:
    """A polygon or a rounded blob with a texture, darker towards its rim."""
    outline = blob(rng) if rng.random() < 0.6 else polygon(rng)
    coverage = coverage_of([_placed(draw, size_px, outline * draw.size)], size_px=size_px)
    return layer_of(texture(rng, size_px) * _rounded(coverage, draw.size * size_px / 6), coverage)


def _hand(draw: OccluderDraw, size_px: int, rng: np.random.Generator) -> Layer:
    """A hand: palm, four fingers, a thumb and the wrist, in a skin's colour with light from one side."""
    spread, palm = rng.uniform(0.06, 0.2), ellipse((0.0, 0.12), (0.2, 0.21))
    parts = [palm, _finger((0.0, 0.2), (rng.uniform(-0.05, 0.05), 0.8), 0.15)]
    for k, length in enumerate((0.3, 0.36, 0.34, 0.26)):
        lean = (k - 1.5) * spread + rng.normal(0, 0.03)
        root = np.array([(k - 1.5) * 0.105, -0.02 + 0.02 * abs(k - 1.5)])
        tip = root + rng.uniform(0.75, 1.0) * length * np.array([np.sin(lean), -np.cos(lean)])
        parts.append(_finger(root, tip, 0.052))
    parts.append(_finger((-0.15, 0.15), (-0.33, -0.02 + rng.uniform(-0.06, 0.06)), 0.06))
    side = rng.choice([-1.0, 1.0])
    outlines = [_placed(draw, size_px, part * (side, 1.0) * draw.size) for part in parts]
    skin = np.array(_SKINS[rng.integers(len(_SKINS))], dtype=np.float32) * np.float32(rng.uniform(0.7, 1.05))
    light: np.ndarray = np.ones((size_px, size_px, 1), dtype=np.float32)
    coverage = np.zeros((size_px, size_px), dtype=np.uint8)
    for outline in outlines:  # each over the ones before, round by itself, so that fingers show
        part = coverage_of([outline], size_px=size_px)
        share = part[..., None].astype(np.float32) / 255
        light = light * (1 - share) + _rounded(part, 0.05 * draw.size * size_px) * share
        coverage = np.maximum(coverage, part)
    grain = 1 + 0.06 * (clouds(rng, size_px) - 0.5)
    return layer_of(skin * light * grain, coverage)


def _glasses(draw: OccluderDraw, size_px: int, rng: np.random.Generator) -> Layer:
    """Glasses seen from the front, wherever they are: two rims with tinted lenses, a bridge and ends of temples."""
    return glasses_layer(
        rng, size_px,
        eyes=_placed(draw, size_px, np.array([[-0.25, 0.0], [0.25, 0.0]]) * draw.size),
        ears=_placed(draw, size_px, np.array([[-0.55, -0.05], [0.55, -0.05]]) * draw.size),
    )  # fmt: skip


_SHAPES: Mapping[str, Callable[[OccluderDraw, int, np.random.Generator], Layer]] = MappingProxyType(
    {"noise": _noise, "shape": _shape, "hand": _hand, "glasses": _glasses}
)


def glasses_layer(
    rng: np.random.Generator, size_px: int, *, eyes: Float[np.ndarray, "2 2"], ears: Float[np.ndarray, "2 2"]
) -> Layer:
    """Glasses about two eyes (left one in the picture first), their temples towards the ears, pixels."""
    across = eyes[1] - eyes[0]
    apart = float(np.hypot(*across))
    down = np.array([-across[1], across[0]]) / max(apart, 1e-9)
    along = across / max(apart, 1e-9)
    half_width, half_height = apart * rng.uniform(0.36, 0.45), apart * rng.uniform(0.24, 0.38)
    squareness = rng.uniform(2, 5)
    rims = [_superellipse(eye, half_width * along, half_height * down, squareness) for eye in eyes]
    thickness = apart * rng.uniform(0.03, 0.09)
    inner = coverage_of(rims, size_px=size_px)
    frame = np.zeros_like(inner)
    for rim in rims:
        frame = np.maximum(frame, _stroke(np.vstack([rim, rim[:2]]), thickness, size_px))
    frame = np.maximum(
        frame, _stroke(np.array([eyes[0] + half_width * along, eyes[1] - half_width * along]), thickness, size_px)
    )
    for eye, ear, out in ((eyes[0], ears[0], -1), (eyes[1], ears[1], 1)):
        frame = np.maximum(frame, _stroke(np.array([eye + out * half_width * along, ear]), thickness, size_px))
    tint = rng.choice([0.0, rng.uniform(0.1, 0.4), rng.uniform(0.7, 1.0)])  # clear, tinted, sun glasses
    lens = np.float32(rng.uniform(10, 80)) + 60 * clouds(rng, size_px)[..., :1]
    colour = np.array(rng.uniform(_DARK, 120, 3), dtype=np.float32)
    share = frame[..., None].astype(np.float32) / 255
    shine = 1 + 0.3 * (clouds(rng, size_px)[..., :1] - 0.5)
    coverage = np.maximum(frame, (inner * tint).astype(np.uint8))
    return layer_of(colour * shine * share + lens * np.ones(3, np.float32) * (1 - share), coverage)


# ---------------------------------------------------------------------------------------------- outlines and textures


def blob(rng: np.random.Generator) -> Float[np.ndarray, "p 2"]:
    """A smooth closed outline about the origin, of diameter about 1."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.full_like(angle, 0.45)
    for k in range(2, 6):
        radius += rng.normal(0, 0.09 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    return np.maximum(radius, 0.1)[:, None] * np.stack([np.cos(angle), np.sin(angle) * rng.uniform(0.5, 1)], axis=1)


def polygon(rng: np.random.Generator) -> Float[np.ndarray, "p 2"]:
    """Three to seven corners on a circle of diameter 1."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
    return 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ellipse(centre: tuple[float, float], axes: tuple[float, float]) -> Float[np.ndarray, "p 2"]:
    """An upright ellipse."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.array(centre) + np.stack([np.cos(angle), np.sin(angle)], axis=1) * axes


def clouds(rng: np.random.Generator, size_px: int) -> Colours:
    """Soft noise of several sizes, each channel by itself, in [0, 1]."""
    picture = np.full((size_px, size_px, 3), 0.5, dtype=np.float32)
    for octave in range(4):
        cells = rng.standard_normal((4 * 2**octave, 4 * 2**octave, 3), dtype=np.float32)
        picture += np.float32(0.2 * 0.6**octave) * cv2.resize(cells, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture, 0, 1)


def texture(rng: np.random.Generator, size_px: int) -> Colours:
    """Something to look at between two colours: clouds, stripes, checks, or plain with grain; 0 … 255."""
    first, second = (rng.uniform(_DARK, _BRIGHT, 3).astype(np.float32) for _ in range(2))
    y, x = np.mgrid[:size_px, :size_px].astype(np.float32) / np.float32(size_px)
    turn, waves = rng.uniform(0, np.pi), rng.uniform(4, 24)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    match rng.integers(4):
        case 0:
            share = clouds(rng, size_px)[..., :1]
        case 1:
            share = np.clip(0.5 + 2 * np.sin(2 * np.pi * waves * along), 0, 1)[..., None]
        case 2:
            share = np.clip(0.5 + 3 * np.sin(np.pi * waves * along) * np.sin(np.pi * waves * across), 0, 1)[..., None]
        case _:
            share = np.clip(rng.normal(0.3, 0.1, (size_px, size_px, 1)), 0, 1)
    share = share.astype(np.float32)
    return first * share + second * (1 - share)


def _placed(draw: OccluderDraw, size_px: int, outline: np.ndarray, *, turned: bool = True) -> np.ndarray:
    """An outline in shares of the side, turned and brought to the draw's place, in pixels."""
    if turned:
        c, s = np.cos(draw.angle), np.sin(draw.angle)
        outline = outline @ np.array([[c, s], [-s, c]])
    return (np.array(draw.place) + outline) * size_px - 0.5


def _finger(
    root: tuple[float, float] | np.ndarray, tip: tuple[float, float] | np.ndarray, half_width: float
) -> np.ndarray:
    """A capsule from root to tip."""
    root, tip = np.asarray(root, dtype=np.float64), np.asarray(tip, dtype=np.float64)
    heading = np.arctan2(*(tip - root)[::-1])
    half = np.linspace(-np.pi / 2, np.pi / 2, 16)
    ends = [(tip, heading + half), (root, heading + np.pi + half)]
    return np.concatenate([at + half_width * np.stack([np.cos(a), np.sin(a)], axis=1) for at, a in ends])


def _superellipse(centre: np.ndarray, right: np.ndarray, down: np.ndarray, power: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    c, s = (np.sign(f) * np.abs(f) ** (2 / power) for f in (np.cos(angle), np.sin(angle)))
    return centre + c[:, None] * right + s[:, None] * down


def _stroke(points: np.ndarray, thickness: float, size_px: int) -> UInt8[np.ndarray, "s s"]:
    """A line of some thickness through the points, as capsules."""
    capsules = [_finger(a, b, thickness / 2) for a, b in itertools.pairwise(points)]
    return coverage_of(capsules, size_px=size_px)


def _rounded(coverage: UInt8[np.ndarray, "s s"], depth_px: float) -> Float32[np.ndarray, "s s 1"]:
    """A factor of brightness that falls towards the rim, and to the lower right."""
    inside = cv2.distanceTransform((coverage > 127).astype(np.uint8), cv2.DIST_L2, 3)
    height = np.minimum(inside / np.float32(max(depth_px, 1)), 1)
    y, x = np.mgrid[: len(coverage), : len(coverage)].astype(np.float32) / len(coverage)
    return (0.65 + 0.35 * np.sqrt(height) + 0.1 * (1 - x - y))[..., None].astype(np.float32)

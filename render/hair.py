"""Hair-like caps on the built-in head: shells that lie on the scalp, and hair that falls to the shoulders.

A shell's vertex is a scalp vertex moved along its normal by a thickness that grows from nothing at the hairline; below
the hairline the shell lies under the skin, so that the z-buffer cuts it along the line. It therefore fits every head in
every expression. Nothing here is a strand: it is a silhouette, a colour and a border for the face.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from geometry.built_in import BuiltInModel, load_built_in
from geometry.mesh import submesh
from render.lit_surface import Surface, joined
from render.people_config import HairStyle

COLOURS = np.array(
    [
        [0.012, 0.009, 0.008],
        [0.020, 0.013, 0.009],
        [0.045, 0.026, 0.014],
        [0.085, 0.045, 0.020],
        [0.22, 0.13, 0.055],
        [0.38, 0.27, 0.14],
        [0.15, 0.05, 0.018],
        [0.33, 0.33, 0.33],
    ]
)
"""Linear RGB: black, near-black, dark and light brown, dark and light blond, red, grey."""

_UNDER_SKIN_MM = 5.0
_RAGGED_MM = 7.0
"""How far locks pull the hairline up and down."""
_ANGLES, _ROWS = 72, 36  # of the hair that falls


@dataclass(frozen=True, slots=True)
class Hair:
    """One person's hair, as numbers that hold for all of their expressions and pictures."""

    style: HairStyle
    colour: tuple[float, float, float]
    """Linear RGB."""
    top_mm: float
    """Thickness above; at the sides it is `side_mm`."""
    side_mm: float
    forehead_mm: float
    """Height of the hairline above the root of the nose."""
    fall_mm: float
    """How much lower it lies at the nape."""
    slant: float
    """Rise of the hairline toward the subject's left, over 1: a parting."""
    length_mm: float
    """Of hair that falls, below the chin."""
    seed: int


def draw_hair(rng: np.random.Generator, *, style: HairStyle, colour: Float[np.ndarray, "3"] | None = None) -> Hair:
    """The hair of one person; `colour` (linear) or one of :data:`COLOURS`."""
    chosen = COLOURS[rng.integers(len(COLOURS))] * rng.uniform(0.8, 1.2)
    cloth = np.exp(rng.uniform(np.log(0.02), np.log(0.5))) * np.exp(rng.normal(0, 0.45, 3))
    top = {"bare": (0, 0), "cropped": (2, 5), "short": (7, 18), "full": (18, 38), "long": (6, 16), "cap": (5, 9)}[style]
    side = {"bare": (0, 0), "cropped": (1, 3), "short": (4, 9), "full": (12, 26), "long": (3, 5), "cap": (4, 7)}[style]
    forehead = rng.uniform(38, 62) if style == "cap" else rng.uniform(48, 82)
    return Hair(
        style,
        _rgb(np.clip(cloth, 0.01, 0.8) if style == "cap" else chosen if colour is None else colour),
        top_mm=rng.uniform(*top),
        side_mm=rng.uniform(*side),
        forehead_mm=forehead,
        fall_mm=rng.uniform(35, 70) if style == "cap" else rng.uniform(95, 125),
        slant=0.0 if style == "cap" else rng.normal(0, 0.10),
        length_mm=rng.uniform(-35, 60),
        seed=int(rng.integers(2**31)),
    )


def _rgb(colour: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in colour)
    return red, green, blue


@dataclass(frozen=True, eq=False)
class Scalp:
    """Where hair can be on the built-in skin, and what is the same for everybody (mm of the mean head)."""

    vertices: Int32[np.ndarray, "s"]
    """Of the skin."""
    triangles: Int32[np.ndarray, "t 3"]
    """Among `vertices`."""
    positions: Float[np.ndarray, "s 3"]
    root_y: float
    to_ear: Float[np.ndarray, "s"]
    upward: Float[np.ndarray, "s"]
    around: Float[np.ndarray, "s"]
    """Angle about the crown's axis, 0 to 1."""
    crown_distance: Float[np.ndarray, "s"]
    widest: Int32[np.ndarray, "r a"]
    """The skin vertex that stands out farthest in each cell of rows (top to bottom) and angles, −1: none."""

    @classmethod
    def of(cls, skin: BuiltInModel) -> "Scalp":
        """The scalp of the built-in skin alone."""
        mean = skin.mean_shape.astype(np.float64)
        ears = skin.file.mask("ears")[skin.template_vertices] > 100
        root_y = float(mean[skin.landmark_vertices[27], 1])
        possible = (mean[:, 1] > _hairline_y(mean, root_y, 25.0, 150.0)) & ~ears & (mean[:, 1] > -60)
        triangles, numbers = submesh(skin.triangles, possible)
        used = np.flatnonzero(numbers >= 0)
        crown = np.array([0.0, mean[:, 1].max() - 12, -48.0])
        positions = mean[used]
        from_crown = positions - crown
        return cls(
            used.astype(np.int32),
            triangles,
            positions,
            root_y,
            cKDTree(mean[ears]).query(positions)[0],
            np.clip((positions[:, 1] - 60) / 60, 0, 1),
            np.arctan2(from_crown[:, 0], from_crown[:, 2]) / (2 * np.pi) + 0.5,
            np.linalg.norm(from_crown, axis=1),
            _widest(mean),
        )


@lru_cache(maxsize=1)
def load_scalp() -> Scalp:
    """The built-in head's, computed once."""
    return Scalp.of(load_built_in())


def hair_surface(hair: Hair, skin: Float32[np.ndarray, "v 3"], normals: Float32[np.ndarray, "v 3"]) -> Surface | None:
    """The hair on one head, given its skin (mm, as in `load_built_in()`) and the skin's normals; None for a bare head."""
    if hair.style == "bare":
        return None
    on, grown = load_scalp().vertices, _grown(hair)
    gloss, shininess = (0.01, 6.0) if hair.style == "cap" else (0.015, 14.0)
    shell = skin[on] + grown.thickness[:, None] * normals[on]
    surface = Surface.of(shell, grown.triangles, albedo=grown.albedo, gloss=gloss, shininess=shininess)
    return joined([surface, *_falling(hair, skin)]) if hair.style == "long" else surface


@dataclass(frozen=True, slots=True)
class _Shell:
    """A person's hair as the shell needs it: the same on all of their faces."""

    thickness: Float32[np.ndarray, "s"]
    triangles: Int32[np.ndarray, "t 3"]
    albedo: Float[np.ndarray, "s 3"]


@lru_cache(maxsize=4)
def _grown(hair: Hair) -> _Shell:
    scalp, rng = load_scalp(), np.random.default_rng(hair.seed)
    locks, strands = _locks(scalp, rng), _strands(scalp, rng)
    is_cap = hair.style == "cap"
    if is_cap:
        locks, strands = np.zeros_like(locks), 0.9 + 0.1 * strands
    line = _hairline_y(scalp.positions, scalp.root_y, hair.forehead_mm, hair.fall_mm)
    above = scalp.positions[:, 1] - line - hair.slant * scalp.positions[:, 0] + _RAGGED_MM * locks
    full = hair.side_mm + (hair.top_mm - hair.side_mm) * scalp.upward
    brim = 2.5 * np.exp(-(((above - 12) / 9) ** 2)) if is_cap else 0.0
    full = full * (1 + 0.35 * locks) + brim
    rise = 3.0 if is_cap else 0.8
    share = np.clip(above / (18 + 0.5 * full), 0, 1)
    thickness = np.where(above > 0, np.minimum(rise * above, full * np.sqrt(share * (2 - share))), rise * above)
    thickness = np.minimum(thickness, 0.9 * (scalp.to_ear - 3.0))  # room for the ear
    thickness = np.maximum(thickness, -_UNDER_SKIN_MM).astype(np.float32)
    seen = (thickness[scalp.triangles] > 0).any(axis=1)
    shade = (0.55 + 0.45 * strands) * (0.75 + 0.25 * np.clip(above / 15, 0, 1))
    albedo = np.clip(shade[:, None] * np.array(hair.colour), 0.003, 1)
    return _Shell(thickness, np.ascontiguousarray(scalp.triangles[seen]), albedo)


def painted_hair_colour(albedo: Float32[np.ndarray, "v 3"]) -> Float[np.ndarray, "3"] | None:
    """The colour of the hair that is painted on a skin's scalp (linear), None where the crown is bare."""
    crown, forehead = _crown_and_forehead()
    hair, bare = albedo[crown].mean(axis=0), albedo[forehead].mean(axis=0)
    if np.abs(np.log(hair / bare)).max() < 0.3:
        return None
    return np.asarray(hair / 0.8, dtype=np.float64)  # paint and shell are both darker between their strands


@lru_cache(maxsize=1)
def _crown_and_forehead() -> tuple[Int64[np.ndarray, "c"], Int64[np.ndarray, "f"]]:
    mean = load_built_in().mean_shape
    crown = (mean[:, 1] > mean[:, 1].max() - 12) & (mean[:, 2] < -30)
    forehead = (np.abs(mean[:, 0]) < 25) & (np.abs(mean[:, 1] - 65) < 10) & (mean[:, 2] > 20)
    return np.flatnonzero(crown), np.flatnonzero(forehead)


def _hairline_y(positions: np.ndarray, root_y: float, forehead_mm: float, fall_mm: float) -> Float[np.ndarray, "s"]:
    """A line over the forehead that falls toward the ears and the nape."""
    to_ears = np.clip((12 - positions[:, 2]) / 42, 0, 1)
    to_nape = np.clip((-30 - positions[:, 2]) / 75, 0, 1)
    dip = min(forehead_mm - 6.0, fall_mm)  # to the tops of the ears
    drop = dip * to_ears**2 * (3 - 2 * to_ears) + max(fall_mm - dip, 0.0) * to_nape
    return root_y + forehead_mm - drop + 0.06 * np.abs(positions[:, 0])


def _locks(scalp: Scalp, rng: np.random.Generator) -> Float[np.ndarray, "s"]:
    """Soft unevenness about 0, of standard deviation near 0.5."""
    places = scalp.positions / 26.0
    return 0.6 * _noise(places, rng) + 0.3 * _noise(places * 2.7, rng)


def _strands(scalp: Scalp, rng: np.random.Generator) -> Float[np.ndarray, "s"]:
    """Long streaks from the crown outward, 0 to about 1."""
    swirl = rng.normal(0, 0.05)
    around = (scalp.around + swirl * scalp.crown_distance / 100) % 1.0
    value = np.full(len(around), 0.5)
    for cells, weight in ((37, 0.2), (113, 0.22), (241, 0.2)):
        row = rng.uniform(-1, 1, (3, cells + 1))
        row[:, -1] = row[:, 0]
        place = around * cells
        low = np.minimum(place.astype(int), cells - 1)
        band = np.clip(scalp.crown_distance / 60, 0, 1.999)
        ring = band.astype(int)
        here, there = (
            row[r, low] + (place - low) * (row[r, low + 1] - row[r, low]) for r in (ring, np.minimum(ring + 1, 2))
        )
        value += weight * (here + (band - ring) * (there - here))
    return np.clip(value, 0, 1)


def _noise(places: Float[np.ndarray, "s 3"], rng: np.random.Generator, n_cells: int = 16) -> Float[np.ndarray, "s"]:
    lattice = rng.normal(size=(n_cells,) * 3)
    return map_coordinates(lattice, places.T + rng.uniform(0, n_cells, 3)[:, None], order=1, mode="grid-wrap")


# ---------------------------------------------------------------------------------------------- hair that falls

_AXIS_Z = -40.0  # about which the falling hair is wound, mm
_TOP_Y, _BOTTOM_Y, _CHIN_Y = 100.0, -95.0, -86.0
_FRONT = np.radians(62.0)  # the opening for the face, to either side of straight ahead


def _widest(mean: Float[np.ndarray, "v 3"]) -> Int32[np.ndarray, "r a"]:
    angle = np.arctan2(mean[:, 0], mean[:, 2] - _AXIS_Z)
    radius = np.hypot(mean[:, 0], mean[:, 2] - _AXIS_Z)
    column = np.floor((angle + np.pi) / (2 * np.pi) * _ANGLES).astype(int) % _ANGLES
    row = np.floor((_TOP_Y - mean[:, 1]) / (_TOP_Y - _BOTTOM_Y) * _ROWS).astype(int)
    inside = (row >= 0) & (row < _ROWS) & (mean[:, 2] < 25)
    widest = np.full((_ROWS, _ANGLES), -1, dtype=np.int32)
    order = np.flatnonzero(inside)[np.argsort(radius[inside])]
    widest[row[order], column[order]] = order  # the last, widest one stays
    return widest


def _falling(hair: Hair, skin: Float32[np.ndarray, "v 3"]) -> list[Surface]:
    """A curtain round the back of the head, its outer side and, darker, its inner one."""
    scalp, rng = load_scalp(), np.random.default_rng([hair.seed, 1])
    found = scalp.widest >= 0
    chosen = skin[np.maximum(scalp.widest, 0)].astype(np.float64)
    radius = np.where(found, np.hypot(chosen[..., 0], chosen[..., 2] - _AXIS_Z), 0)
    radius = gaussian_filter(np.maximum.accumulate(radius, axis=0), (1.5, 2.0), mode=("nearest", "wrap"))
    end_y = _CHIN_Y - hair.length_mm
    y_rows = np.linspace(_TOP_Y, _BOTTOM_Y, _ROWS)
    y_rows = np.concatenate([y_rows[y_rows > end_y], _BOTTOM_Y - np.linspace(0.1, 1, 10) * max(_BOTTOM_Y - end_y, 0)])
    if end_y >= _BOTTOM_Y:
        y_rows = y_rows[:-10]
    rows = np.minimum(np.arange(len(y_rows)), _ROWS - 1)
    angles = (np.arange(_ANGLES) + 0.5) / _ANGLES * 2 * np.pi - np.pi
    back = np.argsort((angles + 2 * np.pi) % (2 * np.pi))  # from straight ahead round the back
    angle = (angles[back] + 2 * np.pi) % (2 * np.pi)
    kept = (angle > _FRONT) & (angle < 2 * np.pi - _FRONT)
    back, angle = back[kept], angle[kept]
    from_edge = np.minimum(angle - angle[0], angle[-1] - angle) / np.radians(30)
    below = np.clip((_TOP_Y - y_rows) / 55, 0, 1)[:, None]
    below = below * below * (3 - 2 * below)
    waves = np.cumsum(rng.normal(0, 0.5, (len(y_rows), 1)), axis=0) * 0.25
    streaks = gaussian_filter(rng.normal(size=(1, len(angle))), (0, 1.2), mode="wrap")
    fine = gaussian_filter(rng.normal(size=(len(y_rows), len(angle))), (6, 0.5))
    grown = (hair.side_mm + 9 * below) * np.clip(0.3 + from_edge, 0, 1) * (1 + 0.5 * streaks) + waves
    thickness = grown * below - 6 * (1 - below)
    r = radius[rows][:, back] + thickness
    tail = np.clip((_BOTTOM_Y + 40 - y_rows) / 120, 0, 1)[:, None]
    r = r * (1 - 0.06 * tail)
    x, z = r * np.sin(angle), _AXIS_Z + r * np.cos(angle)
    y = np.broadcast_to(y_rows[:, None], r.shape) - 6 * streaks * (y_rows == y_rows[-1])[:, None]
    outer = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
    n, m = r.shape
    corner = (np.arange(n - 1)[:, None] * m + np.arange(m - 1)).ravel()
    triangles = np.concatenate(
        [np.stack([corner, corner + m, corner + 1], 1), np.stack([corner + 1, corner + m, corner + m + 1], 1)]
    ).astype(np.int32)
    shade = np.clip(0.75 + 0.45 * streaks + 0.9 * fine, 0.35, 1.2).reshape(-1, 1)
    albedo = np.clip(shade * np.array(hair.colour), 0.003, 1)
    outside = Surface.of(outer, triangles, albedo=albedo, gloss=0.015, shininess=14.0)
    inside = Surface.of(
        outer, np.ascontiguousarray(triangles[:, ::-1]), albedo=0.25 * albedo, gloss=0.0, shininess=14.0
    )
    return [outside, inside]

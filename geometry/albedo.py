"""Skin colour of the built-in model, drawn: the procedural sampler that invented people's pictures are painted with.

It follows the two-chromophore picture of skin (Tsumura et al. 2003): ``−log albedo = base + m · melanin +
h · haemoglobin`` per colour channel. m and h vary over the face: constants of the person, painted masks of lips, lids
and ears, soft spots anchored on the 68 landmarks, noise of several octaves. Hair is paint: there is no geometry of it.
Colours are **linear** RGB. What fits and annotation files can hold of them: :mod:`geometry.linear_albedo`.

Positions are decimetres from the template's own origin here: noise frequencies were tuned in that unit.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import map_coordinates

from geometry.built_in import BuiltInModel, load_built_in
from geometry.built_in_file import PARTS
from geometry.painted_surface import LEFT, RIGHT, FaceSpots, PaintedSurface, eye_centre

# Absorption per unit of each chromophore in red, green, blue, and what all skin absorbs.
BASE_ABSORPTION = np.array([0.27, 0.62, 0.86])
MELANIN_ABSORPTION = np.array([0.62, 0.88, 1.0])
HAEMOGLOBIN_ABSORPTION = np.array([0.12, 1.0, 0.72])

# Linear RGB of what is not skin.
DARK_HAIR = np.array([0.012, 0.009, 0.008])
EUROPEAN_HAIR = np.array([[0.030, 0.018, 0.010], [0.085, 0.045, 0.020], [0.22, 0.13, 0.055], [0.16, 0.055, 0.020]])
GREY_HAIR = np.array([0.33, 0.33, 0.33])
IRIS = np.array(
    [[0.055, 0.026, 0.012], [0.10, 0.055, 0.022], [0.13, 0.12, 0.055], [0.10, 0.16, 0.21], [0.13, 0.17, 0.18]]
)
SCLERA = np.array([0.62, 0.56, 0.52])
SOCKET = np.array([0.42, 0.16, 0.13])
MOUTH_BAG = np.array([0.22, 0.055, 0.05])
INNER_LIP = np.array([0.35, 0.12, 0.10])
TONGUE = np.array([0.36, 0.12, 0.11])
TEETH = np.array([0.66, 0.62, 0.50])

_SKIN, _SOCKET, _MOUTH_BAG, _TONGUE = (PARTS.index(name) for name in ("skin", "eye_cavity", "mouth_cavity", "tongue"))
_EYEBALLS = [PARTS.index(name) for name in ("eyeball_l", "eyeball_r")]
_TEETH = [PARTS.index(name) for name in ("teeth_u", "teeth_l")]


@dataclass(frozen=True, slots=True)
class Appearance:
    """What light meets on every vertex: linear RGB albedo in [0.002, 1], and the share that is mirrored (gloss)."""

    albedo: Float32[np.ndarray, "v 3"]
    gloss: Float32[np.ndarray, "v"]


@dataclass(frozen=True, slots=True)
class _Person:
    """Draws that hold for the whole face."""

    ancestry: Float[np.ndarray, "3"]  # African, Asian, European, summing to one
    male: float
    age: float  # 0.5 is a young adult, 1 is old, as in the shape targets
    melanin: float
    haemoglobin: float


def load_albedo_sampler(model: BuiltInModel | None = None) -> "AlbedoSampler":
    """The procedural sampler for the parts of `model` (the skin where none is given): set-up 0.1 s, a draw 50 ms."""
    model = model or load_built_in()
    file = model.file
    positions_mm = BuiltInModel(file, PARTS).mean_shape.astype(np.float64)
    positions_dm = positions_mm / 100 + file.meta["origin_dm"]
    eye_angle_deg = np.full(len(file.part), np.nan)
    for eyeball in _EYEBALLS:
        eye_angle_deg[file.part == eyeball] = file.eye_angle_deg
    chosen = model.template_vertices
    return AlbedoSampler(
        PaintedSurface(
            positions_dm=positions_dm[chosen],
            part=model.part,
            lips=file.mask("lips")[chosen] / 255.0,
            eyelids=file.mask("eyelids")[chosen] / 255.0,
            ears=file.mask("ears")[chosen] / 255.0,
            occlusion=(file.ambient_occlusion_root[chosen] / 65535.0) ** 2,
            eye_angle_deg=eye_angle_deg[chosen],
            landmarks_dm=positions_dm[file.landmarks],
            skin_dm=positions_dm[file.part == _SKIN],
        )
    )


@lru_cache(maxsize=1)
def head_albedo_sampler() -> "AlbedoSampler":
    """The sampler for the whole head with all its parts, made once for each process."""
    return load_albedo_sampler(load_built_in("all"))


class AlbedoSampler:
    """Draws people's colours; the order of the random draws is part of what it promises."""

    def __init__(self, surface: PaintedSurface):
        """Place the spots that every draw shares."""
        self._surface = surface
        self._spots = FaceSpots.of(surface)

    def sample(self, rng: np.random.Generator) -> Appearance:
        """One invented person's colours on the sampler's vertices; equal generators give equal people on any parts."""
        surface, spots = self._surface, self._spots
        person = _draw_person(rng)
        coarse, medium, fine = (_two_octaves(surface.positions_dm, octaves, rng) for octaves in _OCTAVES)

        # Skin
        melanin, haemoglobin = self._pigments(person, coarse, medium, fine, rng)
        lips = surface.lips * (1 + 0.10 * medium)
        redness = rng.uniform(0.22, 0.60) + 0.25 * (person.male < 0.35) * rng.random() * (rng.random() < 0.5)
        haemoglobin = haemoglobin + redness * lips
        melanin = melanin * (1 - 0.25 * lips) + 0.05 * lips * person.melanin
        blood = np.clip(haemoglobin, 0, None)
        albedo = np.exp(
            -(BASE_ABSORPTION + melanin[:, None] * MELANIN_ABSORPTION + blood[:, None] * HAEMOGLOBIN_ABSORPTION)
        )
        gloss = np.full(len(albedo), rng.uniform(0.035, 0.085))
        gloss += 0.05 * lips + 0.03 * spots.nose + 0.02 * spots.forehead

        # Hair over skin
        hair_colour, covers = self._hair(person, rng)
        for cover in covers:
            albedo = albedo * (1 - cover[:, None]) + hair_colour * cover[:, None]
            gloss = gloss * (1 - 0.6 * cover)
        lashes = 0.62 * np.clip(surface.eyelids * 1.2, 0, 1)[:, None] * np.array([0.85, 0.95, 1])
        albedo = albedo * (1 - lashes * (0.55 + 0.45 * (1 - person.male)))

        # Eyes and mouth
        self._paint_eyes(albedo, gloss, person, rng)
        self._paint_mouth(albedo, gloss, rng)

        # What crevices swallow: half-shut mouths are dark, but teeth must not vanish
        exponent = np.where(
            np.isin(surface.part, [_MOUTH_BAG, _TONGUE]), 1.0, np.where(np.isin(surface.part, _TEETH), 0.35, 0.9)
        )
        albedo = albedo * np.clip(surface.occlusion, 0, 1)[:, None] ** exponent[:, None]
        return Appearance(np.clip(albedo, 0.002, 1).astype(np.float32), gloss.astype(np.float32))

    def _pigments(
        self, person: _Person, coarse: np.ndarray, medium: np.ndarray, fine: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Melanin and haemoglobin of bare skin (v,): blotches, flushed places, shadows of the eyes, freckles, moles."""
        surface, spots, m0 = self._surface, self._spots, person.melanin
        h = person.haemoglobin * (1 + 0.10 * coarse + 0.08 * medium + 0.06 * fine)
        h = h + rng.uniform(0.02, 0.20) * spots.cheeks * (1 + 0.35 * medium)
        h = h + rng.uniform(0.03, 0.20) * spots.nose
        h = h + rng.uniform(0, 0.08) * spots.chin
        h = h + rng.uniform(0.02, 0.10) * surface.ears
        h = (
            h
            + rng.uniform(0.02, 0.12) * spots.under_eyes
            + rng.uniform(0.0, 0.08) * spots.upper_lids
            + 0.10 * surface.eyelids
        )

        m = m0 * (1 + 0.06 * coarse + 0.05 * medium + 0.05 * fine)
        m = m + rng.uniform(0.02, 0.14) * spots.under_eyes * (0.4 + m0)
        m = m + rng.uniform(0.0, 0.10) * spots.upper_lids * (0.4 + m0)
        m = m - 0.04 * spots.nose
        m = m + m0 * rng.uniform(-0.08, 0.10) * spots.forehead

        freckled = rng.random() ** 3 * 0.55 * (m0 < 0.6)
        freckles = np.clip(_noise(surface.positions_dm, 30.0, rng) - 1.0, 0, 1.5)
        m = m + freckled * freckles * np.clip(spots.cheeks + spots.nose + 0.3 * spots.forehead, 0, 1)
        aged = np.clip((person.age - 0.6) / 0.4, 0, 1)
        m = m + aged * 0.25 * np.clip(_noise(surface.positions_dm, 13.0, rng) - 1.3, 0, 1.2)
        for _ in range(rng.poisson(2.5)):
            centre = surface.skin_dm[rng.choice(len(surface.skin_dm))]
            darkness, radius_dm = rng.uniform(0.3, 0.9), rng.uniform(0.008, 0.017)
            m = m + darkness * np.exp(-((surface.positions_dm - centre) ** 2).sum(1) / (2 * radius_dm**2))
        return m, h

    def _hair(self, person: _Person, rng: np.random.Generator) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """The hair's colour (v 3), and how much skin beard, brows and scalp hair cover (v,), painted in that order."""
        surface, spots, positions_dm = self._surface, self._spots, self._surface.positions_dm
        on_skin = surface.part == _SKIN
        grey = np.clip((person.age - 0.62) / 0.3, 0, 1) * rng.uniform(0, 1)
        colour = DARK_HAIR
        if person.ancestry[2] > 0.55 and rng.random() < 0.75:
            colour = EUROPEAN_HAIR[rng.choice(4, p=[0.35, 0.35, 0.2, 0.1])]
        colour = colour * (1 - grey) + grey * GREY_HAIR
        strands = 0.55 + 0.45 * np.clip(0.5 + 0.5 * _noise(positions_dm * [1, 0.35, 1], 60.0, rng), 0, 1)

        bald = rng.random() < 0.25 * person.male
        receding_dm = rng.uniform(-0.05, 0.14) + (0.5 if bald else 0)
        ragged_dm = 0.03 * _noise(positions_dm, 25.0, rng)
        scalp = 1 / (1 + np.exp(-(spots.above_hairline_dm - receding_dm + ragged_dm) / 0.025))
        scalp = scalp * on_skin * (1 - surface.ears) * rng.uniform(0.75, 0.97)

        width_dm = rng.uniform(0.036, 0.062) * (1.0 + 0.25 * (person.male - 0.5))
        density = rng.uniform(0.72, 0.98)
        brows = np.zeros(len(positions_dm))
        for brow in spots.brows:
            local_dm = width_dm * np.clip(
                np.interp(brow.along, [0, 0.12, 0.45, 0.9, 1], [0.25, 0.6, 0.95, 1.05, 0.85]), 0.1, None
            )
            across = np.exp(-((np.abs(brow.above_dm - 0.012) / local_dm) ** 2.4))
            beyond_ends = np.exp(-((np.clip(brow.distance_dm - np.abs(brow.above_dm), 0, None) / 0.018) ** 2))
            brows = np.maximum(brows, across * beyond_ends * (positions_dm[:, 2] > 0.4))
        brows = (
            brows * np.clip(0.82 + 0.16 * _noise(positions_dm * [0.8, 1.6, 1], 42.0, rng), 0.3, 1) * density * on_skin
        )

        growth = (rng.random() ** 1.6) * 0.55 * (person.male > 0.5)
        beard = growth * spots.beard * np.clip(0.8 + 0.35 * _noise(positions_dm, 70.0, rng), 0.2, 1.2) * on_skin
        if person.male > 0.5 and rng.random() < 0.22:
            beard = np.clip(beard * 2.6, 0, 0.93)
        return colour * strands[:, None], tuple(np.clip(cover, 0, 1) for cover in (beard, brows, scalp))

    def _paint_eyes(self, albedo: np.ndarray, gloss: np.ndarray, person: _Person, rng: np.random.Generator) -> None:
        """Sclera, iris with its fibres and dark ring, and pupil, by the angle from the gaze axis."""
        surface = self._surface
        if person.ancestry[2] > 0.5:
            iris = IRIS[rng.choice(5, p=[0.30, 0.22, 0.16, 0.20, 0.12])]
        else:
            iris = IRIS[rng.choice(2, p=[0.75, 0.25])]
        n_fibres = rng.integers(17, 29)
        eyes = np.isin(surface.part, _EYEBALLS)
        x, y = surface.positions_dm[eyes, 0], surface.positions_dm[eyes, 1]
        angle = surface.eye_angle_deg[eyes]
        centre_y = {side: eye_centre(surface.landmarks_dm, side)[1] for side in (LEFT, RIGHT)}
        around = np.arctan2(y - np.where(x > 0, centre_y[LEFT], centre_y[RIGHT]), np.abs(x) - 0.31)
        fibres = 0.75 + 0.35 * np.sin(around * n_fibres) * 0.4 + 0.2 * np.clip((angle - 10) / 14, 0, 1)
        sclera = SCLERA * (1 - 0.25 * np.clip((angle - 40) / 40, 0, 1))[:, None] * np.array([1, 0.93, 0.90])
        in_iris = 1 / (1 + np.exp((angle - 23.8) / 0.9))[:, None]
        in_pupil = 1 / (1 + np.exp((angle - 8.6) / 0.4))[:, None]
        limbus = np.exp(-(((angle - 23) / 2.2) ** 2))[:, None]
        colour = sclera * (1 - in_iris) + (iris * fibres[:, None]) * in_iris
        colour = colour * (1 - 0.65 * limbus)
        albedo[eyes] = colour * (1 - in_pupil) + 0.006 * in_pupil
        gloss[eyes] = 0.35
        sockets = surface.part == _SOCKET
        albedo[sockets] = albedo[sockets] * 0.4 + 0.6 * SOCKET

    def _paint_mouth(self, albedo: np.ndarray, gloss: np.ndarray, rng: np.random.Generator) -> None:
        """The inside of the mouth, tongue and teeth."""
        surface = self._surface
        bag, teeth = surface.part == _MOUTH_BAG, np.isin(surface.part, _TEETH)
        albedo[bag], gloss[bag] = MOUTH_BAG, 0.03
        inner_lips = bag & (surface.lips > 0.05)
        albedo[inner_lips] = albedo[inner_lips] * 0.5 + 0.5 * INNER_LIP
        albedo[surface.part == _TONGUE] = TONGUE
        albedo[teeth], gloss[teeth] = TEETH * rng.uniform(0.8, 1.05), 0.15


# ---------------------------------------------------------------------------------------------- noise and people

_OCTAVES = (
    ((1.0, 2.2), (0.6, 5.0)),
    ((0.7, 11.0), (0.5, 22.0)),
    ((0.6, 45.0), (0.5, 90.0)),
)  # (amplitude, cycles per decimetre)


def _two_octaves(
    positions_dm: np.ndarray, octaves: tuple[tuple[float, float], ...], rng: np.random.Generator
) -> Float32[np.ndarray, "v"]:
    (a, first), (b, second) = octaves
    return a * _noise(positions_dm, first, rng) + b * _noise(positions_dm, second, rng)


def _noise(
    positions_dm: np.ndarray, cycles_per_dm: float, rng: np.random.Generator, n_cells: int = 32
) -> Float32[np.ndarray, "v"]:
    """Value noise: a tile of independent normal numbers at the corners of a lattice, interpolated trilinearly."""
    lattice = rng.normal(size=(n_cells, n_cells, n_cells)).astype(np.float32)
    coordinates = (positions_dm * cycles_per_dm).T + rng.uniform(0, n_cells, 3)[:, None]
    return map_coordinates(lattice, coordinates, order=1, mode="grid-wrap")


def _draw_person(rng: np.random.Generator) -> _Person:
    ancestry = rng.dirichlet([0.45] * 3)
    male, age = rng.random(), rng.uniform(0.36, 0.92)
    melanin = np.clip(np.exp(ancestry @ np.log([1.25, 0.30, 0.13])) * np.exp(rng.normal(0, 0.28)), 0.05, 2.2)
    haemoglobin = np.clip(rng.normal(0.14, 0.035), 0.06, 0.26)
    return _Person(ancestry, male, age, melanin, haemoglobin)

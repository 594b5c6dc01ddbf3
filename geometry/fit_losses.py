"""Robust losses of a landmark fit, on q: the squared residual of a point in units of its noise."""

from typing import Literal

import numpy as np
from jaxtyping import Float

Loss = Literal["squares", "huber", "geman_mcclure"]

USUAL_WIDTH: dict[Loss, float] = {"squares": 1.0, "huber": 1.5, "geman_mcclure": 5.0}
"""Where each loss bends unless somebody says otherwise (`tests/benchmarks/fit_accuracy.py`); squares never do."""


def loss_value(q: Float[np.ndarray, "n p"], width: Float[np.ndarray, " n"], loss: Loss) -> Float[np.ndarray, "n p"]:
    """ρ(q) with ρ'(0) = 1; `width` in standard deviations of the noise."""
    b = width[:, None]
    if loss == "huber":
        return np.where(q <= b**2, q, 2 * b * np.sqrt(q) - b**2)
    if loss == "geman_mcclure":
        return q / (1 + q / b**2)
    return q


def loss_slope(q: Float[np.ndarray, "n p"], width: Float[np.ndarray, " n"], loss: Loss) -> Float[np.ndarray, "n p"]:
    """ρ'(q): the factor by which a point's weight is reduced."""
    b = width[:, None]
    if loss == "huber":
        return b / np.maximum(b, np.sqrt(q))
    if loss == "geman_mcclure":
        return (1 + q / b**2) ** -2
    return np.ones_like(q)

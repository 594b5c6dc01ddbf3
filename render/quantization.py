"""Coordinates in bins, and how far into its bin each one lies (DenseReg, Güler et al. 2017, eq. 2 and 3).

A coordinate u of [0, 1] lies in bin q = min(⌊u·K⌋, K − 1), at r = u·K − q of it, and û = (q + r)/K. The paper writes
⌊u/d⌋ with d = 1/K, which in floating point puts 0.3 into bin 2 of 10, and gives u = 1 a bin of its own. Here bin q
begins exactly at the number k/K of the input's own type, for every K (⌊u·K⌋ alone fails at 1/49 of 49).

Stored classes are 0: background, 1 … K: bin + 1, 255: ignore. The residual r is in bins, in [0, 1].
"""

import numpy as np
from jaxtyping import Float, Float32, UInt8

BACKGROUND = 0
IGNORE = 255
MAX_BINS = IGNORE - 1


def quantize(
    u: Float[np.ndarray, "*n"], n_bins: int, *, label: UInt8[np.ndarray, "*n"] | None = None
) -> tuple[UInt8[np.ndarray, "*n"], Float32[np.ndarray, "*n"]]:
    """The class (1 … K) and the residual r of each coordinate.

    With a field's `label` (:mod:`render.correspondence`) background and ignored places get classes 0 and 255 and the
    residual 0; `u` is not looked at there. Raises ValueError for coordinates outside [0, 1] and for no, or more than
    254, bins.
    """
    _check_bins(n_bins)
    known = np.ones(u.shape, dtype=bool) if label is None else (label != BACKGROUND) & (label != IGNORE)
    inside = u if label is None else np.where(known, u, u.dtype.type(0))
    if not ((inside >= 0) & (inside <= 1)).all():
        raise ValueError(
            f"coordinates to be put into bins lie in [0, 1], these in [{np.min(inside):g}, {np.max(inside):g}]: "
            "give the field's label, so that places without a coordinate are passed over"
        )
    starts = (np.arange(n_bins + 1) / n_bins).astype(u.dtype)
    scaled = inside.astype(np.float64) * n_bins
    q = np.minimum(scaled.astype(np.int64), n_bins - 1)
    # The product is rounded: a coordinate that *is* the start of a bin may have landed a hair before it, or behind.
    q += (inside >= starts[q + 1]) & (q < n_bins - 1)
    q -= inside < starts[q]
    residual = np.clip(scaled - q, 0, 1).astype(np.float32)
    classes = (q + 1).astype(np.uint8)
    if label is None:
        return classes, residual
    return np.where(known, classes, label).astype(np.uint8), np.where(known, residual, np.float32(0))


def dequantize(
    classes: UInt8[np.ndarray, "*n"], residual: Float[np.ndarray, "*n"], n_bins: int
) -> Float32[np.ndarray, "*n"]:
    """û = (q + r)/K where the class is a bin; 0 at background and ignored places, as in a field.

    Raises ValueError for classes that are no bin of K.
    """
    _check_bins(n_bins)
    known = (classes != BACKGROUND) & (classes != IGNORE)
    if (last := int(classes[known].max(initial=0))) > n_bins:
        raise ValueError(f"class {last} is none of {n_bins} bins: the field was quantised with another number of bins")
    decoded = (classes.astype(np.float64) - 1 + residual) / n_bins
    return np.where(known, decoded, 0).astype(np.float32)


def _check_bins(n_bins: int) -> None:
    if not 1 <= n_bins <= MAX_BINS:
        raise ValueError(f"{n_bins} bins: a class is one byte with two reserved values, so 1 to {MAX_BINS} bins fit")

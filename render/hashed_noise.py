"""Noise that is a function of (seed, place): any device makes the same grain, and none has to be sent.

A 32-bit integer hash of multiplications and shifted exclusive-ors, two rounds; Box and Muller (1958) make it Gaussian.
The integers are the same in NumPy and torch, the logarithm and the cosine differ in the last bits at most.
"""

import numpy as np
from jaxtyping import Float32, UInt32

MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
SHIFTS = (16, 15, 16)
SECOND_STREAM = 0x9E3779B9


def hashed(counters: UInt32[np.ndarray, "*n"]) -> UInt32[np.ndarray, "*n"]:
    """32 well mixed bits of each counter, one to one."""
    bits = counters.copy()
    bits ^= bits >> np.uint32(SHIFTS[0])
    bits *= np.uint32(MULTIPLIERS[0])
    bits ^= bits >> np.uint32(SHIFTS[1])
    bits *= np.uint32(MULTIPLIERS[1])
    bits ^= bits >> np.uint32(SHIFTS[2])
    return bits


def gaussian_noise(seed: int, shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """Independent normal numbers, the same for the same `seed` (32 bits) and place in the flattened array."""
    counters = np.arange(int(np.prod(shape)), dtype=np.uint32)
    start = hashed(np.array([seed], dtype=np.uint32))
    first = hashed(counters ^ start)
    second = hashed(counters ^ start ^ np.uint32(SECOND_STREAM))
    unit = np.float32(2.0**-24)
    radius = np.sqrt(np.float32(-2) * np.log(((first >> np.uint32(8)).astype(np.float32) + np.float32(1)) * unit))
    angle = (second >> np.uint32(8)).astype(np.float32) * (np.float32(2 * np.pi) * unit)
    return (radius * np.cos(angle)).reshape(shape)

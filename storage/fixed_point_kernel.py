"""The compiled loop of :class:`storage.codes.FixedPoint`: one pass over a map where NumPy takes three."""

import typing

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
@typing.no_type_check
def decode(codes, values, step, offset):
    """``values = codes · step − offset``, exact: `step` is a power of two. uint16 and float32, flat, of one length."""
    for i in range(np.uint64(codes.shape[0])):
        values[i] = np.float32(codes[i]) * step - offset

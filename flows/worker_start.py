"""What a process pays at its first compiled loop, paid once: imported by the process that build workers are forked from.

Numba then sets up its types and code generator, a third of a second of which every fork would pay its own. No thread is
started, so forks are safe.
"""

import contextlib

import numpy as np

with contextlib.suppress(Exception):  # what fails here fails again in the worker that needs it, which can tell
    from storage.zarr_format import make_the_lock

    make_the_lock()

with contextlib.suppress(Exception):
    from render.crop_kernel import first_three_bytes

    first_three_bytes(np.zeros(1, dtype=np.uint32), np.zeros((3, 1), dtype=np.uint8))

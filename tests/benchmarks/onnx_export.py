"""Every checkpoint given, exported to ONNX and compared with torch; one line each. Not collected by pytest.

python tests/benchmarks/onnx_export.py runs/*/best.pt
"""

import sys
import tempfile
import time
from pathlib import Path

from train.onnx_export import export_onnx
from train.restore import restore


def main() -> None:
    print("system | parameters | torch MB | ONNX MB | largest difference of each output | s")
    for name in sys.argv[1:]:
        restored = restore(name)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            done = export_onnx(restored, Path(folder) / "network.onnx")
        differences = ", ".join(f"{output} {value:.1e}" for output, value in done.differences.items())
        seconds = time.perf_counter() - start
        system = restored.system.name
        print(
            f"{system} | {restored.n_parameters:,} | {restored.size_mb:.1f} | {done.size_mb:.1f} | {differences} | {seconds:.0f}"
        )


if __name__ == "__main__":
    main()

"""What targets cost together and apart: docs/dense-fields.md's figures. One process, one thread, the z-buffer warm.

python tests/benchmarks/many_targets.py FOLDER_IN_300W_LP_LAYOUT
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from flows import build, presets
from storage.dataset import open_dataset

EVERYTHING = ("posmap", "field", "parts", "heatmaps")


def main() -> None:
    source = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        shards_of(source, Path(folder) / "warm", EVERYTHING)  # compiles, and reads the source once
        apart = {name: shards_of(source, Path(folder) / name, (name,)) for name in EVERYTHING}
        together = shards_of(source, Path(folder) / "together", EVERYTHING)
    total = sum(seconds for seconds, _ in apart.values())
    print(
        json.dumps(
            {
                "ms_a_sample": {name: round(1000 * s / n, 2) for name, (s, n) in apart.items()},
                "together_ms": round(1000 * together[0] / together[1], 2),
                "together_over_sum": round(together[0] / total, 3),
            },
            indent=1,
        )
    )


def shards_of(source: Path, out: Path, targets: tuple[str, ...]) -> tuple[float, int]:
    """Seconds of all shards (plan and publishing aside), and the number of samples."""
    config = presets.posmaps_300wlp(targets=targets)
    with build.opened_build(config, source=source, model="built-in", out=out) as opened:
        start = time.perf_counter()
        for shard in opened.missing_shards:
            build.build_shard(opened.job, shard)
        seconds = time.perf_counter() - start
        published = build.publish_build(opened)
    return seconds, len(open_dataset(published.path))


if __name__ == "__main__":
    main()

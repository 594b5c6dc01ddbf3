"""Numbers about a data set of fits, gathered shard by shard and added up in the manifest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flows.face_fits import FittedFace
from flows.posmap_statistics import YAW_BIN_DEG


class Collector:
    """Gathers the numbers of one shard."""

    def __init__(self) -> None:
        self._residuals: list[float] = []
        self._yaws: list[float] = []
        self._names: list[str] = []
        self._results: Counter[str] = Counter()
        self._origins: Counter[str] = Counter()

    def add(self, face: FittedFace) -> None:
        """Take in one good face."""
        self._residuals.append(float(np.nanmean(face.residual_px)))
        self._yaws.append(face.yaw)
        self._names.append(face.source_id)
        self._results[str(face.result)] += 1
        self._origins[face.origin] += 1

    def result(self) -> dict[str, Any]:
        """The shard's numbers, JSON alone: sums, so that shards can be added up."""
        if not self._names:
            return {}
        worst = int(np.argmax(self._residuals))
        edges = np.arange(-180, 180 + YAW_BIN_DEG, YAW_BIN_DEG)
        return {
            "landmark_residual_px": {
                "n": len(self._residuals),
                "sum": float(np.sum(self._residuals)),
                "worst": self._residuals[worst],
                "worst_source_id": self._names[worst],
            },
            "results": dict(sorted(self._results.items())),
            "landmark_origins": dict(sorted(self._origins.items())),
            "yaw_histogram": np.histogram(np.degrees(self._yaws), edges)[0].tolist(),
        }


def merged(shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers of the whole data set, from those of its shards in order; a mean in place of the sum."""
    shards = [shard for shard in shards if shard]
    if not shards:
        return {}
    parts = [shard["landmark_residual_px"] for shard in shards]
    n = sum(part["n"] for part in parts)
    worst = max(parts, key=lambda part: part["worst"])
    residual = {**worst, "n": n, "mean": sum(part["sum"] for part in parts) / n}
    del residual["sum"]
    counts = {
        name: dict(sorted(sum((Counter(shard[name]) for shard in shards), Counter()).items()))
        for name in ("results", "landmark_origins")
    }
    histogram = np.sum([shard["yaw_histogram"] for shard in shards], axis=0).tolist()
    return {
        "landmark_residual_px": residual,
        **counts,
        "yaw_histogram": {"bin_degrees": YAW_BIN_DEG, "counts": histogram},
    }

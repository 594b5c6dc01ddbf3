"""Numbers about a data set of whole photographs, gathered shard by shard and added up in the manifest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flows.photograph_sample import PhotographSample
from flows.posmap_statistics import YAW_BIN_DEG


class Collector:
    """Gathers the numbers of one shard."""

    def __init__(self) -> None:
        self._residuals: list[float] = []
        self._yaws: list[float] = []
        self._faces: list[int] = []
        self._shares: list[tuple[float, float]] = []

    def add(self, sample: PhotographSample) -> None:
        """Take in one good sample."""
        self._residuals += sample.landmark_residuals_px
        self._yaws += sample.yaws
        self._faces.append(len(sample.yaws))
        self._shares.append((sample.face_share, sample.ignored_share))

    def result(self) -> dict[str, Any]:
        """The shard's numbers, JSON alone: sums, so that shards can be added up."""
        if not self._faces:
            return {}
        residuals = np.array(self._residuals)
        known = residuals[np.isfinite(residuals)]
        face, ignored = np.sum(self._shares, axis=0).tolist()
        edges = np.arange(-180, 180 + YAW_BIN_DEG, YAW_BIN_DEG)
        return {
            "landmark_residual_px": {
                "n": len(known),
                "sum": float(known.sum()),
                "worst": float(known.max(initial=0.0)),
            },
            "faces_histogram": np.bincount(self._faces).tolist(),
            "share_of_pixels": {"n": len(self._faces), "face": face, "ignored": ignored},
            "yaw_histogram": np.histogram(np.degrees(self._yaws), edges)[0].tolist(),
        }


def merged(shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers of the whole data set, from those of its shards in order; means in place of sums."""
    shards = [shard for shard in shards if shard]
    if not shards:
        return {}
    residuals = [shard["landmark_residual_px"] for shard in shards]
    n = sum(part["n"] for part in residuals)
    shares = [shard["share_of_pixels"] for shard in shards]
    n_samples = sum(part["n"] for part in shares)
    faces = np.zeros(max(len(shard["faces_histogram"]) for shard in shards), dtype=int)
    for shard in shards:
        faces[: len(shard["faces_histogram"])] += shard["faces_histogram"]
    return {
        "landmark_residual_px": {
            "n": n,
            "mean": sum(part["sum"] for part in residuals) / n if n else None,
            "worst": max(part["worst"] for part in residuals),
        },
        "faces": {"total": int(faces @ np.arange(len(faces))), "photographs_by_faces": faces.tolist()},
        "share_of_pixels": {name: sum(part[name] for part in shares) / n_samples for name in ("face", "ignored")},
        "yaw_histogram": {
            "bin_degrees": YAW_BIN_DEG,
            "counts": np.sum([shard["yaw_histogram"] for shard in shards], axis=0).tolist(),
        },
    }

"""Numbers about a data set of position maps, gathered shard by shard and added up in the manifest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from flows.posmap_sample import PosmapSample
from storage.byte_codes import Jpeg

YAW_BIN_DEG = 10
IMAGE_PSNR = "image_psnr_db"


class Collector:
    """Gathers the numbers of one shard."""

    def __init__(self, jpeg: Jpeg | None = None) -> None:
        """With `jpeg`, the code of the images, what it loses is measured."""
        self._jpeg = jpeg
        self._decibels: list[float] = []
        self._readback: list[np.ndarray] = []
        self._residuals: list[float] = []
        self._yaws: list[float] = []
        self._names: list[str] = []

    def add(self, sample: PosmapSample) -> None:
        """Take in one good sample."""
        self._readback.append(sample.readback_error_px)
        self._residuals.append(sample.landmark_residual_px)
        self._yaws.append(sample.yaw)
        self._names.append(sample.source_id)
        if self._jpeg is not None:
            self._decibels.append(jpeg_psnr(sample.image, self._jpeg))

    def result(self) -> dict[str, Any]:
        """The shard's numbers, JSON alone: sums, so that shards can be added up."""
        if not self._names:
            return {}
        readback = np.array(self._readback)
        worst = int(readback.max(axis=1).argmax())
        residuals = np.array(self._residuals)
        known = residuals[np.isfinite(residuals)]
        edges = np.arange(-180, 180 + YAW_BIN_DEG, YAW_BIN_DEG)
        decibels = {"n": len(self._decibels), "sum": sum(self._decibels), "worst": min(self._decibels, default=0.0)}
        return {
            **({IMAGE_PSNR: decibels} if self._decibels else {}),
            "landmark_readback_px": {
                "n": readback.size,
                "sum": float(readback.sum()),
                "worst": float(readback.max()),
                "worst_source_id": self._names[worst],
            },
            "landmark_residual_px": {
                "n": len(known),
                "sum": float(known.sum()),
                "worst": float(known.max(initial=0.0)),
            },
            "yaw_histogram": np.histogram(np.degrees(self._yaws), edges)[0].tolist(),
        }


def merged(shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers of the whole data set, from those of its shards in order; means in place of sums."""
    shards = [shard for shard in shards if shard]
    if not shards:
        return {}
    merged: dict[str, Any] = {}
    for name in ("landmark_readback_px", "landmark_residual_px"):
        parts = [shard[name] for shard in shards]
        n = sum(part["n"] for part in parts)
        worst = max(parts, key=lambda part: part["worst"])
        merged[name] = {**worst, "n": n, "mean": sum(part["sum"] for part in parts) / n if n else None}
        del merged[name]["sum"]
    if all(IMAGE_PSNR in shard for shard in shards):
        parts = [shard[IMAGE_PSNR] for shard in shards]
        n = sum(part["n"] for part in parts)
        worst = min(part["worst"] for part in parts)
        merged[IMAGE_PSNR] = {"n": n, "mean": sum(part["sum"] for part in parts) / n, "worst": worst}
    merged["yaw_histogram"] = {
        "bin_degrees": YAW_BIN_DEG,
        "counts": np.sum([shard["yaw_histogram"] for shard in shards], axis=0).tolist(),
    }
    return merged


def jpeg_psnr(image: UInt8[np.ndarray, "h w 3"], jpeg: Jpeg) -> float:
    """What is left of a picture, as peak signal to noise in decibels; 99 where nothing is lost."""
    pixels = np.ascontiguousarray(np.moveaxis(image, -1, 0))
    lost = jpeg.decode(jpeg.encode(pixels)[None])[0].astype(np.float32) - pixels
    return min(99.0, float(10 * np.log10(255.0**2 / max(float(np.square(lost).mean()), 1e-9))))

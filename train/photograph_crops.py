"""Training crops of whole photographs while reading: DenseReg's five scales and squares of 321 px (section 4.1).

A sample of such a data set is a whole photograph with its padding. Epoch e of a sample is one crop, drawn from (seed, source
id, e): the same in any worker and any order, another one in every epoch.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from storage.dataset import ShardedDataset
from storage.field_crops import draw_crop

_NEEDED = ("image", "size_hw", "uv", "depth", "label", "face_index", "depth_range_px", "landmarks_px", "source_id")
_CROPPED = ("image", "uv", "depth", "label", "part", "face_index", "mask", "depth_range_px", "landmarks_px")


def holds_photographs(dataset: ShardedDataset) -> bool:
    """Whether the samples are whole photographs of their own sizes, which do not make batches as they are."""
    return "size_hw" in dataset.schema.names


@dataclass(frozen=True)
class PhotographCrops:
    """What a loader's workers do to the samples of a data set of whole photographs."""

    dataset: ShardedDataset
    seed: int

    def check(self, targets: Iterable[str]) -> None:
        """Raise ValueError for targets that a crop does not have."""
        strange = [name for name in targets if name not in (*_CROPPED, "source_id")]
        if strange:
            raise ValueError(
                f"crops of photographs have no {', '.join(strange)}; they have {', '.join(_CROPPED)} and source_id"
            )

    def read(self, indices: Sequence[int], targets: Iterable[str], epoch: int) -> dict[str, np.ndarray]:
        """One crop of each photograph; pictures with the channels last, views of channels-first memory."""
        wanted = tuple(targets)
        optional = [name for name in ("part", "mask") if name in wanted]
        stored = self.dataset.read(indices, (*_NEEDED, *optional))
        crops = [
            draw_crop({name: values[i] for name, values in stored.items()}, rng=self._rng(source, epoch))
            for i, source in enumerate(stored["source_id"].tolist())
        ]
        return {
            name: stored[name] if name == "source_id" else _stacked([crop[name] for crop in crops], name)
            for name in wanted
        }

    def _rng(self, source_id: str, epoch: int) -> np.random.Generator:
        digest = hashlib.sha256(source_id.encode()).digest()
        return np.random.default_rng([self.seed, epoch, int.from_bytes(digest[:8], "little")])


def _stacked(values: list[np.ndarray], name: str) -> np.ndarray:
    if name not in ("image", "uv"):
        return np.stack(values)
    return np.moveaxis(np.stack([np.moveaxis(value, -1, 0) for value in values]), 1, -1)

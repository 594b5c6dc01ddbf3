"""Augmentation while reading: what a loader's workers do to a batch before it becomes tensors.

Epoch e of a sample is its copy e + 1 (copy 0 is the sample as it is stored), drawn from (seed, source id, copy) as a
build draws its copies: the first epochs of a reader and the copies of a build with the same seed get the same draws.
Stored targets are moved, targets that readers work out are worked out of the moved ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster
from render.augmentation import augment_picture
from render.augmentation_config import SURFACE_OCCLUDERS, AugmentationMixture
from render.augmentation_draws import AugmentationDraw, draw_augmentation
from render.correspondence_kernel import SURFACE
from render.mirrored_atlas import MirroredAtlas
from render.moved_labels import Move, check_movable, moved_labels
from render.occlusion import occlusion_layer, occlusion_mask
from render.surface_occluders import FaceSurface
from storage.dataset import ShardedDataset
from storage.decoding import decoder_of
from storage.schema import DerivedTarget
from train.augmentation import DrawnBatch

_FIELD_TEXELS = 256


@dataclass(frozen=True)
class ReadingAugmentation:
    """What happens to a data set's samples on their way out.

    With `where` = "worker" pictures are augmented in the reading process; with "device" they travel as they are, with
    the draws and the occluders' layers (a DrawnBatch), and the device augments the whole batch.
    """

    dataset: ShardedDataset
    augmentation: AugmentationMixture
    seed: int
    where: Literal["worker", "device"] = "worker"

    def __post_init__(self) -> None:
        """Refuse at once what would fail in a worker, an hour later."""
        if "image" not in self.dataset.schema.names:
            raise ValueError(f"{self.dataset.manifest.name} has no pictures: nothing to augment")

    def check(self, targets: Iterable[str]) -> None:
        """Raise ValueError for targets that cannot move with the picture, and KeyError for unknown ones."""
        self._stored_names(tuple(targets))

    def draws(self, sources: Sequence[str], copies: Sequence[int], epoch: int) -> list[AugmentationDraw]:
        """The draw of each sample in `epoch`; stored copies beside copy 0 are sources of their own."""
        names = [source if copy == 0 else f"{source}#{copy}" for source, copy in zip(sources, copies, strict=True)]
        return [
            draw_augmentation(self.augmentation, seed=self.seed, source_id=name, copy_index=epoch + 1) for name in names
        ]

    def read(self, indices: Sequence[int], targets: Iterable[str], epoch: int) -> dict[str, Any]:
        """The batch of `indices` as arrays (pictures with the channels last), augmented.

        Beside the targets: `occluded` (the mask), `augmented_from_crop` (the similarity) and `augmentation`, the draw as JSON.

        Where the device augments, `image` is the stored one and `drawn` holds the DrawnBatch.
        """
        wanted = tuple(targets)
        names = self._stored_names(wanted)
        stored = self.dataset.read(indices, sorted(names | self._identifying))
        copies = stored["copy_index"].tolist() if "copy_index" in stored else [0] * len(indices)
        draws = self.draws(stored["source_id"].tolist(), copies, epoch)
        size_px = stored["image"].shape[1]
        ways = [draw.geometric.augmented_from_crop(size_px) for draw in draws]
        flips = any(way.is_mirrored for way in ways)
        atlas = self._map_atlas if flips and "position_map" in names else None
        field_atlas = self._field_atlas if flips and "uv" in names else None

        rows: list[dict[str, np.ndarray]] = []
        for i, way in enumerate(ways):
            sample = {name: stored[name][i] for name in names}
            rows.append(moved_labels(sample, Move(way, size_px, atlas, field_atlas)))
        batch: dict[str, Any] = {
            name: self._stacked(name, [row[name] for row in rows]) for name in names if name != "image"
        }
        needs_surface = any(occluder.kind in SURFACE_OCCLUDERS for draw in draws for occluder in draw.occluders)
        for name in dict.fromkeys((*wanted, *(("position_map",) if needs_surface else ()))):
            target = self.dataset.schema[name]
            if isinstance(target, DerivedTarget) and name != "image":  # which is read, and augmented, not decoded anew
                batch[name] = self._decoded(target, batch, len(draws))
        surfaces = [self._surface(batch["position_map"][i]) if needs_surface else None for i in range(len(draws))]
        kept = {name: batch[name] for name in wanted if name != "image"}
        pictures = self._pictures(stored["image"], draws, surfaces, size_px)
        if "occluded" in batch:
            pictures["occluded"] |= batch["occluded"]
        own_ways = np.stack([way.matrix for way in ways])
        return kept | pictures | {
            "augmented_from_crop": batch.get("augmented_from_crop", own_ways),
            "augmentation": np.array([draw.to_json() for draw in draws]),
        }  # fmt: skip

    def _pictures(
        self,
        pictures: np.ndarray,
        draws: Sequence[AugmentationDraw],
        surfaces: Sequence[FaceSurface | None],
        size_px: int,
    ) -> dict[str, Any]:
        if self.where == "worker":
            augmented = [
                augment_picture(picture, draw, size_px=size_px, surface=surface, donor=self._donor)
                for picture, draw, surface in zip(pictures, draws, surfaces, strict=True)
            ]
            return {
                "image": self._stacked("image", [one.image for one in augmented]),
                "occluded": np.stack([one.occluded for one in augmented]),
            }
        layers = [
            occlusion_layer(draw.occluders, size_px=size_px, surface=surface, donor=self._donor)
            for draw, surface in zip(draws, surfaces, strict=True)
        ]
        nothing = np.zeros((size_px, size_px), dtype=bool)
        return {
            "image": pictures,
            "occluded": np.stack([nothing if layer is None else occlusion_mask(layer) for layer in layers]),
            "drawn": DrawnBatch.of(draws, size_px=size_px, layers=layers),
        }

    def _stacked(self, name: str, values: Sequence[Any]) -> np.ndarray:
        """The batch of a target; what is stored channels first is so in memory, as the data set's own reader has it."""
        if not self.dataset.schema[name].channels_first:
            return np.stack(values)
        return np.moveaxis(np.stack([np.moveaxis(value, -1, 0) for value in values]), 1, -1)

    # ------------------------------------------------------------------------------------------------------- what to read

    @cached_property
    def _identifying(self) -> frozenset[str]:
        return frozenset({"source_id", "copy_index"} & set(self._stored_in_schema))

    @property
    def _stored_in_schema(self) -> tuple[str, ...]:
        return tuple(target.name for target in self.dataset.schema.targets)

    def _stored_names(self, wanted: Sequence[str]) -> frozenset[str]:
        """The stored targets that the wanted ones are made of; checked to be movable."""
        names = {"image"} | ({"occluded", "augmented_from_crop"} & set(self._stored_in_schema))  # of a built copy
        surface = bool(self.augmentation.occluder_kinds & set(SURFACE_OCCLUDERS))
        for name in (*wanted, *(("position_map",) if surface else ())):
            if name not in {target.name for target in self.dataset.schema.everything}:
                raise ValueError(
                    f"occluders on the surface need the target {name}, which {self.dataset.manifest.name} lacks: "
                    "take an augmentation without them"
                )
            target = self.dataset.schema[name]
            if isinstance(target, DerivedTarget) and name != "image":
                names |= set(decoder_of(target).needs)
            else:
                names.add(name)
        if {"landmark_visible", "face_box_px"} & names:
            names.add("landmarks_px")
        if "uv" in names:
            names.add("label")
        check_movable(frozenset(names))
        return frozenset(names)

    def _decoded(self, target: DerivedTarget, batch: dict[str, Any], n_samples: int) -> np.ndarray:
        if target.name not in self._decoders:
            self._decoders[target.name] = decoder_of(target).prepare(self.dataset)
        return self._decoders[target.name](batch, n_samples)

    @cached_property
    def _decoders(self) -> dict[str, Any]:
        return {}

    def _donor(self, place: float) -> np.ndarray:
        """The picture at that place of the data set, for patches of other people."""
        return self.dataset.read([int(place * len(self.dataset))], ["image"])["image"][0]

    # ----------------------------------------------------------------------------------------------------- the two atlases

    @cached_property
    def _raster(self) -> AtlasRaster:
        table = self.dataset.table
        return AtlasRaster.from_tables(table("atlas_corners"), table("atlas_weights"), table("atlas_covered"))

    @cached_property
    def _map_atlas(self) -> MirroredAtlas:
        """Left and right in the atlas of the position maps, which lies among the tables."""
        table = self.dataset.table
        atlas = UVAtlas(table("vertex_uv").astype(np.float64), np.ascontiguousarray(table("triangles")))
        return MirroredAtlas.of(atlas, self._raster, self.dataset.model().mirror)

    @cached_property
    def _field_atlas(self) -> MirroredAtlas:
        table, model = self.dataset.table, self.dataset.model()
        placed = table("field_role") == SURFACE
        atlas = UVAtlas(table("field_uv").astype(np.float64), np.ascontiguousarray(table("field_triangles")[placed]))
        return MirroredAtlas.of(atlas, AtlasRaster(atlas, _FIELD_TEXELS), model.mirror)

    @cached_property
    def _landmark_texels(self) -> np.ndarray:
        rows, columns, weights = (self.dataset.table(f"landmark_{part}") for part in ("rows", "columns", "weights"))
        return np.stack([(weights * columns).sum(axis=1), (weights * rows).sum(axis=1)], axis=1)

    def _surface(self, xyz: np.ndarray) -> FaceSurface:
        return FaceSurface(np.ascontiguousarray(xyz, dtype=np.float32), self._raster.covered, self._landmark_texels)

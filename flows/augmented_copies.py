"""Copies of a build that are augmented: the picture cut straight out of the photograph, and what is stored beside it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from geometry.frames import Similarity2D
from geometry.morphable_model import MorphableModel
from render.atlas_raster import AtlasRaster, TexelSampler
from render.augmentation import augment_picture
from render.augmentation_config import SURFACE_OCCLUDERS, AugmentationMixture
from render.augmentation_draws import AugmentationDraw, draw_augmentation
from render.crop import warp_image
from render.surface_occluders import FaceSurface


@dataclass(frozen=True, slots=True)
class AugmentedCopies:
    """How copies 1, 2, … of a crop of `size_px` are augmented; copy 0 is the crop."""

    augmentation: AugmentationMixture
    seed: int
    size_px: int
    raster: AtlasRaster
    landmarks: TexelSampler

    def check(self, model: MorphableModel) -> None:
        """Raise ValueError where copies may be mirrored and the model does not know left from right."""
        if self.augmentation.may_flip and model.mirror is None:
            raise ValueError(
                f"the augmentation mirrors, and {model.name} has no left-right permutation of its vertices: import the "
                "model with its symlist, or choose an augmentation that does not flip (prnet, densereg, mesh_gcn)"
            )

    def draw(self, source_id: str, copy_index: int) -> AugmentationDraw:
        """The draw of one copy: the one that a reader has in epoch `copy_index` − 1."""
        return draw_augmentation(self.augmentation, seed=self.seed, source_id=source_id, copy_index=copy_index)

    def way(self, draw: AugmentationDraw) -> Similarity2D:
        """`augmented_from_crop`."""
        return draw.geometric.augmented_from_crop(self.size_px)

    def picture(
        self,
        photograph: UInt8[np.ndarray, "h w 3"],
        crop_from_image: Similarity2D,
        draw: AugmentationDraw,
        *,
        copy_index: int,
        xyz: Float32[np.ndarray, "t t 3"] | None,
    ) -> tuple[UInt8[np.ndarray, "s s 3"], Bool[np.ndarray, "s s"]]:
        """The picture and the pixels that are occluded; `xyz` is the copy's position map, see :meth:`needs_map`."""
        if copy_index == 0:
            crop = warp_image(photograph, crop_from_image, size_px=self.size_px)
            return crop, np.zeros((self.size_px, self.size_px), dtype=bool)
        surface = None if xyz is None else FaceSurface(xyz, self.raster.covered, self._landmark_texels)
        augmented = augment_picture(
            photograph, draw, size_px=self.size_px, crop_from_picture=crop_from_image, surface=surface
        )
        return augmented.image, augmented.occluded

    def needs_map(self, draw: AugmentationDraw) -> bool:
        """Whether something sticks to the face."""
        return any(occluder.kind in SURFACE_OCCLUDERS for occluder in draw.occluders)

    def stored(self, draw: AugmentationDraw, occluded: Bool[np.ndarray, "s s"]) -> dict[str, object]:
        """What :func:`storage.augmentation_targets.augmentation_targets` declares."""
        return {
            "occluded": occluded,
            "augmented_from_crop": self.way(draw).matrix,
            "augmentation": np.str_(draw.to_json()),
        }

    @property
    def _landmark_texels(self) -> np.ndarray:
        sampler = self.landmarks
        x, y = ((sampler.weights * places).sum(axis=1) for places in (sampler.columns, sampler.rows))
        return np.stack([x, y], axis=1)

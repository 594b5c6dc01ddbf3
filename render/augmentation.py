"""A sample augmented: its picture and its labels, by one draw (:mod:`render.augmentation_draws`).

The order is fixed: geometry and light in one pass over the picture, occluders, then what lens, sensor and file do. The
same functions run when shards are built, on the photograph, and on the reading side, on the crop; the torch twin for
batches (:mod:`train.augmentation`) does the same to the byte, or to one level where it computes in floating point.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from geometry.frames import Similarity2D
from render.augmentation_draws import AugmentationDraw
from render.mirrored_atlas import MirroredAtlas
from render.moved_labels import Move, moved_labels
from render.occlusion import Donor, occlusion_layer, occlusion_mask, put_over
from render.photometric import after_the_lens, channel_table, check_picture
from render.surface_occluders import FaceSurface
from render.warp import warp_exactly


@dataclass(frozen=True, slots=True)
class AugmentedPicture:
    """The picture, the pixels that occluders changed, and the similarity that led here."""

    image: UInt8[np.ndarray, "s s 3"]
    occluded: Bool[np.ndarray, "s s"]
    augmented_from_crop: Similarity2D


def augment_picture(
    picture: Shaped[np.ndarray, "..."],
    draw: AugmentationDraw,
    *,
    size_px: int,
    crop_from_picture: Similarity2D | None = None,
    surface: FaceSurface | None = None,
    donor: Donor | None = None,
) -> AugmentedPicture:
    """One draw applied to a crop of `size_px`, or straight to the photograph that the crop is cut from.

    With `crop_from_picture` the photograph is read once, by ``augmented_from_crop @ crop_from_picture``: sharper, and
    what lies around the crop is there. `surface` is the face **in the augmented picture**, for occluders that stick to
    it. Raises ValueError for pictures that are not (h w 3) bytes.
    """
    check_picture(picture)
    augmented_from_crop = draw.geometric.augmented_from_crop(size_px)
    way = augmented_from_crop if crop_from_picture is None else augmented_from_crop @ crop_from_picture
    image = warp_exactly(picture, way, size_hw=(size_px, size_px), lut=channel_table(draw.photometric))
    layer = occlusion_layer(draw.occluders, size_px=size_px, surface=surface, donor=donor)
    occluded = np.zeros((size_px, size_px), dtype=bool)
    if layer is not None:
        image, occluded = put_over(image, layer), occlusion_mask(layer)
    return AugmentedPicture(after_the_lens(image, draw.photometric), occluded, augmented_from_crop)


def augment_sample(
    sample: Mapping[str, Any],
    draw: AugmentationDraw,
    *,
    atlas: MirroredAtlas | None = None,
    field_atlas: MirroredAtlas | None = None,
    landmark_texels: Float[np.ndarray, "68 2"] | None = None,
    donor: Donor | None = None,
) -> dict[str, Any]:
    """A stored sample (targets by name, the picture (S S 3) as `image`) augmented, all of its labels moved.

    Adds `augmented_from_crop` (3 3) and `occluded` (S S), joined with the sample's own where it is augmented already. The atlases
    are needed for samples that are mirrored, `position_map`, its `atlas` and `landmark_texels` (68 2) for occluders on
    the surface. Raises ValueError for targets that nobody knows how to move.
    """
    picture = sample["image"]
    check_picture(picture)
    if picture.shape[0] != picture.shape[1]:
        raise ValueError(f"a crop to be augmented is square, not {picture.shape[0]} × {picture.shape[1]} pixels")
    size_px = len(picture)
    move = Move(draw.geometric.augmented_from_crop(size_px), size_px, atlas, field_atlas)
    moved = moved_labels(sample, move)
    surface = None
    if "position_map" in moved and atlas is not None and landmark_texels is not None:
        surface = FaceSurface(moved["position_map"], atlas.covered, landmark_texels)
    augmented = augment_picture(picture, draw, size_px=size_px, surface=surface, donor=donor)
    occluded = augmented.occluded | moved["occluded"] if "occluded" in moved else augmented.occluded
    return {
        **moved,
        "image": augmented.image,
        "occluded": occluded,
        "augmented_from_crop": moved.get("augmented_from_crop", augmented.augmented_from_crop.matrix),
    }

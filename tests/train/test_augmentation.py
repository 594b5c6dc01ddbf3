"""The torch twin: the same draw gives the same bytes, or one level beside them where floating point is rounded."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geometry.frames import Similarity2D
from render.augmentation import augment_picture
from render.augmentation_draws import AugmentationDraw, GeometricDraw, OccluderDraw, PhotometricDraw, draw_augmentation
from render.augmentation_presets import as_mixture
from render.occlusion import occlusion_layer
from render.warp import warp_labels
from train.augmentation import (
    DrawnBatch,
    augment_pictures,
    moved_pixels,
)

SIZE = 72
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def pictures(n):
    """Noise, and a smooth picture with hard edges."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    smooth = np.stack([x, y, (x > 0.4) * 0.9], axis=-1) * 255
    drawn = [rng.integers(0, 256, (SIZE, SIZE, 3)) if i % 2 else smooth for i in range(n)]
    return np.stack(drawn).astype(np.uint8)


def on_cpu(images, draws):
    return np.stack([augment_picture(i, d, size_px=SIZE).image for i, d in zip(images, draws, strict=True)])


def in_torch(images, draws, device="cpu"):
    layers = [occlusion_layer(draw.occluders, size_px=SIZE) for draw in draws]
    drawn = DrawnBatch.of(draws, size_px=SIZE, layers=layers).to(torch.device(device))
    batch = torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1))).to(device)
    return np.moveaxis(augment_pictures(batch, drawn).cpu().numpy(), 1, -1)


def without_surfaces(draw):
    kept = tuple(occluder for occluder in draw.occluders if not occluder.kind.startswith("surface"))
    return replace(draw, occluders=kept)


def without_jpeg(draw):
    return replace(draw, photometric=replace(draw.photometric, jpeg_quality=None))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("augmentation", ["prnet", "densereg", "dan", "fan3d", "mesh_gcn", "slight", "everything"])
def test_the_same_draw_is_the_same_picture_within_one_level(augmentation, device):
    draws = [
        without_jpeg(without_surfaces(draw_augmentation(as_mixture(augmentation), seed=2, source_id="a", copy_index=copy)))
        for copy in range(16)
    ]  # fmt: skip
    images = pictures(16)
    difference = np.abs(in_torch(images, draws, device).astype(int) - on_cpu(images, draws))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "draw",
    [
        AugmentationDraw(0, GeometricDraw(0.4, 1.2, (0.1, -0.05), True)),
        AugmentationDraw(0, GeometricDraw(scale=0.3, angle=1.0)),
        AugmentationDraw(0, photometric=PhotometricDraw(channel_scale=(0.6, 1.4, 1.1), gamma=1.4, contrast=1.3)),
        AugmentationDraw(0, photometric=PhotometricDraw(saturation=1.7)),
        AugmentationDraw(0, photometric=PhotometricDraw(saturation=0.0)),
        AugmentationDraw(0, occluders=(OccluderDraw("hand", (0.5, 0.5), 0.6, 1.0, 0.1, 4),)),
    ],
)
def test_geometry_light_occluders_and_colours_are_equal_to_the_byte(draw, device):
    images = pictures(3)
    np.testing.assert_array_equal(in_torch(images, [draw] * 3, device), on_cpu(images, [draw] * 3))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "photometric",
    [
        PhotometricDraw(blur_px=1.7),
        PhotometricDraw(motion_px=9.0, motion_angle=0.7),
        PhotometricDraw(downscale=0.37),
        PhotometricDraw(downscale=0.02),
        PhotometricDraw(noise_levels=12.0, noise_seed=0xDEADBEEF),
    ],
)
def test_what_is_rounded_is_one_level_beside_at_most(photometric, device):
    images, draws = pictures(4), [AugmentationDraw(0, photometric=photometric)] * 4
    difference = np.abs(in_torch(images, draws, device).astype(int) - on_cpu(images, draws))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 2e-3


def test_jpeg_goes_through_the_same_encoder():
    draws = [AugmentationDraw(0, photometric=PhotometricDraw(jpeg_quality=30))] * 2
    np.testing.assert_array_equal(in_torch(pictures(2), draws), on_cpu(pictures(2), draws))


def test_a_batch_mixes_draws_of_all_kinds_each_for_its_own_picture():
    draws = [
        AugmentationDraw(0),
        AugmentationDraw(0, GeometricDraw(scale=0.5)),
        AugmentationDraw(0, occluders=(OccluderDraw("shape", (0.5, 0.5), 0.4, 0.0, 0.1, 4),)),
        AugmentationDraw(0, GeometricDraw(flip=True), PhotometricDraw(brightness=0.2)),
    ]
    images = pictures(4)
    np.testing.assert_array_equal(in_torch(images, draws), on_cpu(images, draws))
    np.testing.assert_array_equal(in_torch(images, draws)[0], images[0])


def test_what_is_no_batch_of_bytes_is_refused():
    drawn = DrawnBatch.of([AugmentationDraw(0)], size_px=SIZE)
    with pytest.raises(ValueError, match="are bytes .n, 3, h, w., not torch.float32"):
        augment_pictures(torch.zeros(1, 3, SIZE, SIZE), drawn)
    with pytest.raises(ValueError, match="are bytes .n, 3, h, w., not torch.uint8 .1, 1, 72, 72."):
        augment_pictures(torch.zeros(1, 1, SIZE, SIZE, dtype=torch.uint8), drawn)
    with pytest.raises(ValueError, match="1 draws for 2 pictures"):
        augment_pictures(torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8), drawn)


# -------------------------------------------------------------------------------------------------------------- labels

WAYS = [
    Similarity2D.of(),
    GeometricDraw(0.5, 1.2, (0.1, 0.0), False).augmented_from_crop(SIZE),
    GeometricDraw(-0.3, 0.8, (0.0, 0.1), True).augmented_from_crop(SIZE),
]


@pytest.mark.parametrize("device", DEVICES)
def test_masks_move_as_on_the_cpu(device):
    masks = np.random.default_rng(3).integers(0, 9, (3, SIZE, SIZE), dtype=np.uint8)
    pixels = moved_pixels(torch.from_numpy(masks).to(device), WAYS, size_px=SIZE, outside=255)
    for i, way in enumerate(WAYS):
        expected = warp_labels(masks[i], way, size_hw=(SIZE, SIZE), outside=255)
        np.testing.assert_array_equal(pixels[i].cpu().numpy(), expected)

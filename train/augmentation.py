"""Augmentation's twin in torch, for whole batches on the device where they are used.

Draws are made on the CPU (:mod:`render.augmentation_draws`) and become small tensors, :class:`DrawnBatch`; occluders come
as finished layers. Geometry, light, occluders and colours are whole numbers and give :mod:`render.augmentation`'s bytes;
blur, down-scaling and noise are rounded floating point, at most one level beside them. JPEG has no twin: those samples go
through the CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64, Shaped, UInt8
from torch import Tensor

from geometry.frames import Similarity2D
from render.augmentation_draws import AugmentationDraw, PhotometricDraw
from render.hashed_noise import MULTIPLIERS, SECOND_STREAM, SHIFTS
from render.photometric import (
    LUMA,
    SATURATION_STEPS,
    blur_kernel,
    channel_table,
    recompressed,
    saturation_weight,
    small_side,
)
from render.warp import FRACTION_BITS, WEIGHT_BITS, fixed_point, places_per_pixel, spread_of_places

_32_BITS = 0xFFFF_FFFF
_WEIGHT = 1 << WEIGHT_BITS


@dataclass(frozen=True)
class DrawnBatch:
    """Everything that a batch's draws ask of a device; made on the CPU by :meth:`of`, then moved by :meth:`to`.

    matrices  (n 2 3) from pixels of the result to places of the source, as :func:`render.warp.fixed_point` has them
    tables    (n 3 256) what each level of each channel becomes
    layers    (m 4 s s) RGBA of the samples `layered` (m,), which have occluders
    """

    matrices: Int64[Tensor, "n 2 3"]
    places: tuple[int, ...]
    tables: UInt8[Tensor, "n 3 256"]
    layers: UInt8[Tensor, "m 4 s s"]
    layered: Int64[Tensor, " m"]
    photometric: tuple[PhotometricDraw, ...]
    size_px: int

    @classmethod
    def of(
        cls,
        draws: Sequence[AugmentationDraw],
        *,
        size_px: int,
        layers: Sequence[UInt8[np.ndarray, "s s 4"] | None] | None = None,
    ) -> "DrawnBatch":
        """The draws of a batch of crops of `size_px`, and their occluders' layers (render.occlusion draws those)."""
        ways = [draw.geometric.augmented_from_crop(size_px) for draw in draws]
        shown = [(i, layer) for i, layer in enumerate(layers or ()) if layer is not None]
        stacked = (
            np.stack([np.moveaxis(layer, -1, 0) for _, layer in shown]) if shown else np.zeros((0, 4, size_px, size_px))
        )
        return cls(
            torch.from_numpy(np.stack([fixed_point(way) for way in ways])),
            tuple(places_per_pixel(way) for way in ways),
            torch.from_numpy(np.stack([channel_table(draw.photometric) for draw in draws])),
            torch.from_numpy(stacked.astype(np.uint8)),
            torch.tensor([i for i, _ in shown], dtype=torch.int64),
            tuple(draw.photometric for draw in draws),
            size_px,
        )

    def __len__(self) -> int:
        return len(self.photometric)

    def to(self, device: torch.device) -> "DrawnBatch":
        """The same on `device`."""
        tensors = (t.to(device, non_blocking=True) for t in (self.matrices, self.tables, self.layers, self.layered))
        matrices, tables, layers, layered = tensors
        return DrawnBatch(matrices, self.places, tables, layers, layered, self.photometric, self.size_px)

    def pin_memory(self) -> "DrawnBatch":
        """The same in memory that a device copies from by itself; the loader calls it."""
        matrices, tables, layers, layered = (
            t.pin_memory() for t in (self.matrices, self.tables, self.layers, self.layered)
        )
        return DrawnBatch(matrices, self.places, tables, layers, layered, self.photometric, self.size_px)


def augment_pictures(pictures: Tensor, drawn: DrawnBatch) -> UInt8[Tensor, "n 3 s s"]:
    """The batch augmented, as render.augmentation.augment_picture does it one by one.

    Raises ValueError for pictures that are not bytes, and for another number of draws than pictures.
    """
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(
            f"pictures to be augmented are bytes (n, 3, h, w), not {pictures.dtype} {tuple(pictures.shape)}: "
            "augment before they become floating point (make_loader does)"
        )
    if len(pictures) != len(drawn):
        raise ValueError(f"{len(drawn)} draws for {len(pictures)} pictures: one for each")
    result = warp_pictures(pictures, drawn)
    if len(drawn.layered):
        result[drawn.layered] = put_over(result[drawn.layered], drawn.layers)
    for i, draw in enumerate(drawn.photometric):
        result[i] = after_the_lens(result[i], draw)
    return result


def warp_pictures(pictures: UInt8[Tensor, "n 3 h w"], drawn: DrawnBatch) -> UInt8[Tensor, "n 3 s s"]:
    """Geometry and light: render.warp in whole numbers, then each channel's table."""
    result = torch.empty((len(pictures), 3, drawn.size_px, drawn.size_px), dtype=torch.uint8, device=pictures.device)
    for n in sorted(set(drawn.places)):
        mine = torch.tensor([i for i, k in enumerate(drawn.places) if k == n], device=pictures.device)
        result[mine] = _warped(pictures[mine], drawn.matrices[mine], drawn.tables[mine], n, drawn.size_px)
    return result


def _warped(pictures: Tensor, matrices: Tensor, tables: Tensor, n: int, size: int) -> Tensor:
    count, height, width = len(pictures), *pictures.shape[2:]
    flat = pictures.reshape(count, 3, -1)
    steps = torch.arange(size, device=pictures.device)
    start = [
        matrices[:, k, 0, None, None] * steps + matrices[:, k, 1, None, None] * steps[:, None]
        + matrices[:, k, 2, None, None] for k in (0, 1)
    ]  # fmt: skip
    spreads = np.stack([spread_of_places(matrix, n) for matrix in matrices.cpu().numpy()])  # (count, n², 2)
    total = torch.zeros((count, 3, size * size), dtype=torch.int32, device=pictures.device)
    for k in range(n * n):
        shift = torch.from_numpy(spreads[:, k]).to(pictures.device)
        u, v = (s + shift[:, axis, None, None] for axis, s in enumerate(start))
        column, row = u >> FRACTION_BITS, v >> FRACTION_BITS
        fx, fy = ((p >> (FRACTION_BITS - WEIGHT_BITS)) & (_WEIGHT - 1) for p in (u, v))
        for dy, wy in ((0, _WEIGHT - fy), (1, fy)):
            for dx, wx in ((0, _WEIGHT - fx), (1, fx)):
                x, y = column + dx, row + dy
                inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
                index = torch.where(inside, y * width + x, 0).reshape(count, 1, -1).expand(-1, 3, -1)
                weight = torch.where(inside, wx * wy, 0).to(torch.int32).reshape(count, 1, -1)
                total += flat.gather(2, index).to(torch.int32) * weight
    whole = n * n << 2 * WEIGHT_BITS
    levels = (total + whole // 2) // whole
    return tables.gather(2, levels.long()).reshape(count, 3, size, size)


def put_over(pictures: UInt8[Tensor, "m 3 s s"], layers: UInt8[Tensor, "m 4 s s"]) -> UInt8[Tensor, "m 3 s s"]:
    """render.occlusion.put_over."""
    coverage = layers[:, 3:].to(torch.int32)
    mixed = pictures.to(torch.int32) * (255 - coverage) + layers[:, :3].to(torch.int32) * coverage
    return ((mixed + 127) // 255).to(torch.uint8)


def after_the_lens(picture: UInt8[Tensor, "3 h w"], draw: PhotometricDraw) -> UInt8[Tensor, "3 h w"]:
    """render.photometric.after_the_lens."""
    if draw.saturation != 1:
        picture = saturated(picture, draw.saturation)
    if (kernel := blur_kernel(draw)) is not None:
        picture = blurred(picture, torch.from_numpy(kernel).to(picture.device))
    if draw.downscale < 1:
        picture = downscaled(picture, draw.downscale)
    if draw.noise_levels > 0:
        picture = noisy(picture, draw.noise_levels, draw.noise_seed)
    if draw.jpeg_quality is not None:
        bytes_hwc = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())
        picture = torch.from_numpy(recompressed(bytes_hwc, draw.jpeg_quality)).permute(2, 0, 1).to(picture.device)
    return picture


def saturated(picture: UInt8[Tensor, "3 h w"], saturation: float) -> UInt8[Tensor, "3 h w"]:
    """render.photometric.saturated."""
    weight, levels = saturation_weight(saturation), picture.to(torch.int32)
    grey = (LUMA[0] * levels[0] + LUMA[1] * levels[1] + LUMA[2] * levels[2] + 128) >> 8
    mixed = grey * (SATURATION_STEPS - weight) + levels * weight + SATURATION_STEPS // 2
    return torch.div(mixed, SATURATION_STEPS, rounding_mode="floor").clamp(0, 255).to(torch.uint8)


def blurred(picture: UInt8[Tensor, "3 h w"], kernel: Float32[Tensor, "k k"]) -> UInt8[Tensor, "3 h w"]:
    """render.photometric.blurred."""
    reach = len(kernel) // 2
    padded = F.pad(picture[:, None].float(), (reach,) * 4, mode="replicate")
    return _to_bytes(F.conv2d(padded, kernel[None, None])[:, 0])


def downscaled(picture: UInt8[Tensor, "3 h w"], downscale: float) -> UInt8[Tensor, "3 h w"]:
    """render.photometric.downscaled: the two resizes as products with their matrices."""
    height, width = picture.shape[1:]
    small = small_side(height, downscale), small_side(width, downscale)
    if small == (height, width):
        return picture
    down, across = (_area_matrix(big, few).to(picture.device) for big, few in zip((height, width), small, strict=True))
    up, along = (_linear_matrix(big, few).to(picture.device) for big, few in zip((height, width), small, strict=True))
    few_levels = torch.floor(down @ picture.float() @ across.T + 0.5)
    return _to_bytes(up @ few_levels @ along.T)


def _area_matrix(big: int, small: int) -> Tensor:
    """(small, big): each of the few pixels is the mean of the area that it covers."""
    edges, pixels = np.arange(small + 1)[:, None] * big / small, np.arange(big)
    covered = np.clip(np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels), 0, None)
    return torch.from_numpy((covered / covered.sum(axis=1, keepdims=True)).astype(np.float32))


def _linear_matrix(big: int, small: int) -> Tensor:
    """(big, small): each of the many pixels between the centres of two of the few."""
    place = np.clip((np.arange(big) + 0.5) * small / big - 0.5, 0, small - 1)
    return torch.from_numpy(np.clip(1 - np.abs(place[:, None] - np.arange(small)), 0, None).astype(np.float32))


def noisy(picture: UInt8[Tensor, "3 h w"], stddev_levels: float, seed: int) -> UInt8[Tensor, "3 h w"]:
    """render.photometric.noisy."""
    counters = torch.arange(picture.numel(), device=picture.device)
    start = _hashed(torch.tensor([seed], device=picture.device))
    first, second = _hashed(counters ^ start), _hashed(counters ^ start ^ SECOND_STREAM)
    radius = torch.sqrt(-2 * torch.log(((first >> 8).float() + 1) * 2.0**-24))
    angle = (second >> 8).float() * (2 * np.pi * 2.0**-24)
    grain = (radius * torch.cos(angle)).reshape(picture.shape)
    return _to_bytes(picture.float() + grain * stddev_levels)


def _hashed(bits: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """render.hashed_noise.hashed on 64-bit integers below 2^32; products are cut off before they are too large."""
    bits = bits ^ (bits >> SHIFTS[0])
    bits = _product(bits, MULTIPLIERS[0])
    bits = bits ^ (bits >> SHIFTS[1])
    bits = _product(bits, MULTIPLIERS[1])
    return bits ^ (bits >> SHIFTS[2])


def _product(bits: Tensor, multiplier: int) -> Tensor:
    low, high = bits & 0xFFFF, bits >> 16
    return (low * multiplier + ((high * multiplier & 0xFFFF) << 16)) & _32_BITS


def _to_bytes(values: Float32[Tensor, "*n"]) -> UInt8[Tensor, "*n"]:
    return torch.floor(values + 0.5).clamp(0, 255).to(torch.uint8)


# ------------------------------------------------------------------------------------------------------------- labels


def moved_pixels(
    labels: Shaped[Tensor, "n h w"], ways: Sequence[Similarity2D], *, size_px: int, outside: float | int = 0
) -> Shaped[Tensor, "n {size_px} {size_px}"]:
    """render.warp.warp_labels for a batch of labels."""
    matrices = torch.from_numpy(np.stack([fixed_point(way) for way in ways])).to(labels.device)
    half = (1 << (FRACTION_BITS - 1)) - (1 << (FRACTION_BITS - WEIGHT_BITS - 1))
    steps = torch.arange(size_px, device=labels.device)
    x, y = (
        (matrices[:, k, 0, None, None] * steps + matrices[:, k, 1, None, None] * steps[:, None]
         + matrices[:, k, 2, None, None] + half) >> FRACTION_BITS for k in (0, 1)
    )  # fmt: skip
    height, width = labels.shape[1:]
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    index = torch.where(inside, y * width + x, 0).reshape(len(labels), -1)
    moved = labels.reshape(len(labels), -1).gather(1, index).reshape(inside.shape)
    return torch.where(inside, moved, torch.as_tensor(outside, dtype=labels.dtype, device=labels.device))

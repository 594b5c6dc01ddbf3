"""Occluders put before a face: which draw becomes which layer, and the layer over the picture with its mask."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from render.augmentation_config import SURFACE_OCCLUDERS
from render.augmentation_draws import OccluderDraw
from render.backgrounds import draw_background
from render.occluder_shapes import blob, coverage_of, draw_shape, layer_of
from render.surface_occluders import FaceSurface, carry_by_position_map, paint_atlas

Layer = UInt8[np.ndarray, "_ _ 4"]
Donor = Callable[[float], UInt8[np.ndarray, "_ _ 3"]]
"""A picture to cut a patch from, by its place in [0, 1) of a list: of the data set's, say."""


def occlusion_layer(
    draws: Sequence[OccluderDraw],
    *,
    size_px: int,
    surface: FaceSurface | None = None,
    donor: Donor | None = None,
) -> Layer | None:
    """All occluders of a sample as one layer, later ones over earlier ones; None where there is none.

    `surface` is the face in the picture's pixels, for what sticks to it. Without a `donor`, patches come from drawn
    backgrounds. Raises ValueError for a thing on the surface where the surface is not known.
    """
    if not draws:
        return None
    if len(draws) == 1:
        return _layer(draws[0], size_px, surface, donor)
    colours: np.ndarray = np.zeros((size_px, size_px, 3), dtype=np.float32)  # times coverage
    coverage: np.ndarray = np.zeros((size_px, size_px, 1), dtype=np.float32)
    for draw in draws:
        layer = _layer(draw, size_px, surface, donor)
        share = layer[..., 3:].astype(np.float32) / 255
        colours = layer[..., :3] * share + colours * (1 - share)
        coverage = share + coverage * (1 - share)
    straight = colours / np.maximum(coverage, np.float32(1e-6))
    return np.rint(np.concatenate([straight, 255 * coverage], axis=-1)).astype(np.uint8)


def _layer(draw: OccluderDraw, size_px: int, surface: FaceSurface | None, donor: Donor | None) -> Layer:
    if draw.kind == "patch":
        return _patch(draw, size_px, donor)
    if draw.kind not in SURFACE_OCCLUDERS:
        return draw_shape(draw, size_px)
    if surface is None:
        raise ValueError(
            f"{draw.kind} sticks to the face, and where the face is was not given: the sample needs its position_map, "
            "or an augmentation without things on the surface"
        )
    painted = paint_atlas(draw, surface.landmark_texels, size=len(surface.covered))
    return carry_by_position_map(painted, surface, size_px=size_px)


def _patch(draw: OccluderDraw, size_px: int, donor: Donor | None) -> Layer:
    """A piece of another picture, turned, with a smooth outline."""
    rng = np.random.default_rng(draw.seed)
    if donor is None:
        picture = (draw_background(rng, size_hw=(size_px, size_px)) * np.float32(255)).astype(np.uint8)
    else:
        picture = donor(draw.donor)
    turned = cv2.rotate(picture, int(rng.integers(3))) if rng.random() < 0.75 else picture
    piece = cv2.resize(np.ascontiguousarray(turned), (size_px, size_px), interpolation=cv2.INTER_LINEAR)
    shift = rng.integers(0, size_px, 2)
    piece = np.roll(piece, tuple(shift.tolist()), axis=(0, 1))
    outline = (np.array(draw.place) + blob(rng) * draw.size) * size_px - 0.5
    return layer_of(piece.astype(np.float32), coverage_of([outline], size_px=size_px))


def put_over(picture: UInt8[np.ndarray, "h w 3"], layer: Layer) -> UInt8[np.ndarray, "h w 3"]:
    """The layer over the picture, in whole numbers: ⌊(v·(255 − a) + c·a + 127)/255⌋."""
    mixed = picture.copy(order="K")
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(layer[..., 3]))
    box = (slice(top, top + height), slice(left, left + width))
    coverage = layer[box][..., 3:].astype(np.int32)
    over = picture[box].astype(np.int32) * (255 - coverage) + layer[box][..., :3].astype(np.int32) * coverage
    mixed[box] = (over + 127) // 255
    return mixed


def occlusion_mask(layer: Layer) -> Bool[np.ndarray, "h w"]:
    """The pixels that the layer changes: wherever it covers anything."""
    return layer[..., 3] > 0

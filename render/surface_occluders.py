"""Things on the face's surface: painted once in the atlas, carried to any pose by the labels themselves.

A patch is drawn in texels (RGBA, as :mod:`render.occluder_shapes` has layers), where the landmarks say what lies where.
The position map then tells where each texel is seen, with a z-buffer that knows what hides what; a correspondence field
tells it from the other side, pixel by pixel. So the same texels are hidden in every pose.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt8

from geometry import landmarks as lm
from geometry.frames import texel_from_uv
from render.augmentation_draws import OccluderDraw
from render.occluder_shapes import blob, coverage_of, glasses_layer, layer_of, texture
from render.zbuffer import interpolate, rasterize

Layer = UInt8[np.ndarray, "_ _ 4"]
PaintedTexels = UInt8[np.ndarray, "_ _ 4"]


@dataclass(frozen=True, slots=True)
class FaceSurface:
    """Where the surface is: by position map (`xyz` of crop pixels where `covered`), with its 68 landmarks in texels."""

    xyz: Float32[np.ndarray, "s s 3"]
    covered: Bool[np.ndarray, "s s"]
    landmark_texels: Float[np.ndarray, "68 2"]


def paint_atlas(draw: OccluderDraw, landmark_texels: Float[np.ndarray, "68 2"], *, size: int) -> PaintedTexels:
    """What is stuck on the face, in texels of an atlas of `size` × `size`, whose landmarks lie at (x, y)."""
    rng = np.random.default_rng(draw.seed)
    match draw.kind:
        case "surface_glasses":
            eyes = np.stack([landmark_texels[eye].mean(axis=0) for eye in (lm.RIGHT_EYE, lm.LEFT_EYE)])
            return glasses_layer(rng, size, eyes=eyes, ears=landmark_texels[[0, 16]])
        case "surface_mask":
            return _mask(rng, landmark_texels, size)
        case "surface_patch":
            outline = (np.array(draw.place) + blob(rng) * draw.size) * size - 0.5
            return layer_of(texture(rng, size), coverage_of([outline], size_px=size))
    raise ValueError(f"{draw.kind} is no thing on the surface: it is drawn in the picture")


def _mask(rng: np.random.Generator, points: Float[np.ndarray, "68 2"], size: int) -> PaintedTexels:
    """A cloth over nose, mouth and chin with folds, and bands towards the ears."""
    share = rng.uniform(0, 0.7)
    top = points[28] * (1 - share) + points[30] * share
    chin = points[lm.INNER_LIPS].mean(axis=0)
    jaw = chin + (points[3:14] - chin) * 0.97
    right, left = (
        0.6 * points[list(lids)].mean(axis=0) + 0.4 * points[corner]
        for lids, corner in (((40, 41), 48), ((46, 47), 54))
    )
    outline = np.concatenate([jaw, [left, top, right]])
    bands = [
        np.array([jaw[0], points[0], points[0] + (0, 0.012 * size), jaw[0] + (0, 0.012 * size)]),
        np.array([jaw[-1], points[16], points[16] + (0, 0.012 * size), jaw[-1] + (0, 0.012 * size)]),
    ]
    y = np.mgrid[:size, :size][0].astype(np.float32)[..., None]
    folds = 1 + np.float32(rng.uniform(0, 0.12)) * np.sin(y * np.float32(2 * np.pi * rng.uniform(8, 16) / size))
    cloth = (
        texture(rng, size)
        if rng.random() < 0.3
        else np.float32(rng.uniform(60, 235, 3)) * np.ones((size, size, 3), np.float32)
    )
    return layer_of(cloth.astype(np.float32) * folds, coverage_of([outline, *bands], size_px=size))


def carry_by_position_map(painted: PaintedTexels, surface: FaceSurface, *, size_px: int) -> Layer:
    """The painted texels as the picture of `surface` shows them, self-occlusion considered.

    The map is drawn as a mesh of its own texels by the z-buffer, at twice the picture's resolution, and averaged.
    """
    size, fine = len(surface.covered), 2 * size_px
    vertices = surface.xyz.reshape(-1, 3).astype(np.float64) * 2 + (0.5, 0.5, 0)  # pixel centres of the finer picture
    triangles = texel_triangles(surface.covered)
    buffers = rasterize(vertices, triangles, size_hw=(fine, fine))
    y, x = np.mgrid[:size, :size].astype(np.float32)
    texel = interpolate(buffers, np.stack([x.ravel(), y.ravel()], axis=1), triangles)
    if len(painted) != size:
        texel = (texel + np.float32(0.5)) * np.float32(len(painted) / size) - np.float32(0.5)
    return _averaged(_looked_up(painted, texel, buffers.covered))


def carry_by_field(painted: PaintedTexels, uv: Float32[np.ndarray, "h w 2"], is_face: Bool[np.ndarray, "h w"]) -> Layer:
    """The painted texels at the pixels of a correspondence field in the same atlas."""
    layer = _looked_up(painted, texel_from_uv(uv, len(painted)).astype(np.float32), is_face)
    return _straight(layer)


def texel_triangles(covered: Bool[np.ndarray, "s s"]) -> Int32[np.ndarray, "t 3"]:
    """Two triangles for every four neighbouring covered texels, counter-clockwise as the surface is seen from outside."""
    size = len(covered)
    index = np.arange(size * size, dtype=np.int32).reshape(size, size)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    whole = covered[:-1, :-1] & covered[:-1, 1:] & covered[1:, :-1] & covered[1:, 1:]
    a, b, c, d = (corner[whole] for corner in (a, b, c, d))
    return np.concatenate([np.stack([a, c, b], axis=1), np.stack([b, c, d], axis=1)])


def occluded_texels(
    occluded: Bool[np.ndarray, "h w"], surface_xyz: Float32[np.ndarray, "s s 3"], visible: Bool[np.ndarray, "s s"]
) -> Bool[np.ndarray, "s s"]:
    """Which of the `visible` texels lie at an occluded pixel: to be taken off visibility where occluders count."""
    height, width = occluded.shape
    x, y = np.moveaxis(np.rint(surface_xyz[..., :2]).astype(np.int64), -1, 0)
    inside = visible & (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return inside & occluded[np.where(inside, y, 0), np.where(inside, x, 0)]


def _looked_up(
    painted: PaintedTexels, texel: Float32[np.ndarray, "h w 2"], known: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 4"]:
    """Colour times coverage, and coverage (0 … 1), at places between texels."""
    share = painted[..., 3:].astype(np.float32) / 255
    premultiplied = np.concatenate([painted[..., :3] * share, share], axis=-1)
    looked = cv2.remap(
        premultiplied, np.ascontiguousarray(texel[..., 0]), np.ascontiguousarray(texel[..., 1]), cv2.INTER_LINEAR
    )
    return np.where(known[..., None], looked, np.float32(0))


def _averaged(fine: Float32[np.ndarray, "h w 4"]) -> Layer:
    size = (fine.shape[1] // 2, fine.shape[0] // 2)
    return _straight(cv2.resize(fine, size, interpolation=cv2.INTER_AREA))


def _straight(premultiplied: Float32[np.ndarray, "h w 4"]) -> Layer:
    """RGBA bytes from colour times coverage."""
    share = premultiplied[..., 3:]
    colours = premultiplied[..., :3] / np.maximum(share, np.float32(1e-6))
    return np.clip(np.rint(np.concatenate([colours, 255 * share], axis=-1)), 0, 255).astype(np.uint8)

"""A checkerboard through an atlas onto its mesh: stretch, folds and what is left out show at a glance.

Drawn by our own z-buffer with UV interpolated to every pixel, so that squares are sharp however large triangles are.
For people only.
"""

import cv2
import numpy as np
from jaxtyping import Float, Int32, UInt8

from geometry.atlas_report import coverage_count
from geometry.mesh import Mesh, vertex_normals
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.zbuffer import interpolate, rasterize

Picture = UInt8[np.ndarray, "_ _ 3"]

_FINER = 3
"""Pixels are drawn this many times finer each way and averaged."""

_LEFT_OUT = np.array([150.0, 150.0, 150.0])
_OVERLAP, _FOLDED, _PAPER = (np.array(c, dtype=np.float64) for c in ((240, 150, 30), (215, 30, 30), (255, 255, 255)))


def checker_colors(uv: Float[np.ndarray, "*n 2"], *, squares: int) -> Float[np.ndarray, "*n 3"]:
    """RGB in 0…255: pale squares, and dark ones that turn from blue to red with u and from dark to light with v."""
    u, v = uv[..., 0], uv[..., 1]
    dark = (np.floor(u * squares) + np.floor(v * squares)) % 2 == 0
    tone = np.stack([40 + 170 * u, 50 + 110 * v, 190 - 150 * u], axis=-1)
    return np.where(dark[..., None], tone, 225 + 0.12 * (tone - 128))


def checkerboard_view(
    mesh: Mesh, atlas: UVAtlas, *, yaw: float = 0.0, pitch: float = 0.0, side: int = 384, squares: int = 32
) -> Picture:
    """The mesh turned by `yaw` and `pitch` (radians) with the atlas' checkerboard on it, `side` × `side` pixels.

    Triangles that are not in the atlas are grey, the surface's inside is darkened.
    """
    fine = side * _FINER
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    turned = (np.asarray(mesh.vertices, dtype=np.float64) - (low + high) / 2) @ rotation_from_euler(pitch, yaw, 0.0).T
    scale = 0.47 * fine / max(np.abs(turned[:, :2]).max(), 1e-12)
    pixels = turned * (scale, -scale, scale) + ((fine - 1) / 2, (fine - 1) / 2, 0.0)
    buffers = rasterize(pixels, mesh.triangles, size_hw=(fine, fine), cull=False)
    values = np.concatenate([atlas.uv, vertex_normals(turned, mesh.triangles)], axis=1)
    carried = interpolate(buffers, values, mesh.triangles)
    colors = checker_colors(carried[..., :2], squares=squares)
    colors[~atlas.holds(mesh.triangles)[buffers.triangle_id]] = _LEFT_OUT
    normals = carried[..., 2:] / np.maximum(np.linalg.norm(carried[..., 2:], axis=-1, keepdims=True), 1e-9)
    facing = normals[..., 2]
    light = np.where(facing > 0, 0.35 + 0.65 * np.clip(normals @ (0.25, 0.35, 0.9), 0, 1), 0.3)
    picture = np.where(buffers.covered[..., None], colors * light[..., None], _PAPER)
    return _averaged(picture, side)


def atlas_picture(atlas: UVAtlas, *, side: int = 384, squares: int = 32) -> Picture:
    """The atlas laid flat, v up: its checkerboard where covered once, orange where more often, red under folds."""
    fine = side * _FINER
    hits = coverage_count(atlas, fine)
    folded = coverage_count(UVAtlas(atlas.uv, _turned_over(atlas)), fine)
    middles = (np.arange(fine) + 0.5) / fine
    uv = np.stack(np.meshgrid(middles, middles), axis=-1)
    picture = checker_colors(uv, squares=squares)
    picture[hits == 0] = _PAPER
    picture[hits > 1] = 0.35 * picture[hits > 1] + 0.65 * _OVERLAP
    picture[folded > 0] = 0.35 * picture[folded > 0] + 0.65 * _FOLDED
    return _averaged(picture[::-1], side)


def checkerboard_sheet(mesh: Mesh, atlas: UVAtlas, *, side: int = 384, squares: int = 32) -> Picture:
    """The mesh from the front, from half its left and from its right side, and the atlas laid flat, in a row."""
    views = [checkerboard_view(mesh, atlas, yaw=yaw, side=side, squares=squares) for yaw in (0.0, -0.8, 1.4)]
    return np.hstack([*views, atlas_picture(atlas, side=side, squares=squares)])


def _turned_over(atlas: UVAtlas) -> Int32[np.ndarray, "t 3"]:
    return np.ascontiguousarray(atlas.triangles[atlas.signed_areas < 0])


def _averaged(picture: Float[np.ndarray, "h w 3"], side: int) -> Picture:
    small = cv2.resize(np.ascontiguousarray(picture), (side, side), interpolation=cv2.INTER_AREA)
    return np.rint(np.clip(small, 0, 255)).astype(np.uint8)

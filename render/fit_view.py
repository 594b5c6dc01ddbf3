"""Pictures of a fit for people: the landmarks and how far the model is from them, the mesh over the photograph.

Everything here is u8 RGB (H W 3), drawn by OpenCV and our own z-buffer.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, Int32, UInt8

from geometry.mesh import vertex_normals
from render.preview import in_rows, titled
from render.zbuffer import interpolate, rasterize

Picture = UInt8[np.ndarray, "_ _ 3"]

_GIVEN, _FITTED, _BETWEEN = (255, 40, 40), (80, 220, 80), (255, 220, 0)
_SUBPIXEL_BITS = 4


def draw_residuals(
    picture: Picture,
    given_px: Float[np.ndarray, "p 2"],
    fitted_px: Float[np.ndarray, "p 2"],
    *,
    enlarge: float | int = 2,
) -> Picture:
    """Given points red, the surface points fitted to them green, a yellow line between; NaN points are left out."""
    height, width = picture.shape[:2]
    drawn_wh = (max(round(width * enlarge), 1), max(round(height * enlarge), 1))
    canvas = cv2.resize(picture, drawn_wh, interpolation=cv2.INTER_LINEAR if enlarge >= 1 else cv2.INTER_AREA)
    known = np.isfinite(given_px).all(axis=1) & np.isfinite(fitted_px).all(axis=1)
    pairs = np.stack([given_px[known], fitted_px[known]], axis=1)
    # Pixel x reaches from x − ½ to x + ½, before and after: its centre goes to (x + ½)·factor − ½.
    centres = (pairs + 0.5) * np.divide(drawn_wh, (width, height)) - 0.5
    fixed = np.rint(np.clip(centres, -1e6, 1e6) * 2**_SUBPIXEL_BITS).astype(np.int32)
    radius = round(max(max(drawn_wh) / 300, 1.2) * 2**_SUBPIXEL_BITS)
    for given, fitted in fixed:
        cv2.line(canvas, given.tolist(), fitted.tolist(), _BETWEEN, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    for given, fitted in fixed:
        cv2.circle(canvas, fitted.tolist(), radius, _FITTED, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
        cv2.circle(canvas, given.tolist(), radius, _GIVEN, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas


def shade_mesh(
    picture: Picture,
    vertices_px: Float[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    strength: float = 0.6,
) -> Picture:
    """The mesh, shaded grey, over the picture: a fit that is off shows at once."""
    buffers = rasterize(vertices_px, triangles, size_hw=(picture.shape[0], picture.shape[1]))
    toward_viewer = np.abs(vertex_normals(vertices_px.astype(np.float64), triangles)[:, 2:])
    facing = interpolate(buffers, toward_viewer.astype(np.float32), triangles)
    drawn = (1 - strength) * picture + strength * (40 + 215 * facing)
    return np.where(buffers.covered[..., None], np.rint(drawn), picture).astype(np.uint8)


def fit_panels(
    picture: Picture,
    vertices_px: Float[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    given_px: Float[np.ndarray, "p 2"],
    fitted_px: Float[np.ndarray, "p 2"],
    side: int,
) -> list[Picture]:
    """The picture, the landmarks with their residuals, and the mesh over it, `side` × `side` each."""
    plain, shaded = (
        cv2.resize(p, (side, side), interpolation=cv2.INTER_AREA if side < len(p) else cv2.INTER_LINEAR)
        for p in (picture, shade_mesh(picture, vertices_px, triangles))
    )
    return [plain, draw_residuals(picture, given_px, fitted_px, enlarge=side / len(picture)), shaded]


def sheet(panels: Sequence[Picture], titles: Sequence[str], *, title: str, across: int) -> Picture:
    """Panels of one size with their titles, at most `across` in a row, under a title of their own."""
    tiles = [titled(panel, name) for panel, name in zip(panels, titles, strict=True)]
    return titled(in_rows(tiles, across=across), title)

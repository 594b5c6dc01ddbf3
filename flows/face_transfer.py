"""One face's colours at the same places of another, by two dense predictions."""

from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from render.vertex_colors import vertex_colors
from render.zbuffer import interpolate, rasterize

_FARTHEST_UV = 1 / 50
_Pixels = tuple[np.ndarray, np.ndarray]


def transferred(
    target: UInt8[np.ndarray, "h w 3"], on: Any, source: UInt8[np.ndarray, "a b 3"], of: Any, *, surface: Any
) -> UInt8[np.ndarray, "h w 3"]:
    """`target` with the colours of `source` at the same places of the template.

    With dense points each vertex carries its colour over; with fields each face pixel takes the source's pixel of nearest (u, v),
    if one lies within 1/50 of the template. Raises ValueError for a system that has neither.
    """
    if on.vertices_px is not None:
        colors, seen = vertex_colors(source, of.vertices_px, surface.triangles)
        size_hw = (target.shape[0], target.shape[1])
        buffers = rasterize(on.vertices_px.astype(np.float32), surface.triangles, size_hw=size_hw)
        values = np.column_stack([colors, seen]).astype(np.float32)
        drawn = interpolate(buffers, values, surface.triangles)
        taken = buffers.covered & (drawn[..., 3] > 0.99)
        return np.where(taken[..., None], np.rint(drawn[..., :3]), target).astype(np.uint8)
    if on.field is None or "uv" not in on.field:
        raise ValueError("--transfer needs dense correspondence: a checkpoint of densereg, prnet or mesh_gcn")
    (rows, columns), (source_rows, source_columns) = _same_places(on, of)
    crop = on.crop.copy()
    crop[rows, columns] = of.crop[source_rows, source_columns]
    painted = np.zeros(crop.shape[:2], dtype=np.uint8)
    painted[rows, columns] = 255
    size = (target.shape[1], target.shape[0])
    back = on.crop_from_image.inverse.matrix[:2]
    mask = cv2.warpAffine(painted, back, size, flags=cv2.INTER_LINEAR) > 127
    moved = cv2.warpAffine(crop, back, size, flags=cv2.INTER_LINEAR)
    return np.where(mask[..., None], moved, target).astype(np.uint8)


def corresponding(
    target: UInt8[np.ndarray, "h w 3"], on: Any, source: UInt8[np.ndarray, "a b 3"], of: Any, *, surface: Any
) -> tuple[Float[np.ndarray, "m 2"], Float[np.ndarray, "m 2"]]:
    """Places of `target`, and the places of `source` that show the same of the face, in pixels of the pictures.

    Dense points that are seen in both; or of fields every face pixel of the target with the source's of nearest (u, v).
    """
    if on.vertices_px is not None:
        seen = [
            vertex_colors(picture, found.vertices_px, surface.triangles)[1]
            for picture, found in ((target, on), (source, of))
        ]
        both = np.asarray(seen[0], dtype=bool) & np.asarray(seen[1], dtype=bool)
        return on.vertices_px[both, :2], of.vertices_px[both, :2]
    here, there = _same_places(on, of)
    places = [np.stack([columns, rows], axis=1).astype(np.float64) for rows, columns in (here, there)]
    return on.crop_from_image.inverse.apply(places[0]), of.crop_from_image.inverse.apply(places[1])


def _same_places(on: Any, of: Any) -> tuple[_Pixels, _Pixels]:
    """Rows and columns of pixels in one crop, and of those in the other whose u and v are nearest; far ones are left out."""
    from scipy.spatial import cKDTree

    here, there = (np.isfinite(found.field["uv"]).all(axis=-1) for found in (on, of))
    distances, nearest = cKDTree(of.field["uv"][there]).query(on.field["uv"][here], distance_upper_bound=_FARTHEST_UV)
    known = np.isfinite(distances)
    rows, columns = (axis[known] for axis in np.nonzero(here))
    source_rows, source_columns = (axis[nearest[known]] for axis in np.nonzero(there))
    return (rows, columns), (source_rows, source_columns)

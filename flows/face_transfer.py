"""One face's colours at the same places of another, by two dense predictions."""

from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from render.vertex_colors import vertex_colors
from render.zbuffer import interpolate, rasterize

if TYPE_CHECKING:
    from train.prediction import Prediction, Surface

_FARTHEST_UV = 1 / 50
_Pixels = tuple[np.ndarray, np.ndarray]


def transferred(
    target: UInt8[np.ndarray, "h w 3"],
    target_face: "Prediction",
    source: UInt8[np.ndarray, "a b 3"],
    source_face: "Prediction",
    *,
    surface: "Surface | None",
) -> UInt8[np.ndarray, "h w 3"]:
    """`target` with the colours of `source` at the same places of the template.

    With dense points each vertex carries its colour over; with fields each face pixel takes the source's pixel of nearest (u, v),
    if one lies within 1/50 of the template. Raises ValueError for a system that has neither.
    """
    if surface is not None and target_face.vertices_px is not None and source_face.vertices_px is not None:
        colors, seen = vertex_colors(source, source_face.vertices_px, surface.triangles)
        size_hw = (target.shape[0], target.shape[1])
        buffers = rasterize(target_face.vertices_px.astype(np.float32), surface.triangles, size_hw=size_hw)
        values = np.column_stack([colors, seen]).astype(np.float32)
        drawn = interpolate(buffers, values, surface.triangles)
        taken = buffers.covered & (drawn[..., 3] > 0.99)
        return np.where(taken[..., None], np.rint(drawn[..., :3]), target).astype(np.uint8)
    (rows, columns), (source_rows, source_columns) = _same_places(target_face, source_face)
    crop = target_face.crop.copy()
    crop[rows, columns] = source_face.crop[source_rows, source_columns]
    painted = np.zeros(crop.shape[:2], dtype=np.uint8)
    painted[rows, columns] = 255
    size = (target.shape[1], target.shape[0])
    back = target_face.crop_from_image.inverse.matrix[:2]
    mask = cv2.warpAffine(painted, back, size, flags=cv2.INTER_LINEAR) > 127
    moved = cv2.warpAffine(crop, back, size, flags=cv2.INTER_LINEAR)
    return np.where(mask[..., None], moved, target).astype(np.uint8)


def corresponding(
    target: UInt8[np.ndarray, "h w 3"],
    target_face: "Prediction",
    source: UInt8[np.ndarray, "a b 3"],
    source_face: "Prediction",
    *,
    surface: "Surface | None",
) -> tuple[Float[np.ndarray, "m 2"], Float[np.ndarray, "m 2"]]:
    """Places of `target`, and the places of `source` that show the same of the face, in pixels of the pictures.

    Dense points that are seen in both; or of fields every face pixel of the target with the source's of nearest (u, v).
    """
    if surface is not None and target_face.vertices_px is not None and source_face.vertices_px is not None:
        _, in_target = vertex_colors(target, target_face.vertices_px, surface.triangles)
        _, in_source = vertex_colors(source, source_face.vertices_px, surface.triangles)
        both = np.asarray(in_target, dtype=bool) & np.asarray(in_source, dtype=bool)
        return target_face.vertices_px[both, :2], source_face.vertices_px[both, :2]
    here, there = _same_places(target_face, source_face)
    places = [np.stack([columns, rows], axis=1).astype(np.float64) for rows, columns in (here, there)]
    return target_face.crop_from_image.inverse.apply(places[0]), source_face.crop_from_image.inverse.apply(places[1])


def _same_places(target_face: "Prediction", source_face: "Prediction") -> tuple[_Pixels, _Pixels]:
    """Rows and columns of pixels in one crop, and of those in the other whose u and v are nearest; far ones are left out."""
    from scipy.spatial import cKDTree  # here, because most predictions transfer nothing

    target_uv, source_uv = _uv_of(target_face), _uv_of(source_face)
    here, there = (np.isfinite(uv).all(axis=-1) for uv in (target_uv, source_uv))
    distances, nearest = cKDTree(source_uv[there]).query(target_uv[here], distance_upper_bound=_FARTHEST_UV)
    known = np.isfinite(distances)
    rows, columns = (axis[known] for axis in np.nonzero(here))
    source_rows, source_columns = (axis[nearest[known]] for axis in np.nonzero(there))
    return (rows, columns), (source_rows, source_columns)


def _uv_of(face: "Prediction") -> Float[np.ndarray, "s s 2"]:
    if face.field is None or "uv" not in face.field:
        raise ValueError("--transfer needs dense correspondence: a checkpoint of densereg, prnet or mesh_gcn")
    return face.field["uv"]

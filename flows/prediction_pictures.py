"""What is drawn of a prediction: the overlay, depth, u and v, parts."""

from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from geometry.landmarks import N_LANDMARKS
from render.preview import PART_COLORS, color_values, draw_landmarks
from render.zbuffer import rasterize

if TYPE_CHECKING:
    from train.prediction import Prediction, Predictor

_CROP_OF_FACE = 1.5
"""How much larger than the landmarks' box the crops are that dots are drawn for."""


def pictures_of(
    image: UInt8[np.ndarray, "h w 3"],
    prediction: "Prediction",
    vertices: Float[np.ndarray, "v 3"] | None,
    triangles: Int[np.ndarray, "t 3"] | None,
    predictor: "Predictor",
) -> dict[str, UInt8[np.ndarray, "_ _ 3"]]:
    """Pictures by the end of their files' names: the overlay, depth, u and v, parts."""
    pictures = {"": draw_points(image, prediction.landmarks_px)}
    if vertices is not None and triangles is not None:
        pictures["_depth"] = depth_picture(vertices, triangles, size_hw=(image.shape[0], image.shape[1]))
    found = prediction.field
    if found is None:
        return pictures
    if "uv" in found:
        face = np.isfinite(found["uv"]).all(axis=-1)[..., None]
        both = [
            np.where(face, color_values(np.nan_to_num(found["uv"][..., axis])), prediction.crop) for axis in range(2)
        ]
        pictures["_uv"] = np.hstack(both).astype(np.uint8)
        parts = predictor.part_of_field(found["uv"])
    else:
        parts = found["part"]
    if parts is not None:
        colors = PART_COLORS[np.minimum(parts, len(PART_COLORS) - 1)]
        mixed = np.rint(0.4 * prediction.crop + 0.6 * colors)
        pictures["_parts"] = np.where((parts > 0)[..., None], mixed, prediction.crop).astype(np.uint8)
    if "depth" in found:
        face = np.isfinite(found["uv"]).all(axis=-1) if "uv" in found else np.ones(found["depth"].shape, dtype=bool)
        pictures["_depth"] = np.where(face[..., None], color_values(np.clip(found["depth"], 0, 1)), 0).astype(np.uint8)
    return pictures


def draw_points(
    image: UInt8[np.ndarray, "h w 3"], landmarks_px: Float[np.ndarray, "p d"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The landmarks on the picture, the 68 with their lines; dots as large as the face has room for."""
    points_px = np.clip(landmarks_px, -1e5, 1e5)
    known = points_px[np.isfinite(points_px).all(axis=1), :2]
    face_px = float(np.ptp(known, axis=0).max()) if len(known) else 0.0
    crop_px = min(_CROP_OF_FACE * face_px, float(max(image.shape[:2])))
    if len(landmarks_px) == N_LANDMARKS:
        return draw_landmarks(image, points_px, enlarge=1, crop_px=crop_px)
    canvas = np.ascontiguousarray(image).copy()
    for x, y in np.rint(known).astype(int).tolist():
        cv2.circle(canvas, (x, y), max(round(crop_px / 200), 1), (255, 40, 40), -1, cv2.LINE_AA)
    return canvas


def depth_picture(
    vertices_px: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"], *, size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """Depth of the visible surface, near is bright; black where there is none."""
    buffers = rasterize(vertices_px.astype(np.float32), triangles, size_hw=size_hw, cull=False)
    covered = buffers.covered
    if not covered.any():
        return np.zeros((*size_hw, 3), dtype=np.uint8)
    near, far = float(buffers.depth[covered].max()), float(buffers.depth[covered].min())
    level = (np.where(covered, buffers.depth, far) - far) / max(near - far, 1e-9)
    return np.where(covered[..., None], color_values(level), 0).astype(np.uint8)

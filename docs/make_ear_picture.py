"""Draws the picture of ears.md from the built-in model alone.

python docs/make_ear_picture.py
"""

from pathlib import Path

import cv2
import numpy as np

from geometry.built_in import load_built_in
from geometry.camera import ScaledOrthographicCamera
from geometry.ear import load_ear_template
from geometry.frames import texel_from_uv
from geometry.rotation import rotation_from_euler
from render.atlas_raster import AtlasRaster
from render.ear_field import flat_ear
from render.ear_view import chequered, colored_parts, draw_curves
from render.portrait import PaintedMesh, draw_portrait
from render.preview import color_values, encode_png, titled
from render.shading import ColorTransform, PhongLight
from storage.ear_sample import DrawnEar, draw_ear

SIDE = 220
SHOWN = ((7, 4), (7, 3))  # seed and number of drawn ears, a right one and a left one


def main() -> None:
    rows = [np.hstack(template_row()), *(np.hstack(ear_row(draw_ear(*which))) for which in SHOWN)]
    path = Path(__file__).parent / "pictures" / "ears.png"
    path.write_bytes(encode_png(np.vstack(rows)))


def template_row() -> list[np.ndarray]:
    """The mean ear from the side, laid flat, and its parts."""
    template, model = load_ear_template(), load_built_in()
    grey = PaintedMesh.of(model.mean_shape, model.triangles, np.full((model.n_vertices, 3), 190, np.float32))
    light = PhongLight(np.full(3, 0.25), np.full(3, 0.85), 0.7, -0.7, specular=10)
    plain = ColorTransform(np.ones(3), np.zeros(3), 1.0)
    scale = SIDE / 60
    rotation = rotation_from_euler(0.0, -np.pi / 2, 0.0)
    landmarks = np.einsum(
        "pk,pkc->pc", template.landmarks.weights, model.mean_shape[template.landmarks.corners].astype(np.float64)
    )
    at_origin = ScaledOrthographicCamera(scale, rotation, np.zeros(3)).project(landmarks)
    middle = (at_origin.min(axis=0) + at_origin.max(axis=0))[:2] / 2
    camera = ScaledOrthographicCamera(scale, rotation, np.array([*(SIDE / 2 - middle), 0.0]))
    seen = draw_portrait(grey, camera=camera, light=light, color=plain, background=np.ones((SIDE, SIDE, 3), np.float32))
    seen = np.rint(seen * 255).astype(np.uint8)
    raster = AtlasRaster(template.atlas, SIDE)
    normals = raster.apply(grey.normals[template.vertices]) @ rotation.T.astype(np.float32)
    lit = np.clip(normals @ light.direction.astype(np.float32), 0, 1) * 0.75 + 0.25
    flat = np.rint(255 * np.where(raster.covered, lit, 1))[..., None].repeat(3, axis=-1).astype(np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / (SIDE - 1)
    places = chequered(np.stack([x, 1 - y], axis=-1), raster.covered)
    part_map = cv2.resize(flat_ear().part_map, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    parts = np.where(raster.covered[..., None], colored_parts(part_map), 0).astype(np.uint8)
    return [
        titled(draw_curves(seen, camera.project(landmarks)[:, :2]), "template, from the side"),
        titled(draw_curves(flat, texel_from_uv(template.landmarks_uv, SIDE)), "laid flat"),
        titled(places, "u (red) and v (green)"),
        titled(parts, "parts"),
    ]


def ear_row(ear: DrawnEar) -> list[np.ndarray]:
    """A drawn ear with its landmarks, its fields, and how far they are from each other."""
    truth = ear.true_field()
    found = flat_ear().field(ear.landmarks_px, size_hw=ear.picture.shape[:2]).field
    both = truth.is_face & found.is_face
    off = np.where(both, np.linalg.norm(truth.uv - found.uv, axis=-1), 0)
    panels = {
        f"a drawn {ear.side} ear": draw_curves(ear.picture, ear.landmarks_px),
        "field from the landmarks": chequered(found.uv, found.is_face),
        "the truth (z-buffer)": chequered(truth.uv, truth.is_face),
        "distance: 0 to 0.1": color_values(off / 0.1) * both[..., None].astype(np.uint8),
    }
    low, high = ear.landmarks_px.min(axis=0), ear.landmarks_px.max(axis=0)
    half = round(0.65 * (high - low).max())
    x, y = ((low + high) / 2).round().astype(int)
    cut = np.s_[max(y - half, 0) : y + half, max(x - half, 0) : x + half]
    return [
        titled(cv2.resize(panel[cut], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), name)
        for name, panel in panels.items()
    ]


if __name__ == "__main__":
    main()

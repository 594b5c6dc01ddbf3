"""Draws the picture of dense-fields.md from the built-in model alone.

python docs/make_field_picture.py
"""

from pathlib import Path

import cv2
import numpy as np

from geometry import load_model, optimal_cylindrical
from geometry.albedo import load_albedo_sampler
from geometry.built_in import load_built_in
from geometry.camera import ScaledOrthographicCamera
from geometry.display_colour import GAMMA, LEVELS
from geometry.mesh import Mesh
from geometry.morphable_model import Coefficients
from geometry.rotation import rotation_from_euler
from render.atlas_raster import AtlasRaster
from render.correspondence import (
    FieldTemplate,
    box_mask,
    correspondence_field,
    with_eyes_closed,
    without_openings,
)
from render.face_buffers import draw_faces
from render.field_landmarks import landmarks_of_field
from render.heatmaps import distance_heatmap, gaussian_heatmaps, part_discs
from render.paper_crops import canonical_shape, dan_crop, grey_crop
from render.parts import densereg_parts, part_map
from render.portrait import PaintedMesh, draw_portrait
from render.preview import draw_landmarks, titled
from render.shading import ColorTransform, PhongLight
from render.surface_maps import normal_map, normalized_coordinates, pncc_map
from render.texture_map import texture_map
from render.visibility import visible_texels

SIZE_HW = (300, 400)
PART_COLORS = np.array(
    [(0, 0, 0), (60, 160, 250), (60, 220, 250), (160, 90, 40), (220, 150, 60), (230, 70, 110), (160, 30, 90),
     (120, 210, 90), (150, 150, 150)], dtype=np.uint8,
)  # fmt: skip


def main() -> None:
    model, painted = load_model("built-in"), load_built_in("all")
    shape = model.mean_shape.astype(np.float64)
    atlas = optimal_cylindrical(Mesh(shape, model.triangles), closing_triangles=model.closing_triangles)
    template = FieldTemplate.of(model, atlas, part_map(densereg_parts(model), atlas, 1024))
    people = invent(painted)
    faces = [camera.project(model.vertices(coefficients)) for coefficients, camera, _ in people]
    photograph = draw_people(painted, people)
    drawn = draw_faces(faces, template.triangles, size_hw=SIZE_HW, scales=[camera.scale for _, camera, _ in people])
    ignored = box_mask(np.array([[318.0, 8.0, 388.0, 92.0]]), size_hw=SIZE_HW)
    field = correspondence_field(drawn, template, ignored=ignored)
    drawn = without_openings(drawn, template)

    near = faces[0]
    raster = AtlasRaster(atlas, 300)
    visible = visible_texels(raster, near, with_eyes_closed(model), size_hw=SIZE_HW)
    texture = texture_map(photograph, raster.apply(near), visible)
    landmarks = near[model.landmark_vertices, :2].astype(np.float64)
    found = landmarks_of_field(field.uv, field.face_index == 0, atlas.uv[model.landmark_vertices])[0]
    classes, _ = field.quantized(10)
    labels = np.select([field.label == 255, field.face_index == 0, field.face_index == 1], [150, 255, 90], 20)
    tiles = {
        "photograph, landmarks of the field": draw_landmarks(photograph, found.points_px, enlarge=1.0),
        "u": grey(field.uv[..., 0]),
        "v": grey(field.uv[..., 1]),
        "bins of u and v, K = 10": bins(classes),
        "parts": PART_COLORS[field.part],
        "whose face; a box to be ignored": grey(labels / 255),
        "depth": grey(field.depth),
        "normals": np.where(
            field.is_face[..., None], 127.5 + 127.5 * normal_map(drawn, faces, with_eyes_closed(model)), 0
        ),
        "PNCC": 255 * pncc_map(drawn, normalized_coordinates(model.mean_shape), template.triangles),
    }
    canonical = canonical_shape(shape[model.landmark_vertices, :2] * (1, -1))
    crop = dan_crop(landmarks, canonical)
    moved = crop.apply(landmarks)
    small = {
        "texture map": texture.colors,
        "DAN: crop": grey_crop(photograph, crop),
        "DAN: heatmap": 255 * distance_heatmap(moved, size_hw=(112, 112)),
        "the released code's": 255 * distance_heatmap(moved, size_hw=(112, 112), compat="dan"),
        "3DFAW: discs": 255 * part_discs(moved[30:48:4], size_hw=(112, 112), radius_px=3.0).max(axis=0),
        "3DFAW: Gaussians": 255 * gaussian_heatmaps(moved[30:48:4], size_hw=(112, 112), sigma_px=3.0).max(axis=0),
    }
    rows = [list(tiles.items())[i : i + 3] for i in (0, 3, 6)]
    sheet = [np.hstack([titled(np.ascontiguousarray(rgb(p)), title) for title, p in row]) for row in rows]
    last = [titled(cv2.resize(rgb(p), (200, 200), interpolation=cv2.INTER_AREA), title) for title, p in small.items()]
    sheet.append(np.hstack(last))
    path = Path(__file__).parent / "pictures" / "dense-fields.jpg"
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(sheet), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])


def invent(painted):
    """Two people, the nearer one first: coefficients, camera, colours."""
    people = []
    poses = ((1.15, (0.1, 0.35, 0.05), (140.0, 165.0, 0.0)), (0.85, (0.0, -0.7, -0.1), (275.0, 190.0, 400.0)))
    for seed, (scale, angles, place) in zip((3, 8), poses, strict=True):
        rng = np.random.default_rng(seed)
        coefficients = Coefficients(painted.draw_identity(rng, spread=0.7), painted.draw_expression(rng))
        colors = load_albedo_sampler(painted).sample(rng).albedo ** np.float32(1 / GAMMA) * np.float32(LEVELS)
        camera = ScaledOrthographicCamera(scale, rotation_from_euler(*angles), np.array(place))
        people.append((coefficients, camera, colors.astype(np.float32)))
    return people


def draw_people(painted, people):
    """The photograph, the farther person first."""
    light = PhongLight(np.full(3, 0.55), np.full(3, 0.5), elevation=0.5, azimuth=-0.5, specular=8.0)
    color = ColorTransform(np.ones(3), np.zeros(3), 1.0)
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] / SIZE_HW[1]
    picture = np.stack([0.35 + 0.3 * x, 0.45 + 0.1 * y, 0.6 - 0.2 * x], axis=-1).astype(np.float32)
    for coefficients, camera, colors in reversed(people):
        mesh = PaintedMesh.of(painted.vertices(coefficients), painted.triangles, colors)
        picture = draw_portrait(mesh, camera=camera, light=light, color=color, background=picture)
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def grey(values):
    return np.repeat((255 * values[..., None]).clip(0, 255).astype(np.uint8), 3, axis=-1)


def bins(classes):
    """Every bin of u its own hue, every bin of v its own brightness."""
    hue, value = 17 * (classes[..., 0] % 10), 90 + 16 * classes[..., 1]
    saturation = np.where(classes[..., 0] > 0, 200, 0)
    values = np.where(classes[..., 0] > 0, value, 0)
    picture = np.stack([hue, saturation, values], axis=-1).clip(0, 255).astype(np.uint8)
    picture[classes[..., 0] == 255] = (0, 0, 150)
    return cv2.cvtColor(picture, cv2.COLOR_HSV2RGB)


def rgb(picture):
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)


if __name__ == "__main__":
    main()

"""Measures the table of docs/dense-fields.md: how exact fields are, by atlas, on 24 drawn people.

python tests/benchmarks/field_accuracy.py
"""

import numpy as np

from geometry import cylindrical, load_model, optimal_cylindrical
from geometry.camera import ScaledOrthographicCamera
from geometry.frames import texel_from_uv
from geometry.mesh import Mesh
from geometry.morphable_model import REGION_NAMES, Coefficients
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, TexelSampler
from render.correspondence import FieldTemplate, correspondence_field, draw_field, with_eyes_closed
from render.face_buffers import draw_faces
from render.field_landmarks import landmarks_of_field
from render.parts import densereg_parts, part_map
from render.surface_maps import label_map
from render.visibility import visible_vertices
from render.zbuffer import interpolate

N_PEOPLE, SIZE = 24, 256


def main() -> None:
    model = load_model("built-in")
    shape, closing = model.mean_shape.astype(np.float64), model.closing_triangles
    atlases = {
        "cylinder": cylindrical(Mesh(shape, with_eyes_closed(model))),
        "cylinder, unfolded": optimal_cylindrical(Mesh(shape, model.triangles), closing_triangles=closing),
        "the model's own": UVAtlas(model.uv.astype(np.float64), np.concatenate([model.triangles, closing])),
    }
    parts = densereg_parts(model)
    skull = np.isin(model.regions, [REGION_NAMES.index(name) for name in ("neck", "ears", "forehead")])
    inner_face = np.where(skull, 0, 1).astype(np.uint8)
    for name, atlas in atlases.items():
        raster, template = AtlasRaster(atlas, SIZE), FieldTemplate.of(model, atlas, part_map(parts, atlas, 1024))
        off, heads, faces, pixels, points = [], [], [], [], []
        rng = np.random.default_rng(11)
        for person in range(N_PEOPLE):
            vertices = model.vertices(Coefficients(model.draw_identity(rng), model.draw_expression(rng)))
            yaw, pitch, roll = rng.uniform(-1.4, 1.4), *rng.normal(0, 0.2, 2)
            camera = ScaledOrthographicCamera(1.2, rotation_from_euler(pitch, yaw, roll), np.array([128.0, 140, 0]))
            head = camera.project(vertices)
            drawn = draw_faces([head], template.triangles, size_hw=(SIZE, SIZE))
            field = correspondence_field(drawn, template)
            off.append(texels_off(atlas, raster, template, drawn, field, head))
            agree = field.part == label_map(drawn, parts, template.triangles)
            heads.append(agree[field.is_face].mean())
            faces.append(agree[field.is_face & (label_map(drawn, inner_face, template.triangles) == 1)].mean())

            scale = (1.0, 1.5, 3.0)[person % 3]
            side = int(230 * scale)
            frontal = rotation_from_euler(*rng.normal(0, 0.1, 3))
            camera = ScaledOrthographicCamera(scale, frontal, np.array([side / 2, 0.6 * side, 0.0]))
            head = camera.project(vertices)
            field = draw_field(template, [head], size_hw=(side, side))
            found = landmarks_of_field(field.uv, field.is_face, atlas.uv[model.landmark_vertices])[0]
            seen = visible_vertices(head, template.triangles, size_hw=(side, side))[model.landmark_vertices]
            truth = head[model.landmark_vertices, :2]
            pixels.append(np.linalg.norm(found.pixels - truth, axis=1)[seen])
            points.append(np.linalg.norm(found.points_px - truth, axis=1)[seen])
        off, pixels, points = (np.concatenate(values) for values in (off, pixels, points))
        print(
            f"{name}: texels median {np.median(off):.3f}, 99 % {np.percentile(off, 99):.2f}; parts at worst "
            f"{100 * min(heads):.2f} % (head), {100 * min(faces):.2f} % (inner face); {len(points)} landmarks: nearest "
            f"pixel {pixels.mean():.2f} px, worst {pixels.max():.1f}; between pixels {points.mean():.2f} px, "
            f"99 % {np.percentile(points, 99):.2f}, worst {points.max():.1f}"
        )


def texels_off(atlas, raster, template, drawn, field, head) -> np.ndarray:
    """How far from the surface point drawn the atlas leads, in texels."""
    face = field.is_face
    back = TexelSampler.at(raster, field.uv[face].astype(np.float64)).read(raster.apply(head))
    truth = interpolate(drawn.buffers, head, template.triangles)[face]
    corners = template.triangles[drawn.buffers.triangle_id[face]]
    in_picture, in_atlas = head[corners].astype(np.float64), texel_from_uv(atlas.uv, raster.size)[corners]
    in_atlas = np.concatenate([in_atlas, np.zeros((*in_atlas.shape[:2], 1))], axis=-1)
    areas = [np.linalg.norm(np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]), axis=1) for t in (in_picture, in_atlas)]
    return np.linalg.norm(back - truth, axis=1) / np.sqrt(areas[0] / np.maximum(areas[1], 1e-9))


if __name__ == "__main__":
    main()

"""How far stored fields are from what their own parameters draw: for tests and benchmarks."""

import numpy as np

from geometry import load_model
from geometry.frames import texel_from_uv
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, TexelSampler
from render.face_buffers import draw_faces
from render.parts import densereg_parts
from render.surface_maps import carry, label_map
from storage.dataset import ShardedDataset
from storage.field_crops import field_of_sample

ATLAS_SIZE = 256


def drawn_again(sample: dict, dataset: ShardedDataset, faces: list[np.ndarray]):
    """The z-buffer of the faces, as the builder had it."""
    size_hw = tuple(int(n) for n in sample.get("size_hw", sample["label"].shape))
    affines = sample["picture_from_model"] if "picture_from_model" in sample else sample["crop_from_model"][None]
    scales = np.linalg.norm(affines[: len(faces), 0, :3], axis=-1)
    return draw_faces(faces, dataset.table("field_triangles"), size_hw=size_hw, scales=list(scales))


def texels_off(sample: dict, dataset: ShardedDataset, faces: list[np.ndarray]) -> np.ndarray:
    """From a face's pixel through (u, v) and the atlas back to the surface: the distance from what was drawn, texels."""
    triangles, uv = dataset.table("field_triangles"), dataset.table("field_uv").astype(np.float64)
    raster = AtlasRaster(UVAtlas(uv, triangles[dataset.table("field_role") == 0]), ATLAS_SIZE)
    drawn, field = drawn_again(sample, dataset, faces), field_of_sample(sample)
    surface = carry(drawn, faces, triangles)
    off = []
    for index, face in enumerate(faces):
        mine = field.is_face & (field.face_index == index)
        back = TexelSampler.at(raster, field.uv[mine].astype(np.float64)).read(raster.apply(face))
        corners = triangles[drawn.buffers.triangle_id[mine]]
        in_picture, in_atlas = face[corners].astype(np.float64), texel_from_uv(uv, ATLAS_SIZE)[corners]
        in_atlas = np.concatenate([in_atlas, np.zeros((*in_atlas.shape[:2], 1))], axis=-1)
        areas = [np.linalg.norm(np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]), axis=1) for t in (in_picture, in_atlas)]
        off.append(np.linalg.norm(back - surface[mine], axis=1) / np.sqrt(areas[0] / np.maximum(areas[1], 1e-9)))
    return np.concatenate(off)


def parts_agreement(sample: dict, dataset: ShardedDataset, faces: list[np.ndarray]) -> float:
    """The share of the face's pixels whose stored part is the one drawn directly."""
    field = field_of_sample(sample)
    direct = label_map(
        drawn_again(sample, dataset, faces), densereg_parts(load_model("built-in")), dataset.table("field_triangles")
    )
    return float((field.part == direct)[field.is_face].mean())

"""What each augmentation costs, beside decoding the picture: one core, a crop of 256².

    python tests/benchmarks/augmentation_speed.py [--repeats 200] [--torch]

Rows are the best of seven rounds, in milliseconds and in decodings of a photograph's crop (scikit-image's astronaut) as a
JPEG file of quality 95. Pictures and labels that are augmented are a drawn person's.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from dataclasses import replace

import cv2
import numpy as np
import skimage.data

from geometry.built_in import load_built_in
from geometry.frames import texel_from_uv
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster
from render.augmentation import augment_picture, augment_sample
from render.augmentation_draws import AugmentationDraw, GeometricDraw, OccluderDraw, PhotometricDraw, draw_augmentation
from render.augmentation_presets import PRESETS, as_mixture
from render.crop import CropConfig, crop_from_landmarks, warp_image
from render.mirrored_atlas import MirroredAtlas
from render.moved_labels import Move, moved_labels
from render.position_map import crop_from_model, with_depth_offset
from render.surface_occluders import FaceSurface
from storage.synthetic import draw_background, draw_face, draw_picture, draw_shot, plan_families
from storage.zarr_format import ChunkFormat

SIZE = 256
GEOMETRY = GeometricDraw(angle=0.4, scale=1.1, shift=(0.05, -0.03), flip=True)
COLOUR = PhotometricDraw(channel_scale=(0.7, 1.2, 0.9), contrast=1.1, brightness=0.05, gamma=1.2)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=100)
    arguments.add_argument("--torch", action="store_true", help="the twin on batches of 16 too")
    options = arguments.parse_args()
    cv2.setNumThreads(1)
    sample, atlas, landmark_texels = example()
    picture = sample["image"]
    surface = FaceSurface(sample["position_map"], atlas.covered, landmark_texels)

    def augmented(geometric=GeometricDraw(), photometric=PhotometricDraw(), occluders=()):  # noqa: B008
        draw = AugmentationDraw(0, geometric, photometric, occluders)
        return lambda: augment_picture(picture, draw, size_px=SIZE, surface=surface)

    def occluded(kind):
        return augmented(occluders=(OccluderDraw(kind, (0.5, 0.5), 0.35, 0.3, 0.5, 2),))

    astronaut = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352, ::-1])  # her face fills it
    jpeg = cv2.imencode(".jpg", astronaut, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    source = cv2.imencode(".jpg", cv2.resize(astronaut, (450, 450)), [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    lossless = ChunkFormat("uint8", (3, SIZE, SIZE), "lz4_bitshuffle")
    stored = b"".join(lossless.encode(np.ascontiguousarray(np.moveaxis(astronaut, -1, 0))))
    room = np.empty((3, SIZE, SIZE), np.uint8)
    geometry = {name: value for name, value in sample.items() if name != "image"}
    straight = replace(GEOMETRY, flip=False)
    rows = {
        "decode the crop, JPEG quality 95": lambda: cv2.imdecode(jpeg, cv2.IMREAD_COLOR),
        "decode a source of 450², JPEG quality 92": lambda: cv2.imdecode(source, cv2.IMREAD_COLOR),
        "decode the crop, lossless as stored": lambda: lossless.decode_into(stored, room),
        "**geometry and colour together**": augmented(GEOMETRY, COLOUR),
        "geometry": augmented(GEOMETRY),
        "geometry, half as large": augmented(GeometricDraw(scale=0.5)),
        "saturation or grey": augmented(photometric=PhotometricDraw(saturation=0.5)),
        "Gaussian blur, σ 1.5 px": augmented(photometric=PhotometricDraw(blur_px=1.5)),
        "motion blur, 9 px": augmented(photometric=PhotometricDraw(motion_px=9.0, motion_angle=0.5)),
        "down-scaling to a half": augmented(photometric=PhotometricDraw(downscale=0.5)),
        "noise": augmented(photometric=PhotometricDraw(noise_levels=8.0, noise_seed=5)),
        "JPEG, quality 60": augmented(photometric=PhotometricDraw(jpeg_quality=60)),
        **{f"occluder: {kind}": occluded(kind) for kind in ("noise", "shape", "hand", "glasses", "patch")},
        **{f"on the face: {kind.removeprefix('surface_')}": occluded(kind) for kind in (
            "surface_glasses", "surface_mask", "surface_patch")},
        "labels moved (map 256², landmarks, affine maps)": lambda: moved_labels(
            geometry, Move(straight.augmented_from_crop(SIZE), SIZE, atlas)),
        "labels moved and mirrored": lambda: moved_labels(geometry, Move(GEOMETRY.augmented_from_crop(SIZE), SIZE, atlas)),
    }  # fmt: skip
    for name in PRESETS:
        draws = [draw_augmentation(as_mixture(name), seed=1, source_id="a", copy_index=copy) for copy in range(1, 25)]
        rows[f"preset {name}, picture and labels (mean of 24 draws)"] = [
            (lambda draw=draw: augment_sample(sample, draw, atlas=atlas, landmark_texels=landmark_texels))
            for draw in draws
        ]
    if options.torch:
        rows |= torch_rows(picture)
    decoding = best_ms(rows["decode the crop, JPEG quality 95"], options.repeats)
    print("| operation | ms | decodings |\n|---|---|---|")
    for name, work in rows.items():
        if isinstance(work, list):
            ms = float(np.mean([best_ms(one, max(2, options.repeats // 50)) for one in work]))
        else:
            ms = best_ms(work, options.repeats)
        print(f"| {name} | {ms:.2f} | {ms / decoding:.1f} |", flush=True)


def torch_rows(picture):
    import torch

    from train.augmentation import DrawnBatch, augment_pictures

    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = torch.from_numpy(np.repeat(np.moveaxis(picture, -1, 0)[None], 16, axis=0).copy()).to(device)
    drawn = DrawnBatch.of([AugmentationDraw(0, GEOMETRY, COLOUR)] * 16, size_px=SIZE).to(torch.device(device))

    def work():
        augment_pictures(batch, drawn)
        if device == "cuda":
            torch.cuda.synchronize()

    return {f"geometry and colour in torch on {device}, a batch of 16": work}


def best_ms(work, repeats: int) -> float:
    work()
    rounds = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(max(1, repeats // 7)):
            work()
        rounds.append((time.perf_counter() - start) / max(1, repeats // 7))
    return 1000 * min(rounds)


def example():
    """A drawn person in a crop with its labels, the model's own atlas mirrored, and the landmarks' texels."""
    model = load_built_in()
    atlas = UVAtlas(model.uv.astype(np.float64), np.concatenate([model.triangles, model.closing_triangles]))
    raster = AtlasRaster(atlas, SIZE)
    family = plan_families(seed=0, n_identities=2, n_expressions=1, n_views=3)[1]
    face = draw_face(family)
    shot = draw_shot(family, 0, face)
    background = draw_background(family.rng(2, 1), size_hw=(450, 450))
    photograph = draw_picture(family, 0, face, shot, background)
    landmarks = shot.camera.project(model.rows(model.landmarks).positions(face.coefficients))
    crop = crop_from_landmarks(landmarks, CropConfig(size_px=SIZE))
    vertices = model.vertices(face.coefficients)
    affine, offset = with_depth_offset(crop_from_model(shot.camera, crop), vertices)
    planar = np.ascontiguousarray(np.moveaxis(warp_image(photograph, crop, size_px=SIZE), -1, 0))
    sample = {
        "image": np.moveaxis(planar, 0, -1),  # as a data set's reader has it
        "position_map": raster.apply(vertices, affine),
        "landmarks_px": crop.apply(landmarks).astype(np.float32),
        "crop_from_model": affine,
        "crop_from_image": crop.matrix,
        "z_offset_px": np.float64(offset),
        "mirrored": np.bool_(False),
    }
    texels = texel_from_uv(model.uv[model.landmark_vertices].astype(np.float64), SIZE)
    return sample, MirroredAtlas.of(atlas, raster, model.mirror), texels


if __name__ == "__main__":
    main()

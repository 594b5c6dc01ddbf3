"""Measures docs/dense-fields.md's figures of whole photographs: exactness as read from the store, crops, bytes, time.

python tests/benchmarks/densereg_fields.py
"""

import importlib.util
import tempfile
import time
from pathlib import Path

import numpy as np

from flows import build, presets
from flows.targets.scene import template_of_tables
from geometry import load_model
from geometry.camera import apply_affine
from geometry.frames import Similarity2D
from geometry.morphable_model import Coefficients
from render.correspondence import draw_field
from render.paper_crops import DENSEREG_SCALES
from render.windows import Window
from storage.dataset import ShardedDataset, open_dataset
from storage.field_crops import crop_of_sample, draw_crop
from storage.synthetic_groups import write_group_folder
from storage.zarr_format import ChunkFormat

proofs = Path(__file__).parents[1] / "flows" / "field_proofs.py"
spec = importlib.util.spec_from_file_location("field_proofs", proofs)
field_proofs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(field_proofs)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "groups"
        write_group_folder(source)
        with build.opened_build(presets.densereg_fields(), source=source, model="built-in", out=folder) as opened:
            build.build_shard(opened.job, 0)  # compiles
            (Path(opened.job.folder) / "receipts/00000.json").unlink()
            start = time.perf_counter()
            build.build_shard(opened.job, 0)
            seconds = time.perf_counter() - start
            dataset = open_dataset(build.publish_build(opened).path)
        samples = [dataset[index] for index in range(len(dataset))]
        n_faces = sum(sample["n_faces"] for sample in samples)
        print(f"{len(samples)} photographs, {n_faces} faces: {1000 * seconds / len(samples):.0f} ms a photograph")
        faces = [faces_px(sample) for sample in samples]
        off = np.concatenate([field_proofs.texels_off(s, dataset, f) for s, f in zip(samples, faces, strict=True)])
        parts = [field_proofs.parts_agreement(s, dataset, f) for s, f in zip(samples, faces, strict=True)]
        print(
            f"{len(off)} pixels read back: median {np.median(off):.4f} texels, 99 % {np.percentile(off, 99):.3f}; "
            f"parts at worst {100 * min(parts):.2f} %"
        )
        padding(dataset, samples)
        crops(dataset, samples, faces)
        start = time.perf_counter()
        for index, sample in enumerate(samples):
            draw_crop(sample, rng=np.random.default_rng(index))
        print(f"a crop of 321: {1000 * (time.perf_counter() - start) / len(samples):.1f} ms")


def faces_px(sample: dict) -> list[np.ndarray]:
    n = sample["n_faces"]
    vertices = load_model("built-in").vertices(Coefficients(sample["identity"][:n], sample["expression"][:n]))
    return [
        apply_affine(affine, points) for affine, points in zip(sample["picture_from_model"], vertices, strict=False)
    ]


def padding(dataset: ShardedDataset, samples: list[dict]) -> None:
    """Bytes of each array with its padding, and without."""
    for name in ("image", "uv", "depth", "label", "part", "face_index"):
        target = dataset.schema[name]
        whole = cut = 0
        for sample in samples:
            height, width = (int(n) for n in sample["size_hw"])
            for values, is_cut in ((sample[name], False), (sample[name][:height, :width], True)):
                stored = np.ascontiguousarray(np.moveaxis(values, -1, 0) if target.channels_first else values)
                stored = target.code.encode(stored)
                chunk = ChunkFormat(str(stored.dtype), stored.shape, target.compression)
                n_bytes = sum(map(len, chunk.encode(stored)))
                cut, whole = (cut + n_bytes, whole) if is_cut else (cut, whole + n_bytes)
        n = len(samples)
        print(f"{name}: {whole / n / 1000:.1f} kB a photograph, {cut / n / 1000:.1f} kB without padding")


def crops(dataset: ShardedDataset, samples: list[dict], faces: list[list[np.ndarray]]) -> None:
    """Crops of the stored field against the field drawn anew at that scale, in pixels of the stored photograph."""
    template = template_of_tables(dataset.table)
    for scale in DENSEREG_SCALES:
        shift = (scale - 1) / 2
        errors, labels = [], []
        for sample, vertices in zip(samples[::3], faces[::3], strict=True):
            size = tuple(round(scale * int(n)) for n in sample["size_hw"])
            window = Window(Similarity2D.of(scale=scale, translation_px=(shift, shift)), size)
            crop = crop_of_sample(sample, window)
            scales = np.linalg.norm(sample["picture_from_model"][: len(vertices), 0, :3], axis=-1)
            moved = [window.crop_from_image.apply(face.astype(np.float64)) for face in vertices]
            drawn = draw_field(template, moved, size_hw=size, scales=list(scales))
            both = (crop["label"] == 1) & drawn.is_face & (crop["face_index"] == drawn.face_index)
            errors.append(np.abs(crop["uv"] - drawn.uv)[both].max(axis=-1))
            known = crop["label"] != 255
            labels.append(((crop["label"] == 1) == drawn.is_face)[known].mean())
        error = np.concatenate(errors)
        print(
            f"scale {scale}: |u − u of the field drawn anew| median {np.median(error):.5f}, 99 % "
            f"{np.percentile(error, 99):.4f}; face or not agrees in {100 * np.mean(labels):.2f} % of the pixels"
        )


if __name__ == "__main__":
    main()

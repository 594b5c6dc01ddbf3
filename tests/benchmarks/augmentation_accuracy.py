"""How well labels follow pixels, and how well a map is mirrored by re-sampling.

    python tests/benchmarks/augmentation_accuracy.py

The first table renders the mesh where the labels say it is after each move, and measures how far that lies from the moved
picture (the laws of tests/render/test_augmentation.py, which hold it below 0.05 px). The second compares maps read at their
counterparts with the maps of the mirrored vertices, 256² texels, pixels of a crop of 256².
"""

import importlib.util
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import numpy as np
from augmentation_speed import SIZE, example

from geometry.built_in import load_built_in
from geometry.mesh import Mesh
from geometry.unwrap import tutte
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster
from render.augmentation import augment_picture
from render.mirrored_atlas import MirroredAtlas


def main() -> None:
    laws = _laws()
    model = load_built_in()
    own = UVAtlas(model.uv.astype(np.float64), np.concatenate([model.triangles, model.closing_triangles]))
    person = laws.Person(model, AtlasRaster(own, 96))
    print("| move | labels off, px | off about w/2, px |\n|---|---|---|")
    for way, draw in laws.WAYS.items():
        moved = augment_picture(person.rendered(person.affine), laws.only(draw), size_px=laws.SIZE).image
        right, wrong = (
            max(np.linalg.norm(laws.offset_px(moved, person.rendered(affine), m)) for m in laws.places_to_compare(person, draw))
            for affine in (
                laws._moved_affine(person, draw.augmented_from_crop(laws.SIZE)),
                laws._moved_affine(person, laws.about_wrong_centre(draw)),
            )
        )  # fmt: skip
        print(f"| {way} | {right:.3f} | {wrong:.2f} |")

    sample, _, _ = example()
    vertices, affine = person.vertices, sample["crop_from_model"]
    print(
        "\n| atlas | columns off the mirror, texels | median, px | 99 %, px | columns alone: median, px |\n|---|---|---|---|---|"
    )
    computed = tutte(Mesh(model.mean_shape.astype(np.float64), model.triangles))
    for name, atlas in (("the model's own", own), ("Tutte, conformal", computed)):
        raster = AtlasRaster(atlas, SIZE)
        maps = raster.apply(vertices, affine)
        exact = raster.mirrored(model.mirror).apply(vertices, affine)
        read = MirroredAtlas.of(atlas, raster, model.mirror).values(maps)
        off, alone = (np.linalg.norm(exact - other, axis=-1)[raster.covered] for other in (read, maps[:, ::-1]))
        tilt = np.abs(atlas.uv[model.mirror] - np.stack([1 - atlas.uv[:, 0], atlas.uv[:, 1]], axis=1)).max() * (
            SIZE - 1
        )
        print(f"| {name} | {tilt:.2f} | {np.median(off):.3f} | {np.quantile(off, 0.99):.2f} | {np.median(alone):.3f} |")


def _laws():
    """The tests' own person, moves and measure: no package holds them, so they are loaded by their path."""
    path = Path(__file__).parent.parent / "render" / "test_augmentation.py"
    spec = importlib.util.spec_from_file_location("augmentation_laws", path)
    laws = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(laws)
    return laws


if __name__ == "__main__":
    main()

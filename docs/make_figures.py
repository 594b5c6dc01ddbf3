"""Draws the pictures of these pages and measures the numbers of conventions.md, from the built-in sample alone.

    python docs/make_figures.py DATASET SAMPLE_FOLDER

DATASET is what `facefoundry build 300wlp-posmaps` published, SAMPLE_FOLDER the folder it was built from
(`datasets/300wlp-posmaps` and `datasets/sources/sample` after `make build`).
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from geometry import load_model, tutte
from geometry.frames import Similarity2D
from geometry.mesh import Mesh
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster
from render.masks import face_mask, weight_mask
from render.preview import PANELS, contact_sheet, draw_landmarks
from storage.annotations import read_annotation
from storage.dataset import open_dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "benchmarks"))
from usual_recipe import render_colors

PICTURES = Path(__file__).parent / "pictures"
SHOWN = ("HELEN/HELEN_7000101_1_0", "LFPW_Flip/LFPW_image_train_0601_3", "IBUG/IBUG_image_702_1_5")


def main() -> None:
    dataset, sample_folder = open_dataset(sys.argv[1]), Path(sys.argv[2])
    draw_samples(dataset)
    draw_pixel_base(sample_folder)
    model = load_model("built-in")
    for name, value in (
        *pixel_base(sample_folder),
        *depth_scale(dataset),
        *flip_without_mirrored_uv(dataset, model),
        *border_frame(model),
        *value_codes(dataset),
        *weights_of_the_neck(model),
        *bins(),
    ):
        print(f"{name:74} {value}")


def draw_samples(dataset) -> None:
    """The README's picture: three samples with their panels."""
    ids = dataset.read(range(len(dataset)), targets=["source_id"])["source_id"].tolist()
    chosen = [dataset[ids.index(name)] for name in SHOWN]
    sheet = contact_sheet(chosen, dataset.table("weight_mask"), side=220, across=1)
    save("samples.jpg", sheet)
    print(f"panels, left to right: {', '.join(PANELS)}")


def draw_pixel_base(folder: Path) -> None:
    """Landmarks of one picture at the true pixels (left) and as the published recipe places them (right), enlarged."""
    stem = folder / SHOWN[0]
    image = cv2.cvtColor(cv2.imread(f"{stem}.jpg"), cv2.COLOR_BGR2RGB)
    true = read_annotation(f"{stem}.mat").landmarks_px
    left, top = np.floor(true[36:42, :2].min(axis=0)).astype(int) - 8
    crop = np.ascontiguousarray(image[top : top + 34, left : left + 56])
    views = []
    for compat in (None, "face3d"):
        landmarks = read_annotation(f"{stem}.mat", compat=compat).landmarks_px
        views.append(draw_landmarks(crop, landmarks - (left, top, 0), enlarge=9))
    save("pixel_base.jpg", np.hstack([views[0], np.full((len(views[0]), 8, 3), 255, np.uint8), views[1]]))


def pixel_base(folder: Path):
    roots = []
    for path in sorted(folder.glob("*/*_0.mat")):
        points = read_annotation(path).landmarks_px[:, :2]
        roots.append(np.sqrt(np.prod(np.ptp(points, axis=0))))
    yield "labels shifted by (+1, −1) px: NME over the box's root", f"{100 * np.sqrt(2) / np.mean(roots):.2f} %"


def depth_scale(dataset):
    maps, covered = dataset.read(slice(0, 32))["position_map"], dataset.table("atlas_covered").astype(bool)
    depth = maps[:, covered, 2]
    for degrees in (15, 30, 45):
        wrong = 1 - np.cos(np.radians(degrees))
        error = f"{(depth * wrong).mean():.1f} px of {depth.max(axis=1).mean():.0f}"
        yield f"z times s·cosθ at θ = {degrees}°: mean error of depth", error


def flip_without_mirrored_uv(dataset, model):
    raster = AtlasRaster.from_tables(*(dataset.table(f"atlas_{name}") for name in ("corners", "weights", "covered")))
    vertices = model.vertices(model.neutral())
    scale = 255 / 1.5 / 150 * np.eye(3, 4)
    plain = raster.apply(vertices, scale)
    naive = plain * (-1, 1, 1) + (255, 0, 0)
    right = raster.mirrored(model.mirror).apply(
        vertices, Similarity2D.mirror(256).affine3d @ np.vstack([scale, [0, 0, 0, 1]])
    )
    distance = np.linalg.norm(naive - right, axis=-1)[raster.covered]
    yield "flip that mirrors the picture and not the UV: mean error of a texel", f"{distance.mean():.0f} px"


def border_frame(model):
    """What painting the outer two texels without an inside test does, on an atlas that fills the square."""
    atlas = tutte(Mesh(model.mean_shape.astype(float), model.triangles))
    size = 256
    values = (model.vertices(model.neutral()) @ rotation_from_euler(0.1, 0.3, 0.0).T.astype(np.float32) * 1.1).astype(
        np.float32
    )
    texel = np.stack([atlas.uv[:, 0] * (size - 1), size - atlas.uv[:, 1] * (size - 1) - 1], axis=1).astype(np.float32)
    painted = render_colors(texel, atlas.triangles, values, size)
    exact = AtlasRaster(atlas, size).apply(values)
    frame = np.ones((size, size), bool)
    frame[2:-2, 2:-2] = False
    distance = np.linalg.norm(painted - exact, axis=-1)
    yield "two-texel frame painted without an inside test: worst error", f"{distance[frame].max():.0f} px"


def value_codes(dataset):
    maps, covered = dataset.read(slice(0, 64))["position_map"], dataset.table("atlas_covered").astype(bool)
    xyz = maps[:, covered]
    size = maps.shape[1]
    below, above = (xyz < 0).any(axis=-1).mean(), (xyz > 1.1 * size).any(axis=-1).mean()
    yield "texels with a coordinate below 0, which clipping to [0, 1] destroys", f"{100 * below:.1f} %"
    yield "texels with a coordinate above 1.1 S, which a sigmoid times 1.1 S cannot reach", f"{100 * above:.1f} %"


def weights_of_the_neck(model):
    atlas = UVAtlas(model.uv, np.concatenate([model.triangles, model.closing_triangles]))
    raster = AtlasRaster(atlas, 256)
    published = weight_mask(model, atlas, 256, raster=raster, compat="prnet")
    outside = raster.covered & ~face_mask(model, raster)
    share = published[outside].sum() / published.sum()
    yield "share of the loss that the published kind of mask gives the neck", f"{100 * share:.0f} %"


def bins():
    low = sum(np.floor((k / 10) / (1 / 10)) != k for k in range(11))
    right = sum(np.floor(k / 10 * 10) != k for k in range(11))
    yield "bin edges k/10 that ⌊u/d⌋ puts one bin low, against ⌊u·K⌋", f"{low} against {right}"


def save(name: str, picture: np.ndarray) -> None:
    cv2.imwrite(str(PICTURES / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()

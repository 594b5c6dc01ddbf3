"""Draws the pictures of these pages and measures the numbers of conventions.md, from the built-in sample alone.

    facefoundry build 300wlp-posmaps --targets posmap,field,parts,heatmaps
    python docs/make_figures.py datasets/300wlp-posmaps datasets/sources/sample

The second folder is the one that the data set was built from.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from flows.sheets import sample_sheet
from geometry import Coefficients, load_model, tutte
from geometry.frames import Similarity2D
from geometry.mesh import Mesh, vertex_normals
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster
from render.masks import face_mask, weight_mask
from render.parts import carry_mask
from render.preview import (
    PANELS,
    PART_COLORS,
    color_position_map,
    color_values,
    contact_sheet,
    draw_landmarks,
    in_rows,
    map_mesh,
    overlay_mesh,
    overlay_values,
    titled,
)
from render.zbuffer import interpolate, rasterize
from storage.annotations import read_annotation
from storage.dataset import open_dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.benchmarks.usual_recipe import render_colors

PICTURES = Path(__file__).parent / "pictures"
SIDE = 250
WAY, ROLLED = "HELEN/HELEN_7000101_1_0", "LFPW_Flip/LFPW_image_train_0601_3"
SHOWN = ("HELEN/HELEN_7000101_1_0", "LFPW_Flip/LFPW_image_train_0601_3", "IBUG/IBUG_image_702_1_5")


def main() -> None:
    dataset, sample_folder = open_dataset(sys.argv[1]), Path(sys.argv[2])
    draw_samples(dataset)
    draw_tour_sample(dataset)
    draw_pixel_base(sample_folder)
    model = load_model("built-in")
    draw_way(dataset, sample_folder, model)
    draw_mistakes(dataset, model)
    draw_own_mask(dataset)
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


def draw_tour_sample(dataset) -> None:
    """tour.md: one sample with all targets, as `facefoundry show` draws it."""
    ids = dataset.read(range(len(dataset)), targets=["source_id"])["source_id"].tolist()
    save("tour-sample.jpg", sample_sheet(dataset, ids.index(SHOWN[0]), side=230))


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


def draw_way(dataset, folder: Path, model) -> None:
    """data-model.md: what each step makes of one sample; the numbers are those of its list."""
    sample = sample_named(dataset, WAY)
    photograph = cv2.cvtColor(cv2.imread(f"{folder / WAY}.jpg"), cv2.COLOR_BGR2RGB)
    annotation = read_annotation(f"{folder / WAY}.mat")
    vertices = annotation.camera.project(model.vertices(annotation.coefficients)).astype(np.float32)
    box = np.linalg.inv(sample["crop_from_image"]) @ np.array([[0, 255, 255, 0], [0, 0, 255, 255], [1, 1, 1, 1]])
    boxed = draw_landmarks(photograph, vertices[model.landmark_vertices], enlarge=1)
    cv2.polylines(boxed, [np.rint(box[:2].T).astype(np.int32)], True, (250, 250, 60), 2, cv2.LINE_AA)
    raster = AtlasRaster.from_tables(*(dataset.table(f"atlas_{name}") for name in ("corners", "weights", "covered")))
    normals = vertex_normals(model.mean_shape.astype(np.float32), model.triangles)
    flat = np.where(raster.covered, 60 + 195 * np.clip(raster.apply(normals)[..., 2], 0, 1), 0)
    rows, columns, weights = (dataset.table(f"landmark_{part}") for part in ("rows", "columns", "weights"))
    xyz, covered = sample["position_map"], sample["covered"]
    read = np.einsum("lk,lkc->lc", weights, xyz[rows, columns])
    is_face = sample["label"] == 1
    panels = (
        ("1, 3  picture, the file's points", draw_landmarks(photograph, annotation.landmarks_px, enlarge=1)),
        ("4  the file's coefficients", lit(photograph, vertices, model.triangles)),
        ("5  box of the projected points", boxed),
        ("6  the crop", sample["image"]),
        ("6  the mesh laid flat", np.repeat(flat[..., None], 3, axis=-1).astype(np.uint8)),
        ("6  x, y, z at each texel", color_position_map(xyz, covered)),
        ("6  points read from the map", draw_landmarks(sample["image"], read, enlarge=1)),
        ("7  u at each pixel", np.where(is_face[..., None], color_values(sample["uv"][..., 0]), 0).astype(np.uint8)),
        ("7  parts", PART_COLORS[sample["part"]]),
        ("10  drawn from what is stored", overlay_mesh(sample["image"], xyz, covered)),
    )
    save("way-of-a-sample.jpg", in_rows([titled(framed(picture), name) for name, picture in panels], across=5))


def draw_mistakes(dataset, model) -> None:
    """conventions.md: four labels as they are (above) and with a mistake in them (below)."""
    sample = sample_named(dataset, ROLLED)
    image, xyz, covered = sample["image"], sample["position_map"], sample["covered"]
    raster = AtlasRaster.from_tables(*(dataset.table(f"atlas_{name}") for name in ("corners", "weights", "covered")))
    atlas = UVAtlas(model.uv, np.concatenate([model.triangles, model.closing_triangles]))
    published = weight_mask(model, atlas, 256, raster=raster, compat="prnet")
    left = np.broadcast_to((np.arange(256) >= 128).astype(np.float32), (256, 256))
    vertices = model.vertices(model.neutral())
    frontal = sample_named(dataset, WAY)
    turned_over, seen = np.ascontiguousarray(frontal["image"][:, ::-1]), frontal["crop_from_model"]
    mirror = Similarity2D.mirror(256).affine3d
    face = Coefficients(frontal["identity"].astype(np.float64), frontal["expression"].astype(np.float64))
    vertices = model.vertices(face)
    right = raster.mirrored(model.mirror).apply(vertices, mirror @ np.vstack([seen, [0, 0, 0, 1]]))
    wrong = raster.apply(vertices, mirror @ np.vstack([seen, [0, 0, 0, 1]]))
    pairs = (
        ("a map, from the side", "z by s cos 45, not s", *(side_view(xyz * (1, 1, k), covered) for k in (1, 0.7071))),
        ("the same", "clipped to [0, 1]", side_view(xyz, covered), side_view(np.clip(xyz, 0, 255), covered)),
        ("flipped: the left cheek", "UV not flipped", *(
            overlay_values(turned_over, flipped, raster.covered, left) for flipped in (right, wrong))),
        ("weights, neck 0", "weights, neck 3", *(
            overlay_values(image, xyz, covered, mask) for mask in (dataset.table("weight_mask"), published))),
    )  # fmt: skip
    above = [titled(framed(good), name) for name, _, good, _ in pairs]
    below = [titled(framed(bad), name) for _, name, _, bad in pairs]
    save("mistakes.jpg", in_rows(above + below, across=4))


def draw_own_mask(dataset) -> None:
    """own-mask.md: the guide, the mask of the page, and the mask in four pictures."""
    guide = dataset.table("part_map")
    mask = war_paint(guide)
    flat = [cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in (PART_COLORS[guide], mask)]
    panels = [titled(flat[0], "the guide: part_map"), titled(flat[1], "the mask")]
    for name in (WAY, *SHOWN[1:]):
        sample = sample_named(dataset, name)
        painted = carry_mask(mask, sample["uv"], sample["label"] == 1)
        image = np.where(painted.any(axis=-1, keepdims=True), 0.3 * sample["image"] + 0.7 * painted, sample["image"])
        panels.append(titled(framed(image.astype(np.uint8)), "carried into a picture"))
    save("own-mask.jpg", in_rows(panels, across=5))


def war_paint(guide: np.ndarray) -> np.ndarray:
    """The mask that own-mask.md paints."""
    page = (Path(__file__).parent / "own-mask.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0].partition("# paint\n")[2].partition("# save")[0]
    scope = {"np": np, "cv2": cv2, "guide": guide}
    exec(code, scope)
    return cv2.cvtColor(scope["mask"], cv2.COLOR_BGR2RGB)


def sample_named(dataset, name: str):
    """The sample of that source id."""
    ids = dataset.read(range(len(dataset)), targets=["source_id"])["source_id"].tolist()
    return dataset[ids.index(name)]


def lit(picture: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """A mesh shaded grey over a picture, in the picture's pixels."""
    buffers = rasterize(vertices, triangles, size_hw=picture.shape[:2], cull=False)
    toward_viewer = np.abs(vertex_normals(vertices, triangles)[:, 2:]).astype(np.float32)
    grey = 40 + 215 * interpolate(buffers, toward_viewer, triangles)
    return np.where(buffers.covered[..., None], 0.3 * picture + 0.7 * grey, picture).astype(np.uint8)


def side_view(xyz: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """The mesh of a map, turned by 70 degrees about the upright through its middle."""
    vertices, triangles = map_mesh(xyz.astype(np.float32), covered)
    middle = np.array([127.5, 127.5, 127.5], np.float32)
    rotation = rotation_from_euler(0.0, np.radians(70), 0.0).astype(np.float32)
    turned = ((vertices - middle) @ rotation.T * np.float32(0.8) + middle).astype(np.float32)
    return lit(np.full((256, 256, 3), 255, np.uint8), np.ascontiguousarray(turned), triangles)


def framed(picture: np.ndarray) -> np.ndarray:
    """SIDE by SIDE."""
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA if len(picture) > SIDE else cv2.INTER_LINEAR)


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
    covered = dataset.table("atlas_covered").astype(bool)
    counts = []
    for start in range(0, len(dataset), 64):
        numbers = range(start, min(start + 64, len(dataset)))
        xyz = dataset.read(numbers, ["position_map"])["position_map"][:, covered]
        below, above, far = (any_of.any(axis=-1) for any_of in (xyz < 0, xyz > len(covered), xyz > 1.1 * len(covered)))
        counts.append([len(numbers) * share.mean() for share in (below | above, below, far)])
    clipped, below, far = 100 * np.sum(counts, axis=0) / len(dataset)
    yield "texels with a coordinate below 0 or above S, which clipping to [0, 1] destroys", f"{clipped:.1f} %"
    yield "texels with a coordinate below 0, which a sigmoid cannot reach", f"{below:.1f} %"
    yield "texels with a coordinate above 1.1 S, which a sigmoid times 1.1 S cannot reach", f"{far:.1f} %"


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

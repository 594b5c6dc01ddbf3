"""``compat="face3d"`` against the published recipe, written out slowly and sharing no code with ours.

The recipe (face3d's 300W-LP example, PRNet's training data): vertices in micrometres from the coefficients as they are
stored; s·R·v + t; y = h − 1 − Y and x as stored, so every label lies (+1, −1) px beside the true pixel; the box of the
landmarks cut to integers; the similarity from three corners of that box to 0 and 255; z by T[0, 0], then less its
minimum; the UV map by triangles' boxes and barycentric coordinates, its two outermost pixels painted over.
"""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from flows.config import PosmapConfig
from flows.posmap_sample import Picture, PosmapSample
from flows.posmaps import PosmapRecipe
from geometry.camera import ScaledOrthographicCamera
from geometry.frames import Similarity2D
from geometry.morphable_model import Coefficients, DenseModel
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster
from render.crop import CropConfig
from render.position_map import crop_from_model
from storage.annotations import read_annotation, write_annotation

SIZE, HEIGHT = 128, 450
FRAME = 2
"""face3d paints texels this near to the border by extrapolation; they are no labels, and ours are true there."""
INNER = np.s_[FRAME:-FRAME, FRAME:-FRAME]

POSES = {"frontal": (0.07, 0.2, -0.1), "turned": (-0.2, -0.9, 0.3), "profile": (0.1, 1.45, -0.05)}


# ------------------------------------------------------------------------------- the published recipe, slow and alone


def published_vertices(model: DenseModel, shape_para: np.ndarray, exp_para: np.ndarray) -> np.ndarray:
    """(V 3) in µm, one vertex after another, in double precision."""
    mean = 1000.0 * model.mean.astype(np.float64)
    shape_pc = 1000.0 * model.identity_basis.astype(np.float64).T  # (3V, K): coefficients are stored for columns in µm
    exp_pc = 1000.0 * model.expression_basis.astype(np.float64).T
    vertices = np.empty_like(mean)
    for v in range(len(mean)):
        vertices[v] = mean[v] + shape_pc[3 * v : 3 * v + 3] @ shape_para + exp_pc[3 * v : 3 * v + 3] @ exp_para
    return vertices


def published_rotation(pitch: float, yaw: float, roll: float) -> np.ndarray:
    x = np.array(
        [[1, 0, 0], [0, math.cos(pitch), math.sin(pitch)], [0, -math.sin(pitch), math.cos(pitch)]], dtype=np.float64
    )
    y = np.array([[math.cos(yaw), 0, -math.sin(yaw)], [0, 1, 0], [math.sin(yaw), 0, math.cos(yaw)]], dtype=np.float64)
    z = np.array(
        [[math.cos(roll), math.sin(roll), 0], [-math.sin(roll), math.cos(roll), 0], [0, 0, 1]], dtype=np.float64
    )
    return x @ y @ z


def published_similarity(corners: np.ndarray, size: int) -> np.ndarray:
    """T (3 3) from three pairs of corners: top left, bottom left, top right, by the six linear equations they give."""
    goals = [(0, 0), (0, size - 1), (size - 1, 0)]
    rows, right = [], []
    for (x, y), (goal_x, goal_y) in zip(corners, goals, strict=True):  # a similarity: (a −b; b a) and a translation
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        right += [goal_x, goal_y]
    (a, b, tx, ty), *_ = np.linalg.lstsq(np.array(rows), np.array(right, dtype=np.float64), rcond=None)
    return np.array([[a, -b, tx], [b, a, ty], [0, 0, 1]])


def published_uv_map(uv: np.ndarray, triangles: np.ndarray, values: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
    """(S S 3) and which texels are painted: the first triangle keeps one; inside is u ≥ 0, v ≥ 0, u + v < 1."""
    texel = uv * (size - 1)
    texel[:, 1] = size - texel[:, 1] - 1
    image, painted = np.zeros((size, size, 3)), np.zeros((size, size), dtype=bool)
    for a, b, c in triangles.tolist():
        (ax, ay), (bx, by), (cx, cy) = texel[a].tolist(), texel[b].tolist(), texel[c].tolist()
        for y in range(max(math.ceil(min(ay, by, cy)), 0), min(math.floor(max(ay, by, cy)), size - 1) + 1):
            for x in range(max(math.ceil(min(ax, bx, cx)), 0), min(math.floor(max(ax, bx, cx)), size - 1) + 1):
                if painted[y, x]:
                    continue
                first, second, point = (cx - ax, cy - ay), (bx - ax, by - ay), (x - ax, y - ay)
                d00, d01, d02 = dot(first, first), dot(first, second), dot(first, point)
                d11, d12 = dot(second, second), dot(second, point)
                determinant = d00 * d11 - d01 * d01
                if determinant == 0:
                    continue
                u, v = (d11 * d02 - d01 * d12) / determinant, (d00 * d12 - d01 * d02) / determinant
                if u >= 0 and v >= 0 and u + v < 1:
                    image[y, x] = (1 - u - v) * values[a] + v * values[b] + u * values[c]
                    painted[y, x] = True
    return image, painted


def dot(a: tuple[float, float], b: tuple[float, float]) -> float:
    return a[0] * b[0] + a[1] * b[1]


def published_sample(mat: Path, model: DenseModel, atlas: UVAtlas) -> dict[str, np.ndarray]:
    """Everything the recipe makes of one annotation file."""
    info = scipy.io.loadmat(mat)
    pitch, yaw, roll, tx, ty, tz, f = (float(value) for value in info["Pose_Para"][0])
    vertices = published_vertices(model, info["Shape_Para"][:, 0].astype(float), info["Exp_Para"][:, 0].astype(float))
    transformed = f * vertices @ published_rotation(pitch, yaw, roll).T + np.array([tx, ty, tz])
    image_vertices = transformed.copy()
    image_vertices[:, 1] = HEIGHT - 1 - image_vertices[:, 1]

    kpt = image_vertices[model.landmark_vertices, :2].astype(np.int32)  # cut, not rounded
    left, right, top, bottom = kpt[:, 0].min(), kpt[:, 0].max(), kpt[:, 1].min(), kpt[:, 1].max()
    centre_x, centre_y = right - (right - left) / 2.0, bottom - (bottom - top) / 2.0
    old_size = (right - left + bottom - top) / 2
    side = int(old_size * 1.5)
    half = side / 2
    corners = np.array(
        [[centre_x - half, centre_y - half], [centre_x - half, centre_y + half], [centre_x + half, centre_y - half]]
    )
    similarity = published_similarity(corners, SIZE)

    position = np.empty_like(image_vertices)
    for v, (x, y, z) in enumerate(image_vertices):
        position[v, :2] = (similarity @ (x, y, 1))[:2]
        position[v, 2] = z * similarity[0, 0]
    position[:, 2] -= position[:, 2].min()
    uv_map, painted = published_uv_map(atlas.uv.copy(), atlas.triangles, position, SIZE)
    return {"uv_map": uv_map, "painted": painted, "similarity": similarity, "image_vertices": image_vertices}


# -------------------------------------------------------------------------------------------------------------- ours


@pytest.fixture(scope="module")
def dense(built_in) -> DenseModel:
    return built_in.dense()


@pytest.fixture(scope="module")
def annotation_files(built_in, tmp_path_factory) -> dict[str, Path]:
    """One drawn face under three poses, as the release stores it."""
    folder = tmp_path_factory.mktemp("300W_LP") / "AFW"
    folder.mkdir()
    rng = np.random.default_rng(8)
    coefficients = Coefficients(built_in.draw_identity(rng), built_in.draw_expression(rng))
    files = {}
    for k, (name, pose) in enumerate(POSES.items()):
        camera = ScaledOrthographicCamera(1.37, rotation_from_euler(*pose), np.array([221.3, 238.9, -57.0]))
        landmarks = camera.project(built_in.rows(built_in.landmarks).positions(coefficients))
        files[name] = folder / f"AFW_1_{k}.mat"
        write_annotation(files[name], coefficients=coefficients, camera=camera, landmarks_px=landmarks, model=built_in)
    return files


def make_sample(mat: Path, model, atlas: UVAtlas, compat: str | None) -> PosmapSample:
    """The sample that a build makes of this file and a grey picture."""
    config = PosmapConfig(crop=CropConfig(size_px=SIZE), compat=compat)
    _, picture = cv2.imencode(".png", np.full((HEIGHT, HEIGHT, 3), 128, np.uint8))
    recipe = PosmapRecipe.of(config, model, atlas)
    annotation = read_annotation(mat, image_height=HEIGHT, compat=compat)
    ((sample,),) = recipe.make_samples([Picture("AFW/AFW_1", picture.tobytes(), annotation)])
    return sample


@pytest.mark.parametrize("pose", ["frontal", "profile"])
def test_the_published_recipe_gives_the_same_map_within_a_thousandth_of_a_pixel(
    built_in, dense, own_atlas, annotation_files, pose
):
    published = published_sample(annotation_files[pose], dense, own_atlas)
    ours = make_sample(annotation_files[pose], built_in, own_atlas, "face3d")
    np.testing.assert_allclose(ours.crop_from_image, published["similarity"], atol=1e-9)

    covered, painted = AtlasRaster(own_atlas, SIZE).covered[INNER], published["painted"][INNER]
    np.testing.assert_array_equal(covered, painted)
    assert painted.mean() > 0.9
    assert np.abs(ours.position_map - published["uv_map"])[INNER][painted].max() < 1e-3


def test_any_small_face_in_any_pose_agrees_too(sheet, tmp_path):
    """Every texel of the sheet is covered, and its landmarks are anywhere, also on the border."""
    atlas = UVAtlas(sheet.uv, sheet.triangles)
    (tmp_path / "AFW").mkdir()
    rng = np.random.default_rng(2)
    for k in range(12):
        pose = rng.uniform((-0.5, -1.5, -0.6), (0.5, 1.5, 0.6))
        camera = ScaledOrthographicCamera(
            rng.uniform(0.6, 1.4), rotation_from_euler(*pose), np.append(rng.uniform(180, 260, 2), rng.normal())
        )
        coefficients = Coefficients(rng.normal(size=2) * sheet.identity_stddevs, rng.normal(size=1))
        path = tmp_path / "AFW" / f"AFW_{k}_0.mat"
        landmarks = camera.project(sheet.rows(sheet.landmarks).positions(coefficients))
        write_annotation(path, coefficients=coefficients, camera=camera, landmarks_px=landmarks, model=sheet)
        published = published_sample(path, sheet, atlas)
        ours = make_sample(path, sheet, atlas, "face3d")
        painted = published["painted"][INNER]
        assert painted.mean() > 0.98  # half-open triangles lose a few texels on their common edges; ours lose none
        assert np.abs(ours.position_map - published["uv_map"])[INNER][painted].max() < 1e-3, k


@pytest.mark.parametrize("pose", POSES)
def test_the_published_labels_lie_one_pixel_right_of_and_above_the_true_ones(
    built_in, own_atlas, annotation_files, pose
):
    """(+1, −1) px in the photograph, so that times the crop's scale in the crop."""
    mat = annotation_files[pose]
    true, compat = (read_annotation(mat, image_height=HEIGHT, compat=c) for c in (None, "face3d"))
    np.testing.assert_allclose(compat.camera.translation_px - true.camera.translation_px, (1, -1, 0), atol=1e-9)
    stored = scipy.io.loadmat(mat)["pt2d"].T
    if pose == "frontal":  # the `_0` file: its landmarks are its own
        np.testing.assert_allclose(true.landmarks_px[:, :2], stored - 1, atol=1e-9)
        np.testing.assert_allclose(compat.landmarks_px[:, :2], stored - (0, 2), atol=1e-9)

    made, made_true = (make_sample(mat, built_in, own_atlas, c) for c in ("face3d", None))
    crop, raster = Similarity2D(made.crop_from_image), AtlasRaster(own_atlas, SIZE)
    true_map = raster.apply(built_in.vertices(true.coefficients), crop_from_model(true.camera, crop))
    difference = (made.position_map - true_map)[raster.covered][:, :2]
    expected = np.tile((crop.scale, -crop.scale), (len(difference), 1))
    np.testing.assert_allclose(difference, expected, atol=2e-4)

    # The crop of a true sample is another one (the published box is cut to integers), so compare in the photograph.
    in_photograph, true_in_photograph = (
        Similarity2D(sample.crop_from_image).inverse.apply(sample.position_map[raster.covered].astype(np.float64))
        for sample in (made, made_true)
    )
    shift = (in_photograph - true_in_photograph)[:, :2]
    np.testing.assert_allclose(shift, np.tile((1.0, -1.0), (len(shift), 1)), atol=1e-3)

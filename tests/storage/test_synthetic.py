"""The sample folder: it must have the shape of 300W-LP, its traps too, and pixels that agree with the parameters."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import skimage.data
from hypothesis import given
from hypothesis import strategies as st

from geometry.built_in import load_built_in
from geometry.camera import ScaledOrthographicCamera
from geometry.frames import Similarity2D
from geometry.landmarks import INNER, MIRROR
from geometry.linear_albedo import LinearAlbedo
from geometry.rotation import rotation_from_euler, yaw_from_rotation
from render.portrait import PaintedMesh, draw_portrait
from render.shading import ColorTransform, PhongLight
from render.zbuffer import rasterize
from storage import open_source, read_annotation
from storage.file_names import view_of_path
from storage.jpeg import decode_jpeg, encode_jpeg
from storage.sample_photograph import (
    fit_photograph,
    image_from_photograph,
    photograph_landmarks_px,
    read_photograph,
)
from storage.sources import SUBSETS
from storage.synthetic import draw_face, draw_shot, mirror_camera, plan_families, write_sample_folder

ROOT = Path(__file__).resolve().parents[2]
SIZE = 450
N_VIEWS = 4
SETTINGS = {"seed": 5, "n_identities": 1, "n_expressions": 1, "n_views": N_VIEWS}
FAMILY = plan_families(**SETTINGS)[0]
VIEWS = range(N_VIEWS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample")
    write_sample_folder(path, **SETTINGS)
    return path


@pytest.fixture(scope="module")
def face():
    return draw_face(FAMILY)


@pytest.fixture(scope="module")
def skin():
    return load_built_in()


def annotation(folder, view, *, flip=False):
    return read_annotation(FAMILY.path(folder, view, flip=flip).with_suffix(".mat"))


def stored(folder, view, *, flip=False):
    return scipy.io.loadmat(FAMILY.path(folder, view, flip=flip).with_suffix(".mat"))


def pixels(folder, view, *, flip=False):
    return decode_jpeg(FAMILY.path(folder, view, flip=flip).read_bytes())


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ------------------------------------------------------------------------------------------------ the folder


def test_the_folder_holds_pictures_and_annotations_of_both_sides_and_nothing_else(folder):
    photograph = FAMILY.photograph
    stems = [f"AFW/{photograph}_{view}" for view in VIEWS] + ["AFW/astronaut_0"]
    stems += [stem.replace("AFW/", "AFW_Flip/") for stem in stems]
    expected = {stem + suffix for stem in stems for suffix in (".jpg", ".mat")}
    expected |= {"AFW/model.json", "AFW_Flip/model.json", "sample.json"}
    assert {path.as_posix() for path in contents(folder)} == expected


def test_the_default_plan_spreads_twelve_people_over_the_four_subsets():
    families = plan_families(seed=0, n_identities=12, n_expressions=2, n_views=8)
    assert len({family.photograph for family in families}) == len(families) == 24
    assert {subset: sum(f.subset == subset for f in families) for subset in SUBSETS} == dict.fromkeys(SUBSETS, 6)


def test_names_are_read_as_the_set_means_them(tmp_path):
    for family in plan_families(seed=0, n_identities=12, n_expressions=2, n_views=12):
        for view, flip in itertools.product((0, 3, 11), (False, True)):
            name = view_of_path(family.path(tmp_path, view, flip=flip))
            assert (name.photograph, name.is_flip, name.k) == (family.photograph, flip, view)


def test_the_reader_of_300w_lp_finds_every_sample_and_rejects_none(folder):
    source = open_source(folder)
    assert source.kind == "300W-LP"
    assert not source.rejected
    assert len(source.items) == 2 * N_VIEWS + 2
    assert {item.photograph for item in source.items} == {f"AFW/{FAMILY.photograph}", "AFW/astronaut"}
    source.check_model(load_built_in())


def test_files_have_the_keys_types_and_shapes_of_the_set(folder):
    coefficient_type = {False: "f8", True: "f4"}
    for view, flip in itertools.product(VIEWS, (False, True)):
        found = {key: value for key, value in stored(folder, view, flip=flip).items() if not key.startswith("__")}
        expected = {
            "pt2d": ("f8", (2, 68)),
            "roi": ("i2", (1, 4)),
            "Pose_Para": ("f4", (1, 7)),
            "Shape_Para": (coefficient_type[flip], (199, 1)),
            "Exp_Para": (coefficient_type[flip], (29, 1)),
            "Tex_Para": ("f8", (199, 1)),
            "Illum_Para": ("f8", (1, 10)),
            "Color_Para": ("f4", (1, 7)),
        }
        assert {key: (value.dtype.str[1:], value.shape) for key, value in found.items()} == expected
        assert pixels(folder, view, flip=flip).shape == (SIZE, SIZE, 3)


def test_numbers_are_of_the_size_of_the_set(folder):
    """A scale near 1e-3 px/µm, the first identity coefficients near 1e5 to 1e6, a face in the middle of its picture."""
    for view in VIEWS:
        values = stored(folder, view)
        assert 1e-3 < values["Pose_Para"][0, 6] < 2e-3
        assert 1e4 < np.abs(values["Shape_Para"][:5]).max() < 5e6
        assert values["Illum_Para"][0, 9] == 20
        points = annotation(folder, view).camera.project(
            load_built_in().rows(load_built_in().landmarks).positions(annotation(folder, view).coefficients)
        )
        middle = (points.min(axis=0) + points.max(axis=0))[:2] / 2
        assert np.abs(middle - (225, 250)).max() < 13
    box = np.ptp(annotation(folder, 0).landmarks_px[:, :2], axis=0)
    assert (box > 140).all()
    assert (box < 260).all()


def test_a_folder_with_other_things_in_it_is_left_as_it_is(tmp_path):
    other = tmp_path / "AFW" / f"{FAMILY.photograph}_0.jpg"
    other.parent.mkdir()
    other.write_bytes(b"mine")
    with pytest.raises(ValueError, match="is not empty and no sample set .AFW lies in it.*give a new or empty folder"):
        write_sample_folder(tmp_path, **SETTINGS)
    assert contents(tmp_path) == {other.relative_to(tmp_path): b"mine"}


def test_a_folder_with_nothing_but_litter_counts_as_empty(tmp_path):
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "sample.unfinished.json.77.partial").write_bytes(b"{")
    write_sample_folder(tmp_path, **{**SETTINGS, "n_views": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".DS_Store", "AFW", "AFW_Flip", "sample.json"]


PARENT = """
import os, sys, time
from pathlib import Path
from storage.drawing_workers import drawn_by_workers

def slow(folder):
    (Path(folder) / f"{os.getpid()}.pid").touch()
    time.sleep(60)

if __name__ == "__main__":
    list(drawn_by_workers(slow, [sys.argv[1]] * 8, workers=2))
"""


def test_workers_end_when_the_process_that_draws_is_killed(tmp_path):
    program, pids = tmp_path / "parent.py", tmp_path / "pids"
    program.write_text(PARENT)
    pids.mkdir()
    parent = subprocess.Popen([sys.executable, str(program), str(pids)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: len(list(pids.glob("*.pid"))) == 2, seconds=60)
    finally:
        parent.kill()
        parent.wait()
    workers = [int(path.stem) for path in pids.glob("*.pid")]
    wait_until(lambda: not any(is_running(pid) for pid in workers), seconds=20)


def wait_until(holds, *, seconds):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# ------------------------------------------------------------------------------------------------ parameters


@pytest.mark.parametrize("view", VIEWS)
def test_a_file_read_back_puts_every_vertex_where_it_was_drawn(folder, face, skin, view):
    read = annotation(folder, view)
    drawn = draw_shot(FAMILY, view, face).camera.project(skin.vertices(face.coefficients))
    assert np.abs(read.camera.project(skin.vertices(read.coefficients)) - drawn).max() < 0.01


def test_the_first_views_points_are_the_projected_landmarks(folder, face):
    expected = draw_shot(FAMILY, 0, face).camera.project(face.landmarks)
    assert np.abs(annotation(folder, 0).landmarks_px - expected)[:, :2].max() < 0.01


def test_a_family_shares_one_person_with_one_expression_and_turns_to_one_side(folder):
    views = [annotation(folder, view) for view in VIEWS]
    for other in views[1:]:
        np.testing.assert_array_equal(other.coefficients.identity, views[0].coefficients.identity)
        np.testing.assert_array_equal(other.coefficients.expression, views[0].coefficients.expression)
    yaws = np.degrees([-np.arcsin(view.camera.rotation[0, 2]) for view in views])
    yaws = yaws * np.sign(yaws[0])
    assert yaws[0] <= 20
    assert (np.diff(yaws) > 10).all()
    assert 78 <= yaws[-1] <= 90


def test_another_expression_is_the_same_person():
    one, other = (plan_families(seed=5, n_identities=1, n_expressions=2, n_views=1)[k] for k in (0, 1))
    first, second = draw_face(one), draw_face(other)
    np.testing.assert_array_equal(first.coefficients.identity, second.coefficients.identity)
    np.testing.assert_array_equal(first.mesh.texture, second.mesh.texture)
    assert np.abs(first.coefficients.expression - second.coefficients.expression).max() > 0


# ------------------------------------------------------------------------------------------------ the traps


def test_trap_points_of_turned_views_are_a_copy_of_the_first_views(folder, face):
    for flip in (False, True):
        first = stored(folder, 0, flip=flip)["pt2d"]
        for view in VIEWS[1:]:
            assert stored(folder, view, flip=flip)["pt2d"].tobytes() == first.tobytes()
            assert np.isnan(annotation(folder, view, flip=flip).landmarks_px).all()
    for view in VIEWS[1:]:  # who believes them is wrong by far
        own = draw_shot(FAMILY, view, face).camera.project(face.landmarks)[:, :2].T
        assert np.linalg.norm(own + 1 - stored(folder, view)["pt2d"], axis=0).mean() > 8


def test_trap_points_of_mirrored_files_are_mirrored_but_keep_their_names(folder, skin):
    here, there = stored(folder, 0)["pt2d"], stored(folder, 0, flip=True)["pt2d"]
    np.testing.assert_array_equal(there, np.stack([SIZE + 1 - here[0], here[1]]))
    read = annotation(folder, 0, flip=True)
    fitted = read.camera.project(skin.rows(skin.landmarks).positions(read.coefficients))[:, :2]
    assert np.linalg.norm(read.landmarks_px[:, :2] - fitted, axis=1).max() < 0.6
    assert np.linalg.norm(there.T - 1 - fitted, axis=1).mean() > 30  # with the old names


def test_mirrored_parameters_are_a_fit_and_describe_the_mirrored_picture(folder, skin):
    for view in VIEWS:
        here, there = annotation(folder, view), annotation(folder, view, flip=True)
        mirrored = Similarity2D.mirror(SIZE).apply(here.camera.project(skin.vertices(here.coefficients)))
        fitted = there.camera.project(skin.vertices(there.coefficients))
        distance_px = np.linalg.norm((fitted - mirrored[skin.mirror])[:, :2], axis=1)
        assert np.quantile(distance_px, 0.99) < 0.3
        assert distance_px.max() < 0.8
        assert np.abs(there.coefficients.identity - here.coefficients.identity).max() > 1e4


@given(seed=st.integers(0, 2**32 - 1))
def test_the_mirrored_camera_shows_the_mirrored_head_in_the_mirrored_place(seed):
    rng = np.random.default_rng(seed)
    camera = ScaledOrthographicCamera(1.3, rotation_from_euler(*rng.uniform(-1.5, 1.5, 3)), rng.uniform(0, 400, 3))
    points = rng.normal(size=(9, 3)) * 80
    expected = Similarity2D.mirror(SIZE).apply(camera.project(points))
    np.testing.assert_allclose(mirror_camera(camera).project(points * (-1, 1, 1)), expected, atol=1e-9)
    yaws = [float(yaw_from_rotation(c.rotation)) for c in (camera, mirror_camera(camera))]
    assert np.isclose(yaws[0], -yaws[1])


# ------------------------------------------------------------------------------------------------ pixels


def test_mirrored_pictures_are_exact_mirrors_compressed_once_more(folder):
    for view in VIEWS:
        mirror = pixels(folder, view)[:, ::-1]
        assert FAMILY.path(folder, view, flip=True).read_bytes() == encode_jpeg(mirror)
        assert cv2.PSNR(np.ascontiguousarray(mirror), np.ascontiguousarray(pixels(folder, view, flip=True))) > 40


@pytest.mark.parametrize(("view", "flip"), [(0, False), (N_VIEWS - 1, False), (1, True)])
def test_a_picture_can_be_drawn_again_from_its_file_alone(folder, view, flip):
    """The stored shape, pose, light and texture give the stored pixels, in place to a tenth of a pixel."""
    head, read = load_built_in("all"), annotation(folder, view, flip=flip)
    texture = LinearAlbedo(head).albedo(read.texture) * np.float32(255)
    mesh = PaintedMesh.of(head.vertices(read.coefficients), head.triangles, texture)
    picture = pixels(folder, view, flip=flip)
    again = draw_portrait(
        mesh,
        camera=read.camera,
        light=PhongLight.from_illum_para(read.illumination),
        color=ColorTransform.from_color_para(read.color),
        background=np.full((SIZE, SIZE, 3), -10, np.float32),
    )
    seen = (again >= 0).all(axis=-1)  # not the background, nor mixed with it on the outline
    difference = np.abs(again * 255 - picture)[seen]
    assert np.median(difference) < 5
    assert np.abs(shift_px(again * 255, picture, where=seen)).max() < 0.1
    moved = np.roll(picture, (0, 1), axis=(0, 1))
    np.testing.assert_allclose(shift_px(again * 255, moved, where=seen), (1, 0), atol=0.25)  # it would be noticed


def shift_px(one, other, *, where):
    """How far `other` lies to the right of and below `one` (Lucas and Kanade's step), whatever the contrast."""
    one, other = (cv2.GaussianBlur(p.astype(np.float32).mean(axis=-1), (0, 0), 1.5) for p in (one, other))
    inside = cv2.erode(where.astype(np.uint8), np.ones((15, 15))) > 0  # where the blur saw no background
    slopes = [cv2.Sobel(one, cv2.CV_32F, *axis) / 8 for axis in ((1, 0), (0, 1))]
    columns = np.stack([*slopes, one, np.ones_like(one)], axis=-1)[inside]
    solution, *_ = np.linalg.lstsq(columns, other[inside])
    return -solution[:2]


def test_inner_landmarks_sit_on_the_face_that_is_drawn(face):
    shot, head = draw_shot(FAMILY, 0, face), load_built_in("all")
    buffers = rasterize(shot.camera.project(face.mesh.vertices), head.triangles, size_hw=(SIZE, SIZE))
    x, y, z = shot.camera.project(face.landmarks).T
    depth = buffers.depth[np.rint(y).astype(int), np.rint(x).astype(int)]
    behind_px = (depth - z)[INNER]
    assert np.abs(np.median(behind_px)) < 0.5
    assert (np.abs(behind_px) < 2.5).mean() > 0.85
    jaw_is_on_the_head = np.isfinite(depth[:17]).mean()
    assert jaw_is_on_the_head > 0.7  # fixed jaw points of the far side may lie on the silhouette itself


# ------------------------------------------------------------------------------------------------ running it


def test_a_finished_folder_is_left_alone(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    record = write_sample_folder(folder, **SETTINGS)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert (record.families, record.pictures) == (1, 2 * N_VIEWS + 2)


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(folder, tmp_path):
    heard = []
    write_sample_folder(tmp_path, **SETTINGS, workers=2, progress=lambda done, total: heard.append((done, total)))
    assert contents(tmp_path) == contents(folder)
    assert heard == [(1, 1)]


def test_what_is_missing_is_written_and_nothing_else(folder, tmp_path):
    for path, content in contents(folder).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    os.rename(tmp_path / "sample.json", tmp_path / "sample.unfinished.json")  # as a run that was stopped leaves it
    FAMILY.path(tmp_path, 2, flip=True).unlink()
    (tmp_path / "AFW_Flip" / "astronaut_0.mat").unlink()
    (tmp_path / "AFW" / "astronaut_0.jpg.4711.partial").write_bytes(b"half a pict")
    write_sample_folder(tmp_path, **SETTINGS)
    assert contents(tmp_path) == contents(folder)


def test_another_sample_is_never_mixed_in(folder):
    with pytest.raises(ValueError, match=r"describes another sample.*choose another folder"):
        write_sample_folder(folder, **{**SETTINGS, "seed": 6})


def test_a_sample_of_nobody_is_refused():
    with pytest.raises(ValueError, match="0 identities × 1 expressions × 2 views"):
        plan_families(seed=0, n_identities=0, n_expressions=1, n_views=2)


# ------------------------------------------------------------------------------------------------ the photograph


def test_the_photographs_square_is_the_one_that_roi_names(folder):
    values = scipy.io.loadmat(folder / "AFW" / "astronaut_0.mat")
    left, top, right, bottom = values["roi"][0].astype(float)
    corners = np.array([[left - 1.5, top - 1.5], [right - 0.5, bottom - 0.5]])  # the square's border, zero-based
    np.testing.assert_allclose(image_from_photograph().apply(corners), [[-0.5, -0.5], [SIZE - 0.5, SIZE - 0.5]])


def test_the_photographs_pixels_lie_where_its_points_say():
    """The enlarged picture, brought back by the similarity, is the photograph."""
    photograph, matrix = skimage.data.astronaut(), image_from_photograph().matrix[:2]
    back = cv2.warpAffine(
        cv2.GaussianBlur(read_photograph(), (0, 0), 0.8),
        matrix,
        (512, 512),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    face = (slice(80, 190), slice(180, 270))
    errors = {
        shift: np.abs(back[face].astype(float) - np.roll(photograph, shift, axis=(0, 1))[face]).mean()
        for shift in itertools.product((-1, 0, 1), (-1, 0, 1))
    }
    assert min(errors, key=errors.get) == (0, 0)
    assert errors[0, 0] < 4


@pytest.mark.parametrize("subset", ["AFW", "AFW_Flip"])
def test_the_photographs_annotation_is_a_fit_to_its_points(folder, skin, subset):
    read = read_annotation(folder / subset / "astronaut_0.mat")
    expected = image_from_photograph().apply(photograph_landmarks_px())
    if subset == "AFW_Flip":
        expected = Similarity2D.mirror(SIZE).apply(expected)[MIRROR]
    np.testing.assert_allclose(read.landmarks_px[:, :2], expected, atol=1e-9)
    fitted = read.camera.project(skin.rows(skin.landmarks).positions(read.coefficients))[:, :2]
    assert np.linalg.norm(fitted - expected, axis=1)[INNER].mean() < 2.5
    assert abs(np.degrees(yaw_from_rotation(read.camera.rotation))) < 6
    in_stddevs = read.coefficients.in_stddevs(skin)
    assert np.abs(np.concatenate([in_stddevs.identity, in_stddevs.expression])).max() < 3.5


def test_points_without_a_face_are_refused():
    with pytest.raises(ValueError, match="astronaut_0 cannot be fitted: the landmarks coincide"):
        fit_photograph(np.zeros((68, 2)))

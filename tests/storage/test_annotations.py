"""Annotation files: the units, the pixel base, and the traps of `_Flip` and `_k`."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.camera import ScaledOrthographicCamera
from geometry.landmarks import MIRROR
from geometry.morphable_model import Coefficients, DenseModel
from geometry.rotation import rotation_from_euler
from storage.annotations import (
    annotations_from_variables,
    check_sidecar,
    read_annotation,
    read_sidecar,
    write_annotation,
)
from storage.bad_sample import BadSample, Rejected
from storage.file_names import ViewName, view_of_path

HEIGHT = 450


def toy_model(name: str = "toy", seed: int = 0) -> DenseModel:
    """68 scattered vertices, all of them landmarks; 5 identity and 3 expression modes in the scaling of 300W-LP."""
    rng = np.random.default_rng(seed)
    return DenseModel(
        name=name,
        licence="none",
        mean=rng.uniform(-80, 80, (68, 3)).astype(np.float32),
        identity_basis=(1e-3 * rng.normal(0, 1 / 14, (5, 204))).astype(np.float32),
        expression_basis=rng.normal(0, 1, (3, 204)).astype(np.float32),
        identity_stddevs=np.array([5e5, 4e5, 3e5, 2e5, 1e5]),
        expression_stddevs=np.array([1.6, 1.5, 0.9]),
        triangles=np.array([[0, 1, 2]], np.int32),
        landmark_vertices=np.arange(68, dtype=np.int32),
        regions=np.zeros(68, np.uint8),
    )


MODEL = toy_model()


def face(seed: int = 0, *, scale: float = 1.3, angles: tuple[float, float, float] = (-0.13, -0.77, 0.06)):
    """Coefficients, camera and exact landmarks of a face that looks to one side, off the picture's centre."""
    rng = np.random.default_rng(seed)
    coefficients = Coefficients(rng.normal(size=5) * MODEL.identity_stddevs, rng.normal(size=3))
    camera = ScaledOrthographicCamera(scale, rotation_from_euler(*angles), np.array([182.5, 260.25, -81.75]))
    return coefficients, camera, camera.project(MODEL.vertices(coefficients).astype(np.float64))


def write_face(path: Path, seed: int = 0, **changes: object) -> None:
    coefficients, camera, landmarks = face(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = {"coefficients": coefficients, "camera": camera, "landmarks_px": landmarks, "model": MODEL}
    write_annotation(path, **(arguments | changes))


def official(**changes: object) -> dict[str, object]:
    """The variables of a 300W-LP file by hand; None takes one away."""
    rng = np.random.default_rng(3)
    variables = {
        "pt2d": rng.uniform(1, 450, (2, 68)),
        "roi": np.array([[53, -166, 638, 419]], np.int16),
        "Illum_Para": rng.uniform(0, 1, (1, 10)),
        "Color_Para": rng.uniform(0, 1, (1, 7)).astype(np.float32),
        "Tex_Para": rng.normal(0, 100, (199, 1)),
        "Shape_Para": rng.normal(0, 3e5, (199, 1)),
        "Exp_Para": rng.normal(0, 1, (29, 1)),
        "Pose_Para": np.array([[-0.25, 0.5, 0.125, 183.5, 189.25, -81.75, 2.0**-10]], np.float32),
    }
    return {name: value for name, value in (variables | changes).items() if value is not None}


def saved(path: Path, **changes: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, official(**changes), do_compression=True)
    return path


# --- the pixel base ---


def test_the_first_pixel_is_zero_and_y_counts_from_the_top(tmp_path):
    """Stored values are MATLAB's (X, h + 1 − Y): a point on the picture's first pixel is stored as (1, 1), Y = h."""
    stored = np.ones((2, 68))
    stored[:, 1] = 450.0
    path = saved(
        tmp_path / "AFW_7_0.mat",
        pt2d=stored,
        Pose_Para=np.array([[0, 0, 0, 1, 450, 0, 1e-3]], np.float32),
    )
    annotation = read_annotation(path)
    np.testing.assert_array_equal(annotation.landmarks_px[0, :2], [0, 0])
    np.testing.assert_array_equal(annotation.landmarks_px[1, :2], [449, 449])
    np.testing.assert_array_equal(annotation.camera.project(np.zeros((1, 3)))[0], [0, 0, 0])


def test_units_are_millimetres_and_pixels(tmp_path):
    annotation = read_annotation(saved(tmp_path / "AFW_7_0.mat"), image_height=400)
    assert annotation.camera.scale == 1000 / 1024
    np.testing.assert_array_equal(annotation.camera.translation_px, [182.5, 400 - 189.25, -81.75])
    np.testing.assert_allclose(annotation.camera.rotation, rotation_from_euler(-0.25, 0.5, 0.125), atol=1e-15)
    assert annotation.roi.tolist() == [53, -166, 638, 419]
    assert annotation.kind == "300W-LP"
    assert annotation.image_height == 400
    assert annotation.texture.shape == (199,)
    assert annotation.illumination.shape == (10,)
    assert annotation.color.shape == (7,)


def test_the_published_recipe_is_a_pixel_off_in_x_and_in_y(tmp_path):
    """face3d: x = X, y = h − 1 − Y. Camera and landmarks move together, so that the file still agrees with itself."""
    path = saved(tmp_path / "AFW_7_0.mat")
    true, published = read_annotation(path), read_annotation(path, compat="face3d")
    np.testing.assert_array_equal(published.camera.translation_px, [183.5, 450 - 1 - 189.25, -81.75])
    np.testing.assert_array_equal((published.landmarks_px - true.landmarks_px)[:, :2], np.tile([1.0, -1.0], (68, 1)))


def test_stored_landmarks_lie_on_the_projected_model(tmp_path):
    """The official formula by hand, in micrometres and MATLAB's pixels, against our camera."""
    coefficients, camera, _ = face()
    vertices_um = 1e3 * MODEL.vertices(coefficients).astype(np.float64)
    t_x, t_y, t_z, f = 183.5, 189.75, -81.75, 1.3e-3
    projected = f * vertices_um @ camera.rotation.T + [t_x, t_y, t_z]
    stored = np.stack([projected[:, 0], HEIGHT + 1 - projected[:, 1]])
    path = saved(
        tmp_path / "IBUG_image_008_1_0.mat",
        pt2d=stored,
        Shape_Para=coefficients.identity[:, None],
        Exp_Para=coefficients.expression[:, None],
        Pose_Para=np.array([[-0.13, -0.77, 0.06, t_x, t_y, t_z, f]], np.float32),
    )
    annotation = read_annotation(path)
    ours = annotation.camera.project(MODEL.vertices(annotation.coefficients).astype(np.float64))
    np.testing.assert_allclose(ours[:, :2], annotation.landmarks_px[:, :2], atol=1e-3)


def test_points_of_aflw2000_have_y_downwards_already_and_depth_as_stored(tmp_path):
    points = np.random.default_rng(4).uniform(1, 450, (3, 68)).astype(np.float32)
    annotation = read_annotation(saved(tmp_path / "image00050.mat", pt3d_68=points, pt2d=np.full((2, 21), -1.0)))
    assert annotation.kind == "AFLW2000-3D"
    np.testing.assert_array_equal(annotation.landmarks_px, points.T.astype(np.float64) - [1, 1, 0])


# --- the traps ---


@pytest.mark.parametrize("name", ["AFW_Flip/AFW_7_1_0", "AFW/AFW_7_1_0_Flip", "AFW/AFW_7_1_Flip_0", "afw_flip/x_0"])
def test_points_of_a_mirrored_picture_get_their_new_names(tmp_path, name):
    """`pt2d` of a _Flip file is mirrored, x + x_flip = w + 1, under its old names."""
    original = official()["pt2d"]
    mirrored = np.stack([451 - original[0], original[1]])
    annotation = read_annotation(saved(tmp_path / f"{name}.mat", pt2d=mirrored))
    ours = read_annotation(saved(tmp_path / "AFW" / "AFW_7_1_0.mat", pt2d=original)).landmarks_px[:, :2]
    expected = np.stack([449 - ours[:, 0], ours[:, 1]], axis=1)[MIRROR]
    np.testing.assert_allclose(annotation.landmarks_px[:, :2], expected, atol=1e-12)


def test_points_of_a_turned_view_are_unknown(tmp_path):
    """`pt2d` of _1, _2, … is a copy of the _0 file's and wrong for the turned picture."""
    for k, known in ((0, True), (1, False), (2, False), (17, False)):
        annotation = read_annotation(saved(tmp_path / f"IBUG_image_008_1_{k}.mat"))
        assert np.isfinite(annotation.landmarks_px[:, :2]).all() == known
        assert np.isnan(annotation.landmarks_px[:, 2]).all()
        assert np.isnan(annotation.landmarks_px).all() != known


@pytest.mark.parametrize(
    ("path", "view"),
    [
        ("AFW/AFW_134212_1_0.mat", ViewName("AFW_134212_1", False, 0)),
        ("AFW_Flip/AFW_134212_1_12.mat", ViewName("AFW_134212_1", True, 12)),
        ("AFW/AFW_134212_1_0_Flip.mat", ViewName("AFW_134212_1", True, 0)),
        ("AFW/AFW_134212_1_Flip_3.mat", ViewName("AFW_134212_1", True, 3)),
        ("AFLW2000/image00050.mat", ViewName("image00050", False, 0)),
        ("astronaut.mat", ViewName("astronaut", False, 0)),
        ("HELEN/HELEN_100032540_1_0.jpg", ViewName("HELEN_100032540_1", False, 0)),
        ("_3.mat", ViewName("_3", False, 0)),
        ("a/Backflip.mat", ViewName("Backflip", False, 0)),
    ],
)
def test_names_say_photograph_mirror_and_view(path, view):
    assert view_of_path(path) == view


# --- every signature that was met ---


@pytest.mark.parametrize(
    "changes",
    [
        {"Exp_Para": np.zeros((29, 1), np.uint8)},
        {"Shape_Para": np.ones((199, 1), np.float32), "Exp_Para": np.ones((29, 1), np.float32)},
        {"pt2d": np.full((2, 21), -1.0), "pt3d_68": np.ones((3, 68))},
        {"pt2d": np.full((2, 23), -1.0), "pt3d_68": np.ones((3, 68), np.float32)},
        {"pt2d": None},
        {"pt2d": np.full((2, 21), -1.0)},
        {"roi": None, "Tex_Para": None, "Illum_Para": None, "Color_Para": None, "pt2d": None},
        {"notes": "kept by hand", "pt2d_other": np.zeros((3, 3))},
        {"roi": np.array([[1.0, 2.0, 3.0, 4.0]])},
        {"Shape_Para": np.ones((40, 1)), "Exp_Para": np.ones((10, 1))},
    ],
)
def test_every_signature_reads(tmp_path, changes):
    annotation = read_annotation(saved(tmp_path / "image00050.mat", **changes))
    wanted = official(**changes)
    np.testing.assert_array_equal(annotation.coefficients.expression, wanted["Exp_Para"][:, 0])
    assert annotation.coefficients.identity.dtype == np.float64
    assert (annotation.roi is None) == ("roi" not in wanted)
    assert (annotation.texture is None) == ("Tex_Para" not in wanted)
    assert annotation.landmarks_px.shape == (68, 3)


def test_a_negative_scale_and_angles_beyond_a_turn_are_kept(tmp_path):
    """image04157 and image00032 of AFLW2000-3D."""
    pose = np.array([[893.7, 187.8, -950.6, 200, 200, 0, -0.001489 * 180 / np.pi]]) * np.pi / 180
    annotation = read_annotation(saved(tmp_path / "image04157.mat", Pose_Para=pose))
    assert annotation.camera.scale == pytest.approx(-1.489)
    np.testing.assert_allclose(annotation.camera.rotation @ annotation.camera.rotation.T, np.eye(3), atol=1e-12)


def test_many_files_at_once_give_what_one_at_a_time_gives_bit_for_bit(tmp_path):
    rng = np.random.default_rng(5)
    poses = [np.array([[*rng.normal(size=3), 200, 180, 0, 1e-3]], np.float32) for _ in range(37)]
    variables = [official(Pose_Para=pose) for pose in poses]
    bad = BadSample("mat.crash", "it ended")
    together = annotations_from_variables([*variables, bad], views=[ViewName("x", False, 0)] * 38)
    for pose, one in zip(poses, together, strict=False):
        alone = read_annotation(saved(tmp_path / "x_0.mat", Pose_Para=pose))
        assert alone.camera.rotation.tobytes() == one.camera.rotation.tobytes()
        np.testing.assert_array_equal(alone.landmarks_px, one.landmarks_px)
    assert together[-1] is bad


def test_each_file_counts_from_the_lower_edge_of_its_own_picture():
    heights = [450, 300, 1200]
    views = [ViewName("x", False, 0)] * 3
    found = annotations_from_variables([official()] * 3, views=views, image_height=heights)
    down = [one.camera.translation_px[1] for one in found]
    np.testing.assert_allclose(np.subtract(down, heights), down[0] - 450)
    assert [one.image_height for one in found] == heights


# --- files that are whole and wrong ---


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"Pose_Para": None}, "mat.missing_key", "there is no Pose_Para"),
        ({"Shape_Para": None}, "mat.missing_key", "there is no Shape_Para"),
        ({"Exp_Para": None}, "mat.missing_key", "there is no Exp_Para"),
        ({"Pose_Para": np.full((1, 7), np.nan, np.float32)}, "param.nonfinite", "number 1 of Pose_Para is nan"),
        ({"Exp_Para": np.r_[np.ones(28), np.inf][:, None]}, "param.nonfinite", "number 29 of Exp_Para is inf"),
        ({"pt2d": np.full((2, 68), np.nan)}, "param.nonfinite", "number 1 of pt2d is nan"),
        ({"Tex_Para": np.full((199, 1), np.nan)}, "param.nonfinite", "number 1 of Tex_Para is nan"),
        ({"pt2d": np.ones((68, 2))}, "mat.shape", "pt2d is 68×2 where 2×68 is expected"),
        ({"pt2d": np.ones((2, 66))}, "mat.shape", "pt2d is 2×66 where 2×68 is expected"),
        ({"pt3d_68": np.ones((68, 3))}, "mat.shape", "pt3d_68 is 68×3 where 3×68 is expected"),
        ({"Shape_Para": np.ones((1, 199))}, "mat.shape", "Shape_Para is 1×199 where K×1 is expected"),
        ({"Shape_Para": np.ones((0, 1))}, "mat.shape", "Shape_Para is 0×1 where K×1 is expected"),
        ({"Exp_Para": np.ones((29, 2))}, "mat.shape", "Exp_Para is 29×2 where K×1 is expected"),
        ({"Pose_Para": np.ones((7, 1))}, "mat.shape", "Pose_Para is 7×1 where 1×7 is expected"),
        ({"roi": np.ones((1, 5))}, "mat.shape", "roi is 1×5 where 1×4 is expected"),
        ({"roi": np.array([[1.5, 2, 3, 4]])}, "param.range", "roi is [1.5, 2.0, 3.0, 4.0]; four whole"),
        (
            {"Pose_Para": np.array([[0, 0, 0, 1, 1, 1, 0.0]])},
            "param.range",
            "Pose_Para's scale is 0 pixels per micrometre",
        ),
        (
            {"Pose_Para": np.array([[0, 0, 0, 1, 1, 1, 1.3]])},
            "param.range",
            "Pose_Para's scale is 1.3 pixels per micrometre",
        ),
        # z too, which nobody sees: in single precision it is infinite, and the mesh cannot be drawn
        (
            {"Pose_Para": np.array([[0, 0, 0, 1, 1, 1e39, 1e-3]])},
            "param.range",
            "Pose_Para's translation is (1, 1, 1e+39) px",
        ),
        ({"Exp_Para": np.ones((29, 1)) * 1j}, "mat.complex", "Exp_Para is complex"),
        ({"Shape_Para": {"a": 1}}, "mat.class", "Shape_Para is a struct"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(tmp_path, changes, code, says):
    path = saved(tmp_path / "AFW_7_0.mat", **changes)
    with pytest.raises(BadSample, match=re.escape(f"{path}: {says}")) as caught:
        read_annotation(path)
    assert caught.value.code == code


def test_what_is_no_file_is_refused(tmp_path):
    folder = tmp_path / "AFW_7_0.mat"
    folder.mkdir()
    with pytest.raises(BadSample, match="not a regular file"):
        read_annotation(folder)
    (tmp_path / "empty.mat").touch()
    with pytest.raises(BadSample, match="is empty"):
        read_annotation(tmp_path / "empty.mat")
    with pytest.raises(FileNotFoundError):
        read_annotation(tmp_path / "missing.mat")


def test_a_bad_sample_can_be_counted_and_passed_between_processes():
    bad = BadSample("mat.shape", "roi is 1×5").about("a/b.mat")
    again = copy.copy(bad)  # by the same protocol that carries it to another process
    assert (again.code, again.sentence) == ("mat.shape", "a/b.mat: roi is 1×5")
    assert str(bad) == "a/b.mat: roi is 1×5 [mat.shape]"
    assert Rejected.because("a/b", bad) == Rejected("a/b", "mat.shape", "a/b.mat: roi is 1×5")


# --- writing ---


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    angles=st.tuples(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(-3, 3)),
    scale=st.floats(0.2, 3) | st.floats(-3, -0.2),
    stem=st.sampled_from(["AFW/AFW_7_0", "AFW_Flip/AFW_7_0", "AFW/AFW_7_Flip_0"]),
)
def test_what_was_written_is_read(tmp_path_factory, seed, angles, scale, stem):
    coefficients, camera, landmarks = face(seed, scale=scale, angles=angles)
    path = tmp_path_factory.mktemp("written") / f"{stem}.mat"
    rng = np.random.default_rng(seed)
    extras = {"texture": rng.normal(size=6), "illumination": rng.normal(size=10), "color": rng.normal(size=7)}
    write_face(path, coefficients=coefficients, camera=camera, landmarks_px=landmarks, **extras)
    annotation = read_annotation(path)
    np.testing.assert_array_equal(annotation.coefficients.identity, coefficients.identity)
    np.testing.assert_array_equal(annotation.coefficients.expression, coefficients.expression)
    np.testing.assert_allclose(annotation.landmarks_px[:, :2], landmarks[:, :2], atol=1e-9)
    np.testing.assert_allclose(annotation.camera.rotation, camera.rotation, atol=5e-7)
    np.testing.assert_allclose(annotation.camera.translation_px, camera.translation_px, atol=2e-5)
    assert annotation.camera.scale == pytest.approx(camera.scale, rel=1e-7)
    np.testing.assert_array_equal(annotation.texture, extras["texture"])
    reprojected = annotation.camera.project(MODEL.vertices(annotation.coefficients).astype(np.float64))
    np.testing.assert_allclose(reprojected[:, :2], landmarks[:, :2], atol=1e-3)


def test_a_written_file_has_the_official_keys_types_and_shapes(tmp_path):
    numbers = {"texture": np.zeros(199), "illumination": np.zeros(10), "color": np.zeros(7)}
    write_face(tmp_path / "AFW_7_0.mat", **numbers)
    write_face(tmp_path / "AFW_7_0_Flip.mat", **numbers, flip_dtypes=True)
    expected = {
        "pt2d": ((2, 68), "f8"),
        "roi": ((1, 4), "i2"),
        "Illum_Para": ((1, 10), "f8"),
        "Color_Para": ((1, 7), "f4"),
        "Tex_Para": ((199, 1), "f8"),
        "Shape_Para": ((5, 1), "f8"),
        "Exp_Para": ((3, 1), "f8"),
        "Pose_Para": ((1, 7), "f4"),
    }
    for name, coefficient_type in (("AFW_7_0", "f8"), ("AFW_7_0_Flip", "f4")):
        written = scipy.io.loadmat(tmp_path / f"{name}.mat")
        found = {k: (v.shape, v.dtype.str[1:]) for k, v in written.items() if not k.startswith("__")}
        assert found == expected | {
            "Shape_Para": ((5, 1), coefficient_type),
            "Exp_Para": ((3, 1), coefficient_type),
        }
    assert written["roi"].tolist() == [[1, 1, 450, 450]]


def test_pixels_are_stored_from_one_and_pose_in_micrometres(tmp_path):
    _, camera, landmarks = face()
    write_face(tmp_path / "AFW_7_0.mat")
    written = scipy.io.loadmat(tmp_path / "AFW_7_0.mat")
    np.testing.assert_allclose(written["pt2d"], landmarks[:, :2].T + 1, atol=1e-12)
    x, y, z = camera.translation_px
    expected = [-0.13, -0.77, 0.06, x + 1, 450 - y, z, 1.3e-3]
    np.testing.assert_allclose(written["Pose_Para"][0], expected, rtol=1e-6)


def test_a_copied_pt2d_is_stored_as_it_is_and_read_as_unknown(tmp_path):
    write_face(tmp_path / "AFW_7_0.mat")
    first = scipy.io.loadmat(tmp_path / "AFW_7_0.mat")["pt2d"]
    write_face(tmp_path / "AFW_7_1.mat", landmarks_px=None, pt2d=first)
    assert scipy.io.loadmat(tmp_path / "AFW_7_1.mat")["pt2d"].tobytes() == first.tobytes()
    assert np.isnan(read_annotation(tmp_path / "AFW_7_1.mat").landmarks_px).all()


def test_equal_faces_give_equal_bytes_at_any_time(tmp_path, monkeypatch):
    write_face(tmp_path / "a" / "AFW_7_0.mat")
    monkeypatch.setattr("time.asctime", lambda *_: "Thu Jan  1 00:00:00 1970")
    write_face(tmp_path / "b" / "AFW_7_0.mat")
    files = [(tmp_path / folder / "AFW_7_0.mat").read_bytes() for folder in "ab"]
    assert files[0] == files[1]
    assert files[0][:116].startswith(b"MATLAB 5.0 MAT-file, written by facefoundry")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["AFW_7_0.mat", "model.json"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"landmarks_px": None}, "give either landmarks_px or pt2d"),
        ({"pt2d": np.ones((2, 68))}, "give either landmarks_px or pt2d"),
        ({"landmarks_px": np.full((68, 2), np.nan)}, "pt2d holds NaN or infinity"),
        (
            {"coefficients": Coefficients(np.zeros(4), np.zeros(3))},
            "4 identity and 3 expression coefficients do not fit toy",
        ),
        ({"texture": np.array([np.inf])}, "Tex_Para holds NaN or infinity"),
    ],
)
def test_what_cannot_be_meant_is_not_written(tmp_path, changes, says):
    with pytest.raises(ValueError, match=says):
        write_face(tmp_path / "AFW_7_0.mat", **changes)
    assert not (tmp_path / "AFW_7_0.mat").exists()


# --- which model a folder belongs to ---


def test_a_folder_of_another_model_is_refused(tmp_path):
    write_face(tmp_path / "AFW_7_0.mat")
    check_sidecar(tmp_path, MODEL)
    other = toy_model("someone else's", seed=1)
    sentence = f"{tmp_path} holds coefficients of the model toy ({MODEL.fingerprint}), not of someone else's"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check_sidecar(tmp_path, other)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        write_face(tmp_path / "AFW_8_0.mat", model=other)
    assert not (tmp_path / "AFW_8_0.mat").exists()


def test_a_folder_without_sidecar_passes(tmp_path):
    assert read_sidecar(tmp_path) is None
    check_sidecar(tmp_path, MODEL)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": "toy"}', json.dumps({"model": 1, "n_identity": "x"})])
def test_a_damaged_sidecar_is_refused(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ValueError, match=r"should name the model of the annotations beside it, but cannot be read"):
        check_sidecar(tmp_path, MODEL)

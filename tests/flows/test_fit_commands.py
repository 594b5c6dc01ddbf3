"""`facefoundry fit`, `show` and `fit-landmarks` as people meet them; the astronaut's fit is held to the photograph."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import trimesh

from flows import fit_images as fitting
from geometry import load_model
from geometry.landmarks import INNER, OUTER_EYE_CORNERS
from geometry.mesh import signed_volume, vertex_normals
from render.shaded_view import NoRenderer
from storage.annotations import read_annotation
from storage.detector import LandmarkDetector, Weights
from storage.fit_files import read_fit_file
from storage.landmark_files import read_landmarks, write_pts
from storage.sample_photograph import photograph_landmarks_px

POINTS = photograph_landmarks_px()


@pytest.fixture(scope="module")
def portrait(tmp_path_factory) -> Path:
    """The astronaut as a PNG, with her landmarks beside her; nothing of it leaves the temporary folder."""
    folder = tmp_path_factory.mktemp("portrait")
    cv2.imwrite(str(folder / "astronaut.png"), skimage.data.astronaut()[:, :, ::-1])
    write_pts(folder / "astronaut.pts", POINTS)
    return folder / "astronaut.png"


@pytest.fixture(scope="module")
def fitted_once(portrait, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fitted")
    command = [
        sys.executable,
        "-c",
        "from flows.command_line import main; main()",
        "fit",
        portrait,
        "--out",
        out,
        "--json",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    (found,) = json.loads(ended.stdout)["fits"]
    assert (found["result"], found["landmark_origin"]) == ("converged", "pts")
    return Path(found["path"])


@pytest.fixture
def fitted(fitted_once, tmp_path) -> Path:
    """The fit file of the astronaut in a folder of the test's own."""
    shutil.copytree(fitted_once.parent, tmp_path / "fits")
    return tmp_path / "fits" / fitted_once.name


# ----------------------------------------------------------------------------------------------------------------- fit


def test_the_astronauts_inner_landmarks_lie_within_two_percent_of_the_distance_between_her_eyes(fitted):
    fit = read_fit_file(fitted)
    given, fitted_px = fit.given_px, np.array(fit.fitted_px)
    eyes = np.linalg.norm(np.subtract(*given[list(OUTER_EYE_CORNERS)]))
    error = np.linalg.norm(given - fitted_px, axis=1)
    np.testing.assert_allclose(error, fit.residuals, atol=1e-3)
    assert error[INNER].mean() < 0.02 * eyes
    assert 0 < np.degrees(max(fit.pose_stddev_rad)) < 5
    assert fit.surface_stddev_mm > 1


def test_fit_writes_what_other_tools_read_too(fitted):
    fit, annotation = read_fit_file(fitted), read_annotation(fitted.parent / "astronaut_0.mat")
    picture = cv2.imread(str(fitted.parent / fit.picture))
    assert picture.shape == (450, 450, 3)
    np.testing.assert_array_equal(annotation.coefficients.identity, fit.identity)
    np.testing.assert_allclose(annotation.camera.rotation, fit.rotation, atol=1e-6)
    np.testing.assert_allclose(annotation.landmarks_px[:, :2], fit.similarity.apply(POINTS), atol=1e-4)
    np.testing.assert_allclose(fit.camera.project(load_model("built-in").rows(load_model("built-in").landmarks)
                               .positions(fit.coefficients)), fit.model_landmarks_px, atol=1e-3)  # fmt: skip
    assert {path.name for path in fitted.parent.iterdir()} == {
        "astronaut_0.fit.json", "astronaut_0.jpg", "astronaut_0.mat", "model.json"
    }  # fmt: skip


def test_fit_says_how_sure_it_is(portrait, tmp_path, run):
    code, out, _ = run("fit", portrait, "--out", tmp_path, "--contour", "fixed")
    assert code == 0
    assert f"{tmp_path}/astronaut_0.fit.json: converged" in out
    assert "px of astronaut_0.jpg from the model on average, pose sure to" in out
    assert out.rstrip().endswith("mm")


def test_wrong_points_are_let_go_when_asked(fitted, portrait, tmp_path, run):
    """Seven of the 68 lie 30 px off, upward and to the left."""
    wrong = np.arange(3, 68, 10)
    write_pts(tmp_path / "wrong.pts", POINTS - np.where(np.isin(np.arange(68), wrong)[:, None], (24.0, 18.0), 0.0))
    line = ("fit", portrait, "--landmarks", tmp_path / "wrong.pts", "--out", tmp_path, "--loss")
    code, _, err = run(*line, "squares")
    assert code == 1
    assert "standard deviations from the mean face" in err
    assert "--loss geman_mcclure" in err
    code, _, _ = run(*line, "geman_mcclure")
    assert code == 0
    clean = read_fit_file(fitted).camera.rotation
    apart = np.linalg.norm(read_fit_file(tmp_path / "astronaut_0.fit.json").camera.rotation - clean)
    assert np.degrees(apart / np.sqrt(2)) < 2  # for small angles


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_several_images_take_their_landmarks_from_a_table(portrait, tmp_path, run, suffix):
    for name in ("one.png", "two.png"):
        shutil.copy(portrait, tmp_path / name)
    table = tmp_path / f"t.{suffix}"
    if suffix == "json":
        table.write_text(
            json.dumps([{"path": name, "landmarks_px": POINTS.tolist()} for name in ("one.png", "two.png")])
        )
    else:
        header = ",".join(["path", *(f"{axis}{point}" for point in range(68) for axis in "xy")])
        rows = [",".join([str(tmp_path / name), *map(str, POINTS.ravel())]) for name in ("one.png", "two.png")]
        table.write_text("\n".join([header, *rows]))
    arguments = ("fit", tmp_path / "one.png", tmp_path / "two.png", "--landmarks", table, "--out", tmp_path / "fits")
    code, out, _ = run(*arguments, "--json")
    assert code == 0
    assert [Path(fit["path"]).name for fit in json.loads(out)["fits"]] == ["one_0.fit.json", "two_0.fit.json"]
    one, two = (read_fit_file(tmp_path / "fits" / f"{name}_0.fit.json") for name in ("one", "two"))
    np.testing.assert_allclose(one.identity, two.identity, rtol=1e-6, atol=1e-3)


def test_pictures_of_the_same_person_share_one_identity(portrait, tmp_path, run):
    for name, noise in (("one", 0.0), ("two", 1.0)):
        shutil.copy(portrait, tmp_path / f"{name}.png")
        write_pts(tmp_path / f"{name}.pts", POINTS + noise * np.random.default_rng(2).normal(size=(68, 2)))
    images = [tmp_path / "one.png", tmp_path / "two.png"]
    assert run("fit", *images, "--out", tmp_path / "apart", "--contour", "fixed").code == 0
    assert run("fit", *images, "--out", tmp_path / "together", "--contour", "fixed", "--same-person").code == 0
    apart, together = (
        [read_fit_file(tmp_path / folder / f"{name}_0.fit.json") for name in ("one", "two")]
        for folder in ("apart", "together")
    )
    assert together[0].identity == together[1].identity
    assert apart[0].identity != apart[1].identity
    assert together[0].expression != together[1].expression
    assert together[0].surface_stddev_mm < apart[0].surface_stddev_mm  # two pictures say more than one


def test_an_image_that_cannot_be_used_is_said_and_the_others_are_fitted(portrait, tmp_path, run):
    shutil.copy(portrait, tmp_path / "good.png")
    shutil.copy(portrait.with_suffix(".pts"), tmp_path / "good.pts")
    (tmp_path / "half.png").write_bytes(portrait.read_bytes()[:5000])
    write_pts(tmp_path / "half.pts", POINTS)
    shutil.copy(portrait, tmp_path / "short.png")
    write_pts(tmp_path / "short.pts", POINTS[:67])
    images = [tmp_path / f"{name}.png" for name in ("half", "good", "short")]
    images.append("--contour=fixed")
    code, out, err = run("fit", *images, "--out", tmp_path / "fits", "--json")
    assert code == 1
    printed = json.loads(out)
    assert [Path(fit["image"]).name for fit in printed["fits"]] == ["good.png"]
    assert [bad["code"] for bad in printed["rejected"]] == ["image.truncated", "landmarks.count"]
    code, out, err = run("fit", *images, "--out", tmp_path / "fits")
    assert code == 1
    assert "half.png" in err
    assert "67 points where 68" in err
    assert "good_0.fit.json" in out


class FakeDetector(LandmarkDetector):
    """Stands for dlib: knows the astronaut by heart."""

    def __init__(self, weights: Weights) -> None:
        self.version = "0.0"

    def detect(self, picture: np.ndarray) -> np.ndarray:
        return np.rint(POINTS)


def test_without_landmarks_the_detector_looks_and_its_terms_are_said(portrait, tmp_path, run, monkeypatch):
    alone = tmp_path / "alone.png"
    shutil.copy(portrait, alone)
    arguments = ("fit", alone, "--out", tmp_path / "fits", "--contour", "fixed", "--weights")
    code, out, err = run(*arguments, tmp_path / "none.dat")
    assert (code, out) == (1, "")
    assert f"{alone}: " in err
    assert "shape_predictor_68_face_landmarks.dat" in err
    assert "never downloaded" in err
    (tmp_path / "own.dat").write_bytes(b"weights")
    monkeypatch.setattr(fitting, "LandmarkDetector", FakeDetector)
    code, out, err = run(*arguments, tmp_path / "own.dat")
    assert code == 0
    assert "non-commercial use only" in err
    fit = read_fit_file(tmp_path / "fits" / "alone_0.fit.json")
    assert fit.landmark_origin == "detector"
    assert "non-commercial" in fit.licence


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a.png", "sub/a.png"), "two faces would be called a"),
        (("a.png", "b.png", "--landmarks", "a.pts"), "landmarks of one face, and 2 images"),
        (("a.png", "--landmarks", "a.txt"), "landmarks are read from .pts"),
        (("a.png", "--landmarks", "other.csv"), "names none of the images"),
        (("a.png", "--landmarks", "gone.pts"), "gone.pts"),
        (("gone.png",), "gone.png"),
        (("nowhere.png",), "nowhere.png: No such file or directory"),
        (("a.png", "--scheme", "ibug"), "no landmark scheme 'ibug'"),
        (("a.png", "--model", "gone.mat"), "gone.mat"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(portrait, tmp_path, run, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("a", "b", "sub/a", "gone"):
        shutil.copy(portrait.with_suffix(".pts"), tmp_path / f"{name}.pts")
        shutil.copy(portrait, tmp_path / f"{name}.png")
    (tmp_path / "gone.png").unlink()
    (tmp_path / "a.txt").write_text("1 2")
    Path("other.csv").write_text(",".join(["path", *(f"{a}{p}" for p in range(68) for a in "xy")]) + "\n")
    if "gone.pts" in arguments:
        (tmp_path / "gone.pts").unlink()
    code, out, err = run("fit", *arguments, "--contour", "fixed")
    assert (code, out) == (1, "")
    assert says in err
    assert err.count("\n") == 1


# ---------------------------------------------------------------------------------------------------------------- show


def blank_view(*arguments: object, side: int, **options: object) -> np.ndarray:
    """In pyrender's place where nobody looks: it takes seconds."""
    return np.zeros((side, side, 3), np.uint8)


def test_show_draws_overlay_residuals_and_the_turned_face(fitted, tmp_path, run):
    code, out, err = run("show", fitted, "--save", tmp_path / "x.png")
    assert (code, err) == (0, "")
    assert out.startswith("astronaut: ")
    assert "jaw" in out
    picture = cv2.imread(str(tmp_path / "x.png"))
    assert picture.shape == (18 + 2 * (18 + 384), 3 * 384, 3)
    assert [np.ptp(part) > 150 for part in np.array_split(picture, 3, axis=1)] == [True] * 3


def test_show_does_without_pyrender_unless_a_turned_view_was_asked_for(fitted, tmp_path, run, monkeypatch):
    def missing(*arguments: object, **options: object) -> None:
        raise NoRenderer("pyrender is not there")

    monkeypatch.setattr("flows.fit_pictures.shaded_view", missing)
    code, _, err = run("show", fitted, "--save", tmp_path / "x.png")
    assert code == 0
    assert "no turned views: pyrender is not there" in err
    assert cv2.imread(str(tmp_path / "x.png")).shape == (18 + 18 + 384, 3 * 384, 3)
    code, _, err = run("show", fitted, "--save", tmp_path / "x.png", "--turn", "20")
    assert code == 1
    assert "pyrender is not there" in err


@pytest.mark.parametrize(("format", "frame"), [("obj", "picture"), ("ply", "head"), ("glb", "picture")])
def test_an_exported_face_is_right_handed_and_coloured(fitted, tmp_path, run, monkeypatch, format, frame):
    monkeypatch.setattr("flows.fit_pictures.shaded_view", blank_view)
    arguments = ("show", fitted, "--save", tmp_path / "x.png", "--export", format, "--frame", frame, "--json")
    code, out, _ = run(*arguments)
    assert code == 0
    path = Path(json.loads(out)["mesh"])
    assert path == tmp_path / f"x.{format}"
    mesh = trimesh.load_mesh(path, process=False)
    model, fit = load_model("built-in"), read_fit_file(fitted)
    assert signed_volume(np.asarray(mesh.vertices), np.asarray(mesh.faces)) > 0
    assert len(mesh.vertices) == model.n_vertices
    if frame == "head":
        np.testing.assert_allclose(mesh.vertices, model.vertices(fit.coefficients), atol=1e-2)
    else:
        in_picture = fit.camera.project(model.vertices(fit.coefficients).astype(float))
        np.testing.assert_allclose(mesh.vertices[:, 0], in_picture[:, 0], atol=1e-2)
        np.testing.assert_allclose(mesh.vertices[:, 1], 449 - in_picture[:, 1], atol=1e-2)
        np.testing.assert_allclose(mesh.vertices[:, 2], in_picture[:, 2], atol=1e-2)
    colors = np.asarray(mesh.visual.vertex_colors)[:, :3].astype(int)
    nose = colors[model.landmark_vertices[30]]
    assert nose[0] > nose[1] > nose[2]  # skin
    normals = vertex_normals(model.vertices(fit.coefficients).astype(float), model.triangles) @ fit.camera.rotation.T
    grey = 131 if format == "glb" else 190  # linear there, and trimesh leaves it so
    assert (colors[normals[:, 2] < 0] == grey).all()  # what the photograph does not show is grey
    assert (colors[normals[:, 2] > 0.5] != grey).any(axis=1).mean() > 0.8


def test_show_refuses_a_fit_that_is_none_and_a_model_that_is_not_its_own(fitted, tmp_path, run):
    (tmp_path / "x.fit.json").write_text("{}")
    other = json.loads(fitted.read_text())
    other["model"]["fingerprint"] = "0" * 32
    (fitted.parent / "other.fit.json").write_text(json.dumps(other))
    other["picture"] = "../secret.jpg"
    (fitted.parent / "away.fit.json").write_text(json.dumps(other))
    for path, options, says in (
        (tmp_path / "x.fit.json", (), "no fit file of format 1: source_id Field required"),
        (tmp_path / "gone.fit.json", (), "gone.fit.json"),
        (fitted.parent / "other.fit.json", (), "give its files with --model"),
        (fitted.parent / "other.fit.json", ("--model", "built-in"), "it would come out as another face"),
        (fitted.parent / "away.fit.json", (), "no plain file name"),
    ):
        code, out, err = run("show", path, *options)
        assert (code, out) == (1, "")
        assert says in err
        assert err.count("\n") == 1
    shutil.copy(fitted, tmp_path / "y.fit.json")  # without its picture
    code, _, err = run("show", tmp_path / "y.fit.json")
    assert code == 1
    assert "astronaut_0.jpg" in err


def test_show_says_which_file_of_a_folder_of_fits_it_draws(fitted, run):
    for what, says in (
        (fitted.parent, "is a folder of fits; name one of them, such as"),
        (fitted.parent / "astronaut_0.jpg", "is neither a data set's folder nor a fit"),
    ):
        code, _, err = run("show", what)
        assert code == 2
        assert says in " ".join(err.split())


def test_fit_sends_a_folder_to_fit_landmarks(portrait, tmp_path, run):
    code, _, err = run("fit", portrait.parent, "--out", tmp_path / "fits")
    assert code == 1
    assert "is a folder, and `fit` takes pictures; `fit-landmarks` takes a whole folder" in err
    assert not (tmp_path / "fits").exists()


# ------------------------------------------------------------------------------------------------------- fit-landmarks


def test_a_folder_is_fitted_by_one_command_and_its_samples_are_shown(portrait, tmp_path, run, monkeypatch):
    shutil.copytree(portrait.parent, tmp_path / "photographs")
    monkeypatch.setattr("flows.fit_pictures.shaded_view", blank_view)
    arguments = ("fit-landmarks", tmp_path / "photographs", "--out", tmp_path / "out", "--workers=1", "--contour=fixed")
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert set(printed) == {"dataset", "version", "path", "folder", "samples", "rejected", "licence", "seconds"}
    assert (printed["dataset"], printed["samples"], printed["rejected"]) == ("fits", 1, 0)
    assert (Path(printed["folder"]) / "astronaut_0.mat").is_file()
    assert read_landmarks(Path(printed["folder"]) / "astronaut_0.mat").shape == (68, 2)
    code, out, _ = run(*arguments)
    assert code == 0
    assert f"as 300W-LP     {printed['folder']}" in out
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("show", tmp_path / "out" / "fits", "0", "--turn", "-20", "--export", "ply")
    assert code == 0
    assert "mesh: fits-0.ply" in out
    assert Path("fits-0.png").read_bytes().startswith(b"\x89PNG")
    assert run("verify", tmp_path / "out" / "fits").code == 0
    assert run("info", tmp_path / "out" / "fits").code == 0


def test_too_many_bad_faces_end_with_code_3(portrait, tmp_path, run):
    shutil.copytree(portrait.parent, tmp_path / "photographs")
    shutil.copy(portrait, tmp_path / "photographs" / "alone.png")
    arguments = ("fit-landmarks", tmp_path / "photographs", "--out", tmp_path / "out", "--workers=1", "--contour=fixed")
    code, out, err = run(*arguments)
    assert (code, out) == (3, "")
    assert "1 of 2 samples cannot be used" in err
    assert "there are no landmarks beside it" in err


def test_export_of_a_data_set_of_maps_is_wrong_use(tmp_path, run):
    code, _, err = run("show", tmp_path, "--export", "stl")
    assert code == 2
    assert "'stl' is not one of" in err

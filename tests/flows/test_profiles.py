"""`facefoundry profile`: a folder like 300W-LP whose every file is right, whole and the same however it was made."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from flows import presets
from flows.face_profiles import ProfilesConfig, views_of
from flows.local import build_here
from flows.profiles import profile_here
from geometry import load_model
from geometry.landmarks import INNER, MIRROR
from geometry.morphable_model import REGION_NAMES
from geometry.rotation import euler_from_rotation
from render.zbuffer import rasterize
from storage.annotations import read_annotation, write_annotation
from storage.contour_landmarks import contour_landmarks_path, read_contour_landmarks
from storage.fit_files import FOLDER_MARKER
from storage.sources import open_source

STEPS = ProfilesConfig(yaw_step_deg=30)


@pytest.fixture(scope="module")
def photographs(sample_folder, tmp_path_factory) -> Path:
    """Two photographs of the sample and the mirror image of one, with turned views that must be passed over."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("AFW/AFW_7000001_1_0", "AFW_Flip/AFW_7000001_1_0", "HELEN/HELEN_7000101_1_0", "AFW/AFW_7000001_1_2"):
        copy(sample_folder / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def profiled(photographs, tmp_path_factory):
    return profile_here(photographs, out=tmp_path_factory.mktemp("out") / "profiles", config=STEPS, workers=1)


def copy(source: Path, target: Path) -> Path:
    """A picture, its annotation and the folder's model.json."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".jpg", ".mat"):
        shutil.copy(source.with_suffix(suffix), target.with_suffix(suffix))
    shutil.copy(source.parent / "model.json", target.parent)
    return target.with_suffix(".jpg")


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def one_photograph(photographs: Path, folder: Path) -> Path:
    return copy(photographs / "HELEN/HELEN_7000101_1_0", folder / "HELEN/HELEN_7000101_1_0")


# ---------------------------------------------------------------------------------------------------- what is written


def test_families_share_their_coefficients_and_turn_outward_to_profile(profiled):
    listing = open_source(profiled.folder)
    assert not listing.rejected
    families: dict[str, list] = {}
    for item in listing.items:
        families.setdefault(item.family, []).append(item)
    assert set(families) == {"AFW/AFW_7000001_1", "AFW/AFW_7000001_1_Flip", "HELEN/HELEN_7000101_1"}
    for items in families.values():
        assert [item.k for item in items] == list(range(len(items)))
        read = [read_annotation(item.annotation_path) for item in items]
        for annotation in read[1:]:
            np.testing.assert_array_equal(annotation.coefficients.identity, read[0].coefficients.identity)
            np.testing.assert_array_equal(annotation.coefficients.expression, read[0].coefficients.expression)
            assert annotation.camera.scale == read[0].camera.scale
        pitch, yaw, roll = np.degrees([euler_from_rotation(a.camera.rotation) for a in read]).T
        np.testing.assert_allclose(np.diff(np.abs(yaw)), 30, atol=1e-4)
        assert 60 < abs(yaw[-1]) <= 90.0001
        assert (np.sign(yaw) == np.sign(yaw[0])).all()
        np.testing.assert_allclose(pitch, pitch[0], atol=1e-4)
        np.testing.assert_allclose(roll, roll[0], atol=1e-4)
    assert profiled.pictures == len(listing.items)


def test_the_landmarks_stored_in_every_file_are_the_models_projection(profiled):
    model = load_model("built-in")
    rows = model.rows(model.landmarks)
    for path in sorted(profiled.folder.glob("*/*.mat")):
        annotation = read_annotation(path)
        projected = annotation.camera.project(rows.positions(annotation.coefficients))[:, :2]
        named = projected[MIRROR] if "_Flip" in path.parent.name else projected  # the release's trap, kept
        np.testing.assert_allclose(scipy.io.loadmat(path)["pt2d"].T - 1, named, atol=0.5)
        stored = read_contour_landmarks(
            contour_landmarks_path(profiled.folder, path.relative_to(profiled.folder).with_suffix("").as_posix())
        )
        np.testing.assert_allclose(stored.fixed_px, projected, atol=0.05)
        np.testing.assert_allclose(stored.marched_px[INNER], projected[INNER], atol=0.05)


def test_hidden_jaw_points_march_to_the_outline_that_the_view_shows(profiled):
    """In a profile the far jaw lies behind the face; its marched points lie on the outline, and the near ones stay."""
    model = load_model("built-in")
    path = max(profiled.folder.glob("HELEN/*.mat"))
    annotation = read_annotation(path)
    points = read_contour_landmarks(contour_landmarks_path(profiled.folder, f"HELEN/{path.stem}"))
    moved = np.linalg.norm(points.marched_px - points.fixed_px, axis=1)[:17]
    yaw = float(euler_from_rotation(annotation.camera.rotation)[1])
    far, near = (slice(0, 7), slice(10, 17)) if yaw > 0 else (slice(10, 17), slice(0, 7))
    assert moved[far].mean() > 20
    assert moved[near].mean() < 5

    face = ~np.isin(model.regions, [REGION_NAMES.index(name) for name in ("ears", "neck")])
    triangles = np.concatenate([model.triangles, model.closing_triangles])
    shape = annotation.camera.project(model.vertices(annotation.coefficients))
    covered = rasterize(shape, triangles[face[triangles].all(axis=1)], size_hw=(450, 450), cull=False).covered
    to_outline = cv2.distanceTransform(covered.astype(np.uint8), cv2.DIST_L2, 5)
    for x, y in np.rint(points.marched_px[:17][far]).astype(int):
        assert to_outline[y - 3 : y + 4, x - 3 : x + 4].min() < 3


def test_the_photograph_itself_is_kept_to_the_byte(photographs, profiled):
    for name in ("AFW/AFW_7000001_1_0", "AFW_Flip/AFW_7000001_1_0", "HELEN/HELEN_7000101_1_0"):
        assert (profiled.folder / f"{name}.jpg").read_bytes() == (photographs / f"{name}.jpg").read_bytes()
        before, after = (read_annotation(root / f"{name}.mat") for root in (photographs, profiled.folder))
        np.testing.assert_allclose(after.landmarks_px, before.landmarks_px, atol=1e-9)
        np.testing.assert_allclose(after.camera.image_from_model, before.camera.image_from_model, atol=2e-4)
        np.testing.assert_array_equal(after.texture, before.texture)


def test_light_turns_with_the_face(profiled):
    first, last = (read_annotation(profiled.folder / f"AFW/AFW_7000001_1_{k}.mat") for k in (0, 2))
    assert first.illumination is not None
    np.testing.assert_array_equal(first.illumination[:6], last.illumination[:6])
    assert np.abs(first.illumination[6:8] - last.illumination[6:8]).max() > 0.3


def test_position_maps_are_built_from_the_folder_unchanged(profiled, tmp_path):
    built = build_here(
        presets.posmaps_300wlp(size_px=128, maps="parametric"), source=profiled.folder, out=tmp_path, workers=1
    )
    assert (built.samples, built.rejected) == (profiled.pictures, 0)


def test_the_folder_says_what_it_is_and_on_what_terms(photographs, profiled, tmp_path):
    about = json.loads((profiled.folder / FOLDER_MARKER).read_text())
    assert about["config"] == STEPS.model_dump(mode="json")
    assert about["photographs"] == 3
    assert about["licence"] == "the source's own terms apply"
    source = shutil.copytree(photographs, tmp_path / "source")
    (source / FOLDER_MARKER).write_text(json.dumps({"licence": "for monks only", "landmark_origins": {"pts": 3}}))
    again = profile_here(source, out=tmp_path / "out", config=ProfilesConfig(yaw_step_deg=90), workers=1)
    assert again.licence == "for monks only"
    assert json.loads((again.folder / FOLDER_MARKER).read_text())["landmark_origins"] == {"pts": 3}


# ---------------------------------------------------------------------------------------------------- doing it again


def test_bytes_do_not_depend_on_workers_and_a_second_run_does_nothing(photographs, profiled, tmp_path):
    two = profile_here(photographs, out=tmp_path / "profiles", config=STEPS, workers=2)
    assert files(two.folder) == files(profiled.folder)
    before = {
        path: path.stat().st_mtime_ns for path in two.folder.rglob("*.*") if path.is_file() and path.name != ".lock"
    }
    assert profile_here(photographs, out=tmp_path / "profiles", config=STEPS, workers=1) == two
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_that_was_interrupted_goes_on(photographs, profiled, tmp_path):
    folder = shutil.copytree(profiled.folder, tmp_path / "profiles")
    (folder / FOLDER_MARKER).rename(folder / "profiles.unfinished.json")
    for name in ("AFW/AFW_7000001_1_1.jpg", "AFW/AFW_7000001_1_2.mat", "landmarks/HELEN/HELEN_7000101_1_1_pts.mat"):
        (folder / name).unlink()
    (folder / "AFW" / "AFW_7000001_1_1.jpg.123.partial").write_bytes(b"half")
    kept = (folder / "HELEN/HELEN_7000101_1_2.jpg").stat().st_mtime_ns
    profile_here(photographs, out=folder, config=STEPS, workers=1)
    assert files(folder) == files(profiled.folder)
    assert (folder / "HELEN/HELEN_7000101_1_2.jpg").stat().st_mtime_ns == kept


def test_a_file_that_is_gone_is_made_again(photographs, profiled, tmp_path):
    folder = shutil.copytree(profiled.folder, tmp_path / "profiles")
    (folder / "AFW/AFW_7000001_1_2.jpg").unlink()
    profile_here(photographs, out=folder, config=STEPS, workers=1)
    assert files(folder) == files(profiled.folder)


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda out: (out / "thesis.txt").write_text("mine"), "thesis.txt lies in it"),
        (lambda out: (out / FOLDER_MARKER).write_text('{"version": "other"}'), "describes another folder of profiles"),
    ],
)
def test_nothing_of_others_is_overwritten(photographs, tmp_path, prepare, sentence):
    prepare(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        profile_here(photographs, out=tmp_path, config=STEPS, workers=1)


def test_the_output_does_not_lie_in_the_source(photographs):
    with pytest.raises(ValueError, match="lies inside the source"):
        profile_here(photographs, out=photographs / "profiles", config=STEPS)


# ------------------------------------------------------------------------------------------------------------- steps


def test_steps_go_outward_from_the_photographs_own_yaw_and_include_the_last():
    views = views_of(ProfilesConfig(yaw_step_deg=15), yaw=np.radians(-15), pitch=0.1)
    np.testing.assert_allclose(np.degrees([view.yaw for view in views]), [-15, -30, -45, -60, -75, -90])
    assert [view.k for view in views] == list(range(6))
    assert {view.pitch for view in views} == {0.1}
    assert len(views_of(ProfilesConfig(), yaw=np.radians(100), pitch=0.0)) == 1  # AFLW2000-3D has such


def test_both_sides_and_pitches_are_rows_of_their_own():
    config = ProfilesConfig(yaw_step_deg=40, max_yaw_deg=80, sides="both", pitch_deg=(-20,))
    views = views_of(config, yaw=np.radians(10), pitch=0.0)
    np.testing.assert_allclose(np.degrees([v.yaw for v in views]), [10, 50, -30, -70, 10, 50, -30, -70], atol=1e-9)
    np.testing.assert_allclose(np.degrees([v.pitch for v in views]), [0] * 4 + [-20] * 4)


def test_more_views_than_names_have_room_for_are_refused(photographs, tmp_path):
    with pytest.raises(ValueError, match="names have room for 99"):
        profile_here(photographs, out=tmp_path / "out", config=ProfilesConfig(yaw_step_deg=0.5))


# --------------------------------------------------------------------------------------------------------- bad input


def rewritten(picture: Path, encoded: np.ndarray | bytes) -> None:
    picture.write_bytes(bytes(encoded))


def grey(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY))[1].tobytes()


def png_16_bit(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels.astype(np.uint16) * 257)[1].tobytes()


def with_alpha(pixels: np.ndarray) -> bytes:
    alpha = np.full(pixels.shape[:2], 128, np.uint8)
    return cv2.imencode(".png", np.dstack([pixels, alpha]))[1].tobytes()


def exif_rotated(pixels: np.ndarray) -> bytes:
    """A JPEG that tells programs to turn it by a right angle (orientation 6)."""
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
    segment = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def cmyk(pixels: np.ndarray) -> bytes:
    """A JPEG whose frame announces four components: the reader goes by the header."""
    jpeg = bytearray(cv2.imencode(".jpg", pixels)[1].tobytes())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 9] = 4
    return bytes(jpeg)


@pytest.mark.parametrize("encode", [grey, png_16_bit, exif_rotated])
def test_photographs_of_odd_kinds_give_plain_pictures(photographs, tmp_path, encode):
    picture = one_photograph(photographs, tmp_path / "source")
    pixels = cv2.imread(str(picture))
    picture.unlink()
    content = encode(pixels)
    rewritten(picture.with_suffix(".png" if content.startswith(b"\x89PNG") else ".jpg"), content)
    done = profile_here(tmp_path / "source", out=tmp_path / "out", config=ProfilesConfig(yaw_step_deg=60), workers=1)
    assert done.rejected == ()
    expected = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR) if encode is grey else pixels
    written = cv2.imread(str(done.folder / "HELEN/HELEN_7000101_1_0.jpg"))  # a program that turns by EXIF
    assert written.shape == (450, 450, 3)
    assert np.abs(written.astype(int) - expected).mean() < 4
    turned = cv2.imread(str(done.folder / "HELEN/HELEN_7000101_1_1.jpg"))
    assert turned.shape == (450, 450, 3)
    if encode is grey:
        assert np.abs(turned.astype(int) - turned.mean(axis=2, keepdims=True)).max() < 4


@pytest.mark.parametrize(("encode", "code"), [(with_alpha, "image.alpha"), (cmyk, "image.cmyk")])
def test_photographs_without_one_true_colour_are_listed(photographs, tmp_path, encode, code):
    good = one_photograph(photographs, tmp_path / "source")
    bad = copy(photographs / "AFW/AFW_7000001_1_0", tmp_path / "source/AFW/AFW_7000001_1_0")
    pixels = cv2.imread(str(bad))
    bad.unlink()
    content = encode(pixels)
    rewritten(bad.with_suffix(".png" if content.startswith(b"\x89PNG") else ".jpg"), content)
    done = profile_here(
        tmp_path / "source", out=tmp_path / "out", config=ProfilesConfig(yaw_step_deg=60), workers=1, max_bad=0.5
    )
    assert [(r.source_id, r.code) for r in done.rejected] == [("AFW/AFW_7000001_1_0", code)]
    assert (done.folder / "HELEN" / good.name).exists()
    assert not list(done.folder.glob("AFW/*.jpg"))


def test_a_photograph_smaller_than_the_crop_is_refused_and_fits_cut_it_out_instead(photographs, tmp_path, run):
    picture = one_photograph(photographs, tmp_path / "source")
    cv2.imwrite(str(picture), cv2.resize(cv2.imread(str(picture)), (200, 200)))
    code, _, error = run("profile", tmp_path / "source", "--out", tmp_path / "out", "--workers=1")
    assert code == 3
    assert "image.size" in error
    assert "450" in error


def shifted(photographs: Path, folder: Path, **change) -> None:
    """One photograph whose fit was changed."""
    picture = one_photograph(photographs, folder)
    annotation = read_annotation(picture.with_suffix(".mat"))
    write_annotation(
        picture.with_suffix(".mat"),
        coefficients=annotation.coefficients,
        camera=replace(annotation.camera, **change),
        landmarks_px=annotation.landmarks_px[:, :2],
        model=load_model("built-in"),
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"translation_px": np.array([900.0, 200.0, 0.0])}, "landmarks.disagree"),
        ({"translation_px": np.array([260.0, 300.0, 0.0]), "scale": 2.9}, "landmarks.disagree"),
        ({"scale": -1.3}, "landmarks.disagree"),
    ],
)
def test_a_fit_that_is_not_the_pictures_is_listed(photographs, tmp_path, run, change, code):
    shifted(photographs, tmp_path / "source", **change)
    copy(photographs / "AFW/AFW_7000001_1_0", tmp_path / "source/AFW/AFW_7000001_1_0")
    arguments = ("profile", tmp_path / "source", "--out", tmp_path / "out", "--workers=1", "--yaw-step=60")
    ended, _, error = run(*arguments)
    assert ended == 3
    assert code in error
    assert not (tmp_path / "out" / FOLDER_MARKER).exists()
    ended, printed, _ = run(*arguments, "--max-bad=0.5", "--json")
    assert ended == 0
    (rejected,) = json.loads(printed)["rejected"]
    assert (rejected["source_id"], rejected["code"]) == ("HELEN/HELEN_7000101_1_0", code)


def test_a_face_cut_by_the_border_is_turned_all_the_same(photographs, tmp_path):
    """The whole picture is moved with its fit until half of the face is gone."""
    picture = one_photograph(photographs, tmp_path / "source")
    annotation = read_annotation(picture.with_suffix(".mat"))
    by = 450 - float(annotation.landmarks_px[30, 0])  # the nose stands on the border
    pixels = cv2.imread(str(picture))
    cv2.imwrite(str(picture), cv2.warpAffine(pixels, np.array([[1.0, 0.0, by], [0.0, 1.0, 0.0]]), (450, 450)))
    write_annotation(
        picture.with_suffix(".mat"),
        coefficients=annotation.coefficients,
        camera=replace(annotation.camera, translation_px=annotation.camera.translation_px + (by, 0, 0)),
        landmarks_px=annotation.landmarks_px[:, :2] + (by, 0),
        model=load_model("built-in"),
    )
    done = profile_here(tmp_path / "source", out=tmp_path / "out", config=ProfilesConfig(yaw_step_deg=45), workers=1)
    assert done.rejected == ()
    assert done.pictures >= 2


def test_two_photographs_of_one_name_are_not_mixed_up(photographs, tmp_path):
    for name in ("portrait", "portrait_0"):
        copy(photographs / "HELEN/HELEN_7000101_1_0", tmp_path / "source" / name)
    done = profile_here(
        tmp_path / "source", out=tmp_path / "out", config=ProfilesConfig(yaw_step_deg=80), workers=1, max_bad=0.5
    )
    assert [r.code for r in done.rejected] == ["source.duplicate"]
    assert done.photographs == 1


def test_a_source_without_photographs_says_so(sample_folder, tmp_path):
    copy(sample_folder / "AFW/AFW_7000001_1_2", tmp_path / "source/AFW/AFW_7000001_1_2")
    with pytest.raises(ValueError, match="no photograph that could be turned"):
        profile_here(tmp_path / "source", out=tmp_path / "out")


def test_the_command_line_prints_one_object(photographs, tmp_path, run):
    arguments = (
        "profile",
        photographs,
        "--out",
        tmp_path / "out",
        "--yaw-step=80",
        "--pitch=10",
        "--workers=1",
        "--json",
    )
    code, printed, _ = run(*arguments)
    assert code == 0
    found = json.loads(printed)
    assert found["photographs"] == 3
    assert found["pictures"] == len(list(Path(found["folder"]).rglob("*.jpg")))
    code, _, error = run("profile", photographs, "--out", tmp_path / "o", "--yaw-step=-1")
    assert code == 2
    assert "--yaw-step -1" in error

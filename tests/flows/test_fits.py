"""Photographs and landmarks to fits: a data set, and a folder that the main job reads like 300W-LP."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from flows import fit_shards, fits, presets
from flows.config import FitsConfig, PosmapConfig
from flows.errors import SourceChanged, TooManyBad
from flows.face_fits import landmarks_of_68
from flows.fit_folder import PublishedFits, annotate_shard, finish_folder
from flows.fit_shards import fit_shard, fitted_shard
from flows.local import build_here
from geometry import load_model
from geometry.fit_result import FitConfig
from geometry.frames import Similarity2D
from geometry.landmarks import INNER, JAW, MIRROR, SCHEMES
from geometry.rotation import rotation_from_euler
from render.crop import CropConfig
from storage.annotations import read_annotation
from storage.dataset import open_dataset
from storage.detector import LICENCE, LandmarkDetector, Weights
from storage.fit_files import FOLDER_MARKER
from storage.images import decode_image
from storage.landmark_files import read_landmarks, write_pts
from storage.local_store import LocalStore
from storage.sample_photographs import write_sample_photographs
from storage.sources import open_source
from storage.synthetic import write_sample_folder
from storage.verify import verify
from tests.folders import tree

SMALL = FitsConfig(fit=FitConfig(contour="fixed"), shard_size=2)
"""Jaw points of the sample are fixed vertices, so they do not march. Three shards of five faces."""


@pytest.fixture(scope="module")
def drawn_folder(tmp_path_factory) -> Path:
    """Two people, one view each, their mirror images, the photograph and its own."""
    folder = tmp_path_factory.mktemp("source") / "sample"
    write_sample_folder(folder, n_identities=2, n_expressions=1, n_views=1)
    return folder


@pytest.fixture(scope="module")
def photographs(drawn_folder, tmp_path_factory) -> Path:
    """Two drawn people and the astronaut with .pts files, and one of the people again with .json and with .mat."""
    folder = tmp_path_factory.mktemp("photographs")
    write_sample_photographs(folder, drawn_folder)
    drawn = sorted(folder.glob("HELEN/*.jpg"))[0]
    (folder / "more").mkdir()
    shutil.copy(drawn, folder / "more" / "a.jpg")
    points = read_landmarks(drawn.with_suffix(".pts"))
    (folder / "more" / "a.json").write_text(json.dumps({"landmarks_px": points.tolist()}))
    shutil.copy(drawn, folder / "more" / "b_0.jpg")
    scipy.io.savemat(folder / "more" / "b_0.mat", {"pt2d": points.T + 1})
    return folder


@pytest.fixture(scope="module")
def fitted(photographs, tmp_path_factory) -> PublishedFits:
    return fits.fit_here(SMALL, source=photographs, out=tmp_path_factory.mktemp("fitted"), workers=1)


@pytest.fixture(scope="module")
def everything(fitted) -> dict[str, np.ndarray]:
    dataset = open_dataset(fitted.path)
    return dataset.read(range(len(dataset)))


def degrees_between(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(a @ b.T) - 1) / 2, -1, 1))))


# ------------------------------------------------------------------------------------------------------- what comes out


def test_the_samples_own_landmarks_give_back_pose_and_points(everything, drawn_folder):
    """Pose within 3°, points within 1 px of the photograph on average, and the posterior as large as the error."""
    assert len(everything["source_id"]) == 5
    assert set(everything["result"]) == {"converged"}
    for i, name in enumerate(everything["source_id"]):
        if name.startswith("more/"):
            continue
        truth = read_annotation(drawn_folder / f"{name}_0.mat")
        rotation = rotation_from_euler(*everything["pose"][i, :3])
        error = degrees_between(rotation, truth.camera.rotation)
        assert error < 3
        assert error < 3 * np.degrees(np.linalg.norm(everything["pose_stddev"][i]))
        scale = everything["picture_from_photograph"][i, 0, 0]
        limit = 1.0 if "astronaut" not in name else 3.0  # no vertices' places, but a person's, put there by hand
        assert np.nanmean(everything["residual_px"][i]) / scale < limit
    assert (everything["surface_stddev_mm"] > 1).all()


def test_landmarks_of_every_file_format_give_the_same_fit(everything):
    ids = list(everything["source_id"])
    same = [
        next(i for i, name in enumerate(ids) if name.startswith("HELEN/")),
        ids.index("more/a"),
        ids.index("more/b_0"),
    ]
    assert [everything["landmark_origin"][i] for i in same] == ["pts", "json", "mat"]
    for name in ("identity", "expression", "pose", "fitted_px", "image"):
        for other in same[1:]:
            np.testing.assert_allclose(everything[name][other], everything[name][same[0]], rtol=1e-4, atol=1e-3)


def test_the_picture_is_the_square_that_roi_and_similarity_say(everything, photographs):
    for i, name in enumerate(everything["source_id"]):
        photograph = decode_image((photographs / f"{name}.jpg").read_bytes())
        assert everything["photograph_hw"][i].tolist() == list(photograph.shape[:2])
        left, top, right, bottom = everything["roi"][i]
        scale = everything["picture_from_photograph"][i, 0, 0]
        assert right - left == bottom - top
        assert scale == pytest.approx(450 / (right - left + 1))
        given = read_landmarks(next(p for s in ("pts", "json", "mat") if (p := photographs / f"{name}.{s}").exists()))
        moved = Similarity2D(everything["picture_from_photograph"][i]).apply(given)
        np.testing.assert_allclose(everything["landmarks_px"][i], moved, atol=1e-3)
        # a landmark's pixel, found in the picture and in the photograph
        x, y = np.rint(given[30]).astype(int)
        u, v = np.rint(moved[30]).astype(int)
        near = everything["image"][i, v - 3 : v + 4, u - 3 : u + 4].reshape(-1, 3).mean(axis=0)
        np.testing.assert_allclose(near, photograph[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(axis=0), atol=12)


def test_the_data_set_says_what_it_is(fitted):
    assert verify(LocalStore(fitted.path)) == []
    manifest = open_dataset(fitted.path).manifest
    (source,) = manifest.sources
    assert (source.kind, source.n_files) == ("photographs", 10)
    assert source.details["landmark_origins"] == {"json": 1, "mat": 1, "pts": 3}
    assert manifest.statistics["landmark_residual_px"]["n"] == 5
    assert sum(manifest.statistics["yaw_histogram"]["counts"]) == 5
    assert manifest.statistics["results"] == {"converged": 5}
    assert manifest.config["scheme"] == "ibug-68"


def test_the_folder_is_one_that_300w_lp_readers_read(fitted, everything):
    source = open_source(fitted.folder)
    model = load_model("built-in")
    source.check_model(model)
    assert source.rejected == ()
    assert {item.source_id for item in source.items} == {f"{name}_0" for name in everything["source_id"]}
    for i, name in enumerate(everything["source_id"]):
        annotation = read_annotation(fitted.folder / f"{name}_0.mat")
        np.testing.assert_array_equal(annotation.coefficients.identity, everything["identity"][i])
        np.testing.assert_array_equal(annotation.roi, everything["roi"][i])
        np.testing.assert_allclose(annotation.landmarks_px[:, :2], everything["landmarks_px"][i], atol=1e-4)
        projected = annotation.camera.project(model.rows(model.landmarks).positions(annotation.coefficients))
        np.testing.assert_allclose(projected, everything["model_landmarks_px"][i], atol=1e-2)  # float32 poses
        picture = decode_image((fitted.folder / f"{name}_0.jpg").read_bytes(), expected_hw=(450, 450))
        assert np.abs(picture.astype(int) - everything["image"][i]).mean() < 3  # JPEG
    about = json.loads((fitted.folder / FOLDER_MARKER).read_text())
    assert (about["dataset"], about["version"], about["pictures"]) == ("fits", fitted.version, 5)


def test_position_maps_are_built_from_the_folder_unchanged(fitted, everything, tmp_path):
    config = PosmapConfig(crop=CropConfig(size_px=64))
    published = build_here(config, source=fitted.folder, out=tmp_path, workers=1)
    assert (published.samples, published.rejected) == (5, 0)
    dataset = open_dataset(published.path)
    maps = dataset.read(range(5))
    order = [list(maps["source_id"]).index(f"{name}_0") for name in everything["source_id"]]
    np.testing.assert_allclose(maps["identity"][order], everything["identity"], rtol=1e-6)
    # the file's own inner landmarks lie as far from the model as the fit said
    apart = np.linalg.norm(everything["landmarks_px"] - everything["model_landmarks_px"][..., :2], axis=-1)
    inner = apart[:, INNER].mean(axis=1)
    np.testing.assert_allclose(maps["landmark_residual_px"][order], inner, atol=1e-2)


# --------------------------------------------------------------------------------------------- done once, done the same


def test_other_workers_and_orders_give_the_same_bytes(fitted, photographs, tmp_path):
    again = fits.fit_here(SMALL, source=photographs, out=tmp_path / "two", workers=2)
    with fits.opened_fits(SMALL, source=photographs, model="built-in", out=tmp_path / "backwards") as opened:
        for shard in reversed(opened.missing_shards):
            fit_shard(opened.job, shard)
        data_set = fits.publish_fits(opened)
        for shard in reversed(range(3)):
            annotate_shard(opened.job, shard)
        backwards = finish_folder(opened.job, data_set)
    for other in (again, backwards):
        assert tree(other.path) == tree(fitted.path)
        assert tree(other.folder) == tree(fitted.folder)


def test_a_second_run_makes_nothing_but_what_was_deleted(fitted, photographs):
    before = tree(fitted.folder)
    stamps = {path: path.stat().st_mtime_ns for path in fitted.path.rglob("*")}
    victim = sorted(fitted.folder.rglob("*.mat"))[0]
    victim.unlink()
    again = fits.fit_here(SMALL, source=photographs, out=fitted.path.parent.parent, workers=1)
    assert again.version == fitted.version
    assert tree(fitted.folder) == before
    assert {path: path.stat().st_mtime_ns for path in fitted.path.rglob("*")} == stamps


def test_a_build_that_stopped_goes_on_with_the_shards_that_are_missing(fitted, photographs, tmp_path, monkeypatch):
    with fits.opened_fits(SMALL, source=photographs, model="built-in", out=tmp_path) as opened:
        fit_shard(opened.job, 1)
    made = []
    monkeypatch.setattr(fits, "fitted_shard", lambda job, shard: made.append(shard) or fitted_shard(job, shard))
    resumed = fits.fit_here(SMALL, source=photographs, out=tmp_path, workers=1)
    assert made == [0, 2]
    assert tree(resumed.path) == tree(fitted.path)


def test_a_shard_that_the_disk_lost_is_made_again(fitted, photographs, tmp_path, monkeypatch):
    publish, damaged = fits._publish_new, []

    def lose_an_object_first(version, job) -> None:
        if not damaged:
            damaged.extend(sorted(path for path in (job.folder / "image").rglob("c*") if path.is_file())[:1])
            damaged[0].unlink()
        publish(version, job)

    monkeypatch.setattr(fits, "_publish_new", lose_an_object_first)
    mended = fits.fit_here(SMALL, source=photographs, out=tmp_path, workers=1)
    assert damaged
    assert tree(mended.path) == tree(fitted.path)


def test_a_changed_file_is_noticed_and_another_config_is_another_version(photographs, fitted, tmp_path):
    folder = tmp_path / "source"
    shutil.copytree(photographs, folder)
    with fits.opened_fits(SMALL, source=folder, model="built-in", out=tmp_path / "out") as opened:
        assert opened.job.plan.version == fitted.version
        names = json.loads((opened.job.folder / "pictures.json").read_text())["faces"]
        names = [face[0] for face in names]
        for name in ("more/a.jpg", "more/a.json"):
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content + b" ")
            shard = next(s for s in range(3) if names[2 * s : 2 * s + 2].count("more/a"))
            with pytest.raises(SourceChanged, match=name):
                fit_shard(opened.job, shard)
            (folder / name).write_bytes(content)
    other = SMALL.model_copy(update={"margin": 3.0})
    with fits.opened_fits(other, source=folder, model="built-in", out=tmp_path / "out") as opened:
        assert opened.job.plan.version != fitted.version


# ---------------------------------------------------------------------------------------------------------- bad samples


@pytest.fixture
def bad_source(photographs, tmp_path) -> Path:
    """Good photographs, and every way to be wrong under its own name."""
    folder = tmp_path / "bad"
    shutil.copytree(photographs, folder)
    picture = folder / "more" / "a.jpg"
    points = read_landmarks(folder / "more" / "a.json")
    shuffled = points[np.random.default_rng(1).permutation(68)]
    for name, landmarks in {
        "mirrored": points * (-1, 1) + (449, 0),  # left and right changed sides and kept their names
        "equal": np.full((68, 2), 200.0),
        "few": np.where(np.arange(68)[:, None] < 3, points, np.nan),
        "elsewhere": points + 1000,
        "shuffled": shuffled,
        "short": points[:67],
        "broken": points,
    }.items():
        shutil.copy(picture, folder / f"{name}.jpg")
        write_pts(folder / f"{name}.pts", landmarks)
    (folder / "broken.jpg").write_bytes(picture.read_bytes()[:3000])
    shutil.copy(picture, folder / "alone.jpg")
    return folder


def test_every_bad_face_is_a_listed_hole_with_its_reason(bad_source, tmp_path, everything):
    published = fits.fit_here(SMALL, source=bad_source, out=tmp_path / "out", workers=1, max_bad=0.9)
    dataset = open_dataset(published.path)
    codes = {hole.source_id: hole.code for hole in dataset.manifest.rejected}
    assert codes.pop("shuffled") in ("fit.residual", "fit.from_behind")
    assert codes == {
        "mirrored": "fit.from_behind",
        "equal": "fit.collinear",
        "few": "fit.too_few_points",
        "elsewhere": "landmarks.outside",
        "short": "landmarks.count",
        "broken": "image.truncated",
        "alone": "source.no_landmarks",
    }
    assert all(len(hole.reason) > 30 for hole in dataset.manifest.rejected)
    assert list(dataset.read(range(5))["source_id"]) == list(everything["source_id"])
    for name, values in dataset.read(range(5)).items():  # beside other faces, in other shards: the same bits
        np.testing.assert_array_equal(values, everything[name], err_msg=name)
    assert len(open_source(published.folder).items) == 5


def test_a_fit_that_meets_its_points_by_what_is_no_face_is_refused(photographs, tmp_path):
    folder = tmp_path / "noisy"
    folder.mkdir()
    shutil.copy(photographs / "more" / "a.jpg", folder)
    shutil.copy(photographs / "more" / "a.jpg", folder / "noisy.jpg")
    points = read_landmarks(photographs / "more" / "a.json")
    write_pts(folder / "a.pts", points)
    write_pts(folder / "noisy.pts", points + np.random.default_rng(0).normal(0, 4, points.shape))
    trusting = SMALL.model_copy(update={"fit": FitConfig(contour="fixed", noise_px=0.05)})
    published = fits.fit_here(trusting, source=folder, out=tmp_path / "out", workers=1, max_bad=0.9)
    [hole] = open_dataset(published.path).manifest.rejected
    assert (hole.source_id, hole.code) == ("noisy", "fit.implausible")
    assert "standard deviations from the mean face" in hole.reason


def test_a_source_without_a_single_good_face_publishes_nothing(bad_source, tmp_path):
    for path in [*bad_source.glob("*/*"), bad_source / "broken.jpg"]:
        path.unlink()
    with pytest.raises(
        TooManyBad, match="none of the .* samples can be used, so there is nothing to publish. The first: "
    ):
        fits.fit_here(SMALL, source=bad_source, out=tmp_path / "out", workers=1, max_bad=1.0)
    assert not (tmp_path / "out" / "fits" / "latest").exists()


def test_too_many_bad_faces_stop_the_build(bad_source, tmp_path):
    with pytest.raises(TooManyBad, match=r"of 13 samples cannot be used.*--max-bad"):
        fits.fit_here(SMALL, source=bad_source, out=tmp_path, workers=1)
    with pytest.raises(TooManyBad, match="and none may be"):
        fits.fit_here(SMALL, source=bad_source, out=tmp_path, workers=1, fail_on_first=True, max_bad=1.0)
    assert not (tmp_path / "fits" / "latest").exists()


# ---------------------------------------------------------------------------------------- tables, schemes, the detector


def write_csv(path: Path, rows: dict[str, np.ndarray]) -> None:
    n_points = len(next(iter(rows.values())))
    header = ",".join(["path", *(f"{axis}{point}" for point in range(n_points) for axis in "xy")])
    lines = [",".join([name, *map(repr, points.ravel().tolist())]) for name, points in rows.items()]
    path.write_text("\n".join([header, *lines]) + "\n")


def test_a_table_gives_the_fits_that_files_give_and_is_held_to_its_digest(photographs, everything, tmp_path):
    ids = [name for name in everything["source_id"] if not name.startswith("more/")]
    write_csv(tmp_path / "t.csv", {f"{name}.jpg": read_landmarks(photographs / f"{name}.pts") for name in ids})
    published = fits.fit_here(
        SMALL, source=photographs, table=tmp_path / "t.csv", out=tmp_path / "out", workers=1, max_bad=0.5
    )
    dataset = open_dataset(published.path)
    assert (len(dataset), published.rejected) == (3, 2)  # the table does not know more/a and more/b_0
    read = dataset.read(range(3))
    assert set(read["landmark_origin"]) == {"table"}
    at = [list(everything["source_id"]).index(name) for name in read["source_id"]]
    np.testing.assert_allclose(read["pose"], everything["pose"][at], rtol=1e-4, atol=1e-3)
    with fits.opened_fits(
        SMALL, source=photographs, table=tmp_path / "t.csv", model="built-in", out=tmp_path / "later"
    ) as opened:
        (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text() + "\n")
        fit_shards._table.cache_clear()
        with pytest.raises(SourceChanged, match=r"t\.csv has changed"):
            fit_shard(opened.job, 0)


def test_a_scheme_of_51_points_is_fitted_and_the_annotation_still_has_68(photographs, everything, tmp_path):
    name = next(name for name in everything["source_id"] if name.startswith("HELEN/"))
    inner = SCHEMES["inner-51"].of_68(read_landmarks(photographs / f"{name}.pts"))
    inner[4] = np.nan
    write_csv(tmp_path / "t.csv", {f"{name}.jpg": inner})
    config = presets.landmark_fits(scheme="inner-51")
    assert config.fit.contour == "fixed"  # there is no jaw to march
    published = fits.fit_here(
        config, source=photographs, table=tmp_path / "t.csv", out=tmp_path / "out", workers=1, max_bad=0.9
    )
    sample = open_dataset(published.path)[0]
    assert sample["landmarks_px"].shape == (51, 2)
    assert np.isnan(sample["landmarks_px"][4]).all()
    assert np.isnan(sample["residual_px"][4])
    annotation = read_annotation(published.folder / f"{name}_0.mat")
    filled = [*range(17), 17 + 4]
    np.testing.assert_allclose(annotation.landmarks_px[filled, :2], sample["model_landmarks_px"][filled, :2], atol=1e-4)
    given = np.delete(np.arange(68), filled)
    np.testing.assert_allclose(annotation.landmarks_px[given, :2], sample["landmarks_px"][given - 17], atol=1e-4)
    index = list(everything["source_id"]).index(name)
    truth = rotation_from_euler(*everything["pose"][index, :3])
    assert degrees_between(rotation_from_euler(*sample["pose"][:3]), truth) < 3


def test_points_that_are_means_of_several_do_not_become_one_of_the_68():
    model_landmarks = np.random.default_rng(0).uniform(0, 400, (68, 3))
    given = SCHEMES["aflw-21"].of_68(np.zeros((68, 2)))
    points = landmarks_of_68(SCHEMES["aflw-21"], given, model_landmarks)
    single = [places[0] for places in SCHEMES["aflw-21"].members if len(places) == 1 and places[0] < 68]
    assert (points[single] == 0).all()
    rest = np.setdiff1d(np.arange(68), single)
    np.testing.assert_array_equal(points[rest], model_landmarks[rest, :2])


class FakeDetector(LandmarkDetector):
    """Stands for dlib: knows the landmarks of one photograph by heart."""

    def __init__(self, weights: Weights) -> None:
        self.version = "0.0"
        self._by_heart = read_landmarks(weights.path)

    def detect(self, picture: np.ndarray) -> np.ndarray:
        return np.rint(self._by_heart)


def test_detected_faces_are_marked_and_the_terms_go_with_them(photographs, tmp_path, monkeypatch):
    folder = tmp_path / "source"
    (folder / "x").mkdir(parents=True)
    drawn = sorted(photographs.glob("HELEN/*.jpg"))[0]
    for name in ("seen", "given"):
        shutil.copy(drawn, folder / "x" / f"{name}.jpg")
    shutil.copy(drawn.with_suffix(".pts"), folder / "x" / "given.pts")
    weights = tmp_path / "weights.pts"
    shutil.copy(drawn.with_suffix(".pts"), weights)
    for module in (fits, fit_shards):
        monkeypatch.setattr(module, "LandmarkDetector", FakeDetector)
    published = fits.fit_here(SMALL, source=folder, detect=True, weights=weights, out=tmp_path / "out", workers=1)
    dataset = open_dataset(published.path)
    read = dataset.read(range(2))
    assert dict(zip(read["source_id"], read["landmark_origin"], strict=True)) == {
        "x/given": "pts",
        "x/seen": "detector",
    }
    (source,) = dataset.manifest.sources
    assert LICENCE in source.licence
    assert source.details["detector"]["terms"] == LICENCE
    assert source.details["detector"]["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert LICENCE in published.licence
    assert LICENCE in json.loads((published.folder / FOLDER_MARKER).read_text())["licence"]
    maps = build_here(PosmapConfig(crop=CropConfig(size_px=64)), source=published.folder, out=tmp_path, workers=1)
    (of_maps,) = open_dataset(maps.path).manifest.sources  # and on to what is built from the folder
    assert of_maps.licence == source.licence
    assert of_maps.details["fits"]["landmark_origins"] == {"detector": 1, "pts": 1}
    with pytest.raises(ValueError, match="the detector finds the 68 points"):
        fits.fit_here(
            presets.landmark_fits(scheme="inner-51"), source=folder, detect=True, weights=weights, out=tmp_path / "o"
        )


def test_pictures_turned_by_exif_are_fitted_upright_when_their_landmarks_are(photographs, everything, tmp_path):
    drawn = sorted(photographs.glob("HELEN/*.jpg"))[0]
    upright = decode_image(drawn.read_bytes())
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its left side: viewers turn it to the right
    (tmp_path / "source").mkdir()
    Image.fromarray(np.rot90(upright)).save(tmp_path / "source" / "x.png", exif=exif)
    shutil.copy(drawn.with_suffix(".pts"), tmp_path / "source" / "x.pts")
    config = SMALL.model_copy(update={"landmarks_frame": "upright"})
    sample = open_dataset(fits.fit_here(config, source=tmp_path / "source", out=tmp_path / "out", workers=1).path)[0]
    same = next(i for i, name in enumerate(everything["source_id"]) if name.startswith("HELEN/"))
    np.testing.assert_allclose(sample["pose"], everything["pose"][same], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(sample["image"], everything["image"][same])
    stored = fits.fit_here(SMALL, source=tmp_path / "source", out=tmp_path / "stored", workers=1)
    assert np.abs(open_dataset(stored.path)[0]["image"].astype(int) - sample["image"]).mean() > 10


def test_output_inside_the_source_is_refused(photographs):
    with pytest.raises(ValueError, match="would be taken for pictures of it the next time"):
        fits.fit_here(SMALL, source=photographs, out=photographs / "datasets")


def test_a_camera_that_the_files_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="scaled orthographic camera and no other"):
        FitsConfig(fit=FitConfig(camera="perspective"))
    with pytest.raises(ValueError, match="no landmark scheme 'ibug68'"):
        presets.landmark_fits(scheme="ibug68")
    assert presets.landmark_fits().fit.contour == "march"
    assert presets.landmark_fits(contour="fixed", landmarks_frame="upright").fit.contour == "fixed"


def test_mirror_twins_keep_their_landmarks_through_the_folder(photographs, tmp_path):
    """A source folder that ends in _Flip means what it means in 300W-LP, on the way out and on the way in."""
    folder = tmp_path / "source"
    (folder / "AFW_Flip").mkdir(parents=True)
    drawn = sorted(photographs.glob("HELEN/*.jpg"))[0]
    shutil.copy(drawn, folder / "AFW_Flip" / "x.jpg")
    points = read_landmarks(drawn.with_suffix(".pts"))
    write_pts(folder / "AFW_Flip" / "x.pts", points)
    published = fits.fit_here(SMALL, source=folder, out=tmp_path / "out", workers=1)
    annotation = read_annotation(published.folder / "AFW_Flip" / "x_0.mat")
    sample = open_dataset(published.path)[0]
    np.testing.assert_allclose(annotation.landmarks_px[:, :2], sample["landmarks_px"], atol=1e-4)
    stored = scipy.io.loadmat(published.folder / "AFW_Flip" / "x_0.mat")["pt2d"].T - 1
    np.testing.assert_allclose(stored, sample["landmarks_px"][MIRROR], atol=1e-4)
    assert np.abs(stored[JAW] - sample["landmarks_px"][JAW]).max() > 20

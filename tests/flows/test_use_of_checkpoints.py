"""Checkpoints in use: restored, evaluated, predicted with, exported; and the sentence for each that cannot be."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from flows.config import PosmapConfig
from flows.evaluate import evaluate as evaluate_flow
from flows.evaluations import evaluate_here, guessed_protocol
from flows.face_transfer import corresponding, transferred
from flows.local import build_here
from flows.predict import PredictOptions, listed, output_names, predict_here, transfer_here
from flows.presets import densereg_fields
from geometry import load_model
from geometry.camera import ScaledOrthographicCamera
from geometry.mesh import signed_volume
from geometry.morphable_model import Coefficients
from geometry.rotation import rotation_from_euler
from render.crop import CropConfig, crop_from_landmarks
from render.ear_field import ear_crop
from storage.annotations import read_annotation
from storage.dataset import open_dataset
from storage.evaluation_boxes import boxes_by_rule
from storage.evaluation_sets import open_300w, open_aflw2000, open_table
from storage.landmark_files import write_pts
from storage.manifest import Unpublished
from storage.mesh_export import upright_from_picture
from storage.synthetic import write_sample_folder
from storage.views import select
from train.checkpoint import BadCheckpoint, save_checkpoint
from train.dense_errors import DenseTable, PhotographDense
from train.evaluation import MEAN_SHAPE, OURS, TRUE_POSE, Gathered, TrainedOnTest
from train.evaluation_datasets import evaluate_dataset
from train.evaluation_photographs import evaluate_photographs
from train.evaluation_report import METRICS, table_lines, write_report
from train.prediction import NoFace, Prediction, Predictor, landmark_rows
from train.restore import restore
from train.systems import SYSTEMS, system_class
from train.training_data import describe_data

SMALL = {
    "prnet": {"width": 4, "resolution": 32},
    "dan": {"size_px": 32, "widths": (4, 8), "hidden": 16},
    "fan3d": {"size_px": 32, "hourglass_channels": 8, "hourglass_depth": 1, "width": 4},
    "densereg": {"width": 4, "resolution": 33, "depth": True},
    "parts": {"width": 4, "resolution": 33, "kind": "parts"},
}
SIDE = 64


@pytest.fixture(scope="module")
def work(sample_folder, tmp_path_factory) -> Path:
    """A training set, a held-out one of another seed with the same photograph, and a random network of each system."""
    root = tmp_path_factory.mktemp("checkpoints")
    write_sample_folder(root / "other", seed=3, n_identities=1, n_expressions=1, n_views=2)
    for name, source in (("train", sample_folder), ("test", root / "other")):
        config = PosmapConfig(
            name=name,
            crop=CropConfig(size_px=SIDE),
            targets=("posmap", "field", "parts"),
            maps="parametric",
            shard_size=16,
        )
        build_here(config, source=source, out=root, workers=1)
    dataset = open_dataset(root / "train")
    described = describe_data(dataset)
    for name, changes in SMALL.items():
        torch.manual_seed(0)
        system_name = "densereg" if name == "parts" else name
        kind = system_class(system_name)
        config = kind.config_type.model_validate(kind.presets["tiny"]().model_dump() | changes)
        system = kind.for_dataset(config, dataset)
        if name == "densereg":  # a random network may see no face anywhere: this one sees one everywhere
            for axis in "uv":
                system.network.heads[f"{axis}_class"].bias.data[0] = -10
        state = {
            "system": system_name,
            "config": system.config.model_dump(mode="json"),
            "system_state": system.state(),
            "network": system.network.state_dict(),
            "dataset": described,
            "total_steps": 0,
        }
        save_checkpoint(root / f"{name}.pt", state)
    return root


@pytest.fixture(scope="module")
def photographs(work) -> Path:
    """Two of the other sample's pictures as AFLW2000-3D names them, and with .pts beside them in another folder."""
    folder = work / "photographs"
    folder.mkdir()
    for number, picture in enumerate(sorted((work / "other").rglob("*7000001_1_*.jpg"))[:2]):
        annotation = read_annotation(picture.with_suffix(".mat"))
        name = folder / f"photo_{number}"
        name.with_suffix(".jpg").write_bytes(picture.read_bytes())
        if np.isfinite(annotation.landmarks_px[:, :2]).all():
            write_pts(name.with_suffix(".pts"), annotation.landmarks_px[:, :2])
    return folder


def changed(work: Path, tmp_path: Path, name: str, **changes: object) -> Path:
    state = torch.load(work / f"{name}.pt", weights_only=True)
    for key, value in changes.items():
        state[key] = state[key] | value if isinstance(value, dict) else value
    path = tmp_path / "changed.pt"
    state.pop("facefoundry_checkpoint")
    save_checkpoint(path, state)
    return path


# --------------------------------------------------------------------------------------------------- restoring


@pytest.mark.parametrize("name", sorted(SYSTEMS.keys() & SMALL.keys()))
def test_a_restored_system_predicts_what_the_saved_one_did(work, name):
    restored = restore(work / f"{name}.pt")
    assert (restored.system.name, restored.data.crop_px, restored.data.margin) == (name, SIDE, 1.5)
    assert not restored.system.network.training
    crops = open_dataset(work / "test").read([0, 1], ("image",))["image"]
    first, again = (Predictor(restore(work / f"{name}.pt")).predict_crops(crops) for _ in range(2))
    np.testing.assert_array_equal(first[1].landmarks_px, again[1].landmarks_px)
    assert first[0].crop.shape == (SIDE, SIDE, 3)


def test_a_checkpoint_of_another_system_is_refused_by_name(work):
    with pytest.raises(BadCheckpoint, match="is a checkpoint of prnet, not of dan"):
        restore(work / "prnet.pt", system="dan")


def test_a_damaged_checkpoint_and_a_foreign_file_are_refused(work, tmp_path):
    whole = (work / "dan.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("no checkpoint")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "weights.pt")
    for name, sentence in (("cut", "damaged"), ("text", "damaged"), ("weights", "holds weights but is no checkpoint")):
        with pytest.raises(BadCheckpoint, match=sentence):
            restore(tmp_path / f"{name}.pt")


def test_a_checkpoint_never_runs_what_is_in_it(tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"facefoundry_checkpoint": 1, "system": Payload()}, tmp_path / "evil.pt")
    with pytest.raises(BadCheckpoint, match="cannot be read as a checkpoint"):
        restore(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_a_strange_config_and_an_old_file_are_refused(work, tmp_path):
    with pytest.raises(BadCheckpoint, match="weights of another network than its config of prnet"):
        restore(changed(work, tmp_path, "prnet", config={"width": 8}))
    with pytest.raises(BadCheckpoint, match="does not understand .widths: "):
        restore(changed(work, tmp_path, "dan", config={"widths": "many"}))
    with pytest.raises(BadCheckpoint, match="'future', and this program knows dan, densereg"):
        restore(changed(work, tmp_path, "dan", system="future"))
    state = torch.load(work / "dan.pt", weights_only=True)
    state["dataset"].pop("crop_px")
    old = _saved(tmp_path, state)
    with pytest.raises(BadCheckpoint, match="does not say 'crop_px' of its data set"):
        restore(old)


def _saved(tmp_path: Path, state: dict) -> Path:
    state.pop("facefoundry_checkpoint")
    save_checkpoint(tmp_path / "old.pt", state)
    return tmp_path / "old.pt"


# -------------------------------------------------------------------------------------------------- evaluation


class Oracle(Predictor):
    """Says what is true: every measure must be zero, or there is a bug in the measuring."""

    def tell(self, dataset) -> "Oracle":
        self.samples = [dataset[index] for index in range(len(dataset))]
        return self

    def predict_crops(self, crops):
        found = []
        for crop in crops:
            sample = next(s for s in self.samples if np.array_equal(s["image"], crop))
            uv = np.where((sample["label"] == 1)[..., None], sample["uv"], np.nan)
            vertices = sample["position_map"][self.texels].astype(np.float64) if self.system.name == "prnet" else None
            field = None
            if self.system.name == "densereg":
                field = {"uv": uv, "label": sample["label"], "depth": sample["depth"]}
            axes = 3 if vertices is not None else 2
            landmarks = sample["landmarks_px"][:, :axes].astype(np.float64)
            found.append(Prediction(self.crop_of_picture((SIDE, SIDE)), crop, landmarks, vertices, field))
        return found


@pytest.mark.parametrize("name", ["prnet", "densereg"])
def test_whoever_says_the_truth_has_no_error_by_any_measure(work, name):
    dataset = open_dataset(work / "test")
    found = evaluate_dataset(Oracle(restore(work / f"{name}.pt")).tell(dataset), dataset)
    for measure, by_method in found.errors.items():
        if ", field + " in measure:  # the linear model is that of a handful of training shapes
            assert np.max(by_method[OURS]) < (0.01 if "morphable" in measure else 0.05), measure
        else:
            np.testing.assert_allclose(by_method[OURS], 0, atol=1e-6, err_msg=measure)
        assert set(by_method) == {OURS, MEAN_SHAPE, TRUE_POSE}, f"{measure} stands beside both baselines"
        assert by_method[MEAN_SHAPE].mean() + 1e-9 > by_method[TRUE_POSE].mean() > 1e-3
    results = found.document["results"]
    if name == "densereg":
        assert results["parts, pooled IoU"][OURS]["mean_of_8_percent"] == pytest.approx(100)
        assert results["face pixels that are found"][OURS]["percent"] == pytest.approx(100)
        assert results["depth, mean absolute error of [0, 1]"][OURS]["mean"] == pytest.approx(0, abs=1e-6)
        assert np.nanmax(found.template) < 1e-6
    else:
        assert any(measure.startswith("reconstruction, ICP") for measure in results)
        assert any(measure.startswith("dense nme_bbox 3-D") for measure in results)


def test_a_network_of_parts_is_measured_by_them_and_shown(work, photographs, tmp_path):
    done = evaluate_here(work / "parts.pt", work / "test", out=tmp_path / "e", latency=False)
    results = done.document["results"]
    assert set(results) == {"part_error of images", "parts, pooled IoU"}, "it gives no landmarks and no coordinates"
    for row in results.values():
        assert {OURS, MEAN_SHAPE, TRUE_POSE} <= set(row)
    assert results["part_error of images"][TRUE_POSE]["mean_percent"] < 40
    assert {path.name for path in done.written} == {"metrics.json", "card.md", "ced.png", "predictions.png"}
    options = PredictOptions(tmp_path / "p", boxes="whole")
    outcome = predict_here(work / "parts.pt", [photographs / "photo_0.jpg"], options)
    assert [refusal.code for refusal in outcome.rejected] == []
    assert (tmp_path / "p" / "photo_0_parts.png").exists()
    assert outcome.documents[0]["box_px"] is not None


def test_dense_points_of_photographs_stand_beside_both_baselines_and_a_lost_face_is_a_failure(work):
    model, predictor = load_model("built-in"), Predictor(restore(work / "dan.pt"))
    dense = PhotographDense(DenseTable("all vertices"), predictor, model, n_registered=0)
    rng = np.random.default_rng(5)
    face = dense.vertices(Coefficients(model.draw_identity(rng), model.draw_expression(rng)))
    camera = ScaledOrthographicCamera(1.1, rotation_from_euler(0.1, -0.7, 0.2), np.array([220.0, 200.0, 0.0]))
    true = camera.project(face)
    marks = true[model.landmark_vertices]
    box = np.concatenate([marks[:, :2].min(axis=0), marks[:, :2].max(axis=0)])
    found = Prediction(predictor.crop_of_box(box), np.zeros((SIDE, SIDE, 3), np.uint8), marks, true)
    dense.add(found, box, true)
    dense.add(None, box, true)
    gathered = Gathered()
    dense.close(gathered)
    assert len(gathered.errors) == 3
    for name, by_method in gathered.errors.items():
        assert by_method[OURS][0] == pytest.approx(0, abs=1e-9), name
        assert np.isinf(by_method[OURS][1])
        assert by_method[MEAN_SHAPE][0] + 1e-9 > by_method[TRUE_POSE][0] > 5e-3
        assert gathered.results[name][OURS]["n_missing"] == 1


def test_what_was_trained_on_is_left_out_and_the_count_is_told(work):
    test = open_dataset(work / "test")
    found = evaluate_dataset(Predictor(restore(work / "dan.pt")), test)
    # The sample's one real photograph and its mirror image are in both sets; drawn people of another seed are others.
    n_astronauts = sum("astronaut" in name for name in test.read(slice(0, len(test)), ("source_id",))["source_id"])
    assert n_astronauts == 2
    assert found.document["test_data"]["seen_in_training_and_left_out"] == n_astronauts
    assert found.document["n_images"] == len(test) - n_astronauts
    assert "left out: 2 that the checkpoint learnt from" in table_lines(found.document)
    with pytest.raises(TrainedOnTest, match="every photograph or person of train"):
        evaluate_dataset(Predictor(restore(work / "dan.pt")), open_dataset(work / "train"))


def test_a_data_set_is_found_by_name_and_version(work, monkeypatch, tmp_path):
    (tmp_path / "datasets").symlink_to(work)
    monkeypatch.chdir(tmp_path)
    version = open_dataset(work / "test").manifest.version
    done = evaluate_here(work / "dan.pt", "test", version=version, out=tmp_path / "e", latency=False)
    assert done.document["test_data"]["version"] == version
    with pytest.raises(Unpublished, match="no published version other"):
        evaluate_here(work / "dan.pt", "test", version="other", out=tmp_path / "e")
    with pytest.raises(ValueError, match="data sets alone have versions"):
        evaluate_here(work / "dan.pt", "test", version=version, protocol="pts", out=tmp_path / "e")


def test_a_view_knows_whom_it_shows(work):
    dataset = open_dataset(work / "train")
    some = select(dataset, [0])
    seen = describe_data(some)["seen"].splitlines()
    assert len(seen) == 2  # a photograph and a person
    assert set(seen) < set(describe_data(dataset)["seen"].splitlines())


def test_a_data_set_that_lacks_a_target_or_has_other_crops_is_refused(work, sample_folder, tmp_path):
    plain = PosmapConfig(name="plain", crop=CropConfig(size_px=SIDE), maps="parametric", shard_size=16)
    build_here(plain, source=work / "other", out=tmp_path, workers=1)
    with pytest.raises(KeyError, match="plain has no uv, which fields are measured by"):
        evaluate_dataset(Predictor(restore(work / "densereg.pt")), open_dataset(tmp_path / "plain"))
    other = plain.model_copy(update={"name": "larger", "crop": CropConfig(size_px=80)})
    build_here(other, source=work / "other", out=tmp_path, workers=1)
    with pytest.raises(ValueError, match="crops of 80 px and .* was trained on 64 px"):
        evaluate_dataset(Predictor(restore(work / "prnet.pt")), open_dataset(tmp_path / "larger"))
    build_here(densereg_fields(longest_px=128), source=work / "other", out=tmp_path, workers=1)
    with pytest.raises(ValueError, match="densereg-fields holds whole photographs and .* was trained on crops"):
        evaluate_dataset(Predictor(restore(work / "dan.pt")), open_dataset(tmp_path / "densereg-fields"))


def test_a_surface_of_another_topology_is_refused(work, tmp_path):
    state = torch.load(work / "prnet.pt", weights_only=True)
    state["system_state"]["atlas_covered"][20:30] = 0
    path = _saved(tmp_path, state)
    with pytest.raises(ValueError, match="another topology, whose points are not the same"):
        evaluate_dataset(Predictor(restore(path)), open_dataset(work / "test"))


def test_photographs_are_measured_from_named_boxes_and_the_report_is_written(work, photographs, tmp_path):
    done = evaluate_here(work / "fan3d.pt", photographs, protocol="pts", boxes="truth", out=tmp_path / "report")
    document = json.loads((tmp_path / "report" / METRICS).read_text())
    assert document["boxes"] == "tight boxes of the true points"
    assert document["n_images"] == done.document["n_images"] == 1  # a turned view has no landmarks of its own
    assert document["points_measured"] == 66
    row = document["results"]["nme_interocular"]
    assert set(row) == {OURS, "mean shape", TRUE_POSE}
    assert row[OURS]["n_images"] == 1
    assert {path.name for path in done.written} == {"metrics.json", "card.md", "ced.png", "predictions.png"}
    lines = "\n".join(table_lines(done.document))
    assert "boxes: tight boxes of the true points" in lines
    assert "66 of the set's 68 points are measured" in lines


def test_a_face_without_box_or_picture_counts_as_a_failure(work, photographs):
    test = open_300w(photographs, "all")
    boxes = boxes_by_rule(test.faces, "table")  # .pts files give none
    found = evaluate_photographs(Predictor(restore(work / "dan.pt")), test, boxes, family="300w")
    assert np.isinf(found.errors["nme_interocular"][OURS]).all()
    assert found.document["results"]["nme_interocular"][OURS]["failure_0.08_percent"] == 100
    assert "there is no box" in found.document["without_prediction"][0]


def test_the_papers_rows_stand_beside_ours(work, photographs, tmp_path):
    root = tmp_path / "300W" / "ibug"
    root.mkdir(parents=True)
    for path in photographs.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    done = evaluate_here(
        work / "dan.pt", tmp_path / "300W", protocol="300w-challenging", out=tmp_path / "r", latency=False
    )
    assert done.document["results"]["nme_interpupil"]["published"][0]["mean"] == 7.57
    assert "DAN (Kowalski et al. 2017, table 2): mean 7.57" in "\n".join(table_lines(done.document))


def test_a_checkpoint_that_saw_a_test_photograph_is_refused(work, photographs, tmp_path):
    root = tmp_path / "300W" / "helen" / "testset"
    root.mkdir(parents=True)
    for path in photographs.iterdir():
        (root / path.name.replace("photo", "296814969")).write_bytes(path.read_bytes())
    seen = changed(work, tmp_path, "dan", dataset={"seen": "HELEN/HELEN_296814969_0\nAFW/AFW_1"})
    with pytest.raises(TrainedOnTest, match=r"learnt from 1 photographs of 300W common \(HELEN/HELEN_296814969_0"):
        evaluate_here(seen, tmp_path / "300W", protocol="300w-common", out=tmp_path / "r")
    any_test = changed(work, tmp_path, "dan", dataset={"seen": "IBUG/IBUG_image_003_1"})
    with pytest.raises(TrainedOnTest, match="IBUG/IBUG_image_003_1"):
        evaluate_here(any_test, tmp_path / "300W", protocol="300w-common", out=tmp_path / "r")


def test_the_table_measures_3dfaw_with_views_of_one_subject(work, photographs, tmp_path):
    picture = next(iter(sorted(photographs.glob("*.jpg"))))
    points = np.random.default_rng(0).uniform(150, 300, (66, 3)).round(3)
    header = ["path", "face", "subject", *(f"{axis}{p}" for p in range(66) for axis in "xyz")]
    rows = [[picture.name, k, "ann", *points.ravel().tolist()] for k in range(2)]
    text = "\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n"
    (photographs / "3dfaw.csv").write_text(text)
    done = evaluate_here(work / "fan3d.pt", photographs / "3dfaw.csv", protocol="3dfaw", out=tmp_path, latency=False)
    results = done.document["results"]
    assert {"GTE xyz", "GTE xy", "GTE x", "GTE y", "GTE z", "CVGTCE", "CVGTCE across views"} <= set(results)
    assert results["CVGTCE across views"]["n_pairs"] == 2
    assert results["CVGTCE across views"][OURS]["mean_percent"] == pytest.approx(
        results["CVGTCE"][OURS]["mean_percent"]
    )
    assert results["GTE xyz"]["published"][0]["mean"] == 4.5623
    test = open_table(photographs / "3dfaw.csv", photographs)
    boxes, predictor = boxes_by_rule(test.faces, "truth"), Predictor(restore(work / "fan3d.pt"))
    with pytest.raises(ValueError, match="the set has 66 points and the checkpoint gives 68"):
        evaluate_photographs(predictor, test, boxes, family="3dfaw")


def test_data_are_known_by_what_lies_there(work, photographs, tmp_path):
    assert guessed_protocol(work / "test") == "dataset"
    assert guessed_protocol(work / "other") == "aflw2000"
    with pytest.raises(ValueError, match="say by --protocol which set it is"):
        guessed_protocol(photographs)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        guessed_protocol(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"photo_0\.jpg is no table \(\.csv, \.parquet\); give a data set"):
        guessed_protocol(photographs / "photo_0.jpg")
    with pytest.raises(ValueError, match="there is no truth in it"):
        guessed_protocol(tmp_path)
    with pytest.raises(ValueError, match="holds no face of AFLW2000-3D"):
        open_aflw2000(work / "other")  # 300W-LP's files have no pt3d_68


def test_a_report_orders_faces_by_error(work, tmp_path):
    dataset = open_dataset(work / "test")
    found = evaluate_dataset(Predictor(restore(work / "dan.pt")), dataset)
    written = write_report(found, tmp_path)
    page = cv2.imread(str(next(path for path in written if path.name == "predictions.png")))
    assert page.shape[1] == 4 * 256
    assert json.loads((tmp_path / METRICS).read_text())["yaw"]["true pose"]["n without yaw"] == 0


# -------------------------------------------------------------------------------------------------- prediction


def test_a_picture_gives_landmarks_pose_mesh_and_pictures(work, photographs, tmp_path):
    options = PredictOptions(tmp_path, mesh="ply")
    outcome = predict_here(work / "prnet.pt", [photographs], options)
    assert [document["picture"] for document in outcome.documents] == ["photo_0.jpg", "photo_1.jpg"][
        : len(outcome.documents)
    ]
    document = json.loads((tmp_path / "photo_0.json").read_text())
    assert np.array(document["landmarks_px"]).shape == (68, 3)
    assert document["boxes"] == "landmarks in photo_0.pts"
    assert set(document["pose_deg"]) == {"pitch", "yaw", "roll"}
    assert (tmp_path / "photo_0.png").exists()
    assert (tmp_path / "photo_0_depth.png").exists()
    assert outcome.about["in_the_paper"].startswith("9.8 ms")
    assert outcome.about["size_mb"] == pytest.approx(restore(work / "prnet.pt").size_mb, abs=1e-3)


def test_the_surface_of_a_true_map_is_right_side_out(work):
    predictor = Predictor(restore(work / "prnet.pt"))
    sample = open_dataset(work / "test")[0]
    vertices = sample["position_map"][predictor.texels].astype(np.float64)
    assert len(vertices) == predictor.surface.n_points
    assert signed_volume(upright_from_picture(vertices, height=SIDE), predictor.surface.triangles) > 0


def test_a_prediction_lies_in_the_picture_where_its_crop_was(work, photographs):
    predictor = Predictor(restore(work / "dan.pt"))
    picture = cv2.imread(str(photographs / "photo_0.jpg"))[:, :, ::-1].copy()
    box = np.array([100.0, 120.0, 260.0, 300.0])
    (found,) = predictor.predict(picture, [box])
    (in_crop,) = predictor.predict_crops(predictor.cut(picture, predictor.crop_of_box(box))[None])
    np.testing.assert_allclose(predictor.crop_of_box(box).apply(found.landmarks_px), in_crop.landmarks_px, atol=1e-4)
    corners = predictor.crop_of_box(box).inverse.apply(np.array([[0.0, 0.0], [SIDE - 1.0, SIDE - 1.0]]))
    np.testing.assert_allclose(corners.mean(axis=0), [180, 210])
    np.testing.assert_allclose(corners[1] - corners[0], 1.5 * 170)
    with pytest.raises(NoFace, match="is no face: left, top, right, bottom"):
        predictor.crop_of_box(np.array([5.0, 5.0, 5.0, 90.0]))


def test_crops_are_cut_as_the_builders_of_faces_and_ears_cut_them(work):
    restored = restore(work / "dan.pt")
    points = np.random.default_rng(0).uniform((50, 80), (190, 300), (68, 2))
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    built = crop_from_landmarks(points, CropConfig(size_px=SIDE))
    np.testing.assert_allclose(Predictor(restored).crop_of_box(box).matrix, built.matrix, atol=1e-9)
    ear = replace(restored, data=replace(restored.data, margin=1.4, margin_of="longer"))
    box = np.concatenate([points[:55].min(axis=0), points[:55].max(axis=0)])
    built = ear_crop(points[:55], size_px=SIDE, margin=1.4)
    np.testing.assert_allclose(Predictor(ear).crop_of_box(box).matrix, built.matrix, atol=1e-9)


def test_densereg_gives_rows_a_fit_and_a_transfer(work, photographs, tmp_path):
    options = PredictOptions(tmp_path, mesh="obj", fit=True, dan=work / "dan.pt")
    outcome = predict_here(work / "densereg.pt", [photographs / "photo_0.jpg"], options)
    assert outcome.rejected == []
    (document,) = outcome.documents
    assert list(document["rows"])[:2] == ["field", "field + shape model"]
    assert "result" in document["fit"]
    for ending in ("_uv.png", "_parts.png", "_depth.png", ".npz", ".png"):
        assert (tmp_path / f"photo_0{ending}").exists()
    path = transfer_here(
        work / "densereg.pt",
        photographs / "photo_0.jpg",
        photographs / "photo_1.jpg",
        PredictOptions(tmp_path, "whole"),
    )
    assert cv2.imread(str(path)).shape == (450, 450, 3)
    with np.load(path.with_suffix(".npz")) as pairs:
        assert pairs["target_px"].shape == pairs["source_px"].shape
        assert pairs["target_px"].shape[1] == 2
    with pytest.raises(ValueError, match="--fit and --dan belong to DenseReg's fields"):
        predict_here(work / "prnet.pt", [photographs], PredictOptions(tmp_path, fit=True))
    for system in ("dan", "densereg"):
        with pytest.raises(ValueError, match=f"--export takes prnet, mesh_gcn, and densereg with --fit.* of {system}$"):
            predict_here(work / f"{system}.pt", [photographs], PredictOptions(tmp_path, mesh="glb"))
    with pytest.raises(ValueError, match="needs dense correspondence"):
        transfer_here(
            work / "dan.pt", photographs / "photo_0.jpg", photographs / "photo_0.jpg", PredictOptions(tmp_path)
        )


def test_the_third_row_is_dan_started_from_the_second(work):
    dataset = open_dataset(work / "test")
    sample = dataset[0]
    (found,) = Oracle(restore(work / "densereg.pt")).tell(dataset).predict_crops(sample["image"][None])
    shapes, dan = restore(work / "densereg.pt").data.shapes, Predictor(restore(work / "dan.pt"))
    rows = landmark_rows(np.ascontiguousarray(sample["image"]), found, shapes=shapes, dan=dan)
    assert list(rows) == ["field", "field + shape model", "field + shape model + DAN"]
    np.testing.assert_allclose(rows["field"], found.landmarks_px)
    # A random DAN moves its start by little, wherever that is: it has begun at the second row and not at the mean shape.
    second, third = rows["field + shape model"], rows["field + shape model + DAN"]
    mean = dan.crop_of_box(np.array([0, 0, SIDE / 1.5, SIDE / 1.5])).inverse.apply(dan.data.mean_landmarks[:, :2])
    assert np.linalg.norm(third - second, axis=1).mean() < 0.3 * np.linalg.norm(third - mean, axis=1).mean()


def test_a_face_put_onto_itself_is_itself(work, photographs):
    dataset = open_dataset(work / "test")
    oracle = Oracle(restore(work / "densereg.pt")).tell(dataset)
    sample = dataset[0]
    (found,) = oracle.predict_crops(np.ascontiguousarray(sample["image"])[None])
    same = transferred(sample["image"], found, sample["image"], found, surface=None)
    assert np.abs(same.astype(int) - sample["image"]).mean() < 1
    other = transferred(
        sample["image"], found, 255 - sample["image"], _with_crop(found, 255 - sample["image"]), surface=None
    )
    face = np.isfinite(found.field["uv"][..., 0])
    assert (other[face] == 255 - sample["image"][face]).all(axis=-1).mean() > 0.8
    assert (other[~face] == sample["image"][~face]).all(axis=-1).mean() > 0.95
    here, there = corresponding(sample["image"], found, sample["image"], found, surface=None)
    assert len(here) == face.sum()
    assert np.linalg.norm(here - there, axis=1).max() < 1.5, "pixels of one (u, v) lie side by side"
    (first, second) = (
        one for one in oracle.predict_crops(open_dataset(work / "test").read([0, 2], ("image",))["image"])
    )
    here, there = corresponding(first.crop, first, second.crop, second, surface=None)
    rounded = [
        np.rint(found.crop_from_image.apply(places)).astype(int) for found, places in ((first, here), (second, there))
    ]
    away = (
        first.field["uv"][rounded[0][:, 1], rounded[0][:, 0]] - second.field["uv"][rounded[1][:, 1], rounded[1][:, 0]]
    )
    assert np.linalg.norm(away, axis=1).max() <= 1 / 50


def _with_crop(found: Prediction, crop: np.ndarray) -> Prediction:
    return Prediction(found.crop_from_image, crop, found.landmarks_px, None, found.field)


def test_a_picture_without_a_face_is_a_rejection_with_a_sentence(work, photographs, tmp_path):
    (tmp_path / "boxes.csv").write_text("path,left,top,right,bottom\nphoto_0.jpg,100,100,300,300\n")
    options = PredictOptions(tmp_path / "out", boxes=str(tmp_path / "boxes.csv"))
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    inputs = [photographs / "photo_0.jpg", photographs / "photo_1.jpg", tmp_path / "damaged.jpg"]
    outcome = predict_here(work / "dan.pt", inputs, options)
    assert [document["boxes"] for document in outcome.documents] == ["the file boxes.csv"]
    codes = [refusal.code for refusal in outcome.rejected]
    assert len(codes) == 2
    assert codes[0] == "boxes.missing"
    with pytest.raises(FileNotFoundError):
        listed([tmp_path / "nothing.jpg"])
    with pytest.raises(ValueError, match="is no picture"):
        listed([tmp_path / "boxes.csv"])


def test_pictures_of_one_name_in_several_folders_are_written_beside_each_other(work, photographs, tmp_path):
    for folder in ("AFW", "AFW_Flip"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "face.jpg").write_bytes((photographs / "photo_0.jpg").read_bytes())
    predict_here(work / "dan.pt", [tmp_path], PredictOptions(tmp_path / "out", boxes="whole"))
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"AFW-face.json", "AFW_Flip-face.json"}
    names = output_names([Path(text) for text in ("a/x.jpg", "a/x.png", "b/x.jpg", "b/y.jpg", "b/y.jpg")])
    assert list(names.values()) == ["a-x", "a-x+1", "b-x", "y"]


def test_a_video_is_followed_by_the_box_of_the_frame_before(work, photographs, tmp_path):
    picture = cv2.imread(str(photographs / "photo_0.jpg"))
    writer = cv2.VideoWriter(str(tmp_path / "face.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (450, 450))
    for shift in range(3):
        writer.write(np.roll(picture, 4 * shift, axis=1))
    writer.release()
    (tmp_path / "boxes.csv").write_text("path,left,top,right,bottom\nface.avi,150,150,330,350\n")
    options = PredictOptions(tmp_path / "out", boxes=str(tmp_path / "boxes.csv"))
    (document,) = predict_here(work / "dan.pt", [tmp_path / "face.avi"], options).documents
    lines = [json.loads(line) for line in (tmp_path / "out" / "face.jsonl").read_text().splitlines()]
    assert (document["frames"], document["with_a_face"]) == (3, 3)
    assert [line["boxes"] for line in lines] == ["the file boxes.csv", "the frame before", "the frame before"]
    assert cv2.VideoCapture(str(tmp_path / "out" / "face.mp4")).read()[0]


def test_a_network_that_finds_no_face_is_a_rejection_too(work, photographs, tmp_path, monkeypatch):
    def nothing(self, images):
        return torch.full((len(images), 68, 2), torch.nan)

    monkeypatch.setattr("train.dan.DAN.predict_landmarks", nothing)
    outcome = predict_here(work / "dan.pt", [photographs / "photo_0.jpg"], PredictOptions(tmp_path))
    assert outcome.documents == []
    assert "the network finds no face" in outcome.rejected[0].reason


# ------------------------------------------------------------------------------------------------ command line


def test_the_command_line_evaluates_and_predicts_in_one_line_of_json(run, work, photographs, tmp_path):
    code, output, _ = run("evaluate", work / "dan.pt", work / "test", "--out", tmp_path / "e", "--json")
    assert code == 0
    assert json.loads(output)["results"]["nme_bbox 2-D"]["ours"]["n_images"] > 0
    assert output.count("\n") == 1
    code, output, _ = run("predict", work / "dan.pt", photographs / "photo_0.jpg", "--out", tmp_path / "p", "--json")
    assert code == 0
    assert json.loads(output)["predictions"][0]["boxes"] == "landmarks in photo_0.pts"


def test_the_command_line_ends_with_a_sentence(run, work, photographs, tmp_path):
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    code, _, errors = run("predict", work / "dan.pt", tmp_path / "damaged.jpg", "--boxes", "whole", "--out", tmp_path)
    assert code == 1
    assert "damaged.jpg" in errors
    code, _, errors = run("evaluate", work / "dan.pt", work / "train")
    assert code == 1
    assert errors.startswith("facefoundry: ")
    assert "learnt from every photograph or person" in errors
    code, _, errors = run("evaluate", tmp_path / "damaged.jpg", work / "train")
    assert "it is damaged or another kind of file" in errors
    code, _, errors = run("predict", work / "dan.pt")
    assert code == 2


def test_a_pattern_that_stands_for_several_checkpoints_or_for_none_is_told_with_the_way_out(
    run, work, photographs, tmp_path, monkeypatch
):
    newest, other = tmp_path / "new.pt", tmp_path / "old.pt"
    for path, age_s in ((newest, 0), (other, 60)):
        shutil.copy(work / "dan.pt", path)
        os.utime(path, (time.time() - age_s,) * 2)
    for line in (
        ("evaluate", newest, other, work / "test"),
        ("predict", other, newest, photographs, "--out", tmp_path / "p"),
        ("export-onnx", newest, other, tmp_path / "dan.onnx"),
    ):
        code, output, errors = run(*line)
        assert (code, output) == (2, "")
        assert f"{line[0]} takes one checkpoint, and 2 were given" in errors
        assert f"the newest is {newest}" in " ".join(errors.split())
    monkeypatch.chdir(tmp_path)
    for line in (("evaluate", "runs/*/best.pt", work / "test"), ("predict", "runs/*/best.pt", photographs)):
        code, output, errors = run(*line)
        assert (code, output) == (1, "")
        assert (
            "no file matches runs/*/best.pt: name a training's last.pt or best.pt; `facefoundry train` makes" in errors
        )
    kept = tmp_path / "datasets" / "runs" / "dan" / "one" / "best.pt"
    kept.parent.mkdir(parents=True)
    shutil.copy(newest, kept)
    assert "the newest of those here is datasets/runs/dan/one/best.pt" in run("predict", "r/*.pt", photographs).err


def test_the_run_of_an_evaluation_is_named_by_system_data_set_and_version_from_the_beginning(
    work, photographs, tmp_path, monkeypatch
):
    from prefect.logging import disable_run_logger

    named: list[tuple[str, ...]] = []
    monkeypatch.setattr("flows.evaluate.name_run", lambda *words: named.append(words))
    monkeypatch.setattr("flows.evaluate.show_evaluation", lambda folder, lines: None)
    version = open_dataset(work / "test").manifest.version
    with disable_run_logger():
        evaluate_flow.fn(str(work / "dan.pt"), str(work / "test"), out=str(tmp_path / "e"))
        evaluate_flow.fn(str(work / "dan.pt"), str(photographs), protocol="pts", boxes="truth", out=str(tmp_path / "f"))
        with pytest.raises(TrainedOnTest):  # a run that fails is named too
            evaluate_flow.fn(str(work / "dan.pt"), str(work / "train"))
    of_data = ("dataset:test", f"version:{version}")
    assert named[:4] == [
        (f"evaluate test {version}", *of_data),
        (f"evaluate dan on test {version}", "system:dan", *of_data),
        ("evaluate photographs", "dataset:photographs"),
        ("evaluate dan on photographs", "system:dan", "dataset:photographs"),
    ]
    assert named[4][0].startswith("evaluate train ")


# ------------------------------------------------------------------------------------------ the Florence protocol


def test_renders_are_registered_by_icp_and_told_by_yaw(work, tmp_path, run):
    code, *_ = run(
        "florence", "built-in", "--people", 1, "--size", 96, "--yaw-step", 80, "--out", tmp_path / "f", "--workers", 1
    )
    assert code == 0
    done = evaluate_here(work / "prnet.pt", tmp_path / "f", out=tmp_path / "e", latency=False)
    document = done.document
    assert document["protocol"] == "florence"
    assert document["n_images"] == 9
    assert set(document["by_yaw_percent"]) == {"-80", "+0", "+80"}
    assert document["results"]["reconstruction"]["published"][0]["mean"] == 3.7551
    reconstruction = document["results"]["reconstruction"]
    assert 0 < reconstruction[TRUE_POSE]["mean_percent"] < reconstruction[MEAN_SHAPE]["mean_percent"]
    assert document["results"]["nme_bbox 2-D"][TRUE_POSE]["mean_percent"] < 4
    assert "ICP point to point, rotation and translation, predicted to truth, 20 steps at most" in document["notes"][0]
    with pytest.raises(ValueError, match="dan predicts no surface"):
        evaluate_here(work / "dan.pt", tmp_path / "f", out=tmp_path / "e")

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from flows import build, presets
from flows.config import PosmapConfig
from flows.errors import SourceChanged, TooManyBad
from flows.local import build_here
from geometry import load_model
from render.crop import CropConfig
from storage.annotations import read_annotation
from storage.dataset import open_dataset
from storage.local_store import LocalStore
from storage.verify import verify
from tests.folders import tree

SMALL = PosmapConfig(crop=CropConfig(size_px=64), shard_size=4)
"""Four shards of the sample folder's 14 pictures."""


@pytest.fixture(scope="module")
def built(sample_folder, tmp_path_factory) -> build.Published:
    return build_here(SMALL, source=sample_folder, out=tmp_path_factory.mktemp("built"), workers=1)


def test_every_picture_becomes_a_sample_whose_map_lies_on_its_landmarks(built):
    dataset = open_dataset(built.path)
    assert (len(dataset), built.rejected) == (14, 0)
    everything = dataset.read(range(14))
    assert everything["image"].shape == (14, 64, 64, 3)
    assert everything["position_map"].shape == (14, 64, 64, 3)
    x, y = dataset.table("landmark_texels").T
    distance = np.linalg.norm(everything["position_map"][:, y, x] - everything["landmarks_px"], axis=-1)
    assert np.median(distance) < 1  # a texel of a 64² map is a few pixels
    readback = dataset.manifest.statistics["landmark_readback_px"]
    assert readback["n"] == 14 * 68
    assert verify(LocalStore(built.path)) == []


def test_the_contact_sheet_is_published_with_it(built):
    assert built.contact_sheet.read_bytes().startswith(b"\x89PNG")
    assert "contact_sheet.png" in {thing.key for thing in open_dataset(built.path).manifest.objects}


def test_labels_stand_on_true_pixels_and_face3d_compat_one_pixel_beside_them(built, sample_folder, tmp_path):
    """The 1-px convention: landmarks of a near-frontal sample, carried back to the photograph, against the file's own."""
    compat = build_here(SMALL.model_copy(update={"compat": "face3d"}), source=sample_folder, out=tmp_path, workers=1)
    for path, shift in ((built.path, (0, 0)), (compat.path, (1, -1))):
        dataset = open_dataset(path)
        ids = [str(name) for name in dataset.read(range(14))["source_id"]]
        index = next(i for i, name in enumerate(ids) if name.startswith("AFW/AFW_") and name.endswith("_0"))
        sample = dataset[index]
        in_image = np.linalg.inv(sample["crop_from_image"]) @ [*sample["landmarks_px"][:, :2].T, np.ones(68)]
        stored = scipy.io.loadmat(sample_folder / f"{ids[index]}.mat")["pt2d"]  # one-based
        np.testing.assert_allclose(in_image[:2] - (stored - 1), np.tile(np.reshape(shift, (2, 1)), 68), atol=0.02)


def test_views_of_a_family_share_their_coefficients_and_not_their_landmarks(built):
    everything = open_dataset(built.path).read(range(14))
    ids = everything["source_id"]
    family = [i for i, name in enumerate(ids) if name.startswith("AFW/AFW_")]
    assert len(family) == 3
    assert (everything["identity"][family] == everything["identity"][family[0]]).all()
    assert np.abs(np.diff(everything["landmarks_px"][family], axis=0)).max() > 2
    assert np.isfinite(everything["landmark_residual_px"][family]).tolist() == [True, False, False]
    assert everything["landmark_residual_px"][family[0]] < 0.02


def test_a_flipped_picture_carries_the_mirrored_landmarks_under_their_new_names(built, sample_folder):
    everything = open_dataset(built.path).read(range(14))
    ids = list(everything["source_id"])
    plain = next(i for i, name in enumerate(ids) if name.startswith("AFW/AFW_") and name.endswith("_0"))
    flip = ids.index(ids[plain].replace("AFW/", "AFW_Flip/"))
    # The subject's right eye (36…41) is on the left of a plain picture and stays the right eye of the flipped one.
    for i in (plain, flip):
        landmarks = everything["landmarks_px"][i]
        assert landmarks[36:42, 0].mean() < landmarks[42:48, 0].mean()
    assert everything["landmark_residual_px"][flip] < 0.5


def test_parametric_maps_decode_to_the_materialised_ones(built, sample_folder, tmp_path):
    config = SMALL.model_copy(update={"maps": "parametric"})
    parametric = open_dataset(build_here(config, source=sample_folder, out=tmp_path, workers=1).path)
    materialised = open_dataset(built.path)
    decoded, stored = (dataset.read(range(14)) for dataset in (parametric, materialised))
    np.testing.assert_allclose(decoded["position_map"], stored["position_map"], atol=1 / 128 + 1e-4)
    for name in ("image", "landmarks_px", "crop_from_image", "z_offset_px", "covered"):
        np.testing.assert_array_equal(decoded[name], stored[name])


def test_a_rebuild_with_other_workers_and_order_is_byte_identical(built, sample_folder, tmp_path):
    again = build_here(SMALL, source=sample_folder, out=tmp_path / "two", workers=2)
    assert tree(again.path) == tree(built.path)
    with build.opened_build(SMALL, source=sample_folder, model="built-in", out=tmp_path / "backwards") as opened:
        for shard in reversed(opened.missing_shards):
            build.build_shard(opened.job, shard)
        backwards = build.publish_build(opened)
    assert tree(backwards.path) == tree(built.path)


def test_a_second_build_does_nothing_and_says_the_same(built, sample_folder):
    before = tree(built.path)
    stamps = {path: path.stat().st_mtime_ns for path in built.path.rglob("*")}
    again = build_here(SMALL, source=sample_folder, out=built.path.parent.parent, workers=1)
    assert (again.version, again.samples) == (built.version, built.samples)
    assert tree(built.path) == before
    assert {path: path.stat().st_mtime_ns for path in built.path.rglob("*")} == stamps


def test_another_config_source_or_seed_makes_another_version(built, sample_folder, tmp_path):
    out = tmp_path / "out"
    other = tmp_path / "source"
    shutil.copytree(sample_folder, other)
    next((other / "AFW").glob("*_2.mat")).unlink()
    versions = {
        built.version,
        build_here(SMALL, source=other, out=out, workers=1, max_bad=1.0).version,
        build_here(SMALL.model_copy(update={"atlas": "tutte"}), source=sample_folder, out=out, workers=1).version,
        build_here(SMALL.model_copy(update={"copies": 2}), source=sample_folder, out=out, workers=1).version,
        build_here(SMALL.model_copy(update={"copies": 2, "seed": 1}), source=sample_folder, out=out, workers=1).version,
    }
    assert len(versions) == 5
    assert json.loads((out / SMALL.name / "latest").read_text())["version"] in versions


def test_copies_are_jittered_but_the_first_and_any_sample_can_be_redrawn_alone(built, sample_folder, tmp_path):
    config = SMALL.model_copy(update={"copies": 3})
    dataset = open_dataset(build_here(config, source=sample_folder, out=tmp_path, workers=1).path)
    assert len(dataset) == 42
    everything, first = dataset.read(range(42)), open_dataset(built.path).read(range(14))
    assert everything["copy_index"].tolist() == [0, 1, 2] * 14
    np.testing.assert_array_equal(everything["crop_from_image"][::3], first["crop_from_image"])
    np.testing.assert_array_equal(everything["image"][::3], first["image"])
    crops = everything["crop_from_image"].reshape(14, 3, 3, 3)
    assert (np.abs(crops[:, 1] - crops[:, 2]).max(axis=(1, 2)) > 0.1).all()
    # Copies share the map up to the similarity between their crops.
    maps, covered = everything["position_map"].reshape(14, 3, 64, 64, 3), everything["covered"][0]
    between = crops[:, 1] @ np.linalg.inv(crops[:, 0])
    carried = np.einsum("nij,nhwj->nhwi", between[:, :2, :2], maps[:, 0, ..., :2]) + between[:, None, None, :2, 2]
    np.testing.assert_allclose(carried[:, covered], maps[:, 1][:, covered][..., :2], atol=0.03)


# --------------------------------------------------------------------------------------------------------- bad samples


@pytest.fixture
def damaged(sample_folder, tmp_path) -> Path:
    """The sample with one annotation cut short, one picture cut short, and one of another person's landmarks."""
    folder = tmp_path / "damaged"
    shutil.copytree(sample_folder, folder)
    annotation, picture, stranger = (
        next(path for path in sorted((folder / subset).iterdir()) if path.name.endswith(suffix))
        for subset, suffix in (("AFW", "_1.mat"), ("AFW_Flip", "_1.jpg"), ("HELEN", "_0.mat"))
    )
    annotation.write_bytes(annotation.read_bytes()[:500])
    picture.write_bytes(picture.read_bytes()[:5000])
    stored = {name: value for name, value in scipy.io.loadmat(stranger).items() if not name.startswith("__")}
    scipy.io.savemat(stranger, {**stored, "pt2d": stored["pt2d"] + 60})
    return folder


def test_bad_samples_are_listed_holes_and_the_good_ones_beside_them_do_not_move(built, damaged, tmp_path):
    published = build_here(SMALL, source=damaged, out=tmp_path / "out", workers=1, max_bad=0.5)
    assert (published.samples, published.rejected) == (11, 3)
    dataset, whole = open_dataset(published.path), open_dataset(built.path)
    codes = {hole.source_id: hole.code for hole in dataset.manifest.rejected}
    assert sorted(codes.values()) == ["image.truncated", "landmarks.disagree", "mat.truncated"]
    everything, ids = dataset.read(range(11)), list(whole.read(range(14))["source_id"])
    good = [ids.index(name) for name in everything["source_id"]]
    assert good == sorted(good)
    for name, values in whole.read(good).items():
        np.testing.assert_array_equal(everything[name], values)


def test_too_many_bad_samples_stop_the_build_and_nothing_is_published(damaged, tmp_path):
    with pytest.raises(TooManyBad, match=r"2 of 14 samples cannot be used.*and 1 may be") as stopped:
        build_here(SMALL, source=damaged, out=tmp_path, workers=1, max_bad=0.1)
    assert "raise --max-bad" in str(stopped.value)
    assert not (tmp_path / SMALL.name / "latest").exists()
    assert build_here(SMALL, source=damaged, out=tmp_path, workers=1, max_bad=0.3).samples == 11


def test_a_file_that_changes_between_plan_and_shard_is_noticed(sample_folder, tmp_path):
    folder = tmp_path / "source"
    shutil.copytree(sample_folder, folder)
    with build.opened_build(SMALL, source=folder, model="built-in", out=tmp_path / "out") as opened:
        picture = next((folder / "AFW").glob("*_0.jpg"))
        picture.write_bytes(picture.read_bytes() + b"x")
        with pytest.raises(SourceChanged, match="has changed since this build was planned"):
            _ = [build.build_shard(opened.job, shard) for shard in opened.missing_shards]


@pytest.mark.parametrize(
    "put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir], ids=["pipe", "endless", "folder"]
)
def test_a_file_that_becomes_none_between_plan_and_shard_is_neither_waited_for_nor_read_without_end(
    put, sample_folder, tmp_path
):
    folder = tmp_path / "source"
    shutil.copytree(sample_folder, folder)
    with build.opened_build(SMALL, source=folder, model="built-in", out=tmp_path / "out") as opened:
        picture = next((folder / "AFW").glob("*_0.jpg"))
        picture.unlink()
        put(picture)
        with pytest.raises(SourceChanged, match=r"has changed since this build was planned \(.*is not a regular file"):
            _ = [build.build_shard(opened.job, shard) for shard in opened.missing_shards]


def test_coefficients_of_another_model_are_refused_before_anything_is_built(sample_folder, tmp_path):
    folder = tmp_path / "source"
    shutil.copytree(sample_folder, folder)
    sidecar = folder / "HELEN" / "model.json"
    sidecar.write_text(sidecar.read_text().replace(load_model("built-in").fingerprint, "0" * 32))
    with pytest.raises(ValueError, match="other people's"):
        build_here(SMALL, source=folder, out=tmp_path / "out", workers=1)


# ------------------------------------------------------------------------------------------------------ kills and races


def _build_in_child(source: Path, out: Path, workers: int) -> None:
    build_here(SMALL, source=source, out=out, workers=workers)


def test_after_twenty_kills_at_random_moments_the_data_set_is_that_of_an_unbroken_build(built, sample_folder, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flows.local", "flows.build"])

    def start(out: Path, workers: int = 1) -> multiprocessing.Process:
        process = context.Process(target=_build_in_child, args=(sample_folder, out, workers))
        process.start()
        return process

    for name in ("warm", "timed"):
        begin = time.monotonic()
        start(tmp_path / name).join()
        seconds = time.monotonic() - begin
    rng = np.random.default_rng(20)
    folders, kills = [tmp_path / "kill-0"], 0
    while kills < 20:
        process = start(folders[-1], workers=2 if kills % 5 == 0 else 1)
        process.join(seconds * rng.uniform(0.0, 0.9))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        if (folders[-1] / SMALL.name / "latest").exists():  # it got to its end, in spite of all
            folders.append(tmp_path / f"kill-{len(folders)}")
    for out in folders:
        assert tree(build_here(SMALL, source=sample_folder, out=out, workers=1).path) == tree(built.path)


def test_the_second_of_two_builders_leaves_at_once_and_names_the_first(sample_folder, tmp_path):
    with build.opened_build(SMALL, source=sample_folder, model="built-in", out=tmp_path):
        arguments = ["facefoundry", "build", "300wlp-posmaps", "--source", str(sample_folder), "--out", str(tmp_path)]
        script = f"from flows.command_line import main; import sys; sys.argv = {arguments!r}; main()"
        second = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert second.returncode == 4
    assert f"process {os.getpid()} is building" in second.stderr


def test_presets_put_sizes_where_they_belong():
    config = presets.posmaps_300wlp(size_px=128, maps="parametric")
    assert (config.crop.size_px, config.maps) == (128, "parametric")
    with pytest.raises(ValueError, match="Extra inputs"):
        presets.posmaps_300wlp(sizes=3)


def test_the_annotation_reader_and_the_data_set_agree(built, sample_folder):
    dataset = open_dataset(built.path)
    sample = dataset[5]
    annotation = read_annotation(sample_folder / f"{sample['source_id']}.mat")
    np.testing.assert_allclose(sample["identity"], annotation.coefficients.identity, rtol=1e-6)
    np.testing.assert_allclose(sample["pose"][6], annotation.camera.scale)


# ------------------------------------------------------------------------------------------- what a reviewer has broken


def test_pictures_of_another_size_than_their_annotation_counts_in_are_rejected(sample_folder, tmp_path):
    """300W-LP's y runs from the lower edge of a picture 450 px high: in any other the labels would lie elsewhere."""
    folder = tmp_path / "source"
    shutil.copytree(sample_folder, folder)
    picture = next((folder / "AFW").glob("*_0.jpg"))
    cv2.imwrite(str(picture), cv2.resize(cv2.imread(str(picture)), (400, 400)))
    published = build_here(SMALL, source=folder, out=tmp_path / "out", workers=1, max_bad=0.1)
    (hole,) = open_dataset(published.path).manifest.rejected
    assert hole.code == "image.size"
    assert "400" in hole.reason


def test_the_output_may_not_lie_inside_the_source(sample_folder, tmp_path):
    folder = tmp_path / "source"
    shutil.copytree(sample_folder, folder)
    with pytest.raises(ValueError, match="choose an --out outside of it"):
        build_here(SMALL, source=folder, out=folder / "datasets", workers=1)


def test_an_all_bad_source_publishes_nothing_even_when_everything_may_be_bad(sample_folder, tmp_path):
    folder = tmp_path / "source"
    shutil.copytree(sample_folder, folder)
    for annotation in folder.rglob("*.mat"):
        annotation.write_bytes(b"<html>")
    with pytest.raises(TooManyBad, match="nothing to publish. The first: AFW/.* no MATLAB file"):
        build_here(SMALL, source=folder, out=tmp_path / "out", workers=1, max_bad=1.0)
    assert not (tmp_path / "out" / SMALL.name / "latest").exists()


def test_a_share_of_bad_samples_is_counted_as_people_count():
    outcome = build.ShardOutcome(0, 71, tuple(("x", "mat.truncated", "cut short") for _ in range(29)))
    build.check_bad([outcome], n_slots=100, max_bad=0.29)
    with pytest.raises(TooManyBad):
        build.check_bad([outcome], n_slots=100, max_bad=0.28)


def test_too_many_bad_samples_end_the_build_before_all_shards_are_made(damaged, tmp_path):
    for annotation in (damaged / "AFW").glob("*.mat"):
        annotation.write_bytes(b"")
    config = SMALL.model_copy(update={"copies": 8, "shard_size": 8})  # 14 shards, the bad ones first
    with pytest.raises(TooManyBad):
        build_here(config, source=damaged, out=tmp_path, workers=2, max_bad=0.05)
    assert len(list(tmp_path.rglob("receipts/*.json"))) < 12


def test_a_finished_shard_that_the_disk_has_damaged_is_made_again_before_publishing(built, sample_folder, tmp_path):
    with build.opened_build(SMALL, source=sample_folder, model="built-in", out=tmp_path) as opened:
        for shard in opened.missing_shards:
            build.build_shard(opened.job, shard)
        victim = opened.job.folder / "position_map" / "c.0.0.0.0"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    again = build_here(SMALL, source=sample_folder, out=tmp_path, workers=1)
    assert tree(again.path) == tree(built.path)


def test_a_damaged_manifest_is_written_anew(built, sample_folder, tmp_path):
    published = build_here(SMALL, source=sample_folder, out=tmp_path, workers=1)
    (published.path / "manifest.json").write_bytes(b"")
    again = build_here(SMALL, source=sample_folder, out=tmp_path, workers=1)
    assert tree(again.path) == tree(built.path)

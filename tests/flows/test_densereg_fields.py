"""Whole photographs with all their faces: what is read back from the store is held to what was drawn."""

import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from flows import build
from flows.config import DenseRegConfig
from flows.local import build_here
from flows.targets.parts import read_mask
from flows.targets.scene import template_of_tables
from geometry import load_model
from geometry.camera import apply_affine
from geometry.frames import Similarity2D
from geometry.morphable_model import Coefficients
from render.correspondence import draw_field
from render.face_buffers import draw_faces
from render.quantization import dequantize
from render.windows import Window
from storage.annotations import read_annotation
from storage.dataset import ShardedDataset, open_dataset
from storage.field_crops import crop_of_sample, draw_crop, field_of_sample
from storage.local_store import LocalStore
from storage.synthetic_groups import write_group_folder
from storage.verify import verify
from tests.folders import tree

spec = importlib.util.spec_from_file_location("field_proofs", Path(__file__).with_name("field_proofs.py"))
field_proofs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(field_proofs)

CONFIG = DenseRegConfig(longest_px=384, shard_size=2)
"""Three shards of six photographs, all of them but two larger than this."""


@pytest.fixture(scope="module")
def groups(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "groups"
    write_group_folder(folder, n_photographs=6)
    return folder


@pytest.fixture(scope="module")
def mask(tmp_path_factory) -> Path:
    """A mask of four stripes of u, painted in grey."""
    path = tmp_path_factory.mktemp("mask") / "stripes.png"
    cv2.imwrite(str(path), np.tile(np.repeat(np.arange(1, 5, dtype=np.uint8), 64), (256, 1)))
    return path


@pytest.fixture(scope="module")
def built(groups, mask, tmp_path_factory) -> build.Published:
    return build_here(CONFIG, source=groups, out=tmp_path_factory.mktemp("out"), files={"mask": mask}, workers=1)


@pytest.fixture(scope="module")
def dataset(built) -> ShardedDataset:
    return open_dataset(built.path)


@pytest.fixture(scope="module")
def samples(dataset) -> list[dict]:
    return [dataset[index] for index in range(len(dataset))]


def faces_px(sample: dict) -> list[np.ndarray]:
    """The vertices of a stored sample's faces, from its coefficients and affine maps alone."""
    n = sample["n_faces"]
    vertices = load_model("built-in").vertices(Coefficients(sample["identity"][:n], sample["expression"][:n]))
    return [
        apply_affine(affine, points) for affine, points in zip(sample["picture_from_model"], vertices, strict=False)
    ]


def test_a_sample_is_the_whole_photograph_and_never_enlarged(samples, groups, dataset):
    assert [str(sample["source_id"]) for sample in samples] == [f"group-{k:03d}" for k in range(6)]
    for sample in samples:
        photograph = cv2.imread(str(groups / f"{sample['source_id']}.jpg"))[..., ::-1]
        scale = min(1, 384 / max(photograph.shape[:2]))
        height, width = sample["size_hw"]
        assert (height, width) == (round(scale * photograph.shape[0]), round(scale * photograph.shape[1]))
        assert max(height, width) == min(384, max(photograph.shape[:2]))
        assert Similarity2D(sample["picture_from_photograph"]).scale == pytest.approx(scale)
        small = cv2.resize(photograph, (int(width), int(height)), interpolation=cv2.INTER_AREA)
        assert np.abs(sample["image"][:height, :width].astype(int) - small).mean() < 4
        for name in ("image", "uv", "label", "part", "mask", "depth"):
            padding = sample[name].copy()
            padding[:height, :width] = 0
            assert not padding.any(), name
        whose = sample["face_index"].copy()
        whose[:height, :width] = -1
        assert (whose == -1).all()  # padding is nobody's, and never the first face's
    assert verify(LocalStore(dataset.path)) == []


def test_every_face_lies_where_its_own_file_says(samples, groups):
    for sample in samples:
        to_picture = Similarity2D(sample["picture_from_photograph"])
        names = [f"{sample['source_id']}.mat", *(f"{sample['source_id']}.{k}.mat" for k in range(1, sample["n_faces"]))]
        height = cv2.imread(str(groups / f"{sample['source_id']}.jpg")).shape[0]
        assert len(list(groups.glob(f"{sample['source_id']}*.mat"))) == sample["n_faces"]
        for name, landmarks in zip(names, sample["landmarks_px"], strict=False):
            stored = read_annotation(groups / name, image_height=height).landmarks_px[:, :2]
            np.testing.assert_allclose(landmarks[:, :2], to_picture.apply(stored), atol=0.02)
        assert np.isnan(sample["landmarks_px"][sample["n_faces"] :]).all()
        assert np.nanmax(sample["landmark_residual_px"]) < 0.01


def test_coordinates_read_from_the_store_lead_back_to_the_surface_that_was_drawn(samples, dataset):
    """Median below 0.3 texel, 99th percentile below 2."""
    off = np.concatenate([field_proofs.texels_off(sample, dataset, faces_px(sample)) for sample in samples])
    assert len(off) > 100_000
    assert np.median(off) < 0.3
    assert np.percentile(off, 99) < 2


def test_parts_carried_through_uv_are_the_parts_drawn_directly(samples, dataset):
    """In more than 99.5 % of the face's pixels of every photograph."""
    shares = [field_proofs.parts_agreement(sample, dataset, faces_px(sample)) for sample in samples]
    assert min(shares) > 0.995
    assert set(np.unique(np.concatenate([s["part"].ravel() for s in samples]))) == set(range(9))


def test_each_pixel_is_the_nearest_faces_and_says_whose(samples, dataset):
    triangles = dataset.table("field_triangles")
    contested = 0
    for sample in samples:
        height, width = (int(n) for n in sample["size_hw"])
        alone = [draw_faces([face], triangles, size_hw=(height, width)).buffers.covered for face in faces_px(sample)]
        scales = np.linalg.norm(sample["picture_from_model"][: sample["n_faces"], 0, :3], axis=-1)
        expected = np.full((height, width), -1)
        for index in np.argsort(scales):  # the nearest, and so the largest, is painted last
            expected = np.where(alone[index], index, expected)
        index, label = sample["face_index"][:height, :width], sample["label"][:height, :width]
        np.testing.assert_array_equal(index[label == 1], expected[label == 1])
        assert ((index >= 0) == (label == 1))[label != 255].all()
        assert (expected[(label == 0)] >= 0).mean() < 0.01  # but for open mouths
        contested += int((np.sum(alone, axis=0) > 1).sum())
    assert contested > 500


def test_a_visible_landmark_lies_on_its_own_face_and_a_hidden_one_does_not_count(samples, dataset):
    landmark_uv, near, seen_at_all = dataset.table("landmark_uv"), 0, 0
    for sample in samples:
        for index in range(sample["n_faces"]):
            seen = sample["landmark_visible"][index]
            x, y = np.rint(sample["landmarks_px"][index, seen, :2]).astype(int).T
            assert (sample["face_index"][y, x] == index).mean() > 0.9  # the rest lies on a silhouette
            distance = np.linalg.norm(sample["uv"][y, x] - landmark_uv[seen], axis=-1)
            near, seen_at_all = near + int((distance < 0.03).sum()), seen_at_all + int(seen.sum())
            vertices = np.unpackbits(sample["vertex_visible"][index], count=load_model("built-in").n_vertices)
            np.testing.assert_array_equal(vertices[load_model("built-in").landmark_vertices].astype(bool), seen)
    assert near > 0.9 * seen_at_all
    assert seen_at_all > 200


def test_strangers_whom_only_the_detector_saw_are_ignored(samples):
    ignored = [float((sample["label"] == 255).mean()) for sample in samples]
    assert [share > 0.005 for share in ignored] == [False, False, True, False, False, True]
    for sample in samples:
        assert (sample["uv"][sample["label"] == 255] == 0).all()


def test_the_mask_is_read_at_each_pixels_place(samples, dataset, built):
    np.testing.assert_array_equal(dataset.table("mask")[7, ::64], [1, 2, 3, 4])
    assert "mask" in dataset.manifest.plan.tables
    for sample in samples:
        face, u = sample["label"] == 1, sample["uv"][..., 0]
        expected = np.floor(u * 255 + 0.5).astype(int) // 64 + 1
        assert (sample["mask"][face] == expected[face]).mean() > 0.999  # but where u is stored on a stripe's edge
        assert (sample["mask"][~face] == 0).all()


def test_another_mask_is_another_version(groups, mask, built, tmp_path):
    other = tmp_path / "other.png"
    cv2.imwrite(str(other), 5 - cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE))
    planned = build.planned_build(CONFIG, source=groups, model="built-in", out=tmp_path, files={"mask": other})
    assert planned.job.plan.version != built.version


def test_workers_and_order_change_no_byte(built, groups, mask, tmp_path):
    again = build_here(CONFIG, source=groups, out=tmp_path / "two", files={"mask": mask}, workers=2)
    assert tree(again.path) == tree(built.path)


def _killed_after_a_shard(source: Path, mask: Path, out: Path) -> None:
    with build.opened_build(CONFIG, source=source, model="built-in", out=out, files={"mask": mask}) as opened:
        build.build_shard(opened.job, 1)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_build_that_was_killed_between_shards_goes_on_and_gives_the_same_bytes(built, groups, mask, tmp_path):
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_killed_after_a_shard, args=(groups, mask, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (finished,) = tmp_path.rglob("receipts/*.json")
    stamp = finished.stat().st_mtime_ns
    again = build_here(CONFIG, source=groups, out=tmp_path, files={"mask": mask}, workers=1)
    assert tree(again.path) == tree(built.path)
    assert finished.stat().st_mtime_ns == stamp


# --------------------------------------------------------------------------------------------------------- bad samples


def test_one_bad_face_spoils_its_photograph_and_no_other(groups, mask, built, tmp_path):
    """A face that is there and has no label would teach that faces are background."""
    folder = tmp_path / "source"
    shutil.copytree(groups, folder)
    (folder / "group-001.1.mat").write_bytes(b"<html>")
    (folder / "group-003.faces.json").write_text('{"boxes": [[1, 2, 3]]}')
    (folder / "group-004.jpg").write_bytes((folder / "group-004.jpg").read_bytes()[:5000])
    published = build_here(CONFIG, source=folder, out=tmp_path / "out", files={"mask": mask}, workers=1, max_bad=0.5)
    holes = {hole.source_id: hole.code for hole in open_dataset(published.path).manifest.rejected}
    assert holes.keys() == {"group-001", "group-003", "group-004"}
    assert (holes["group-003"], holes["group-004"]) == ("boxes.format", "image.truncated")
    assert [str(name) for name in open_dataset(published.path).read(range(3), ["source_id"])["source_id"]] == [
        "group-000", "group-002", "group-005",
    ]  # fmt: skip


def test_a_mask_that_is_not_square_or_too_colourful_is_refused(groups, tmp_path):
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(ValueError, match="paint a square"):
        build_here(CONFIG, source=groups, out=tmp_path / "out", files={"mask": path}, workers=1)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="paint with hard edges"):
        build_here(CONFIG, source=groups, out=tmp_path / "out", files={"mask": path}, workers=1)


def test_a_mask_whose_labels_would_be_others_once_read_is_refused(tmp_path):
    """JPEG mixes neighbouring labels; of 16 bits a reader keeps the upper eight, so that labels 1 to 127 become 0."""
    labels = np.repeat(np.arange(4, dtype=np.uint16), 8)[None].repeat(32, axis=0)
    for name, painted in (("mask.jpg", 60 * labels.astype(np.uint8)), ("deep.png", labels)):
        cv2.imwrite(str(tmp_path / name), painted)
        with pytest.raises(ValueError, match="no PNG of 8 bits"):
            read_mask(tmp_path / name)
    cv2.imwrite(str(tmp_path / "mask.png"), labels.astype(np.uint8))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png")[0], labels)


# --------------------------------------------------------------------------------------------------------------- crops


def test_a_crop_at_scale_one_is_the_stored_field_and_its_landmarks_lie_on_it(samples):
    for sample in samples:
        window = Window(Similarity2D.of(translation_px=(-40.0, -25.0)), (200, 220))
        crop = crop_of_sample(sample, window)
        height, width = (int(n) for n in sample["size_hw"])
        rows, columns = min(200, height - 25), min(220, width - 40)
        for name in ("uv", "label", "part", "face_index", "depth", "mask", "image"):
            np.testing.assert_array_equal(crop[name][:rows, :columns], sample[name][25 : 25 + rows, 40 : 40 + columns])
        assert (crop["label"][rows:] == 255).all()
        np.testing.assert_allclose(
            crop["landmarks_px"][..., :2] + (40, 25), sample["landmarks_px"][..., :2], atol=1e-4, equal_nan=True
        )


def test_a_crop_at_another_scale_is_off_by_less_than_a_pixel_of_the_store(samples, dataset):
    """Against the field drawn anew at that scale: places are at most √½ stored pixels away (docs/dense-fields.md)."""
    template = template_of_tables(dataset.table)
    for sample, scale in zip(samples, (0.5, 0.75, 1.25, 1.5, 0.5, 1.5), strict=True):
        shift = (scale - 1) / 2
        size = tuple(round(scale * int(n)) for n in sample["size_hw"])
        crop = crop_of_sample(sample, Window(Similarity2D.of(scale=scale, translation_px=(shift, shift)), size))
        moved = Similarity2D(crop["crop_from_picture"])
        scales = np.linalg.norm(sample["picture_from_model"][: sample["n_faces"], 0, :3], axis=-1)
        faces = [moved.apply(face.astype(np.float64)) for face in faces_px(sample)]
        drawn = draw_field(template, faces, size_hw=size, scales=list(scales))
        both = (crop["label"] == 1) & drawn.is_face & (crop["face_index"] == drawn.face_index)
        assert both.sum() > 0.97 * drawn.is_face.sum()
        step = np.abs(np.diff(drawn.uv, axis=1))[both[:, 1:] & both[:, :-1]].max(axis=-1)  # of one pixel of the crop
        error = np.abs(crop["uv"] - drawn.uv)[both].max(axis=-1)
        assert np.median(error) < 1.5 * max(scale, 1) * np.median(step)
        assert np.median(error) < 0.004


def test_crops_are_321_px_and_drawn_from_the_seed_alone(samples):
    one, again, other = (draw_crop(samples[3], rng=np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert one["image"].shape == (321, 321, 3)
    assert one["uv"].shape == (321, 321, 2)
    np.testing.assert_array_equal(one["uv"], again["uv"])
    assert (one["crop_from_picture"] != other["crop_from_picture"]).any()


def test_any_number_of_bins_is_read_from_one_store(samples):
    field = field_of_sample(samples[3])
    for n_bins in (1, 10, 49, 254):
        classes, residual = field.quantized(n_bins)
        assert classes[field.is_face].max() <= n_bins
        np.testing.assert_allclose(dequantize(classes, residual, n_bins), field.uv, atol=1e-6)


# -------------------------------------------------------------------------------------------------------- command line


def test_the_command_builds_and_shows_what_the_function_does(run, groups, mask, tmp_path):
    line = ("build", "densereg-fields", "--source", groups, "--out", tmp_path, "--longest", 128, "--workers", 1)
    code, out, _ = run(*line, "--mask", mask, "--json")
    assert code == 0
    printed = json.loads(out)
    assert (printed["dataset"], printed["samples"], printed["rejected"]) == ("densereg-fields", 6, 0)
    assert open_dataset(printed["path"])[1]["mask"].shape == (128, 128)
    code, _, _ = run("show", tmp_path / "densereg-fields", 1, "--save", tmp_path / "one.png")
    assert code == 0
    assert cv2.imread(str(tmp_path / "one.png")).shape[1] == 3 * 384  # image, landmarks, u; v, parts, label; mask


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("densereg-fields", "--size", "256"), "--size does not belong"),
        (("densereg-fields", "--field-atlas", "maps"), "cylinder"),
        (("300wlp-posmaps", "--targets", "posmap,depth"), "heatmaps"),
        (("ear-fields", "--mask", "x.png"), "--mask does not belong to ear-fields"),
    ],
)
def test_options_of_another_data_set_are_wrong_use(run, tmp_path, arguments, complaint):
    code, out, err = run("build", *arguments, "--out", tmp_path)
    assert (code, out) == (2, "")
    assert complaint in err

"""Data sets of ear fields: built from any folder of pictures with 55 points, bad ones named, twice the same."""

from pathlib import Path

import numpy as np
import pytest

from flows.build import Published, build_shard, opened_build, publish_build
from flows.ear_fields import EarConfig
from flows.sheets import sample_sheet
from render.ear_field import flat_ear
from storage.dataset import ShardedDataset, open_dataset
from storage.ear_sample import draw_ear
from storage.jpeg import encode_jpeg
from storage.landmark_files import write_pts

CONFIG = EarConfig(size_px=96, shard_size=3)


def build(source: Path | None, out: Path, *, config: EarConfig = CONFIG, model: str = "built-in") -> Published:
    with opened_build(config, source=source, model=model, out=out) as opened:
        for shard in opened.missing_shards:
            build_shard(opened.job, shard)
        return publish_build(opened)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good ears, one with a missing point, and five that cannot be used, each for a reason of its own."""
    folder = tmp_path_factory.mktemp("ears") / "photographs"
    (folder / "more").mkdir(parents=True)
    ears = [draw_ear(7, number) for number in range(2)]

    def put(name: str, number: int, landmarks: np.ndarray) -> None:
        (folder / f"{name}.jpg").write_bytes(encode_jpeg(ears[number].picture))
        write_pts(folder / f"{name}.pts", landmarks)

    right, left = (ear.landmarks_px for ear in ears)
    put("a_right", 0, right)
    put("more/b_left", 1, left)
    gap = left.copy()
    gap[[2, 40]] = np.nan
    put("c_gap", 1, gap)
    few = right.copy()
    few[11:] = np.nan
    put("d_few", 0, few)
    swapped = right.copy()
    swapped[[4, 17]] = swapped[[17, 4]]
    put("e_swapped", 0, swapped)
    put("f_outside", 0, right + 1000)
    put("g_face", 0, np.zeros((68, 2)) + np.arange(68)[:, None])
    (folder / "h_none.jpg").write_bytes(encode_jpeg(ears[0].picture))
    return folder


@pytest.fixture(scope="module")
def published(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return build(source, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def dataset(published: Published) -> ShardedDataset:
    return open_dataset(published.path)


def test_good_ears_are_kept_and_bad_ones_named_with_their_reason(published, dataset):
    assert [str(dataset[i]["source_id"]) for i in range(len(dataset))] == ["a_right", "c_gap", "more/b_left"]
    codes = {hole.source_id: hole.code for hole in dataset.manifest.rejected}
    assert codes == {
        "d_few": "landmarks.missing",
        "e_swapped": "landmarks.fold",
        "f_outside": "landmarks.outside",
        "g_face": "landmarks.count",
        "h_none": "source.no_landmarks",
    }
    assert published.statistics["right"] == 1
    assert published.statistics["left"] == 2


def test_what_is_stored_is_the_field_of_the_stored_landmarks(dataset):
    for i in range(len(dataset)):
        sample = dataset[i]
        again = flat_ear().field(
            sample["landmarks_px"].astype(np.float64), size_hw=(96, 96), smoothing=CONFIG.smoothing
        )
        assert str(sample["side"]) == again.side
        assert (sample["label"] != again.field.label).mean() < 1e-3  # float32 landmarks, one pixel of the rim at most
        both = (sample["label"] == 1) & again.field.is_face
        np.testing.assert_allclose(sample["uv"][both], again.field.uv[both], atol=3e-5)
        assert (sample["part"] == again.field.part)[both].mean() > 0.999
        assert not sample["uv"][sample["label"] == 0].any()


def test_the_crop_takes_the_files_landmarks_to_the_stored_ones(dataset):
    landmarks = draw_ear(7, 0).landmarks_px
    sample = dataset[0]
    crop = sample["crop_from_image"]
    np.testing.assert_allclose(landmarks @ crop[:2, :2].T + crop[:2, 2], sample["landmarks_px"], atol=1e-3)
    assert np.isnan(dataset[1]["landmarks_px"]).sum() == 4


def test_the_template_lies_beside_the_samples(dataset):
    np.testing.assert_array_equal(dataset.table("landmark_uv"), flat_ear().landmarks_uv)
    np.testing.assert_array_equal(dataset.table("part_map"), flat_ear().part_map)
    assert len(dataset.table("atlas_uv")) == len(dataset.table("atlas_vertices"))


def test_building_again_makes_nothing_and_elsewhere_the_same_bytes(source, published, tmp_path):
    with opened_build(CONFIG, source=source, model="built-in", out=published.path.parent.parent) as opened:
        assert opened.is_published
        assert opened.missing_shards == []
    other = build(source, tmp_path)
    assert other.version == published.version
    for target in ("uv", "image", "part"):
        files = sorted(
            path.relative_to(published.path) for path in (published.path / target).rglob("*") if path.is_file()
        )
        assert files
        for name in files:
            assert (other.path / name).read_bytes() == (published.path / name).read_bytes()


def test_the_contact_sheet_and_a_sample_are_drawn_from_the_stored_data(published, dataset):
    assert published.contact_sheet.read_bytes()[:4] == b"\x89PNG"
    sheet = sample_sheet(dataset, 0, side=120)
    assert sheet.shape[1] == 3 * 120


def test_another_smoothing_is_another_version(source, published, tmp_path):
    with opened_build(
        EarConfig(size_px=96, shard_size=3, smoothing=0.5), source=source, model="built-in", out=tmp_path
    ) as opened:
        assert opened.job.plan.version != published.version


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no photograph"):
        build(tmp_path / "empty", tmp_path / "out")

"""Exports: other programs' readers find what the data set holds, names are safe, and nothing half-written stays."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.dataset
import pyarrow.parquet
import pytest
import trimesh
import xarray
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from storage.dataset import open_dataset
from storage.exports import meshes, parquet, prnet, webdataset
from storage.exports.common import loose_name, new_folder
from storage.views import select

ROOT = Path(__file__).resolve().parents[2]

HOSTILE = ["../../etc/passwd", "a//b", "/abs/olute", "C:\\con", ".hidden/..", "übung/ß\u202e", "x\ny", "AFW/AFW_1_1_0"]


@pytest.fixture(scope="module")
def faces(small_faces, tmp_path_factory):
    return small_faces.build(tmp_path_factory.mktemp("exports"), holes=(4,))


@pytest.fixture(scope="module")
def hostile(small_faces, tmp_path_factory):
    return small_faces.build(tmp_path_factory.mktemp("exports"), dataset="hostile", names=HOSTILE)


def opened_picture(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)))


# ------------------------------------------------------------------------------------------------------------ webdataset


def test_a_tar_holds_every_target_of_every_sample_under_one_key(faces, tmp_path):
    assert webdataset.export(faces, tmp_path / "tars", samples_per_tar=4) == 3
    samples: dict[str, dict[str, bytes]] = {}
    for path in sorted((tmp_path / "tars").glob("*.tar")):
        with tarfile.open(path) as tar:
            for entry in tar:
                key, _, suffix = entry.name.partition(".")
                samples.setdefault(key, {})[suffix] = tar.extractfile(entry).read()
    assert list(samples) == [f"{n:09d}" for n in range(9)]
    for number, members in enumerate(samples.values()):
        truth = faces[number]
        assert np.array_equal(opened_picture(members["image.png"]), truth["image"])
        for name in ("position_map", "landmarks_px", "identity", "pose", "crop_from_model"):
            assert np.array_equal(np.load(io.BytesIO(members[f"{name}.npy"])), truth[name])
        plain = json.loads(members["json"])
        assert (plain["source_id"], plain["seed"]) == (truth["source_id"], truth["seed"])
        residual = truth["landmark_residual_px"]
        assert plain["landmark_residual_px"] == (None if np.isnan(residual) else residual)
    assert np.array_equal(np.load(tmp_path / "tars/tables/atlas_covered.npy"), faces.table("atlas_covered"))
    about = json.loads((tmp_path / "tars/dataset.json").read_text())
    assert about["fingerprint"] == faces.manifest.fingerprint
    assert about["sources"][0]["licence"] == "toy terms"


@pytest.mark.parametrize(
    "export", [webdataset.export, prnet.export, parquet.export_index, parquet.export_huggingface, meshes.export]
)
def test_the_same_data_set_gives_the_same_bytes(faces, tmp_path, files_of, export):
    view = select(faces, [0, 3])
    export(view, tmp_path / "one")
    export(view, tmp_path / "two")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


# ----------------------------------------------------------------------------------------------------------------- prnet


def test_loose_files_have_prnets_names_and_maps(faces, tmp_path):
    assert prnet.export(faces, tmp_path / "loose") == 9
    listed = (tmp_path / "loose/files.txt").read_text().split()
    assert listed == [f"{name}.jpg" for name in faces.read(range(9), ["source_id"])["source_id"].tolist()]
    assert np.array_equal(np.load(tmp_path / "loose/AFW_Flip/AFW_11_1_0.npy"), faces[2]["position_map"])
    picture = opened_picture((tmp_path / "loose/AFW_Flip/AFW_11_1_0.jpg").read_bytes()).astype(int)
    assert np.abs(picture - faces[2]["image"]).mean() < 6
    assert (tmp_path / "loose/AFW_Flip/AFW_11_1_0_posmap.jpg").exists()
    texels = np.loadtxt(tmp_path / "loose/uv-data/uv_kpt_ind.txt")
    assert np.array_equal(texels.T, faces.table("landmark_texels"))
    assert opened_picture((tmp_path / "loose/uv-data/uv_face_mask.png").read_bytes()).max() == 255


def test_strangers_names_stay_inside_the_folder_and_apart(hostile, tmp_path):
    for export in (prnet.export, meshes.export):
        folder = tmp_path / export.__module__
        export(hostile, folder / "in")
        assert [path.name for path in folder.iterdir()] == ["in"]
    listed = (tmp_path / "storage.exports.prnet/in/files.txt").read_text().splitlines()
    assert len(set(listed)) == len(HOSTILE)
    assert listed[0] == "%2E./%2E./etc/passwd.jpg"


@given(st.lists(st.text(max_size=12), min_size=2, max_size=2, unique=True), st.integers(0, 3))
def test_different_ids_have_different_safe_names(ids, copy_index):
    one, other = (loose_name(name, copy_index) for name in ids)
    assert one != other
    assert loose_name(ids[0], 1) != loose_name(ids[0], 2)
    for part in one.split("/"):
        assert part
        assert not part.startswith(".")
        assert part.isascii()
        assert part.isprintable()
        assert "\\" not in part


def test_a_sample_that_is_twice_in_a_view_is_not_written_over_itself(faces, tmp_path):
    for export in (prnet.export, meshes.export):
        with pytest.raises(ValueError, match="is in the view twice"):
            export(select(faces, [1, 1]), tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------------------------- parquet


def test_the_index_is_filtered_by_arrow_and_read_by_select(faces, tmp_path):
    parquet.export_index(faces, tmp_path / "index")
    table = pyarrow.parquet.read_table(tmp_path / "index/index.parquet")
    assert table.num_rows == 9
    assert np.array_equal(
        np.array(table["landmarks_px"].to_pylist(), dtype=np.float32), faces.read(range(9))["landmarks_px"]
    )
    steep = pyarrow.dataset.dataset(tmp_path / "index/index.parquet").to_table(
        filter=(pyarrow.dataset.field("yaw_deg") > 30)
        & (pyarrow.dataset.field("photograph") != "LFPW/LFPW_image_test_0002")
    )
    view = select(faces, steep["index"].to_numpy())
    assert len(view) > 0
    assert view.read(range(len(view)), ["source_id"])["source_id"].tolist() == steep["source_id"].to_pylist()
    assert (np.degrees(view.read(range(len(view)), ["pose"])["pose"][:, 1]) > 30).all()


def test_hugging_face_rows_hold_pictures_and_arrays_and_name_their_features(faces, tmp_path):
    assert parquet.export_huggingface(faces, tmp_path / "hf", samples_per_file=5) == 2
    files = sorted((tmp_path / "hf/data").iterdir())
    assert [path.name for path in files] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    table = pyarrow.concat_tables([pyarrow.parquet.read_table(path) for path in files])
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.column_names
    assert features["image"] == {"_type": "Image"}
    for number, row in enumerate(table.to_pylist()):
        truth = faces[number]
        assert np.array_equal(opened_picture(row["image"]["bytes"]), truth["image"])
        assert np.array_equal(np.array(row["position_map"], dtype=np.float32), truth["position_map"])
        assert row["source_id"] == truth["source_id"]
    readme = (tmp_path / "hf/README.md").read_text()
    assert "toy terms" in readme
    assert readme.startswith("---\n")


# ---------------------------------------------------------------------------------------------------------------- meshes


@pytest.mark.parametrize("format", ["obj", "ply", "glb"])
def test_a_mesh_lies_on_its_picture_and_looks_outward(faces, tmp_path, format):
    assert meshes.export(select(faces, [4]), tmp_path / "meshes", format=format) == 1
    (path,) = (tmp_path / "meshes").rglob(f"*.{format}")
    mesh = trimesh.load(path, force="mesh", process=False)
    truth = faces[4]
    covered = truth["position_map"][truth["covered"]]
    upright = covered * (1, -1, 1) + (0, 31, 0)
    assert np.allclose(mesh.bounds, [upright.min(axis=0), upright.max(axis=0)], atol=1e-3)
    towards_viewer = mesh.face_normals[:, 2] * mesh.area_faces
    assert towards_viewer.sum() > 0.9 * np.abs(towards_viewer).sum()
    nearest = np.argmin(np.linalg.norm(mesh.vertices - upright[len(upright) // 2], axis=1))
    x, y = np.rint(covered[len(upright) // 2][:2]).astype(int)
    color = np.array(mesh.visual.vertex_colors)[nearest, :3] / 255
    if format == "glb":  # linear, and trimesh leaves it so
        color = 1.055 * color ** (1 / 2.4) - 0.055
    assert np.abs(color - truth["image"][y, x] / 255).max() <= 8 / 255


def test_a_data_set_without_maps_has_no_meshes(build, tmp_path):
    build(tmp_path, targets=["image", "source_id"])
    with pytest.raises(ValueError, match="has no position_map, covered"):
        meshes.export(open_dataset(tmp_path / "toy"), tmp_path / "out")


# -------------------------------------------------------------------------------------------------------------- folders


def test_an_export_never_goes_into_a_folder_with_something_in_it(faces, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="not empty"):
        parquet.export_index(faces, tmp_path / "out")
    assert (tmp_path / "out/mine.txt").read_text() == "keep"


def test_a_failed_export_leaves_nothing(tmp_path):
    def half() -> None:
        with new_folder(tmp_path / "out") as private:
            (private / "half").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_finds_the_disk_full_names_itself(tmp_path):
    with (
        pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/out'"),
        new_folder(tmp_path / "out") as private,
        open("/dev/full", "wb") as file,
    ):
        file.write(private.name.encode())
    assert not list(tmp_path.iterdir())


def test_what_a_killed_export_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from storage.exports.common import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as private: (private / 'half').write_text('a'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "out"], cwd=ROOT).returncode == 9
    (left,) = tmp_path.iterdir()
    (tmp_path / ".out.mine.partial").mkdir()
    with new_folder(tmp_path / "out") as living:
        assert not left.exists()
        (living / "thing").write_text("a")
        with pytest.raises(RuntimeError, match="disk"), new_folder(tmp_path / "out"):
            raise RuntimeError("disk")
        assert (living / "thing").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.mine.partial", "out"]


# -------------------------------------------------------------------------------------------------------- standard readers


def test_zarr_opens_a_published_version_and_reads_what_we_read(faces):
    group = zarr.open_group(faces.path, mode="r")
    slots = faces.slots(range(len(faces)))
    assert np.array_equal(group["landmarks_px"][:][slots], faces.read(range(len(faces)))["landmarks_px"])
    pictures = np.moveaxis(group["image"][:][slots], 1, -1)
    assert np.array_equal(pictures, faces.read(range(len(faces)))["image"])


def test_xarray_opens_it_with_named_axes_and_decodes_fixed_point(faces):
    with xarray.open_zarr(faces.path, consolidated=True, mask_and_scale=True) as opened:
        assert opened["image"].dims == ("sample", "channel", "row", "column")
        slots = faces.slots(range(len(faces)))
        maps = np.moveaxis(opened["position_map"].isel(sample=slots).to_numpy(), 1, -1)
        covered = faces.table("atlas_covered").astype(bool)
        assert np.array_equal(maps[:, covered], faces.read(range(len(faces)))["position_map"][:, covered])
        assert opened["position_map"].attrs["units"] == "px"

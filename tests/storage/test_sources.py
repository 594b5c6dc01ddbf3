"""Listing a folder of annotated photographs: the same on every disk, and nothing left out silently."""

import hashlib
import os
import shutil
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from geometry.camera import ScaledOrthographicCamera
from geometry.morphable_model import Coefficients, DenseModel
from storage.annotations import write_annotation
from storage.bad_sample import BadSample
from storage.regular_files import read_regular_file
from storage.sources import SourceFingerprint, fingerprint_sources, open_source


def put(root: Path, *names: str) -> None:
    """Write files that hold their own names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def pair(root: Path, *stems: str, suffix: str = ".jpg") -> None:
    put(root, *(stem + ending for stem in stems for ending in (suffix, ".mat")))


def rejects(source) -> dict[str, str]:
    return {rejected.source_id: rejected.code for rejected in source.rejected}


@pytest.fixture
def release(tmp_path) -> Path:
    """The folders of 300W-LP in small, as the archive unpacks."""
    root = tmp_path / "300W_LP"
    for subset, photographs in (("AFW", ("134212_1", "134212_2")), ("IBUG", ("image_008_1",))):
        for photograph in photographs:
            for k in (0, 1, 2, 10):
                pair(root, f"{subset}/{subset}_{photograph}_{k}", f"{subset}_Flip/{subset}_{photograph}_{k}")
    put(root, "landmarks/AFW/AFW_134212_1_0_pts.mat", "Code/Model_Shape.mat", "Code/Mex/x.mat", "readme.txt")
    return root


def test_a_release_is_listed_by_family_and_view(release):
    source = open_source(release)
    assert source.kind == "300W-LP"
    assert source.rejected == ()
    assert len(source.items) == 24
    assert [item.source_id for item in source.items[:5]] == [
        "AFW/AFW_134212_1_0",
        "AFW/AFW_134212_1_1",
        "AFW/AFW_134212_1_2",
        "AFW/AFW_134212_1_10",
        "AFW_Flip/AFW_134212_1_0",
    ]
    last = source.items[-1]
    assert (last.source_id, last.k, last.is_flip, last.subset) == ("IBUG_Flip/IBUG_image_008_1_10", 10, True, "IBUG")
    assert last.image_path == release / "IBUG_Flip" / "IBUG_image_008_1_10.jpg"
    assert last.annotation_path == release / "IBUG_Flip" / "IBUG_image_008_1_10.mat"


def test_views_share_a_family_and_mirror_images_share_the_photograph(release):
    families: dict[str, list] = {}
    for item in open_source(release).items:
        families.setdefault(item.family, []).append(item)
    assert len(families) == 6
    for members in families.values():
        assert [item.k for item in members] == [0, 1, 2, 10]
        assert len({item.is_flip for item in members}) == 1
        assert len({item.photograph for item in members}) == 1
    photographs = {item.photograph for item in open_source(release).items}
    assert photographs == {"AFW/AFW_134212_1", "AFW/AFW_134212_2", "IBUG/IBUG_image_008_1"}


def test_a_folder_above_and_a_single_subset_are_listed_too(release):
    above = open_source(release.parent)
    assert len(above.items) == 24
    assert above.items[0].source_id == "300W_LP/AFW/AFW_134212_1_0"
    assert above.items[0].subset == "AFW"
    flat = open_source(release / "AFW")
    assert [item.source_id for item in flat.items][:2] == ["AFW_134212_1_0", "AFW_134212_1_1"]
    assert flat.items[0].subset == "AFW"
    assert not flat.items[0].is_flip


def test_flips_named_in_the_stem_are_understood(tmp_path):
    pair(tmp_path, "AFW_7_0", "AFW_7_1", "AFW_7_0_Flip", "AFW_7_Flip_1")
    items = {item.source_id: item for item in open_source(tmp_path).items}
    assert {name: (item.is_flip, item.k) for name, item in items.items()} == {
        "AFW_7_0": (False, 0),
        "AFW_7_1": (False, 1),
        "AFW_7_0_Flip": (True, 0),
        "AFW_7_Flip_1": (True, 1),
    }
    assert {item.photograph for item in items.values()} == {"AFW_7"}
    assert {item.family for item in items.values()} == {"AFW_7", "AFW_7_Flip"}


def test_aflw2000_is_recognised(tmp_path):
    pair(tmp_path, "image00002", "image00004", "image04157")
    put(tmp_path, "Code/Model_Exp.mat")
    source = open_source(tmp_path)
    assert source.kind == "AFLW2000-3D"
    first = source.items[0]
    assert (first.source_id, first.family, first.k, first.is_flip) == ("image00002", "image00002", 0, False)
    assert source.rejected == ()


def test_both_sets_at_once_are_refused(tmp_path):
    pair(tmp_path, "AFLW2000/image00002", "300W_LP/AFW/AFW_7_0")
    with pytest.raises(ValueError, match="holds 1 pictures of AFLW2000-3D and 1 others"):
        open_source(tmp_path)


def test_the_order_of_creation_and_the_place_do_not_matter(release, tmp_path):
    other = tmp_path / "elsewhere"
    for file in sorted((f for f in release.rglob("*") if f.is_file()), reverse=True):
        (other / file.relative_to(release)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, other / file.relative_to(release))
    assert [i.source_id for i in open_source(other).items] == [i.source_id for i in open_source(release).items]


# --- what cannot be a sample ---


def test_halves_are_listed_and_stop_nothing(tmp_path):
    pair(tmp_path, "AFW/AFW_7_0")
    put(tmp_path, "AFW/AFW_8_0.jpg", "AFW/AFW_9_0.mat", "AFW/notes.txt", "AFW/.hidden.jpg", "AFW/._AFW_7_0.mat")
    source = open_source(tmp_path)
    assert [item.source_id for item in source.items] == ["AFW/AFW_7_0"]
    assert rejects(source) == {"AFW/AFW_8_0": "source.no_annotation", "AFW/AFW_9_0": "source.no_image"}
    assert source.rejected[0].reason == "there is no AFW_8_0.mat beside AFW_8_0.jpg"


def test_of_two_pictures_of_one_stem_the_jpeg_is_taken(tmp_path):
    pair(tmp_path, "AFW_7_0", suffix=".png")
    put(tmp_path, "AFW_7_0.jpg", "AFW_7_0.jpeg", "AFW_7_0.MAT")
    source = open_source(tmp_path)
    (item,) = source.items
    assert item.image_path.name == "AFW_7_0.jpg"
    assert rejects(source) == {
        "AFW_7_0.png": "source.duplicate",
        "AFW_7_0.jpeg": "source.duplicate",
        "AFW_7_0.mat": "source.duplicate",
    }


def test_suffixes_in_capitals_are_read(tmp_path):
    put(tmp_path, "AFW_7_0.JPG", "AFW_7_0.Mat")
    assert [item.source_id for item in open_source(tmp_path).items] == ["AFW_7_0"]


def test_names_that_differ_in_case_alone_are_one_sample(tmp_path):
    pair(tmp_path, "AFW_a_0", "AFW_A_0", "AFW_b_0")
    source = open_source(tmp_path)
    assert [item.source_id for item in source.items] == ["AFW_A_0", "AFW_b_0"]
    assert rejects(source) == {"AFW_a_0": "source.duplicate"}


def test_names_are_composed_and_differences_in_composition_are_one_sample(tmp_path):
    composed, decomposed = "Zoë_0", unicodedata.normalize("NFD", "Zoë_0")
    pair(tmp_path, decomposed)
    (item,) = open_source(tmp_path).items
    assert item.source_id == composed
    assert item.read_image().decode() == decomposed + ".jpg", "the file keeps the name it has"
    pair(tmp_path, composed)
    source = open_source(tmp_path)
    assert [item.source_id for item in source.items] == [composed]
    assert rejects(source) == {composed: "source.duplicate"}


def test_names_that_are_no_text_are_refused_and_can_be_printed(tmp_path):
    pair(tmp_path, "AFW_7_0", "AFW_\n_0")
    (tmp_path / os.fsdecode(b"AFW_\xff_0.jpg")).write_text("x")
    (tmp_path / os.fsdecode(b"AFW_\xff_0.mat")).write_text("x")
    source = open_source(tmp_path)
    assert [item.source_id for item in source.items] == ["AFW_7_0"]
    assert rejects(source) == {"AFW_\\n_0": "source.name", "AFW_\\udcff_0": "source.name"}
    assert all(rejected.source_id.isprintable() and rejected.reason.isprintable() for rejected in source.rejected)


def test_links_pipes_and_folders_are_refused_one_by_one(tmp_path):
    outside = tmp_path / "outside"
    pair(outside, "AFW_1_0")
    root = tmp_path / "root"
    pair(root, "AFW_7_0")
    put(root, "AFW_2_0.jpg", "AFW_3_0.mat")
    (root / "AFW_2_0.mat").symlink_to("/etc/passwd")
    os.mkfifo(root / "AFW_3_0.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "folder.jpg").mkdir()
    (root / "AFW").symlink_to(outside)
    (root / "round").symlink_to(root)
    source = open_source(root)
    assert [item.source_id for item in source.items] == ["AFW_7_0"]
    assert rejects(source) == {
        "AFW": "file.link",
        "AFW_2_0.mat": "file.link",  # once: what its other half lacks is told
        "AFW_3_0.jpg": "file.not_regular",
        "folder.jpg": "file.not_regular",
        "loop.jpg": "file.link",
        "round": "file.link",
    }


def test_folders_without_end_are_cut_off(tmp_path):
    pair(tmp_path, "AFW_7_0", "/".join("abcdefghij") + "/AFW_8_0")
    source = open_source(tmp_path)
    assert [item.source_id for item in source.items] == ["AFW_7_0"]
    assert list(rejects(source).values()) == ["source.depth"]


def test_a_folder_that_holds_no_sample_is_our_callers_mistake(tmp_path):
    with pytest.raises(
        ValueError, match=r"holds no picture .* \(0 files could not be used\).*`facefoundry fit-landmarks`"
    ):
        open_source(tmp_path)
    put(tmp_path, "AFW_7_0.jpg")
    with pytest.raises(ValueError, match=r"\(1 files could not be used\)\. AFW_7_0: there is no AFW_7_0\.mat"):
        open_source(tmp_path)
    with pytest.raises(NotADirectoryError, match="unpack the archive"):
        open_source(tmp_path / "AFW_7_0.jpg")
    with pytest.raises(FileNotFoundError, match="give the folder that holds AFW"):
        open_source(tmp_path / "nowhere")


def test_a_folder_that_is_still_being_drawn_is_no_source(tmp_path):
    pair(tmp_path, "AFW/AFW_1_0")
    put(tmp_path, "profiles.unfinished.json")
    with pytest.raises(ValueError, match=r"not finished \(profiles\.unfinished\.json"):
        open_source(tmp_path)
    (tmp_path / "profiles.unfinished.json").rename(tmp_path / "fits.json")
    assert len(open_source(tmp_path).items) == 1


def test_sidecars_are_found_and_asked(tmp_path):
    def triangle(size: float) -> DenseModel:
        return DenseModel(
            name="triangle",
            licence="none",
            mean=size * np.eye(3, dtype=np.float32),
            identity_basis=np.ones((1, 9), np.float32),
            expression_basis=np.ones((1, 9), np.float32),
            identity_stddevs=np.ones(1),
            expression_stddevs=np.ones(1),
            triangles=np.array([[0, 1, 2]], np.int32),
            landmark_vertices=np.zeros(68, np.int32),
            regions=np.zeros(3, np.uint8),
        )

    pair(tmp_path, "AFW/AFW_7_0", "IBUG/IBUG_7_0")
    write_annotation(
        tmp_path / "IBUG" / "IBUG_7_0.mat",
        coefficients=Coefficients(np.zeros(1), np.zeros(1)),
        camera=ScaledOrthographicCamera(1.0, np.eye(3), np.zeros(3)),
        landmarks_px=None,
        pt2d=np.ones((2, 68)),
        model=triangle(1.0),
    )
    source = open_source(tmp_path)
    assert source.sidecar_folders == (tmp_path / "IBUG",)
    assert source.rejected == ()
    source.check_model(triangle(1.0))
    with pytest.raises(ValueError, match="IBUG holds coefficients of the model triangle"):
        source.check_model(triangle(2.0))


# --- reading and fingerprints ---


def test_fingerprints_are_the_sha256_of_both_files_in_order(release):
    items = open_source(release).items
    found = fingerprint_sources(items, processes=3)
    assert found == fingerprint_sources(items, processes=1)
    for item, fingerprint in zip(items, found, strict=True):
        assert fingerprint == SourceFingerprint(
            hashlib.sha256(item.image_path.read_bytes()).hexdigest(),
            hashlib.sha256(item.annotation_path.read_bytes()).hexdigest(),
        )


def test_a_file_that_became_a_link_or_a_pipe_is_one_bad_sample(release):
    items = open_source(release).items
    items[3].image_path.unlink()
    items[3].image_path.symlink_to("/etc/passwd")
    items[5].annotation_path.unlink()
    os.mkfifo(items[5].annotation_path)
    items[7].annotation_path.write_bytes(b"")
    found = fingerprint_sources(items)
    bad = {place: one.code for place, one in enumerate(found) if isinstance(one, BadSample)}
    assert bad == {3: "file.link", 5: "file.not_regular", 7: "file.empty"}


def test_a_file_that_vanished_is_the_worlds_failure(release):
    items = open_source(release).items
    items[0].image_path.unlink()
    with pytest.raises(FileNotFoundError):
        fingerprint_sources(items)


@pytest.mark.parametrize("size", [1, 4096, 100_000])
def test_a_file_is_read_up_to_its_limit_and_not_beyond(tmp_path, size):
    path = tmp_path / "x.jpg"
    path.write_bytes(bytes(size))
    assert len(read_regular_file(path, limit_bytes=size)) == size
    with pytest.raises(BadSample, match=f"has {size} bytes; at most {size - 1} are expected"):
        read_regular_file(path, limit_bytes=size - 1)


def test_a_device_that_never_ends_is_not_read():
    with pytest.raises(BadSample, match="not a regular file"):
        read_regular_file("/dev/zero", limit_bytes=1000)


def test_ten_thousand_samples_are_listed_in_a_moment(tmp_path):
    for n in range(10_000):
        (tmp_path / f"AFW_{n // 15}_{n % 15}.jpg").touch()
        (tmp_path / f"AFW_{n // 15}_{n % 15}.mat").touch()
    start = time.process_time()
    assert len(open_source(tmp_path).items) == 10_000
    assert time.process_time() - start < 2.0


# ------------------------------------------------------------------------------------------- photographs of several people


def test_further_annotations_and_boxes_belong_to_their_photograph(tmp_path):
    pair(tmp_path, "party/one", "party/two", "party/two.2")
    put(tmp_path, "party/one.1.mat", "party/one.10.mat", "party/one.2.mat", "party/one.faces.csv", "party/model.csv")
    source = open_source(tmp_path, several_faces=True)
    assert source.rejected == ()
    found = {item.source_id: [path.name for path in item.paths] for item in source.items}
    assert found == {
        "party/one": ["one.jpg", "one.mat", "one.1.mat", "one.2.mat", "one.10.mat", "one.faces.csv"],
        "party/two": ["two.jpg", "two.mat"],
        "party/two.2": ["two.2.jpg", "two.2.mat"],  # it has a photograph of its own
    }
    for item, found in zip(source.items, fingerprint_sources(source.items), strict=True):
        assert found.sha256 == tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in item.paths)


def test_without_several_faces_a_further_annotation_is_one_without_a_picture(tmp_path):
    pair(tmp_path, "one")
    put(tmp_path, "one.1.mat", "one.faces.json")
    source = open_source(tmp_path)
    assert rejects(source) == {"one.1": "source.no_image"}
    assert source.items[0].other_names == ()


def test_boxes_without_a_photograph_and_doubled_ones_are_told(tmp_path):
    pair(tmp_path, "one")
    put(tmp_path, "one.faces.csv", "one.faces.json", "two.faces.json", "one.1.mat", "one.01.mat")
    source = open_source(tmp_path, several_faces=True)
    assert rejects(source) == {
        "one.faces.json": "source.duplicate",
        "two.faces.json": "source.no_image",
        "one.1.mat": "source.duplicate",
    }
    assert [path.name for path in source.items[0].paths] == ["one.jpg", "one.mat", "one.01.mat", "one.faces.csv"]


def test_the_sidecar_of_a_folder_is_found_in_either_way_of_listing(tmp_path):
    pair(tmp_path, "one")
    put(tmp_path, "model.json")
    for several_faces in (False, True):
        assert open_source(tmp_path, several_faces=several_faces).sidecar_folders == (tmp_path,)

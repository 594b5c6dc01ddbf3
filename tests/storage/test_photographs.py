"""Folders of photographs: every picture is taken, or listed with its reason."""

import io
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from storage.bad_sample import BadSample
from storage.landmark_tables import TableRow
from storage.photographs import Photograph, decode_in_frame, fingerprint_photographs, open_photographs

POINTS = np.zeros((68, 2))


def put(root, *names: str) -> None:
    """Write files that hold their own names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def rejects(source) -> dict[str, str]:
    return {rejected.source_id: rejected.code for rejected in source.rejected}


def row(path: str, face: str = "", landmarks=POINTS) -> TableRow:
    return TableRow(path, face, landmarks)


def test_each_picture_is_taken_with_the_landmark_file_beside_it(tmp_path):
    put(tmp_path, "b.jpg", "b.pts", "a.png", "a.json", "deep/er/c.JPEG", "deep/er/c.mat", "notes.txt", "config.json")
    source = open_photographs(tmp_path)
    assert source.items == (
        Photograph("a", "a.png", "json", "a.json"),
        Photograph("b", "b.jpg", "pts", "b.pts"),
        Photograph("deep/er/c", "deep/er/c.JPEG", "mat", "deep/er/c.mat"),
    )
    assert source.rejected == ()


def test_what_cannot_be_used_is_listed_and_stops_nothing(tmp_path):
    put(
        tmp_path, "good.jpg", "good.pts", "good.mat", "good.png",  # the second of each kind is a duplicate
        "alone.jpg", "lost.pts", "lost.mat", "phone.heic", "phone.pts", "Good.jpg", "Good.pts",
    )  # fmt: skip
    os.symlink(tmp_path / "good.jpg", tmp_path / "link.jpg")
    (tmp_path / "folder.jpg").mkdir()
    source = open_photographs(tmp_path)
    assert [(item.source_id, item.landmarks) for item in source.items] == [("Good", "Good.pts")]
    assert rejects(source) == {
        "good": "source.duplicate",  # Good.jpg's name, on systems that do not know case
        "good.png": "source.duplicate",
        "good.mat": "source.duplicate",
        "alone": "source.no_landmarks",
        "lost": "source.no_image",
        "phone.heic": "image.format",
        "phone": "source.no_image",
        "link.jpg": "file.link",
        "folder.jpg": "file.not_regular",
    }


def test_a_broken_entry_is_listed_once_and_not_its_other_half_too(tmp_path):
    put(tmp_path, "good.jpg", "good.pts", "a.pts", "b.jpg", "c.jpg", "c.pts")
    os.symlink(tmp_path / "good.jpg", tmp_path / "a.jpg")
    os.symlink(tmp_path / "good.pts", tmp_path / "b.pts")
    os.mkfifo(tmp_path / "c.png")
    broken = {"a.jpg": "file.link", "b.pts": "file.link", "c.png": "file.not_regular"}
    source = open_photographs(tmp_path)
    assert [item.source_id for item in source.items] == ["c", "good"]
    assert rejects(source) == broken
    assert [item.source_id for item in open_photographs(tmp_path, detect=True).items] == ["b", "c", "good"]
    table = open_photographs(tmp_path, table=[row("good.jpg"), row("a.jpg"), row("b.jpg"), row("c.jpg")])
    assert rejects(table) == {"a.jpg": "file.link", "c.png": "file.not_regular"}


def test_a_detector_takes_the_pictures_without_landmarks_and_no_others(tmp_path):
    put(tmp_path, "alone.jpg", "good.jpg", "good.pts")
    source = open_photographs(tmp_path, detect=True)
    assert [(item.source_id, item.origin) for item in source.items] == [("alone", "detector"), ("good", "pts")]
    assert source.rejected == ()


def test_a_table_is_the_only_place_that_is_looked_at(tmp_path):
    put(tmp_path, "a.jpg", "a.pts", "sub/b.png", "c.jpg")
    table = [
        row("./a.jpg"), row("sub/b.png", "1"), row("sub/b.png", "2"), row("a.jpg"), row("gone.jpg"),
        row("sub/b.png", "3", BadSample("table.number", "row 6: 'x' is no number")),
    ]  # fmt: skip
    source = open_photographs(tmp_path, table=table)
    assert source.items == (
        Photograph("a", "a.jpg", "table"),
        Photograph("sub/b_1", "sub/b.png", "table", face="1"),
        Photograph("sub/b_2", "sub/b.png", "table", face="2"),
    )
    assert rejects(source) == {
        "a.jpg": "source.duplicate",
        "gone.jpg": "source.no_image",
        "sub/b.png_3": "table.number",
        "c": "source.no_landmarks",
    }
    assert [item.origin for item in open_photographs(tmp_path, table=table, detect=True).items][1] == "detector"


def test_names_are_the_same_whichever_system_unpacked_them(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Müller.jpg")
    put(tmp_path, decomposed)
    source = open_photographs(tmp_path, table=[row("Müller.jpg")])
    assert source.items == (Photograph("Müller", decomposed, "table"),)


def test_a_folder_with_nothing_to_fit_says_what_to_do(tmp_path):
    put(tmp_path, "a.jpg")
    with pytest.raises(ValueError, match=r"no photograph.*a: there are no landmarks beside it.*\.pts, \.json or \.mat"):
        open_photographs(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_photographs(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        open_photographs(tmp_path / "a.jpg")


def test_fingerprints_change_with_either_file(tmp_path):
    put(tmp_path, "a.jpg", "a.pts", "b.jpg", "b.pts", "empty.jpg", "empty.pts")
    (tmp_path / "empty.jpg").write_bytes(b"")
    first = fingerprint_photographs(open_photographs(tmp_path))
    (tmp_path / "b.pts").write_text("moved")
    second = fingerprint_photographs(open_photographs(tmp_path))
    assert first[0] == second[0]
    assert first[1].image_sha256 == second[1].image_sha256
    assert first[1].landmarks_sha256 != second[1].landmarks_sha256
    assert isinstance(first[2], BadSample)
    assert fingerprint_photographs(open_photographs(tmp_path, table=[row("a.jpg")]))[0].landmarks_sha256 == ""


def test_landmarks_count_stored_pixels_unless_the_frame_is_upright():
    """EXIF's orientation 6: the stored picture lies on its left side."""
    stored = np.zeros((40, 60, 3), dtype=np.uint8)
    stored[:20, :30] = 200  # the stored top left is the upright top right
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(stored).save(stream, format="PNG", exif=exif)
    as_stored, upright = (decode_in_frame(stream.getvalue(), frame) for frame in ("stored", "upright"))
    np.testing.assert_array_equal(as_stored, stored)
    assert upright.shape == (60, 40, 3)
    assert upright[0, -1, 0] == 200
    assert upright[0, 0, 0] == 0

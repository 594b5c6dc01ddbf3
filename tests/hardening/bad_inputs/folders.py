"""Archives and folders: what is no file, names that clash, sidecars, a million names."""

import json
import os
import re
import shutil
import tarfile
import time
import unicodedata
import zipfile
from pathlib import Path

from geometry import load_model
from storage.dataset import open_dataset
from storage.sources import open_source
from tests.hardening.bad_inputs.lab import BAD_STEM, BUILD, GOOD_STEM, Lab, peak_mb
from tests.hardening.bad_inputs.rows import REFUSED, SET_ASIDE, other


def archives_are_refused(lab: Lab, path: Path) -> None:
    """No archive is ever unpacked: as a source it is told to be no folder, as a model what it is."""
    before = sorted(lab.folder.rglob("*"))
    ended = lab.run(*BUILD, "--source", path, "--out", lab.out)
    ended.complains(1, re.escape(path.name), "unpack the archive and give the folder")
    lab.run("model", "import", path, "--out", lab.out).complains(1, re.escape(path.name))
    assert [found for found in sorted(lab.folder.rglob("*")) if not found.is_relative_to(lab.out)] == before
    assert not [found for found in lab.out.rglob("*") if found.is_file()]


NOT_UNPACKED = "refused: archives are never unpacked, so nothing can be written anywhere"


@other(35, "zip with `../`, absolute, linked, doubled names and ones that differ in case", NOT_UNPACKED, "1")
def _(lab: Lab) -> None:
    with zipfile.ZipFile(lab.folder / "source.zip", "w") as archive:
        for name in ("../../slip", "/tmp/absolute", "a.jpg", "A.JPG"):
            archive.writestr(name, "x")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    archives_are_refused(lab, lab.folder / "source.zip")


@other(36, "zip of 1 MB that unpacks to 256 MB", NOT_UNPACKED, "1")
def _(lab: Lab) -> None:
    with (
        zipfile.ZipFile(lab.folder / "source.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("z", "w", force_zip64=True) as member,
    ):
        for _ in range(16):
            member.write(bytes(1 << 24))
    archives_are_refused(lab, lab.folder / "source.zip")


@other(37, "tar with `../`, absolute names, a link that is written through, a device", NOT_UNPACKED, "1")
def _(lab: Lab) -> None:
    with tarfile.open(lab.folder / "source.tar", "w") as archive:
        for name, settings in (
            ("../slip", {}), ("/tmp/absolute", {}), ("l", {"type": tarfile.SYMTYPE, "linkname": "/"}), ("l/through", {}),
            ("n", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            for key, value in settings.items():
                setattr(member, key, value)
            archive.addfile(member)
    archives_are_refused(lab, lab.folder / "source.tar")


def put_what_is_no_file(lab: Lab) -> dict[str, str]:
    """Five things under pictures' and folders' names; their codes by id."""
    (lab.afw / f"{BAD_STEM}.mat").write_bytes(lab.good.mat)
    os.mkfifo(lab.afw / f"{BAD_STEM}.jpg")
    (lab.afw / "zero.jpg").symlink_to("/dev/zero")
    (lab.afw / "loop.jpg").symlink_to("loop.jpg")
    (lab.afw / "folder.jpg").mkdir()
    (lab.source / "circle").symlink_to(lab.source, target_is_directory=True)
    for name in ("zero", "loop", "folder"):
        (lab.afw / f"{name}.mat").write_bytes(lab.good.mat)
    return {
        f"AFW/{BAD_STEM}.jpg": "file.not_regular",
        "AFW/zero.jpg": "file.link",
        "AFW/loop.jpg": "file.link",
        "AFW/folder.jpg": "file.not_regular",
        "circle": "file.link",
    }


@other(
    38, "a pipe, a link to `/dev/zero`, a link to itself, a folder, each named as a picture; folders that link in a circle",
    SET_ASIDE + "; none is opened or followed", "3; 0 with the cap raised: `file.not_regular`, `file.link`",
)  # fmt: skip
def _(lab: Lab) -> None:
    expected = put_what_is_no_file(lab)
    lab.build().complains(3, "raise --max-bad")
    again = lab.build("--max-bad", "0.9")
    lab.good_ones_are_untouched(lab.samples(again))
    found = {hole.source_id: hole.code for hole in open_dataset(lab.out / "300wlp-posmaps").manifest.rejected}
    assert found == expected


@other(
    46,
    "names: a face, Arabic, decomposed umlauts, a newline, bytes that are no text",
    "read, composed (NFC), or set aside and printable",
    "3; 0 with the cap raised: `source.name`",
)
def _(lab: Lab) -> None:
    fine = ("😀_0", "وجه_0", unicodedata.normalize("NFD", "übung_0"), "with space_0")
    for stem in fine:
        lab.put(stem=stem)
    for name in (b"new\nline_0", b"no\xfftext_0"):
        for suffix, content in ((b".jpg", lab.good.jpeg), (b".mat", lab.good.mat)):
            (Path(os.fsdecode(os.path.join(os.fsencode(lab.afw), name + suffix)))).write_bytes(content)
    lab.build().complains(3, "rename both files")
    samples = lab.samples(lab.build("--max-bad", "0.9"))
    lab.good_ones_are_untouched(samples)
    assert {f"AFW/{unicodedata.normalize('NFC', stem)}" for stem in fine} <= samples.keys()
    holes = open_dataset(lab.out / "300wlp-posmaps").manifest.rejected
    assert [hole.code for hole in holes] == ["source.name"] * 2
    assert all(hole.source_id.isprintable() for hole in holes)


@other(
    47, "two pictures of one stem, names that differ in case or composition alone",
    "one is taken, by a rule that no disk decides; the others are set aside",
    "3; 0 with the cap raised: `source.duplicate`",
)  # fmt: skip
def _(lab: Lab) -> None:
    (lab.afw / f"{GOOD_STEM}.png").write_bytes(lab.good.jpeg)
    for stem in ("FACE_0", "face_0", "\u00fc_0", "u\u0308_0"):
        lab.put(stem=stem)
    lab.build().complains(3, "keep one|rename one")
    samples = lab.samples(lab.build("--max-bad", "0.9"))
    lab.good_ones_are_untouched(samples)
    holes = open_dataset(lab.out / "300wlp-posmaps").manifest.rejected
    assert {hole.source_id for hole in holes} == {"AFW/face_0", f"AFW/{GOOD_STEM}.png", "AFW/\u00fc_0"}
    assert {hole.code for hole in holes} == {"source.duplicate"}
    assert {"AFW/FACE_0", "AFW/\u00fc_0"} <= samples.keys()


@other(48, "an empty folder, one of pictures alone, one that is not there", REFUSED, "1")
def _(lab: Lab) -> None:
    (lab.folder / "empty").mkdir()
    (lab.folder / "pictures").mkdir()
    (lab.folder / "pictures" / "a.jpg").write_bytes(lab.good.jpeg)
    for name, words in (("empty", "holds no picture"), ("pictures", "holds no picture"), ("nowhere", "does not exist")):
        lab.run(*BUILD, "--source", lab.folder / name, "--out", lab.out).complains(1, name, words, "[Gg]ive the folder")
    assert not (lab.out / "300wlp-posmaps").exists()


@other(
    49,
    "a folder of a million names",
    "listed within a minute and 1.5 GB; what has nothing to do with samples is passed over",
    "the two samples in it are found",
)
def _(lab: Lab) -> None:
    crowd = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else lab.folder
    folder = crowd / f"facefoundry-crowd-{os.getpid()}"
    folder.mkdir()
    try:
        for suffix in (".jpg", ".mat"):
            shutil.copy(lab.good.source / "AFW" / f"{GOOD_STEM}{suffix}", folder)
        for number in range(1_000_000):
            os.mknod(f"{folder}/{number}.txt")
        start, before = time.process_time(), peak_mb(reset=True)
        source = open_source(folder)
        assert [item.source_id for item in source.items] == [GOOD_STEM]
        assert time.process_time() - start < 60
        assert peak_mb() - before < 1500
    finally:
        shutil.rmtree(folder)


@other(
    52,
    "the folder's `model.json` or `fits.json`: a pipe, no JSON, nested without end, without a licence",
    REFUSED,
    "1",
)
def _(lab: Lab) -> None:
    for name, place in (("model.json", lab.afw), ("fits.json", lab.source)):
        path = place / name
        os.mkfifo(path)
        lab.build().complains(1, name, "not a regular file")
        path.unlink()
        for content in (b"<html>", b"[" * 100_000, b"{}"):
            path.write_bytes(content)
            lab.build().complains(1, name)
        path.unlink()
    assert not (lab.out / "300wlp-posmaps" / "latest").exists()


@other(53, "the folder's `model.json` names another model", REFUSED, "1")
def _(lab: Lab) -> None:
    sidecar = {"model": "BFM 2009", "fingerprint": "0" * 32, "n_identity": 199, "n_expression": 29}
    (lab.afw / "model.json").write_text(json.dumps(sidecar))
    lab.build().complains(1, "other people's", load_model("built-in").fingerprint)

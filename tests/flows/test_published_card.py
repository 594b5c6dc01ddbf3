"""Every published version carries its card, repair makes it again, and the command line exports versions."""

import json
import subprocess
import sys
import tarfile

import pytest

from flows.local import build_here
from flows.presets import PRESETS
from flows.repair import repair_here
from storage.card import CARD_KEYS
from storage.dataset import open_dataset, version_store
from storage.verify import verify


@pytest.fixture(scope="module")
def built(sample_folder, tmp_path_factory):
    config = PRESETS["300wlp-posmaps"].config_of({"size": 128})
    return build_here(config, source=sample_folder, model="built-in", out=tmp_path_factory.mktemp("out"), workers=1)


def facefoundry(*arguments: str) -> subprocess.CompletedProcess:
    start = "from flows.command_line import main; main()"
    return subprocess.run([sys.executable, "-c", start, *arguments], capture_output=True, text=True, timeout=120)


def test_the_card_is_an_object_of_the_version(built):
    keys = {info.key for info in open_dataset(built.path).manifest.objects}
    assert set(CARD_KEYS) <= keys
    text = (built.path / "card.md").read_text()
    assert built.version in text
    assert "14 samples, 0 rejected" in text
    assert "CC0" in text


def test_a_damaged_card_is_made_again_byte_for_byte(built, sample_folder):
    store = version_store(built.path)
    before = {key: store.get(key) for key in CARD_KEYS}
    for key in CARD_KEYS:
        (built.path / key).write_bytes(before[key].replace(b"14", b"15", 1))
    assert {finding.key for finding in verify(store)} == set(CARD_KEYS)
    assert set(repair_here(store, verify(store), source=sample_folder, workers=1)) == set(CARD_KEYS)
    assert {key: store.get(key) for key in CARD_KEYS} == before
    assert verify(store) == []


def test_the_export_command_writes_a_version_and_says_so(built, tmp_path):
    done = facefoundry("export", str(built.path), "--to", "webdataset", "--out", str(tmp_path / "tars"), "--json")
    said = json.loads(done.stdout)
    assert said == {
        "path": str(tmp_path / "tars"), "dataset": built.dataset, "version": built.version, "samples": 14, "files": 1,
    }  # fmt: skip
    with tarfile.open(tmp_path / "tars" / "300wlp-posmaps-000000.tar") as tar:
        assert "000000013.json" in tar.getnames()


def test_exports_are_refused_in_one_line(built, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("")
    done = facefoundry("export", str(built.path), "--to", "prnet", "--out", str(tmp_path / "full"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "not empty" in done.stderr
    done = facefoundry("export", str(built.path), "--to", "parquet", "--format", "obj", "--out", str(tmp_path / "new"))
    assert done.returncode == 2
    assert not (tmp_path / "new").exists()

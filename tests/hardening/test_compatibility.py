"""What an earlier version wrote is read, and gives the same values; what a later one wrote is refused with the remedy."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import zarr

from geometry import model_archive, open_model
from geometry.model_checks import ModelFileError
from storage import manifest
from storage.dataset import open_dataset
from storage.local_store import LocalStore
from storage.manifest import NewerFormat
from storage.verify import verify
from tests.hardening.kept import DATA, DATASETS, digests
from train import checkpoint
from train.checkpoint import BadCheckpoint, save_checkpoint
from train.restore import restore

MODEL, CHECKPOINT = DATA / "model.ffmodel.npz", DATA / "checkpoint.pt"


def test_everything_that_is_kept_gives_the_values_that_it_gave():
    assert digests() == json.loads((DATA / "kept.json").read_text())


@pytest.mark.parametrize("name", ["faces", "every-code"])
def test_kept_data_sets_are_whole_and_read_by_zarr(name):
    dataset = open_dataset(DATASETS / name)
    assert verify(LocalStore(dataset.path)) == []
    group = zarr.open_group(dataset.path, mode="r")
    assert {key for key in group if key != "tables"} == {target.name for target in dataset.schema.targets}


def test_what_is_kept_says_which_format_it_has():
    """A format's number is in every file, so that a later reader can know."""
    formats = [open_dataset(DATASETS / name).manifest.format_version for name in ("faces", "every-code")]
    assert formats == [1, 1]
    with zipfile.ZipFile(MODEL) as archive:
        assert json.loads(archive.read("meta.json"))["format"] == 1
    assert torch.load(CHECKPOINT, weights_only=True)["facefoundry_checkpoint"] == 1
    assert min(manifest.FORMAT_VERSION, model_archive.FORMAT, checkpoint.FORMAT) >= 1


def _later_dataset(folder: Path) -> Callable[[], object]:
    shutil.copytree(DATASETS / "faces", folder / "faces")
    (path,) = (folder / "faces").glob("*/manifest.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "format_version": manifest.FORMAT_VERSION + 1, "something": "new"}))
    return lambda: open_dataset(folder / "faces")


def _later_model(folder: Path) -> Callable[[], object]:
    later = folder / "later.ffmodel.npz"
    with zipfile.ZipFile(MODEL) as kept, zipfile.ZipFile(later, "w") as archive:
        for name in kept.namelist():
            content = kept.read(name)
            if name == "meta.json":
                content = json.dumps({**json.loads(content), "format": model_archive.FORMAT + 1}).encode()
            archive.writestr(name, content)
    return lambda: open_model(later)


def _later_checkpoint(folder: Path) -> Callable[[], object]:
    state = torch.load(CHECKPOINT, weights_only=True)
    save_checkpoint(folder / "later.pt", {**state, "facefoundry_checkpoint": checkpoint.FORMAT + 1})
    return lambda: restore(folder / "later.pt")


@pytest.mark.parametrize(
    ("make", "refusal"),
    [(_later_dataset, NewerFormat), (_later_model, ModelFileError), (_later_checkpoint, BadCheckpoint)],
)
def test_a_later_format_is_refused_with_its_number_and_the_remedy(make, refusal, tmp_path):
    with pytest.raises(refusal, match=r"format (version )?2\b.*update facefoundry"):
        make(tmp_path)()


def test_what_is_kept_is_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 800_000

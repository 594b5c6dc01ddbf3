"""A checkpoint's bytes: what has changed since it was written is never read as weights."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from train.checkpoint import FORMAT, BadCheckpoint, load_checkpoint, save_checkpoint


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"system": "prnet", "network": {"weight": torch.arange(3000.0).reshape(50, 60)}})
    return path


def test_what_was_saved_is_loaded(path):
    state = load_checkpoint(path, system="prnet")
    np.testing.assert_array_equal(state["network"]["weight"], np.arange(3000.0).reshape(50, 60))


def test_no_changed_byte_gives_other_weights(path):
    """torch writes a checksum for each array and does not look at it."""
    right, content = load_checkpoint(path)["network"]["weight"], path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for place in rng.integers(0, len(content), 150):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            found = load_checkpoint(path)["network"]["weight"]
        except BadCheckpoint:
            refused += 1
        else:
            assert torch.equal(found, right), place
    assert refused > 100


def test_two_parts_of_one_name_are_refused(path):
    with zipfile.ZipFile(path) as archive:
        (data,) = (name for name in archive.namelist() if name.endswith("/data/0"))
        content = archive.read(data)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(data, content[::-1])
    with pytest.raises(BadCheckpoint, match="two of its parts have one name"):
        load_checkpoint(path)


@pytest.mark.parametrize("number", ["1", None, 0, -3])
def test_a_format_that_never_was_is_refused(path, number):
    save_checkpoint(path, {"system": "prnet", "facefoundry_checkpoint": number})
    with pytest.raises(BadCheckpoint, match="which there never was"):
        load_checkpoint(path)


def test_a_checkpoint_without_a_system_is_refused(path):
    save_checkpoint(path, {"facefoundry_checkpoint": FORMAT, "network": {}})
    with pytest.raises(BadCheckpoint, match="which system it is of"):
        load_checkpoint(path)


def test_what_is_no_file_is_neither_waited_for_nor_read_without_end(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(BadCheckpoint, match="is no regular file"):
        load_checkpoint(tmp_path / "pipe.pt")
    with pytest.raises(BadCheckpoint, match="is no regular file"):
        load_checkpoint(Path("/dev/zero"))
    with pytest.raises(BadCheckpoint, match="is a folder"):
        load_checkpoint(tmp_path)

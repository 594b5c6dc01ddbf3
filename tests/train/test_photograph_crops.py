"""Training crops of whole photographs: the same in any order, others in every epoch, what lies outside is ignored."""

import numpy as np
import pytest
import torch

from flows.local import build_here
from flows.presets import densereg_fields
from render.paper_crops import DENSEREG_CROP_PX
from storage.dataset import open_dataset
from storage.synthetic import write_sample_folder
from train import densereg
from train.loader import make_loader
from train.loop import train
from train.photograph_crops import PhotographCrops, holds_photographs
from train.run_config import RunConfig
from train.system import PhaseConfig

TARGETS = ("image", "uv", "label", "landmarks_px", "part", "source_id")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    write_sample_folder(folder / "sample", n_identities=1, n_expressions=1, n_views=2)
    return open_dataset(
        build_here(densereg_fields(longest_px=200), source=folder / "sample", out=folder, workers=1).path
    )


def test_a_crop_depends_on_seed_photograph_and_epoch_alone(photographs):
    crops = PhotographCrops(photographs, seed=4)
    both = crops.read([1, 3], TARGETS, 2)
    alone = crops.read([3], TARGETS, 2)
    for name in TARGETS:
        np.testing.assert_array_equal(both[name][1], alone[name][0])
    assert not np.array_equal(crops.read([3], ("image",), 3)["image"], alone["image"])
    assert not np.array_equal(PhotographCrops(photographs, seed=5).read([3], ("image",), 2)["image"], alone["image"])


def test_batches_of_photographs_are_squares_whose_outside_is_ignored(photographs):
    assert holds_photographs(photographs)
    batch = next(iter(make_loader(photographs, batch_size=3, targets=TARGETS, augment="densereg")))
    assert batch["image"].shape == (3, 3, DENSEREG_CROP_PX, DENSEREG_CROP_PX)
    assert batch["uv"].shape == (3, 2, DENSEREG_CROP_PX, DENSEREG_CROP_PX)
    ignored = batch["label"] == 255
    assert bool(ignored.any()), "crops of 321 px of pictures of 200 at most show what lies beyond"
    black = batch["image"].movedim(1, -1)[ignored].amax(dim=-1) == 0
    assert float(black.float().mean()) > 0.9, "but for a border of half a pixel"


def test_targets_that_crops_do_not_have_are_refused(photographs):
    with pytest.raises(ValueError, match="crops of photographs have no identity; they have image"):
        make_loader(photographs, batch_size=2, targets=("image", "identity"), augment="densereg")


def test_densereg_trains_on_photographs_and_not_without_crops(photographs, tmp_path):
    torch.manual_seed(0)
    phases = (PhaseConfig(name="train", steps=1),)
    small = {"width": 4, "resolution": 33, "batch_size": 2, "phases": phases}
    system = densereg.DenseReg.for_dataset(densereg.tiny(**small), photographs)
    done = train(system, photographs, tmp_path, RunConfig(), validation=photographs)
    assert done.measure == "uv_error"
    assert 0 <= done.best_validation <= 1
    with pytest.raises(ValueError, match="holds whole photographs of many sizes.*take --augment densereg"):
        train(system, photographs, tmp_path / "plain", RunConfig(augment="none"))

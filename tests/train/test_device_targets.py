"""Maps and fields made on the device are those that a builder stored, or a reader would have decoded, wherever a face goes."""

import numpy as np
import pytest
import torch

from flows.config import BuildConfig
from flows.local import build_here
from flows.presets import posmaps_300wlp
from render.augmentation_config import AugmentationConfig
from render.quantization import IGNORE
from render.spreads import Uniform
from storage.dataset import open_dataset
from storage.face_targets import PARAMETRIC_PRECISION_PX
from storage.views import select
from train.device_targets import DeviceTargets, made_on_device
from train.loader import make_loader

DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
MAPS = ("image", "position_map", "landmarks_px", "mirrored")
TURNED = AugmentationConfig(rotation=Uniform(low=-0.5, high=0.5), scale=Uniform(low=0.8, high=1.2), flip=0.5)
FIELDS = ("image", "uv", "label", "depth", "part", "mirrored")


@pytest.fixture(scope="module")
def dataset(few_faces, tmp_path_factory):
    """Ten crops of 96 px with the parameters of their maps, and stored fields to compare with."""
    config: BuildConfig = posmaps_300wlp(size_px=96, maps="parametric", targets=["posmap", "field", "parts"])
    out = tmp_path_factory.mktemp("parametric")
    return open_dataset(build_here(config, source=few_faces.parents[2] / "sample", out=out, workers=1).path)


def batch_of(dataset, targets, *, decode_on, device="cpu", augment=None):
    options = {"batch_size": len(dataset), "shards_in_flight": 0, "seed": 5, "targets": targets, "augment": augment}
    batch = next(iter(make_loader(dataset, device=device, decode_on=decode_on, **options)))
    return {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


@DEVICES
@pytest.mark.parametrize("augment", [None, TURNED], ids=["still", "turned"])
def test_a_map_made_on_the_device_is_the_readers(dataset, device, augment):
    read = batch_of(dataset, MAPS, decode_on="worker", augment=augment)
    made = batch_of(dataset, MAPS, decode_on="device", device=device, augment=augment)
    assert made.keys() == read.keys(), "nothing that was read for the map alone is left"
    assert augment is None or 0 < int(read["mirrored"].sum()) < len(dataset), "both sides are among them"
    assert made["position_map"].dtype == torch.float32
    assert float((made["position_map"] - read["position_map"]).abs().max()) < PARAMETRIC_PRECISION_PX
    uncovered = torch.from_numpy(dataset.table("atlas_covered") == 0)
    assert not made["position_map"][:, :, uncovered].any()


@DEVICES
def test_a_field_made_on_the_device_is_the_builders(dataset, device):
    read = batch_of(dataset, FIELDS, decode_on="worker")
    made = batch_of(dataset, FIELDS, decode_on="device", device=device)
    assert {name: (v.dtype, v.shape) for name, v in made.items()} == {n: (v.dtype, v.shape) for n, v in read.items()}
    assert float((made["label"] != read["label"]).float().mean()) < 1e-3
    both = (made["label"] == 1) & (read["label"] == 1)
    assert float((made["part"] != read["part"])[both].float().mean()) < 5e-3
    off = (made["uv"] - read["uv"]).abs().amax(dim=1)[both]
    assert float((off > 1e-3).float().mean()) < 1e-3, "but for near-ties in depth"
    assert float((made["depth"] - read["depth"]).abs()[both].quantile(0.999)) < 1e-3
    assert not made["uv"].movedim(1, -1)[made["label"] != 1].any()


@DEVICES
def test_the_field_of_a_moved_picture_is_drawn_there_and_unknown_beside_it(dataset, device):
    read = batch_of(dataset, FIELDS, decode_on="worker", augment=TURNED)
    made = batch_of(dataset, FIELDS, decode_on="device", device=device, augment=TURNED)
    torch.testing.assert_close(made["image"], read["image"], atol=1.5 / 255, rtol=0)
    beside = read["label"] == IGNORE
    assert beside.any(), "some pictures were made smaller"
    assert float((made["label"] == IGNORE)[beside].float().mean()) > 0.999
    # What was stored is moved to the nearest pixel; what is drawn is exact: they differ by half a pixel.
    assert float((made["label"] != read["label"]).float().mean()) < 0.02
    both = (made["label"] == 1) & (read["label"] == 1)
    off = (made["uv"] - read["uv"]).abs().amax(dim=1)[both]
    assert float(off.median()) < 5e-3
    mirrored = read["mirrored"]
    assert 0 < int(mirrored.sum()) < len(dataset), "some were mirrored on the way"
    of_mirrored = (made["uv"] - read["uv"]).abs().amax(dim=1)[mirrored][both[mirrored]]
    assert float(of_mirrored.median()) < 5e-3, "left and right changed sides in both"
    assert float((made["part"] != read["part"])[mirrored][both[mirrored]].float().mean()) < 0.05


def test_only_what_can_be_made_is_made_and_its_parameters_are_read_instead(dataset):
    found = DeviceTargets(dataset, ("image", "position_map", "uv", "landmarks_px"), "cpu")
    assert found.made == ("position_map", "uv")
    assert set(found.read) == {"image", "landmarks_px", "identity", "expression", "crop_from_model", "mirrored"}
    assert made_on_device(dataset, ("image", "landmarks_px"), "cpu") is None
    without = select(dataset, slice(None), targets=["image", "uv", "label", "landmarks_px"])
    assert made_on_device(without, None, "cpu") is None, "no parameters, no field"


def test_stored_maps_are_read_and_not_made(few_faces):
    found = DeviceTargets(open_dataset(few_faces), ("image", "position_map", "label"), "cpu")
    assert found.made == ("label",)
    assert "position_map" in found.read


def test_a_batch_goes_on_in_the_middle_of_an_epoch(dataset):
    options = {"batch_size": 3, "targets": MAPS, "decode_on": "device", "augment": TURNED}
    whole = [batch["position_map"] for batch in make_loader(dataset, **options)]
    first = make_loader(dataset, **options)
    next(iter(first))
    second = make_loader(dataset, **options)
    second.load_state_dict(first.state_dict())
    rest = [batch["position_map"] for batch in second]
    assert len(rest) == len(whole) - 1
    for one, other in zip(rest, whole[1:], strict=True):
        np.testing.assert_array_equal(one, other)

"""A run that was stopped in the middle of an epoch and resumed is the unbroken one, whichever system is trained."""

import pytest
import torch

from storage.dataset import open_dataset
from train import dan, densereg, fan3d, mesh_gcn, prnet
from train.checkpoint import load_checkpoint
from train.loop import LAST, train
from train.run_config import RunConfig
from train.system import PhaseConfig

RUN = RunConfig(seed=4, ema_decay=0.9, save_every=100, log_every=1)
STEPS = 3


@pytest.fixture(scope="module")
def dataset(few_faces):
    return open_dataset(few_faces)


@pytest.fixture(scope="module")
def first_mesh_gcn(dataset):
    """Its hierarchy takes seconds; others take it over."""
    phase = PhaseConfig(name="train", steps=STEPS)
    config = mesh_gcn.MeshGcnConfig(batch_size=4, levels=(16, 64), channels=8, embedding=8, phases=(phase,))
    return mesh_gcn.MeshGcn.for_dataset(config, dataset)


def small(name, dataset, first_mesh_gcn):
    """A small system whose every phase is a few steps long; weights are drawn anew each time."""

    def phases(*names):
        return {"batch_size": 4, "phases": tuple(PhaseConfig(name=one, steps=STEPS) for one in names)}

    match name:
        case "dan":
            config = dan.DANConfig(size_px=16, widths=(4, 8), hidden=8, **phases("stage-1", "stage-2"))
            return dan.DAN.for_dataset(config, dataset)
        case "densereg":
            return densereg.DenseReg.for_dataset(
                densereg.tiny(width=4, resolution=33, depth=True, **phases("train")), dataset
            )
        case "fan3d":
            config = fan3d.tiny().model_copy(
                update={"size_px": 32, "hourglass_channels": 8, "hourglass_depth": 1, "width": 4}
                | phases("detector", "regressor", "joint", "depth")
            )
            return fan3d.Fan3d.for_dataset(config, dataset)
        case "mesh_gcn":
            first = first_mesh_gcn
            system = mesh_gcn.MeshGcn(first.config, hierarchy=first._hierarchy, state=first.state())
            system._model = first._model
            return system
        case _:
            config = prnet.PRNetConfig(width=4, resolution=32, **phases("train"))
            return prnet.PRNet.for_dataset(config, dataset)


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("name", ["dan", "densereg", "fan3d", "mesh_gcn", "prnet"])
def test_a_run_stopped_in_the_middle_of_an_epoch_and_resumed_is_the_unbroken_one(
    name, dataset, first_mesh_gcn, tmp_path
):
    torch.manual_seed(1)
    unbroken = small(name, dataset, first_mesh_gcn)
    start = {key: value.clone() for key, value in unbroken.network.state_dict().items()}
    train(unbroken, dataset, tmp_path / "unbroken", RUN)
    stopped_after = 2 if len(unbroken.config.phases) == 1 else STEPS + 1
    asked = iter(range(1, 100))
    first = small(name, dataset, first_mesh_gcn)
    first.network.load_state_dict(start)
    train(first, dataset, tmp_path / "broken", RUN, stop=lambda: next(asked) >= stopped_after)
    torch.manual_seed(77)  # another process begins with other weights
    done = train(small(name, dataset, first_mesh_gcn), dataset, tmp_path / "broken", RUN)
    assert done.finished
    whole, mended = (load_checkpoint(tmp_path / folder / LAST) for folder in ("unbroken", "broken"))
    moved = [key for key, value in start.items() if not torch.equal(value, whole["network"][key])]
    assert moved, "it learnt at all"
    assert same(whole, mended)

"""Faults while a training writes a checkpoint: what is there is a whole one, and the resumed run is the undisturbed one."""

import os
import signal
from pathlib import Path

import pytest
import torch

from storage.dataset import open_dataset
from storage.store import DamagedObject, MissingObject
from tests.hardening.builders import _lift_limits
from tests.hardening.faults import FAULTS, FaultPlan, Room, injected, seed_between
from train.checkpoint import BadCheckpoint, load_checkpoint
from train.dan import DAN, DANConfig
from train.loop import LAST, train
from train.run_config import RunConfig
from train.system import OptimiserConfig, PhaseConfig

RUN = RunConfig(seed=1, augment="none", save_every=2, log_every=2, validate_every=100)
STEPS = 5
DIES = {"kill": -signal.SIGKILL, "terminate": -signal.SIGTERM}
FAILS = ("interrupt", "out_of_memory", "no_descriptors", "disk_full", "input_output_error")
PASSES = ("memory_limit", "slow_disk", "clock_back", "clock_on")
"""Under a limit of memory this small training may end or not; with the others it ends well."""


def trained(dataset, folder: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    phases = (PhaseConfig(name="stage-1", steps=STEPS, optimiser=OptimiserConfig(learning_rate=1e-3)),)
    config = DANConfig(batch_size=4, size_px=16, widths=(4, 8), hidden=8, phases=phases)
    train(DAN.for_dataset(config, dataset), dataset, folder, RUN)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / LAST, system="dan")["network"]


@pytest.fixture(scope="module")
def faces(small_faces, tmp_path_factory) -> Path:
    return small_faces.build(tmp_path_factory.mktemp("training")).path


@pytest.fixture(scope="module")
def undisturbed(faces, tmp_path_factory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("undisturbed")
    trained(open_dataset(faces), folder)
    return weights(folder)


def in_a_child(faces: Path, room: Room, plan: FaultPlan) -> int:
    """The exit code of a training with the faults of `plan`: 0, 3 for an exception, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            with injected(plan, room):
                trained(open_dataset(faces), room.out)
        except BaseException as error:
            code = 3
            _lift_limits()
            room.write(ended=type(error).__name__)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("at_the_first", [True, False])
@pytest.mark.parametrize("fault", [*DIES, *FAILS, *PASSES])
def test_a_training_with_a_fault_leaves_a_whole_checkpoint_or_none_and_goes_on_as_if_nothing_had_been(
    fault, at_the_first, faces, undisturbed, tmp_path
):
    room = Room(tmp_path)
    plan = (
        FaultPlan.always("training", fault)
        if at_the_first
        else FaultPlan({"training": {fault: 0.5}}, seed_between(0.5, 1, 1))
    )
    code = in_a_child(faces, room, plan)
    assert room.told("struck") == [fault]
    if fault in DIES:
        assert code == DIES[fault]
    elif fault in FAILS:
        assert code == 3
    else:
        assert code == 0 or fault == "memory_limit"
    if (room.out / LAST).exists():
        load_checkpoint(room.out / LAST, system="dan")
    elif not at_the_first:
        raise AssertionError("the checkpoint of before is gone")
    trained(open_dataset(faces), room.out)
    found = weights(room.out)
    assert found.keys() == undisturbed.keys()
    assert all(torch.equal(found[name], undisturbed[name]) for name in found)
    assert not [path for path in room.out.iterdir() if path.name.startswith(f".{LAST}")]


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_checkpoint_is_named_and_not_gone_on_from(damage, faces, undisturbed, tmp_path):
    trained(open_dataset(faces), tmp_path)
    path = tmp_path / LAST
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    with pytest.raises(BadCheckpoint):
        trained(open_dataset(faces), tmp_path)


def test_a_training_on_damaged_shards_stops_and_learns_from_no_wrong_sample(small_faces, tmp_path):
    faces = small_faces.build(tmp_path / "data").path
    shard = max((faces / "image").glob("c.*"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises((DamagedObject, MissingObject)):
        trained(open_dataset(faces), tmp_path / "run")


def test_every_fault_of_the_process_and_its_disk_is_tried():
    of_builds = {
        name for name in FAULTS if "sample" in name or "model" in name or name in ("endless_numbers", "second_builder")
    }
    of_data = {name for name in FAULTS if "bit" in name or "object" in name or "shards" in name or name == "cut_short"}
    of_folders = {"tmpfs_full", "read_only"}  # disk_full and no_descriptors end at the same call
    assert {*DIES, *FAILS, *PASSES} == set(FAULTS) - of_builds - of_data - of_folders

"""The training loop: resumed runs are unbroken runs, processes add up, what goes wrong is said and loses nothing."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.dataset import open_dataset
from storage.views import select, subset
from train.checkpoint import BadCheckpoint, load_checkpoint, save_checkpoint
from train.dan import DAN, DANConfig
from train.loop import BEST, LAST, Diverged, train
from train.prnet import PRNet, PRNetConfig
from train.prnet_network import PositionMapNetwork
from train.run_config import RunConfig
from train.run_log import CURVES, EVENTS, LOG, read_log
from train.system import OptimiserConfig, PhaseConfig

ONE_STEP = Path(__file__).with_name("one_step.py")
RUN = RunConfig(seed=1, ema_decay=0.8, save_every=3, log_every=2, validate_every=2)
STEPS = 5


class Killed(Exception):
    """Something from outside that ends a process."""


@pytest.fixture(scope="module")
def dataset(few_faces):
    return open_dataset(few_faces)


def small_dan(dataset, *, kind="adam", steps=STEPS, learning_rate=1e-3, patience=None):
    """Two stages with dropout, statistics and drawn starts: everything that a resumed run could get wrong."""
    torch.manual_seed(0)
    optimiser = OptimiserConfig(kind=kind, learning_rate=learning_rate, decay="geometric")
    phases = tuple(PhaseConfig(name=f"stage-{k}", steps=steps, optimiser=optimiser, patience=patience) for k in (1, 2))
    return DAN.for_dataset(DANConfig(batch_size=4, size_px=16, widths=(4, 8), hidden=8, phases=phases), dataset)


def after(n):
    """Says stop once it was asked `n` times: a training asks after every step."""
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= n


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one == other


@pytest.fixture(scope="module", params=["adam", "sgd"])
def unbroken(request, tmp_path_factory, dataset):
    folder = tmp_path_factory.mktemp("unbroken") / request.param
    train(small_dan(dataset, kind=request.param), dataset, folder, RUN, validation=dataset)
    return request.param, folder


@pytest.mark.parametrize("stopped_after", [1, 4, 5, 8])  # mid-epoch, between and in phases, on and off checkpoints
def test_a_run_that_was_stopped_anywhere_and_resumed_is_the_unbroken_one_bit_by_bit(
    unbroken, tmp_path, dataset, stopped_after
):
    kind, folder = unbroken
    first = train(small_dan(dataset, kind=kind), dataset, tmp_path, RUN, validation=dataset, stop=after(stopped_after))
    assert (first.steps, first.finished) == (stopped_after, False)
    torch.manual_seed(99)  # the second process begins with other weights and another state
    second = train(small_dan(dataset, kind=kind), dataset, tmp_path, RUN, validation=dataset)
    assert (second.steps, second.finished) == (2 * STEPS, True)
    for name in (LAST, BEST):
        assert same(load_checkpoint(tmp_path / name), load_checkpoint(folder / name)), name


def test_a_run_that_was_killed_between_two_checkpoints_is_the_unbroken_one_too(unbroken, tmp_path, dataset):
    kind, folder = unbroken

    def die(progress):
        if (progress.phase, progress.step) == ("stage-2", 4):  # one step after a checkpoint
            raise Killed

    with pytest.raises(Killed):
        train(small_dan(dataset, kind=kind), dataset, tmp_path, RUN, validation=dataset, report=die)
    train(small_dan(dataset, kind=kind), dataset, tmp_path, RUN, validation=dataset)
    assert same(load_checkpoint(tmp_path / LAST), load_checkpoint(folder / LAST))
    steps = [line["total_steps"] for line in read_log(tmp_path)]
    assert steps == [line["total_steps"] for line in read_log(folder)], "no line twice, none missing"


def test_the_log_its_events_and_the_curves_tell_of_both_phases(unbroken):
    _, folder = unbroken
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert [line["phase"] for line in lines] == sorted(line["phase"] for line in lines)
    assert {line["phase"] for line in lines} == {"stage-1", "stage-2"}
    for line in lines:
        busy = 1 / line["model_samples_per_second"] + 1 / line["loader_samples_per_second"]
        assert np.isclose(1 / busy, line["samples_per_second"], rtol=0.01), "who waits for whom adds up"
        assert (line["validation"] is None) == (line["measure"] is None)
    assert (folder / CURVES).read_bytes().startswith(b"\x89PNG")
    assert any((folder / EVENTS).iterdir())


def moved_weights(folder):
    return torch.cat([value.flatten() for value in load_checkpoint(folder / LAST)["network"].values()]).double()


@pytest.fixture(scope="module")
def one_step():
    specification = importlib.util.spec_from_file_location("one_step", ONE_STEP)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.one_step


@pytest.fixture(scope="module")
def step_of_one_process(one_step, few_faces, tmp_path_factory):
    """How far weights moved, and where to."""
    folder = tmp_path_factory.mktemp("one")
    one_step(few_faces, folder)
    torch.manual_seed(3)
    start = PositionMapNetwork(4).state_dict()
    after = moved_weights(folder)
    moved = after - torch.cat([value.flatten() for value in start.values()]).double()
    assert float(moved.abs().max()) > 1e-3, "a hundred times what the comparisons allow"
    return after


def test_two_processes_take_the_step_of_one_with_the_doubled_batch(step_of_one_process, few_faces, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = [sys.executable, str(ONE_STEP), str(few_faces), str(tmp_path), "1"]
    environment = os.environ | {"PYTHONPATH": str(ONE_STEP.parents[2])}
    others = [
        subprocess.Popen([*arguments, str(rank), "2", port], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    complaints = [process.communicate(timeout=120)[1] for process in others]
    assert [process.returncode for process in others] == [0, 0], complaints
    torch.testing.assert_close(moved_weights(tmp_path), step_of_one_process, rtol=0, atol=1e-5)


def test_accumulated_batches_take_the_step_of_one_large_batch(one_step, step_of_one_process, few_faces, tmp_path):
    one_step(few_faces, tmp_path, accumulate=4)
    torch.testing.assert_close(moved_weights(tmp_path), step_of_one_process, rtol=0, atol=1e-5)


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_last_good_checkpoint(tmp_path, dataset, monkeypatch):
    losses, good = DAN.losses, []

    def poisoned(self, prepared, phase):
        good.append(None)
        found = losses(self, prepared, phase)
        return found if len(good) <= 4 else found | {"loss": found["loss"] * float("nan")}

    monkeypatch.setattr(DAN, "losses", poisoned)
    with pytest.raises(
        Diverged, match=r"weights became NaN at step 6 of phase stage-1.*last\.pt holds the last good"
    ) as e:
        train(small_dan(dataset, steps=9), dataset, tmp_path, RunConfig(save_every=3, log_every=100))
    assert "Lower the learning rate" in str(e.value)
    kept = load_checkpoint(tmp_path / LAST)
    assert kept["step"] == 3
    assert all(value.isfinite().all() for value in kept["network"].values())


def test_a_loss_that_runs_away_ends_the_run(tmp_path, dataset):
    config = RunConfig(log_every=1, diverged_above=3.0)
    with pytest.raises(Diverged, match="the loss of dan became"):
        train(small_dan(dataset, kind="sgd", steps=9, learning_rate=1e5), dataset, tmp_path, config)


def test_a_phase_ends_when_validation_has_not_gained_for_long_enough_and_the_next_begins_with_the_best(
    tmp_path, dataset, monkeypatch
):
    seen = []

    def errors(self, batch, phase):
        seen.append(phase.name)
        return np.full(len(batch["image"]), 1.0 if len(seen) == 2 else 2.0 + len(seen))

    monkeypatch.setattr(DAN, "errors", errors)
    states = []
    begin = DAN.begin

    def noting(self, phase):
        if phase.name == "stage-2":
            states.append({name: value.clone() for name, value in self.network.stages[0].state_dict().items()})
        begin(self, phase)

    monkeypatch.setattr(DAN, "begin", noting)
    config = RunConfig(validate_every=1, log_every=100)
    done = train(small_dan(dataset, steps=50, patience=2), dataset, tmp_path, config, validation=dataset)
    assert seen == ["stage-1"] * 4 + ["stage-2"] * 3, "the second is the best, two more without a gain; then three"
    assert (done.steps, done.finished) == (7, True)
    torch.manual_seed(0)
    again = small_dan(dataset, steps=50, patience=2)
    train(again, dataset, tmp_path / "two", config, stop=after(2))
    assert same(states[0], again.network.stages[0].state_dict())


def test_a_finished_run_is_not_trained_again(unbroken, dataset):
    kind, folder = unbroken
    before = (folder / LAST).read_bytes()
    done = train(small_dan(dataset, kind=kind), dataset, folder, RUN, validation=dataset)
    assert done.finished
    assert done.measure == "nme_bbox"
    assert (folder / LAST).read_bytes() == before


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.fixture(scope="module")
def begun(tmp_path_factory, dataset):
    """The checkpoint of a run of two steps."""
    folder = tmp_path_factory.mktemp("begun")
    train(small_dan(dataset), dataset, folder, RunConfig(), stop=after(2))
    return (folder / LAST).read_bytes()


@pytest.fixture
def folder(begun, tmp_path):
    (tmp_path / LAST).write_bytes(begun)
    return tmp_path


def test_a_checkpoint_of_another_config_is_refused(folder, dataset):
    with pytest.raises(BadCheckpoint, match="trained with another config: choose a new folder"):
        train(small_dan(dataset, learning_rate=2e-3), dataset, folder, RunConfig())


def test_a_checkpoint_of_another_run_config_is_refused_but_not_for_other_workers(folder, dataset):
    with pytest.raises(BadCheckpoint, match="trained with another run config"):
        train(small_dan(dataset), dataset, folder, RunConfig(seed=5))
    assert train(small_dan(dataset), dataset, folder, RunConfig(save_every=7), stop=after(1)).steps == 3


def test_a_checkpoint_of_another_data_set_is_refused(folder, dataset):
    with pytest.raises(BadCheckpoint, match="trained with another data set"):
        train(small_dan(dataset), subset(dataset, 8), folder, RunConfig())


def test_a_checkpoint_of_another_system_is_refused(folder, dataset):
    phase = PhaseConfig(name="train", steps=1)
    prnet = PRNet.for_dataset(PRNetConfig(width=4, resolution=32, phases=(phase,)), dataset)
    with pytest.raises(BadCheckpoint, match="is a checkpoint of dan, not of prnet"):
        train(prnet, dataset, folder, RunConfig())


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_checkpoint_is_refused_with_what_to_do(folder, dataset, damage):
    whole = (folder / LAST).read_bytes()
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "flipped": b"PK\x03\x04" + bytes(len(whole) - 4),
        "empty": b"",
        "text": b"weights: none\n",
    }
    (folder / LAST).write_bytes(damaged[damage])
    with pytest.raises(BadCheckpoint, match="cannot be read as a checkpoint.*damaged or another kind of file"):
        train(small_dan(dataset), dataset, folder, RunConfig())


class Payload:
    """What a hostile file would run when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_with_a_payload_is_refused_and_does_not_run(tmp_path):
    torch.save({"facefoundry_checkpoint": 1, "system": "dan", "network": Payload(tmp_path / "ran")}, tmp_path / LAST)
    with pytest.raises(BadCheckpoint, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / LAST)
    assert not (tmp_path / "ran").exists()


def test_weights_alone_are_no_checkpoint(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / LAST)
    with pytest.raises(BadCheckpoint, match="holds weights but is no checkpoint of a training"):
        load_checkpoint(tmp_path / LAST)


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path):
    save_checkpoint(tmp_path / LAST, {"system": "dan", "step": 1})
    with pytest.raises(Exception, match="pickle|local object"):
        save_checkpoint(tmp_path / LAST, {"system": "dan", "step": lambda: 2})
    assert load_checkpoint(tmp_path / LAST)["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


def test_a_data_set_without_a_target_is_refused_and_named(tmp_path, dataset):
    without = select(dataset, slice(None), targets=["image", "landmarks_px"])
    phase = PhaseConfig(name="train", steps=1)
    prnet = PRNet.for_dataset(PRNetConfig(width=4, resolution=32, phases=(phase,)), dataset)
    with pytest.raises(
        ValueError,
        match=r"prnet learns from position_map.*has only image, landmarks_px: build it with .*posmap,field,parts",
    ):
        train(prnet, without, tmp_path, RunConfig())


def test_batches_that_cannot_be_shared_are_refused(tmp_path, dataset):
    with pytest.raises(ValueError, match="batches of 4 cannot be shared by 1 processes and 3 accumulated batches"):
        train(small_dan(dataset), dataset, tmp_path, RunConfig(accumulate=3))

"""Training from the command line and as a flow: one folder for one config, a card beside the weights, people held out."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from flows import DEPLOYMENT_NAME, FLOW_NAMES, command_line, train_systems, training
from flows.commands.exit_codes import ALREADY_BUILDING, exit_code_of
from flows.local import build_here
from flows.presets import posmaps_300wlp
from flows.training_settings import configs
from flows.training_split import held_out_groups, learning_split
from train import processor
from train.checkpoint import load_checkpoint
from train.processor import processor_name, threads_for

SMALL = ("size_px=16", "widths=[4, 8]", "hidden=8", "batch_size=4", "validate_every=2", "log_every=2")


@pytest.fixture(scope="module")
def out(tmp_path_factory, sample_folder):
    """The sample's crops as a data set."""
    out = tmp_path_factory.mktemp("training") / "datasets"
    build_here(posmaps_300wlp(size_px=128), source=sample_folder, out=out, workers=1)
    return out


def trained(out, **changes):
    options = {"out": out, "steps": 3, "hold_out": 0.3, "settings": SMALL} | changes
    return training.train_here("dan", "300wlp-posmaps", **options)


@pytest.fixture(scope="module")
def done(out):
    return trained(out)


def test_a_runs_folder_names_system_data_set_version_and_config(out, done):
    version = json.loads((out / "300wlp-posmaps" / "latest").read_text())["version"]
    system, name = done.folder.relative_to(out / "runs").parts
    assert system == "dan"
    assert name.startswith(f"300wlp-posmaps-{version}-")
    assert done.checkpoint == done.folder / "best.pt"
    assert done.checkpoint.is_file()
    assert done.steps == 6


def test_a_seed_gives_the_same_weights_in_every_folder_and_another_seed_others(out, tmp_path):
    def weights(folder, *settings):
        done = training.train_here("dan", out / "300wlp-posmaps", out=folder, steps=1, settings=(*SMALL, *settings))
        state = load_checkpoint(done.folder / "last.pt")["network"]
        return torch.cat([value.flatten().double() for value in state.values()])

    first = weights(tmp_path / "first")
    assert torch.equal(first, weights(tmp_path / "second"))
    assert not torch.equal(first, weights(tmp_path / "other", "seed=1"))


def test_the_card_tells_from_what_how_and_how_well(done):
    card = (done.folder / "card.md").read_text()
    metrics = json.loads((done.folder / "metrics.json").read_text())
    assert f"nme_bbox {100 * done.validation:.2f} % on {metrics['validation_samples']} samples held out" in card
    assert "fingerprint of what was learnt from: `" in card
    assert "CC0-1.0" in card
    assert "augmentation: dan" in card
    assert json.loads(card.partition("```json\n")[2].partition("```")[0])["system"]["hidden"] == 8


def test_a_finished_run_shows_its_errors_and_predictions_on_what_was_held_out(done):
    measured = json.loads((done.folder / "evaluation" / "metrics.json").read_text())
    assert measured["test_data"]["seen_in_training_and_left_out"] == 0
    assert {"ours", "mean shape", "mean shape, true pose"} <= set(measured["results"]["nme_bbox 2-D"])
    for picture in ("ced.png", "predictions.png"):
        assert (done.folder / "evaluation" / picture).read_bytes().startswith(b"\x89PNG")
    card = (done.folder / "card.md").read_text()
    assert f"## Measured on {measured['n_images']} samples held out" in card
    assert "![evaluation/predictions.png](evaluation/predictions.png)" in card
    own = (done.folder / "evaluation" / "card.md").read_text()
    assert f"fingerprint `{measured['training_data']['fingerprint']}`" in own
    assert f"fingerprint `{measured['test_data']['fingerprint']}`" in own
    assert "| nme_bbox 2-D | " in own


def test_the_same_command_again_trains_nothing(done, out):
    before = (done.folder / "last.pt").read_bytes()
    again = trained(out)
    assert (again.folder, again.validation) == (done.folder, done.validation)
    assert (done.folder / "last.pt").read_bytes() == before


def test_another_config_has_another_folder_and_other_workers_have_not(done, out):
    assert trained(out, settings=(*SMALL, "save_every=3")).folder == done.folder
    assert trained(out, settings=(*SMALL, "hidden=9"), steps=1).folder != done.folder


def test_nobody_is_in_training_and_in_validation(out):
    from storage.dataset import open_dataset

    opened = open_dataset(out / "300wlp-posmaps")
    chosen = learning_split(opened, None, hold_out=0.3, seed=0)
    people = [{row.tobytes() for row in part.read(slice(None), ("identity",))["identity"]} for part in
              (chosen.training, chosen.validation)]  # fmt: skip
    assert len(chosen.training) + len(chosen.validation) == len(opened)
    assert all(people)
    assert not people[0] & people[1]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.34, 0.8])
def test_of_few_people_at_least_one_is_held_out_one_is_left_and_about_the_share_of_the_samples(share):
    rng = np.random.default_rng(0)
    for seed, n_people in itertools.product(range(5), (2, 3, 7, 10, 26, 400)):
        for sizes in (np.full(n_people, 8), rng.integers(1, 60, n_people)):
            people = {f"person {number}": int(size) for number, size in enumerate(sizes)}
            held_out = held_out_groups(people, share, seed)
            wanted = share * sizes.sum()
            kept = sum(people[person] for person in held_out)
            assert 0 < len(held_out) < n_people
            assert kept - wanted <= max(wanted / 2, sizes.max() / 2) or len(held_out) == 1
            assert wanted - kept <= max(wanted / 2, sizes.max() / 2) or len(held_out) == n_people - 1


def test_a_set_of_many_people_that_grows_moves_nobody():
    people = {f"person {number}": 8 for number in range(500)}
    before = held_out_groups(people, 0.1, 0)
    after = held_out_groups(people | {f"new {number}": 8 for number in range(500)}, 0.1, 0)
    assert after & set(people) == before


def test_two_trainings_of_one_run_cannot_go_on_at_once_and_a_killed_one_blocks_nobody(out):
    steps = {"steps": 100_000, "settings": (*SMALL, "seed=5")}
    script = (
        "from flows import training; "
        f"training.train_here('dan', '300wlp-posmaps', out={str(out)!r}, hold_out=0.3, "
        f"settings={steps['settings']!r}, steps=100_000, tell=lambda doing: print(doing, flush=True))"
    )
    first = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert "300wlp-posmaps" in first.stdout.readline()
        with pytest.raises(
            training.AlreadyTraining, match=rf"process {first.pid} is training in .*/dan/300wlp-posmaps-.*; wait until"
        ) as end:
            trained(out, **steps)
        assert exit_code_of(end.value) == ALREADY_BUILDING
    finally:
        first.kill()
        first.wait()
        first.stdout.close()
    went_on = trained(out, **steps, stop=lambda: True)
    assert went_on.steps >= 1
    assert not went_on.finished


def test_a_flow_that_was_started_again_too_early_waits_for_its_first_process(monkeypatch, tmp_path, done):
    others, warned = [1, 2, 3], []

    def train():
        if others:
            raise training.AlreadyTraining(tmp_path, others.pop())
        return done

    monkeypatch.setattr(train_systems, "_SECONDS_BETWEEN_TRIES", 0.0)
    assert train_systems._after_others(train, warned.append) == done
    assert len(warned) == 1
    assert "process 3 is training in" in warned[0]


def test_a_small_network_has_one_thread_unless_the_environment_says_how_many_and_the_first_line_tells(out):
    n = processor.SMALL // 1000
    small, large = (torch.nn.Linear(size, 1000, bias=False, device="meta") for size in (n - 1, n))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with threads_for(small, {"OMP_NUM_THREADS": "3"}) as told:
            assert told == "3 threads, as OMP_NUM_THREADS says"
        for senseless in ("", "four", "0", "-1", "1e3", "2;3", "9" * 20):
            with threads_for(small, {"OMP_NUM_THREADS": senseless}) as told:
                assert told == "1 thread (OMP_NUM_THREADS takes another number)"
        with threads_for(large, {}) as told:
            assert told.startswith("3 threads (OMP_NUM_THREADS")
        with threads_for(small, {}) as told:
            assert told.startswith("1 thread (OMP_NUM_THREADS")
            assert (torch.get_num_threads(), processor_name()) == (1, "1 thread")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    told = []
    trained(out, steps=1, tell=told.append)
    assert "samples to learn from" in told[0]
    assert " thread" in told[0]
    assert told[1] == "measuring on what was not learnt from"


def test_a_validation_set_that_is_learnt_from_is_refused(out):
    with pytest.raises(ValueError, match="are learnt from too .* it would measure what was learnt by heart"):
        trained(out, validation="300wlp-posmaps")


def test_without_validation_the_last_weights_are_the_result(out):
    done = trained(out, hold_out=0.0, steps=1)
    assert (done.checkpoint.name, done.validation) == ("last.pt", None)
    assert "not validated" in (done.folder / "card.md").read_text()


def test_fields_are_set_by_dots_and_phases_by_name_or_number():
    config, run = configs(
        "dan", "paper",
        settings=["phases.stage-2.optimiser.learning_rate=1e-4", "phases.0.steps=7", "seed=3", "precision=bf16"],
    )  # fmt: skip
    assert config.phases[1].optimiser.learning_rate == 1e-4
    assert (config.phases[0].steps, config.phases[0].epochs) == (7, None)
    assert (run.seed, run.precision) == (3, "bf16")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("batch", "--set takes field=value"),
        ("colour=3", "there is no field 'colour' to --set; there are batch_size"),
        (
            "phases.stage-9.steps=3",
            r"there is no field 'phases\.stage-9\.steps' to --set; phases has stage-1, stage-2$",
        ),
        ("batch_size=0", "^--set batch_size 0: give at least 1$"),
        ("phases.0.steps=-1", r"^--set phases\.0\.steps -1: give "),
        ("batch_size=many", "--set batch_size 'many': give a whole number"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_with_what_would(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        configs("dan", "tiny", settings=[setting])


def test_the_command_line_prints_one_json_object(out, monkeypatch, capsys):
    line = ["facefoundry", "train", "dan", "--data", "300wlp-posmaps", "--out", str(out), "--steps", "1", "--json"]
    settings = [word for setting in SMALL for word in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", [*line, "--hold-out", "0.3", "--augment", "none", *settings])
    with pytest.raises(SystemExit) as end:
        command_line.main()
    printed = capsys.readouterr().out
    assert end.value.code == 0
    told = json.loads(printed)
    assert (told["system"], told["measure"], told["steps"]) == ("dan", "nme_bbox", 2)
    assert printed.count("\n") == 1


def test_a_data_set_without_a_target_ends_with_a_sentence(out, monkeypatch, capsys):
    line = ["facefoundry", "train", "densereg", "--data", "300wlp-posmaps", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as end:
        command_line.main()
    assert end.value.code == 1
    assert "densereg learns from uv, label, and the data set 300wlp-posmaps has only" in capsys.readouterr().err


def test_every_system_has_a_deployed_flow():
    flows = [f"train-{name}" for name in ("dan", "densereg", "fan3d", "mesh-gcn", "prnet")]
    assert set(flows) <= set(FLOW_NAMES)
    assert DEPLOYMENT_NAME == "default"
    for name in flows:
        made = getattr(train_systems, name.replace("-", "_"))
        assert made.name == name
        assert {"data", "version", "preset", "validation", "out"} <= set(made.parameters.properties)

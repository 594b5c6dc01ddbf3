"""Progress in a pipe: a line every five seconds by the clock, whatever the work does meanwhile."""

import re
import signal
import time

import pytest

from flows import progress
from flows.progress import alive, shown, told_meanwhile, told_once
from flows.training_progress import counting, training_shown
from tests.command_runs import without_signs_of_life
from train.run_log import Progress


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Five seconds that take a twentieth of one."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.05)


def logged(step: int, **changes: object) -> Progress:
    """A line of a training's log."""
    fixed = {"phase": "stage-1", "n_steps": 90, "epoch": 0, "rate": 0.1, "losses": {"loss": 2.0}}
    rates = dict.fromkeys(("samples_per_second", "model_samples_per_second", "loader_samples_per_second"), 3.0)
    return Progress(**fixed | rates | {"step": step, "waiting_share": 0.1} | changes)


def test_work_that_reports_nothing_for_long_is_told_of_by_the_clock(capsys):
    with shown("build", 10) as report:
        report(3)
        time.sleep(0.25)
        capsys.readouterr()
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 7
    assert all(re.fullmatch(r"build: 3/10 samples, .*/s, .* s left", line) for line in lines)


def test_work_that_reports_often_is_told_of_no_more_often_and_at_its_end(capsys):
    with shown("build", 1000) as report:
        for _ in range(1000):
            report(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) < 10
    assert lines[-1].startswith("build: 1000/1000 samples")


def test_ctrl_c_that_comes_twice_at_once_is_one_and_a_later_one_ends(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_OF_ONE_PRESS", 0.1)
    found = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell put us in the background
    try:
        with told_once() as stop:
            assert not stop()
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert stop()
            time.sleep(0.12)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, found)


def test_what_is_done_at_once_has_no_rate(capsys):
    with shown("fit", 1, unit="pictures") as report:
        report(1)
    assert capsys.readouterr().err == "fit: 1/1 pictures\n"


def test_of_nested_works_the_inner_one_speaks_and_then_the_outer_one_again(capsys):
    with told_meanwhile(lambda: "outer"):
        time.sleep(0.12)
        with told_meanwhile(lambda: "inner"):
            time.sleep(0.12)
        time.sleep(0.12)
    said = capsys.readouterr().err.split()
    assert [word for i, word in enumerate(said) if said[i - 1 : i] != [word]] == ["outer", "inner", "outer"]
    time.sleep(0.12)
    assert capsys.readouterr().err == ""


def test_every_command_says_in_a_pipe_that_it_lives_and_under_json_nothing(run, monkeypatch):
    from geometry import load_model

    def slow(model):
        time.sleep(0.2)
        return load_model(model)

    monkeypatch.setattr("geometry.load_model", slow)
    said = run("model", "info", "built-in").err
    assert re.match(r"(model info: running for \d+ s\n)+$", said)
    assert without_signs_of_life(said) == ""
    assert run("model", "info", "built-in", "--json").err == ""


def test_on_a_terminal_a_command_says_that_it_lives_but_not_beside_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for bar in (shown("sample set", 3), training_shown("dan")):
        with alive("build"):
            time.sleep(0.12)
            assert re.match(r"(build: running for \d+ s\n)+$", capsys.readouterr().err)
            with bar:
                capsys.readouterr()
                time.sleep(0.12)
                assert "running for" not in capsys.readouterr().err
            time.sleep(0.12)
            assert "build: running for" in capsys.readouterr().err


def test_a_training_is_told_of_before_its_steps_between_its_reports_and_after_them(capsys):
    with training_shown("dan") as told:
        told.tell("a data set, 2 threads")
        asked = counting(lambda: False, told.step)
        time.sleep(0.12)
        told.report(logged(1))
        for _ in range(7):
            assert not asked()
        time.sleep(0.12)
        told.report(logged(90, validation=0.031, measure="nme_bbox"))
        told.tell("measuring on what was not learnt from")
        time.sleep(0.12)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "dan: a data set, 2 threads"
    assert re.fullmatch(r"dan: a data set, 2 threads, \d s", lines[1])
    assert any(line.startswith("dan: stage-1 8/90  loss 2, rate 0.1") for line in lines)
    assert any(line.startswith("dan: stage-1 90/90") and "nme_bbox 3.10 %" in line for line in lines)
    assert re.fullmatch(r"dan: measuring on what was not learnt from, \d s", lines[-1])


def test_quick_steps_of_a_training_are_no_lines_each_but_every_validation_is_one(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 30.0)
    with training_shown("dan") as told:
        for step in range(1, 60):
            told.report(logged(step, validation=0.5 if step % 20 == 0 else None, measure="nme_bbox"))
    assert [line.split()[2] for line in capsys.readouterr().err.splitlines()] == ["20/90", "40/90"]


def test_on_a_terminal_a_training_has_a_bar_that_counts_steps_and_tells_validations_above_it(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("TERM", "xterm")
    with training_shown("dan") as told:
        told.tell("a data set, 1 thread")
        told.report(logged(1))
        told.step()
        told.report(logged(90, validation=0.031, measure="nme_bbox"))
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err).replace("\r", "\n")
    assert "dan: a data set, 1 thread" in seen
    assert "nme_bbox 3.10 %" in seen
    assert "dan stage-1: loss 2" in seen
    assert "90/90" in seen
    assert max(map(len, seen.splitlines())) <= 70


def test_of_several_processes_of_one_training_the_first_one_speaks(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    with training_shown("dan") as told:
        told.tell("a data set")
    assert capsys.readouterr().err == ""

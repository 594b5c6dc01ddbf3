"""`facefoundry people`: one line of JSON, a folder that `build` reads, a refusal that says what to do."""

import json
import shutil
from pathlib import Path

from render.people_config import PRESETS
from render.shaded_view import NoRenderer
from storage.drawn_folder import DRAWN_LICENCE

FEW = ("--n-people", 2, "--expressions", 1, "--views", 1, "--workers", 1)


def test_rendered_people_become_position_maps(run, tmp_path):
    code, out, _ = run("people", "--out", tmp_path / "people", *FEW, "--json")
    assert code in (0, None)
    assert json.loads(out)["pictures"] == 2
    code, out, err = run(
        "build", "300wlp-posmaps", "--source", tmp_path / "people", "--out", tmp_path / "sets", "--size", 128,
        "--workers", 1, "--json",
    )  # fmt: skip
    assert code in (0, None), err
    assert json.loads(out)["samples"] == 2


def test_a_data_set_of_rendered_people_says_that_nobody_was_photographed(run, tmp_path):
    run("people", "--out", tmp_path / "people", *FEW, "--json")
    shutil.move(tmp_path / "people" / "train", tmp_path / "elsewhere")
    code, out, err = run("profile", tmp_path / "elsewhere", "--out", tmp_path / "turned", "--yaw-step", 60, "--json")
    assert code in (0, None), err
    assert json.loads(out)["licence"] == DRAWN_LICENCE
    for source in ("elsewhere", "turned"):
        code, out, err = run(
            "build", "300wlp-posmaps", "--source", tmp_path / source, "--out", tmp_path / "sets", "--size", 128,
            "--workers", 1, "--json",
        )  # fmt: skip
        assert code in (0, None), err
        card = (Path(json.loads(out)["path"]) / "card.md").read_text()
        assert "Consent: The people are invented" in card
        assert "Licence: CC0" in card


def test_pictures_through_a_lens_are_refused_by_the_build(run, tmp_path):
    run("people", "--out", tmp_path / "people", *FEW, "--preset", "people-perspective", "--side", 96, "--json")
    code, _, err = run("build", "300wlp-posmaps", "--source", tmp_path / "people", "--out", tmp_path / "sets", "--json")
    assert code == 1
    assert "holds no picture (.jpg, .png) with an annotation (.mat)" in err


def test_a_folder_of_other_people_is_not_written_over(run, tmp_path):
    arguments = ("people", "--out", tmp_path, *FEW, "--side", 96, "--json")
    run(*arguments)
    code, _, err = run(*arguments, "--seed", 9)
    assert code == 1
    assert 'describes another people than the one asked for (there "seed": 0); choose another folder' in err
    assert len(err.splitlines()) == 1


def test_every_preset_can_be_asked_for(run):
    import inspect
    import typing

    from flows.commands.sources import people

    choices = typing.get_args(typing.get_args(inspect.signature(people).parameters["preset"].annotation)[0])
    assert set(choices) == set(PRESETS)


def test_a_machine_without_pyrender_is_told_what_to_install(run, tmp_path, monkeypatch):
    def missing():
        raise NoRenderer("Shaded views need the render extra")

    monkeypatch.setattr("render.physical_view.load_pyrender", missing)
    code, _, err = run("people", "--out", tmp_path, *FEW, "--preset", "people-physical", "--json")
    assert code == 2
    assert "Shaded views need the render extra" in err

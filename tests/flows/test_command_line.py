"""The command line as people and programs meet it: JSON on one line, one sentence for a failure."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from geometry import load_model
from storage import open_dataset
from tests.command_runs import NAMES_LOADED, Ended, in_a_process, loaded_by

BUILD = ("build", "300wlp-posmaps", "--size", "128", "--workers", "1")


@pytest.fixture(scope="module")
def first_build(sample_folder, tmp_path_factory) -> tuple[Path, Ended]:
    """A data set made by the command in a process of its own: where data sets lie, and how the command ended."""
    out = tmp_path_factory.mktemp("datasets")
    return out, in_a_process(*BUILD, "--source", sample_folder, "--out", out, "--json", script=NAMES_LOADED)


@pytest.fixture
def built(first_build) -> tuple[Path, dict]:
    """Where data sets lie, and what the build printed."""
    out, ended = first_build
    return out, ended.json


# ---------------------------------------------------------------------------------------------------------------- build


def test_build_prints_one_json_object_with_the_path_of_the_version(built):
    out, printed = built
    assert set(printed) == {"dataset", "version", "path", "samples", "rejected", "already_there", "seconds"}
    assert printed["already_there"] is False
    assert (printed["dataset"], printed["samples"], printed["rejected"]) == ("300wlp-posmaps", 14, 0)
    assert Path(printed["path"]) == out.absolute() / "300wlp-posmaps" / printed["version"]
    assert (Path(printed["path"]) / "manifest.json").is_file()
    assert 0 < printed["seconds"] < 120


def test_a_second_build_finds_the_same_version_and_says_it_to_people(built, run, sample_folder):
    out, printed = built
    ended = run(*BUILD, "--source", sample_folder, "--out", out)
    assert ended.code == 0
    first, *rest = ended.out.splitlines()
    assert first == f"already there: 300wlp-posmaps {printed['version']}, nothing to do"
    lines = dict(line.split(maxsplit=1) for line in rest)
    assert lines["data"] == f"set       {printed['path']}"
    assert Path(lines["contact"].split()[-1]).read_bytes().startswith(b"\x89PNG")
    assert lines["samples"].startswith("14, 0 rejected")
    assert "on average" in lines["landmarks"]


def test_a_relative_folder_for_data_sets_still_gives_an_absolute_path(run, sample_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = run(*BUILD, "--source", sample_folder, "--out", "here", "--maps", "parametric", "--json").json
    assert Path(printed["path"]).is_absolute()
    assert (tmp_path / "here").samefile(Path(printed["path"]).parent.parent)


def test_a_missing_source_is_one_sentence_and_no_traceback(tmp_path):
    ended = in_a_process(*BUILD, "--source", tmp_path / "nowhere", "--out", tmp_path / "out", "--json")
    assert ended.code == 1
    assert "nowhere does not exist; give the folder that holds AFW" in ended.complaint


def test_an_unknown_preset_and_a_size_out_of_range_are_wrong_use(run, tmp_path):
    for arguments, sentence in (
        (("build", "300wlp-posmap"), "'300wlp-posmap' is not one of '300wlp-posmaps'"),
        (("build", "300wlp-posmaps", "--size", "64"), "Invalid value for '--size': 64: give at least 128"),
        (("build", "300wlp-posmaps", "--max-bad", "2"), "Invalid value for '--max-bad': 2: give at most 1"),
        (("people", "--n-people", "many"), "Invalid value for '--n-people': many: give a whole number"),
        (("build",), "Missing argument 'preset'"),
        (("build", "300wlp-posmaps", "--augment", "prnet"), "Error: Invalid value: copy 0 is never augmented"),
        (("build", "300wlp-posmaps", "--copies", "2", "--augment", "pr"), "Invalid value: --augment pr: there is no"),
        (
            ("build", "300wlp-posmaps", "--images", "jpeg:0"),
            "--images jpeg:0: give 'lossless', 'uncompressed', 'source', or a",
        ),
        (("build", "300wlp-posmaps", "--targets", "posmap,ears"), "--targets posmap,ears: there are no targets 'ears'"),
        (("build", "densereg-fields", "--field-atlas", "maps"), "--field-atlas maps: give 'cylinder' or 'own'"),
        (("build", "ear-fields", "--smoothing", "inf"), "--smoothing inf: give a finite number"),
        (("profile", "--yaw-step", "0"), "Error: Invalid value: --yaw-step 0.0: give at least 0.1"),
        (("profile", "--pitch", "nan"), "Error: Invalid value: --pitch nan: give a finite number"),
        (
            ("profile", "--out", "s3://faces/profiles"),
            "'--out': this is written to a folder of this machine, and to no",
        ),
        (("build", "300wlp-posmaps", "--frobnicate"), "No such option"),
        (("frobnicate",), "No such command 'frobnicate'"),
    ):
        ended = run(*arguments)
        assert ended.code == 2, arguments
        assert sentence in ended.err
        assert ended.err.startswith("Usage: facefoundry")
        assert "pydantic" not in ended.err
        assert "should" not in ended.err
        assert ended.out == ""


@pytest.fixture(scope="module")
def half_broken(sample_folder, tmp_path_factory) -> Path:
    """The sample folder with three annotations cut short."""
    folder = tmp_path_factory.mktemp("half-broken") / "source"
    shutil.copytree(sample_folder, folder)
    for path in sorted((folder / "AFW").glob("*.mat"))[:3]:
        path.write_bytes(path.read_bytes()[:200])
    return folder


@pytest.mark.parametrize("patience", [(), ("--max-bad", "0.2"), ("--on-bad", "fail", "--max-bad", "1")])
def test_too_many_bad_samples_end_with_code_3_and_say_how_many_and_why(run, half_broken, tmp_path, patience):
    ended = run(*BUILD, "--source", half_broken, "--out", tmp_path, *patience, "--json")
    assert ended.code == 3
    assert "3 of 14 samples cannot be used" in ended.complaint
    assert "AFW/" in ended.err
    assert "--max-bad" in ended.err
    assert run("list", "--out", tmp_path, "--json").json == {"datasets": []}


def test_bad_samples_within_the_limit_are_counted_and_listed(run, half_broken, tmp_path):
    printed = run(*BUILD, "--source", half_broken, "--out", tmp_path, "--max-bad", "0.25", "--json").json
    assert (printed["samples"], printed["rejected"]) == (11, 3)
    listed = run("info", tmp_path / "300wlp-posmaps", "--json").json["rejected_samples"]
    assert len(listed) == 3
    assert all(hole["source_id"].startswith("AFW/") and hole["reason"] for hole in listed)


# ------------------------------------------------------------------------------------------------- looking at data sets


@pytest.mark.parametrize("turn", [(), ("--turn", "-35")])
def test_show_writes_a_picture_of_the_sample(built, run, tmp_path, turn):
    out, _ = built
    target = tmp_path / "picture.png"
    ended = run("show", out / "300wlp-posmaps", "5", "--save", target, *turn, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["path"] == str(target)
    assert ended.json["source_id"].partition("/")[0] in {"AFW", "AFW_Flip", "HELEN", "HELEN_Flip"}
    picture = cv2.imread(str(target))
    height = 18 + 2 * (384 + 18)
    assert picture.shape == (height, 3 * 384 + (height if turn else 0), 3)
    assert np.ptp(picture[-height // 2 :]) > 200


def test_show_writes_beside_you_unless_told_otherwise(built, run, tmp_path, monkeypatch):
    out, _ = built
    monkeypatch.chdir(tmp_path)
    ended = run("show", out / "300wlp-posmaps", "13")
    assert ended.code == 0
    assert cv2.imread("300wlp-posmaps-13.png") is not None
    assert ended.out.endswith(": 300wlp-posmaps-13.png\n")


def test_a_sample_is_found_by_its_source_id(built, run, tmp_path):
    dataset, target = built[0] / "300wlp-posmaps", tmp_path / "picture.png"
    name = open_dataset(dataset)[9]["source_id"]
    assert run("show", dataset, name, "--save", target, "--json").json == {"path": str(target), "source_id": name}
    by_name = target.read_bytes()
    assert run("show", dataset, "9", "--save", target).code == 0
    assert target.read_bytes() == by_name
    ended = run("show", dataset, "AFW/nobody")
    assert ended.code == 2
    assert "no sample is called 'AFW/nobody'; give its number, or its source id, such as" in " ".join(ended.err.split())


def test_a_data_set_that_is_named_from_the_wrong_folder_is_told_where_it_was_looked_for(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (("info", "datasets/300wlp-posmaps"), ("train", "dan", "--data", "300wlp-posmaps")):
        assert run(*arguments).complaint.endswith(f"(looked for from {tmp_path})\n")


def test_a_sample_or_data_set_that_is_not_there_is_one_sentence(built, run, tmp_path):
    out, _ = built
    for arguments, sentence in (
        (("show", out / "300wlp-posmaps", "14"), "sample 14 is outside this data set of 14 samples"),
        (("show", tmp_path / "nothing"), "nothing is not a folder"),
        (("info", out / "300wlp-posmaps", "--version", "0123"), "no published version 0123"),
        (("show", out / "300wlp-posmaps", "0", "--save", tmp_path / "no" / "x.png"), "x.png"),
    ):
        ended = run(*arguments)
        assert ended.code == 1, arguments
        assert sentence in ended.complaint


def test_list_marks_the_latest_version(built, run, tmp_path):
    out, printed = built
    rows = run("list", "--out", out, "--json").json["datasets"]
    (row,) = rows
    assert (row["dataset"], row["version"], row["latest"]) == ("300wlp-posmaps", printed["version"], True)
    assert run("list", "--out", out).out.startswith(f"* 300wlp-posmaps  {printed['version']}  20")
    ended = run("list", "--out", tmp_path)
    assert (ended.code, ended.out, ended.err) == (0, "", f"no data sets in {tmp_path}\n")


def test_info_tells_what_is_in_it_and_from_what(built, run):
    out, printed = built
    for path in (out / "300wlp-posmaps", printed["path"]):
        about = run("info", path, "--json").json
        assert (about["version"], about["samples"], about["rejected"]) == (printed["version"], 14, 0)
        assert about["model"]["name"] == "built-in"
        assert about["config"]["crop"]["size_px"] == 128
        assert about["targets"]["position_map"] == "float32 [128, 128, 3] px"
        assert about["statistics"]["landmark_readback_px"]["n"] == 14 * 68
        assert about["bytes"] > 1e6


def test_info_is_a_page_for_people(built, run, half_broken, tmp_path):
    out, printed = built
    page = run("info", out / "300wlp-posmaps").out
    rows = {line.split("  ")[0].strip() or line.split()[0]: line for line in page.splitlines() if line}
    assert rows["version"].endswith(printed["version"])
    assert "14, 0 rejected, in 1 shard" in rows["samples"]
    assert "built-in, CC0-1.0" in rows["model"]
    position_map = next(line for line in page.splitlines() if line.strip().startswith("position_map"))
    assert re.search(r"float32 128 × 128 × 3 px +fixed point uint16.* kB a sample$", position_map)
    assert re.search(r"covered +bool 128 × 128 +worked out on reading$", page, re.MULTILINE)
    assert re.search(r"crop.size_px +128$", page, re.MULTILINE)
    assert "{" not in page
    run(*BUILD, "--source", half_broken, "--out", tmp_path, "--max-bad", "0.25")
    assert re.search(r"rejected\n  3 × mat\.\S+: .* \(the first: AFW/", run("info", tmp_path / "300wlp-posmaps").out)


def test_a_build_that_is_there_becomes_the_latest_again_and_says_so(built, run, sample_folder, tmp_path):
    out, printed = built
    shutil.copytree(out / "300wlp-posmaps", tmp_path / "300wlp-posmaps")
    other = run(*BUILD, "--source", sample_folder, "--out", tmp_path, "--seed", "7", "--json").json
    assert other["version"] != printed["version"]
    again = run(*BUILD, "--source", sample_folder, "--out", tmp_path)
    assert again.out.startswith(
        f"already there: 300wlp-posmaps {printed['version']}, nothing to do, but that it is the latest again\n"
    )
    told = run(*BUILD, "--source", sample_folder, "--out", tmp_path, "--seed", "7", "--json").json
    assert (told["version"], told["already_there"]) == (other["version"], True)


def test_verify_passes_a_whole_data_set_and_names_what_was_damaged(built, run, tmp_path):
    out, printed = built
    assert run("verify", out / "300wlp-posmaps").code == 0
    copied = tmp_path / "300wlp-posmaps" / printed["version"]
    shutil.copytree(printed["path"], copied)
    victim = next(path for path in sorted((copied / "image").rglob("*")) if path.stat().st_size > 10_000)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0x10
    victim.write_bytes(content)

    ended = run("verify", copied, "--json")
    assert ended.code == 1
    assert ended.json["whole"] is False
    (finding,) = ended.json["findings"]
    assert victim.relative_to(copied).as_posix() in finding
    assert run("verify", copied, "--fast").code == 0  # sizes alone do not show it
    victim.unlink()
    ended = run("verify", copied, "--fast")
    assert ended.code == 1
    assert victim.relative_to(copied).as_posix() in ended.out
    assert "1 objects are not as published" in ended.out


# --------------------------------------------------------------------------------------------------------------- models


def test_the_built_in_model_describes_itself(run):
    about = run("model", "info", "built-in", "--json").json
    assert about["name"] == "built-in"
    assert about["fingerprint"] == load_model("built-in").fingerprint
    assert (about["n_vertices"], about["n_identity"], about["n_expression"]) == (53_099, 199, 29)
    assert len(about["boundary_loops"]) == 4  # neck, mouth, two eyes
    assert (about["units"], about["n_landmarks"], about["licence"]) == ("mm", 68, "CC0-1.0")
    assert json.loads(run("model", "info", "built-in").out) == about


@pytest.fixture(scope="module")
def model_files(tmp_path_factory) -> list[Path]:
    """A made-up face in face3d's format, by the writers of the geometry tests."""
    path = Path(__file__).parents[1] / "geometry" / "model_writers.py"
    spec = importlib.util.spec_from_file_location("model_writers_for_the_command_line", path)
    writers = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(writers)
    folder, face = tmp_path_factory.mktemp("face3d"), writers.make_face()
    return [writers.face3d(folder, face), writers.bfm_uv(folder, face)]


def test_a_model_is_imported_once_and_described_from_either_file(run, model_files, tmp_path):
    ended = run("model", "import", *model_files, "--out", tmp_path, "--json")
    assert ended.code == 0, ended.err
    archive = tmp_path / "models" / f"{ended.json['fingerprint']}.ffmodel.npz"
    assert ended.json["path"] == str(archive)
    from_archive = run("model", "info", archive, "--json").json
    assert from_archive == run("model", "info", *model_files, "--json").json
    assert from_archive["n_vertices"] == 53_215
    assert from_archive["boundary_loops"] == [512, 78]
    assert from_archive["has_atlas"] is True


def test_pictures_of_another_model_are_refused(run, model_files, sample_folder, tmp_path):
    models = [part for path in model_files for part in ("--model", path)]
    ended = run(*BUILD, "--source", sample_folder, "--out", tmp_path, *models)
    assert ended.code == 1
    assert "built-in" in ended.complaint


def test_what_is_no_model_is_one_sentence(run, tmp_path):
    (tmp_path / "notes.txt").write_text("not a model at all, although it is long enough to be looked into\n" * 20)
    for arguments, sentence in (
        (("model", "info", tmp_path / "notes.txt"), "notes.txt"),
        (("model", "import", "built-in", "--out", tmp_path), "needs no import"),
        (("model", "import", tmp_path / "absent.mat"), "absent.mat"),
    ):
        ended = run(*arguments)
        assert ended.code == 1, arguments
        assert sentence in ended.complaint


# ------------------------------------------------------------------------------------------------------------ sample


def test_sample_writes_a_folder_and_counts_its_pictures(run, tmp_path):
    folder = tmp_path / "300W_LP"
    few = ("--identities", "1", "--expressions", "1", "--views", "2", "--workers", "1")
    printed = run("sample", folder, *few, "--json").json
    assert printed["path"] == str(folder)
    assert printed["families"] == 1
    assert len(list(folder.rglob("*.jpg"))) == len(list(folder.rglob("*.mat"))) == printed["pictures"]


def test_a_build_loads_neither_prefect_nor_torch(first_build):
    _, ended = first_build
    loaded = loaded_by(ended)
    assert "numpy" in loaded
    assert not loaded & {"prefect", "torch", "matplotlib", "zarr"}

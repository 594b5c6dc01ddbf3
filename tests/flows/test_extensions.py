"""What another package adds: the examples of docs/extending.md, installed beside this project and built."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

import flows
import storage
from flows.config import PosmapConfig
from flows.local import build_here
from flows.other_panels import OWN_TARGETS, colored, other_panels, shown
from flows.recipe import recipe_name
from flows.sheets import sample_sheet
from flows.targets import FAMILIES, in_order
from flows.targets.family import family_named, family_tables
from flows.targets.heatmaps import HeatmapTargets
from flows.training_settings import configs
from geometry import load_model
from storage.annotations import read_annotation
from storage.dataset import open_dataset
from storage.jpeg import encode_jpeg
from storage.landmark_files import write_pts
from storage.views import select
from train.systems import UnknownSystem, system_class, system_names

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder for PYTHONPATH that holds the examples as an installed package."""
    site = tmp_path_factory.mktemp("site")
    (site / "face_normals.py").write_text((EXAMPLES / "normals.py").read_text())
    (site / "json_fits.py").write_text((EXAMPLES / "json_fits.py").read_text())
    (site / "plain_cnn.py").write_text((EXAMPLES / "plain_cnn.py").read_text())
    write_metadata(
        site,
        "[facefoundry.targets]\nnormals = face_normals:NormalTargets\nnothing = face_normals:Path\n"
        "[facefoundry.recipes]\nJsonFitsConfig = json_fits:JsonFitsRecipe\n"
        "[facefoundry.systems]\nplain_cnn = plain_cnn:PlainCnn\nplain = plain_cnn:PlainCnn\nno_system = plain_cnn:np\n",
    )
    return site


def write_metadata(site: Path, entry_points: str) -> None:
    folder = site / "faces_of_mine-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: faces-of-mine\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(entry_points)


def python(site: Path, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def facefoundry(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return python(site, "from flows.command_line import main; main()", *arguments)


@pytest.fixture(scope="module")
def with_normals(installed, sample_folder, tmp_path_factory) -> Path:
    """A data set that the example's targets are in, built by the command."""
    out = tmp_path_factory.mktemp("datasets")
    done = facefoundry(
        installed, "build", "300wlp-posmaps", "--source", sample_folder, "--out", out, "--size", 128,
        "--targets", "normals,posmap", "--workers", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out / "300wlp-posmaps"


def test_the_example_is_built_by_name_in_worker_processes(with_normals):
    dataset = open_dataset(with_normals)
    batch = dataset.read(range(len(dataset)), ["normal", "covered", "position_map"])
    length = np.linalg.norm(batch["normal"], axis=-1)
    is_face = length > 0
    assert 0.2 < is_face.mean() < 0.9
    np.testing.assert_allclose(length[is_face], 1, atol=1e-5)
    assert (batch["normal"][is_face][:, 2] > -0.2).mean() > 0.999, "what is seen looks at the viewer"
    frontal = batch["normal"][:, 48:80, 48:80].mean(axis=(1, 2))
    assert frontal[:, 2].max() > 0.7


def test_a_target_of_another_package_has_a_panel_without_that_package(with_normals):
    dataset = open_dataset(with_normals)
    assert set(other_panels(dataset[0], side=64)) == {"normal"}
    with_it, own = sample_sheet(dataset, 0, side=64), sample_sheet(select(dataset, [0], own_names(dataset)), 0, side=64)
    assert with_it.shape[0] > own.shape[0] or with_it.shape[1] > own.shape[1] or (with_it != own).any()


def own_names(dataset) -> list[str]:
    """The targets that this project declares."""
    return [target.name for target in dataset.schema.everything if target.name in OWN_TARGETS]


def test_every_target_of_ours_is_drawn_by_its_own_function_or_known_to_be_none():
    declared = set()
    for path in [*Path(storage.__file__).parent.glob("*.py"), *Path(flows.__file__).parent.rglob("*.py")]:
        declared |= set(re.findall(r"Target\(\s*name=\"([a-z_0-9]+)\"", path.read_text()))
    assert len(declared) > 40
    assert declared <= OWN_TARGETS


def test_arrays_that_look_like_pictures_are_drawn_and_others_are_written():
    ramp = np.linspace(-3, 5, 400, dtype=np.float32).reshape(20, 20)
    ramp[0, 0] = np.nan
    normals = np.zeros((20, 30, 3), np.float32)
    normals[..., 2] = np.linspace(-1, 1, 30)
    panels = other_panels(
        {"ramp": ramp, "normals": normals, "matrix": np.eye(4), "age": np.float32(31.5), "name": np.str_("ä" * 99)},
        side=40,
    )
    assert list(panels) == ["ramp", "normals", "others"]
    assert {panel.shape for panel in panels.values()} == {(40, 40, 3)}
    assert np.ptp(panels["ramp"].astype(int)) > 150
    assert not colored(ramp)[0, 0].any()  # what is not known is black
    assert colored(normals)[0, -1].tolist() == [128, 128, 255]
    assert colored(np.full((20, 20), 7)).shape == (20, 20, 3)  # nothing to tell apart
    assert shown(np.eye(4)) == "float64 4 x 4 [1, 0, 0, 0, ...]"
    assert (panels["others"] == 255).any()


def test_a_name_that_nobody_gave_is_refused_with_those_there_are(installed, sample_folder, tmp_path):
    with pytest.raises(
        ValidationError, match="there are no targets 'normal'; there are posmap, field, parts, heatmaps"
    ):
        PosmapConfig(targets=("posmap", "normal"))
    done = facefoundry(installed, "build", "300wlp-posmaps", "--targets", "normal", "--out", tmp_path)
    assert done.returncode == 2
    assert "normals" in done.stderr


def test_what_is_no_family_is_refused(installed, monkeypatch):
    monkeypatch.syspath_prepend(str(installed))
    with pytest.raises(ValueError, match="face_normals:Path, which is no TargetFamily"):
        family_named("nothing")


def test_the_order_of_names_does_not_matter(installed, monkeypatch):
    monkeypatch.syspath_prepend(str(installed))
    assert in_order(("normals", "field", "posmap", "field")) == ("posmap", "field", "normals")
    assert PosmapConfig(targets=("normals", "posmap")) == PosmapConfig(targets=("posmap", "normals"))


def test_a_packages_name_never_hides_ours(tmp_path, monkeypatch):
    write_metadata(tmp_path, "[facefoundry.targets]\nheatmaps = pathlib:Path\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert family_named("heatmaps") is HeatmapTargets


def test_a_raised_version_of_a_family_is_in_the_tables_and_so_in_the_data_sets_version():
    class Raised(HeatmapTargets):
        version = 2

    first, second = object.__new__(HeatmapTargets), object.__new__(Raised)
    assert family_tables([first]) == {}
    assert family_tables([first, second])["target_versions"].tolist() == [1, 2]


def test_every_family_of_ours_can_be_imported():
    for name in FAMILIES:
        assert family_named(name)


@pytest.fixture(scope="module")
def json_folder(sample_folder, tmp_path_factory) -> Path:
    """The sample's unmirrored pictures with their fits as JSON, one of them torn."""
    folder = tmp_path_factory.mktemp("json")
    for path in sorted(sample_folder.rglob("*.mat")):
        if "Flip" in str(path):
            continue
        annotation = read_annotation(path)
        shutil.copy(path.with_suffix(".jpg"), folder)
        fit = {
            "identity": annotation.coefficients.identity.tolist(),
            "expression": annotation.coefficients.expression.tolist(),
            "rotation": annotation.camera.rotation.tolist(),
            "scale": annotation.camera.scale,
            "translation_px": annotation.camera.translation_px.tolist(),
        }
        (folder / f"{path.stem}.json").write_text(json.dumps(fit))
    first = min(folder.glob("*.json"))
    (folder / f"a_{first.stem}.jpg").write_bytes(first.with_suffix(".jpg").read_bytes())
    (folder / f"a_{first.stem}.json").write_text('{"identity": [1, 2')
    return folder


def test_the_example_of_a_json_fit_is_read_and_its_head_turns_as_the_page_says(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from json_fits import annotation_of

    annotation = annotation_of(json.loads((EXAMPLES / "json_fit.json").read_text()))
    model = load_model("built-in")
    assert (len(annotation.coefficients.identity), len(annotation.coefficients.expression)) == (
        model.n_identity,
        model.n_expression,
    )
    assert np.linalg.det(annotation.camera.rotation) == pytest.approx(1)
    points = annotation.camera.project(model.vertices(annotation.coefficients))[model.landmark_vertices]
    assert points[30, 0] - points[[36, 45], 0].mean() > 8  # the nose lies to the viewer's right of the eyes' middle
    assert points[8, 1] > points[27, 1] + 50  # and the chin below the nose's root: y is down
    assert points[30, 2] > points[0, 2]  # the nose is nearer than the ear


def test_a_source_of_its_own_gives_the_maps_that_the_same_fits_give_as_300w_lp(
    installed, json_folder, sample_folder, tmp_path
):
    done = python(
        installed,
        "import sys; from flows.local import build_here; from json_fits import JsonFitsConfig\n"
        "if __name__ == '__main__': build_here(JsonFitsConfig(), source=sys.argv[1], out=sys.argv[2], max_bad=0.5)",
        json_folder,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    ours = open_dataset(tmp_path / "json-posmaps")
    assert [rejected.code for rejected in ours.manifest.rejected] == ["json.fit"]
    theirs = open_dataset(build_here(PosmapConfig(), source=sample_folder, out=tmp_path, workers=1).path)
    names = [str(name) for name in theirs.read(range(len(theirs)), ["source_id"])["source_id"]]
    places = {name.rsplit("/", 1)[-1]: place for place, name in enumerate(names) if "Flip" not in name}
    assert len(ours) == len(places)
    for sample in (ours[index] for index in range(len(ours))):
        twin = theirs[places[str(sample["source_id"])]]
        np.testing.assert_allclose(sample["position_map"], twin["position_map"], atol=0.02)
        np.testing.assert_array_equal(sample["image"], twin["image"])


def test_a_recipe_that_nobody_named_is_refused_with_where_to_name_it():
    class OwnConfig(PosmapConfig):
        own: int = 1

    with pytest.raises(ValueError, match=r"there is no recipe for OwnConfig; .*facefoundry\.recipes"):
        recipe_name(OwnConfig())


def test_a_system_of_a_package_is_trained_measured_and_used_by_name(installed, with_normals, sample_folder, tmp_path):
    picture = min(sample_folder.rglob("*.jpg"))
    test = tmp_path / "test"
    test.mkdir()
    (test / "other.jpg").write_bytes(
        encode_jpeg(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    )
    write_pts(test / "other.pts", np.random.default_rng(1).uniform(50, 150, (68, 2)))
    done = python(
        installed,
        "import os, sys\n"
        "from pathlib import Path\n"
        "from flows.command_line import main\n"
        "def run(*words):\n"
        "    sys.argv[1:] = words\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code, words\n"
        "data, test, picture, work = sys.argv[1:]\n"
        "run('train', 'plain_cnn', '--data', data, '--out', work, '--steps', '3', '--hold-out', '0', '--set', 'batch_size=4')\n"
        "(best,) = Path(work, 'runs', 'plain_cnn').glob('*/last.pt')\n"
        "run('evaluate', str(best), test, '--protocol', 'pts', '--out', work + '/evaluation')\n"
        "run('predict', str(best), picture, '--boxes', 'whole', '--out', work + '/predictions')\n",
        with_normals, test, picture, tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "steps       3" in done.stdout
    measured = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert measured["system"] == "plain_cnn"
    assert measured["n_images"] == 1
    (predicted,) = (tmp_path / "predictions").glob("*.json")
    assert np.isfinite(json.loads(predicted.read_text())["landmarks_px"]).all()


def test_a_systems_name_is_looked_up_and_refused_with_those_there_are(installed, monkeypatch):
    with pytest.raises(
        UnknownSystem, match=r"there is no system 'plain_cnn'; there are dan, densereg, .*and what packages"
    ):
        system_class("plain_cnn")
    monkeypatch.syspath_prepend(str(installed))
    assert "plain_cnn" in system_names()
    assert system_class("plain_cnn").presets["tiny"]().size_px == 64
    with pytest.raises(ValueError, match="'no_system' is plain_cnn:np, which is no train.system.System"):
        system_class("no_system")
    with pytest.raises(ValueError, match="'plain' is plain_cnn:PlainCnn, which calls itself 'plain_cnn'"):
        system_class("plain")
    with pytest.raises(ValueError, match="plain_cnn has no preset 'paper'; it has tiny"):
        configs("plain_cnn", "paper")


def test_a_packages_system_never_hides_ours(tmp_path, monkeypatch):
    write_metadata(tmp_path, "[facefoundry.systems]\ndan = pathlib:Path\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert system_class("dan").__module__ == "train.dan"
    assert system_names().count("dan") == 1

"""What another package adds: the examples of docs/extending.md, installed beside this project and built."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from flows.config import PosmapConfig
from flows.local import build_here
from flows.recipe import recipe_name
from flows.targets import FAMILIES, in_order
from flows.targets.family import family_named, family_tables
from flows.targets.heatmaps import HeatmapTargets
from storage.annotations import read_annotation
from storage.dataset import open_dataset

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder for PYTHONPATH that holds the examples as an installed package."""
    site = tmp_path_factory.mktemp("site")
    (site / "face_normals.py").write_text((EXAMPLES / "normals.py").read_text())
    (site / "json_fits.py").write_text((EXAMPLES / "json_fits.py").read_text())
    write_metadata(
        site,
        "[facefoundry.targets]\nnormals = face_normals:NormalTargets\nnothing = face_normals:Path\n"
        "[facefoundry.recipes]\nJsonFitsConfig = json_fits:JsonFitsRecipe\n",
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


def test_the_example_is_built_by_name_in_worker_processes(installed, sample_folder, tmp_path):
    done = facefoundry(
        installed, "build", "300wlp-posmaps", "--source", sample_folder, "--out", tmp_path, "--size", 128,
        "--targets", "normals,posmap", "--workers", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    dataset = open_dataset(tmp_path / "300wlp-posmaps")
    batch = dataset.read(range(len(dataset)), ["normal", "covered", "position_map"])
    length = np.linalg.norm(batch["normal"], axis=-1)
    is_face = length > 0
    assert 0.2 < is_face.mean() < 0.9
    np.testing.assert_allclose(length[is_face], 1, atol=1e-5)
    assert (batch["normal"][is_face][:, 2] > -0.2).mean() > 0.999, "what is seen looks at the viewer"
    frontal = batch["normal"][:, 48:80, 48:80].mean(axis=(1, 2))
    assert frontal[:, 2].max() > 0.7


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

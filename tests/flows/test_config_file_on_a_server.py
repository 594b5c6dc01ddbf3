"""The same file through a real server and worker, and through the command line: one version."""

import json

import pytest

from storage.dataset import open_dataset


@pytest.mark.server
def test_a_deployment_and_the_command_line_make_the_same_version_of_one_file(prefect_house, sample_folder, tmp_path):
    with prefect_house.opened_house(tmp_path) as house:
        (house.checkout / "facefoundry.toml").write_text(
            f'[build-300wlp-posmaps]\nsource = "{sample_folder}"\nsize = 128\nmaps = "parametric"\nseed = 3\ncopies = 2\n'
            'targets = ["posmap", "heatmaps"]\nworkers = 1\n'
        )
        house.shell("facefoundry deploy --config facefoundry.toml")
        with house.running(prefect_house.WORKER, tmp_path / "worker.log"):
            house.finish("prefect deployment run build-300wlp-posmaps")
        by_server = open_dataset(house.checkout / "datasets/300wlp-posmaps").manifest
        built = json.loads(house.shell("facefoundry build --config facefoundry.toml --out here --json"))
        by_hand = open_dataset(built["path"]).manifest
    assert by_server.version == by_hand.version
    assert by_server.config == by_hand.config
    assert by_server.config["targets"] == ["posmap", "heatmaps"]
    assert by_server.fingerprint == by_hand.fingerprint

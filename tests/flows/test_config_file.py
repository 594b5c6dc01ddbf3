"""One file for the command line and for deployments: both take the same keys, and what they make is the same version."""

import importlib
import inspect
import typing
from pathlib import Path

import pytest
import typer.main
import yaml

from flows import FLOW_NAMES, presets
from flows.command_line import app
from flows.commands.building import Preset
from flows.commands.configured import parameter_types
from flows.config_file import check_table, nearest, read_tables
from flows.deploy import PREFECT_FILE, infra_folder, parametrized
from flows.errors import WrongConfig
from train.systems import SYSTEMS

COMMAND_OF = {
    **{f"build-{preset.value}": "build" for preset in Preset},
    **{f"train-{system.replace('_', '-')}": "train" for system in SYSTEMS},
    "fit-landmarks": "fit-landmarks",
    "profile-faces": "profile",
    "evaluate": "evaluate",
}
HERE_ALONE = {"build": {"preset", "config", "as_json"}, "train": {"system", "fresh", "config", "as_json"}}
THERE_ALONE = {"train": {"fingerprint"}}
"""Which only events know."""

BUILD = """
[build-300wlp-posmaps]
size = 128
maps = "parametric"
seed = 3
copies = 2
targets = ["posmap", "heatmaps"]
workers = 1
max_bad = 0.5
"""


def flow_named(name: str):
    """A deployed flow, where the deployments' file says that it is."""
    document = yaml.safe_load((infra_folder() / PREFECT_FILE).read_text())
    places = [each["entrypoint"] for each in document["deployments"]]
    (place,) = [each for each in places if each.rpartition(".")[2].replace("_", "-") == name]
    module, _, function = place.rpartition(".")
    return getattr(importlib.import_module(module), function)


def flow_function(name: str):
    return flow_named(name).fn


def one_deployment(flow: str) -> dict:
    """A deployments' file with one flow."""
    function = flow_function(flow)
    return {"deployments": [{"name": "default", "entrypoint": f"{function.__module__}.{function.__name__}"}]}


def written(folder: Path, text: str) -> Path:
    path = folder / "facefoundry.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("flow", COMMAND_OF)
def test_the_command_takes_every_parameter_of_its_flow_and_no_other(flow):
    command = COMMAND_OF[flow]
    callback = typer.main.get_command(app).commands[command].callback
    own = set(inspect.signature(callback).parameters) - HERE_ALONE.get(command, {"config", "as_json"})
    if command == "build":
        preset = presets.PRESETS[flow.removeprefix("build-")]
        of_any = {name for each in presets.PRESETS.values() for name in (*each.options, *each.files)}
        own -= of_any - {*preset.options, *preset.files}
        if flow == "build-ear-fields":
            own -= {"model"}  # which is the built-in one, always
    there = set(inspect.signature(flow_function(flow)).parameters) - THERE_ALONE.get(command, set())
    assert own == there


def choices(kind) -> set:
    """The values of a Literal within a type."""
    if typing.get_origin(kind) is typing.Literal:
        return set(typing.get_args(kind))
    return set().union(*(choices(each) for each in typing.get_args(kind)))


@pytest.mark.parametrize("flow", [flow for flow in COMMAND_OF if not flow.startswith("build-")])
def test_a_choice_of_the_flow_is_a_choice_of_the_command(flow):
    hints = typing.get_type_hints(flow_function(flow), include_extras=True)
    types = parameter_types(typer.main.get_command(app).commands[COMMAND_OF[flow]].callback)
    shared = set(hints) & set(types)
    assert len(shared) > 5
    for name in shared:
        assert choices(hints[name]) == choices(types[name]), name


@pytest.fixture
def built_configs(monkeypatch) -> list[tuple[object, dict]]:
    """What builds were started, by either way; none of them runs."""
    seen = []

    def from_here(config, **arguments):
        seen.append((config, arguments))
        raise RuntimeError("enough was seen")

    def from_flow(preset, options, **arguments):
        seen.append((presets.PRESETS[preset].config_of(options), arguments))
        return {}

    monkeypatch.setattr("flows.local.build_here", from_here)
    for module in ("build_300wlp_posmaps", "build_densereg_fields", "build_ear_fields"):
        monkeypatch.setattr(f"flows.{module}.run_build", from_flow)
    return seen


TABLES = {
    "300wlp-posmaps": 'size = 128\nmaps = "parametric"\nseed = 3\ncopies = 2\ntargets = ["field", "posmap"]\n'
    'field_atlas = "maps"\naugment = "prnet"\nimages = "jpeg:90"\natlas = "own"\nmax_bad = 0.5\non_bad = "fail"\n'
    'mask = "tattoo.png"\nmodel = "BFM"\n',
    "densereg-fields": 'longest = 400\nfield_atlas = "own"\nmask = "tattoo.png"\n',
    "ear-fields": "size = 128\nsmoothing = 0.5\n",
}


@pytest.mark.parametrize("table", ["", "full"])
@pytest.mark.parametrize("preset", TABLES)
def test_a_table_means_the_same_config_by_either_way(preset, table, run, built_configs, tmp_path):
    table = f'{TABLES[preset] if table else ""}source = "photographs"\nout = "there"\n'
    path = written(tmp_path, f"[build-{preset}]\n{table}")
    run("build", "--config", path, "--json")
    (deployment,) = parametrized(one_deployment(f"build-{preset}"), path)["deployments"]
    flow = flow_named(f"build-{preset}")
    flow.fn(**flow.validate_parameters(deployment["parameters"]))
    (here, given_here), (there, given_there) = built_configs
    assert here == there
    for name in ("source", "out", "model", "workers", "max_bad", "scheduler"):
        assert str(given_here[name]) == str(given_there[name]), name
    assert given_here["fail_on_first"] == (given_there["on_bad"] == "fail")
    assert {name: str(file) for name, file in given_here["files"].items()} == (given_there.get("files") or {})


def test_the_file_gives_the_version_that_the_options_give_and_the_manifest_shows_them(run, sample_folder, tmp_path):
    path = written(tmp_path, BUILD + f'source = "{sample_folder}"\n')
    by_file = run("build", "--config", path, "--out", tmp_path / "one", "--json")
    options = ("--size", "128", "--maps", "parametric", "--seed", "3", "--copies", "2", "--targets", "posmap,heatmaps",
               "--source", sample_folder, "--workers", "1")  # fmt: skip
    by_hand = run("build", "300wlp-posmaps", *options, "--out", tmp_path / "two", "--json")
    assert by_file.code == by_hand.code == 0, by_file.err
    assert by_file.json["version"] == by_hand.json["version"]
    config = run("info", by_file.json["path"], "--json").json["config"]
    assert (config["crop"]["size_px"], config["seed"], config["targets"]) == (128, 3, ["posmap", "heatmaps"])


def test_the_command_line_wins_over_the_file(run, built_configs, tmp_path):
    path = written(tmp_path, BUILD)
    run("build", "300wlp-posmaps", "--config", path, "--seed", "4", "--targets", "posmap", "--json")
    ((config, arguments),) = built_configs
    assert (config.seed, config.targets, config.crop.size_px) == (4, ("posmap",), 128)
    assert arguments["max_bad"] == 0.5


def test_trainings_profiles_and_fits_take_their_tables_too(run, monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(
        "flows.training.train_here", lambda system, data, **given: seen.update(given, data=data, system=system)
    )
    monkeypatch.setattr("flows.profiles.profile_here", lambda source, **given: seen.update(given, source=source))
    monkeypatch.setattr("flows.fits.fit_here", lambda config, **given: seen.update(given, fits=config))
    path = written(
        tmp_path,
        '[train-mesh-gcn]\ndata = "d"\nsettings = ["batch_size=2"]\nsteps = 7\nworkers = 3\n'
        '[profile-faces]\nsource = "s"\nyaw_step_deg = 30\npitch_deg = [10.0, -10.0]\n'
        '[fit-landmarks]\ndetect = true\nloss = "huber"\n',
    )
    for command in ("train", "profile", "fit-landmarks"):
        run_to_the_fake(run, command, path)
    assert (seen["system"], seen["data"], seen["steps"]) == ("mesh_gcn", "d", 7)
    assert list(seen["settings"]) == ["batch_size=2", "workers=3"]
    assert str(seen["source"]) in ("s", "None")
    assert (seen["config"].yaw_step_deg, seen["config"].pitch_deg) == (30, (10, -10))
    assert (seen["detect"], seen["fits"].fit.loss) == (True, "huber")


def run_to_the_fake(run, command: str, path: Path) -> None:
    """What stands in for the work gives nothing back, so that the command cannot go on."""
    with pytest.raises(AttributeError):
        run(command, "--config", path, "--json")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[build-300wlp-posmaps]\nsise = 3", "-posmaps] has no parameter 'sise' (did you mean 'size'?); parameters: "),
        ("[build-300wlp-posmaps]\nmax-bad = 0.1", "has no parameter 'max-bad' (did you mean 'max_bad'?)"),
        ("[build-300wlp-posmaps]\nlongest = 300", "has no parameter 'longest'"),
        ("[build-300wlp-posmaps]\nas_json = true", "has no parameter 'as_json'"),
        ("[build-300wlp-posmaps]\nsize = 64", "size = 64: give at least 128"),
        ("[build-300wlp-posmaps]\nsize = 'large'", "size = 'large': give a whole number"),
        ("[build-300wlp-posmaps]\nsize = '256'", "size = '256': give a whole number"),
        ("[build-300wlp-posmaps]\ncopies = true", "copies = True: give a whole number"),
        ("[build-300wlp-posmaps]\nmax_bad = nan", "max_bad = nan: give a finite number"),
        ("[build-300wlp-posmaps]\nmaps = 'all'", "maps = 'all': give 'materialized'"),
        ("[build-300wlp-posmaps]\nmodel = ['a.mat', 'b.mat']", "model = ['a.mat', 'b.mat']: give a text"),
        ("[build-300wlp-posmap]", "there is no flow 'build-300wlp-posmap' (did you mean 'build-300wlp-posmaps'?)"),
        ("size = 3", "'size' stands outside of every table"),
        ("[build-300wlp-posmaps", "is not TOML: "),
        ("\xff", "is not TOML: "),
        ("[rebuild]", "has no table [build-300wlp-posmaps]; it has [rebuild]"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_both_before_anything_is_done(text, sentence, run, built_configs, tmp_path):
    path = tmp_path / "facefoundry.toml"
    path.write_bytes(text.encode("latin-1"))
    ended = run("build", "300wlp-posmaps", "--config", path, "--json")
    assert ended.code == 2
    assert sentence in ended.complaint
    assert built_configs == []
    if "has no table" in sentence:
        return
    with pytest.raises(WrongConfig) as refused:
        parametrized(one_deployment("build-300wlp-posmaps"), path)
    assert sentence.partition(" Input")[0] in str(refused.value)


def test_a_file_that_is_not_there_and_what_it_leaves_open_are_wrong_use(run, built_configs, tmp_path):
    missing = run("build", "--config", tmp_path / "no.toml")
    assert (missing.code, missing.complaint) == (2, f"facefoundry: {tmp_path}/no.toml: No such file or directory\n")
    two = run("build", "--config", written(tmp_path, "[build-ear-fields]\n[build-densereg-fields]\n"))
    assert two.code == 2
    assert "has tables for densereg-fields, ear-fields: say which" in two.complaint
    none = run("train", "--config", written(tmp_path, "[rebuild]\n"))
    assert "has none of the tables [train-dan], " in none.complaint
    assert built_configs == []


def test_a_deployment_of_each_flow_takes_a_table(tmp_path):
    document = yaml.safe_load((infra_folder() / PREFECT_FILE).read_text())
    path = written(tmp_path, '[rebuild]\nsource = "300W_LP"\n[verify]\nkeep = 3\n[train-prnet]\nsteps = 5\n')
    made = parametrized(document, path)
    given = {each["entrypoint"].rpartition(".")[2]: each.get("parameters", {}) for each in made["deployments"]}
    assert given["rebuild"] == {"source": "300W_LP"}
    assert given["verify"] == {"keep": 3}
    assert given["train_prnet"] == {"steps": 5}
    assert given["build_300wlp_posmaps"] == {}
    assert not any("parameters" in each for each in document["deployments"])  # the file itself stays
    with pytest.raises(WrongConfig, match=r"\[verify\] keep = 0: give at least 1"):
        parametrized(document, written(tmp_path, "[verify]\nkeep = 0\n"))


@pytest.mark.parametrize("value", ['"{{ $HOME }}/datasets"', '["posmap", "{{ prefect.variables.targets }}"]'])
def test_what_prefect_would_fill_in_and_the_command_line_would_not_is_refused(value, tmp_path):
    key = "targets" if value.startswith("[") else "out"
    path = written(tmp_path, f"[build-300wlp-posmaps]\n{key} = {value}\n")
    with pytest.raises(WrongConfig, match=rf"{key} = .*: Prefect would put something else in the place of {{{{ … }}}}"):
        parametrized(one_deployment("build-300wlp-posmaps"), path)


def test_the_nearest_name_is_offered_only_when_one_is_near():
    assert nearest("train_prnet", FLOW_NAMES) == " (did you mean 'train-prnet'?)"
    assert nearest("zzz", FLOW_NAMES) == ""


def test_an_empty_table_is_a_table(tmp_path):
    path = written(tmp_path, "[verify]\n")
    assert read_tables(path) == {"verify": {}}
    check_table(path, "verify", {}, {"keep": int})

"""What SECURITY.md promises and no other test holds: no code from data, no secrets in what is written, no way out."""

import ast
import html
import json
import os
import re
import runpy
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from starlette.testclient import TestClient

from flows import dataset_events
from flows.browse import HOST, browse_app
from flows.local import build_here
from storage.dataset import open_dataset
from storage.object_store import ObjectStoreFailed
from storage.stores import store_at
from tests.hardening.builders import SMALL

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for folder in ("geometry", "render", "storage", "train", "flows", "infra")
    for path in (ROOT / folder).rglob("*.py")
)
CANARY = "CANARY7f3aSECRET"
SCRIPT = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{page}}"

# ------------------------------------------------------------------------------------------------------------ code from data

RUNS_CODE = {
    "eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load",
    "cloudpickle.loads", "joblib.load", "dill.load", "dill.loads", "shelve.open", "marshal.load", "marshal.loads",
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "yaml.unsafe_load", "yaml.full_load",
    "torch.jit.load", "torch.hub.load", "numpy.fromregex", "tempfile.mktemp", "ssl._create_unverified_context",
    "np.fromregex", "runpy.run_path", "pd.read_pickle",
}  # fmt: skip


def unsafe_calls(text: str) -> list[str]:
    """The calls in a module that could run what a file holds, hand text to a shell, or write outside of a folder."""
    tree = ast.parse(text)
    safe_loaders = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "yaml.SafeLoader" for base in node.bases)
    }
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and not _is_safe(node, safe_loaders)
    ]


def _is_safe(call: ast.Call, safe_loaders: set[str]) -> bool:
    name = ast.unparse(call.func)
    named = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in RUNS_CODE or named.get("shell", "False") != "False" or named.get("verify") == "False":
        return False
    if named.get("allow_pickle", "False") != "False" or name.endswith(".extractall"):
        return False
    match name:
        case "torch.load":
            return named.get("weights_only") == "True"
        case "np.load" | "numpy.load" | "np.lib.format.read_array":
            return named.get("allow_pickle") == "False"
        case "yaml.load":
            return len(call.args) > 1 and ast.unparse(call.args[1]) in safe_loaders | {"yaml.SafeLoader"}
        case "subprocess.run" | "subprocess.Popen" | "subprocess.check_output" | "subprocess.check_call":
            return not isinstance(call.args[0], ast.JoinedStr | ast.Constant | ast.BinOp)
    return True


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_runs_what_a_file_holds_or_hands_text_to_a_shell(path):
    assert unsafe_calls(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "eval(x)", "exec(x)", "pickle.loads(x)", "os.system('ls')", "subprocess.run(f'ls {x}')", "subprocess.run('ls ' + x)",
        "subprocess.run(['ls'], shell=True)", "torch.load(x)", "torch.load(x, weights_only=False)", "np.load(x)",
        "np.load(x, allow_pickle=True)", "yaml.load(x)", "yaml.load(x, yaml.Loader)", "archive.extractall(x)",
        "requests.get(x, verify=False)",
    ],
)  # fmt: skip
def test_each_of_these_would_be_found(text):
    assert len(unsafe_calls(text)) == 1


def test_pickle_is_imported_nowhere_but_for_the_name_of_its_error():
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        if names & {"pickle", "cloudpickle", "dill", "shelve", "marshal"}:
            used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            assert {name for name in used if name.startswith("pickle.")} == {"pickle.UnpicklingError"}, path


# ------------------------------------------------------------------------------------------------------------------- secrets


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    from storage.synthetic import write_sample_folder

    folder = tmp_path_factory.mktemp("source") / "sample"
    write_sample_folder(folder, n_identities=1, n_expressions=1, n_views=2)
    return folder


@pytest.fixture
def secretive(s3_server, monkeypatch) -> dict[str, str]:
    """An environment full of secrets, each with the canary in it."""
    told = {
        "AWS_ACCESS_KEY_ID": f"{CANARY}1", "AWS_SECRET_ACCESS_KEY": f"{CANARY}2", "AWS_SESSION_TOKEN": f"{CANARY}3",
        "AWS_ENDPOINT_URL": s3_server.past_the_door, "PREFECT_API_AUTH_STRING": f"me:{CANARY}4",
        "PREFECT_API_KEY": f"{CANARY}5", "HF_TOKEN": f"{CANARY}6",
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    return {**os.environ, **told, "PYTHONPATH": str(ROOT)}


def command(*words: object, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", "from flows.command_line import main; main()", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=cwd, env=env, check=False)


@pytest.mark.slow
def test_no_secret_is_in_anything_that_a_build_on_s3_writes_or_says(sample, secretive, tmp_path):
    out = f"s3://faces/{tmp_path.name}"
    words = ("build", "300wlp-posmaps", "--source", sample, "--out", out, "--size", "128", "--workers", "1", "--json")
    built = command(*words, cwd=tmp_path, env={**secretive, "HOME": str(tmp_path)})
    assert built.returncode == 0, built.stderr
    said = [built.stdout, built.stderr]
    for more in (
        ("verify", f"{out}/300wlp-posmaps"),
        ("info", f"{out}/300wlp-posmaps"),
        ("list", "--out", out),
        ("doctor",),
    ):
        done = command(*more, cwd=tmp_path, env=secretive)
        said += [done.stdout, done.stderr]
    for failing in (
        {**secretive, "AWS_ENDPOINT_URL": f"http://me:{CANARY}7@127.0.0.1:9"},
        {**secretive, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_TIMEOUT": "300ms"},
    ):
        done = command("info", f"{out}/300wlp-posmaps", cwd=tmp_path, env=failing)
        assert done.returncode != 0
        said += [done.stdout, done.stderr]
    assert CANARY not in "".join(said)
    store = store_at(out)
    objects = {key: store.get(key) for key in store.list()}
    assert any(key.endswith("manifest.json") for key in objects)
    assert [key for key, data in objects.items() if CANARY.encode() in data or CANARY in key] == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_no_secret_is_in_the_event_of_a_build_that_failed_or_in_an_artifact(secretive, tmp_path, monkeypatch):
    told: list[object] = []
    monkeypatch.setattr(dataset_events, "emit_event", lambda **event: told.append(event))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:{CANARY}@127.0.0.1:9")
    monkeypatch.setenv("AWS_TIMEOUT", "300ms")
    with pytest.raises((ObjectStoreFailed, ValueError)), dataset_events.failure_announced("faces"):
        list(store_at("s3://faces/x").list())
    assert told
    assert CANARY not in json.dumps(told, default=str)


# ---------------------------------------------------------------------------------------------------------------- the pages


@pytest.fixture(scope="module")
def hostile(small_faces, tmp_path_factory):
    """A data set whose strangers chose their names and licences well."""
    from storage.manifest import SourceInfo

    names = [f"AFW/{SCRIPT}{number}" for number in range(4)]
    source = SourceInfo(kind="300w-lp", n_files=8, fingerprint="ab" * 32, licence=SCRIPT)
    folder = tmp_path_factory.mktemp("hostile")
    return small_faces.build(folder, names=names, holes=(3,), source_id_bytes=160, source=source, reason=SCRIPT)


def scripts_of(page: str) -> list[str]:
    return re.findall(r"<script", page, re.IGNORECASE)


def test_the_card_and_the_browsers_page_show_a_hostile_source_id_as_text(hostile):
    from storage.card import card_objects

    cards = card_objects(hostile, np.zeros((8, 8, 3), np.uint8))
    page = next(data for key, data in cards.items() if key.endswith(".html")).decode()
    with TestClient(browse_app(hostile), base_url=f"http://{HOST}") as client:
        live = client.get("/").text
        described = client.get("/samples/0.json")
    assert described.headers["content-type"] == "application/json"
    for shown in (page, live):
        data_blocks = len(re.findall(r'<script type="application/json"', shown))
        assert len(scripts_of(shown)) - data_blocks == 1, "another script than the page's own"
        assert "<img src=x" not in shown
        policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', shown)
        assert policy
        assert html.unescape(policy[1]).startswith("default-src 'none'")
        assert "unsafe" not in policy[1]


@pytest.mark.parametrize(
    "name", ["127.0.0.1.evil.example", "evil.example", "localhost.evil.example", "[::1]", "0.0.0.0", ""]
)
def test_the_browser_answers_to_this_machines_name_alone(hostile, name):
    with TestClient(browse_app(hostile), base_url=f"http://{HOST}") as client:
        assert client.get("/samples/0.json", headers={"host": name}).status_code == 400


def test_the_browser_does_not_follow_links_out_of_its_data_set(small_faces, tmp_path):
    faces = small_faces.build(tmp_path)
    (tmp_path / "secret.txt").write_text(CANARY)
    (faces.path / "link.webp").symlink_to(tmp_path / "secret.txt")
    (faces.path / "samples").symlink_to(tmp_path)
    with TestClient(browse_app(faces), base_url=f"http://{HOST}") as client:
        for address in (
            "/link.webp",
            "/samples/secret.txt",
            "/samples/0/link.webp",
            "/samples/0/..%2f..%2flink.webp",
            "/secret.txt",
        ):
            answer = client.get(address)
            assert answer.status_code in (404, 422), address
            assert CANARY not in answer.text


# -------------------------------------------------------------------------------------------------------------- permissions


@pytest.mark.parametrize(
    ("mask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0, 0o644, 0o755)]
)
def test_outputs_follow_the_umask_and_are_never_for_everybody_to_write(sample, tmp_path, mask, file_mode, folder_mode):
    """With a umask of 0 everybody could write: files are 666 & ~umask, so that is the one case where they are."""
    before = os.umask(mask)
    try:
        build_here(SMALL, source=sample, out=tmp_path / "out", workers=1)
    finally:
        os.umask(before)
    found = list(modes(tmp_path / "out"))
    assert found
    for path, mode in found:
        allowed = (folder_mode if path.is_dir() else file_mode) | (0o022 if mask == 0 else 0)
        assert mode & ~allowed == 0, f"{path} has mode {mode:o}"
        assert path.is_dir() or not mode & 0o111, f"{path} can be executed"
    if mask:
        assert not [path for path, mode in found if mode & stat.S_IWOTH]


def modes(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in [folder, *folder.rglob("*")]:
        yield path, stat.S_IMODE(path.lstat().st_mode)


def test_a_sample_read_back_is_nobodys_to_run(sample, tmp_path):
    """What comes out of a data set is numbers and texts: no array of objects, which a pickle could hide in."""
    dataset = open_dataset(build_here(SMALL, source=sample, out=tmp_path, workers=1).path)
    assert all(np.asarray(value).dtype != object for value in dataset[0].values())


# --------------------------------------------------------------------------------------------------------------- containers

COMPOSE = yaml.safe_load((ROOT / "infra/compose.yaml").read_text(encoding="utf-8"))
PODS = [
    document["spec"]["template"]["spec"]
    for name in ("worker", "dask")
    for document in yaml.safe_load_all((ROOT / f"infra/kubernetes/{name}.yaml").read_text(encoding="utf-8"))
    if document["kind"] == "Deployment"
]


def job_pod() -> dict[str, object]:
    job = runpy.run_path(str(ROOT / "infra/kubernetes/render_job.py"))["example_job"]()
    return job["spec"]["template"]["spec"]


@pytest.mark.parametrize("service", ["server", "deploy", "worker"])
def test_our_services_run_on_a_read_only_root(service):
    entry = COMPOSE["services"][service]
    assert entry["read_only"] is True
    places = {place.partition(":")[0] for place in entry["tmpfs"]}
    assert places == {"/tmp", "/home/facefoundry"}
    assert "docker.sock" not in json.dumps(entry)
    assert not entry.get("privileged")


@pytest.mark.parametrize("pod", [*PODS, job_pod()])
def test_our_pods_run_on_a_read_only_root(pod):
    assert not pod.get("hostNetwork")
    assert not pod.get("hostPID")
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        writable = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/tmp", "/home/facefoundry"} <= writable
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_the_image_fetches_nothing_but_packages():
    text = (ROOT / "infra/Dockerfile").read_text(encoding="utf-8")
    assert not re.search(r"^ADD |curl|wget|chmod 777|sudo", text, re.MULTILINE)

"""`verify --repair` makes exactly what is damaged again, byte for byte, or refuses; and builds on S3 end as builds on disk."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.config import PosmapConfig
from flows.errors import SourceChanged
from flows.local import build_here
from flows.repair import repair_here
from render.crop import CropConfig
from storage.card import CARD_KEYS
from storage.dataset import open_dataset
from storage.local_store import LocalStore
from storage.manifest import MANIFEST_KEY
from storage.phases import Phase, observed
from storage.verify import verify
from tests.folders import tree

ROOT = Path(__file__).resolve().parents[2]
SMALL = PosmapConfig(crop=CropConfig(size_px=64), shard_size=4)


@pytest.fixture(scope="module")
def once(sample_folder, tmp_path_factory) -> Path:
    return build_here(SMALL, source=sample_folder, out=tmp_path_factory.mktemp("built"), workers=1).path


@pytest.fixture
def built(once, tmp_path) -> LocalStore:
    copied = tmp_path / "out" / once.parent.name / once.name
    shutil.copytree(once, copied)
    return LocalStore(copied)


def damage(store: LocalStore, key: str) -> None:
    content = bytearray(store.get(key))
    content[len(content) // 2] ^= 1
    (store.root / key).write_bytes(content)


def test_repair_makes_the_damaged_shards_again_and_touches_nothing_else(built, once, sample_folder):
    damage(built, "position_map/c.2.0.0.0")
    damage(built, "tables/weight_mask/zarr.json")
    built.delete("contact_sheet.png")
    for key in CARD_KEYS:
        damage(built, key)
    (built.root / "pictures.json").write_bytes(b"")
    (built.root / "receipts/00000.json").write_bytes(b"{}")
    untouched = {path: path.stat().st_ino for path in built.root.glob("image/*")}
    made = []
    with observed(lambda phase, what: made.append(what) if phase == Phase.RECEIPT else None):
        mended = repair_here(built, verify(built), source=sample_folder, workers=1)
    assert made == ["receipts/00000.json", "receipts/00002.json"]
    assert set(mended) == {
        *CARD_KEYS,
        "contact_sheet.png",
        "pictures.json",
        "position_map/c.2.0.0.0",
        "receipts/00000.json",
        "tables/weight_mask/zarr.json",
    }
    assert verify(built) == []
    assert tree(built.root) == tree(once)
    assert untouched == {path: path.stat().st_ino for path in built.root.glob("image/*")}


def test_repair_in_several_processes_ends_the_same(built, once, sample_folder):
    for shard in range(4):
        damage(built, f"image/c.{shard}.0.0.0")
    repair_here(built, verify(built), source=sample_folder, workers=2)
    assert tree(built.root) == tree(once)


def test_repair_from_sources_that_changed_is_refused_and_leaves_no_trace(built, sample_folder, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(sample_folder, changed)
    picture = next((changed / "AFW").glob("*_0.jpg"))
    picture.write_bytes(picture.read_bytes() + b"x")
    damage(built, "image/c.3.0.0.0")
    before = tree(built.root.parent)
    with pytest.raises(SourceChanged, match="nothing was repaired: the source given now would make version") as refusal:
        repair_here(built, verify(built), source=changed, workers=1)
    assert "Give the source and model that it was built from" in str(refusal.value)
    assert tree(built.root.parent) == before | {".lock": before.get(".lock", "")} or tree(built.root.parent) == before


def test_the_command_repairs_says_what_it_did_and_a_damaged_manifest_is_left_to_the_build(built, once, sample_folder):
    damage(built, "landmarks_px/c.1.0.0")
    ended = command("verify", built.root, "--repair", "--source", sample_folder, "--workers", "1", "--json")
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    assert (answer["whole"], answer["mended"], answer["findings"]) == (True, ["landmarks_px/c.1.0.0"], [])
    assert tree(built.root) == tree(once)
    (built.root / MANIFEST_KEY).write_bytes(b"{}")
    ended = command("verify", built.root, "--repair", "--source", sample_folder)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    again = build_here(SMALL, source=sample_folder, out=built.root.parent.parent, workers=1)
    assert tree(again.path) == tree(once)


@pytest.mark.slow
def test_a_build_on_s3_is_the_build_on_disk_and_is_repaired_there(sample_folder, tmp_path, s3_server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.past_the_door)
    config = SMALL.model_copy(update={"shard_size": 7})
    local = build_here(config, source=sample_folder, out=tmp_path / "local", workers=1).path
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    # in a process of its own, since workers have the environment that the first of them was started in
    script = "import sys\nfrom flows.config import PosmapConfig\nfrom flows.local import build_here\n"
    script += "config = PosmapConfig.model_validate_json(sys.argv[1])\n"
    script += "build_here(config, source=sys.argv[2], out='s3://faces/built', workers=2)"
    arguments = [sys.executable, "-c", script, config.model_dump_json(), str(sample_folder)]
    run = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    published = build_here(config, source=sample_folder, out="s3://faces/built", workers=1)
    assert str(published.path) == f"s3://faces/built/{config.name}/{local.name}"
    remote = open_dataset(str(published.path))._store
    assert {key: hashlib.sha256(remote.get(key)).hexdigest() for key in remote.list()} == tree(local)
    remote.delete("image/c.1.0.0.0")
    assert list(repair_here(remote, verify(remote), source=sample_folder, workers=1)) == ["image/c.1.0.0.0"]
    assert verify(remote) == []
    ended = command("list", "--out", "s3://faces/built", "--json")
    assert [row["version"] for row in json.loads(ended.stdout)["datasets"]] == [local.name]
    assert command("verify", f"s3://faces/built/{config.name}", "--fast").returncode == 0
    assert "CANARY" not in ended.stdout + ended.stderr
    assert not list((tmp_path / "elsewhere").iterdir())


def command(*arguments: object) -> subprocess.CompletedProcess:
    words = ["facefoundry", *map(str, arguments)]
    script = f"from flows.command_line import main; import sys; sys.argv = {words!r}; main()"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ), check=False
    )

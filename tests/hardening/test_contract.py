"""`docs/contract.md` names tests that are there, and those of its lines that no other test holds."""

import ast
import hashlib
import multiprocessing
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from flows import build
from flows.face_checks import check_coefficients, check_inside
from geometry import load_model
from geometry.morphable_model import Coefficients
from storage.bad_sample import BadSample
from storage.dataset import open_dataset
from tests.hardening.kept import DATASETS, FACES, GOLDEN, golden_build, objects_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("contract.md", "bad-inputs.md", "storage.md")
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@cache
def named_in(path: Path) -> frozenset[str]:
    """The names of a file's test functions, without running anything."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_the_contract_names_is_there(page):
    named = NAMED_TEST.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    gone = [
        f"{path}::{name}" for path, name in named if not (ROOT / path).is_file() or name not in named_in(ROOT / path)
    ]
    assert gone == []


def test_every_line_of_the_contract_names_a_test():
    rows = [line for line in (ROOT / "docs" / "contract.md").read_text().splitlines() if line.startswith("|")]
    promises = [row for row in rows if not row.startswith(("| promise", "|---"))]
    assert len(promises) > 30
    assert [row for row in promises if not NAMED_TEST.search(row.split("|")[-2])] == []


@pytest.mark.parametrize("name", ["faces", "every-code"])
def test_every_object_has_size_hash_and_range_and_the_ranges_are_a_partition(name):
    dataset = open_dataset(DATASETS / name)
    plan = dataset.manifest.plan
    ranges: dict[str, list[range]] = {}
    for info in dataset.manifest.objects:
        content = (dataset.path / info.key).read_bytes()
        assert (info.bytes, info.sha256) == (len(content), hashlib.sha256(content).hexdigest()), info.key
        target, _, rest = info.key.partition("/")
        if rest.startswith("c.") and target != "tables":
            ranges.setdefault(target, []).append(range(info.first, info.stop))
    assert ranges.keys() == {target.name for target in plan.sample_schema.targets}
    for target, found in ranges.items():
        slots = [slot for one in sorted(found, key=lambda one: one.start) for slot in one]
        assert slots == list(range(plan.n_slots)), target


def _make(job: build.Job, shard: int, both: "multiprocessing.synchronize.Barrier") -> None:
    both.wait()
    build.build_shard(job, shard)


def test_a_shard_that_two_processes_make_at_once_is_the_shard(tmp_path):
    """A worker that was given up for dead may live on, beside the one that took its place."""
    expected = objects_of(golden_build(tmp_path / "alone"))
    context = multiprocessing.get_context("forkserver")
    with build.opened_build(GOLDEN, source=FACES, model="built-in", out=tmp_path / "twice") as opened:
        for shard in opened.missing_shards:
            both = context.Barrier(2)
            workers = [context.Process(target=_make, args=(opened.job, shard, both)) for _ in range(2)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert [worker.exitcode for worker in workers] == [0, 0]
        published = build.publish_build(opened)
    assert objects_of(open_dataset(published.path)) == expected


def test_coefficients_that_no_face_has_are_refused():
    model = load_model("built-in")
    usual = model.draw_identity(np.random.default_rng(3))
    calm = np.zeros(model.n_expression)
    check_coefficients(Coefficients(usual, calm), model)
    for identity, code in ((usual[:-1], "param.count"), (100 * usual, "param.range"), (usual * np.nan, "param.range")):
        with pytest.raises(BadSample) as refused:
            check_coefficients(Coefficients(identity, calm), model)
        assert refused.value.code == code


def test_a_face_outside_its_picture_is_refused():
    points = np.column_stack([np.linspace(100, 300, 68), np.linspace(120, 380, 68), np.zeros(68)])
    check_inside(points, (450, 450))
    check_inside(points - (250, 0, 0), (450, 450))  # half of it may hang over
    for shift in ((-301, 0, 0), (0, 331, 0), (np.nan, 0, 0), (np.inf, 0, 0)):
        with pytest.raises(BadSample, match="outside"):
            check_inside(points + shift, (450, 450))

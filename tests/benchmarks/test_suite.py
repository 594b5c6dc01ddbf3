"""The benchmark suite itself: every row runs, and the table says what was measured. How long anything took is not asserted."""

import gc
import importlib.util
import json
import math
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks import main_job
from tests.benchmarks.suite import jobs, report, stages, storing
from tests.benchmarks.suite.every_row import every_row
from tests.benchmarks.suite.material import TINY, Material
from tests.benchmarks.suite.rows import Contender, Goal, Measured, NotInstalled, Row, Spent, measure, needing

MACHINE = {"processor": "a processor", "vectors": "avx2", "cores": 2, "load": 0.5, "python": "3.11", "numpy": "2",
           "copy_gb_s": 8.0, "product_gflop_s": 50.0, "sha256_gb_s": 1.0}  # fmt: skip


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Iterator[Material]:
    """Two of everything. Commands run in this process, which spares each of them its start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main_job, "run", run_here)
        yield Material(tmp_path_factory.mktemp("suite"), TINY)


def run_here(command: list[str]) -> None:
    """``python -c SCRIPT …`` without the process."""
    interpreter, option, script, *arguments = command
    assert (interpreter, option) == (sys.executable, "-c")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["-c", *arguments])
        try:
            exec(script, {"__name__": "__main__"})
        except SystemExit as ended:
            if ended.code:
                raise AssertionError(command) from ended


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # WebDataset leaves its tars open
def test_every_row_runs_and_stands_in_the_table_the_json_and_the_plot(material, tmp_path):
    results = []
    for row in every_row(material, gpu=True):
        once = measure(replace(row, is_long=True), turn_s=0, row_s=0, rounds=1)
        installed = [one for one in row.baselines if isinstance(one, Contender)]
        assert installed, f"{row.name} stands beside nothing"
        for one in installed:
            for clock in ("cpu", "wall"):
                median = once.ratio(one.name, clock).median
                assert math.isfinite(median), f"{row.name} beside {one.name}"
                assert median > 0, f"{row.name} beside {one.name}"
        for goal in row.goals:
            assert any(one.name.startswith(goal.beside) for one in row.baselines), f"{row.name}: {goal}"
            assert goal.limit, f"{row.name} has a goal, and nothing to say where it is missed"
        results.append(once)
    names = [result.row.name for result in results]
    assert len(set(names)) == len(names) >= 20
    text = report.markdown(results, MACHINE, "make bench")
    written = json.loads(json.dumps(report.as_json(results, MACHINE, "make bench"), allow_nan=False))
    for result, row in zip(results, written["rows"], strict=True):
        assert f"**{result.row.name}**: {result.row.unit} | {result.row.baselines[0].name} |" in text
        assert row["ratios"].keys() | row["not_installed"].keys() == {one.name for one in result.row.baselines}
    report.plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    results.clear()
    del row, once, installed, result
    gc.collect()  # while the filter holds


def test_baselines_that_are_not_installed_are_named_with_the_extra_that_brings_them(material, monkeypatch):
    find = importlib.util.find_spec
    missing = {"eos", "moderngl", "embreex", "webdataset", "lmdb"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    rows = [
        stages.z_buffer(material),
        stages.fit(material),
        storing.write(material),
        storing.read(material, "in order"),
    ]
    absent = {one.remedy for row in rows for one in row.baselines if isinstance(one, NotInstalled)}
    assert absent == {f"pip install {name}" for name in ("eos-py", "moderngl", "embreex", "webdataset", "lmdb")}
    root = Path(__file__).parents[2]
    extra = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]["bench"]
    pins = (root / "infra" / "constraints.txt").read_text()
    for remedy in absent:
        name = remedy.removeprefix("pip install ")
        assert any(requirement.startswith(f"{name}>=") for requirement in extra), name
        assert f"\n{name}==" in pins, name


def test_what_is_not_installed_is_a_line_of_the_table_with_its_remedy():
    absent = needing("no_such_package", "no-such-package", lambda: pytest.fail("it was called"), "Nobody")
    row = _row(baselines=(absent, Contender("theirs", lambda: None)), goals=(Goal("Nobody", 5.0),))
    text = report.table([Measured(row, {"ours": [Spent(1, 1)], "theirs": [Spent(2, 3)]})])
    assert "Nobody | not installed: `pip install no-such-package`" in text
    assert "| theirs | **2.00 ×** | 3.00 × |  |" in text


def test_a_ratio_is_formed_within_a_round_and_the_middle_one_counts():
    ours, theirs = [1.0, 10.0, 3.0], [4.0, 20.0, 3.0]  # the quotient of the medians would be 4/3
    spent = {name: [Spent(cpu=t, wall=2 * t) for t in times] for name, times in (("ours", ours), ("theirs", theirs))}
    ratio = Measured(_row(), spent).ratio("theirs")
    assert ratio.median == 2.0
    assert ratio.spread == (1.0, 4.0)


def test_contenders_take_turns_and_every_turn_is_divided_by_its_items():
    calls = []
    row = _row(
        Contender("ours", lambda: calls.append("ours")), (Contender("theirs", lambda: calls.append("theirs"), 1000),)
    )
    measured = measure(replace(row, is_long=True), turn_s=0, row_s=0, rounds=3)
    assert calls == ["ours", "theirs"] * 3
    assert all(spent.wall < 1e-3 for spent in measured.spent["theirs"])


@pytest.mark.parametrize(
    ("goal", "is_met"),
    [
        (Goal("theirs", 2.0, limit="so it is"), True),
        (Goal("theirs", 2.1, limit="so it is"), False),
        (Goal("theirs", 3.0, clock="wall", limit="so it is"), True),
        (Goal("theirs", 0.0, seconds=0.9, clock="wall", limit="so it is"), False),
        (Goal("theirs", 0.0, seconds=1.0, clock="wall", limit="so it is"), True),
    ],
)
def test_a_goal_is_held_to_its_own_clock(goal, is_met):
    measured = Measured(_row(goals=(goal,)), {"ours": [Spent(0.5, 1.0)], "theirs": [Spent(1.0, 3.0)]})
    assert report.is_met(measured, goal) is is_met
    assert ("**limit**: so it is" in report.table([measured])) is not is_met


def test_two_sizes_of_a_build_give_its_fixed_cost_its_rate_and_300w_lp():
    def build(name: str, n: int, seconds: float) -> Measured:
        baselines = (Contender(jobs.BARE, lambda: None), Contender(jobs.USUAL, lambda: None))
        row = Row(name, "a sample", Contender("ours", lambda: None, n), baselines, why="so")
        once = Spent(cpu=seconds / n, wall=2 * seconds / n)
        return Measured(row, {"ours": [once], jobs.BARE: [Spent(0.001, 0.001)], jobs.USUAL: [Spent(0.03, 0.03)]})

    text = report.planned([build(jobs.FEW, 1000, 5.0), build(jobs.LARGE, 3000, 9.0)])  # 3 s and 2 ms a sample
    assert "**By processor time:** 3.0 s for a run, 2.00 ms a sample" in text
    assert "3,000 samples 0.1 min, 3.00 × decoding and warp, the usual recipe 10.0 × as much" in text
    assert "61,225 samples 2.1 min, 2.05 × decoding" in text
    assert "**By the clock:** 6.0 s for a run, 4.00 ms a sample" in text
    assert report.planned([build(jobs.FEW, 1000, 5.0)]) == ""


def test_a_run_beside_other_work_or_a_quick_one_says_so():
    assert report.remarks(MACHINE, "make bench") == ""
    assert "Other work" in report.remarks(MACHINE | {"load": 3.0}, "make bench")
    assert "Quick" in report.remarks(MACHINE, 'make bench ARGS="--quick"')


def test_the_limit_is_the_longer_of_moving_and_computing():
    moved = Measured(replace(_row(), megabytes=32.0, megaflops=50.0))
    computed = Measured(replace(_row(), megabytes=4.0, megaflops=100.0))
    assert report.least_ms(moved, MACHINE) == 2.0  # 32 MB read or written, where 8 GB/s are copied, which is both
    assert report.least_ms(computed, MACHINE) == 2.0  # 100 Mflop at 50 Gflop/s


def test_the_page_and_its_json_are_of_one_run():
    docs = Path(__file__).parents[2] / "docs"
    page, run = (docs / "benchmarks.md").read_text(), json.loads((docs / "benchmarks.json").read_text())
    load, gigabytes = run["machine"]["load"], run["machine"]["copy_gb_s"]
    assert f"load {load} when the run began" in page
    assert f"one thread copies {gigabytes} GB/s" in page
    assert re.findall(r"^\| \*\*([^*]+)\*\*: ", page, re.MULTILINE) == [row["name"] for row in run["rows"]]
    for row in run["rows"]:
        for beside, ratio in row["ratios"].items():
            shown = f"{report._short(ratio['wall']['median'])} ×"
            lines = [line for line in page.splitlines() if f"| {beside} |" in line]
            assert any(shown in line for line in lines), f"{row['name']} beside {beside}: {shown}"


def test_a_run_is_written_between_the_marks_of_a_page_and_nowhere_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n\n{report.BEGIN}\nold \\1\n{report.END}\n\nAfter\n")
    report.write_into(page, r"new \1 text")
    assert page.read_text() == f"# Before\n\n{report.BEGIN}\n\nnew \\1 text\n\n{report.END}\n\nAfter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match=r"page\.md has no lines"):
        report.write_into(page, "text")


def _row(ours=None, baselines=None, goals=()):
    ours = ours or Contender("ours", lambda: None)
    return Row("a row", "a thing", ours, baselines or (Contender("theirs", lambda: None),), why="so", goals=goals)

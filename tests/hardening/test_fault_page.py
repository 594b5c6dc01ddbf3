"""`docs/faults.md` tells every fault at every phase as it is tried, and the pages name only tests that are there."""

import re
from pathlib import Path

import pytest

from tests.hardening.build_faults import BUILD_PHASES, DAMAGED, KILLED, LABELS, PROMISED, WHOLE
from tests.hardening.test_contract import ROOT, named_in
from tests.hardening.test_training_faults import DIES, FAILS, PASSES

PAGE = ROOT / "docs" / "faults.md"
PAGES = (PAGE, ROOT / "docs" / "mutations.md", ROOT / "SECURITY.md")
_FILE_OR_TEST = re.compile(r"`(?P<file>tests/[\w/]+(?:\.py)?)?(?:::(?P<test>test_\w*)(?P<short>…?))?[^`\n]*`")


def rows_below(head: str) -> list[list[str]]:
    """The cells of the table with that beginning of its head, without head and dashes."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(head))
    table = [line for line in lines[begin + 2 :]]
    table = table[: next(number for number, line in enumerate([*table, ""]) if not line.startswith("|"))]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def told_right(promised: str | None, cell: str) -> bool:
    if promised is None:
        return cell == "no worker lives then"
    if promised == "whole or error":
        return cell == WHOLE or cell.startswith("stops: `")
    names = [f"stops: `{name}`" for name in promised.removeprefix("error: ").split(" or ")]
    return cell in {WHOLE: [WHOLE], KILLED: [KILLED], DAMAGED: ["named"]}.get(promised, names)


def test_every_fault_is_told_at_every_phase_with_the_end_that_is_promised():
    rows = {row[0]: row[1:] for row in rows_below("| fault | plan |")}
    assert sorted(LABELS) == sorted(PROMISED)
    assert list(rows) == [LABELS[fault] for fault in PROMISED]
    of_training = dict.fromkeys(DIES, KILLED) | dict.fromkeys(FAILS, "stops") | dict.fromkeys(PASSES, WHOLE)
    of_training["memory_limit"] = "whole or stops"
    for fault, ends in PROMISED.items():
        *cells, training = rows[LABELS[fault]]
        wrong = [
            phase for phase, cell in zip(BUILD_PHASES, cells, strict=True) if not told_right(ends.get(phase), cell)
        ]
        assert wrong == [], fault
        assert training == of_training.get(fault, "—"), fault


@pytest.mark.parametrize("head", ["| requests meet |", "| lost |"])
def test_no_cell_of_the_other_tables_is_empty(head):
    rows = rows_below(head)
    assert len(rows) > 1
    for row in rows:
        assert len(row) == 1 + len(BUILD_PHASES)
        assert all(row)


def test_every_other_fault_and_resource_has_a_test_of_its_own():
    for head in ("| fault | ends in |", "| what | measured or held |"):
        rows = rows_below(head)
        assert [row[0] for row in rows if not re.search(r"`(tests/|::test_)", row[-1])] == []
        assert len(rows) > 4


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_test_that_a_page_names_or_abbreviates_is_there(page: Path):
    gone, file, found = [], None, 0
    for match in _FILE_OR_TEST.finditer(page.read_text(encoding="utf-8")):
        if match["file"]:
            file = ROOT / match["file"]
            gone += [] if file.exists() else [match["file"]]
        if match["test"] and file is not None and file.is_file():
            found += 1
            names = named_in(file)
            there = any(name.startswith(match["test"]) for name in names) if match["short"] else match["test"] in names
            gone += [] if there else [match[0]]
    assert gone == []
    assert found > 5

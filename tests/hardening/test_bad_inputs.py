"""Every bad input ends as the table of `docs/bad-inputs.md` says, and the good samples beside it are untouched."""

import shutil
from pathlib import Path

import pytest

from tests.hardening.bad_inputs.lab import Good, Lab, make_good
from tests.hardening.bad_inputs.rows import Row
from tests.hardening.bad_inputs.table import every_row, table

ROOT = Path(__file__).resolve().parents[2]
REPORTED = range(1, 41)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Good:
    return make_good(tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize("row", every_row(), ids=lambda row: row.name)
def test_bad_input(row: Row, good, tmp_path):
    lab = Lab(tmp_path, good)
    shutil.copytree(good.source, lab.source)
    row.run(lab)


def test_the_docs_tell_every_row_as_it_is_tested():
    page = (ROOT / "docs" / "bad-inputs.md").read_text()
    told = [line for line in page.partition("## Fuzzing")[0].splitlines() if line.startswith("|")]
    assert told == table()
    numbers = [row.number for row in every_row()]
    assert len(set(numbers)) == len(numbers)
    assert set(REPORTED) <= set(numbers)

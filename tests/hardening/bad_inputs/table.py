"""Bad inputs, one row each: how it is made, what was promised, and the check that it ends so.

The rows are the table of `docs/bad-inputs.md`; ``python -m tests.hardening.bad_inputs`` prints it. Each is run by
`test_bad_inputs.py`: a bad file lies beside good ones, and a real command is given the folder.
"""

from tests.hardening.bad_inputs import annotations, folders, models, pictures, zarr_and_yaml  # noqa: F401 - they fill ROWS
from tests.hardening.bad_inputs.rows import ROWS, Row

HEADER = ("| # | input | promised end | seen end | test |", "|---|---|---|---|---|")


def every_row() -> list[Row]:
    """In the order of their numbers."""
    return sorted(ROWS, key=lambda row: row.number)


def table() -> list[str]:
    """The lines of the table in the docs."""
    return [*HEADER, *(row.line for row in every_row())]

"""Prints the table of `docs/bad-inputs.md`: ``python -m tests.hardening.bad_inputs``."""

from tests.hardening.bad_inputs.table import table

if __name__ == "__main__":
    print("\n".join(table()))

"""How what is optional comes onto a machine: said in one way, wherever a package is missed."""

from pathlib import Path

_CONSTRAINTS = Path(__file__).parents[1] / "infra" / "constraints.txt"
"""Only a checkout has it."""


def install_line(extra: str = "") -> str:
    """How the package comes with an extra: pinned in a checkout, by its name where a wheel was installed."""
    if not _CONSTRAINTS.is_file():
        return f"pip install 'facefoundry[{extra}]'" if extra else "pip install facefoundry"
    return "pip install -c infra/constraints.txt -e " + (f"'.[{extra}]'" if extra else ".")


def how_to_get(extra: str) -> str:
    """The same within a sentence; in a checkout `make setup` brings all that the program itself may miss."""
    line = install_line(extra)
    return f"`make setup`, or {line}" if _CONSTRAINTS.is_file() else line

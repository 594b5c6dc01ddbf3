"""Writes the reference part of docs/command-line.md from the program itself: python docs/make_command_reference.py.

`tests/flows/test_command_help.py` holds the page against what this would write.
"""

import enum
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from types import NoneType

import typer.main

from flows.command_line import app

PAGE = Path(__file__).with_name("command-line.md")
BEGIN, END = "<!-- reference: made by docs/make_command_reference.py -->", "<!-- reference ends -->"

FURTHER_CODES = {
    "build": "3, 4",
    "fit-landmarks": "3, 4",
    "profile": "3, 4",
    "prune": "4",
    "train": "4: another process trains in this run's folder",
    "verify": "1 also: something is damaged and stays so; 4 with `--repair`",
    "fit": "1 also: a face could not be used; the others are written",
    "predict": "1 also: an input could not be used; the others are written",
    "doctor": "1 also: something is broken; what is only absent is 0",
}
"""What a command may end with beside 0, 1, 2, 130 and 141, or means by them."""


def commands(group: object = None, before: str = "") -> Iterator[tuple[str, typing.Any]]:
    """Every command with its whole name: ``build``, …, ``model import``."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


def reference() -> str:
    """The part between the marks."""
    return "\n".join(line for name, command in commands() for line in _section(name, command))


def page_with(page: str, made: str) -> str:
    """The page with its reference replaced."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{made}\n{END}{rest.partition(END)[2]}"


def _section(name: str, command: typing.Any) -> Iterator[str]:
    about, _, shown = inspect.cleandoc(command.callback.__doc__).partition("\n\n")
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    yield f"### {name}"
    yield ""
    yield " ".join(about.split())
    yield ""
    yield from (f"    {line}" for line in shown.splitlines() if line.strip() not in ("", "\b"))
    yield ""
    if name in FURTHER_CODES:
        yield f"Exit codes: {FURTHER_CODES[name]}."
        yield ""
    yield "| | |"
    yield "|---|---|"
    hints = typing.get_type_hints(command.callback, include_extras=True)
    defaults = inspect.signature(command.callback).parameters
    for parameter in (*arguments, *(p for p in command.params if p not in arguments)):
        if parameter.name not in hints:  # typer's own
            continue
        kind, option = typing.get_args(hints[parameter.name])[:2]
        default = defaults[parameter.name].default
        yield f"| {_spelled(parameter, kind, option)} | {_cell(option.help)}{_default(default, option.help)} |"
    yield ""


def _spelled(parameter: typing.Any, kind: typing.Any, option: typing.Any) -> str:
    value, more = _value(kind, option)
    if parameter.param_type_name == "argument":
        name = option.metavar or parameter.name.upper() + ("…" if more else "")
        choices = f": `{_cell(value)}`" if "|" in value else ""
        return f"`{_cell(name)}`{choices}"
    return f"`{_cell(' '.join([*parameter.opts, *([value] if value else [])]))}`{', repeatable' if more else ''}"


def _value(kind: typing.Any, option: typing.Any) -> tuple[str, bool]:
    """What stands after an option, and whether it may be given again."""
    inner = [each for each in typing.get_args(kind) if each is not NoneType]
    if NoneType in typing.get_args(kind):
        kind = inner[0]
    if typing.get_origin(kind) is list:
        return _value(typing.get_args(kind)[0], option)[0], True
    if option.metavar:
        return option.metavar, False
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(map(str, typing.get_args(kind))), False
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "|".join(each.value for each in kind), False
    return {bool: "", int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT"), False


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")


def _default(default: object, told: str) -> str:
    if any(default is none for none in (None, False, inspect.Parameter.empty)) or "default" in told.lower():
        return ""
    return f" Default: {default}."


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text(), reference()))

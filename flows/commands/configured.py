"""Options out of a config file: its table stands in for whatever the command line leaves out."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from flows.config_file import Table, check_table, read_tables
from flows.errors import WrongConfig

Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="Take what is not given here from the flow's table in this file, as `deploy --config` does.",
    ),
]

_NEVER_IN_A_FILE = ("config", "as_json")
_ONE_VALUE = ("model",)
"""Options that may be given again here; a deployment takes one value."""


def with_config(
    flows: Mapping[str, str],
    *,
    chosen_by: str | None = None,
    here_alone: Callable[[str], Collection[str]] = lambda value: (),
) -> type[TyperCommand]:
    """The class of a command that reads ``--config``.

    `flows` are its flows by the value of the argument `chosen_by`; without such an argument there is one flow.
    ``here_alone(value)`` are options that this flow does not have.
    """

    class Configured(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
            path = given.get("config")
            if isinstance(path, str) and not ctx.resilient_parsing and not given.get("help"):
                ctx.default_map = self.defaults(path, given.get(chosen_by) if chosen_by else None)
            return super().parse_args(ctx, args)

        def defaults(self, path: str, choice: object) -> dict[str, Any]:
            """What the file says, by the command's own names."""
            tables = read_tables(path)
            value = choice if isinstance(choice, str) else _only(tables, flows, path)
            if value not in flows:  # the command line will say so
                return {}
            flow = flows[value]
            if flow not in tables:
                there = ", ".join(f"[{name}]" for name in tables) or "none at all"
                raise WrongConfig(f"{path} has no table [{flow}]; it has {there}")
            assert self.callback is not None
            types = parameter_types(self.callback, without=(*_NEVER_IN_A_FILE, chosen_by, *here_alone(value)))
            check_table(path, flow, tables[flow], types)
            found = {name: [given] if name in _ONE_VALUE else given for name, given in tables[flow].items()}
            return found if chosen_by is None else {**found, chosen_by: value}

    return Configured


def _only(tables: Mapping[str, Table], flows: Mapping[str, str], path: str) -> str:
    """The one of the command's flows that the file has a table for."""
    there = [value for value, flow in flows.items() if flow in tables]
    if len(there) != 1:
        wanted = ", ".join(f"[{flow}]" for flow in flows.values())
        how = f"tables for {', '.join(there)}: say which" if there else f"none of the tables {wanted}"
        raise WrongConfig(f"{path} has {how}")
    return there[0]


def parameter_types(function: Callable[..., Any], *, without: Collection[str | None] = ()) -> dict[str, Any]:
    """The types of a command's options with their bounds, as pydantic reads them."""
    from pydantic import Field

    found = {}
    for name, hint in get_type_hints(function, include_extras=True).items():
        if name in without or get_origin(hint) is not Annotated:
            continue
        kind, option = get_args(hint)[:2]
        found[name] = Annotated[str if name in _ONE_VALUE else kind, Field(ge=option.min, le=option.max)]
    return found

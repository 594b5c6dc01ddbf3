"""One TOML file for the command line and for deployments: a table for each flow, whose keys are the flow's parameters.

Only what is given is checked here, so that the rest can come from elsewhere: from the command line, from whoever starts
a deployment, from an event.
"""

import difflib
import json
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows import FLOW_NAMES
from flows.errors import WrongConfig, what_is_wrong

Table = Mapping[str, Any]


def read_tables(path: str | os.PathLike[str]) -> dict[str, Table]:
    """The tables of a config file by flow, unchecked within. Raises WrongConfig."""
    try:
        with Path(path).open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise WrongConfig(f"{path}: {error.strerror}") from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # not TOML, no text, a number of thousands of digits, nested without end
        raise WrongConfig(f"{path} is not TOML: {error}") from None
    for name, value in content.items():
        if not isinstance(value, dict):
            raise WrongConfig(f"{path}: {name!r} stands outside of every table; put it under its flow's name, such as "
                             f"[{FLOW_NAMES[0]}]")  # fmt: skip
        if name not in FLOW_NAMES:
            raise WrongConfig(
                f"{path}: there is no flow {name!r}{nearest(name, FLOW_NAMES)}; flows: {', '.join(FLOW_NAMES)}"
            )
    return content


def check_table(path: str | os.PathLike[str], flow: str, table: Table, types: Mapping[str, Any]) -> None:
    """Raise WrongConfig unless every key is a parameter of the flow and every value is of its type (`types`, annotated)."""
    from pydantic import ValidationError, create_model  # here: a command line without a config file does not load it

    for key in table:
        if key not in types:
            raise WrongConfig(
                f"{path}: [{flow}] has no parameter {key!r}{nearest(key, tuple(types))}; parameters: {', '.join(types)}"
            )
    for key, value in table.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise WrongConfig(f"{path}: [{flow}] {key} = {value}: give a finite number")
    fields: dict[str, Any] = {key: (types[key], ...) for key in table}
    model = create_model(flow, **fields)
    try:
        model.model_validate(table)
        model.model_validate_json(json.dumps(table), strict=True)  # a server takes `true` and "3" for no number
    except ValidationError as error:
        first = error.errors()[0]
        name = f"[{flow}] {'.'.join(map(str, first['loc']))} ="
        raise WrongConfig(f"{path}: {what_is_wrong([first], name=name)}") from None


def nearest(name: str, known: Sequence[str]) -> str:
    """``(did you mean …?)`` where one of the known names is close, dashes and underscores alike."""
    plain = {each.replace("-", "_"): each for each in known}
    found = difflib.get_close_matches(name.lower().replace("-", "_"), plain, n=1)
    return f" (did you mean {plain[found[0]]!r}?)" if found else ""

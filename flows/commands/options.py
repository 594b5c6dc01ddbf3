"""Options and arguments that several commands share, and what is printed in the same way by all of them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import completion

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line and nothing else.")]
Out = Annotated[Path, typer.Option(help="Where data sets lie.")]
OutUrl = Annotated[str, typer.Option(help="Where data sets lie: a folder, or s3://bucket/prefix.")]
Mask = Annotated[
    Path | None, typer.Option(help="A square PNG painted over the fields' atlas, to be carried into every picture.")
]
Model = Annotated[
    list[str] | None,
    typer.Option(
        autocompletion=completion.models,
        help="'built-in', or a morphable model's file or folder; give it again for files that belong together.",
    ),
]
Workers = Annotated[int, typer.Option(min=0, help="Worker processes; 0: one for each core.")]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Let Dask's workers make the shards: tcp://host:8786, or 'local'. Default: processes here."),
]
DatasetPath = Annotated[
    str,
    typer.Argument(
        autocompletion=completion.data_sets, help="<out>/<name>, or a version's own folder; s3://bucket/… too."
    ),
]
DatasetName = Annotated[
    str, typer.Argument(metavar="DATASET", autocompletion=completion.data_sets, help="<out>/<name>; s3://bucket/… too.")
]
Version = Annotated[
    str | None, typer.Option(autocompletion=completion.versions, help="A version; default: the latest.")
]


def given_model(files: list[str] | None) -> str | list[str]:
    """What --model names; the built-in model where it was not given."""
    if not files:
        return "built-in"
    return files[0] if len(files) == 1 else files


def wrong_setting(error: ValueError) -> str:
    """What is wrong with a config, without pydantic's headings and addresses."""
    if not hasattr(error, "errors"):
        return str(error)
    from flows.errors import what_is_wrong

    first = error.errors()[0]
    return what_is_wrong([first], name=option_of(str(first["loc"][-1])) if first["loc"] else None, as_typed=True)


def option_of(field: str) -> str:
    """The option that sets a config's field: its name without the unit."""
    stem = next((field.removesuffix(unit) for unit in ("_px", "_deg") if field.endswith(unit)), field)
    return f"--{stem.replace('_', '-')}"


def print_json(**values: object) -> None:
    """The one line of standard output under --json."""
    print(json.dumps(_strict(values), allow_nan=False), flush=True)


def print_document(document: Mapping[str, object], *, as_json: bool) -> None:
    """A document that is read by people as it is by programs: indented for the ones, on one line for the others."""
    if as_json:
        print_json(**document)
    else:
        print(json.dumps(document, indent=2, ensure_ascii=False))


def _strict(value: object) -> object:
    """The same with null for what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _strict(each) for name, each in value.items()}
    return [_strict(each) for each in value] if isinstance(value, list | tuple) else value

"""Options and arguments that several commands share, and what is printed in the same way by all of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import completion


def local(path: Path | None) -> Path | None:
    """For options that take a folder of this machine alone: of an address there would be made a folder called `s3:`."""
    if path is not None and path.parts[:1] == ("s3:",):
        raise typer.BadParameter("this is written to a folder of this machine, and to no object store")
    return path


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line and nothing else.")]
Out = Annotated[Path, typer.Option(callback=local, help="Where data sets lie.")]
Folder = Annotated[Path, typer.Option(callback=local, help="Folder to write; made when absent.")]
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


def wrong_setting(error: ValueError, fields: Mapping[str, str] | None = None) -> str:
    """What is wrong with a config, without pydantic's headings and addresses; `fields` are what options set, by their names."""
    if not hasattr(error, "errors"):
        return str(error)
    from flows.errors import what_is_wrong

    first = error.errors()[0]
    names = [part for part in first["loc"] if isinstance(part, str)]
    options = {field: option for option, field in (fields or {}).items()}
    option = _option_of(options.get(names[-1], names[-1])) if names else None
    return what_is_wrong([first], name=option, as_typed=True)


def _option_of(field: str) -> str:
    """The option that sets a config's field: its name without the unit."""
    stem = next((field.removesuffix(unit) for unit in ("_px", "_deg") if field.endswith(unit)), field)
    return f"--{stem.replace('_', '-')}"


def print_json(**values: object) -> None:
    """The one line of standard output under --json."""
    from storage.json_files import plain

    print(json.dumps(plain(values), allow_nan=False), flush=True)


def print_document(document: Mapping[str, object], *, as_json: bool) -> None:
    """A document that is read by people as it is by programs: indented for the ones, on one line for the others."""
    if as_json:
        print_json(**document)
    else:
        print(json.dumps(document, indent=2, ensure_ascii=False))

"""The ways a build ends early, light enough for the command line to know them without loading anything else."""

from collections.abc import Mapping, Sequence
from typing import Any

_REMEDIES = {
    "greater_than_equal": "give at least {ge}",
    "greater_than": "give more than {gt}",
    "less_than_equal": "give at most {le}",
    "less_than": "give less than {lt}",
    "multiple_of": "give a multiple of {multiple_of}",
    "finite_number": "give a finite number",
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "float_parsing": "give a number",
    "string_type": "give a text",
    "bool_type": "give true or false",
    "bool_parsing": "give true or false",
    "list_type": "give a list",
    "tuple_type": "give a list",
    "dict_type": "give a table",
    "literal_error": "give {expected}",
    "enum": "give {expected}",
    "extra_forbidden": "there is no such field; leave it out",
    "missing": "it is needed",
}
"""What to do about a value that pydantic refuses, by the kind of its error."""


def what_is_wrong(errors: Sequence[Mapping[str, Any]], *, name: str | None = None, as_typed: bool = False) -> str:
    """The first of a ValidationError's errors as ``name value: what to give``, in our words where we have some.

    `name` is what the user calls it; by default the field's way. `as_typed`: texts are words of a command line, without quotes.
    Where a whole document is wrong, the sentence alone.
    """
    first = errors[0]
    known = {key: f"{value:g}" if isinstance(value, float) else value for key, value in first.get("ctx", {}).items()}
    remedy = _REMEDIES.get(first["type"], "").format_map(_Known(known))
    sentence = remedy or first["msg"].removeprefix("Value error, ")
    called = ".".join(map(str, first["loc"])) if name is None else name
    if not called and not remedy:
        return sentence
    given = first["input"]
    typed = ",".join(map(str, given)) if isinstance(given, list) else given
    return f"{called} {typed if as_typed else repr(given)}: {sentence}".strip()


class _Known(dict[str, Any]):
    """What an error knows; another release of pydantic may know less."""

    def __missing__(self, key: str) -> str:
        return "what the help says"


class TooManyBad(RuntimeError):
    """More samples had to be rejected than the build was told to bear."""


class SourceChanged(RuntimeError):
    """A source file is not the one that was planned with."""


class WorkerDied(RuntimeError):
    """A worker process ended without an answer."""


class ShardsDamaged(RuntimeError):
    """Finished shards were found damaged on disk before publishing; they have been forgotten and can be made again."""


class OtherVersions(RuntimeError):
    """A worker on another machine has other versions of what decides the bytes."""


class NoServer(RuntimeError):
    """No Prefect server answers, or it does not let us in."""


class NotDeployed(RuntimeError):
    """A deployment did not arrive at the server as its file says."""


class WrongUse(ValueError):
    """What was asked for cannot be meant, on whatever machine and however often."""


class WrongConfig(WrongUse):
    """A config file says what cannot be meant."""

"""JSON that strangers wrote, a small regular file or a refusal with its name; and JSON that anybody can read, of our values."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from storage.bad_sample import BadSample
from storage.regular_files import read_regular_file

MAX_JSON_BYTES = 4 << 20
_MAX_DEPTH = 200


def read_json_object(path: str | os.PathLike[str], *, limit_bytes: int = MAX_JSON_BYTES) -> dict[str, object] | None:
    """The object in a file, None where there is no such file.

    Raises ValueError, which names the file, for a link to nowhere, a pipe, a folder, and for content that is no JSON object; and
    OSError when it cannot be read.
    """
    try:
        content = read_regular_file(path, limit_bytes=limit_bytes, follow_links=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (BadSample, IsADirectoryError) as error:
        raise ValueError(f"{path}: {getattr(error, 'sentence', error)}") from None
    try:
        found = parse_json(content)
    except ValueError as error:
        raise ValueError(f"{path} {error}; make the folder again, or remove the file") from None
    if not isinstance(found, dict):
        raise ValueError(
            f"{path} holds a JSON {type(found).__name__}, not an object; make the folder again, or remove it"
        )
    return found


def parse_json(content: bytes | str) -> object:
    """What JSON says, if it can be written as JSON again. Raises ValueError("is not JSON …"), never anything else.

    Refused are NaN and infinity (which JSON has not, and Python's reader has), numbers that become infinite, half Unicode
    characters, and nesting beyond 200 levels.
    """
    try:
        found = json.loads(content, parse_constant=_refuse_constant, parse_float=_finite)
        _check_depth(found)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({type(error).__name__}: {str(error)[:120]})") from None
    return found


def plain(value: Any) -> Any:
    """Values as JSON has them: NaN and infinity, which it has not, are null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def leaves(content: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(names that lead there, value) of all that is no mapping itself in nested mappings, in their order."""
    if not isinstance(content, Mapping):
        yield way, content
        return
    for name, value in content.items():
        yield from leaves(value, (*way, str(name)))


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is larger than any number")
    return number


def _check_depth(found: object) -> None:
    level, values = 0, [found]
    while values:
        level += 1
        if level > _MAX_DEPTH:
            raise ValueError(f"nested more than {_MAX_DEPTH} deep")
        inner: list[object] = []
        for value in values:
            inner += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        values = inner

"""YAML as people mean it: plain values, every key once, no aliases, and words that stay words."""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

_MOST_YAML_BYTES = 64 << 10


def read_document(path: Path) -> dict[str, Any]:
    """A YAML file: plain values without aliases, every key once. Raises ValueError for another file, and OSError."""
    content = path.read_bytes()
    if len(content) > _MOST_YAML_BYTES:
        raise ValueError(f"{path} has {len(content):,} bytes; a file of deployments has a few thousand")
    try:
        document = _PlainLoader(content).get_single_data()
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError) as error:
        raise ValueError(f"{path} is not YAML as it is read here: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path} holds no mapping of names to values; take the one from the repository")
    return document


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader, made stricter.

    Refused are aliases, which make small files endless, and keys that are there twice, of which YAML takes the last.
    Words are what they are in YAML 1.2's core schema: `1e-3` is a number, `no` is a word and `12:30` a text.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias (*name) is not read", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add((key.tag, str(key.value)))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|nan)", list("-+.0123456789")),
):
    _PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
_PlainLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))

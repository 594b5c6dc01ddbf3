"""How docstrings become Markdown on the site: cross references as names, aligned tables of arguments as lists."""

import re

import griffe

_ROLE = re.compile(r":[a-z]+:`~?(?:[\w.]*\.)?([^`]+)`")
_ROW = re.compile(r"^([a-z_0-9]+(?:, [a-z_0-9]+)*) {2,}(\S.*)$")


class Docstrings(griffe.Extension):
    """MkDocs hands every object of the reference through here (`extensions` in mkdocs.yml)."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """A docstring's text: roles become code, rows of `name   meaning` a list; continued rows are joined."""
    lines: list[str] = []
    in_rows = False
    for line in _ROLE.sub(r"`\1`", text).splitlines():
        if row := _ROW.match(line):
            lines += [] if in_rows else [""]
            names = ", ".join(f"`{name}`" for name in row[1].split(", "))
            lines.append(f"- {names}: {row[2]}")
            in_rows = True
        elif in_rows and line.startswith("  "):
            lines[-1] += " " + line.strip()
        else:
            lines += ["", line] if in_rows and line.strip() else [line]
            in_rows = False
    return "\n".join(lines)

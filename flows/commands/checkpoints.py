"""The checkpoint that a command works with: one file, also where the shell has made many of a pattern, or none."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from flows.commands import completion

Checkpoint = Annotated[
    Path, typer.Argument(autocompletion=completion.checkpoints, help="last.pt or best.pt of a training.")
]

_SUFFIX = ".pt"
_PATTERN = frozenset("*?[")


class OneCheckpoint(TyperCommand):
    """A command that begins with one checkpoint, and says so when it is given more."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse several checkpoints, which a pattern stands for; otherwise as usual."""
        if not ctx.resilient_parsing:
            given, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
            words = [*_words(given.get(each.name) for each in self.params if each.param_type_name == "argument"), *rest]
            checkpoints = [word for word in words if word.endswith(_SUFFIX)]
            if len(checkpoints) > 1:
                ctx.fail(
                    f"{ctx.info_name} takes one checkpoint, and {len(checkpoints)} were given: {', '.join(checkpoints)} "
                    f"(the shell puts every file in a pattern's place). Name one of them; the newest is {newest(checkpoints)}"
                )
        return super().parse_args(ctx, args)


def _words(values: Iterable[object]) -> Iterator[str]:
    """What arguments were given: one word each, or several of one that takes them."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Iterable):
            yield from _words(value)


def given_checkpoint(checkpoint: Path) -> Path:
    """The same path. Raises FileNotFoundError for a pattern that no file matched, as shells hand it on."""
    if _PATTERN & set(str(checkpoint)) and not checkpoint.exists():
        there = completion.checkpoints(None, "")
        known = f"the newest of those here is {newest(there)}" if there else "`facefoundry train` makes one"
        raise FileNotFoundError(f"no file matches {checkpoint}: name a training's last.pt or best.pt; {known}")
    return checkpoint


def newest(paths: Sequence[str]) -> str:
    """The one that was written last; those that are not there come first."""
    return max(paths, key=lambda path: os.stat(path).st_mtime if os.path.exists(path) else 0)

"""What every kind of build refuses in the same words: an output inside its own source, and too much that is bad."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from flows.errors import TooManyBad


def refuse_output_in_source(out: Path, source: Path) -> None:
    """Raise ValueError when `out` lies inside the folder that is read, links followed."""
    if out.resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"the output folder {out} lies inside the source {source}: what is written there would be taken for pictures "
            "of it the next time; choose an --out outside of it"
        )


def refuse_too_many_bad(
    rejected: Sequence[tuple[str, str, str]],
    *,
    of: int,
    what: str,
    max_bad: float,
    fail_on_first: bool,
) -> None:
    """Raise TooManyBad when more than `max_bad` of so many are rejected, or any at all with `fail_on_first`.

    `rejected` are (source id, code, reason); `what` they are, in the plural, is for people.
    """
    limit = 0 if fail_on_first else int(max_bad * of + 1e-9)  # 0.29 of 100 is 29, whatever the product says
    if len(rejected) <= limit:
        return
    source_id, code, reason = rejected[0]
    counts = Counter(code for _, code, _ in rejected)
    listed = ", ".join(f"{count} × {name}" for name, count in counts.most_common(5))
    raise TooManyBad(
        f"{len(rejected)} of {of} {what} cannot be used ({listed}), and {limit or 'none'} may be. The first: {source_id}: "
        f"{reason} [{code}]. Mend or remove the files, or raise --max-bad; what is finished is kept"
    )

"""The card as Markdown: the same facts, for people who read files in a terminal or a repository's web page."""

import re
from collections.abc import Iterable, Sequence

from storage.card.facts import CardFacts

_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|~>-])")
_BAR = 24


def markdown_card(facts: CardFacts) -> str:
    """The card; what came from outside is escaped, in tables and in text."""
    lines = [
        f"# {_text(facts.name)}",
        "",
        f"Data card of version `{facts.version}`: {facts.n_samples:,} samples, "
        f"{sum(count for _, count, _, _ in facts.rejects):,} rejected, {facts.stored_bytes / 1e6:,.1f} MB of shards. "
        "`card.html` beside this file shows the samples.",
        "",
        "## Sources and terms",
        "",
    ]
    for source in facts.sources:
        lines += [
            f"* **{_text(source.kind)}**, {source.n_files:,} files, fingerprint `{source.fingerprint}`",
            f"  * Licence: {_text(source.licence)}",
            f"  * Consent: {_text(source.consent)}",
        ]
        lines += [f"  * {_text(source.details)}"] if source.details else []
    lines += [
        f"* **Model of the labels**: {_text(facts.model_name)}, fingerprint `{facts.model_fingerprint}`",
        f"  * Licence: {_text(facts.model_licence)}",
        "",
        "## Targets and precision",
        "",
        *_table(
            ("target", "holds", "precision", "stored as", "bytes a sample", "meaning"),
            [
                (
                    _text(t.name),
                    _text(f"{t.holds} {t.unit}".strip()),
                    _text(t.precision),
                    _text(t.stored),
                    "" if t.bytes_per_sample is None else f"{t.bytes_per_sample:,.0f}",
                    _text(t.description),
                )
                for t in facts.targets
            ],
        ),
        "",
        "## Distribution",
        "",
        f"Over {facts.n_counted:,} of {facts.n_samples:,} samples.",
        "",
    ]
    for one in facts.histograms:
        top = max([*one.counts, 1])
        lines += ["```text", f"{one.title} ({one.unit.strip()})"]
        lines += [f"{a:8g} to {b:6g}  {n:7,}  {'█' * round(_BAR * n / top)}".rstrip() for a, b, n in one.bars]
        lines += ["```", ""]
    if facts.spreads:
        lines += _table(
            ("coefficients", "different faces", "standard deviation of modes 1, 2, 3, … (model = 1)", "farthest"),
            [
                (s.title, f"{s.n_distinct:,}", ", ".join(f"{v:.2f}" for v in s.stddevs[:8]), f"{s.farthest:.1f}")
                for s in facts.spreads
            ],
        )
        lines.append("")
    lines += ["## Coverage and checks", ""]
    lines += _table(("", ""), [(_text(name), _text(value)) for name, value in (*facts.coverage, *facts.numbers)])
    lines += ["", "## Rejected", ""]
    if facts.rejects:
        rows = [(_text(code), f"{count:,}", _text(id_), _text(why)) for code, count, id_, why in facts.rejects]
        lines += _table(("reason", "samples", "for example", "because"), rows)
    else:
        lines.append("No sample was rejected.")
    lines += [
        "",
        "## How it was made",
        "",
        f"Recipe version {facts.recipe_version}, fingerprint `{facts.fingerprint}`, with this config:",
        "",
        *(f"    {line}" for line in facts.config.splitlines()),
        "",
    ]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _text(text: str) -> str:
    """Text without meaning for Markdown or HTML, on one line."""
    line = "".join(c if c.isprintable() else " " if c.isspace() else f"\\u{ord(c):04x}" for c in text)
    escaped = _MARKS.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))
    return escaped

"""The page: facts as tables and charts, and a sample browser; one file that needs nothing else and no network.

A Content-Security-Policy names the hashes of the one script and the one style sheet, so that nothing else can run,
whatever a source id says; it may load pictures from where it lies (or from within itself) and nothing from elsewhere.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from storage.card.facts import CardFacts, Histogram, Spread

_PLACE = re.compile(r"\{\{([a-z]+)\}\}")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 320, 130, 30, 18


def card_page(facts: CardFacts, samples: Sequence[Mapping[str, Any]], *, contact_sheet_webp: bytes) -> str:
    """The page with these samples in it (:meth:`storage.card.shown_samples.SampleLayers.inline`)."""
    address = "data:image/webp;base64," + base64.b64encode(contact_sheet_webp).decode()
    sheet = f'<img class="sheet" loading="lazy" alt="Contact sheet: samples with all their panels" src="{address}">'
    sections = [*_sections(facts), ("sheet", "Contact sheet", sheet)]
    which = (
        "all of them" if len(samples) == facts.n_samples else f"{len(samples)} of {facts.n_samples:,}, spread evenly"
    )
    overlays = [name for name in ("landmarks", "map", "field", "parts") if any(name in sample for sample in samples)]
    return _page(
        facts,
        sections,
        which=f"{which[0].upper()}{which[1:]}. `facefoundry browse` shows any of a data set.",
        data={"live": False, "overlays": overlays, "samples": facts.n_samples, "rows": list(samples)},
        images="data:",
    )


def live_page(facts: CardFacts, rows: Sequence[Mapping[str, Any]], overlays: Sequence[str]) -> str:
    """The page of a data set that is being served: it asks for ``samples/N.json`` and ``samples/N/LAYER.webp``."""
    which = (
        f"All {facts.n_samples:,} can be filtered and sorted; pictures are read when they come into view."
        if len(rows) == facts.n_samples
        else f"{len(rows):,} of {facts.n_samples:,}, spread evenly, can be filtered and sorted; any can be opened by its number."
    )
    return _page(
        facts,
        list(_sections(facts)),
        which=which,
        data={"live": True, "overlays": list(overlays), "samples": facts.n_samples, "rows": list(rows)},
        images="'self' data:",
        connect="connect-src 'self'; ",
    )


def _page(
    facts: CardFacts,
    sections: Sequence[tuple[str, str, str]],
    *,
    which: str,
    data: Mapping[str, Any],
    images: str,
    connect: str = "",
) -> str:
    here = resources.files("storage.card")
    template, style, script = ((here / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    policy = (
        f"default-src 'none'; img-src {images}; {connect}style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    figures = {
        "samples": f"{facts.n_samples:,}",
        "rejected": f"{sum(count for _, count, _, _ in facts.rejects):,}",
        "stored": _size(facts.stored_bytes),
        "a sample": _size(facts.stored_bytes / max(facts.n_samples, 1)),
        "targets": str(len(facts.targets)),
        "labels from": facts.model_name,
    }
    places = {
        "policy": _text(policy),
        "title": _text(f"{facts.name} {facts.version}: data card"),
        "style": style,
        "name": _text(facts.name),
        "version": _text(facts.version),
        "figures": "".join(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in figures.items()),
        "links": "".join(f'<a href="#{key}">{_text(title)}</a>' for key, title, _ in sections),
        "which": re.sub(r"`([^`]*)`", r"<code>\1</code>", _text(which)),
        "sections": "\n".join(
            f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{_text(title)}</h2>\n{body}\n</section>'
            for key, title, body in sections
        ),
        "data": script_data(data),
        "script": script,
    }
    return _PLACE.sub(lambda found: places[found[1]], template)  # in one pass: what is filled in is not looked at again


def script_data(data: Any) -> str:
    """JSON that no HTML parser takes for anything else, wherever it stands in a page."""
    text = json.dumps(data, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sections(facts: CardFacts) -> Iterable[tuple[str, str, str]]:
    """(id, title, HTML) of everything but the samples."""
    charts = [_histogram(one) for one in facts.histograms] + [_spread(one) for one in facts.spreads]
    counted = (
        "Over all samples."
        if facts.n_counted == facts.n_samples
        else f"Over {facts.n_counted:,} samples, spread evenly over the {facts.n_samples:,}."
    )
    if charts:
        yield "numbers", "Distribution", f'<p class="note">{counted}</p><div class="charts">{"".join(charts)}</div>'
    yield "terms", "Sources and terms", _terms(facts)
    yield "targets", "Targets and precision", _targets(facts)
    measured = [(name, value) for name, value in facts.coverage]
    body = "<h3>Coverage</h3>" + _pairs(measured) if measured else ""
    yield (
        "quality",
        "Coverage and checks",
        body + ("<h3>Measured while building</h3>" + _pairs(facts.numbers) if facts.numbers else ""),
    )
    yield "rejected", "Rejected", _rejected(facts)
    yield "made", "How it was made", _made(facts)


def _terms(facts: CardFacts) -> str:
    blocks = [
        f'<div class="terms"><h3>{_text(source.kind)}, {source.n_files:,} files</h3>'
        f"<p><b>Licence.</b> {_text(source.licence)}</p><p><b>Consent.</b> {_text(source.consent)}</p>"
        f'<p class="fine">Fingerprint <code>{_text(source.fingerprint)}</code>'
        + (f"<br>{_text(source.details)}" if source.details else "")
        + "</p></div>"
        for source in facts.sources
    ]
    model = (
        f'<div class="terms"><h3>Model of the labels: {_text(facts.model_name)}</h3>'
        f"<p><b>Licence.</b> {_text(facts.model_licence)}</p>"
        f'<p class="fine">Fingerprint <code>{_text(facts.model_fingerprint)}</code></p></div>'
    )
    return "".join(blocks) + model


def _targets(facts: CardFacts) -> str:
    rows = [
        (
            f"<code>{_text(t.name)}</code>",
            f"{_text(t.holds)}{f' ({_text(t.unit)})' if t.unit else ''}",
            _text(t.precision),
            _text(t.stored),
            "" if t.bytes_per_sample is None else _text(_size(t.bytes_per_sample)),
            _text(t.description),
        )
        for t in facts.targets
    ]
    kinds = ("", "", "", "", "number", "text")
    return _table(("target", "holds", "precision", "stored as", "bytes a sample", "meaning"), rows, kinds)


def _rejected(facts: CardFacts) -> str:
    if not facts.rejects:
        return '<p class="note">No sample was rejected.</p>'
    rows = [
        (f"<code>{_text(code)}</code>", f"{count:,}", _text(source_id), _text(reason))
        for code, count, source_id, reason in facts.rejects
    ]
    return _table(("reason", "samples", "for example", "because"), rows, ("", "number", "", "text"))


def _made(facts: CardFacts) -> str:
    opened = (
        f'from storage import open_dataset\n\nds = open_dataset("datasets/{facts.name}", version="{facts.version}")'
    )
    return (
        _pairs([("recipe version", str(facts.recipe_version)), ("fingerprint", facts.fingerprint)])
        + f"<h3>Config</h3><pre>{_text(facts.config)}</pre><h3>Reading it</h3><pre>{_text(opened)}</pre>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kinds: Sequence[str]) -> str:
    cells = "".join(f"<th scope=col>{_text(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td class="{kind}">{cell}</td>' for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th scope=row>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in pairs)
    return f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'


def _histogram(one: Histogram) -> str:
    names = [f"{_edge(a)} to {_edge(b)}{one.unit}: {n:,}" for a, b, n in one.bars]
    ends = (
        f"{_edge(one.edges[0])}{one.unit}",
        f"{_edge(one.edges[len(one.edges) // 2])}",
        f"{_edge(one.edges[-1])}{one.unit}",
    )
    return _chart(f"{one.title[0].upper()}{one.title[1:]}", "samples", one.counts, names, ends)


def _spread(one: Spread) -> str:
    names = [f"mode {i}: {value:.2f} of the model's" for i, value in enumerate(one.stddevs, 1)]
    detail = f"{one.n_distinct:,} different faces; farthest coefficient {one.farthest:.1f} standard deviations"
    last = f"mode {len(one.stddevs)} of {one.n_modes}"
    title = f"Spread of {one.title}, model's standard deviation = 1"
    return _chart(title, detail, one.stddevs, names, ("mode 1", "", last), prior=1.0)


def _chart(
    title: str,
    detail: str,
    values: Sequence[float | int],
    names: Sequence[str],
    ends: tuple[str, str, str],
    *,
    prior: float | None = None,
) -> str:
    """Bars as SVG; each names itself when pointed at, and the title stands for all of them where they cannot be seen."""
    top = max([*values, prior or 0, 1e-9])
    width, height = _WIDTH - _LEFT, _HEIGHT - _BOTTOM - 6
    step = width / max(len(values), 1)
    bars = "".join(
        f'<rect x="{_LEFT + i * step + step * 0.08:.2f}" y="{6 + height * (1 - value / top):.2f}" '
        f'width="{step * 0.84:.2f}" height="{height * value / top:.2f}"><title>{_text(name)}</title></rect>'
        for i, (value, name) in enumerate(zip(values, names, strict=True))
    )
    line = ""
    if prior is not None:
        y = 6 + height * (1 - prior / top)
        line = f'<line class="prior" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.2f}" y2="{y:.2f}"/>'
    places = ((_LEFT, "start"), (_LEFT + width / 2, "middle"), (_WIDTH, "end"))
    labels = "".join(
        f'<text x="{x:.2f}" y="{_HEIGHT - 4}" text-anchor="{anchor}">{_text(text)}</text>'
        for (x, anchor), text in zip(places, ends, strict=True)
    )
    shown_top = f"{top:,.0f}" if prior is None else f"{top:.1f}"
    return (
        f'<figure class="chart"><figcaption>{_text(title)}<small>{_text(detail)}</small></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_text("; ".join(names))}">'
        f'<text x="{_LEFT - 4}" y="14" text-anchor="end">{shown_top}</text>{bars}{line}'
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{_HEIGHT - _BOTTOM}" y2="{_HEIGHT - _BOTTOM}"/>{labels}</svg></figure>'
    )


def _edge(value: float | int) -> str:
    return f"{value:g}".replace("-", "−")


def _size(n_bytes: float | int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000 or unit == "GB":
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    raise AssertionError


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(text: str) -> str:
    """Text for HTML, also inside of attributes with quotation marks. Control characters become visible escapes."""
    visible = "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)
    return html.escape(visible, quote=True)

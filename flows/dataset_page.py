"""What a version holds, from what and by which config, as lines for people. Programs read `info --json`."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from storage.dataset import ShardedDataset
from storage.json_files import leaves
from storage.schema import Target

_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_WIDEST_LIST = 8
"""Longer lists of numbers are counted."""


def page_lines(dataset: ShardedDataset) -> Iterator[str]:
    """The lines, of which none is wrapped: a terminal does that."""
    manifest = dataset.manifest
    n_shards = f"{manifest.plan.n_shards} {'shard' if manifest.plan.n_shards == 1 else 'shards'}"
    by_array = Counter[str]()
    for thing in manifest.objects:
        by_array[thing.key.partition("/")[0] if thing.first is not None else ""] += thing.bytes
    in_shards = (sum(by_array.values()) - by_array[""]) / max(manifest.n_samples, 1)
    yield from _columns(
        [
            ("data set", manifest.name),
            ("version", manifest.version),
            ("path", str(dataset.path)),
            ("fingerprint", manifest.fingerprint),
            (
                "samples",
                f"{manifest.n_samples:,}, {len(manifest.rejected)} rejected, in {n_shards}",
            ),
            ("stored", f"{size_text(sum(by_array.values()))}; in shards {size_text(in_shards)} a sample"),
            ("model", f"{manifest.model.name}, {manifest.model.licence or 'terms not stated'}"),
            ("recipe", f"{manifest.recipe_version}"),
        ]
    )
    yield ""
    yield "sources"
    for source in manifest.sources:
        yield f"  {source.kind}: {source.n_files:,} files; {source.licence or 'terms not stated'}"
        yield f"    fingerprint {source.fingerprint}"
    yield ""
    yield "targets"
    rows = []
    for target in dataset.schema.everything:
        shape = " × ".join(map(str, target.sample_shape)) or "scalar"
        holds = f"{target.dtype} {shape} {target.unit}".strip()
        rows.append((f"  {target.name}", holds, *_stored(target, by_array[target.name], manifest.n_samples)))
    yield from _columns(rows)
    if manifest.rejected:
        yield ""
        yield "rejected"
        first = {hole.code: hole for hole in reversed(manifest.rejected)}
        for code, count in Counter(hole.code for hole in manifest.rejected).most_common():
            yield f"  {count} × {code}: {first[code].reason} (the first: {first[code].source_id})"
    for title, content in (("config", manifest.config), ("statistics", manifest.statistics)):
        yield ""
        yield title
        yield from _columns([(f"  {'.'.join(way)}", _text(value)) for way, value in leaves(content)])


def size_text(n_bytes: float | int) -> str:
    """Bytes in decimal units."""
    return next((f"{n_bytes / size:.3g} {unit}" for size, unit in _UNITS if n_bytes >= size), f"{n_bytes:.0f} bytes")


def _stored(target: Any, n_bytes: int, n_samples: int) -> tuple[str, str]:
    """How it lies on disk, and how many bytes a sample takes."""
    if not isinstance(target, Target):
        return "worked out on reading", ""
    packing = "" if target.compression == "none" else f", {target.compression}"
    code = target.code.kind.replace("_", " ")
    return f"{code} {target.chunk.dtype}{packing}", f"{size_text(n_bytes / max(n_samples, 1))} a sample"


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows with their cells below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _text(value: object) -> str:
    if isinstance(value, list) and len(value) > _WIDEST_LIST:
        return f"{len(value)} numbers"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""The facts of a data card, worked out once for the page and the text: numbers and sentences, no markup."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from storage.card.shown_samples import spread_over
from storage.dataset import ShardedDataset
from storage.drawn_folder import DRAWN_LICENCE
from storage.json_files import leaves
from storage.manifest import SourceInfo
from storage.sample_index import sample_index
from storage.schema import Target
from storage.source_groups import in_pieces

COUNTED = 16384
"""Samples that poses and coefficients are counted over, spread evenly where there are more."""
BIN_DEG = 10
MODES = 20

_LOSSLESS = "as it is, lossless"
_SHOWN_APART = ("yaw_histogram",)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bars of equal width; `edges` has one more."""

    title: str
    unit: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def bars(self) -> list[tuple[float, float, int]]:
        """(from, to, how many) of each bar."""
        return [(low, high, n) for (low, high), n in zip(pairwise(self.edges), self.counts, strict=True)]


@dataclass(frozen=True, slots=True)
class Spread:
    """The standard deviation of each of the first modes over the samples, in those of the model."""

    title: str
    stddevs: tuple[float, ...]
    n_modes: int
    n_distinct: int
    farthest: float
    """The largest coefficient, in the model's standard deviations."""


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """One target as the card lists it."""

    name: str
    holds: str
    unit: str
    description: str
    stored: str
    precision: str
    bytes_per_sample: float | None


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One source, and what is known of its terms and of the consent of those shown."""

    kind: str
    n_files: int
    fingerprint: str
    licence: str
    consent: str
    details: str


@dataclass(frozen=True, slots=True)
class CardFacts:
    """All that a card says."""

    name: str
    version: str
    fingerprint: str
    n_samples: int
    n_counted: int
    stored_bytes: int
    recipe_version: int
    config: str
    model_name: str
    model_fingerprint: str
    model_licence: str
    sources: tuple[SourceFacts, ...]
    targets: tuple[TargetFacts, ...]
    histograms: tuple[Histogram, ...]
    spreads: tuple[Spread, ...]
    coverage: tuple[tuple[str, str], ...]
    numbers: tuple[tuple[str, str], ...]
    rejects: tuple[tuple[str, int, str, str], ...]
    """(code, how many, a source id, its reason), the most frequent first."""


def facts_of(dataset: ShardedDataset, *, inside_picture: Sequence[float] = ()) -> CardFacts:
    """The facts of a version; `inside_picture` is the share of the map inside its picture, of the samples shown."""
    manifest, plan = dataset.manifest, dataset.manifest.plan
    rows = np.array(spread_over(len(dataset), COUNTED))
    shard_bytes = Counter[str]()
    for info in manifest.objects:
        if info.first is not None:
            shard_bytes[info.key.partition("/")[0]] += info.bytes
    return CardFacts(
        name=manifest.name,
        version=manifest.version,
        fingerprint=manifest.fingerprint,
        n_samples=len(dataset),
        n_counted=len(rows),
        stored_bytes=sum(shard_bytes.values()),
        recipe_version=manifest.recipe_version,
        config=json.dumps(plan.config, indent=2, sort_keys=True, ensure_ascii=False),
        model_name=manifest.model.name,
        model_fingerprint=manifest.model.fingerprint,
        model_licence=manifest.model.licence or "not stated",
        sources=tuple(_source(source) for source in manifest.sources),
        targets=tuple(_target(target, shard_bytes, len(dataset)) for target in dataset.schema.everything),
        histograms=tuple(_histograms(dataset, rows)),
        spreads=tuple(_spreads(dataset, rows)),
        coverage=tuple(_coverage(dataset, inside_picture)),
        numbers=tuple(_numbers(manifest.statistics)),
        rejects=tuple(_rejects(dataset)),
    )


def _source(source: SourceInfo) -> SourceFacts:
    return SourceFacts(
        kind=source.kind,
        n_files=source.n_files,
        fingerprint=source.fingerprint,
        licence=source.licence or "not stated: ask whoever made the photographs",
        consent=consent_note(source),
        details=json.dumps(source.details, sort_keys=True, ensure_ascii=False) if source.details else "",
    )


def consent_note(source: SourceInfo) -> str:
    """What is known about whether the people shown agreed."""
    if "people" in source.details:
        return "The people are invented and nobody had to be asked."
    if "sample" in source.details or source.licence.startswith(DRAWN_LICENCE):
        return (
            "The people are invented and nobody had to be asked. The one real photograph, where the sample has it, is "
            "NASA's portrait of the astronaut Eileen Collins, in the public domain."
        )
    if source.kind in ("300w-lp", "aflw2000-3d"):
        return (
            "Faces on photographs that others collected from the web for research. Nothing records that the people "
            "shown were asked; do not publish pictures of them beyond what the source's terms allow."
        )
    return (
        "Not recorded. Whoever brought the photographs knows whether the people shown agreed to this use; without "
        "their consent neither the pictures nor what is derived from them should be passed on."
    )


def _target(target: Any, shard_bytes: Mapping[str, int], n_samples: int) -> TargetFacts:
    holds = f"{target.dtype} {' × '.join(map(str, target.sample_shape)) or 'scalar'}"
    if not isinstance(target, Target):
        return TargetFacts(
            target.name,
            holds,
            target.unit,
            target.description,
            "worked out on reading",
            "that of what it is made of",
            None,
        )
    return TargetFacts(
        name=target.name,
        holds=holds,
        unit=target.unit,
        description=target.description,
        stored=f"{target.chunk.dtype}, {'crc32c alone' if target.compression == 'none' else target.compression}",
        precision=_precision(target),
        bytes_per_sample=shard_bytes[target.name] / n_samples if n_samples else None,
    )


def _precision(target: Target) -> str:
    """As the stored array's attributes tell other programs."""
    attributes = target.attributes
    if "precision" in attributes:
        return f"± {attributes['precision']:g} {target.unit}".strip()
    return f"JPEG of quality {attributes['quality']}, lossy" if "quality" in attributes else _LOSSLESS


def _histograms(dataset: ShardedDataset, rows: np.ndarray) -> Iterator[Histogram]:
    index = sample_index(dataset, rows, of=("pose", "landmark_residual_px", "residual_px"))
    edges = np.arange(-180, 180 + BIN_DEG, BIN_DEG)
    for name in ("yaw", "pitch", "roll"):
        if f"{name}_deg" in index:
            angles = index[f"{name}_deg"]
            counts = np.histogram(angles[np.isfinite(angles)], edges)[0]
            yield Histogram(name, "°", *_cut(edges, counts, least=9))
    residuals = index.get("residual_px", np.zeros(0))
    residuals = residuals[np.isfinite(residuals)]
    if len(residuals):
        top = max(float(np.ceil(np.percentile(residuals, 99) * 2) / 2), 0.5)
        parts = np.linspace(0, top, 21)
        yield Histogram(
            "landmark residual",
            " px",
            tuple(parts.tolist()),
            tuple(np.histogram(residuals.clip(0, top), parts)[0].tolist()),
        )


def _cut(edges: np.ndarray, counts: np.ndarray, *, least: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """The part of a histogram that is symmetric about its middle and holds everything, at least so many bars a side."""
    middle = len(counts) // 2
    used = np.flatnonzero(counts)
    reach = max(least, *(abs(used - middle + (used >= middle)) if len(used) else [0]))
    reach = min(reach, middle)
    part = slice(middle - reach, middle + reach)
    return tuple(edges[middle - reach : middle + reach + 1].astype(float).tolist()), tuple(counts[part].tolist())


def _spreads(dataset: ShardedDataset, rows: np.ndarray) -> Iterator[Spread]:
    stored = {target.name for target in dataset.schema.targets}
    for name in ("identity", "expression"):
        if name not in stored:
            continue
        stddevs = getattr(dataset.model(), f"{name}_stddevs")
        pieces = [dataset.read(rows[p.start : p.stop], [name])[name] for p in in_pieces(len(rows), 4096)]
        found = np.concatenate(pieces).astype(np.float64)
        found = found.reshape(-1, found.shape[-1])
        found = found[np.isfinite(found).all(axis=1)] / stddevs
        if len(found):
            yield Spread(
                title=name,
                stddevs=tuple(found.std(axis=0)[:MODES].tolist()),
                n_modes=found.shape[1],
                n_distinct=len({row.tobytes() for row in found + 0.0}),  # −0 is 0
                farthest=float(np.abs(found).max()),
            )


def _coverage(dataset: ShardedDataset, inside: Sequence[float]) -> Iterator[tuple[str, str]]:
    if "atlas_covered" in dataset.manifest.plan.tables:
        covered = dataset.table("atlas_covered").astype(bool)
        yield (
            "texels of the map that a triangle covers",
            f"{covered.mean():.1%} of {covered.shape[0]} × {covered.shape[1]}",
        )
    if "face_mask" in dataset.manifest.plan.tables:
        yield "texels of the face, without neck and ears", f"{(dataset.table('face_mask') > 0).mean():.1%}"
    if len(inside):
        least, mean = min(inside), float(np.mean(inside))
        yield (
            "covered texels that lie inside the picture",
            f"{mean:.1%} on average, {least:.1%} at least, of the {len(inside)} samples shown",
        )
    share = dataset.manifest.statistics.get("share_of_pixels")
    if isinstance(share, dict):
        for name, value in share.items():
            if isinstance(value, int | float):
                yield f"pixels of the photographs: {name}", f"{value:.1%}"


def _rejects(dataset: ShardedDataset) -> Iterator[tuple[str, int, str, str]]:
    holes = dataset.manifest.rejected
    first = {hole.code: hole for hole in reversed(holes)}
    for code, count in sorted(Counter(hole.code for hole in holes).items(), key=lambda item: (-item[1], item[0])):
        yield code, count, first[code].source_id, first[code].reason


def _numbers(statistics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for way, value in sorted(leaves(statistics), key=lambda leaf: leaf[0]):
        if way[0] not in _SHOWN_APART:
            yield " · ".join(way), _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

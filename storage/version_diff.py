"""What two versions of a data set differ in: config, model, sources, counts, statistics, targets and samples.

Samples are told apart by the checksums that lie behind them, so nothing is decompressed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.dataset import ShardedDataset
from storage.json_files import leaves
from storage.manifest import DatasetManifest
from storage.schema import Target

_IDS_AT_ONCE = 65536

Change = tuple[Any, Any]
"""(value in the first version, value in the second); None where there is none."""
SampleName = tuple[str, int]
"""(source id, which of the samples with that id: 0, 1, …)"""


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """The differences, each by a dotted name; what is equal is left out."""

    config: dict[str, Change]
    model: dict[str, Change]
    sources: dict[str, Change]
    counts: dict[str, Change]
    """samples, rejected, and rejected by reason."""
    statistics: dict[str, Change]
    targets: dict[str, Change]
    """Stored and derived targets that came, went, or are stored otherwise."""
    added: tuple[SampleName, ...]
    removed: tuple[SampleName, ...]
    changed: dict[str, tuple[SampleName, ...]]
    """By stored target: the samples of both versions whose bytes differ."""
    n_same: int
    """Samples that are the same in every target that both versions store alike."""

    @property
    def is_empty(self) -> bool:
        """Whether the two hold the same, whatever they are called."""
        parts = (self.config, self.model, self.sources, self.counts, self.statistics, self.targets)
        return not (any(parts) or self.added or self.removed or self.changed)


def diff_versions(first: ShardedDataset, second: ShardedDataset) -> VersionDiff:
    """What changes from `first` to `second`. Memory: the names of the samples."""
    before, after = first.manifest, second.manifest
    names_before, names_after = _sample_names(first), _sample_names(second)
    common = [name for name in names_before if name in names_after]
    changed = {
        target.name: differing
        for target in _stored_alike(first, second)
        if (differing := _changed(first, second, target, [(n, names_before[n], names_after[n]) for n in common]))
    }
    n_changed = len({name for names in changed.values() for name in names})
    return VersionDiff(
        config=_changes({"recipe_version": before.recipe_version, **before.config},
                        {"recipe_version": after.recipe_version, **after.config}),
        model=_changes(before.model.model_dump(), after.model.model_dump()),
        sources=_changes(_sources(before), _sources(after)),
        counts=_changes(_counts(before), _counts(after)),
        statistics=_changes(before.statistics, after.statistics),
        targets=_changes(_targets(before), _targets(after)),
        added=tuple(name for name in names_after if name not in names_before),
        removed=tuple(name for name in names_before if name not in names_after),
        changed=changed,
        n_same=len(common) - n_changed,
    )  # fmt: skip


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Change]:
    one, other = ({".".join(way): value for way, value in leaves(content)} for content in (before, after))
    names = [*one, *(name for name in other if name not in one)]
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def _sources(manifest: DatasetManifest) -> dict[str, Any]:
    return {str(i): source.model_dump(mode="json") for i, source in enumerate(manifest.sources)}


def _counts(manifest: DatasetManifest) -> dict[str, Any]:
    reasons = Counter(hole.code for hole in manifest.rejected)
    return {"samples": manifest.n_samples, "rejected": len(manifest.rejected), "reasons": dict(sorted(reasons.items()))}


def _targets(manifest: DatasetManifest) -> dict[str, Any]:
    schema = manifest.sample_schema
    return {target.name: target.model_dump_json(exclude={"name", "description"}) for target in schema.everything}


def _sample_names(dataset: ShardedDataset) -> dict[SampleName, int]:
    """The slot of each sample by its name. Data sets without source ids call samples by their numbers."""
    seen: Counter[str] = Counter()
    names = {}
    for start in range(0, len(dataset), _IDS_AT_ONCE):
        indices = np.arange(start, min(start + _IDS_AT_ONCE, len(dataset)))
        slots = dataset.slots(indices).tolist()
        has_ids = "source_id" in dataset.schema.names
        ids = dataset.read(indices, ["source_id"])["source_id"].tolist() if has_ids else [f"slot {n}" for n in slots]
        for source_id, slot in zip(ids, slots, strict=True):
            names[source_id, seen[source_id]] = slot
            seen[source_id] += 1
    return names


def _stored_alike(first: ShardedDataset, second: ShardedDataset) -> list[Target]:
    others = {target.name: target for target in second.schema.targets}
    return [
        target
        for target in first.schema.targets
        if target.name in others
        and (target.chunk, target.code) == (others[target.name].chunk, others[target.name].code)
    ]


def _changed(
    first: ShardedDataset, second: ShardedDataset, target: Target, common: list[tuple[SampleName, int, int]]
) -> tuple[SampleName, ...]:
    return tuple(
        name
        for name, slot_before, slot_after in common
        if first.mark(target, slot_before) != second.mark(target, slot_after)
    )

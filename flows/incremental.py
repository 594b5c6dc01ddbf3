"""Building a data set again after its sources changed: what did not change is taken over from the latest version.

The unit is the shard. One whose pictures (their names, their files' digests, their order) are those of a shard of the
latest version is copied; every other one is built. Nothing changed: nothing is written, and nothing is published.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from flows.build import Build, ShardOutcome, opened_build
from flows.config import BuildConfig
from flows.planned_list import planned_list
from flows.presets import PRESETS
from flows.repair import config_of
from storage.manifest import DatasetPlan, Unpublished, read_manifest
from storage.publish import finished_shards, latest_version
from storage.reuse import may_reuse, take_over
from storage.store import DamagedObject, MissingObject, Place, Store, place_of
from storage.stores import store_at


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A planned rebuild, its lock held."""

    build: Build
    latest: str
    """The version that was the latest before; empty where there was none."""
    reused: tuple[int, ...]
    """The shards that were taken over."""

    @property
    def changed(self) -> bool:
        """Whether the sources make another version than the latest one."""
        return self.build.job.plan.version != self.latest


@contextmanager
def opened_rebuild(
    dataset: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | None,
    model: str | Sequence[str] = "built-in",
    files: Mapping[str, str | os.PathLike[str]] | None = None,
) -> Iterator[Rebuild]:
    """Plan the data set ``<out>/<name>`` with its latest version's config, and take over what did not change.

    A data set that has no version yet is planned by the preset of its name. Without `source` the recipe's own sample is
    taken, of which the latest version must be too. Raises Unpublished when there is neither version nor preset, ValueError for
    a data set of somebody's own source that is not named, and as :func:`flows.build.opened_build`.
    """
    place = place_of(dataset)
    latest, config = config_of_latest(place)
    with opened_build(config, source=source, model=model, out=place.parent, files=files) as build:
        plan = build.job.plan
        if latest and source is None:
            _check_is_the_same_sample(store_at(place / latest), build.version, plan)
        if not latest or build.is_published:
            yield Rebuild(build, latest, ())
            return
        old = store_at(place / latest)
        same = _same_shards(old, build.version, plan)
        missing = {shard: same[shard] for shard in build.missing_shards if shard in same}
        reused = take_over(old, build.version, plan, missing) if missing else []
        outcomes = {shard: ShardOutcome.of(receipt) for shard, receipt in finished_shards(build.version, plan).items()}
        yield Rebuild(replace(build, finished=outcomes), latest, tuple(reused))


def config_of_latest(dataset: Place) -> tuple[str, BuildConfig]:
    """The latest version of ``<out>/<name>`` and its config; of none, "" and the preset of that name. Raises Unpublished."""
    store = store_at(dataset)
    try:
        latest = latest_version(store)
    except Unpublished:
        for preset in PRESETS.values():
            if (config := preset.config()).name == dataset.name:
                return "", config
        raise Unpublished(
            f"{store} has no version to take the config from, and {dataset.name} is no preset's data set "
            f"({', '.join(preset.config().name for preset in PRESETS.values())}): build it once, then rebuild it"
        ) from None
    return latest, config_of(read_manifest(store.folder(latest)))


def _check_is_the_same_sample(old: Store, new: Store, plan: DatasetPlan) -> None:
    """Raise ValueError where the latest version was made of other pictures: the sample must not take their place unasked."""
    try:
        same = _names(old, read_manifest(old).plan) == _names(new, plan)
    except (DamagedObject, MissingObject):  # nobody knows
        same = False
    if not same:
        raise ValueError(
            f"{old} was not built from the built-in sample, of which the next version would be made: name the source"
        )


def _names(version: Store, plan: DatasetPlan) -> list[str]:
    return [row[0] for row in planned_list(version, plan, "pictures")]


def _same_shards(old: Store, new: Store, plan: DatasetPlan) -> dict[int, int]:
    """For shards of the new version, the shard of the old one that was made of the same pictures in the same order."""
    before = read_manifest(old).plan
    if not may_reuse(before, plan):
        return {}
    try:
        known = {pictures: shard for shard, pictures in enumerate(_pictures_of_shards(old, before))}
    except (DamagedObject, MissingObject):  # nobody knows of what its shards were made
        return {}
    found = ((shard, known.get(pictures)) for shard, pictures in enumerate(_pictures_of_shards(new, plan)))
    return {shard: match for shard, match in found if match is not None}


def _pictures_of_shards(version: Store, plan: DatasetPlan) -> list[tuple[tuple[str, ...], ...]]:
    """The rows of the plan's list (names and digests) behind each shard."""
    rows = [tuple(row) for row in planned_list(version, plan, "pictures")]
    copies = plan.n_slots // len(rows)
    slots = map(plan.slots, range(plan.n_shards))
    return [tuple(rows[each.start // copies : each.stop // copies]) for each in slots]

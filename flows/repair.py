"""Repair: exactly what is damaged of a published version is made again from the sources, byte for byte, or refused.

Readers go on reading meanwhile: every object is replaced in one moment, and only by bytes that the manifest names.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import cast

from flows.build import (
    CONTACT_SHEET_KEY,
    Planned,
    build_shard,
    drawn_objects,
    planned_build,
)
from flows.config import BuildConfig
from flows.errors import SourceChanged
from flows.local import in_workers
from flows.planned_list import PICTURES_KEY
from flows.recipe import recipe_named, recipes
from storage.card import CARD_KEYS
from storage.dataset import ShardedDataset
from storage.manifest import DatasetManifest, read_manifest
from storage.publish import builders_lock, constant_objects
from storage.store import Store
from storage.verify import Finding, MendingStore, NotAsPublished, damage_of


def repair_here(
    version: Store,
    findings: Sequence[Finding],
    *,
    source: str | os.PathLike[str] | None,
    model: str | Sequence[str] = "built-in",
    files: Mapping[str, str | os.PathLike[str]] | None = None,
    workers: int = 0,
) -> Collection[str]:
    """Make the objects behind `findings` (of :func:`storage.verify.verify`) again; their keys.

    Source, model and files are those of the build. What no source can mend (objects that nobody published, the model
    beside the data set) is left alone. Raises SourceChanged when another version would come of them, NotAsPublished when
    the same plan gives other bytes here, AlreadyBuilding while somebody builds the data set, and DamagedObject where
    the manifest cannot be read: then the build itself, started again, writes it anew.
    """
    manifest = read_manifest(version)
    damage = damage_of(manifest, list(findings))
    if not damage.keys:
        return ()
    place = version.place
    planned = planned_build(config_of(manifest), source=source, model=model, out=place.parent.parent, files=files)
    _refuse_another_version(manifest, planned)
    job = replace(planned.job, folder=place, mended=damage.keys)
    with builders_lock(place.parent):
        store = MendingStore(version, manifest, damage.keys)
        constants = {**dict(constant_objects(job.plan, planned.tables)), PICTURES_KEY: planned.pictures}
        for key in damage.keys & constants.keys():
            store.put(key, constants[key])
        for _ in in_workers(build_shard, [(job, shard) for shard in damage.shards], workers):
            pass
        if damage.keys & {CONTACT_SHEET_KEY, *CARD_KEYS}:
            for key, data in drawn_objects(job, ShardedDataset(version)).items():
                if key in damage.keys:
                    store.put(key, data)
    return damage.keys


def config_of(manifest: DatasetManifest) -> BuildConfig:
    """The config of a version as its own class. Raises NotAsPublished when no recipe of today has such configs."""
    known = recipes()
    for name in known:
        config_type = recipe_named(name).config_type
        try:
            return cast(BuildConfig, config_type.model_validate(manifest.config))
        except ValueError:
            continue
    raise NotAsPublished(
        f"{manifest.name} {manifest.version} was not made by a recipe that can be repeated shard by shard "
        f"({', '.join(known)}): remove its folder and run the command that made it again"
    )


def _refuse_another_version(manifest: DatasetManifest, planned: Planned) -> None:
    """Sources, model, config and recipe decide the bytes; with others nothing that is made would fit."""
    plan, published = planned.job.plan, manifest.plan
    if plan.fingerprint == published.fingerprint:
        return
    parts = {
        "source": (published.sources, plan.sources),
        "model": (published.model, plan.model),
        "recipe": (published.recipe_version, plan.recipe_version),
        "tables": (published.tables, plan.tables),
    }
    other = [name for name, (then, now) in parts.items() if then != now] or ["schema"]
    raise SourceChanged(
        f"nothing was repaired: the {' and '.join(other)} given now would make version {plan.version}, and "
        f"{manifest.version} is damaged. Give the source and model that it was built from, unchanged"
    )

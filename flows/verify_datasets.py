"""Flow `verify`: every version against its manifest, then retention. Every week, once it is switched on."""

import time
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from pydantic import Field

from flows.dataset_events import announce_damage
from flows.flow_forms import described
from flows.upkeep import Verified, pruned_datasets, verified_versions
from storage.manifest import Unpublished
from storage.store import DamagedObject
from storage.versions import Pruned


@flow(name="verify", flow_run_name="verify {out}", persist_result=False)
@described
def verify(
    out: Annotated[str, Field(description="Where data sets lie; s3://… too.")] = "datasets",
    fast: Annotated[bool, Field(description="Names and sizes alone; otherwise every byte.")] = False,
    keep: Annotated[
        int | None, Field(ge=1, description="So many versions of each data set stay; none: nothing is removed.")
    ] = None,
    keep_days: Annotated[float, Field(ge=0, description="So do those published within so many days.")] = 30,
) -> dict[str, object]:
    """Verify all that is published below a folder; prune when all of it is whole. Fails when something is not, or is gone."""
    logger = get_run_logger()
    looked_at = []
    for seen in verified_versions(out, full=not fast):
        looked_at.append(seen)
        if seen.findings:
            logger.error("%s %s: %s", seen.dataset, seen.version, "; ".join(map(str, seen.findings[:5])))
            announce_damage(seen.dataset, seen.version, objects=len(seen.findings), first=str(seen.findings[0]))
        else:
            logger.info("%s %s: whole", seen.dataset, seen.version)
    if not looked_at:  # a folder that is misspelt, or not mounted today, is no folder where all is well
        raise Unpublished(f"nothing is published below {out}; give the folder that data sets lie in")
    damaged = [seen for seen in looked_at if seen.findings]
    removed = [] if damaged or keep is None else _prune(out, keep, keep_days)
    create_table_artifact([_row(seen) for seen in looked_at], key="verified", description=f"{len(damaged)} damaged")
    if damaged:  # nothing was removed: an old version may be all that is whole
        first = damaged[0]
        raise DamagedObject(
            first.findings[0].key,
            f"of {first.dataset} {first.version} {first.findings[0].explanation} ({len(damaged)} of {len(looked_at)} "
            "versions are damaged)",
        )
    return {"versions": len(looked_at), "damaged": 0, "removed": removed}


def _prune(out: str, keep: int, keep_days: float) -> list[str]:
    logger, removed = get_run_logger(), []
    for name, done in pruned_datasets(out, keep=keep, keep_days=keep_days, now_s=time.time()).items():
        if isinstance(done, Pruned):
            removed += [f"{name} {version}" for version in done.removed]
        else:
            logger.warning("%s was not pruned: %s", name, done)
    logger.info("removed: %s", ", ".join(removed) or "nothing")
    return removed


def _row(seen: Verified) -> dict[str, object]:
    return {
        "data set": seen.dataset,
        "version": seen.version + (" (latest)" if seen.is_latest else ""),
        "state": "whole" if not seen.findings else f"{len(seen.findings)} objects are not as published",
        "first": str(seen.findings[0]) if seen.findings else "",
    }

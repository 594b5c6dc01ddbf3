"""Flow `build-300wlp-posmaps`: plan, map over shards, verify, publish, say so."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner
from pydantic import Field

from flows import build
from flows.config import IMAGES
from flows.dataset_events import announce, failure_announced, one_at_a_time
from flows.flow_forms import Model, Out, Scheduler, Workers, described
from flows.presets import PRESETS
from flows.run_pages import name_build, show_build, summary
from storage.face_targets import Maps
from storage.phases import Phase, reach
from storage.processes import end_with_parent, usable_cores
from storage.store import place_of


# What is done is decided by the shard's own receipt on disk, never by a task cache.
@task(name="shard", cache_policy=NO_CACHE, retries=2, task_run_name="shard-{shard}", persist_result=False)
def build_shard(job: build.Job, shard: int) -> build.ShardOutcome:
    """Make one shard, or find it made."""
    return build.build_shard(job, shard)


@flow(name="build-300wlp-posmaps", flow_run_name="300wlp-posmaps", persist_result=False)
@described
def build_300wlp_posmaps(
    source: Annotated[
        str | None, Field(description="Folder of 300W-LP or AFLW2000-3D; none: the built-in sample.")
    ] = None,
    model: Model = "built-in",
    out: Out = "datasets",
    size: Annotated[int, Field(ge=128, le=512, description="Side of crops and maps in pixels.")] = 256,
    maps: Annotated[
        Maps,
        Field(description="Store maps in fixed point, compressed or 'uncompressed', or in float32, or parameters."),
    ] = "materialized",
    images: Annotated[
        str,
        Field(
            pattern=IMAGES,
            description="'lossless', 'uncompressed', 'jpeg:95' (any quality), or 'source': the source's files, cut on "
            "reading.",
        ),
    ] = "lossless",
    atlas: Annotated[Literal["auto", "own", "tutte"], Field(description="Which UV atlas.")] = "auto",
    copies: Annotated[int, Field(ge=1, le=1000, description="Samples of each picture; the first is not jittered.")] = 1,
    augment: Annotated[
        str | None, Field(description="What copies go through in place of the jitter: a preset or a mixture by name.")
    ] = None,
    compat: Annotated[Literal["face3d"] | None, Field(description="Reproduce a published recipe's labels.")] = None,
    seed: Annotated[int, Field(ge=0, le=2**63 - 1, description="Seed of the jitter, and of augmentation.")] = 0,
    targets: Annotated[
        tuple[str, ...], Field(min_length=1, description="What is made of each crop: posmap, field, parts, heatmaps.")
    ] = ("posmap",),
    field_atlas: Annotated[
        Literal["cylinder", "maps"], Field(description="What u and v of fields count in.")
    ] = "cylinder",
    mask: Annotated[
        str | None, Field(description="A square PNG painted over the fields' atlas, with the targets `parts`.")
    ] = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    max_bad: Annotated[
        float, Field(ge=0, le=1, description="Share of bad samples that does not stop the build.")
    ] = 0.01,
    on_bad: Annotated[
        Literal["quarantine", "fail"], Field(description="'fail' stops at the first bad sample.")
    ] = "quarantine",
) -> dict[str, object]:
    """PRNet's position maps from 300W-LP, published as a data set of Zarr shards. Running it twice does it once."""
    options = {
        "size": size,
        "maps": maps,
        "images": images,
        "atlas": atlas,
        "copies": copies,
        "augment": augment,
        "compat": compat,
        "seed": seed,
        "targets": targets,
        "field_atlas": field_atlas,
    }
    return run_build(
        "300wlp-posmaps",
        options,
        source=source,
        model=model,
        out=out,
        files={} if mask is None else {"mask": mask},
        workers=workers,
        max_bad=max_bad,
        on_bad=on_bad,
        scheduler=scheduler,
    )


def run_build(
    preset: str,
    options: Mapping[str, object],
    *,
    source: str | None,
    model: str,
    out: str,
    files: Mapping[str, str] | None = None,
    workers: int,
    max_bad: float,
    on_bad: Literal["quarantine", "fail"],
    scheduler: str | None = None,
) -> dict[str, object]:
    """The body of every building flow: config, plan, a task for each missing shard, publish, artifacts, event."""
    with failure_announced(preset):
        config = PRESETS[preset].config_of(options)
    with failure_announced(config.name), one_at_a_time(place_of(out) / config.name):
        with build.opened_build(config, source=source, model=model, out=out, files=files) as opened:
            name_build(config.name, opened.job.plan.version)
            published, outcomes = finish_build(
                opened, workers=workers, max_bad=max_bad, on_bad=on_bad, scheduler=scheduler
            )
        reach(Phase.EVENT, published.version)
        announce(published, fingerprint=opened.job.plan.fingerprint)
        show_build(published, outcomes)
        return summary(published)


def finish_build(
    opened: build.Build,
    *,
    workers: int,
    max_bad: float,
    on_bad: Literal["quarantine", "fail"] = "quarantine",
    scheduler: str | None = None,
) -> tuple[build.Published, list[build.ShardOutcome]]:
    """Make the missing shards of a planned build, a task for each, and publish it."""
    plan, missing = opened.job.plan, opened.missing_shards
    get_run_logger().info(
        "%s %s: %d samples, %d of %d shards to make", plan.name, plan.version, plan.n_slots, len(missing), plan.n_shards
    )
    with shard_runner(workers, scheduler) as runner:
        futures = [runner.submit(build_shard, {"job": opened.job, "shard": shard}) for shard in missing]
        outcomes = [*opened.finished.values(), *(future.result() for future in futures)]
    build.check_bad(outcomes, n_slots=plan.n_slots, max_bad=max_bad, fail_on_first=on_bad == "fail")
    return build.publish_build(opened), outcomes


def shard_runner(workers: int, scheduler: str | None = None) -> TaskRunner[Any]:
    """Where the tasks of shards run: processes of this machine, or a Dask cluster (``local``, or its address)."""
    if scheduler is None:
        return ProcessPoolTaskRunner(max_workers=workers or usable_cores(), initializer=end_with_parent)
    from prefect_dask.task_runners import DaskTaskRunner  # here: needs the extra `cluster`

    if scheduler != "local":
        return DaskTaskRunner(address=scheduler)
    local = {"n_workers": workers or usable_cores(), "threads_per_worker": 1, "memory_limit": 0}
    return DaskTaskRunner(cluster_kwargs={**local, "dashboard_address": None})

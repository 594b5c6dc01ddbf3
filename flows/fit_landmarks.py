"""Flow `fit-landmarks`: plan, map over shards, verify, publish, write the folder, say so."""

from typing import Annotated, Literal

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows import build, fit_folder, fit_shards, fits, presets
from flows.build_300wlp_posmaps import shard_runner
from flows.dataset_events import announce, failure_announced, one_at_a_time
from flows.flow_forms import Model, Out, Scheduler, Workers, described
from flows.run_pages import name_build, show_build, summary
from storage.phases import Phase, reach
from storage.store import place_of


# What is done is decided by the shard's own receipt on disk, never by a task cache.
@task(name="fit-shard", cache_policy=NO_CACHE, retries=2, task_run_name="shard-{shard}", persist_result=False)
def fit_shard(job: fit_shards.FitJob, shard: int) -> build.ShardOutcome:
    """Fit the faces of one shard, or find it made."""
    return fit_shards.fit_shard(job, shard)


@task(name="annotate-shard", cache_policy=NO_CACHE, retries=2, task_run_name="folder-{shard}", persist_result=False)
def annotate_shard(job: fit_shards.FitJob, shard: int) -> int:
    """Write the pictures and annotations of one shard that are not there yet."""
    return fit_folder.annotate_shard(job, shard)


@flow(name="fit-landmarks", flow_run_name="fits", persist_result=False)
@described
def fit_landmarks(
    source: Annotated[
        str | None, Field(description="Folder of photographs; none: those of the built-in sample.")
    ] = None,
    table: Annotated[
        str | None, Field(description="Landmarks in one .csv, .parquet or .json; none: in files beside the pictures.")
    ] = None,
    detect: Annotated[bool, Field(description="Let the detector look where there are no landmarks.")] = False,
    weights: Annotated[str | None, Field(description="The detector's 68-point model; it is never downloaded.")] = None,
    model: Model = "built-in",
    out: Out = "datasets",
    scheme: Annotated[str, Field(description="Which landmarks the files hold.")] = "ibug-68",
    landmarks_frame: Annotated[
        Literal["stored", "upright"], Field(description="Pixels as the file stores them, or turned as EXIF says.")
    ] = "stored",
    contour: Annotated[
        Literal["march", "fixed"] | None,
        Field(description="Jaw points slide along the contour, or are vertices; none: as the scheme suits."),
    ] = None,
    loss: Annotated[
        Literal["squares", "huber", "geman_mcclure"] | None,
        Field(description="Bound the pull of wrong points (huber) or let it go (geman_mcclure); none: squares."),
    ] = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    max_bad: Annotated[float, Field(ge=0, le=1, description="Share of bad faces that does not stop the build.")] = 0.01,
    on_bad: Annotated[
        Literal["quarantine", "fail"], Field(description="'fail' stops at the first bad face.")
    ] = "quarantine",
) -> dict[str, object]:
    """Fits to the landmarks of photographs: a published data set, and a folder in 300W-LP's layout written from it."""
    chosen = {name: value for name, value in (("contour", contour), ("loss", loss)) if value}
    with failure_announced("fits"):
        config = presets.landmark_fits(scheme=scheme, landmarks_frame=landmarks_frame, **chosen)
    logger = get_run_logger()
    with failure_announced(config.name), one_at_a_time(place_of(out) / config.name):
        with fits.opened_fits(
            config, source=source, table=table, detect=detect, weights=weights, model=model, out=out
        ) as opened:
            job, missing = opened.job, opened.missing_shards
            plan = job.plan
            name_build(plan.name, plan.version)
            logger.info("%s %s: %d faces, %d shards to make", plan.name, plan.version, plan.n_slots, len(missing))
            logger.info("terms: %s", plan.sources[0].licence)
            with shard_runner(workers, scheduler) as runner:
                futures = [runner.submit(fit_shard, {"job": job, "shard": shard}) for shard in missing]
                outcomes = [*opened.finished.values(), *(future.result() for future in futures)]
                build.check_bad(outcomes, n_slots=plan.n_slots, max_bad=max_bad, fail_on_first=on_bad == "fail")
                data_set = fits.publish_fits(opened)
                shards = range(plan.n_shards)
                written = [runner.submit(annotate_shard, {"job": job, "shard": shard}) for shard in shards]
                for future in written:
                    future.result()
            published = fit_folder.finish_folder(job, data_set)

        reach(Phase.EVENT, published.version)
        announce(published, fingerprint=plan.fingerprint)
        show_build(published, outcomes)
        return {**summary(published), "folder": str(published.folder)}

"""Flow `profile-faces`: plan, map over photographs, finish the folder, say so."""

from pathlib import Path
from typing import Annotated, Literal

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows import face_profiles, profiles
from flows.build_300wlp_posmaps import shard_runner
from flows.dataset_events import failure_announced, one_at_a_time
from flows.flow_forms import Model, Scheduler, Workers, described
from flows.run_pages import name_build, show_folder, show_rejected
from storage.bad_sample import Rejected


# What is done is decided by the files on disk, never by a task cache.
@task(
    name="profile-photographs",
    cache_policy=NO_CACHE,
    retries=2,
    task_run_name="{photographs[0].name}",
    persist_result=False,
)
def profile_photographs(
    job: face_profiles.ProfilesJob, photographs: tuple[face_profiles.PlannedPhotograph, ...]
) -> list[int | Rejected]:
    """Write the views of some photographs that are not there yet."""
    return face_profiles.profile_photographs(job, photographs)


@flow(name="profile-faces", flow_run_name="profiles", persist_result=False)
@described
def profile_faces(
    source: Annotated[
        str | None, Field(description="300W-LP, or what fit-landmarks wrote; none: the built-in sample.")
    ] = None,
    out: Annotated[str, Field(description="The folder to write.")] = "datasets/sources/profiles",
    model: Model = "built-in",
    yaw_step_deg: Annotated[float, Field(ge=0.1, le=90, description="From one view to the next.")] = 5.0,
    max_yaw_deg: Annotated[float, Field(ge=0, le=90, description="No view is turned farther to the side.")] = 90.0,
    pitch_deg: Annotated[list[float] | None, Field(description="Each adds a row of views.")] = None,
    sides: Annotated[Literal["outward", "both"], Field(description="'both': to the other side too.")] = "outward",
    workers: Workers = 0,
    scheduler: Scheduler = None,
    max_bad: Annotated[float, Field(ge=0, le=1, description="Share of bad photographs that does not stop it.")] = 0.01,
    on_bad: Annotated[
        Literal["quarantine", "fail"], Field(description="'fail' stops at the first bad photograph.")
    ] = "quarantine",
) -> dict[str, object]:
    """Photographs and their fits, turned to the side in steps: a folder like 300W-LP. Running it twice does it once."""
    logger, folder = get_run_logger(), Path(out).absolute()
    with failure_announced(folder.name):
        config = face_profiles.ProfilesConfig(
            yaw_step_deg=yaw_step_deg, max_yaw_deg=max_yaw_deg, pitch_deg=tuple(pitch_deg or ()), sides=sides
        )
    with failure_announced(folder.name), one_at_a_time(folder):
        with profiles.opened_profiles(source, out=out, config=config, model=model) as plan:
            name_build(folder.name, plan.version)
            logger.info("%s: %d photographs; terms: %s", plan.version, len(plan.photographs), plan.about["licence"])
            outcomes: list[list[int | Rejected]] = []
            if not plan.is_finished:
                with shard_runner(workers, scheduler) as runner:
                    parts = [{"job": plan.job, "photographs": part} for part in plan.parts()]
                    futures = [runner.submit(profile_photographs, part) for part in parts]
                    outcomes = [future.result() for future in futures]
                profiles.check_profiles(plan, outcomes, max_bad=max_bad, fail_on_first=on_bad == "fail")
            done = profiles.finish_profiles(plan, outcomes)
        told = {
            "folder": str(done.folder),
            "version": done.version,
            "photographs": done.photographs,
            "pictures": done.pictures,
            "rejected": len(done.rejected),
        }
        pictures = sorted(done.folder.rglob("*.jpg"))
        show_folder(told, pictures, key="profiles-summary", description=f"{done.pictures} pictures")
        show_rejected(done.rejected, what="photographs", key="profiles-rejected")
        return told

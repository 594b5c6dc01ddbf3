"""Flow `profile-faces`: plan, map over photographs, finish the folder, say so."""

from collections import Counter
from typing import Annotated, Literal

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ProcessPoolTaskRunner
from pydantic import Field

from flows import face_profiles, profiles
from flows.local import end_with_parent, usable_cores
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


@flow(name="profile-faces", persist_result=False)
def profile_faces(
    source: Annotated[
        str | None, Field(description="300W-LP, or what fit-landmarks wrote; none: the built-in sample.")
    ] = None,
    out: Annotated[str, Field(description="The folder to write.")] = "datasets/sources/profiles",
    model: Annotated[str, Field(description="'built-in', or the morphable model's file or folder.")] = "built-in",
    yaw_step_deg: Annotated[float, Field(gt=0, le=90, description="From one view to the next.")] = 5.0,
    max_yaw_deg: Annotated[float, Field(ge=0, le=90, description="No view is turned farther to the side.")] = 90.0,
    pitch_deg: Annotated[list[float] | None, Field(description="Each adds a row of views.")] = None,
    sides: Annotated[Literal["outward", "both"], Field(description="'both': to the other side too.")] = "outward",
    workers: Annotated[int, Field(ge=0, description="Worker processes; 0: one for each core.")] = 0,
    max_bad: Annotated[float, Field(ge=0, le=1, description="Share of bad photographs that does not stop it.")] = 0.01,
    on_bad: Annotated[
        Literal["quarantine", "fail"], Field(description="'fail' stops at the first bad photograph.")
    ] = "quarantine",
) -> dict[str, object]:
    """Photographs and their fits, turned to the side in steps: a folder like 300W-LP. Running it twice does it once."""
    config = face_profiles.ProfilesConfig(
        yaw_step_deg=yaw_step_deg, max_yaw_deg=max_yaw_deg, pitch_deg=tuple(pitch_deg or ()), sides=sides
    )
    logger = get_run_logger()
    with profiles.opened_profiles(source, out=out, config=config, model=model) as plan:
        logger.info("%s: %d photographs; terms: %s", plan.version, len(plan.photographs), plan.about["licence"])
        outcomes: list[list[int | Rejected]] = []
        if not plan.is_finished:
            with ProcessPoolTaskRunner(max_workers=workers or usable_cores(), initializer=end_with_parent) as runner:
                futures = [
                    runner.submit(profile_photographs, {"job": plan.job, "photographs": part}) for part in plan.parts()
                ]
                outcomes = [future.result() for future in futures]
            profiles.check_profiles(plan, outcomes, max_bad=max_bad, fail_on_first=on_bad == "fail")
        done = profiles.finish_profiles(plan, outcomes)
    _report(done)
    return {
        "folder": str(done.folder),
        "version": done.version,
        "photographs": done.photographs,
        "pictures": done.pictures,
        "rejected": len(done.rejected),
    }


def _report(done: profiles.Profiled) -> None:
    """What was rejected, and why, for the server's pages."""
    if not done.rejected:
        return
    counts = Counter(hole.code for hole in done.rejected)
    first = {hole.code: hole for hole in reversed(done.rejected)}
    create_table_artifact(
        [
            {"reason": code, "photographs": n, "first": first[code].source_id, "why": first[code].reason}
            for code, n in counts.most_common()
        ],
        key="profiles-rejected",
        description=f"{len(done.rejected)} rejected photographs",
    )

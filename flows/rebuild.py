"""Flow `rebuild`: the latest version's config, today's sources, what changed. Every night, once it is switched on."""

from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from flows.build_300wlp_posmaps import finish_build
from flows.dataset_events import announce, failure_announced, one_at_a_time
from flows.flow_forms import Model, Scheduler, Workers, described
from flows.incremental import opened_rebuild
from flows.run_pages import artifact_key, is_second_attempt, name_build, show_build, summary
from storage.phases import Phase, reach
from storage.store import place_of


@flow(name="rebuild", flow_run_name="rebuild {dataset}", persist_result=False)
@described
def rebuild(
    dataset: Annotated[
        str, Field(description="<out>/<name>, s3://… too; its latest version's config is taken.")
    ] = "datasets/300wlp-posmaps",
    source: Annotated[str | None, Field(description="Folder of the source; none: the built-in sample.")] = None,
    model: Model = "built-in",
    mask: Annotated[str | None, Field(description="The painted PNG, where the data set was built with one.")] = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    max_bad: Annotated[
        float, Field(ge=0, le=1, description="Share of bad samples that does not stop the build.")
    ] = 0.01,
) -> dict[str, object]:
    """Build what changed since the latest version and publish the new one. Nothing changed: nothing is published."""
    files = {} if mask is None else {"mask": mask}
    logger, place = get_run_logger(), place_of(dataset)
    with failure_announced(place.name), one_at_a_time(place):
        with opened_rebuild(dataset, source=source, model=model, files=files) as planned:
            plan = planned.build.job.plan
            name_build(plan.name, plan.version, verb="rebuild")
            if (
                not planned.changed and not is_second_attempt()
            ):  # the first may have died between publishing and telling
                logger.info("%s: nothing changed since %s, nothing is published", plan.name, planned.latest)
                return {"dataset": plan.name, "version": planned.latest, "published": False}
            logger.info("%d of %d shards taken over from %s", len(planned.reused), plan.n_shards, planned.latest or "-")
            published, outcomes = finish_build(planned.build, workers=workers, max_bad=max_bad, scheduler=scheduler)
        reach(Phase.EVENT, published.version)
        announce(published, fingerprint=plan.fingerprint)
        show_build(published, outcomes)
        create_markdown_artifact(
            f"`{planned.latest or 'nothing'}` → `{published.version}`; {len(planned.reused)} of {plan.n_shards} shards "
            f"taken over.\n\n`facefoundry diff {dataset} {planned.latest} {published.version}` names the samples.\n",
            key=artifact_key(published.dataset, "rebuilt"),
        )
    return {**summary(published), "published": True, "shards_reused": len(planned.reused)}

"""Flow `build-densereg-fields`: plan, map over shards, verify, publish, say so."""

from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from flows.build_300wlp_posmaps import run_build
from flows.flow_forms import Model, Out, Scheduler, Workers, described


@flow(name="build-densereg-fields", flow_run_name="densereg-fields", persist_result=False)
@described
def build_densereg_fields(
    source: Annotated[
        str | None, Field(description="Folder of photographs with a .mat for each face; none: invented groups.")
    ] = None,
    model: Model = "built-in",
    out: Out = "datasets",
    longest: Annotated[
        int, Field(ge=64, le=1024, description="Longest side of the photographs; none is enlarged.")
    ] = 800,
    field_atlas: Annotated[
        Literal["cylinder", "own"], Field(description="What u and v count in: unfolded cylinder or the model's atlas.")
    ] = "cylinder",
    mask: Annotated[
        str | None, Field(description="A square PNG painted over that atlas, to be carried into every photograph.")
    ] = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    max_bad: Annotated[
        float, Field(ge=0, le=1, description="Share of bad photographs that does not stop the build.")
    ] = 0.01,
    on_bad: Annotated[
        Literal["quarantine", "fail"], Field(description="'fail' stops at the first bad photograph.")
    ] = "quarantine",
) -> dict[str, object]:
    """DenseReg's fields of whole photographs with all their faces, published as Zarr shards. Twice does it once."""
    return run_build(
        "densereg-fields",
        {"longest": longest, "field_atlas": field_atlas},
        source=source,
        model=model,
        out=out,
        files={} if mask is None else {"mask": mask},
        workers=workers,
        max_bad=max_bad,
        on_bad=on_bad,
        scheduler=scheduler,
    )

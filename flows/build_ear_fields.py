"""Flow `build-ear-fields`: plan, map over shards, verify, publish, say so."""

from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from flows.build_300wlp_posmaps import run_build
from flows.flow_forms import Out, Scheduler, Workers, described
from render.ear_field import DEFAULT_SMOOTHING


@flow(name="build-ear-fields", flow_run_name="ear-fields", persist_result=False)
@described
def build_ear_fields(
    source: Annotated[
        str | None, Field(description="Folder of pictures of ears, a .pts of 55 points beside each; none: drawn ears.")
    ] = None,
    out: Out = "datasets",
    size: Annotated[int, Field(ge=128, le=512, description="Side of the crops in pixels.")] = 256,
    smoothing: Annotated[
        float, Field(ge=0, description="Of the splines: 0 goes through every landmark, more forgives their annotators.")
    ] = DEFAULT_SMOOTHING,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    max_bad: Annotated[
        float, Field(ge=0, le=1, description="Share of bad pictures that does not stop the build.")
    ] = 0.01,
    on_bad: Annotated[
        Literal["quarantine", "fail"], Field(description="'fail' stops at the first bad picture.")
    ] = "quarantine",
) -> dict[str, object]:
    """Fields of ears from 55 landmarks by thin-plate splines, published as Zarr shards. Running it twice does it once."""
    return run_build(
        "ear-fields",
        {"size": size, "smoothing": smoothing},
        source=source,
        model="built-in",
        out=out,
        workers=workers,
        max_bad=max_bad,
        on_bad=on_bad,
        scheduler=scheduler,
    )

"""Flow `build-ear-fields`: plan, map over shards, verify, publish, say so."""

from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from flows import presets
from flows.build_300wlp_posmaps import run_build
from flows.flow_forms import described
from render.ear_field import DEFAULT_SMOOTHING


@flow(name="build-ear-fields", flow_run_name="ear-fields", persist_result=False)
@described
def build_ear_fields(
    source: Annotated[
        str | None, Field(description="Folder of pictures of ears, a .pts of 55 points beside each; none: drawn ears.")
    ] = None,
    out: Annotated[str, Field(description="Where data sets lie.")] = "datasets",
    size: Annotated[int, Field(ge=128, le=512, description="Side of the crops in pixels.")] = 256,
    smoothing: Annotated[
        float, Field(ge=0, description="Of the splines: 0 goes through every landmark, more forgives their annotators.")
    ] = DEFAULT_SMOOTHING,
    workers: Annotated[int, Field(ge=0, description="Worker processes; 0: one for each core.")] = 0,
    scheduler: Annotated[
        str | None, Field(description="A Dask scheduler's address, or 'local'; none: processes of this machine.")
    ] = None,
    max_bad: Annotated[
        float, Field(ge=0, le=1, description="Share of bad pictures that does not stop the build.")
    ] = 0.01,
    on_bad: Annotated[
        Literal["quarantine", "fail"], Field(description="'fail' stops at the first bad picture.")
    ] = "quarantine",
) -> dict[str, object]:
    """Fields of ears from 55 landmarks by thin-plate splines, published as Zarr shards. Running it twice does it once."""
    config = presets.ear_fields(size_px=size, smoothing=smoothing)
    return run_build(
        config,
        source=source,
        model="built-in",
        out=out,
        workers=workers,
        max_bad=max_bad,
        on_bad=on_bad,
        scheduler=scheduler,
    )

"""Flow `evaluate`: a checkpoint measured on a data set or on test photographs, the table for the server's pages."""

from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from flows import evaluations


@flow(name="evaluate", persist_result=False)
def evaluate(
    checkpoint: Annotated[str, Field(description="last.pt or best.pt of a training.")],
    data: Annotated[str, Field(description="A data set, a folder of photographs, a table, or a folder of renders.")],
    protocol: Annotated[
        str | None, Field(description="aflw2000, 300w-full, menpo, 3dfaw, …; none: what the data are.")
    ] = None,
    pictures: Annotated[str | None, Field(description="Of a table: where its paths count from.")] = None,
    boxes: Annotated[str | None, Field(description="A file, or a rule by name; none: the protocol's.")] = None,
    scheme: Annotated[str | None, Field(description="Which points the set has; none: the protocol's.")] = None,
    label_yaw: Annotated[str | None, Field(description="Of AFLW2000-3D: a table of AFLW's labels.")] = None,
    model: Annotated[str | None, Field(description="Of AFLW2000-3D: the morphable model of its coefficients.")] = None,
    passes: Annotated[int | None, Field(ge=1, le=5, description="Crops are cut again so often.")] = None,
    out: Annotated[str | None, Field(description="The folder to write; none: evaluations/….")] = None,
) -> dict[str, object]:
    """Metrics, cumulative error curves and a page of predictions, beside the mean shape and the papers' figures."""
    from train.evaluation_report import table_lines

    done = evaluations.evaluate_here(
        checkpoint, data, protocol=protocol, pictures=pictures, boxes=boxes, scheme=scheme, label_yaw=label_yaw,
        model=model, passes=passes, out=out,
    )  # fmt: skip
    lines = table_lines(done.document)
    for line in lines:
        get_run_logger().info(line)
    create_markdown_artifact("```\n" + "\n".join(lines) + "\n```", key="evaluation", description=lines[0])
    return {"folder": str(done.folder), "n_images": done.document["n_images"], "set": done.document["set"]}

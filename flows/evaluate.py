"""Flow `evaluate`: a checkpoint measured on a data set or on test photographs, the table for the server's pages."""

from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from flows import evaluations
from flows.flow_forms import described
from flows.run_pages import name_run, show_evaluation


@flow(name="evaluate", flow_run_name="evaluate", persist_result=False)
@described
def evaluate(
    checkpoint: Annotated[str, Field(description="last.pt or best.pt of a training.")],
    data: Annotated[
        str,
        Field(description="A data set (folder, or name in datasets/), photographs, a table, or a folder of renders."),
    ],
    version: Annotated[str | None, Field(description="Of a data set; none: the latest.")] = None,
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

    name, known_version = evaluations.name_of_data(data, version, protocol)
    tags = [f"dataset:{name}", *([f"version:{known_version}"] if known_version else [])]
    test = f"{name} {known_version}" if known_version else name
    name_run(f"evaluate {test}", *tags)
    done = evaluations.evaluate_here(
        checkpoint, data, version=known_version, protocol=protocol, pictures=pictures, boxes=boxes, scheme=scheme,
        label_yaw=label_yaw, model=model, passes=passes, out=out,
    )  # fmt: skip
    lines = table_lines(done.document)
    for line in lines:
        get_run_logger().info(line)
    system = done.document["system"]
    name_run(f"evaluate {system} on {test}", f"system:{system}", *tags)
    show_evaluation(done.folder, lines)
    return {"folder": str(done.folder), "n_images": done.document["n_images"], "set": done.document["set"]}

"""Flows `train-dan`, `train-densereg`, `train-fan3d`, `train-mesh-gcn` and `train-prnet`: one recipe, five systems."""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, cast

from prefect import Flow, flow, get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from pydantic import Field

from flows import training, training_events
from flows.flow_forms import described
from flows.run_pages import name_run, show_training
from flows.training_card import TrainingDone
from flows.training_progress import progress_line

_SECONDS_BETWEEN_TRIES = 10.0

if TYPE_CHECKING:
    from uuid import UUID

    from train.run_log import Progress


def flow_of(system: str) -> Flow:
    """The flow that trains one system."""
    name = system.replace("_", "-")

    def run(
        data: Annotated[str, Field(description="A data set's folder, or the name of one in `out`.")],
        version: Annotated[str | None, Field(description="A version; none: the latest.")] = None,
        preset: Annotated[
            Literal["tiny", "paper"], Field(description="tiny learns on a CPU in minutes; paper is the paper's.")
        ] = "tiny",
        out: Annotated[str, Field(description="Runs lie in runs/ below it.")] = "datasets",
        validation: Annotated[str | None, Field(description="Another data set; none: people held out.")] = None,
        hold_out: Annotated[
            float, Field(ge=0, le=0.9, description="Share of the people that is not learnt from.")
        ] = 0.1,
        settings: Annotated[list[str] | None, Field(description="field=value of the config.")] = None,
        steps: Annotated[int | None, Field(ge=1, description="Steps of every phase; none: the preset's.")] = None,
        augment: Annotated[
            str | None, Field(description="A preset, a mixture, or none; empty: the system's own.")
        ] = None,
        pretrained: Annotated[str | None, Field(description="A ResNet's state dict for the backbone.")] = None,
        workers: Annotated[
            int | None, Field(ge=0, description="Processes that read ahead; 0: the training reads itself.")
        ] = None,
        fingerprint: Annotated[
            str | None, Field(description="That the version must have, as an event of its publication says; none: any.")
        ] = None,
    ) -> dict[str, object]:
        logger = get_run_logger()
        dataset = training_events.data_of_event(data, version, fingerprint, out=out)
        known = dataset.manifest
        tags = f"system:{name}", f"dataset:{known.name}", f"version:{known.version}"
        name_run(f"{name} on {known.name} {known.version}", *tags)
        bar = create_progress_artifact(progress=0.0, key=f"train-{name}", description="starting")

        read_ahead = [] if workers is None else [f"workers={workers}"]

        def report(progress: "Progress") -> None:
            line = progress_line(progress)
            logger.info(line)
            update_progress_artifact(
                cast("UUID", bar), progress=100 * progress.step / progress.n_steps, description=line
            )

        train = partial(
            training.train_here,
            system, data, version=known.version, preset=preset, out=out, validation=validation, hold_out=hold_out,
            settings=[*(settings or ()), *read_ahead], steps=steps, augment=augment, pretrained=pretrained, report=report,
            tell=logger.info,
        )  # fmt: skip
        done = _after_others(train, logger.warning)
        show_training(name, done)
        if done.finished:
            training_events.announce_training(system, done, dataset=dataset)
        return {
            "folder": str(done.folder),
            "checkpoint": str(done.checkpoint),
            "measure": done.measure,
            "validation": done.validation,
            "steps": done.steps,
        }

    run.__name__ = run.__qualname__ = f"train_{system}"
    run.__doc__ = f"Train {system} on a published data set; a run that was stopped goes on."
    made: Callable[..., Flow] = flow(name=f"train-{name}", flow_run_name=name, persist_result=False)
    return made(described(run))


def _after_others(train: Callable[[], TrainingDone], warn: Callable[[str], None]) -> TrainingDone:
    """Train as soon as nobody else trains in the run's folder.

    A run that was silent but alive is taken for dead and started again: this one then waits for its own first process, and finds
    its work done.
    """
    told = False
    while True:
        try:
            return train()
        except training.AlreadyTraining as other:
            if not told:
                warn(f"{other}. This one waits")
            told = True
            time.sleep(_SECONDS_BETWEEN_TRIES)


train_dan = flow_of("dan")
train_densereg = flow_of("densereg")
train_fan3d = flow_of("fan3d")
train_mesh_gcn = flow_of("mesh_gcn")
train_prnet = flow_of("prnet")

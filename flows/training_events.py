"""What trainings have to do with events: the data set that a publication named is the one that is read, and the end is told."""

import os
from pathlib import Path

from prefect.events import emit_event

from flows.errors import SourceChanged
from flows.training import TrainingDone
from storage.dataset import open_dataset


def check_fingerprint(data: str | os.PathLike[str], version: str | None, fingerprint: str | None) -> None:
    """Raise SourceChanged unless the version at `data` has that fingerprint; an event that lost its values is refused.

    None: any will do.
    """
    if fingerprint is None:
        return
    found = open_dataset(str(data), version).manifest.fingerprint
    if found != fingerprint:
        raise SourceChanged(
            f"{data} has the fingerprint {found} and not {fingerprint!r}, which the training was started for: start it "
            "with the values of one event, or without a fingerprint"
        )


def announce_training(system: str, done: TrainingDone, *, data: str | os.PathLike[str]) -> None:
    """Tell the server that a training has ended well; every templated key is in every event."""
    emit_event(
        event="training.finished",
        resource={"prefect.resource.id": f"facefoundry.training.{system}", "prefect.resource.name": system},
        payload={
            "system": system,
            "checkpoint": str(Path(done.checkpoint).absolute()),
            "data": str(data),
            "validation": done.validation,
            "measure": done.measure,
        },
    )

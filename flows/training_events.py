"""What trainings have to do with events: the data set that a publication named is the one that is read, and the end is told."""

import os
from pathlib import Path

from prefect.events import emit_event

from flows.errors import SourceChanged
from flows.training import data_place
from flows.training_card import TrainingDone
from storage.dataset import ShardedDataset, open_dataset


def data_of_event(
    data: str | os.PathLike[str], version: str | None, fingerprint: str | None, *, out: str | os.PathLike[str]
) -> ShardedDataset:
    """The version that is to be learnt from; `fingerprint` None: any will do.

    Raises SourceChanged for one with another fingerprint: an event that lost its values is refused.
    """
    dataset = open_dataset(data_place(data, out), version)
    found = dataset.manifest.fingerprint
    if fingerprint not in (None, found):
        raise SourceChanged(
            f"{data} has the fingerprint {found} and not {fingerprint!r}, which the training was started for: start it "
            "with the values of one event, or without a fingerprint"
        )
    return dataset


def announce_training(system: str, done: TrainingDone, *, dataset: ShardedDataset) -> None:
    """Tell the server that a training has ended well; every templated key is in every event."""
    emit_event(
        event="training.finished",
        resource={"prefect.resource.id": f"facefoundry.training.{system}", "prefect.resource.name": system},
        payload={
            "system": system,
            "checkpoint": str(Path(done.checkpoint).absolute()),
            "data": str(dataset.path),
            "dataset": dataset.manifest.name,
            "version": dataset.manifest.version,
            "validation": done.validation,
            "measure": done.measure,
        },
    )

"""What runs that write a data set owe to the others: one at a time, and a word when one has ended, well or not."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.events import emit_event
from prefect.exceptions import ObjectAlreadyExists

from flows.build import Published
from flows.run_pages import summary
from storage.store import Place

_LEASE_S = 60
"""The least that Prefect allows: so long does a dead run keep others waiting."""


@contextmanager
def one_at_a_time(dataset: Place) -> Iterator[None]:
    """Wait until no other run of any flow writes ``<out>/<name>``, and keep others waiting while the block runs.

    A queue and no guard: what holds when a lease is lost are the builders' lock and, on S3, the first manifest.
    """
    name = f"{dataset.name} {hashlib.sha256(str(dataset).encode()).hexdigest()[:8]}"
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):  # another run may make it just now
        client.upsert_global_concurrency_limit_by_name(name, 1)
    with concurrency(name, lease_duration=_LEASE_S, raise_on_lease_renewal_failure=False):
        yield


@contextmanager
def failure_announced(dataset: str) -> Iterator[None]:
    """Emit `dataset.failed` when the block raises: a notification can hang on it (docs/orchestration.md)."""
    try:
        yield
    except Exception as error:
        emit_event(
            event="dataset.failed",
            resource=_resource(dataset),
            payload={"dataset": dataset, "error": type(error).__name__, "reason": str(error)},
        )
        raise


def announce(published: Published, *, fingerprint: str) -> None:
    """Tell the server that a data set was published; every templated key is in every event."""
    emit_event(
        event="dataset.published",
        resource=_resource(published.dataset),
        payload={**summary(published), "fingerprint": fingerprint},
    )


def announce_damage(dataset: str, version: str, *, objects: int, first: str) -> None:
    """Tell the server that a published version is not whole any more."""
    emit_event(
        event="dataset.damaged",
        resource=_resource(dataset),
        payload={"dataset": dataset, "version": version, "objects": objects, "first": first},
    )


def _resource(dataset: str) -> dict[str, str]:
    return {"prefect.resource.id": f"facefoundry.dataset.{dataset}", "prefect.resource.name": dataset}

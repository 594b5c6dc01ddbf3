"""Looking after published data sets: every byte of their versions against the manifests, and old versions pruned."""

from collections.abc import Iterator
from dataclasses import dataclass

from storage.publish import AlreadyBuilding
from storage.store import DamagedObject, Place, place_of
from storage.stores import store_at
from storage.verify import Finding, verify
from storage.versions import Pruned, prune, published_versions


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found in one version; no findings: it is whole."""

    dataset: str
    version: str
    is_latest: bool
    findings: tuple[Finding, ...]


def verified_versions(out: str | Place, *, full: bool = True) -> Iterator[Verified]:
    """Every published version of every data set below `out`, the latest of each first. Nothing is written."""
    store = store_at(out)
    for name in store.folders():
        dataset = store.folder(name)
        for state in published_versions(dataset):
            findings = verify(dataset.folder(state.version), full=full)
            yield Verified(name, state.version, state.is_latest, tuple(findings))


def pruned_datasets(
    out: str | Place, *, keep: int, keep_days: float | int, now_s: float | int
) -> dict[str, Pruned | str]:
    """Prune each data set below `out` by the rule of :func:`storage.versions.prune`; by name, or why it was left alone.

    One that is being built, or whose `latest` cannot be read, is left as it is: the others are pruned all the same.
    """
    store, done = store_at(place_of(out)), dict[str, Pruned | str]()
    for name in store.folders():
        dataset = store.folder(name)
        if not published_versions(dataset):  # sources, models, and builds that never finished
            continue
        try:
            done[name] = prune(dataset, keep=keep, keep_days=keep_days, now_s=now_s)
        except (AlreadyBuilding, DamagedObject) as reason:
            done[name] = str(reason)
    return done

"""The list that a build works by: every picture or face with its files and their digests, ``pictures.json`` of a version.

The plan knows the list by its digest alone. No receipt answers for it, and a changed letter would be another sample:
whoever works by the list reads it here, where it is held to that digest.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import overload

from flows.recipe import PlannedPicture
from storage.manifest import DatasetPlan, canonical_json
from storage.processes import without_collection
from storage.store import DamagedObject, Store

PICTURES_KEY = "pictures.json"


def list_bytes(plan: DatasetPlan, name: str, rows: bytes) -> bytes:
    """What :data:`PICTURES_KEY` holds: canonical JSON of the plan's config and, under `name`, of the list.

    `rows` are the list alone, canonical JSON too, whose sha256 is the fingerprint of the plan's source.
    """
    return _before_list(plan, name) + rows + b"}"


def stored_list(version: Store, plan: DatasetPlan, name: str) -> bytes:
    """The same as it is stored. Raises DamagedObject when it is not the plan's, and MissingObject."""
    data, before = version.get(PICTURES_KEY), _before_list(plan, name)
    is_the_plans = hashlib.sha256(memoryview(data)[len(before) : -1]).hexdigest() == plan.sources[0].fingerprint
    if not (is_the_plans and data.startswith(before) and data.endswith(b"}")):
        raise _another_list()
    return data


def planned_list(version: Store, plan: DatasetPlan, name: str) -> list[list[str]]:
    """The rows of the list that the plan wrote, which are called `name` in it. Raises as :func:`stored_list`."""
    return _rows_of(_rows_alone(version, plan, name))


def planned_pictures(version: Store, plan: DatasetPlan) -> Sequence[PlannedPicture]:
    """The pictures of a plan, each made of its row when it is asked for. Raises as :func:`stored_list`."""
    return _Pictures(_rows_alone(version, plan, "pictures"))


class _Pictures(Sequence[PlannedPicture]):
    """The pictures of a list, taken from it when they are asked for: a shard wants few, and publishing none."""

    def __init__(self, listed: bytes) -> None:
        self._listed = listed

    @cached_property
    def _rows(self) -> list[list[str]]:
        return _rows_of(self._listed)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> PlannedPicture: ...
    @overload
    def __getitem__(self, place: slice) -> list[PlannedPicture]: ...
    def __getitem__(self, place: int | slice) -> PlannedPicture | list[PlannedPicture]:
        if isinstance(place, slice):
            return [PlannedPicture.of_listed(row) for row in self._rows[place]]
        return PlannedPicture.of_listed(self._rows[place])


def _before_list(plan: DatasetPlan, name: str) -> bytes:
    return b'{"config":' + canonical_json(plan.config) + f',"{name}":'.encode()


def _rows_alone(version: Store, plan: DatasetPlan, name: str) -> bytes:
    return stored_list(version, plan, name)[len(_before_list(plan, name)) : -1]


def _rows_of(listed: bytes) -> list[list[str]]:
    try:
        with without_collection():
            rows = json.loads(listed)
    except (ValueError, RecursionError):  # a plan from elsewhere may name the digest of anything
        rows = None
    if not isinstance(rows, list):
        raise _another_list()
    return rows


def _another_list() -> DamagedObject:
    return DamagedObject(PICTURES_KEY, "is not the list that the build was planned with")

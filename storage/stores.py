"""Which store a place is."""

import os
from pathlib import Path

from storage.local_store import LocalStore
from storage.store import Store, place_of


def store_at(place: str | os.PathLike[str]) -> Store:
    """The store of a local folder or of ``s3://bucket/prefix``; nothing is read, and the folder need not be there."""
    where = place_of(place)
    if isinstance(where, Path):
        return LocalStore(where)
    from storage.object_store import ObjectStore  # here: needs the extra `s3`

    return ObjectStore(where)

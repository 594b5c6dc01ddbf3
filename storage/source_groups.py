"""Who is on a picture, as far as its source id and its labels tell: what a split must not tear apart."""

import hashlib
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence

from storage.file_names import view_of
from storage.folder_walk import composed
from storage.sources import SUBSETS

_HELEN_NUMBER = re.compile(r"HELEN_(\d+)(_|$)", re.ASCII)
_FIRST_HELEN_TEST_NUMBER = "296814969"
_NAMED_SET = re.compile(rf"({'|'.join(SUBSETS)})(_|$)", re.ASCII)


def photograph_of(source_id: str) -> str:
    """The photograph that a sample comes from, common to its turned views (``_0`` … ``_k``) and to their mirror images.

    ``HELEN_Flip/HELEN_232194_1_7`` and ``HELEN/HELEN_232194_1_0`` are both ``HELEN/HELEN_232194_1``. As
    :attr:`storage.sources.SourceItem.photograph`, read off the id alone. Ids that are no names of 300W-LP lose a number
    of two digits at their end: photographs of one series may be taken for one, and one is never taken for two.
    """
    folder, _, stem = source_id.rpartition("/")
    view = view_of(folder.rpartition("/")[2], stem)
    base = folder[: -len("_Flip")] if folder.lower().endswith("_flip") else folder
    return composed(f"{base}/{view.photograph}" if base else view.photograph)


def side_of_300w(source_id: str) -> str | None:
    """On which side of the 300W challenge a sample of 300W-LP lies: "train", "test", or None for other names.

    Training uses AFW and the training pictures of LFPW and HELEN; tests use LFPW's and HELEN's test pictures and IBUG.
    LFPW says so in its names (``LFPW_image_train_0001``, ``LFPW_image_test_0001``). HELEN does not: its 2,330 pictures,
    sorted by name **as text**, are 2,000 for training and then 330 for testing, of which ``296814969_3`` is the first.
    """
    folder, _, stem = photograph_of(source_id).rpartition("/")
    own_folder = folder.rpartition("/")[2].upper()
    found = _NAMED_SET.match(stem)
    subset = own_folder if own_folder in SUBSETS else found[1] if found else None
    if subset == "LFPW":
        return next((side for side in ("train", "test") if f"_image_{side}_" in stem), None)
    if subset == "HELEN":
        number = _HELEN_NUMBER.match(stem)
        return None if number is None else "test" if number[1] >= _FIRST_HELEN_TEST_NUMBER else "train"
    return {"AFW": "train", "IBUG": "test"}.get(subset or "")


def place_of_group(group: str, seed: int) -> float:
    """A number in [0, 1) that depends on the group's name and the seed alone, evenly spread over names."""
    digest = hashlib.sha256(f"facefoundry split\n{seed}\n{group}".encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56


def joined(keys_of_items: Iterable[Sequence[Hashable]]) -> list[int]:
    """For each item the number of its group: items that share a key, directly or through others, are one group.

    Groups are numbered by their first item. (Union by keys; Tarjan 1975 without ranks.)
    """
    parent: list[int] = []
    owner: dict[Hashable, int] = {}

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for item, keys in enumerate(keys_of_items):
        parent.append(item)
        for key in keys:
            a, b = root(item), root(owner.setdefault(key, item))
            parent[max(a, b)] = min(a, b)
    return [root(item) for item in range(len(parent))]


def in_pieces(n_items: int, piece: int) -> Iterator[range]:
    """The numbers 0 … n − 1 in ranges of at most `piece`."""
    return (range(start, min(start + piece, n_items)) for start in range(0, n_items, piece))

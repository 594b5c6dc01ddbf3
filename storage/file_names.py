"""What the names of 300W-LP say: which photograph, mirrored or not, and which of its synthesised views.

``AFW_Flip/AFW_134212_1_3.jpg`` is the fourth view (k = 3) of the mirror image of photograph ``AFW_134212_1``. In the
release the mirrored files keep their stems and lie in a twin folder; re-packings put ``_Flip`` into the stem, before or
after the view's number. Both are understood. Names of AFLW2000-3D (``image00050``) say none of this.
"""

import re
from dataclasses import dataclass
from pathlib import PurePath

_FLIP = "_flip"
_VIEW = re.compile(r"_(\d{1,2})$", re.ASCII)


@dataclass(frozen=True, slots=True)
class ViewName:
    """`photograph`: the stem without mirror and view number; `k` = 0: the photograph itself, 1, 2, …: turned views."""

    photograph: str
    is_flip: bool
    k: int


def view_of(folder: str, stem: str) -> ViewName:
    """Read a stem and the name of the folder it lies in."""
    is_flip = folder.lower().endswith(_FLIP)
    stem, marked_after = _without_flip(stem)
    number = _VIEW.search(stem)
    k = int(number[1]) if number and number.start() > 0 else 0
    if number and number.start() > 0:
        stem = stem[: number.start()]
    stem, marked_before = _without_flip(stem)
    return ViewName(stem, is_flip or marked_after or marked_before, k)


def view_of_path(path: str | PurePath) -> ViewName:
    """The same from a file's path."""
    path = PurePath(path)
    return view_of(path.parent.name, path.stem)


def _without_flip(stem: str) -> tuple[str, bool]:
    if stem.lower().endswith(_FLIP) and len(stem) > len(_FLIP):
        return stem[: -len(_FLIP)], True
    return stem, False

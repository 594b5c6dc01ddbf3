"""Folders that are drawn from a seed: begun under one marker, finished under another, never mixed, gone on with.

The marker holds the description of what is drawn, word for word. While the folder is being written it is called
``<kind>.unfinished.json``; when everything is there, ``<kind>.json``.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from storage.json_files import read_json_object
from storage.whole_files import write_atomically

DRAWN_LICENCE = "CC0-1.0 (drawn from the built-in model)"

_PHOTOGRAPH_LICENCE = "AFW/astronaut_0 and its mirror image: NASA, public domain"
_UNFINISHED = ".unfinished.json"
_DRAWN_FROM_SEEDS = {"sample": "seed", "people": "model_fingerprint"}  # kind: a field that its description has
_MOST_NAMED = 3
"""Differences of two descriptions that are named."""


def drawn_record(folder: Path) -> dict[str, object]:
    """The description of a folder of pictures that were drawn here, under its kind (sample, people); else nothing.

    Who is on such pictures is invented, so that :data:`DRAWN_LICENCE` holds for them. Another program's file of that name
    makes no claim.
    """
    for kind, field in _DRAWN_FROM_SEEDS.items():
        try:
            record = read_json_object(folder / f"{kind}.json")
        except ValueError:
            continue
        if record is not None and field in record:
            return {kind: record}
    return {}


def licence_of(folder: Path) -> str:
    """The terms of a folder's pictures: of drawn ones and of the sample's real photograph, else that its own apply."""
    record = drawn_record(folder)
    if not record:
        return "the source's own terms apply"
    sample = record.get("sample")
    has_photograph = isinstance(sample, dict) and sample.get("photograph")
    return f"{DRAWN_LICENCE}; {_PHOTOGRAPH_LICENCE}" if has_photograph else DRAWN_LICENCE


def unfinished_name(kind: str) -> str:
    """The marker of a folder that is being written, whatever writes it."""
    return f"{kind}{_UNFINISHED}"


def unfinished_marker(folder: Path) -> str | None:
    """The marker in a folder whose writer has not finished; None in all others."""
    return min((found.name for found in folder.glob(f"*{_UNFINISHED}")), default=None)


@dataclass(frozen=True, slots=True)
class DrawnFolder:
    """One folder and the description (`text`) of what shall lie in it; `kind` names it in files and sentences."""

    path: Path
    kind: str
    text: str

    @property
    def marker_name(self) -> str:
        """Of the finished folder's description."""
        return f"{self.kind}.json"

    @property
    def unfinished_name(self) -> str:
        """Of the description while files are still missing."""
        return unfinished_name(self.kind)

    def begin(self) -> bool:
        """Whether anything is left to do; the folder is made and marked if so.

        Raises ValueError where something else lies in it, or what another description has begun or finished.
        """
        if self._is_finished():
            return False
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / self.unfinished_name, self.text.encode())
        return True

    def finish(self) -> None:
        """Everything is there: take away what killed runs had in hand, and say so."""
        for pattern in ("*.partial", "*/*.partial"):
            for partial in self.path.glob(pattern):
                partial.unlink()
        os.replace(self.path / self.unfinished_name, self.path / self.marker_name)

    def _is_finished(self) -> bool:
        for name in (self.marker_name, self.unfinished_name):
            try:
                found = (self.path / name).read_text()
            except FileNotFoundError:
                continue
            if found != self.text:
                raise ValueError(
                    f"{self.path / name} describes another {self.kind} than the one asked for ({self._differences(found)}); "
                    "choose another folder, or remove this one"
                )
            return name == self.marker_name
        others = [path.name for path in self.path.glob("*") if not self._is_litter(path.name)]
        if others:
            raise ValueError(
                f"{self.path} is not empty and no {self.kind} set ({min(others)} lies in it, and neither "
                f"{self.marker_name} nor {self.unfinished_name} does), and nothing of it may be overwritten: "
                "give a new or empty folder"
            )
        return False

    def _differences(self, found: str) -> str:
        """Of a description that is not `text`, the lines that are not in it, and how many more there are."""
        asked = set(self.text.splitlines())
        lines = [line.strip(" ,") for line in found.splitlines() if line not in asked]
        more = f" and {len(lines) - _MOST_NAMED} more" if len(lines) > _MOST_NAMED else ""
        return "there " + ", ".join(lines[:_MOST_NAMED]) + more if lines else "there is less in it"

    def _is_litter(self, name: str) -> bool:
        """What systems leave in any folder, and what we leave when we are killed before the first marker stands."""
        return name.startswith(".") or (name.startswith(self.unfinished_name) and name.endswith(".partial"))

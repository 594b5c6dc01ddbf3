"""Folders of photographs with landmarks, or without: what there is to fit, in the same order on every disk.

A picture (``.jpg``, ``.jpeg``, ``.png``, at any depth) has its landmarks in a file of the same stem beside it
(:mod:`storage.landmark_files`), or in one table for the whole folder (:mod:`storage.landmark_tables`), which then is
the only place that is looked at. A picture without landmarks is left to the detector where one is wanted
(:mod:`storage.detector`), and listed as unusable otherwise. So is what stands in a table and not in the folder, a
``.pts`` or ``.mat`` without a picture (other JSON files may lie about), a second picture or landmark file of one stem,
and pictures in formats that are not read. Names, links and what is passed over: as for annotated folders
(:mod:`storage.sources`).

**Orientation.** Landmarks count the pixels of the picture as its file stores it, whatever EXIF's orientation says: the
published sets were annotated that way. Tools that turn pictures by EXIF before they place landmarks need the frame
"upright"; the picture is then turned, and what is made of it stands upright too. A detector always sees it upright.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from storage.annotations import SIDECAR_NAME
from storage.bad_sample import BadSample, Rejected
from storage.file_digests import file_digests
from storage.folder_walk import (
    IMAGE_SUFFIXES,
    FoundFolder,
    by_preference,
    composed,
    displayed,
    split_suffix,
    stems_of,
    walk_folders,
)
from storage.images import MAX_IMAGE_FILE_BYTES, decode_image, decode_photograph
from storage.landmark_files import LANDMARK_SUFFIXES, MAX_LANDMARK_FILE_BYTES
from storage.landmark_tables import TableRow

Frame = Literal["stored", "upright"]
Origin = Literal["pts", "json", "mat", "table", "detector"]
"""Where a face's landmarks come from."""

_UNREAD_SUFFIXES = ("heic", "heif", "avif", "webp", "tif", "tiff", "bmp", "gif")
_PASSED_OVER = frozenset(("__macosx",))


@dataclass(frozen=True, slots=True)
class Photograph:
    """One face of one photograph: its files, relative to the source's root and with ``/``.

    `landmarks` is the landmark file, "" for a table's row and for the detector; `face` tells apart the faces of one
    picture.
    """

    source_id: str
    image: str
    origin: Origin
    landmarks: str = ""
    face: str = ""


@dataclass(frozen=True, slots=True)
class PhotographSource:
    """A folder's photographs in the order of their ids, and what was left out."""

    root: Path
    items: tuple[Photograph, ...]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class PhotographFingerprint:
    """The sha256 of a photograph's files in hexadecimal; "" where there is no landmark file of its own."""

    image_sha256: str
    landmarks_sha256: str = ""


def open_photographs(
    path: str | os.PathLike[str], *, table: Sequence[TableRow] | None = None, detect: bool = False
) -> PhotographSource:
    """List a folder of photographs; with `detect`, those without landmarks are taken too.

    Raises FileNotFoundError or NotADirectoryError when there is no such folder, ValueError when nothing in it can be
    used.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist; give a folder of photographs")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder; give the folder that the photographs lie in")
    listing = _Listing(detect)
    suffixes = (*IMAGE_SUFFIXES, *_UNREAD_SUFFIXES, *(() if table is not None else LANDMARK_SUFFIXES))
    folders = walk_folders(root, suffixes=suffixes, reject=listing.reject, passed_over=_PASSED_OVER)
    if table is None:
        for folder in folders:
            listing.take_with_files_beside(folder)
    else:
        listing.take_table([name for folder in folders for name in listing.pictures(folder).values()], table)
    items = listing.without_doubles()
    rejected = tuple(sorted(listing.rejected, key=lambda r: (r.source_id, r.code, r.reason)))
    if not items:
        because = f" {rejected[0].source_id}: {rejected[0].reason}." if rejected else ""
        raise ValueError(
            f"{root} holds no photograph (.jpg, .png) with landmarks ({len(rejected)} files could not be used)."
            f"{because} Put .pts, .json or .mat files of the same names beside them, give a table, or use a detector"
        )
    return PhotographSource(root, tuple(items), rejected)


def fingerprint_photographs(source: PhotographSource) -> list[PhotographFingerprint | BadSample]:
    """The sha256 of every item's files, in order; a file that may not be read is a BadSample in its place."""
    limits = (MAX_IMAGE_FILE_BYTES, MAX_LANDMARK_FILE_BYTES)
    files = [
        [
            (os.path.join(source.root, name), limit)
            for name, limit in zip((item.image, item.landmarks), limits, strict=True)
            if name
        ]
        for item in source.items
    ]
    return [
        one if isinstance(one, BadSample) else PhotographFingerprint(*(sha256 for sha256, _ in one))
        for one in file_digests(files)
    ]


def decode_in_frame(data: bytes, frame: Frame) -> UInt8[np.ndarray, "h w 3"]:
    """The picture in the frame that its landmarks count pixels of. Raises BadSample."""
    return decode_photograph(data) if frame == "upright" else decode_image(data)


class _Listing:
    """What a walk over a folder has found so far."""

    def __init__(self, detect: bool) -> None:
        self.detect = detect
        self.items: list[Photograph] = []
        self.rejected: list[Rejected] = []
        self.refused_pictures: set[str] = set()

    def reject(self, name: str, code: str, reason: str) -> None:
        """Keep the reason why something was left out."""
        self.rejected.append(Rejected(displayed(name), code, displayed(reason)))

    def pictures(self, folder: FoundFolder) -> dict[str, str]:
        """The folder's pictures by their stems, as paths from the root: one for each stem."""
        self.refused_pictures.update(composed(folder.relative + name) for name in folder.refused)
        by_stem: dict[str, list[str]] = {}
        for name in folder.files:
            stem, suffix = split_suffix(name)
            if suffix in _UNREAD_SUFFIXES:
                sentence = f"a .{suffix} picture; only JPEG and PNG are read: convert it"
                self.reject(folder.relative + name, "image.format", sentence)
            elif suffix in IMAGE_SUFFIXES:
                by_stem.setdefault(stem, []).append(name)
        for stem, names in by_stem.items():
            first, *extras = by_preference(names)
            self._reject_extras(folder, first, extras)
            by_stem[stem] = [first]
        return {stem: folder.relative + first for stem, (first,) in by_stem.items()}

    def take_with_files_beside(self, folder: FoundFolder) -> None:
        """Take in the pictures of one folder, each with the landmark file of its stem."""
        # What was refused was told already; its other half lacks nothing that has not been named.
        refused_images = stems_of(folder.refused, (*IMAGE_SUFFIXES, *_UNREAD_SUFFIXES))
        refused_landmarks = stems_of(folder.refused, LANDMARK_SUFFIXES)
        beside: dict[str, list[str]] = {}
        for name in folder.files:
            stem, suffix = split_suffix(name)
            if suffix in LANDMARK_SUFFIXES and name != SIDECAR_NAME:
                beside.setdefault(stem, []).append(name)
        for stem, image in self.pictures(folder).items():
            names = sorted(beside.pop(stem, ()), key=lambda name: (_landmark_rank(name), name))
            if names:
                self._reject_extras(folder, names[0], names[1:])
                origin: Origin = LANDMARK_SUFFIXES[_landmark_rank(names[0])]
                self._add(folder.relative + stem, image, origin, landmarks=folder.relative + names[0])
            elif self.detect or stem not in refused_landmarks:
                self._add_without_landmarks(folder.relative + stem, image, "beside it")
        for stem, names in beside.items():
            for name in names:
                if split_suffix(name)[1] != "json" and stem not in refused_images:
                    self.reject(folder.relative + stem, "source.no_image", f"there is no {stem}.jpg beside {name}")

    def take_table(self, images: Sequence[str], table: Sequence[TableRow]) -> None:
        """Take in the pictures that a table names, and those that it does not."""
        by_name = {composed(image): image for image in images}
        named: set[tuple[str, str]] = set()
        for row in table:
            name = composed(row.path.removeprefix("./"))
            if (name, row.face) in named:
                self.reject(
                    _row_id(name, row.face), "source.duplicate", "the table names this face again; keep one row"
                )
                continue
            named.add((name, row.face))
            if isinstance(row.landmarks_px, BadSample):
                self.reject(_row_id(name, row.face), row.landmarks_px.code, row.landmarks_px.sentence)
            elif name in self.refused_pictures:  # told already
                continue
            elif name not in by_name:
                self.reject(
                    _row_id(name, row.face), "source.no_image", "the table names it, and there is no such picture"
                )
            else:
                self._add(_row_id(split_suffix(name)[0], row.face), by_name[name], "table", face=row.face)
        for name in sorted(by_name.keys() - {name for name, _ in named}):
            self._add_without_landmarks(split_suffix(name)[0], by_name[name], "in the table")

    def _add_without_landmarks(self, source_id: str, image: str, where: str) -> None:
        if self.detect:
            self._add(source_id, image, "detector")
        else:
            self.reject(
                source_id, "source.no_landmarks", f"there are no landmarks {where}; add them, or use a detector"
            )

    def _add(self, source_id: str, image: str, origin: Origin, *, landmarks: str = "", face: str = "") -> None:
        if not source_id.isprintable():
            reason = "the name holds control characters or is no Unicode; rename the files"
            self.reject(source_id, "source.name", reason)
            return
        self.items.append(Photograph(composed(source_id), image, origin, landmarks, face))

    def _reject_extras(self, folder: FoundFolder, first: str, extras: Sequence[str]) -> None:
        for extra in extras:
            self.reject(
                folder.relative + extra, "source.duplicate", f"{first} has the same stem and is taken; keep one of them"
            )

    def without_doubles(self) -> list[Photograph]:
        """The items in order, ids unique even where case does not count."""
        taken: dict[str, str] = {}
        unique = []
        for item in sorted(self.items, key=lambda item: (item.source_id, item.image)):
            first = taken.setdefault(item.source_id.casefold(), item.source_id)
            if first is not item.source_id:
                reason = f"on other systems its name is that of {first}, which is taken; rename one of them"
                self.reject(item.source_id, "source.duplicate", reason)
                continue
            unique.append(item)
        return unique


def _landmark_rank(name: str) -> int:
    return LANDMARK_SUFFIXES.index(split_suffix(name)[1])


def _row_id(name: str, face: str) -> str:
    return f"{name}_{face}" if face else name

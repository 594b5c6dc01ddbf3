"""Folders of annotated photographs: what is in them, in an order that does not depend on the disk.

A folder is 300W-LP (AFW, HELEN, LFPW, IBUG and their ``_Flip`` twins, at any depth, or the files of any of them flat)
or AFLW2000-3D (``image00002.jpg`` and so on). A sample is a picture and the ``.mat`` of the same stem beside it. What
cannot be one is listed with its reason and stops nothing; what has nothing to do with samples is not mentioned.

Names: a sample's id is its path from the root, with ``/``, without suffix, in Unicode's composed form (NFC), so that
the same set has the same ids whichever system unpacked it. Names that differ in case or composition alone would be one
file on other systems: the first in code-point order is taken, the others are listed. Of two pictures of one stem,
``.jpg`` goes before ``.jpeg`` before ``.png``. Links are never followed; folders ``landmarks`` and ``Code`` of the
releases are passed over.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from geometry.morphable_model import MorphableModel
from storage.annotations import SIDECAR_NAME, Kind, check_sidecar
from storage.bad_sample import BadSample, Rejected
from storage.file_names import view_of
from storage.images import MAX_IMAGE_FILE_BYTES
from storage.mat_child import MAX_FILE_BYTES
from storage.regular_files import read_regular_file

SUBSETS = ("AFW", "HELEN", "LFPW", "IBUG")
_IMAGE_SUFFIXES = ("jpg", "jpeg", "png")  # in the order of preference
_IGNORED_FOLDERS = frozenset(("landmarks", "code", "__macosx"))
_AFLW2000_STEM = re.compile(r"image\d{5}", re.ASCII)
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One picture and its annotation.

    `photograph` is common to all synthesised views of a photograph and to their mirror images: split training sets by
    it. `family` is common to the views that share one set of coefficients: mirrored ones, fitted anew, are a family of
    their own.
    """

    source_id: str
    folder: Path
    image_name: str
    annotation_name: str
    photograph: str
    family: str
    is_flip: bool
    k: int
    subset: str

    @property
    def image_path(self) -> Path:
        """Where the picture lies."""
        return self.folder / self.image_name

    @property
    def annotation_path(self) -> Path:
        """Where the annotation lies."""
        return self.folder / self.annotation_name

    def read_image(self) -> bytes:
        """The picture's bytes. Raises BadSample when it is no regular file or too large, OSError when unreadable."""
        return read_regular_file(self.image_path, limit_bytes=MAX_IMAGE_FILE_BYTES)

    def read_annotation(self) -> bytes:
        """The annotation's bytes, likewise."""
        return read_regular_file(self.annotation_path, limit_bytes=MAX_FILE_BYTES)


@dataclass(frozen=True, slots=True)
class Source:
    """A folder's samples, ordered by family and view, and what was left out."""

    root: Path
    kind: Kind
    items: tuple[SourceItem, ...]
    rejected: tuple[Rejected, ...]
    sidecar_folders: tuple[Path, ...]

    def check_model(self, model: MorphableModel) -> None:
        """Raise ValueError when a folder of this source says that its coefficients belong to another model."""
        for folder in self.sidecar_folders:
            check_sidecar(folder, model)


@dataclass(frozen=True, slots=True)
class SourceFingerprint:
    """The sha256 of a sample's two files, in hexadecimal."""

    image_sha256: str
    annotation_sha256: str


def open_source(path: str | os.PathLike[str]) -> Source:
    """List a folder of 300W-LP or AFLW2000-3D (or one written in 300W-LP's layout).

    Raises FileNotFoundError or NotADirectoryError when there is no such folder, ValueError when it holds no sample or
    both kinds.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(
            f"{root} does not exist; give the folder that holds AFW, HELEN, LFPW and IBUG, or AFLW2000"
        )
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder; unpack the archive and give the folder")
    listing = _Listing(root)
    listing.scan(str(root), "", 0)
    items = _without_doubles(listing)
    rejected = tuple(sorted(listing.rejected, key=lambda r: (r.source_id, r.code, r.reason)))
    if not items:
        because = f" {rejected[0].source_id}: {rejected[0].reason}." if rejected else ""
        raise ValueError(
            f"{root} holds no picture (.jpg, .png) with an annotation (.mat) of the same name beside it "
            f"({len(rejected)} files could not be used).{because} Give the folder that holds AFW, HELEN, LFPW and "
            "IBUG, or AFLW2000's pictures"
        )
    return Source(root, _kind(root, items), tuple(items), rejected, tuple(listing.sidecar_folders))


def fingerprint_sources(items: Sequence[SourceItem], *, threads: int = 4) -> list[SourceFingerprint | BadSample]:
    """The sha256 of every picture and annotation, in order; a file that may not be read is a BadSample in its place."""
    chunks = [items[start : start + 256] for start in range(0, len(items), 256)]
    with ThreadPoolExecutor(max_workers=threads) as pool:
        return [fingerprint for chunk in pool.map(_fingerprint_chunk, chunks) for fingerprint in chunk]


def _fingerprint_chunk(items: Sequence[SourceItem]) -> list[SourceFingerprint | BadSample]:
    fingerprints: list[SourceFingerprint | BadSample] = []
    for item in items:
        try:
            hashes = (hashlib.sha256(content).hexdigest() for content in (item.read_image(), item.read_annotation()))
            fingerprints.append(SourceFingerprint(*hashes))
        except BadSample as bad:
            fingerprints.append(bad)
    return fingerprints


class _Listing:
    """The walk over a folder, and what it has found so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.items: list[SourceItem] = []
        self.rejected: list[Rejected] = []
        self.sidecar_folders: list[Path] = []

    def scan(self, folder: str, relative: str, depth: int) -> None:
        """Take in `folder`, which is `relative` (with a slash at its end) to the root, and all below it."""
        images: dict[str, list[str]] = {}
        annotations: dict[str, str] = {}
        subfolders = []
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            name = entry.name
            if name.startswith("."):  # hidden files, and the doubles that macOS puts into archives
                continue
            stem, _, suffix = name.rpartition(".")
            suffix = suffix.lower()
            is_image = suffix in _IMAGE_SUFFIXES and stem
            if is_image or (suffix == "mat" and stem):
                if not entry.is_file(follow_symlinks=False):
                    self._refuse_special(entry, relative)
                elif is_image:
                    images.setdefault(stem, []).append(name)
                elif stem in annotations:  # x.mat and x.MAT
                    self._reject(
                        relative + name, "source.duplicate", f"{annotations[stem]} lies beside it; keep one of them"
                    )
                else:
                    annotations[stem] = name
            elif entry.is_dir(follow_symlinks=False):
                if name.lower() not in _IGNORED_FOLDERS:
                    subfolders.append(name)
            elif entry.is_symlink() and entry.is_dir():
                self._refuse_special(entry, relative)
            elif name == SIDECAR_NAME:
                self.sidecar_folders.append(Path(folder))
        self._pair(folder, relative, images, annotations)
        for name in subfolders:
            if depth == _MAX_DEPTH:
                self._reject(
                    relative + name, "source.depth", f"more than {_MAX_DEPTH} folders deep; give a folder nearer to it"
                )
            else:
                self.scan(f"{folder}/{name}", f"{relative}{name}/", depth + 1)

    def _pair(self, folder: str, relative: str, images: dict[str, list[str]], annotations: dict[str, str]) -> None:
        own_name = relative.rstrip("/").rpartition("/")[2]
        base = _without_flip(relative)
        parent = Path(folder)
        for stem, names in images.items():
            if len(names) > 1:
                names.sort(key=lambda name: (_IMAGE_SUFFIXES.index(name.rpartition(".")[2].lower()), name))
                for extra in names[1:]:
                    self._reject(
                        relative + extra, "source.duplicate", f"{names[0]} has the same stem and is taken; keep one"
                    )
            annotation = annotations.pop(stem, None)
            if annotation is None:
                self._reject(relative + stem, "source.no_annotation", f"there is no {stem}.mat beside {names[0]}")
                continue
            source_id = relative + stem
            if not source_id.isprintable():
                self._reject(
                    source_id, "source.name", "the name holds control characters or is no Unicode; rename both files"
                )
                continue
            view = view_of(own_name, stem)
            photograph = _composed(base + view.photograph)
            self.items.append(
                SourceItem(
                    source_id=_composed(source_id),
                    folder=parent,
                    image_name=names[0],
                    annotation_name=annotation,
                    photograph=photograph,
                    family=photograph + "_Flip" if view.is_flip else photograph,
                    is_flip=view.is_flip,
                    k=view.k,
                    subset=_subset(base, stem),
                )
            )
        for stem, name in annotations.items():
            self._reject(relative + stem, "source.no_image", f"there is no {stem}.jpg beside {name}")

    def _refuse_special(self, entry: os.DirEntry[str], relative: str) -> None:
        if entry.is_symlink():
            self._reject(
                relative + entry.name, "file.link", "a symbolic link; put the file or folder itself in its place"
            )
        elif entry.is_dir(follow_symlinks=False):
            self._reject(relative + entry.name, "file.not_regular", "a folder with the name of a file; rename it")
        else:
            self._reject(relative + entry.name, "file.not_regular", "a pipe, socket or device; remove it")

    def _reject(self, name: str, code: str, reason: str) -> None:
        self.rejected.append(Rejected(_displayed(name), code, _displayed(reason)))


def _without_doubles(listing: _Listing) -> list[SourceItem]:
    """The items in order of family and view, ids unique even where case and composition do not count."""
    taken: dict[str, str] = {}
    unique = []
    for item in sorted(listing.items, key=lambda item: (item.source_id, item.image_name)):
        first = taken.setdefault(_composed(item.source_id.casefold()), item.source_id)
        if first is not item.source_id:
            reason = f"on other systems its name is that of {first}, which is taken; rename one of them"
            listing.rejected.append(Rejected(item.source_id, "source.duplicate", reason))
            continue
        unique.append(item)
    return sorted(unique, key=lambda item: (item.family, item.k, item.source_id))


def _kind(root: Path, items: Sequence[SourceItem]) -> Kind:
    n_aflw = sum(_AFLW2000_STEM.fullmatch(item.source_id.rpartition("/")[2]) is not None for item in items)
    if n_aflw not in (0, len(items)):
        raise ValueError(
            f"{root} holds {n_aflw} pictures of AFLW2000-3D and {len(items) - n_aflw} others; the one is for "
            "evaluation and the other for training: give one of the two folders"
        )
    return "AFLW2000-3D" if n_aflw else "300W-LP"


def _subset(base: str, stem: str) -> str:
    """AFW, HELEN, LFPW or IBUG by the folder, else by the stem's beginning; for other sets the folder's own name."""
    folders = base.rstrip("/").split("/")
    for name in (folders[-1].upper(), stem.partition("_")[0].upper()):
        if name in SUBSETS:
            return name
    return _displayed(folders[-1])


def _without_flip(relative: str) -> str:
    return relative[: -len("_Flip/")] + "/" if relative.lower().endswith("_flip/") else relative


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _displayed(text: str) -> str:
    """Text that every file and terminal can hold: undecodable bytes and control characters by their escapes."""
    if text.isprintable():
        return _composed(text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

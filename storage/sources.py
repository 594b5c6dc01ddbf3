"""Folders of annotated photographs: what is in them, in an order that does not depend on the disk.

A folder is 300W-LP (AFW, HELEN, LFPW, IBUG and their ``_Flip`` twins, at any depth, or the files of any of them flat)
or AFLW2000-3D (``image00002.jpg`` and so on). A sample is a picture and the ``.mat`` of the same stem beside it. What
cannot be one is listed with its reason and stops nothing; what has nothing to do with samples is not mentioned.

A photograph of several people (``several_faces=True``) has an annotation for each: ``NAME.mat``, ``NAME.1.mat``,
``NAME.2.mat`` …, and may have the boxes of all faces that a detector saw, in ``NAME.faces.json`` or ``NAME.faces.csv``
(:mod:`storage.face_boxes`).

Names: a sample's id is its path from the root, with ``/``, without suffix, in Unicode's composed form (NFC), so that
the same set has the same ids whichever system unpacked it. Names that differ in case or composition alone would be one
file on other systems: the first in code-point order is taken, the others are listed. Of two pictures of one stem,
``.jpg`` goes before ``.jpeg`` before ``.png``. Links are never followed; folders ``landmarks`` and ``Code`` of the
releases are passed over.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geometry.morphable_model import MorphableModel
from storage.annotations import SIDECAR_NAME, Kind, check_sidecar
from storage.bad_sample import BadSample, Rejected
from storage.drawn_folder import unfinished_marker
from storage.file_digests import Digest, LimitedFile, file_digests
from storage.file_names import view_of
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
from storage.images import MAX_IMAGE_FILE_BYTES
from storage.mat_child import MAX_FILE_BYTES
from storage.regular_files import read_regular_file

SUBSETS = ("AFW", "HELEN", "LFPW", "IBUG")
_IGNORED_FOLDERS = frozenset(("landmarks", "code", "__macosx"))
_BOXES, _BOX_SUFFIXES = ".faces", ("csv", "json")
_FURTHER_FACE = re.compile(r"(?P<stem>.+)\.(?P<number>\d{1,3})", re.ASCII)
_AFLW2000_STEM = re.compile(r"image\d{5}", re.ASCII)


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
    other_names: tuple[str, ...] = ()
    """Of a photograph of several people: the annotations of the others, then the boxes of detected faces."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of its files, the picture first, its annotation second."""
        return tuple(self.folder / name for name in self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of :attr:`paths`."""
        return (self.image_name, self.annotation_name, *self.other_names)

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
        return self._read(self.image_name, MAX_IMAGE_FILE_BYTES)

    def read_annotation(self) -> bytes:
        """The annotation's bytes, likewise."""
        return self._read(self.annotation_name, MAX_FILE_BYTES)

    @property
    def limited_files(self) -> list[LimitedFile]:
        """:attr:`paths` with the most bytes that each may have."""
        limits = (MAX_IMAGE_FILE_BYTES, *[MAX_FILE_BYTES] * (1 + len(self.other_names)))
        return [(os.path.join(self.folder, name), limit) for name, limit in zip(self.names, limits, strict=True)]

    def _read(self, name: str, limit_bytes: int) -> bytes:
        return read_regular_file(os.path.join(self.folder, name), limit_bytes=limit_bytes)


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
        check_sidecars(self.sidecar_folders, model)


def check_sidecars(folders: Sequence[Path], model: MorphableModel) -> None:
    """Raise ValueError when one of these folders says that its coefficients belong to another model."""
    for folder in folders:
        check_sidecar(folder, model)


@dataclass(frozen=True, slots=True)
class SourceFingerprint:
    """The sha256 of a sample's files, in hexadecimal."""

    image_sha256: str
    annotation_sha256: str
    other_sha256: tuple[str, ...] = ()
    n_bytes: tuple[int, ...] = field(default=(), compare=False)
    """The files' lengths."""

    @classmethod
    def of(cls, digests: Sequence[Digest]) -> "SourceFingerprint":
        """That of the files with these digests."""
        (image, annotation, *others), n_bytes = zip(*digests, strict=True)
        return cls(image, annotation, tuple(others), n_bytes)

    @property
    def sha256(self) -> tuple[str, ...]:
        """Those of :attr:`SourceItem.paths`, in that order."""
        return (self.image_sha256, self.annotation_sha256, *self.other_sha256)


def open_source(path: str | os.PathLike[str], *, several_faces: bool = False) -> Source:
    """List a folder of 300W-LP or AFLW2000-3D (or one written in 300W-LP's layout).

    With `several_faces` a photograph's further annotations and boxes belong to it (:attr:`SourceItem.other_names`);
    without, they are annotations without a picture.
    Raises FileNotFoundError or NotADirectoryError when there is no such folder, ValueError when it holds no sample or
    both kinds, or when what draws it has not finished.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(
            f"{root} does not exist; give the folder that holds AFW, HELEN, LFPW and IBUG, or AFLW2000"
        )
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder; unpack the archive and give the folder")
    if unfinished := unfinished_marker(root):
        raise ValueError(f"{root} is not finished ({unfinished} lies in it): start again what writes it, and then this")
    listing = _Listing(several_faces)
    suffixes = (*IMAGE_SUFFIXES, "mat", *(_BOX_SUFFIXES if several_faces else ()))
    for folder in walk_folders(root, suffixes=suffixes, reject=listing.reject, passed_over=_IGNORED_FOLDERS):
        listing.take(folder)
    items = _without_doubles(listing)
    rejected = tuple(sorted(listing.rejected, key=lambda r: (r.source_id, r.code, r.reason)))
    if not items:
        because = f" {rejected[0].source_id}: {rejected[0].reason}." if rejected else ""
        raise ValueError(
            f"{root} holds no picture (.jpg, .png) with an annotation (.mat) of the same name beside it "
            f"({len(rejected)} files could not be used).{because} Give the folder that holds AFW, HELEN, LFPW and "
            "IBUG, or AFLW2000's pictures; photographs with landmarks alone are fitted first: `facefoundry fit-landmarks`"
        )
    return Source(root, _kind(root, items), tuple(items), rejected, tuple(listing.sidecar_folders))


def fingerprint_sources(
    items: Sequence[SourceItem], *, processes: int | None = None
) -> list[SourceFingerprint | BadSample]:
    """The sha256 of every sample's files, in order; a file that may not be read is a BadSample in its place.

    `processes` and what is raised: as of :func:`storage.file_digests.file_digests`.
    """
    found = file_digests([item.limited_files for item in items], processes=processes)
    return [one if isinstance(one, BadSample) else SourceFingerprint.of(one) for one in found]


class _Listing:
    """What a walk over a folder has found so far."""

    def __init__(self, several_faces: bool = False) -> None:
        self._several_faces = several_faces
        self.items: list[SourceItem] = []
        self.rejected: list[Rejected] = []
        self.sidecar_folders: list[Path] = []

    def take(self, folder: FoundFolder) -> None:
        """Take in the files of one folder."""
        images: dict[str, list[str]] = {}
        annotations: dict[str, str] = {}
        boxes: dict[str, list[str]] = {}
        for name in folder.files:
            stem, suffix = split_suffix(name)
            if suffix in _BOX_SUFFIXES:
                if stem.lower().endswith(_BOXES):
                    boxes.setdefault(stem[: -len(_BOXES)], []).append(name)
            elif suffix != "mat":
                images.setdefault(stem, []).append(name)
            elif stem in annotations:  # x.mat and x.MAT
                reason = f"{annotations[stem]} lies beside it; keep one of them"
                self.reject(folder.relative + name, "source.duplicate", reason)
            else:
                annotations[stem] = name
        if SIDECAR_NAME in folder.other_names or SIDECAR_NAME in folder.files:
            self.sidecar_folders.append(folder.path)
        others = self._others(folder, images, annotations, boxes) if self._several_faces else {}
        self._pair(folder, images, annotations, others)

    def _others(
        self,
        folder: FoundFolder,
        images: dict[str, list[str]],
        annotations: dict[str, str],
        boxes: dict[str, list[str]],
    ) -> dict[str, tuple[str, ...]]:
        """The further files of each photograph, by its stem; they are taken out of `annotations`."""
        faces: dict[str, dict[int, str]] = {}
        for stem in tuple(annotations):
            numbered = _FURTHER_FACE.fullmatch(stem)
            if numbered and numbered["stem"] in images and stem not in images:
                number, name = int(numbered["number"]), annotations.pop(stem)
                first = faces.setdefault(numbered["stem"], {}).setdefault(number, name)
                if first is not name:  # x.1.mat and x.01.mat
                    self.reject(folder.relative + name, "source.duplicate", f"{first} is the same face's; keep one")
        others = {stem: tuple(name for _, name in sorted(found.items())) for stem, found in faces.items()}
        for stem, names in boxes.items():
            for extra in sorted(names)[1:]:
                self.reject(folder.relative + extra, "source.duplicate", f"{min(names)} lies beside it; keep one")
            if stem in images:
                others[stem] = (*others.get(stem, ()), min(names))
            else:
                self.reject(folder.relative + min(names), "source.no_image", f"there is no {stem}.jpg beside it")
        return others

    def reject(self, name: str, code: str, reason: str) -> None:
        """Keep the reason why something was left out."""
        self.rejected.append(Rejected(displayed(name), code, displayed(reason)))

    def _pair(
        self,
        folder: FoundFolder,
        images: dict[str, list[str]],
        annotations: dict[str, str],
        others: dict[str, tuple[str, ...]],
    ) -> None:
        relative = folder.relative
        # What was refused was told already; its other half lacks nothing that has not been named.
        refused_images = stems_of(folder.refused, IMAGE_SUFFIXES)
        refused_annotations = stems_of(folder.refused, ("mat",))
        own_name = relative.rstrip("/").rpartition("/")[2]
        base = _without_flip(relative)
        for stem, names in images.items():
            if len(names) > 1:
                names = by_preference(names)
                for extra in names[1:]:
                    self.reject(
                        relative + extra, "source.duplicate", f"{names[0]} has the same stem and is taken; keep one"
                    )
            annotation = annotations.pop(stem, None)
            if annotation is None:
                if stem not in refused_annotations:
                    self.reject(relative + stem, "source.no_annotation", f"there is no {stem}.mat beside {names[0]}")
                continue
            source_id = relative + stem
            if not source_id.isprintable():
                self.reject(
                    source_id, "source.name", "the name holds control characters or is no Unicode; rename both files"
                )
                continue
            view = view_of(own_name, stem)
            photograph = composed(base + view.photograph)
            self.items.append(
                SourceItem(
                    source_id=composed(source_id),
                    folder=folder.path,
                    image_name=names[0],
                    annotation_name=annotation,
                    photograph=photograph,
                    family=photograph + "_Flip" if view.is_flip else photograph,
                    is_flip=view.is_flip,
                    k=view.k,
                    subset=_subset(base, stem),
                    other_names=others.get(stem, ()),
                )
            )
        for stem, name in annotations.items():
            if stem not in refused_images:
                self.reject(relative + stem, "source.no_image", f"there is no {stem}.jpg beside {name}")


def _without_doubles(listing: _Listing) -> list[SourceItem]:
    """The items in order of family and view, ids unique even where case and composition do not count."""
    taken: dict[str, str] = {}
    unique = []
    for item in sorted(listing.items, key=lambda item: (item.source_id, item.image_name)):
        first = taken.setdefault(composed(item.source_id.casefold()), item.source_id)
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
    return displayed(folders[-1])


def _without_flip(relative: str) -> str:
    return relative[: -len("_Flip/")] + "/" if relative.lower().endswith("_flip/") else relative

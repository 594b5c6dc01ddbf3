"""Walking through a stranger's folder: the same order on every disk, links never followed, what is left out said.

Hidden names (and the doubles that macOS puts into archives) are passed over. A link, a pipe or a folder in the place of
a file that was looked for is told to `reject`, with a code and a reason; so is what lies too deep.
"""

import os
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = ("jpg", "jpeg", "png")
"""What a picture's name ends in, in the order of preference."""

_MAX_DEPTH = 8

Reject = Callable[[str, str, str], None]
"""``reject(name, code, reason)``: a file or folder, by its path from the root, cannot be used."""


@dataclass(frozen=True, slots=True)
class FoundFolder:
    """One folder: its path, the same relative to the root ("" or with a slash at its end), and what lies in it."""

    path: Path
    relative: str
    files: tuple[str, ...]
    """Regular files whose suffix was looked for, in code-point order."""
    refused: tuple[str, ...]
    """Names whose suffix was looked for, told to `reject`, since no regular file bears them."""
    other_names: frozenset[str]
    """Everything else but folders."""


def walk_folders(
    root: Path, *, suffixes: Collection[str], reject: Reject, passed_over: Collection[str] = ()
) -> Iterator[FoundFolder]:
    """Every folder from `root` down that is not `passed_over` (lower case), its own files before its subfolders."""
    return _walk(str(root), "", 0, frozenset(suffixes), reject, frozenset(passed_over))


def _walk(
    folder: str, relative: str, depth: int, suffixes: frozenset[str], reject: Reject, passed_over: frozenset[str]
) -> Iterator[FoundFolder]:
    files, refused, subfolders, others = [], [], [], []
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = entry.name
        if name.startswith("."):
            continue
        stem, _, suffix = name.rpartition(".")
        if stem and suffix.lower() in suffixes:
            if entry.is_file(follow_symlinks=False):
                files.append(name)
            else:
                refused.append(name)
                _refuse(entry, relative, reject)
        elif entry.is_dir(follow_symlinks=False):
            if name.lower() not in passed_over:
                subfolders.append(name)
        elif entry.is_symlink() and entry.is_dir():
            _refuse(entry, relative, reject)
        else:
            others.append(name)
    yield FoundFolder(Path(folder), relative, tuple(files), tuple(refused), frozenset(others))
    for name in subfolders:
        if depth == _MAX_DEPTH:
            reject(relative + name, "source.depth", f"more than {_MAX_DEPTH} folders deep; give a folder nearer to it")
        else:
            yield from _walk(f"{folder}/{name}", f"{relative}{name}/", depth + 1, suffixes, reject, passed_over)


def _refuse(entry: os.DirEntry[str], relative: str, reject: Reject) -> None:
    if entry.is_symlink():
        reject(relative + entry.name, "file.link", "a symbolic link; put the file or folder itself in its place")
    elif entry.is_dir(follow_symlinks=False):
        reject(relative + entry.name, "file.not_regular", "a folder with the name of a file; rename it")
    else:
        reject(relative + entry.name, "file.not_regular", "a pipe, socket or device; remove it")


def stems_of(names: Collection[str], suffixes: Collection[str]) -> frozenset[str]:
    """The stems of those names that have one of the suffixes."""
    return frozenset(stem for stem, suffix in map(split_suffix, names) if suffix in suffixes)


def split_suffix(name: str) -> tuple[str, str]:
    """A file's stem, and its suffix in lower case without the dot."""
    stem, _, suffix = name.rpartition(".")
    return stem, suffix.lower()


def by_preference(names: Collection[str]) -> list[str]:
    """Pictures of one stem, the one to take first."""
    return sorted(names, key=lambda name: (IMAGE_SUFFIXES.index(split_suffix(name)[1]), name))


def composed(text: str) -> str:
    """Unicode's composed form (NFC), which is the same whichever system unpacked the files."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def displayed(text: str) -> str:
    """Text that every file and terminal can hold: undecodable bytes and control characters by their escapes."""
    if text.isprintable():
        return composed(text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

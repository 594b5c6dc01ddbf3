"""Landmarks from files: 300W's ``.pts``, MATLAB's ``.mat`` and JSON, one face in a file.

What leaves here are true pixels of the picture as its file stores it (EXIF's orientation not applied), x right, y down,
integers at pixel centres, first pixel (0, 0); a missing point is NaN.

=========  =========================================================================================================
``.pts``   300W, Menpo, XM2VTS: ``version: 1``, ``n_points: 68`` and the points in braces, one to a line. MATLAB's
           pixels, **counted from one**: one is subtracted from both coordinates.
``.mat``   as 300W-LP and AFLW2000-3D store them (`pt2d`, `pt3d_68`), counted from one too; the names of ``*_Flip``
           and ``_k`` files mean what they mean there (:mod:`storage.annotations`). Read in the limited child process.
           AFLW's 21 points have −1 where invisible.
``.json``  ``{"landmarks_px": [[x, y], …]}``, other keys as you like, or the list alone; **counted from zero**; null
           (for a point or a coordinate) is a missing point.
=========  =========================================================================================================

Tables of many faces: :mod:`storage.landmark_tables`.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from geometry.landmarks import N_LANDMARKS, SCHEMES, visible_only
from storage.annotations import landmarks_from_variables
from storage.bad_sample import BadSample
from storage.file_names import view_of_path
from storage.folder_walk import split_suffix
from storage.mat_child import MAX_FILE_BYTES
from storage.mat_reader import MatReader, Variables, read_mat
from storage.regular_files import read_regular_file
from storage.whole_files import write_atomically

LandmarkSuffix = Literal["pts", "json", "mat"]
LANDMARK_SUFFIXES: tuple[LandmarkSuffix, ...] = ("pts", "json", "mat")
"""What a landmark file's name ends in, in the order of preference."""

MAX_LANDMARK_FILE_BYTES = MAX_FILE_BYTES
FARTHEST_PX = 1e6

_N_AFLW = len(SCHEMES["aflw-21"])

Landmarks = Float[np.ndarray, "p 2"]


def read_landmarks(path: str | os.PathLike[str], *, n_points: int = N_LANDMARKS) -> Float[np.ndarray, "p 2"]:
    """The landmarks of one file, which must have just `n_points` of them (missing ones are NaN).

    Raises BadSample for a file that is damaged or of another kind, OSError when it cannot be read at all.
    """
    path = Path(path)
    try:
        content = read_regular_file(path, limit_bytes=MAX_LANDMARK_FILE_BYTES, follow_links=True)
        if split_suffix(path.name)[1] == "mat":
            return _landmarks_of_mat(read_mat(content), path, n_points)
        return _parsed(path, content, n_points)
    except BadSample as bad:
        raise bad.about(path) from None


def landmarks_from_files(
    names: Sequence[str | os.PathLike[str]], contents: Sequence[bytes], *, n_points: int, reader: MatReader
) -> list[Landmarks | BadSample]:
    """The same of many files' bytes, in order; `reader` opens the MATLAB files. Bad ones stay values."""
    are_mat = [split_suffix(Path(name).name)[1] == "mat" for name in names]
    answers = iter(reader.read_many([content for content, is_mat in zip(contents, are_mat, strict=True) if is_mat]))
    found: list[Landmarks | BadSample] = []
    for name, content, is_mat in zip(names, contents, are_mat, strict=True):
        try:
            if is_mat:
                answer = next(answers)
                found.append(
                    answer if isinstance(answer, BadSample) else _landmarks_of_mat(answer, Path(name), n_points)
                )
            else:
                found.append(_parsed(Path(name), content, n_points))
        except BadSample as bad:
            found.append(bad)
    return found


def checked_landmarks(points: Float[np.ndarray, "q 2"], n_points: int) -> Float[np.ndarray, "p 2"]:
    """The points, a half missing one missing wholly. Raises BadSample for another number, infinity, and none at all."""
    if len(points) != n_points:
        raise BadSample(
            "landmarks.count", f"{len(points)} points where {n_points} are expected{_scheme_of(len(points))}"
        )
    if (np.abs(points) > FARTHEST_PX).any():
        worst = points[np.unravel_index(np.nanargmax(np.abs(points)), points.shape)]
        raise BadSample(
            "landmarks.range", f"a coordinate is {worst:g}, more than a million pixels away; leave missing points empty"
        )
    missing = np.isnan(points).any(axis=1)
    if missing.all():
        raise BadSample("landmarks.unknown", "the file gives none of the points; leave it out, or let a detector look")
    return np.where(missing[:, None], np.nan, points)


def _scheme_of(n_points: int) -> str:
    names = [scheme.name for scheme in SCHEMES.values() if len(scheme) == n_points]
    if names:
        return f"; if these are the {n_points} of {names[0]}, say so as the scheme"
    return "; a point that is not known is written as missing, never left out, because its place is its name"


def _parsed(path: Path, content: bytes, n_points: int) -> Landmarks:
    match split_suffix(path.name)[1]:
        case "pts":
            return checked_landmarks(_points_of_pts(_text(content, "pts")), n_points)
        case "json":
            return checked_landmarks(points_of_json(_loaded(_text(content, "json"))), n_points)
        case suffix:
            raise BadSample("landmarks.format", f"a .{suffix} file holds no landmarks; .pts, .json and .mat are read")


def _text(content: bytes, kind: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSample(f"{kind}.text", f"byte {error.start} is no text (UTF-8): this is no .{kind} file") from None


# --------------------------------------------------------------------------------------------------------- .pts


def _points_of_pts(text: str) -> Float[np.ndarray, "q 2"]:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("//")]
    if "{" not in lines or not lines[0].lower().startswith("version"):
        begin = text[:24]
        raise BadSample(
            "pts.header", f"the file begins with {begin!r}; a .pts file says version, n_points and {{ first"
        )
    first = lines.index("{") + 1
    announced = _announced_points(lines[: first - 1])
    if "}" not in lines[first:]:
        raise BadSample("pts.truncated", f"the file ends after {len(lines) - first} points without }}; copy it again")
    rows = lines[first : lines.index("}", first)]
    if len(rows) != announced:
        raise BadSample(
            "pts.truncated", f"the header announces {announced} points and {len(rows)} follow; copy it again"
        )
    return np.array([_two_numbers(row, number) for number, row in enumerate(rows, 1)]).reshape(-1, 2) - 1.0


def _announced_points(header: Sequence[str]) -> int:
    for line in header:
        key, _, value = line.partition(":")
        if key.strip().lower() == "n_points" and value.strip().isdecimal() and len(value) < 12:
            return int(value)
    raise BadSample("pts.header", "the header does not say n_points: and a number; write it as 300W does")


def _two_numbers(row: str, number: int) -> tuple[float, float]:
    try:
        x, y = map(float, row.split())
    except ValueError:
        raise BadSample("pts.number", f"point {number} reads {row[:40]!r}; two numbers are expected") from None
    return x, y


# -------------------------------------------------------------------------------------------------------- JSON


def _loaded(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadSample("json.syntax", f"not JSON ({type(error).__name__}: {error}); write it again") from None


def points_of_json(content: object) -> Float[np.ndarray, "q 2"]:
    """The points of a parsed JSON file, or of one entry of a JSON table. Raises BadSample."""
    points = content.get("landmarks_px") if isinstance(content, dict) else content
    if not isinstance(points, list):
        keys = f" but {', '.join(sorted(map(str, content)))[:80]}" if isinstance(content, dict) else ""
        raise BadSample(
            "json.shape",
            f'there is no list "landmarks_px"{keys}; write [[x, y], …], x before y, counted from zero '
            "(menpo's .ljson stores y before x)",
        )
    return np.array([_point(point, place) for place, point in enumerate(points)]).reshape(-1, 2)


def _point(point: object, place: int) -> tuple[float, float]:
    if point is None:
        return np.nan, np.nan
    if isinstance(point, list) and len(point) == 2 and all(_is_number(value) for value in point):
        try:
            x, y = (np.nan if value is None else float(value) for value in point)
        except OverflowError:  # an integer of hundreds of digits
            x, y = np.inf, np.inf
        return x, y
    raise BadSample("json.shape", f"point {place} (from 0) is {str(point)[:40]}; [x, y] or null is expected")


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


# -------------------------------------------------------------------------------------------------------- .mat


def _landmarks_of_mat(variables: Variables, path: Path, n_points: int) -> Landmarks:
    if n_points == _N_AFLW and "pt2d" in variables:
        return _aflw_points(variables["pt2d"])
    _, points = landmarks_from_variables(variables, view_of_path(path))
    if not np.isfinite(points[:, :2]).any():
        raise BadSample(
            "landmarks.unknown",
            "the file gives no landmarks of its own: it has none of the 68, or belongs to a turned view "
            "(_1, _2, …), whose pt2d is the _0 file's",
        )
    return checked_landmarks(points[:, :2], n_points)


def _aflw_points(pt2d: np.ndarray) -> Landmarks:
    if pt2d.shape != (2, _N_AFLW):
        raise BadSample("mat.shape", f"pt2d is {pt2d.shape[0]}×{pt2d.shape[1]} where 2×{_N_AFLW} is expected")
    points = pt2d.T.astype(np.float64)
    if not np.isfinite(points).all():
        raise BadSample("param.nonfinite", "pt2d holds NaN or infinity; invisible points are −1 in AFLW's files")
    return checked_landmarks(visible_only(points) - 1.0, _N_AFLW)


# ------------------------------------------------------------------------------------------------------- writing


def write_pts(path: str | os.PathLike[str], landmarks_px: Float[np.ndarray, "p 2"]) -> None:
    """Write points (pixels counted from zero, NaN: missing) as 300W does, counted from one."""
    rows = "".join(f"{x:.6f} {y:.6f}\n" for x, y in (landmarks_px + 1.0).tolist())
    write_atomically(Path(path), f"version: 1\nn_points: {len(landmarks_px)}\n{{\n{rows}}}\n".encode())

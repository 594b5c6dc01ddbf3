"""Test photographs with their true points: AFLW2000-3D, 300W and Menpo as they are on disk, and one table for everything else.

All give :class:`EvaluationFace` in pixels of the picture as its file stores it, counted from zero. What cannot be used is
listed with its reason; a file that misses is never an easier test.

**The table** (CSV or Parquet, for 3DFAW, AFLW-LFPA, 300VW, ears and one's own) has a row for each face, or for each point:

==========================  ========================================================================================
``path``                    the picture, relative to the folder that is given with the table, with ``/``
``x0, y0[, z0][, v0], …``   a row for a face: its points, counted from zero; ``z`` toward the viewer, in the same pixels;
                            ``v`` is 0 for a point that is not to be measured. An empty cell is a point that is not known
``point, x, y[, z][, v]``   a row for each point instead; points that are left out are not known
``left, top, right, bottom``  the face's box, if the set comes with boxes (see :mod:`storage.evaluation_boxes`)
``face``                    which face of the picture, where it shows several
``video, frame``            of tracking: the video's name, and the frame's number in it
``subject``                 who it is: views of one subject are held against each other (CVGTCE)
``yaw``                     degrees; for yaw bins
==========================  ========================================================================================

Columns may stand in any order and may be missing, but for the path and the points; others are ignored.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from geometry.landmarks import N_LANDMARKS
from geometry.rotation import yaw_from_rotation
from storage.annotations import Annotation, annotations_from_variables
from storage.bad_sample import BadSample, Rejected
from storage.file_names import view_of_path
from storage.images import MAX_IMAGE_FILE_BYTES, decode_image
from storage.landmark_files import read_landmarks
from storage.landmark_tables import read_table_rows
from storage.mat_reader import MatReader, Variables
from storage.photographs import open_photographs
from storage.regular_files import read_regular_file
from storage.sources import open_source

Subset = Literal["common", "challenging", "full", "private", "menpo", "all"]

EXPECTED_FACES = {"common": 554, "challenging": 135, "full": 689, "private": 600}
"""Photographs in the subsets of 300W (Kowalski et al. 2017, section 4)."""

AFLW2000_FACES = 2000
_BOX = ("left", "top", "right", "bottom")
_POINT_COLUMN = re.compile(r"([xyzv])_?(\d{1,5})", re.ASCII)
_AFLW_POINTS = 21


@dataclass(frozen=True, slots=True)
class EvaluationFace:
    """One face and what is true of it. Pixels of the picture as its file stores it; NaN is not known.

    points_px     (p 3) x, y, z; z is NaN where the truth is flat
    visible       (p) the points to be measured
    yaw_deg       by the source of the pose that the set itself has; `label_yaw_deg` by AFLW's label, where given
    aflw_px       (21 2) AFLW's own points, of AFLW2000-3D alone; NaN where invisible
    annotation    the fit that the points come from, of AFLW2000-3D alone
    """

    source_id: str
    picture: Path
    points_px: Float[np.ndarray, "p 3"]
    visible: Bool[np.ndarray, " p"]
    box_px: Float[np.ndarray, "4"] | None = None
    yaw_deg: float = float("nan")
    label_yaw_deg: float = float("nan")
    subject: str = ""
    video: str = ""
    frame: int = 0
    aflw_px: Float[np.ndarray, "21 2"] | None = None
    annotation: Annotation | None = None

    def read_picture(self) -> UInt8[np.ndarray, "h w 3"]:
        """The picture as its file stores it. Raises BadSample."""
        return decode_image(read_regular_file(self.picture, limit_bytes=MAX_IMAGE_FILE_BYTES, follow_links=True))


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Faces to be evaluated on, all with points of one kind.

    notes   what is to be said beside every result: faces that are not there, yaw that is not known
    """

    name: str
    faces: tuple[EvaluationFace, ...]
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()
    photographs: frozenset[str] = field(default=frozenset())
    """The test's photographs under the names that training sets give them; see :func:`names_in_training`."""

    @property
    def n_points(self) -> int:
        """Points of every face."""
        return len(self.faces[0].points_px)

    @property
    def has_depth(self) -> bool:
        """Whether every measured point has a depth."""
        return all(np.isfinite(face.points_px[face.visible]).all() for face in self.faces)


def open_aflw2000(folder: str | Path, *, label_yaw: str | Path | None = None) -> EvaluationSet:
    """AFLW2000-3D as it is on disk: ``image00002.jpg`` and its ``.mat``; the 68 points of the fit, x, y and z.

    `label_yaw` is a table (CSV or Parquet) with columns ``path`` and ``yaw``, AFLW's label in degrees, for the second way to
    make yaw bins. Raises ValueError for a folder without such files, FileNotFoundError.
    """
    source = open_source(folder)
    labels = {} if label_yaw is None else _yaw_table(Path(label_yaw))
    rejected = list(source.rejected)
    faces: list[EvaluationFace] = []
    with MatReader() as reader:
        answers = reader.read_many([item.read_annotation() for item in source.items])
    annotations = annotations_from_variables(answers, views=[view_of_path(i.annotation_path) for i in source.items])
    for item, answer, annotation in zip(source.items, answers, annotations, strict=True):
        if isinstance(annotation, BadSample) or isinstance(answer, BadSample):
            bad = annotation if isinstance(annotation, BadSample) else answer
            assert isinstance(bad, BadSample)
            rejected.append(Rejected.because(item.source_id, bad))
            continue
        points = annotation.landmarks_px
        if not np.isfinite(points).all():
            reason = "the file has no pt3d_68, so that nothing is known of z; is it of AFLW2000-3D?"
            rejected.append(Rejected(item.source_id, "landmarks.unknown", reason))
            continue
        faces.append(
            EvaluationFace(
                source_id=item.source_id,
                picture=item.image_path,
                points_px=points,
                visible=np.ones(N_LANDMARKS, dtype=bool),
                yaw_deg=float(np.degrees(yaw_from_rotation(annotation.camera.rotation))),
                label_yaw_deg=labels.get(item.source_id.rpartition("/")[2], float("nan")),
                aflw_px=_aflw(answer),
                annotation=annotation,
            )
        )
    notes = _missing("AFLW2000-3D", len(faces), AFLW2000_FACES)
    return _whole("AFLW2000-3D", folder, faces, rejected, notes)


def open_300w(folder: str | Path, subset: Subset = "full") -> EvaluationSet:
    """300W or Menpo: pictures with ``.pts`` files, in the folders of the release.

    common: ``helen/testset`` and ``lfpw/testset``. challenging: ``ibug``. full: both. private: ``01_Indoor`` and
    ``02_Outdoor``. menpo and all: whatever there is with 68 points (Menpo's profiles have 39 and are listed as unusable).
    Raises ValueError when nothing of the subset is there.
    """
    source = open_photographs(folder)
    rejected = list(source.rejected)
    faces = []
    for item in source.items:
        if not _belongs(item.source_id, subset):
            continue
        try:
            points = read_landmarks(source.root / (item.landmarks or item.image))
        except BadSample as bad:
            rejected.append(Rejected.because(item.source_id, bad))
            continue
        visible = np.isfinite(points).all(axis=1)
        flat = np.column_stack([points, np.full(len(points), np.nan)])
        faces.append(EvaluationFace(item.source_id, source.root / item.image, flat, visible))
    name = "Menpo" if subset == "menpo" else f"300W {subset}" if subset != "all" else Path(folder).name
    expected = EXPECTED_FACES.get(subset)
    notes = () if expected is None else _missing(name, len(faces), expected)
    return _whole(name, folder, faces, rejected, notes)


def open_table(table: str | Path, folder: str | Path, *, name: str | None = None) -> EvaluationSet:
    """The table of this module's first lines, with the folder that its paths count from.

    Raises ValueError for a file that is no such table, FileNotFoundError.
    """
    table, folder = Path(table), Path(folder)
    header, rows = read_table_rows(table)
    columns = {column.strip().lower(): place for place, column in enumerate(header)}
    if "path" not in columns:
        raise ValueError(f"{table} has no column path; its columns are {', '.join(header)[:200]!r}")
    faces: dict[tuple[str, str], EvaluationFace] = {}
    rejected: dict[str, Rejected] = {}
    is_long = {"point", "x", "y"} <= columns.keys()
    places = {} if is_long else _wide_columns(columns, table)
    points: dict[tuple[str, str], dict[int, tuple[float, float, float, bool]]] = {}
    for number, row in enumerate(rows, 1):
        if isinstance(row, BadSample):
            rejected[f"row {number}"] = Rejected.because(f"row {number}", row)
            continue
        key = (_text(row, columns, "path"), _text(row, columns, "face"))
        source_id = _source_id(*key)
        try:
            if is_long:
                index, x, y = (_number(row, columns, name, number) for name in ("point", "x", "y"))
                if not (np.isfinite(index) and index == int(index) and 0 <= index < 100_000):
                    raise BadSample("table.point", f"row {number}: {index:g} is no point's number")
                z, seen = _number(row, columns, "z", number), _number(row, columns, "v", number)
                points.setdefault(key, {})[int(index)] = (x, y, z, seen != 0)
            else:
                if key in faces:
                    raise BadSample("table.row", f"row {number}: the face was given before")
                points[key] = {p: _wide_point(row, at, number) for p, at in places.items()}
            face = _about(row, columns, number, folder / key[0], source_id)
            faces.setdefault(key, face)
        except BadSample as bad:
            rejected.setdefault(source_id, Rejected.because(source_id, bad))
    n_points = 1 + max((max(given) for given in points.values() if given), default=-1)
    if n_points == 0:
        raise ValueError(f"{table} holds no points; give path, x0, y0, … or path, point, x, y")
    good = [_with_points(face, points[key], n_points) for key, face in faces.items() if face.source_id not in rejected]
    for face in list(good):
        if not face.picture.is_file():
            rejected[face.source_id] = Rejected(
                face.source_id, "source.no_image", f"there is no picture {face.picture}"
            )
        elif not face.visible.any():
            rejected[face.source_id] = Rejected(face.source_id, "landmarks.unknown", "no point of it is known")
    kept = [face for face in good if face.source_id not in rejected]
    return _whole(name or table.stem, table, kept, list(rejected.values()), ())


# --------------------------------------------------------------------------------------- names of training sets


def names_in_training(evaluation_set: EvaluationSet) -> frozenset[str]:
    """The photographs' names as 300W-LP, and our own builds of the same folders, would have them.

    300W-LP calls ``helen/testset/296814969_3.jpg`` HELEN_296814969_3, ``lfpw/testset/image_0001.png`` LFPW_image_test_0001
    and ``ibug/image_003_1.jpg`` IBUG_image_003_1. Compare with :func:`bare_name`.
    """
    names = set()
    for face in evaluation_set.faces:
        parts = [part.lower() for part in face.source_id.split("/")]
        stem = parts[-1]
        names.add(stem)
        if "helen" in parts:
            names.add(f"helen_{stem}")
        if "ibug" in parts:
            names.add(f"ibug_{stem}")
        if "lfpw" in parts:
            side = "test" if "testset" in parts else "train"
            names.add(f"lfpw_{stem.replace('image_', f'image_{side}_', 1)}")
    return frozenset(names)


def bare_name(photograph: str) -> str:
    """A photograph's name without its folders, as :func:`names_in_training` writes it."""
    return photograph.rpartition("/")[2].lower()


# ---------------------------------------------------------------------------------------------------- the parts


def _belongs(source_id: str, subset: Subset) -> bool:
    parts = [part.lower() for part in source_id.split("/")[:-1]]
    common = "testset" in parts and ("helen" in parts or "lfpw" in parts)
    challenging = "ibug" in parts
    return {
        "common": common,
        "challenging": challenging,
        "full": common or challenging,
        "private": any(part in ("01_indoor", "02_outdoor") for part in parts),
    }.get(subset, True)


def _missing(name: str, found: int, expected: int) -> tuple[str, ...]:
    if found == expected:
        return ()
    return (f"{found} of the {expected} faces of {name} are here: figures are not comparable with published ones",)


def _whole(
    name: str, path: str | Path, faces: Sequence[EvaluationFace], rejected: Sequence[Rejected], notes: tuple[str, ...]
) -> EvaluationSet:
    if not faces:
        because = f" {rejected[0].source_id}: {rejected[0].reason}." if rejected else ""
        raise ValueError(
            f"{path} holds no face of {name} ({len(rejected)} could not be used).{because} Look at the folder"
        )
    ordered = tuple(sorted(faces, key=lambda face: (face.video, face.frame, face.source_id)))
    found = EvaluationSet(name, ordered, tuple(rejected), notes)
    return replace(found, photographs=names_in_training(found))


def _aflw(variables: Variables) -> Float[np.ndarray, "21 2"] | None:
    """AFLW's 21 points in true pixels; invisible ones are NaN.

    An invisible point was (−1, −1) before y was turned over: the files hold (−1, 452) for pictures 450 pixels high, so x
    alone tells. A point of the picture has x from 1 up.
    """
    points = variables.get("pt2d")
    if points is None or points.shape != (2, _AFLW_POINTS):
        return None
    found = points.T.astype(np.float64)
    found[(found[:, 0] == -1) | ~np.isfinite(found).all(axis=1)] = np.nan
    return found - 1.0


def _yaw_table(path: Path) -> dict[str, float]:
    header, rows = read_table_rows(path)
    columns = {column.strip().lower(): place for place, column in enumerate(header)}
    if not {"path", "yaw"} <= columns.keys():
        raise ValueError(f"{path} has no columns path and yaw; its columns are {', '.join(header)[:200]!r}")
    found = {}
    for number, row in enumerate(rows, 1):
        if isinstance(row, BadSample):
            raise ValueError(f"{path}, row {number}: {row.sentence}")
        try:
            found[Path(_text(row, columns, "path")).stem] = _number(row, columns, "yaw", number)
        except BadSample as bad:
            raise ValueError(f"{path}: {bad.sentence}") from None
    return found


def _wide_columns(columns: dict[str, int], table: Path) -> dict[int, dict[str, int]]:
    places: dict[int, dict[str, int]] = {}
    for column, place in columns.items():
        if match := _POINT_COLUMN.fullmatch(column):
            places.setdefault(int(match[2]), {})[match[1]] = place
    lacking = [
        f"{axis}{p}" for p in range(1 + max(places, default=0)) for axis in "xy" if axis not in places.get(p, {})
    ]
    if lacking:
        raise ValueError(f"{table} has no column {lacking[0]}; give path, x0, y0, x1, y1, … or path, point, x, y")
    return places


def _wide_point(row: Sequence[object], at: dict[str, int], number: int) -> tuple[float, float, float, bool]:
    x, y, z, v = (_number(row, at, axis, number) for axis in "xyzv")
    return x, y, z, v != 0


def _with_points(
    face: EvaluationFace, given: dict[int, tuple[float, float, float, bool]], n_points: int
) -> EvaluationFace:
    points, visible = np.full((n_points, 3), np.nan), np.zeros(n_points, dtype=bool)
    for index, (x, y, z, seen) in given.items():
        points[index], visible[index] = (x, y, z), seen and bool(np.isfinite([x, y]).all())
    return replace(face, points_px=points, visible=visible)


def _about(
    row: Sequence[object], columns: dict[str, int], number: int, picture: Path, source_id: str
) -> EvaluationFace:
    box = None
    if all(column in columns for column in _BOX):
        sides = np.array([_number(row, columns, column, number) for column in _BOX])
        if np.isfinite(sides).all():
            if not (sides[2:] > sides[:2]).all():
                raise BadSample("boxes.range", f"row {number}: the box {sides.tolist()} has no area")
            box = sides
    frame = _number(row, columns, "frame", number)
    return EvaluationFace(
        source_id=source_id,
        picture=picture,
        points_px=np.zeros((0, 3)),
        visible=np.zeros(0, dtype=bool),
        box_px=box,
        yaw_deg=_number(row, columns, "yaw", number),
        subject=_text(row, columns, "subject"),
        video=_text(row, columns, "video"),
        frame=int(frame) if np.isfinite(frame) else 0,
    )


def _source_id(path: str, face: str) -> str:
    stem = str(Path(path).with_suffix("")).replace("\\", "/")
    return f"{stem}_{face}" if face else stem


def _text(row: Sequence[object], columns: dict[str, int], column: str) -> str:
    if column not in columns or row[columns[column]] is None:
        return ""
    value = row[columns[column]]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _number(row: Sequence[object], columns: dict[str, int], column: str, number: int) -> float:
    """A cell as a number, NaN where it is empty or the column is not there. Raises BadSample."""
    if column not in columns or row[columns[column]] in (None, ""):
        return float("nan")
    value = row[columns[column]]
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise BadSample(
            "table.number", f"row {number}: {column} reads {str(value)[:40]!r}, which is no number"
        ) from None

"""Annotation files of 300W-LP and AFLW2000-3D: MATLAB, micrometres and pixels counted from one end here.

What a file stores (Zhu et al. 2016, `main_show_with_BFM.m`): projected = f·R·vertex + t with y upwards and pixels
counted from one, vertices in micrometres, Pose_Para = (pitch, yaw, roll, t_x, t_y, t_z, f). What leaves here:
millimetres and true pixels, integer at the pixel's centre, first pixel (0, 0), y downwards: ``x = X − 1``, ``y = h −
Y``.

Three traps of the files are taken care of, because their arrays look right and are not:

* ``*_Flip``: `pt2d` is mirrored, but its points keep their old names. Here they are renamed.
* ``_1``, ``_2``, … : `pt2d` is a copy of the ``_0`` file's, wrong for the turned picture. Here it is unknown (NaN).
* AFLW2000-3D: `pt2d` holds AFLW's 21 points; the 68 are in `pt3d_68`, with y already downwards.
"""

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from geometry.camera import ScaledOrthographicCamera
from geometry.landmarks import MIRROR, N_LANDMARKS
from geometry.morphable_model import Coefficients, MorphableModel
from geometry.rotation import euler_from_rotation, rotation_from_euler
from storage.bad_sample import BadSample
from storage.file_names import ViewName, view_of_path
from storage.json_files import read_json_object
from storage.mat_child import MAX_FILE_BYTES
from storage.mat_reader import Variables, read_mat
from storage.regular_files import read_regular_file
from storage.whole_files import write_atomically

Kind = Literal["300W-LP", "AFLW2000-3D"]
Compat = Literal["face3d"]

UM_PER_MM = 1000.0
IMAGE_HEIGHT = 450
SIDECAR_NAME = "model.json"

MIN_SCALE_PX_PER_UM, MAX_SCALE_PX_PER_UM = 5e-5, 5e-2
"""A head of 200 mm is then 10 to 10,000 pixels high. The sign is free: one real fit is negative."""
FARTHEST_PX = 1e6
"""From the picture's corner, along each axis: beyond it single precision tells no sixteenth of a pixel apart, z included."""

_SHIFT_PX: dict[Compat | None, tuple[float, float]] = {None: (0.0, 0.0), "face3d": (1.0, -1.0)}
"""face3d's recipe keeps X as it is stored and takes y = h − 1 − Y: the true pixels, shifted."""

_AFLW_POINTS = (21, 23)

_HEADER = b"MATLAB 5.0 MAT-file, written by facefoundry in the layout of 300W-LP".ljust(116)
"""In place of SciPy's, which stamps the time: equal content gives equal bytes."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotated face, in this project's conventions.

    `landmarks_px` are the 68 iBUG points (x, y, z) in the image, NaN where the file cannot give them: 300W-LP has no z,
    and nothing at all for turned views. `roi` is the inclusive square [left, top, right, bottom], counted from one, of
    the ORIGINAL photograph that was resized to this picture; it may lie outside, and it is no face box. `texture` (K),
    `illumination` (10) and `color` (7) are the file's own Tex_Para, Illum_Para and Color_Para. What a file lacks is
    None.
    """

    coefficients: Coefficients
    camera: ScaledOrthographicCamera
    landmarks_px: Float[np.ndarray, "68 3"]
    roi: Int[np.ndarray, "4"] | None
    kind: Kind
    image_height: int
    texture: Float[np.ndarray, "k_tex"] | None = None
    illumination: Float[np.ndarray, "10"] | None = None
    color: Float[np.ndarray, "7"] | None = None


def read_annotation(
    path: str | os.PathLike[str], *, image_height: int = IMAGE_HEIGHT, compat: Compat | None = None
) -> Annotation:
    """Read one ``.mat`` file of 300W-LP or AFLW2000-3D, or one of the same layout.

    `image_height` is that of the picture beside it: the file counts y from its lower edge. ``compat="face3d"`` gives
    the pixels of face3d's published recipe, (+1, −1) from the true ones, for camera and landmarks alike.

    The file is parsed in a limited child process. Raises BadSample when it is damaged, hostile or of another kind, and
    OSError when it cannot be read at all. For many files at once: :class:`storage.MatReader` and
    :func:`annotations_from_variables`.
    """
    path = Path(path)
    try:
        variables = read_mat(read_regular_file(path, limit_bytes=MAX_FILE_BYTES, follow_links=True))
        (annotation,) = annotations_from_variables(
            [variables], views=[view_of_path(path)], image_height=image_height, compat=compat
        )
        if isinstance(annotation, BadSample):
            raise annotation
    except BadSample as bad:
        raise bad.about(path) from None
    return annotation


def annotations_from_variables(
    answers: Sequence[Variables | BadSample],
    *,
    views: Sequence[ViewName],
    image_height: int | Sequence[int] = IMAGE_HEIGHT,
    compat: Compat | None = None,
) -> list[Annotation | BadSample]:
    """The meaning of many files' variables, in order; `views` are what their names say. Bad ones stay values.

    `image_height` is that of the picture beside each file, or of all of them.
    """
    heights = [image_height] * len(answers) if isinstance(image_height, int) else image_height
    poses = np.zeros((len(answers), 7))
    checked: list[Variables | BadSample] = list(answers)
    for place, answer in enumerate(answers):
        if not isinstance(answer, BadSample):
            try:
                poses[place] = _pose(answer)
            except BadSample as bad:
                checked[place] = bad
    rotations = rotation_from_euler(*poses[:, :3].T)  # once for all: it costs as much for one as for a hundred

    results: list[Annotation | BadSample] = []
    for answer, view, pose, rotation, height in zip(checked, views, poses, rotations, heights, strict=True):
        if isinstance(answer, BadSample):
            results.append(answer)
            continue
        try:
            results.append(_annotation(answer, view, pose, rotation, height, compat))
        except BadSample as bad:
            results.append(bad)
    return results


def _pose(variables: Variables) -> Float[np.ndarray, "7"]:
    pose = _numbers(variables, "Pose_Para", (1, 7))[0]
    if not MIN_SCALE_PX_PER_UM <= abs(pose[6]) <= MAX_SCALE_PX_PER_UM:
        raise BadSample(
            "param.range",
            f"Pose_Para's scale is {pose[6]:g} pixels per micrometre, which is no face (about 0.001; at most "
            f"{MAX_SCALE_PX_PER_UM:g}, at least {MIN_SCALE_PX_PER_UM:g}): its values are in other units, or damaged",
        )
    if not np.abs(pose[3:6]).max() <= FARTHEST_PX:
        raise BadSample(
            "param.range",
            f"Pose_Para's translation is ({pose[3]:g}, {pose[4]:g}, {pose[5]:g}) px, more than {FARTHEST_PX:g} px away: "
            "its values are in other units, or damaged",
        )
    return pose


def _annotation(
    variables: Variables,
    view: ViewName,
    pose: Float[np.ndarray, "7"],
    rotation: Float[np.ndarray, "3 3"],
    image_height: int,
    compat: Compat | None,
) -> Annotation:
    x, y, z, scale = pose[3:].tolist()
    shift_x, shift_y = _SHIFT_PX[compat]
    kind, landmarks_px = landmarks_from_variables(variables, view)
    landmarks_px[:, :2] += shift_x, shift_y
    return Annotation(
        coefficients=Coefficients(_column(variables, "Shape_Para"), _column(variables, "Exp_Para")),
        camera=ScaledOrthographicCamera(
            scale=UM_PER_MM * scale,
            rotation=rotation,
            translation_px=np.array([x - 1.0 + shift_x, image_height - y + shift_y, z]),
        ),
        landmarks_px=landmarks_px,
        roi=_roi(variables),
        kind=kind,
        image_height=image_height,
        texture=_column(variables, "Tex_Para") if "Tex_Para" in variables else None,
        illumination=_numbers(variables, "Illum_Para", (1, 10))[0] if "Illum_Para" in variables else None,
        color=_numbers(variables, "Color_Para", (1, 7))[0] if "Color_Para" in variables else None,
    )


def landmarks_from_variables(variables: Variables, view: ViewName) -> tuple[Kind, Float[np.ndarray, "68 3"]]:
    """The 68 points in true pixels, NaN where the file cannot give them, as in :class:`Annotation`. Raises BadSample.

    One is subtracted from x and y alone: z has no first pixel to count from.
    """
    landmarks = np.full((N_LANDMARKS, 3), np.nan)
    if "pt3d_68" in variables:
        landmarks[:] = _numbers(variables, "pt3d_68", (3, N_LANDMARKS)).T
        landmarks[:, :2] -= 1.0
        return "AFLW2000-3D", landmarks
    if "pt2d" not in variables:
        return "300W-LP", landmarks
    n_points = variables["pt2d"].shape[-1]
    if n_points in _AFLW_POINTS:  # the 21 points of AFLW, with −1 where invisible: another scheme
        _numbers(variables, "pt2d", (2, n_points))
        return "AFLW2000-3D", landmarks
    points = _numbers(variables, "pt2d", (2, N_LANDMARKS)).T - 1.0
    if view.k == 0:
        landmarks[:, :2] = points[MIRROR] if view.is_flip else points
    return "300W-LP", landmarks


def _roi(variables: Variables) -> Int[np.ndarray, "4"] | None:
    if "roi" not in variables:
        return None
    roi = _numbers(variables, "roi", (1, 4))[0]
    if (roi != np.rint(roi)).any() or np.abs(roi).max() > 1e6:
        raise BadSample("param.range", f"roi is {roi.tolist()}; four whole pixel numbers are expected")
    return roi.astype(np.int64)


def _column(variables: Variables, name: str) -> Float[np.ndarray, "k"]:
    """Coefficients (K, 1): how many there should be is the model's to say."""
    return _numbers(variables, name, (None, 1))[:, 0]


def _numbers(variables: Variables, name: str, shape: tuple[int | None, int]) -> Float[np.ndarray, "r c"]:
    """The variable in float64; it must be there, finite, and of just this shape: nothing is transposed or padded."""
    array = variables.get(name)
    if array is None:
        present = ", ".join(sorted(variables)) or "none of the known variables"
        raise BadSample("mat.missing_key", f"there is no {name} (only {present}); copy the file again, or leave it out")
    rows, columns = shape
    if array.shape[1] != columns or (array.shape[0] != rows if rows is not None else not array.shape[0]):
        raise BadSample(
            "mat.shape",
            f"{name} is {array.shape[0]}×{array.shape[1]} where {rows or 'K'}×{columns} is expected; "
            "write it as 300W-LP does, it is not turned or padded here",
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        flat = array.ravel(order="F")
        place = int(np.flatnonzero(~np.isfinite(flat))[0])
        raise BadSample(
            "param.nonfinite", f"number {place + 1} of {name} is {flat[place]}; the fit has failed, leave the file out"
        )
    return array


def write_annotation(
    path: str | os.PathLike[str],
    *,
    coefficients: Coefficients,
    camera: ScaledOrthographicCamera,
    landmarks_px: Float[np.ndarray, "68 d"] | None,
    model: MorphableModel,
    image_height: int = IMAGE_HEIGHT,
    roi: Int[np.ndarray, "4"] | None = None,
    texture: Float[np.ndarray, "k_tex"] | None = None,
    illumination: Float[np.ndarray, "10"] | None = None,
    color: Float[np.ndarray, "7"] | None = None,
    pt2d: Float[np.ndarray, "2 68"] | None = None,
    flip_dtypes: bool = False,
) -> None:
    """Write one face as 300W-LP stores it, so that the 300W-LP reader and every other tool of the field read it.

    `landmarks_px` are true pixels in this picture; under a ``*_Flip`` name they are stored under their old names, as
    the release does. Give `pt2d` (counted from one, stored as it is) in their place for what 300W-LP does in ``_k``
    files: the copy of the ``_0`` file's. `roi` defaults to the whole picture. `flip_dtypes` stores coefficients in
    float32, as ``*_Flip`` files do. The folder's sidecar, which names `model`, is written with the first file.

    Equal arguments give equal bytes; the file appears whole or not at all.
    Raises ValueError for coefficients of another model, a folder of another model, and numbers that are not finite.
    """
    path = Path(path)
    model.check(coefficients)
    if (pt2d is None) == (landmarks_px is None):
        raise ValueError(f"{path.name}: give either landmarks_px or pt2d as it is to be stored, and not both")
    if landmarks_px is not None:
        named = landmarks_px[MIRROR] if view_of_path(path).is_flip else landmarks_px
        pt2d = named[:, :2].T + 1.0
    pitch, yaw, roll = (float(angle) for angle in euler_from_rotation(camera.rotation))
    x, y, z = camera.translation_px
    pose = [pitch, yaw, roll, x + 1.0, image_height - y, z, camera.scale / UM_PER_MM]
    coefficient_type = np.float32 if flip_dtypes else np.float64
    given: dict[str, np.ndarray | None] = {
        "pt2d": np.asarray(pt2d, np.float64),
        "roi": np.array([1, 1, image_height, image_height] if roi is None else roi, np.int16)[None],
        "Illum_Para": None if illumination is None else np.asarray(illumination, np.float64)[None],
        "Color_Para": None if color is None else np.asarray(color, np.float32)[None],
        "Tex_Para": None if texture is None else np.asarray(texture, np.float64)[:, None],
        "Shape_Para": np.asarray(coefficients.identity, coefficient_type)[:, None],
        "Exp_Para": np.asarray(coefficients.expression, coefficient_type)[:, None],
        "Pose_Para": np.array(pose, np.float32)[None],
    }
    variables = {name: value for name, value in given.items() if value is not None}
    for name, value in variables.items():
        if not np.isfinite(value).all():
            raise ValueError(
                f"{path.name}: {name} holds NaN or infinity; unknown values have no place in an annotation file"
            )
    if os.path.lexists(path.parent / SIDECAR_NAME):
        check_sidecar(path.parent, model)
    else:
        write_atomically(path.parent / SIDECAR_NAME, _sidecar_text(model).encode())
    write_atomically(path, mat_bytes(variables))


def mat_bytes(variables: Mapping[str, np.ndarray]) -> bytes:
    """A MATLAB file of these variables: equal content, equal bytes."""
    import scipy.io  # on first use: reading needs none of it

    stream = io.BytesIO()
    scipy.io.savemat(stream, dict(variables), do_compression=True)
    return _HEADER + stream.getvalue()[len(_HEADER) :]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What ``model.json`` says about the annotation files beside it: the model that their coefficients belong to."""

    model: str
    fingerprint: str
    n_identity: int
    n_expression: int


def read_sidecar(folder: str | os.PathLike[str]) -> Sidecar | None:
    """The sidecar of `folder`, None where there is none (as in the releases). Raises ValueError when it is damaged."""
    path = Path(folder) / SIDECAR_NAME
    try:
        fields = read_json_object(path)
        match fields:
            case None:
                return None
            case {"model": str(model), "fingerprint": str(fingerprint), "n_identity": int(k), "n_expression": int(m)}:
                return Sidecar(model, fingerprint, k, m)
        raise ValueError("it lacks model, fingerprint, n_identity or n_expression")
    except ValueError as error:
        raise ValueError(
            f"{path} should name the model of the annotations beside it, but cannot be read ({error}); make the folder again"
        ) from None


def check_sidecar(folder: str | os.PathLike[str], model: MorphableModel) -> None:
    """Raise ValueError when `folder` holds coefficients of another model; a folder without sidecar passes."""
    sidecar = read_sidecar(folder)
    if sidecar is not None and sidecar.fingerprint != model.fingerprint:
        raise ValueError(
            f"{folder} holds coefficients of the model {sidecar.model} ({sidecar.fingerprint}), not of {model.name} "
            f"({model.fingerprint}): its faces would come out as other people's. Give that model, or make it again"
        )


def _sidecar_text(model: MorphableModel) -> str:
    fields = {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "n_identity": model.n_identity,
        "n_expression": model.n_expression,
        "scaling": "Shape_Para and Exp_Para as 300W-LP stores them: times their standard deviations, micrometres",
    }
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"

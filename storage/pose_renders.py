"""Renders of meshes with their ground truth, for evaluation: what the Florence protocol's pictures are kept as.

    FOLDER/renders.json             what the folder is; written last
    FOLDER/SUBJECT/mesh.ply         vertices in millimetres (x right, y up, z toward the viewer), triangles, colours
    FOLDER/SUBJECT/views.json       of each picture: file, angles, camera, landmarks
    FOLDER/SUBJECT/pitch+020_yaw-040.png

Plain files, so that other programs can be measured on them too. `camera.project(mesh.vertices)` are the mesh's vertices in the
picture, depth included: that is the ground truth of reconstruction and of dense alignment.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np
from jaxtyping import Float, Int32, UInt8
from pydantic import BaseModel, ValidationError

from geometry.camera import ScaledOrthographicCamera
from geometry.mesh import Mesh
from storage.bad_sample import BadSample
from storage.images import decode_image
from storage.mesh_export import export_mesh
from storage.regular_files import read_regular_file
from storage.whole_files import write_atomically

MARKER = "renders.json"
VIEWS = "views.json"
MESH = "mesh.ply"
_MAX_BYTES = 512 << 20

T = TypeVar("T", bound=BaseModel)
Point3 = tuple[float, float, float]


class RenderedView(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """One picture: its file beside this one, the head's angles, and the camera from the mesh's frame (mm) to its pixels."""

    picture: str
    size_hw: tuple[int, int]
    pitch_deg: float
    yaw_deg: float
    scale_px_per_mm: float
    rotation: tuple[Point3, Point3, Point3]
    translation_px: Point3

    @property
    def camera(self) -> ScaledOrthographicCamera:
        """From the mesh's frame to the picture."""
        return ScaledOrthographicCamera(self.scale_px_per_mm, np.array(self.rotation), np.array(self.translation_px))


class RenderedSubject(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """One mesh and its pictures: ``views.json``."""

    format: Literal["facefoundry pose renders"] = "facefoundry pose renders"
    format_version: Literal[1] = 1
    subject: str
    made_from: str
    """sha256 over the mesh and all that decides its pictures."""
    licence: str
    landmarks_mm: tuple[Point3, ...] | None
    """The 68 points on the mesh, where they are known."""
    views: tuple[RenderedView, ...]


class RenderedFolder(BaseModel, frozen=True, extra="forbid"):
    """``renders.json``."""

    format: Literal["facefoundry pose renders"] = "facefoundry pose renders"
    format_version: Literal[1] = 1
    protocol: str
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PoseSample:
    """One picture with its ground truth. Frames: mesh in millimetres, the rest in pixels of the picture.

    landmarks_px   (68 3) of the mesh in the picture, seen or not; NaN where they are not known
    """

    source_id: str
    subject: str
    image: UInt8[np.ndarray, "h w 3"]
    mesh: Mesh
    camera: ScaledOrthographicCamera
    landmarks_px: Float[np.ndarray, "68 3"]
    pitch_deg: float
    yaw_deg: float

    @property
    def vertices_px(self) -> Float[np.ndarray, "v 3"]:
        """The ground-truth vertices in the picture; z toward the viewer."""
        return self.camera.project(self.mesh.vertices)

    @property
    def box_px(self) -> Float[np.ndarray, "4"]:
        """Left, top, right, bottom of the ground-truth points: the protocol crops by it."""
        xy = self.vertices_px[:, :2]
        return np.concatenate([xy.min(axis=0), xy.max(axis=0)]).astype(np.float64)


@dataclass(frozen=True, slots=True)
class PoseRenders:
    """A folder of renders, in the order of subjects and views."""

    root: Path
    folder: RenderedFolder
    subjects: tuple[RenderedSubject, ...]

    def __len__(self) -> int:
        """How many pictures there are."""
        return sum(len(subject.views) for subject in self.subjects)

    def __iter__(self) -> Iterator[PoseSample]:
        """Every picture. Raises ValueError for a damaged one."""
        for subject in self.subjects:
            for view in subject.views:
                yield self._sample(subject, view)

    def __getitem__(self, index: int) -> PoseSample:
        """One picture. Raises IndexError, and ValueError for a damaged one."""
        every = [(subject, view) for subject in self.subjects for view in subject.views]
        return self._sample(*every[index])

    def _sample(self, subject: RenderedSubject, view: RenderedView) -> PoseSample:
        folder = self.root / subject.subject
        try:
            image = decode_image(_bytes(folder / view.picture), expected_hw=view.size_hw)
        except BadSample as bad:
            raise ValueError(f"{folder / view.picture}: {bad.sentence}; render the folder again") from None
        mesh = _read_mesh(folder / MESH)
        landmarks = np.full((68, 3), np.nan)
        if subject.landmarks_mm is not None:
            landmarks = view.camera.project(np.array(subject.landmarks_mm))
        name = f"{subject.subject}/{Path(view.picture).stem}"
        return PoseSample(name, subject.subject, image, mesh, view.camera, landmarks, view.pitch_deg, view.yaw_deg)


def open_pose_renders(path: str | os.PathLike[str]) -> PoseRenders:
    """Open a finished folder of renders. Raises FileNotFoundError, ValueError for one that is none or damaged."""
    root = Path(path)
    if not (root / MARKER).is_file():
        raise FileNotFoundError(f"{root} holds no {MARKER}: it is no folder of renders, or an unfinished one")
    folder = _read(root / MARKER, RenderedFolder)
    return PoseRenders(root, folder, tuple(_read(root / name / VIEWS, RenderedSubject) for name in folder.subjects))


def read_subject(folder: Path) -> RenderedSubject | None:
    """What is known of a subject's finished renders; None where there are none. Raises ValueError for damaged ones."""
    return _read(folder / VIEWS, RenderedSubject) if (folder / VIEWS).is_file() else None


def write_subject(
    folder: Path,
    subject: RenderedSubject,
    *,
    vertices: Float[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    colors: UInt8[np.ndarray, "v 3"],
    pictures: Iterator[UInt8[np.ndarray, "h w 3"]],
) -> None:
    """Write one subject: mesh and pictures first, ``views.json`` last. Equal arguments give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    export_mesh(folder / MESH, vertices, triangles, colors=colors, format="ply")
    for view, picture in zip(subject.views, pictures, strict=True):
        done, png = cv2.imencode(".png", picture[:, :, ::-1])
        if not done:  # what there is then is the picture's beginning
            raise RuntimeError(f"OpenCV could not encode a picture of shape {picture.shape} as PNG")
        write_atomically(folder / view.picture, png.tobytes())
    write_atomically(folder / VIEWS, (subject.model_dump_json(indent=1) + "\n").encode())


def write_marker(root: Path, folder: RenderedFolder) -> None:
    """Say that the folder is finished."""
    write_atomically(root / MARKER, (folder.model_dump_json(indent=1) + "\n").encode())


def _read(path: Path, kind: type[T]) -> T:
    try:
        return kind.model_validate_json(_bytes(path))
    except (ValidationError, BadSample) as error:
        raise ValueError(f"{path} is damaged, or of another program: {error}") from None


def _bytes(path: Path) -> bytes:
    return read_regular_file(path, limit_bytes=_MAX_BYTES, follow_links=True)


@lru_cache(maxsize=2)
def _read_mesh(path: Path) -> Mesh:
    """Our own PLY: every vertex in its place, however many components there are."""
    import trimesh  # half a second, on first use

    loaded = trimesh.load(path, process=False, force="mesh")
    assert isinstance(loaded, trimesh.Trimesh)
    return Mesh(np.array(loaded.vertices, dtype=np.float64), np.array(loaded.faces, dtype=np.int32))

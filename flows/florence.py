"""The Florence protocol on any meshes: scans of one's own, or heads drawn from the built-in model.

Each mesh becomes a subject of a folder of renders (:mod:`storage.pose_renders`), in the poses of
:mod:`render.pose_grid`. The scans of the Florence data set itself come under terms of their own and from their owners; with
their files this renders that data set.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from flows.local import in_workers
from flows.progress import ProgressMaker, silent_for
from geometry.camera import ScaledOrthographicCamera
from geometry.mesh import signed_volume
from geometry.mesh_files import Unit, load_mesh
from render.portrait import PaintedMesh
from render.pose_grid import YAW_STEP_DEG, GridPose, camera_of, draw_pose, florence_poses
from storage.manifest import digest_of
from storage.mesh_colors import file_colors
from storage.pose_renders import (
    RenderedFolder,
    RenderedSubject,
    RenderedView,
    read_subject,
    write_marker,
    write_subject,
)

BUILT_IN = "built-in"
RECIPE_VERSION = 1

_BARE = (205, 172, 150)  # a mesh without colours
_TERMS = "the mesh's own terms apply"


@dataclass(frozen=True, slots=True)
class Subject:
    """A mesh to render: a file, or the number of an invented person."""

    name: str
    file: Path | None
    person: int = 0


@dataclass(frozen=True, slots=True)
class FlorenceJob:
    """All that a worker needs."""

    out: Path
    size_px: int
    yaw_step_deg: int
    seed: int
    unit: Unit | None
    largest: bool


def florence_here(
    meshes: Sequence[str],
    *,
    out: str | os.PathLike[str],
    people: int = 10,
    seed: int = 0,
    size_px: int = 450,
    yaw_step_deg: int = YAW_STEP_DEG,
    unit: Unit | None = None,
    largest: bool = False,
    workers: int = 0,
    progress: ProgressMaker = silent_for,
) -> tuple[Path, int]:
    """Render `meshes` (files, or "built-in" for `people` invented ones) into `out`; the folder and its number of pictures.

    `unit` and `largest` as :func:`geometry.mesh_files.load_mesh` takes them, for all files. What is there is not made
    again. Raises ValueError for meshes that cannot be used and for two of one name, OSError.
    """
    job = FlorenceJob(Path(out).absolute(), size_px, yaw_step_deg, seed, unit, largest)
    if not 64 <= size_px <= 4096:
        raise ValueError(f"pictures of {size_px} pixels a side: 64 to 4096 are possible")
    poses = florence_poses(yaw_step_deg=yaw_step_deg)
    subjects = _subjects(meshes, people)
    with progress(len(subjects)) as report:
        for _ in in_workers(render_subject, [(job, subject) for subject in subjects], workers):
            report(1)
    protocol = f"Florence: pitch -15, 20, 25 degrees, yaw -80 to 80 in steps of {yaw_step_deg:g}"
    write_marker(job.out, RenderedFolder(protocol=protocol, subjects=tuple(s.name for s in subjects)))
    return job.out, len(subjects) * len(poses)


def _subjects(meshes: Sequence[str], people: int) -> list[Subject]:
    subjects: list[Subject] = []
    for mesh in meshes:
        if mesh == BUILT_IN:
            if not 1 <= people <= 999:
                raise ValueError(f"{people} invented people: 1 to 999 are possible")
            subjects += [Subject(f"built-in-{person:03d}", None, person) for person in range(people)]
        else:
            subjects.append(Subject(Path(mesh).stem, Path(mesh).absolute()))
    names = [subject.name.casefold() for subject in subjects]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise ValueError(f"two meshes would be called {doubles[0]}, and their renders be one subject; rename one")
    return subjects


def render_subject(job: FlorenceJob, subject: Subject) -> int:
    """Write one subject's renders unless they are there; how many."""
    mesh, colors, landmarks, licence = _mesh(job, subject)
    poses = florence_poses(yaw_step_deg=job.yaw_step_deg)
    decides = [RECIPE_VERSION, job.size_px, [pose.name for pose in poses], _digest(mesh)]
    made_from = digest_of(decides)
    folder = job.out / subject.name
    found = read_subject(folder)
    if found is not None and found.made_from == made_from and _whole(folder, found):
        return len(found.views)
    cameras = [camera_of(pose, mesh.vertices, size_px=job.size_px) for pose in poses]
    about = RenderedSubject(
        subject=subject.name,
        made_from=made_from,
        licence=licence,
        landmarks_mm=None if landmarks is None else tuple(tuple(map(float, point)) for point in landmarks),
        views=tuple(_view(pose, camera, job.size_px) for pose, camera in zip(poses, cameras, strict=True)),
    )
    write_subject(
        folder,
        about,
        vertices=mesh.vertices,
        triangles=mesh.triangles,
        colors=colors,
        pictures=(draw_pose(mesh, camera, size_px=job.size_px) for camera in cameras),
    )
    return len(poses)


def _view(pose: GridPose, camera: ScaledOrthographicCamera, size_px: int) -> RenderedView:
    return RenderedView(
        picture=f"{pose.name}.png",
        size_hw=(size_px, size_px),
        pitch_deg=pose.pitch_deg,
        yaw_deg=pose.yaw_deg,
        scale_px_per_mm=camera.scale,
        rotation=tuple(tuple(map(float, row)) for row in camera.rotation),
        translation_px=tuple(map(float, camera.translation_px)),
    )


def _mesh(
    job: FlorenceJob, subject: Subject
) -> tuple[PaintedMesh, np.ndarray, Float32[np.ndarray, "68 3"] | None, str]:
    if subject.file is None:
        from storage.synthetic import Family, draw_face

        face = draw_face(Family(job.seed, subject.person, 0, 1))
        colors = np.rint(np.clip(face.mesh.texture, 0, 255)).astype(np.uint8)
        painted = PaintedMesh.of(face.mesh.vertices, face.mesh.triangles, colors.astype(np.float32))
        return painted, colors, face.landmarks, "CC0-1.0 (drawn from the built-in model)"
    read = load_mesh(subject.file, unit=job.unit, largest_component=job.largest)
    vertices, triangles = read.mesh.vertices.astype(np.float32), read.mesh.triangles
    if signed_volume(vertices, triangles) < 0:  # wound inward all over
        triangles = np.ascontiguousarray(triangles[:, ::-1])
    in_file = file_colors(subject.file)
    if in_file is None or len(in_file) <= int(read.file_vertices.max()):
        colors = np.tile(np.array(_BARE, dtype=np.uint8), (len(vertices), 1))
    else:
        colors = in_file[read.file_vertices]
    return PaintedMesh.of(vertices, triangles, colors.astype(np.float32)), colors, None, _TERMS


def _digest(mesh: PaintedMesh) -> str:
    digest = hashlib.sha256()
    for array in (mesh.vertices, mesh.triangles, mesh.texture):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _whole(folder: Path, found: RenderedSubject) -> bool:
    return all((folder / view.picture).is_file() for view in found.views)

"""Profiling: the way of one photograph, from its picture and fit to the files of all its views.

Every view has three files: the picture, 300W-LP's annotation of it, and both kinds of landmarks
(:mod:`storage.contour_landmarks`). The picture is written last, so one that is there has the others beside it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8
from pydantic import BaseModel, Field
from threadpoolctl import threadpool_limits

from flows.errors import SourceChanged
from flows.face_checks import check_coefficients, landmark_residual
from geometry.camera import ScaledOrthographicCamera
from geometry.fit import LandmarkFitter
from geometry.fit_result import FitConfig
from geometry.models import load_model
from geometry.morphable_model import Coefficients, MorphableModel
from geometry.rotation import euler_from_rotation
from render.profiling import MeshedPicture, turned_camera
from render.profiling_texture import ProfilingModel
from render.shading import PhongLight
from storage.annotations import IMAGE_HEIGHT, Annotation, annotations_from_variables, write_annotation
from storage.bad_sample import BadSample, Rejected
from storage.contour_landmarks import ContourLandmarks, contour_landmarks_path, write_contour_landmarks
from storage.file_names import view_of_path
from storage.images import decode_image, decode_photograph
from storage.jpeg import encode_jpeg
from storage.mat_reader import process_reader
from storage.whole_files import write_atomically

VIEWS_AT_ONCE = 16
"""Views that the z-buffer draws at once, one in each SIMD lane."""

MAX_VIEWS = 99  # two digits in the names


class ProfilesConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Which views are made of each photograph."""

    yaw_step_deg: float = Field(5.0, ge=0.1, le=90, description="From one view to the next, as in 300W-LP.")
    max_yaw_deg: float = Field(90.0, ge=0, le=90, description="No view is turned farther to the side.")
    pitch_deg: tuple[Annotated[float, Field(ge=-90, le=90)], ...] = Field(
        (), description="Each adds a row of views, with so much added to the photograph's pitch."
    )
    sides: Literal["outward", "both"] = Field(
        "outward",
        description="300W-LP turns a head on to the side that it looks to; 'both' turns it to the other side too, where "
        "skin that the photograph does not show is taken from its mirror image.",
    )
    landmark_tolerance: float = Field(
        0.1, gt=0, description="A photograph is rejected when its inner landmarks lie farther than this off its fit."
    )


@dataclass(frozen=True, slots=True)
class View:
    """One view: its number in the names, and the head's angles (radians). Number 0 is the photograph."""

    k: int
    yaw: float
    pitch: float


@dataclass(frozen=True, slots=True)
class PlannedPhotograph:
    """One photograph of the plan: where its files lie in the source, with their digests, and its name in the output."""

    source_id: str
    image: str
    image_sha256: str
    annotation: str
    annotation_sha256: str
    name: str


@dataclass(frozen=True, slots=True)
class ProfilesJob:
    """All that a worker needs beside its photographs. Small, and picklable."""

    source: Path
    out: Path
    model: str
    config: ProfilesConfig


def views_of(config: ProfilesConfig, *, yaw: float, pitch: float) -> list[View]:
    """The views of a photograph whose head has these angles (radians): itself, then each row of yaws.

    As in 300W-LP, yaw grows in steps from the photograph's own to the side that it looks to, up to the largest; for
    ``sides="both"`` also the other way. A row with another pitch has the photograph's own yaw too.
    """
    step, limit = np.radians(config.yaw_step_deg), np.radians(config.max_yaw_deg) + 1e-9
    outward = -1.0 if yaw < 0 else 1.0

    def yaws(side: float) -> list[float]:
        n = int(np.floor((limit - side * yaw) / step)) if side * yaw <= limit else 0
        return [yaw + side * step * i for i in range(1, n + 1)]

    turned = yaws(outward) + (yaws(-outward) if config.sides == "both" else [])
    angles = [(yaw, pitch), *((y, pitch) for y in turned)]
    for more in config.pitch_deg:
        angles += [(y, pitch + float(np.radians(more))) for y in (yaw, *turned)]
    return [View(k, float(y), float(p)) for k, (y, p) in enumerate(angles)]


@dataclass(frozen=True)
class ProfilesRecipe:
    """The constant things of a worker: the model and what is prepared from it once."""

    model: MorphableModel

    @cached_property
    def profiling(self) -> ProfilingModel:
        """Its tables for turning pictures."""
        return ProfilingModel.of(self.model)

    @cached_property
    def fitter(self) -> LandmarkFitter:
        """What finds the visible contour."""
        return LandmarkFitter.of(self.model, config=FitConfig(contour="march"))

    def marched(
        self, vertices: Float32[np.ndarray, "v 3"], coefficients: Coefficients, camera: ScaledOrthographicCamera
    ) -> Float[np.ndarray, "68 2"]:
        """Where the landmarks are seen: hidden jaw points on the outline (px)."""
        points = self.fitter.visible_landmarks(coefficients, camera)
        places = np.einsum("pcx,pc->px", vertices[points.corners].astype(np.float64), points.weights)
        return camera.project(places)[:, :2]


@lru_cache(maxsize=1)
def _recipe(model: str) -> ProfilesRecipe:
    return ProfilesRecipe(load_model(model))


def profile_photographs(job: ProfilesJob, photographs: Sequence[PlannedPhotograph]) -> list[int | Rejected]:
    """Write all views of some photographs, those that are not there yet; how many each has, or why it has none.

    Called in any process; bytes depend on the plan alone. Raises SourceChanged.
    """
    cv2.setNumThreads(1)  # one worker is one core
    with threadpool_limits(1):
        recipe = _recipe(job.model)
        images = [_planned_bytes(job.source / p.image, p.image_sha256) for p in photographs]
        files = [_planned_bytes(job.source / p.annotation, p.annotation_sha256) for p in photographs]
        views = [view_of_path(job.source / p.annotation) for p in photographs]
        annotations = annotations_from_variables(process_reader().read_many(files), views=views)
        outcomes: list[int | Rejected] = []
        for photograph, image, annotation in zip(photographs, images, annotations, strict=True):
            try:
                if isinstance(annotation, BadSample):
                    raise annotation
                outcomes.append(_profile(job, photograph, image, annotation, recipe))
            except BadSample as bad:
                outcomes.append(Rejected.because(photograph.source_id, bad))
        return outcomes


def _planned_bytes(path: Path, sha256: str) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SourceChanged(f"{path.name} has changed since this was planned: start it again, it plans anew")
    return content


def _profile(
    job: ProfilesJob, photograph: PlannedPhotograph, content: bytes, annotation: Annotation, recipe: ProfilesRecipe
) -> int:
    """One photograph. Raises BadSample."""
    check_coefficients(annotation.coefficients, recipe.model)
    pitch, yaw, _ = (float(angle) for angle in euler_from_rotation(annotation.camera.rotation))
    views = views_of(job.config, yaw=yaw, pitch=pitch)
    if all(_is_there(job.out, f"{photograph.name}_{view.k}") for view in views):
        return len(views)
    image = decode_image(content, expected_hw=(IMAGE_HEIGHT, IMAGE_HEIGHT))
    vertices = recipe.model.vertices(annotation.coefficients)
    landmarks = vertices[recipe.model.landmark_vertices].astype(np.float64)
    in_image = annotation.camera.project(landmarks)
    landmark_residual(annotation.landmarks_px, in_image, tolerance=job.config.landmark_tolerance)
    try:
        meshed = MeshedPicture.of(image, recipe.profiling, vertices, annotation.camera)
    except ValueError as error:
        raise BadSample("fit.unusable", str(error)) from None
    missing = [(view, f"{photograph.name}_{view.k}") for view in views]
    missing = [(view, name) for view, name in missing if not _is_there(job.out, name)]
    for first in range(0, len(missing), VIEWS_AT_ONCE):
        part = missing[first : first + VIEWS_AT_ONCE]
        cameras = [_camera(view, meshed) for view, _ in part]
        for (view, name), turned in zip(part, meshed.seen_by(cameras), strict=True):
            jpeg = _untouched(content, image) if view.k == 0 else encode_jpeg(turned.image)
            _write_view(job.out, name, view, jpeg, turned.camera, annotation, vertices, recipe)
    return len(views)


def _camera(view: View, meshed: MeshedPicture) -> ScaledOrthographicCamera:
    """The photograph's own to the bit, or the turned one."""
    if view.k == 0:
        return meshed.camera
    return turned_camera(meshed.camera, yaw=view.yaw, pitch=view.pitch, pivot=meshed.pivot)


def _write_view(
    out: Path,
    name: str,
    view: View,
    jpeg: bytes,
    camera: ScaledOrthographicCamera,
    annotation: Annotation,
    vertices: Float32[np.ndarray, "v 3"],
    recipe: ProfilesRecipe,
) -> None:
    """One view's three files; the picture last, so one that is there has its annotation."""
    fixed = camera.project(vertices[recipe.model.landmark_vertices].astype(np.float64))[:, :2]
    own = annotation.landmarks_px[:, :2]
    path, beside = out / f"{name}.jpg", contour_landmarks_path(out, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside.parent.mkdir(parents=True, exist_ok=True)
    marched = recipe.marched(vertices, annotation.coefficients, camera)
    write_contour_landmarks(beside, ContourLandmarks(marched, fixed))
    write_annotation(
        path.with_suffix(".mat"),
        coefficients=annotation.coefficients,
        camera=camera,
        landmarks_px=own if view.k == 0 and np.isfinite(own).all() else fixed,
        model=recipe.model,
        roi=annotation.roi,
        texture=annotation.texture,
        illumination=_turned_light(annotation, camera),
        color=annotation.color,
        flip_dtypes=view_of_path(path).is_flip,
    )
    write_atomically(path, jpeg)


def _is_there(folder: Path, name: str) -> bool:
    path = folder / f"{name}.jpg"
    return path.exists() and path.with_suffix(".mat").exists() and contour_landmarks_path(folder, name).exists()


def _untouched(content: bytes, image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """The photograph's own JPEG, unless it is none or other programs would turn it as EXIF says."""
    if content.startswith(b"\xff\xd8") and np.array_equal(decode_photograph(content), image):
        return content
    return encode_jpeg(image)


def _turned_light(annotation: Annotation, camera: ScaledOrthographicCamera) -> Float[np.ndarray, "10"] | None:
    """The light turns with the face that it lies on, so its direction to the camera is another one."""
    if annotation.illumination is None:
        return None
    light = PhongLight.from_illum_para(annotation.illumination)
    x, y, z = camera.rotation @ annotation.camera.rotation.T @ light.direction
    return replace(light, elevation=float(np.arcsin(np.clip(y, -1, 1))), azimuth=float(np.arctan2(x, z))).illum_para

"""Photographs of invented groups: whole pictures of several sizes with one to four people of the built-in model.

The source of whoever has no photographs with several faces. Nearer people stand before farther ones and are larger;
every third photograph has somebody whom nobody annotated and only a detector's box tells of. Beside ``NAME.jpg`` lie
``NAME.mat``, ``NAME.1.mat`` … in 300W-LP's layout (counted from the picture's own lower edge), and ``NAME.faces.json``.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from threadpoolctl import threadpool_limits

from geometry.built_in import load_built_in
from geometry.camera import ScaledOrthographicCamera
from geometry.rotation import rotation_from_euler
from render.backgrounds import draw_background
from render.portrait import draw_portrait
from render.shading import ColorTransform, PhongLight
from storage.annotations import write_annotation
from storage.jpeg import encode_jpeg
from storage.synthetic import MARKER_NAME, Face, Family, draw_face
from storage.whole_files import write_atomically

GROUPS_RECIPE = 1
"""Raised by hand when the same seed gives other bytes than before."""

SIZES_HW = ((480, 640), (600, 800), (720, 480), (640, 960), (450, 450), (400, 720))
"""Sizes of the photographs, one after another; the fourth is larger than DenseReg's 800 px."""

_FIRST_IDENTITY = 1000  # other people than those of the sample folder
_STREAM = 7
_PLACES = {1: (0.5,), 2: (0.3, 0.7), 3: (0.2, 0.5, 0.8), 4: (0.14, 0.38, 0.62, 0.86)}  # of the width


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in a photograph; `annotated` or only seen by the detector."""

    face: Face
    camera: ScaledOrthographicCamera
    annotated: bool


def write_group_folder(
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    n_photographs: int = 24,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the folder, or what is missing of it; a finished one is left as it is. A seed gives the same bytes.

    Raises ValueError for a folder with another sample in it.
    """
    folder = Path(folder)
    record = {"recipe": GROUPS_RECIPE, "seed": seed, "photographs": n_photographs}
    model = load_built_in()
    text = json.dumps({**record, "model_fingerprint": model.fingerprint}, indent=2) + "\n"
    marker = folder / MARKER_NAME
    if marker.exists():
        if marker.read_text() != text:
            raise ValueError(f"{marker} describes another sample than the one asked for; choose another folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(n_photographs):
        with threadpool_limits(1):  # sums, and so bytes, depend on how many threads share a product
            _write_photograph(folder, seed, index)
        progress(index + 1, n_photographs)
    write_atomically(marker, text.encode())


def _write_photograph(folder: Path, seed: int, index: int) -> None:
    stem = f"group-{index:03d}"
    size_hw = SIZES_HW[index % len(SIZES_HW)]
    people = invent_people(seed, index, size_hw)
    write_atomically(folder / f"{stem}.jpg", encode_jpeg(draw_group(people, seed, index, size_hw)))
    model = load_built_in()
    annotated = [person for person in people if person.annotated]
    for number, person in enumerate(annotated):
        landmarks = model.rows(model.landmarks).positions(person.face.coefficients)
        write_annotation(
            folder / (f"{stem}.{number}.mat" if number else f"{stem}.mat"),
            coefficients=person.face.coefficients,
            camera=person.camera,
            landmarks_px=person.camera.project(landmarks),
            model=model,
            image_height=size_hw[0],
            roi=np.array([1, 1, size_hw[1], size_hw[0]]),
        )
    boxes = [_detected_box(person).round(1).tolist() for person in people]
    write_atomically(folder / f"{stem}.faces.json", (json.dumps({"boxes": boxes}) + "\n").encode())


def invent_people(seed: int, index: int, size_hw: tuple[int, int]) -> list[Person]:
    """One to four people side by side, the nearest (largest) first; in every third photograph the last is a stranger."""
    rng = np.random.default_rng([seed, _STREAM, index])
    count = 1 + index % 4
    height, width = size_hw
    room = width / count
    sizes = rng.uniform(0.75, 1.0, count) * min(height * 0.62, room * 1.15)  # heads in pixels: neighbours may overlap
    places = rng.permutation(np.array(_PLACES[count]))
    people = []
    for k, size in enumerate(sorted(sizes, reverse=True)):
        face = draw_face(Family(seed, _FIRST_IDENTITY + 4 * index + k, 0, 1))
        yaw, (pitch, roll) = rng.uniform(-1.0, 1.0), rng.normal(0, 0.12, 2)
        rotation = rotation_from_euler(pitch, yaw, roll)
        scale = size / 170.0  # px/mm: chin to crown
        at_origin = ScaledOrthographicCamera(scale, rotation, np.zeros(3)).project(face.landmarks)
        middle = (at_origin.min(axis=0) + at_origin.max(axis=0))[:2] / 2
        centre = np.array([places[k] * width, height * 0.55]) + rng.uniform(-0.04, 0.04, 2) * size
        camera = ScaledOrthographicCamera(scale, rotation, np.array([*(centre - middle), rng.uniform(-90, 90)]))
        people.append(Person(face, camera, annotated=not (index % 3 == 2 and k and k == count - 1)))
    return people


def draw_group(people: list[Person], seed: int, index: int, size_hw: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """The photograph, the farthest person first, all in one light."""
    rng = np.random.default_rng([seed, _STREAM, index, 1])
    picture = draw_background(rng, size_hw=size_hw)
    ambient, lamp = rng.uniform(0.45, 0.65), rng.uniform(0.35, 0.6)
    light = PhongLight(
        np.full(3, ambient), np.full(3, lamp), rng.uniform(0, 0.8), rng.uniform(-1, 1), specular=rng.uniform(10, 40)
    )
    color = ColorTransform(np.ones(3), np.zeros(3), 1.0)
    for person in reversed(people):
        picture = draw_portrait(person.face.mesh, camera=person.camera, light=light, color=color, background=picture)
    soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 0.7))
    noise = rng.standard_normal(soft.shape, dtype=np.float32) * np.float32(rng.uniform(0.003, 0.01))
    return np.rint(np.clip(soft + noise, 0, 1) * 255).astype(np.uint8)


def _detected_box(person: Person) -> Float[np.ndarray, "4"]:
    """What a detector would say: the landmarks' box, a little larger."""
    points = person.camera.project(person.face.landmarks)[:, :2].astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.1 * (high - low)
    return np.concatenate([low - margin, high + margin])

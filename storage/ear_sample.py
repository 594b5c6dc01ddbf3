"""Drawn ears: pictures with 55 landmarks each, for whoever has no ear data set, and the truth that they were drawn from.

Invented people of the built-in model, turned so that one ear is seen, each ear in a picture of its own. The folder has a
`.jpg` and a `.pts` of every ear, as the public data set has, and nobody who lives is in it. What
lies under the pixels is known: :func:`draw_ear` gives the picture's true field, which a field made from landmarks can be held
against. Nobody has hair here, and nothing else hangs before an ear.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8
from threadpoolctl import threadpool_limits

from geometry.built_in import load_built_in
from geometry.camera import ScaledOrthographicCamera
from geometry.ear import Side, load_ear_template
from geometry.rotation import rotation_from_euler
from render.backgrounds import draw_background
from render.correspondence import CorrespondenceField, draw_field
from render.ear_field import head_with_ear
from storage.drawn_folder import DrawnFolder
from storage.jpeg import encode_jpeg
from storage.landmark_files import write_pts
from storage.synthetic import Family, Shot, draw_face, draw_picture, draw_shot
from storage.whole_files import write_atomically

RECIPE = 1
"""Raised by hand when the same seed gives other bytes than before."""

PICTURE_SIZE = 256
_POSE, _BACKGROUND = 1000, 1001  # streams of random numbers beside those of storage.synthetic


@dataclass(frozen=True, slots=True)
class DrawnEar:
    """One picture and all that is known of it.

    yaw          the head's rotation about its upright axis, radians: ±π/2 is a profile; the right ear is seen at −π/2
    vertices_px  the whole head ("all" parts of the built-in model) in pixels of the picture
    """

    number: int
    side: Side
    yaw: float
    picture: UInt8[np.ndarray, "h w 3"]
    landmarks_px: Float[np.ndarray, "55 2"]
    vertices_px: Float32[np.ndarray, "v 3"]

    @property
    def name(self) -> str:
        """The stem of its files."""
        return _name(self.number)

    def true_field(self) -> CorrespondenceField:
        """What the z-buffer says of every pixel; it goes a little beyond the landmarks' outline."""
        return draw_field(head_with_ear(self.side), [self.vertices_px], size_hw=self.picture.shape[:2])


@dataclass(frozen=True, slots=True)
class EarsRecord:
    """What a folder of drawn ears was made from; `sample.json` holds it, and is written when everything else is there."""

    recipe: int
    seed: int
    pictures: int
    model: str
    model_fingerprint: str
    licence: str


def draw_ear(seed: int, number: int) -> DrawnEar:
    """Ear `number` of a seed: a person of its own, right ears and left ones in turn; it depends on no other ear.

    The head is turned by 90° ± 20° (normal, cut at 40°) to the side, nods and tilts by 9° and 12° (standard deviations);
    the ear's longer side is 40 to 64 % of the picture's. The lamp stands as for a face that looks at the camera.
    """
    family, side = Family(seed, number, 0, 1), _side(number)
    with threadpool_limits(1):  # sums, and so bytes, depend on how many threads share a product
        face = draw_face(family)
        landmarks = _landmarks(face.mesh.vertices, side)
        yaw, camera = _draw_camera(family.rng(_POSE), landmarks, side)
        lit = draw_shot(family, 0, face)
        background = draw_background(family.rng(_BACKGROUND), size_hw=(PICTURE_SIZE, PICTURE_SIZE))
        picture = draw_picture(family, 0, face, Shot(camera, lit.light, lit.color), background)
        vertices_px = camera.project(face.mesh.vertices.astype(np.float64)).astype(np.float32)
    return DrawnEar(number, side, yaw, picture, camera.project(landmarks)[:, :2], vertices_px)


def write_ear_folder(
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    n_ears: int = 24,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EarsRecord:
    """Write the folder, or what is missing of it; a finished one is left as it is. A seed gives the same bytes.

    `progress` hears after every ear how many are done, and of how many. Raises ValueError for a folder with other drawn
    ears in it, or with anything else, and for fewer ears than one.
    """
    if n_ears < 1:
        raise ValueError(f"{n_ears} ears: a folder needs at least one")
    folder, model = Path(folder), load_built_in("all")
    record = EarsRecord(RECIPE, seed, n_ears, model.name, model.fingerprint, model.licence)
    drawn = DrawnFolder(folder, "sample", json.dumps(asdict(record), indent=2) + "\n")
    if not drawn.begin():
        return record
    for number in range(n_ears):
        path = folder / f"{_name(number)}.pts"  # written last
        if not path.exists():
            ear = draw_ear(seed, number)
            write_atomically(path.with_suffix(".jpg"), encode_jpeg(ear.picture))
            write_pts(path, ear.landmarks_px)
        progress(number + 1, n_ears)
    drawn.finish()
    return record


def _side(number: int) -> Side:
    return "left" if number % 2 else "right"


def _name(number: int) -> str:
    return f"ear_{number:05d}_{_side(number)}"


def _landmarks(vertices: Float32[np.ndarray, "v 3"], side: Side) -> Float[np.ndarray, "55 3"]:
    """On a whole head ("all" parts), model frame."""
    points = load_ear_template(side).landmarks
    in_template = load_built_in().template_vertices[points.corners]
    corners = np.searchsorted(load_built_in("all").template_vertices, in_template)
    return np.einsum("pk,pkc->pc", points.weights, vertices[corners].astype(np.float64))


def _draw_camera(
    rng: np.random.Generator, landmarks: Float[np.ndarray, "55 3"], side: Side
) -> tuple[float, ScaledOrthographicCamera]:
    """The head's yaw, and the camera that has the ear near the middle of its picture."""
    from_front = np.radians(90 + np.clip(rng.normal(0, 20), -40, 40))
    yaw = float(from_front if side == "left" else -from_front)
    pitch, roll = np.radians(rng.normal(0, (9, 12)))
    rotation = rotation_from_euler(pitch, yaw, roll)
    unscaled = ScaledOrthographicCamera(1.0, rotation, np.zeros(3)).project(landmarks)[:, :2]
    low, high = unscaled.min(axis=0), unscaled.max(axis=0)
    scale = PICTURE_SIZE * rng.uniform(0.4, 0.64) / float((high - low).max())
    place = (PICTURE_SIZE - 1) / 2 + PICTURE_SIZE * rng.uniform(-0.05, 0.05, 2)
    return yaw, ScaledOrthographicCamera(scale, rotation, np.array([*(place - scale * (low + high) / 2), 0.0]))

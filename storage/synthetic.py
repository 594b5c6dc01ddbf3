"""A folder shaped like 300W-LP, drawn from the built-in model: the source of whoever has no 300W-LP.

A *family* is one invented person with one expression: ``_0`` stands for the photograph, a nearly frontal picture, and
``_1 … _k`` turn the head on to one side, up to profile, as the face profiling of Zhu et al. (2016) does. Families lie
in AFW, HELEN, LFPW and IBUG, their mirror images in the ``*_Flip`` twins. Every picture is a 450 × 450 JPEG beside a
`.mat` with the set's own keys, types and units, **traps included**: the `pt2d` of a ``_k`` file is the ``_0`` file's,
byte for byte; that of a ``*_Flip`` file is mirrored without renaming its points; a ``*_Flip`` file's parameters are a
fit to the mirrored picture and not a mirror of the parameters.

What differs from the set, on purpose: pictures are drawn, so parameters and pixels agree exactly; each view has a
light of its own; `pt2d` holds the model's fixed landmarks, so jaw points of ``_0`` do not slide to the visible contour;
`roi` is the whole picture, because there is no larger photograph it was cut from.
"""

import itertools
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8
from threadpoolctl import threadpool_limits

from geometry.albedo import head_albedo_sampler
from geometry.built_in import BuiltInModel, load_built_in
from geometry.camera import ScaledOrthographicCamera
from geometry.display_colour import GAMMA, LEVELS
from geometry.linear_albedo import head_linear_albedo
from geometry.morphable_model import Coefficients
from geometry.rotation import rotation_from_euler
from render.backgrounds import draw_background
from render.portrait import PaintedMesh, draw_portrait
from render.shading import ColorTransform, PhongLight
from storage.annotations import IMAGE_HEIGHT, write_annotation
from storage.drawing_workers import drawn_by_workers
from storage.drawn_folder import DrawnFolder
from storage.jpeg import decode_jpeg, encode_jpeg
from storage.sample_photograph import write_photograph
from storage.sources import SUBSETS
from storage.whole_files import write_atomically

RECIPE = 1
"""Raised by hand when the same seed gives other bytes than before."""

MARKER_NAME = "sample.json"

_TRIES = 100
_MIRROR_RESIDUE_MM = 0.185

# What a stream of random numbers is for: (seed, purpose, identity, expression, view) makes a generator of its own, so
# that a picture does not depend on which others were drawn, by whom, or in which order.
_IDENTITY, _EXPRESSION, _FAMILY, _VIEW = range(4)


@dataclass(frozen=True, slots=True)
class Family:
    """One invented person with one expression, seen from `n_views` sides, and the mirror images of these pictures."""

    seed: int
    identity: int
    expression: int
    n_views: int

    @property
    def subset(self) -> str:
        """The folder that the pictures lie in; their mirror images lie in its ``_Flip`` twin."""
        return SUBSETS[self.identity % len(SUBSETS)]

    @property
    def photograph(self) -> str:
        """The files' stem without the view's number, in the manner of the subset."""
        row, number = self.identity // len(SUBSETS), 100 * self.identity + self.expression + 1
        match self.subset:
            case "LFPW":  # a file's name tells whether its photograph belongs to the training part
                return f"LFPW_image_{'test' if row % 3 == 2 else 'train'}_{number:04d}"
            case "IBUG":
                return f"IBUG_image_{number:03d}_1"
            case subset:
                return f"{subset}_{7_000_000 + number}_1"

    def path(self, folder: Path, view: int, *, flip: bool) -> Path:
        """The picture of one view; its annotation has the same stem."""
        return folder / (self.subset + "_Flip" * flip) / f"{self.photograph}_{view}.jpg"

    def rng(self, purpose: int, view: int = 0) -> np.random.Generator:
        """The generator of one purpose; a person's draws are the same in all of their families."""
        expression = 0 if purpose == _IDENTITY else self.expression
        return np.random.default_rng([self.seed, purpose, self.identity, expression, view])


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """What a sample folder was made from; `sample.json` holds it, and is written when everything else is there.

    `families` counts invented ones; the photograph and its mirror image, if there, come on top of them.
    """

    recipe: int
    seed: int
    n_identities: int
    n_expressions: int
    n_views: int
    photograph: bool
    families: int
    pictures: int
    model: str
    model_fingerprint: str


def plan_families(*, seed: int, n_identities: int, n_expressions: int, n_views: int) -> list[Family]:
    """All families of a folder; write them in any order and anywhere."""
    if min(n_identities, n_expressions, n_views) < 1 or n_views > 100:
        raise ValueError(
            f"a sample of {n_identities} identities × {n_expressions} expressions × {n_views} views: "
            "each must be at least 1, and views number 0 to 99"
        )
    pairs = itertools.product(range(n_identities), range(n_expressions))
    return [Family(seed, identity, expression, n_views) for identity, expression in pairs]


def write_sample_folder(
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    n_identities: int = 12,
    n_expressions: int = 2,
    n_views: int = 8,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SampleRecord:
    """Write the folder, or what is missing of it; a finished one is left as it is.

    A seed gives the same bytes with any number of workers (processes, started by forkserver) and in any order.
    `progress` hears after every family how many are done, and of how many.
    Raises ValueError for a folder with another sample in it, or with anything else.
    """
    folder = Path(folder)
    families = plan_families(seed=seed, n_identities=n_identities, n_expressions=n_expressions, n_views=n_views)
    model = load_built_in()
    record = SampleRecord(
        recipe=RECIPE,
        seed=seed,
        n_identities=n_identities,
        n_expressions=n_expressions,
        n_views=n_views,
        photograph=True,
        families=len(families),
        pictures=2 * n_views * len(families) + 2,
        model=model.name,
        model_fingerprint=model.fingerprint,
    )
    drawn = DrawnFolder(folder, "sample", json.dumps(asdict(record), indent=2) + "\n")
    if not drawn.begin():
        return record
    write_photograph(folder)
    written = drawn_by_workers(partial(write_family, folder), families, workers=workers)
    for done, _ in enumerate(written, start=1):
        progress(done, len(families))
    drawn.finish()
    return record


def write_family(folder: str | os.PathLike[str], family: Family) -> Family:
    """Write the pictures and annotations of one family and of its mirror images, unless they are all there."""
    folder, views = Path(folder), range(family.n_views)
    paths, flip_paths = ([family.path(folder, view, flip=flip) for view in views] for flip in (False, True))
    if all(path.with_suffix(suffix).exists() for path in paths + flip_paths for suffix in (".jpg", ".mat")):
        return family
    for path in (paths[0], flip_paths[0]):
        path.parent.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(1):  # sums, and so bytes, depend on how many threads share a product
        _write_views(family, paths, flip_paths)
    return family


def _write_views(family: Family, paths: list[Path], flip_paths: list[Path]) -> None:
    face = draw_face(family)
    model = load_built_in()
    mirrored = model.mirror_coefficients(face.coefficients)
    size_hw = (IMAGE_HEIGHT, IMAGE_HEIGHT)
    background = draw_background(family.rng(_FAMILY, 1), size_hw=size_hw)  # one for all views, as in the set
    pt2d = flip_pt2d = None
    for view, (path, flip_path) in enumerate(zip(paths, flip_paths, strict=True)):
        shot = draw_shot(family, view, face)
        jpeg = encode_jpeg(draw_picture(family, view, face, shot, background))
        if pt2d is None:  # the photograph's landmarks, which all of the family's files repeat
            landmarks_px = shot.camera.project(model.rows(model.landmarks).positions(face.coefficients))
            pt2d = landmarks_px[:, :2].T + 1.0
            flip_pt2d = np.stack([IMAGE_HEIGHT + 1.0 - pt2d[0], pt2d[1]])  # mirrored; every point keeps its old name
        write_atomically(path, jpeg)
        write_annotation(
            path.with_suffix(".mat"),
            coefficients=face.coefficients,
            camera=shot.camera,
            landmarks_px=None,
            pt2d=pt2d,
            model=model,
            image_height=IMAGE_HEIGHT,
            texture=face.texture_coefficients,
            illumination=shot.light.illum_para,
            color=shot.color.color_para,
        )
        write_atomically(flip_path, encode_jpeg(decode_jpeg(jpeg)[:, ::-1]))
        write_annotation(
            flip_path.with_suffix(".mat"),
            coefficients=mirrored,
            camera=mirror_camera(shot.camera),
            landmarks_px=None,
            pt2d=flip_pt2d,
            model=model,
            image_height=IMAGE_HEIGHT,
            texture=face.mirrored_texture_coefficients,
            illumination=shot.light.mirrored.illum_para,
            color=shot.color.color_para,
            flip_dtypes=True,
        )


# ---------------------------------------------------------------------------------------------------- people


@dataclass(frozen=True, slots=True)
class Face:
    """One person with one expression: coefficients, and the painted mesh of all parts of the head."""

    coefficients: Coefficients
    mesh: PaintedMesh
    landmarks: Float32[np.ndarray, "68 3"]
    texture_coefficients: Float[np.ndarray, "k_tex"]
    mirrored_texture_coefficients: Float[np.ndarray, "k_tex"]


@dataclass(frozen=True, slots=True)
class _Person:
    identity: Float[np.ndarray, "k_id"]
    texture: Float32[np.ndarray, "v 3"]  # 0 … 255, display-referred, of all parts
    texture_coefficients: Float[np.ndarray, "k_tex"]
    mirrored_texture_coefficients: Float[np.ndarray, "k_tex"]


def draw_face(family: Family) -> Face:
    """The family's face. The person is drawn once for all of their families.

    The modes of the built-in model are not closed under mirroring, least for one-sided mouths. People (with some
    reserve) and expressions are drawn until the mirrored face is again a face of the model to within 0.185 mm for 99 %
    of the skin, 0.3 px in these pictures: else the parameters of the ``*_Flip`` twin would not describe its picture.
    """
    person, model, head = _draw_person(family.seed, family.identity), load_built_in(), load_built_in("all")
    rng = family.rng(_EXPRESSION)
    coefficients = _draw_mirrorable(
        lambda: Coefficients(person.identity, model.draw_expression(rng)), limit_mm=_MIRROR_RESIDUE_MM
    )
    vertices = head.vertices(coefficients)
    return Face(
        coefficients,
        PaintedMesh.of(vertices, head.triangles, person.texture),
        vertices[head.landmark_vertices],
        person.texture_coefficients,
        person.mirrored_texture_coefficients,
    )


@lru_cache(maxsize=2)
def _draw_person(seed: int, identity: int) -> _Person:
    model, colours = load_built_in(), head_linear_albedo()
    rng = Family(seed, identity, 0, 1).rng(_IDENTITY)
    neutral = _draw_mirrorable(
        lambda: Coefficients(model.draw_identity(rng), np.zeros(model.n_expression)), limit_mm=0.9 * _MIRROR_RESIDUE_MM
    )
    albedo = head_albedo_sampler().sample(rng).albedo ** np.float32(1 / GAMMA)
    return _Person(
        neutral.identity,
        albedo * np.float32(LEVELS),
        colours.project(albedo),
        colours.project(albedo[colours.model.mirror]),
    )


def _draw_mirrorable(draw: Callable[[], Coefficients], *, limit_mm: float) -> Coefficients:
    """The first draw whose mirror image the model has: about every third person, two expressions of three."""
    model = load_built_in()
    for _ in range(_TRIES):
        coefficients = draw()
        if mirror_residue_mm(model, coefficients) <= limit_mm:
            return coefficients
    raise ValueError(
        f"none of {_TRIES} draws has a mirror image in the built-in model to {limit_mm} mm; take another seed"
    )


def mirror_residue_mm(model: BuiltInModel, coefficients: Coefficients) -> float:
    """How far, for 99 % of the vertices, the mirrored face lies from the model's nearest face."""
    mirrored = model.mirror_vertices(model.vertices(coefficients))
    fitted = model.vertices(model.mirror_coefficients(coefficients))
    return float(np.quantile(np.linalg.norm(fitted - mirrored, axis=-1), 0.99))


def mirror_camera(camera: ScaledOrthographicCamera) -> ScaledOrthographicCamera:
    """The camera that shows the mirrored face where the mirrored picture has it: yaw and roll change sign, and x."""
    across = np.diag([-1.0, 1.0, 1.0])
    x, y, z = camera.translation_px
    return ScaledOrthographicCamera(
        camera.scale, across @ camera.rotation @ across, np.array([IMAGE_HEIGHT - 1.0 - x, y, z])
    )


# ---------------------------------------------------------------------------------------------------- pictures


@dataclass(frozen=True, slots=True)
class Shot:
    """From where a picture is taken, and in which light."""

    camera: ScaledOrthographicCamera
    light: PhongLight
    color: ColorTransform


def draw_shot(family: Family, view: int, face: Face) -> Shot:
    """View 0 is nearly frontal; the others turn on in even steps to the side it looks to, the last one to profile."""
    rng = family.rng(_FAMILY)
    first_yaw, tilt = np.radians(rng.uniform(-20, 20)), np.radians(rng.uniform((-14, -12), (14, 12)))
    last_yaw = np.copysign(np.radians(rng.uniform(78, 90)), first_yaw)
    scale_px_per_mm = rng.uniform(1.2, 1.55)
    turned = view / max(family.n_views - 1, 1)

    rng = family.rng(_VIEW, view)
    pitch, roll = tilt + np.radians(rng.normal(0, 4, 2))
    rotation = rotation_from_euler(pitch, first_yaw + turned * (last_yaw - first_yaw), roll)
    at_origin = ScaledOrthographicCamera(scale_px_per_mm, rotation, np.zeros(3)).project(face.landmarks)
    middle = (at_origin.min(axis=0) + at_origin.max(axis=0))[:2] / 2
    place = np.array([IMAGE_HEIGHT / 2, IMAGE_HEIGHT / 2 + 25]) + rng.uniform(-12, 12, 2)
    depth = rng.uniform(-80, -40)  # any number will do in an orthographic picture; not 0, so that forgetting it shows
    camera = ScaledOrthographicCamera(scale_px_per_mm, rotation, np.array([*(place - middle), depth]))
    return Shot(camera, _draw_light(rng), _draw_color(rng))


def _draw_light(rng: np.random.Generator) -> PhongLight:
    """Ambient light and a lamp, slightly different in colour; the lamp is before the face and mostly above it."""
    ambient = rng.uniform(0.45, 0.70) * _tint(rng)
    directional = rng.uniform(0.35, 0.70) * _tint(rng)
    elevation, azimuth = rng.uniform(-0.2, 0.9), rng.uniform(-1.2, 1.2)
    return PhongLight(ambient, directional, elevation, azimuth, specular=rng.uniform(10, 60))


def _tint(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """White, a little warmer or cooler."""
    return 1 + rng.normal(0, 0.05) * np.array([1.0, 0.0, -1.0]) + rng.normal(0, 0.012, 3)


def _draw_color(rng: np.random.Generator) -> ColorTransform:
    """Rounded to float32, as the file stores it, so that the stored values describe the picture exactly."""
    gain, offset = rng.uniform(0.95, 1.15) * (1 + rng.normal(0, 0.015, 3)), rng.uniform(-3, 6, 3)
    values = np.concatenate([gain, offset, [rng.uniform(0.85, 1.05)]])
    return ColorTransform.from_color_para(values.astype(np.float32).astype(np.float64))


def draw_picture(
    family: Family, view: int, face: Face, shot: Shot, background: Float32[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture as a camera's sensor gives it: RGB, a little soft, a little noisy."""
    portrait = draw_portrait(face.mesh, camera=shot.camera, light=shot.light, color=shot.color, background=background)
    rng = family.rng(_VIEW, 100 + view)
    soft = cv2.GaussianBlur(portrait, (0, 0), rng.uniform(0.3, 0.8))
    noise = rng.standard_normal(soft.shape, dtype=np.float32) * np.float32(rng.uniform(0.003, 0.012))
    return np.rint(np.clip(soft + noise, 0, 1) * 255).astype(np.uint8)

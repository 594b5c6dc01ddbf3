"""A few pictures fitted at once, without a data set: each becomes a fit file, a picture and a ``.mat``."""

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from flows.config import FitsConfig
from flows.face_fits import Face, FitRecipe, FittedFace, fit_file, landmarks_of_68
from flows.models_at_hand import model_at_hand
from flows.progress import ProgressMaker, silent_for
from storage.annotations import write_annotation
from storage.bad_sample import BadSample, Rejected
from storage.detector import LICENCE, LandmarkDetector, NoDetector, find_weights
from storage.fit_files import SUFFIX, FitFile, write_fit_file
from storage.folder_walk import composed, split_suffix
from storage.images import MAX_IMAGE_FILE_BYTES, decode_photograph
from storage.jpeg import encode_jpeg
from storage.landmark_files import LANDMARK_SUFFIXES, read_landmarks
from storage.landmark_tables import TABLE_SUFFIXES, TableRow, read_landmark_table
from storage.manifest import ModelInfo
from storage.photographs import Origin
from storage.regular_files import read_regular_file
from storage.whole_files import write_atomically


@dataclass(frozen=True, slots=True)
class ImageFit:
    """One fitted face of one image: the file that was written, and what is in it."""

    image: Path
    path: Path
    fit: FitFile


@dataclass(frozen=True, slots=True)
class _Found:
    image: Path
    name: str
    landmarks_px: np.ndarray | BadSample
    origin: Origin


def fit_images(
    images: Sequence[Path],
    *,
    config: FitsConfig,
    landmarks: Path | None = None,
    weights: str | os.PathLike[str] | None = None,
    model: str | Sequence[str] = "built-in",
    out: str | os.PathLike[str] = "fits",
    same_person: bool = False,
    progress: ProgressMaker = silent_for,
) -> list[ImageFit | Rejected]:
    """Fit every face of the images and write ``<name>_0.fit.json``, ``.jpg`` and ``.mat`` into `out`.

    Landmarks come from the file `landmarks` (one image's, or a table), from a file beside each image, or from the
    detector with the 68-point model `weights` (default: where the system keeps it). `same_person`: all faces share one
    identity. A face that cannot be used is a Rejected with its reason; its source id is the image as given.

    Raises ValueError for a folder, for two images of one name and for landmarks that belong to none of them, NoDetector, OSError.
    """
    for image in images:
        if not image.exists():  # before anybody looks for its landmarks
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(image))
        if image.is_dir():
            raise ValueError(f"{image} is a folder, and `fit` takes pictures; `fit-landmarks` takes a whole folder")
    names = [split_suffix(image.name)[0] for image in images]
    _refuse_doubles(names)
    folder = Path(out)
    with threadpool_limits(1):  # the same bytes on any number of cores
        morphable, _ = model_at_hand(model, folder)
        recipe = FitRecipe.of(config, morphable)
        found = list(_found(images, names, landmarks, recipe, weights))
        _refuse_doubles([one.name for one in found])
        faces = [_face(one, config) for one in found]
        persons = ["the one"] * len(faces) if same_person else None
        info = ModelInfo(name=morphable.name, fingerprint=morphable.fingerprint, licence=morphable.licence)
        folder.mkdir(parents=True, exist_ok=True)
        outcomes: list[ImageFit | Rejected] = []
        with progress(len(found)) as report:
            for one, made in zip(found, recipe.fitted(faces, person_ids=persons), strict=True):
                if isinstance(made, BadSample):
                    outcomes.append(Rejected.because(str(one.image), made))
                else:
                    outcomes.append(_written(folder, one, made, recipe, info))
                report(1)
        return outcomes


def _refuse_doubles(names: Sequence[str]) -> None:
    doubles = [name for name in names if names.count(name) > 1]
    if doubles:
        raise ValueError(f"two faces would be called {doubles[0]}, and their fits be one file; fit them one by one")


def _face(found: _Found, config: FitsConfig) -> Face | BadSample:
    if isinstance(found.landmarks_px, BadSample):
        return found.landmarks_px
    frame = "upright" if found.origin == "detector" else config.landmarks_frame
    return Face(found.name, found.landmarks_px, found.origin, frame, partial(_read_image, found.image))


def _read_image(image: Path) -> bytes:
    return read_regular_file(image, limit_bytes=MAX_IMAGE_FILE_BYTES, follow_links=True)


def _written(folder: Path, found: _Found, face: FittedFace, recipe: FitRecipe, info: ModelInfo) -> ImageFit:
    picture = folder / f"{found.name}_0.jpg"
    licence = LICENCE if found.origin == "detector" else ""
    fit = fit_file(face, picture_name=picture.name, model=info, scheme=recipe.scheme.name, licence=licence)
    write_atomically(picture, encode_jpeg(face.picture))
    write_annotation(
        picture.with_suffix(".mat"),
        coefficients=face.coefficients,
        camera=face.camera,
        landmarks_px=landmarks_of_68(recipe.scheme, face.landmarks_px, face.model_landmarks_px),
        model=recipe.model,
        roi=face.square.roi,
    )
    path = folder / f"{found.name}_0{SUFFIX}"
    write_fit_file(path, fit)
    return ImageFit(found.image, path, fit)


# -------------------------------------------------------------------------------------------------------- landmarks


def _found(
    images: Sequence[Path],
    names: Sequence[str],
    landmarks: Path | None,
    recipe: FitRecipe,
    weights: str | os.PathLike[str] | None,
) -> Iterator[_Found]:
    """Every face with its landmarks, or what is wrong with them."""
    n_points = len(recipe.scheme)
    if landmarks is not None and _is_table(landmarks, n_images=len(images)):
        yield from _from_table(images, names, read_landmark_table(landmarks, n_points=n_points), landmarks)
        return
    if landmarks is not None and len(images) != 1:
        raise ValueError(
            f"{landmarks.name} holds the landmarks of one face, and {len(images)} images are given: give a table "
            f"({', '.join(TABLE_SUFFIXES)}), or put a landmark file beside each image"
        )
    detector = None
    for image, name in zip(images, names, strict=True):
        beside = [image.with_name(f"{name}.{suffix}") for suffix in LANDMARK_SUFFIXES]
        file = landmarks or next((path for path in beside if path.is_file()), None)
        origin: Origin = "detector" if file is None else _origin(file)
        try:
            if file is not None:
                yield _Found(image, name, read_landmarks(file, n_points=n_points), origin)
                continue
            if recipe.scheme.name != "ibug-68":
                raise ValueError(f"there are no landmarks beside {image}, and the detector knows ibug-68 alone")
            detector = detector or _detector(image, weights)
            yield _Found(image, name, detector.detect(decode_photograph(_read_image(image))), origin)
        except BadSample as bad:
            yield _Found(image, name, bad, origin)


def _detector(image: Path, weights: str | os.PathLike[str] | None) -> LandmarkDetector:
    try:
        return LandmarkDetector(find_weights(weights))
    except NoDetector as none:
        raise NoDetector(f"{image}: {none}") from None


def _origin(file: Path) -> Origin:
    for suffix in LANDMARK_SUFFIXES:
        if suffix == split_suffix(file.name)[1]:
            return suffix
    raise ValueError(
        f"{file.name}: landmarks are read from .{', .'.join(LANDMARK_SUFFIXES)}, and tables of them from "
        f".{', .'.join(TABLE_SUFFIXES)}"
    )


def _is_table(landmarks: Path, *, n_images: int) -> bool:
    """JSON is either: a table for several images, one face's landmarks for one."""
    suffix = split_suffix(landmarks.name)[1]
    if suffix != "json" or n_images > 1:
        return suffix in TABLE_SUFFIXES
    with open(landmarks, "rb") as stream:
        start = stream.read(4096).decode("utf-8-sig", errors="replace")
    return "".join(start.split())[:2] == "[{"


def _from_table(
    images: Sequence[Path], names: Sequence[str], rows: Sequence[TableRow], table: Path
) -> Iterator[_Found]:
    """The rows that name an image: by its path as given, or by its file's name."""
    used = 0
    for image, name in zip(images, names, strict=True):
        places = {composed(image.as_posix()), composed(image.name)}
        mine = [row for row in rows if composed(row.path.removeprefix("./")) in places]
        used += len(mine)
        for row in mine:
            yield _Found(image, f"{name}_{row.face}" if row.face else name, row.landmarks_px, "table")
        if not mine:
            sentence = f"{table.name} has no row for {image.name}; its paths are as given here, or file names"
            yield _Found(image, name, BadSample("source.no_landmarks", sentence), "table")
    if not used:
        raise ValueError(f"{table.name} names none of the images; its first path is {rows[0].path if rows else 'none'}")

"""The one real photograph of the sample folder: scikit-image's astronaut (NASA, public domain), 68 points of our own.

The square of the photograph around the face is enlarged to 450 × 450, and the built-in model is fitted to the points,
without letting those of the jaw slide to the contour. The mirror image gets a fit of its own. Texture and light are not
fitted: a photograph's file lacks Tex_Para, Illum_Para and Color_Para.
"""

import json
import os
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from threadpoolctl import threadpool_limits

from geometry.built_in import load_built_in
from geometry.fit import Fit, fit_landmarks
from geometry.frames import Similarity2D
from geometry.landmarks import JAW, MIRROR, N_LANDMARKS
from storage.annotations import IMAGE_HEIGHT, write_annotation
from storage.jpeg import decode_jpeg, encode_jpeg
from storage.whole_files import write_atomically

REAL_PHOTOGRAPH = "astronaut"
STEM = f"{REAL_PHOTOGRAPH}_0"
SUBSET = "AFW"

# The square [left, left + side) × [top, top + side) of the photograph, in its own pixels, counted from zero.
LEFT, TOP, SIDE = 113, 8, 225

_JAW_WEIGHT = 0.2
"""The points follow the visible outline, which slides over the cheek when the head turns: less sure than the others."""


def image_from_photograph() -> Similarity2D:
    """From the pixels of `skimage.data.astronaut()` to those of the sample's picture: a square is enlarged."""
    scale = IMAGE_HEIGHT / SIDE
    # Pixel centres: x' + ½ = scale · (x − left + ½)
    return Similarity2D.of(scale=scale, translation_px=(scale * (0.5 - LEFT) - 0.5, scale * (0.5 - TOP) - 0.5))


def photograph_landmarks_px() -> Float[np.ndarray, "68 2"]:
    """The 68 points in `skimage.data.astronaut()`, placed by hand; `geometry/data/astronaut_68.json` tells more."""
    text = resources.files("geometry").joinpath("data/astronaut_68.json").read_text(encoding="utf-8")
    return np.array(json.loads(text)["landmarks_px"], dtype=np.float64)


def read_photograph() -> UInt8[np.ndarray, "h w 3"]:
    """The sample's picture, RGB, before it is compressed."""
    import skimage.data  # on first use: 0.1 s

    square = skimage.data.astronaut()[TOP : TOP + SIDE, LEFT : LEFT + SIDE]
    return cv2.resize(square, (IMAGE_HEIGHT, IMAGE_HEIGHT), interpolation=cv2.INTER_CUBIC)


def write_photograph(folder: str | os.PathLike[str]) -> None:
    """Write ``AFW/astronaut_0`` and its mirror image with their annotations, unless they are all there."""
    path, flip_path = (Path(folder) / subset / f"{STEM}.jpg" for subset in (SUBSET, f"{SUBSET}_Flip"))
    if all(p.with_suffix(suffix).exists() for p in (path, flip_path) for suffix in (".jpg", ".mat")):
        return
    landmarks_px = image_from_photograph().apply(photograph_landmarks_px())
    flip_landmarks_px = Similarity2D.mirror(IMAGE_HEIGHT).apply(landmarks_px)[MIRROR]
    jpeg = encode_jpeg(read_photograph())
    _write(path, jpeg, landmarks_px, is_flip=False)
    _write(flip_path, encode_jpeg(decode_jpeg(jpeg)[:, ::-1]), flip_landmarks_px, is_flip=True)


def fit_photograph(landmarks_px: Float[np.ndarray, "68 2"]) -> Fit:
    """The built-in model fitted to 68 points of a 450 × 450 picture; ValueError where the points show no face."""
    weights = np.ones(N_LANDMARKS)
    weights[JAW] = _JAW_WEIGHT
    with threadpool_limits(1):  # sums, and so bytes, depend on how many threads share a product
        fit = fit_landmarks(
            load_built_in(), landmarks_px, image_size_hw=(IMAGE_HEIGHT, IMAGE_HEIGHT), weights=weights, source_ids=STEM
        )
    if isinstance(fit, list):
        raise TypeError("one face has one fit")
    if not fit.result.has_face:
        raise ValueError(f"the 68 points of {STEM} cannot be fitted: {fit.result.advice}")
    return fit


def _write(path: Path, jpeg: bytes, landmarks_px: Float[np.ndarray, "68 2"], *, is_flip: bool) -> None:
    fit = fit_photograph(landmarks_px)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, jpeg)
    write_annotation(
        path.with_suffix(".mat"),
        coefficients=fit.coefficients,
        camera=fit.camera,
        landmarks_px=landmarks_px,
        model=load_built_in(),
        roi=np.array([LEFT + 1, TOP + 1, LEFT + SIDE, TOP + SIDE]),  # inclusive, counted from one
        flip_dtypes=is_flip,
    )

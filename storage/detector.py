"""Landmarks where there are none: dlib's face detector and its 68-point model, an extra.

The detector's own weights come with dlib (``pip install 'facefoundry[detect]'``). Those of the 68 points do not: their
file must be there already, as ``shape_predictor_68_face_landmarks.dat`` given by its path, or installed by Debian's
package libdlib-data. Nothing is ever downloaded. That model was trained on 300-W, whose terms exclude commercial use,
whatever licence a copy of the file is handed on with: :data:`LICENCE` goes wherever its points go.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from geometry.extras import how_to_get
from geometry.landmarks import N_LANDMARKS
from storage.bad_sample import BadSample

LICENCE = "landmarks detected by dlib's 68-point model, trained on 300-W: non-commercial use only"

WEIGHTS_NAME = "shape_predictor_68_face_landmarks.dat"
_INSTALLED = Path("/usr/share/dlib") / WEIGHTS_NAME  # where Debian's libdlib-data puts it
_LONGEST_SIDE_PX = 1000
"""Faces are looked for in a picture of at most this size: smaller faces than a fifteenth of it are not worth a fit."""
_UPSAMPLE_BELOW_PX = 600  # dlib finds faces of 80 px and more; a small picture is doubled first
_LOWER, _LARGER = 0.14, 1.58 / 1.5


class NoDetector(RuntimeError):
    """The detector, or its file of weights, is not at hand."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The 68-point model's file, and the sha256 of its bytes."""

    path: Path
    sha256: str


def find_weights(path: str | os.PathLike[str] | None = None) -> Weights:
    """The file that is given, or the one that Debian's libdlib-data installs. Raises NoDetector with what to do."""
    chosen = _INSTALLED if path is None else Path(path)
    if not chosen.is_file():
        nothing = "no landmarks are given (.pts, .json or .mat beside the picture) and no detector is set up"
        what = f"there is no file {chosen}" if path is not None else nothing
        raise NoDetector(
            f"{what}: give the path of {WEIGHTS_NAME} (--weights), or install libdlib-data (Debian, Ubuntu). "
            "It is never downloaded here, and its terms exclude commercial use. Or let a system find them that you "
            "trained: `facefoundry predict CHECKPOINT PICTURE` writes a .json that `fit --landmarks` reads"
        )
    digest = hashlib.sha256()
    with open(chosen, "rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return Weights(chosen, digest.hexdigest())


class FaceDetector:
    """Where a photograph's largest face is. Its weights come with dlib."""

    def __init__(self) -> None:
        """Raises NoDetector without dlib."""
        dlib = _dlib()
        self._dlib: Any = dlib
        self.version = str(dlib.__version__)
        self._faces = dlib.get_frontal_face_detector()

    def landmark_box(self, picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "4"]:
        """About where the box of the 68 points will be: left, top, right, bottom. Raises BadSample without a face.

        dlib's square sits too high on the face: PRNet's demonstration lowers it by 0.14 of its side, and takes 1.58 times its
        side for a crop where 1.5 times the landmarks' box was trained on.
        """
        box = self.largest_face(picture)
        side = (box.right() - box.left() + box.bottom() - box.top()) / 2
        centre = np.array([(box.left() + box.right()) / 2, (box.top() + box.bottom()) / 2 + _LOWER * side])
        half = side * _LARGER / 2
        return np.concatenate([centre - half, centre + half])

    def largest_face(self, picture: UInt8[np.ndarray, "h w 3"]) -> Any:
        """dlib's box of the largest face, in pixels of `picture`. Raises BadSample when there is none."""
        longest = max(picture.shape[:2])
        factor = min(1.0, _LONGEST_SIDE_PX / longest)
        small = (
            picture if factor == 1.0 else cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        )
        boxes = self._faces(np.ascontiguousarray(small), 1 if longest < _UPSAMPLE_BELOW_PX else 0)
        if not boxes:
            raise BadSample(
                "detect.no_face", "the detector finds no face; give landmarks for this picture, or leave it out"
            )
        largest = max(boxes, key=lambda box: (box.area(), -box.left(), -box.top()))
        sides = (largest.left(), largest.top(), largest.right(), largest.bottom())
        return self._dlib.rectangle(*(round(side / factor) for side in sides))


class LandmarkDetector(FaceDetector):
    """The 68 points of a photograph's largest face."""

    def __init__(self, weights: Weights) -> None:
        """Load the weights (0.5 s). Raises NoDetector without dlib, or for a file that is no 68-point model."""
        super().__init__()
        try:
            self._points = self._dlib.shape_predictor(str(weights.path))
        except RuntimeError as error:
            raise NoDetector(f"{weights.path} is no shape predictor of dlib's ({error}); fetch it again") from None

    def detect(self, picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "68 2"]:
        """Pixels of `picture` (RGB, upright), in whole numbers, as dlib gives them. Raises BadSample without a face."""
        box = self.largest_face(picture)
        shape = self._points(picture, box)
        if shape.num_parts != N_LANDMARKS:
            raise NoDetector(f"the weights find {shape.num_parts} points and not {N_LANDMARKS}: give {WEIGHTS_NAME}")
        return np.array([(part.x, part.y) for part in shape.parts()], dtype=np.float64)


def _dlib() -> ModuleType:
    try:
        import dlib
    except ImportError as error:
        raise NoDetector(
            f"dlib is not there ({error}): {how_to_get('detect')}, or give landmarks for every picture"
        ) from None
    return dlib

"""Where a picture's faces are, for prediction.

In this order: the file of boxes that is given; landmarks beside the picture; dlib's detector, if it is installed; the whole
picture, whose crop is then cut a second time about what was found.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from storage.bad_sample import BadSample
from storage.detector import FaceDetector, NoDetector
from storage.evaluation_boxes import read_boxes
from storage.images import MAX_IMAGE_FILE_BYTES, decode_image, decode_photograph
from storage.landmark_files import LANDMARK_SUFFIXES, read_landmarks
from storage.regular_files import read_regular_file

AUTO, LANDMARKS, DETECTOR, WHOLE = "auto", "landmarks", "detector", "whole"

Box = Float[np.ndarray, "4"]


class PictureBoxes:
    """One choice of boxes for all pictures.

    `choice` is the path of a file of boxes, :data:`AUTO`, :data:`LANDMARKS`, :data:`DETECTOR` or :data:`WHOLE`. A network
    that `learnt_whole` photographs is given them whole, unless a file says otherwise.
    """

    def __init__(self, choice: str, *, passes: int, learnt_whole: bool) -> None:
        self._choice, self._passes, self._learnt_whole = choice, passes, learnt_whole
        self._given = None if choice in (AUTO, LANDMARKS, DETECTOR, WHOLE) else read_boxes(choice)

    def read(self, path: Path) -> UInt8[np.ndarray, "h w 3"]:
        """The picture: upright as EXIF says, or as its file stores it where boxes or landmarks count its pixels."""
        data = read_regular_file(path, limit_bytes=MAX_IMAGE_FILE_BYTES, follow_links=True)
        counted = self._given is not None or (self._choice in (AUTO, LANDMARKS) and _beside(path) is not None)
        return decode_image(data) if counted else decode_photograph(data)

    def of(self, path: Path, image: UInt8[np.ndarray, "h w 3"]) -> tuple[list[Box | None], str, int]:
        """Boxes, where they come from, and how often the crop is cut. Raises BadSample without a face, NoDetector."""
        if self._given is not None:
            boxes = self._given.get(path.stem) or self._given.get(path.with_suffix("").as_posix())
            if not boxes:
                raise BadSample("boxes.missing", f"{self._choice} has no box of this picture; add one, or leave it out")
            return list(boxes), f"the file {Path(self._choice).name}", self._passes
        if self._learnt_whole:
            return [None], "the whole photograph, as the network learnt", self._passes
        beside = _beside(path)
        if self._choice == LANDMARKS or (self._choice == AUTO and beside is not None):
            if beside is None:
                raise BadSample("landmarks.missing", "there is no .pts, .json or .mat beside it; choose other boxes")
            points = read_landmarks(beside)
            known = points[np.isfinite(points).all(axis=1)]
            box = np.concatenate([known.min(axis=0), known.max(axis=0)])
            return [box], f"landmarks in {beside.name}", self._passes
        if self._choice in (AUTO, DETECTOR) and (detector := self._detector) is not None:
            box = np.asarray(detector.landmark_box(image), dtype=np.float64)  # of the largest face
            return [box], f"dlib {detector.version}", self._passes
        height, width = image.shape[:2]
        return [_middle_square(height, width)], "the whole picture", max(self._passes, 2)

    @cached_property
    def _detector(self) -> FaceDetector | None:
        """dlib's, or None where it is not installed and nobody asked for it. Raises NoDetector where somebody did."""
        try:
            return FaceDetector()
        except NoDetector:
            if self._choice == DETECTOR:
                raise
            return None


def _beside(picture: Path) -> Path | None:
    """The landmark file of the picture's name."""
    return next((p for s in LANDMARK_SUFFIXES if (p := picture.with_suffix(f".{s}")).is_file()), None)


def _middle_square(height: int, width: int) -> Box:
    """The box that a face would have that fills the picture: two thirds of its shorter side, in the middle."""
    side = min(height, width) / 1.5
    left, top = (width - 1 - side) / 2, (height - 1 - side) / 2
    return np.array([left, top, left + side, top + side])

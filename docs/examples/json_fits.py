"""A source of your own: photographs of any size with a JSON file each, which holds a fit of the morphable model.

``NAME.json`` beside ``NAME.jpg`` or ``NAME.png``::

    {"identity": [...], "expression": [...], "rotation": [[...], [...], [...]], "scale": 0.9, "translation_px": [x, y, z]}

coefficients in the model file's scaling, the camera in true pixels (x right, y down, z toward the viewer).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from flows.config import PosmapConfig
from flows.posmaps import Picture, PosmapRecipe
from flows.recipe import PlannedPicture, PlannedSource, ReadFile
from geometry.camera import ScaledOrthographicCamera
from geometry.morphable_model import Coefficients
from storage.annotations import Annotation
from storage.bad_sample import BadSample
from storage.photographs import open_photographs


class JsonFitsConfig(PosmapConfig):
    """Position maps from photographs with JSON fits."""

    name: str = "json-posmaps"
    annotations: Literal["json-fits"] = "json-fits"  # so that a manifest says which recipe it is of


class JsonFitsRecipe(PosmapRecipe):
    """Position maps as 300W-LP's are made, but for what is read."""

    config_type: ClassVar = JsonFitsConfig
    picture_hw: ClassVar = None  # pictures of any size

    @classmethod
    def listed(cls, folder: Path) -> PlannedSource:
        """Every picture that has a JSON file beside it."""
        return PlannedSource.of_photographs(open_photographs(folder), kind="json-fits")

    def read(self, pictures: Sequence[PlannedPicture], root: Path, read_file: ReadFile) -> list[Picture | BadSample]:
        """Pictures and fits; one that cannot be used is a value in its place, and stops nothing."""
        found: list[Picture | BadSample] = []
        for picture in pictures:
            image, fit = (read_file(file) for file in picture.files)
            try:
                found.append(Picture(picture.source_id, image, annotation_of(json.loads(fit))))
            except (ValueError, KeyError, TypeError) as error:
                found.append(BadSample("json.fit", f"{picture.source_id}.json holds no fit: {error}"))
        return found


def annotation_of(fit: dict) -> Annotation:
    """One file's fit. Raises KeyError, TypeError and ValueError."""
    identity, expression, rotation, translation = (
        np.asarray(fit[name], dtype=np.float64) for name in ("identity", "expression", "rotation", "translation_px")
    )
    camera = ScaledOrthographicCamera(scale=float(fit["scale"]), rotation=rotation, translation_px=translation)
    unknown = np.full((68, 3), np.nan)  # no landmarks of its own to hold the model to
    return Annotation(Coefficients(identity, expression), camera, unknown, roi=None, kind="300W-LP", image_height=0)

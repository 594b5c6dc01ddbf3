"""A source of your own: photographs of any size with a JSON file each, which holds a fit of the morphable model.

``NAME.json`` beside ``NAME.jpg`` or ``NAME.png``::

    {"identity": [...], "expression": [...], "rotation": [[...], [...], [...]], "scale": 0.9, "translation_px": [x, y, z]}

Coefficients in the model file's scaling. The camera takes a vertex v of the model (millimetres, x to the viewer's right, y up, z
toward the viewer) to true pixels, counted from zero at the centre of the first one, y down, z toward the viewer::

    x = scale (R v)_x + t_x        y = t_y - scale (R v)_y        z = scale (R v)_z + t_z

So `rotation` is R by rows, with determinant +1, of axes that have y up: the turn to y down is the camera's. A head that looks
straight into the lens has the identity; one that turns to the viewer's right by a has [[cos a, 0, sin a], [0, 1, 0],
[-sin a, 0, cos a]]. From pitch, yaw and roll of 300W-LP it is `geometry.rotation.rotation_from_euler(pitch, yaw, roll)`.
`docs/examples/json_fit.json` is such a file.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from flows.config import PosmapConfig
from flows.posmap_sample import Picture
from flows.posmaps import PosmapRecipe
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

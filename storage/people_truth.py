"""What is true of a rendered person's picture: ``<stem>.truth.json`` beside it.

The file is there because 300W-LP's `.mat` cannot say it all. It has one kind of camera, scaled orthographic, and one
kind of light. A picture through a lens therefore has **no** `.mat`: the best scaled orthographic camera would be pixels
off, and nobody who reads it could know. Its truth is here: the pinhole camera and the coefficients, from which
:meth:`PictureTruth.project` gives every vertex to the last bit.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, Field

from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera
from geometry.landmarks import N_LANDMARKS
from geometry.morphable_model import Coefficients, MorphableModel
from render.people_config import HairStyle
from storage.bad_sample import BadSample
from storage.manifest import ModelInfo
from storage.regular_files import read_regular_file

SUFFIX = ".truth.json"
_MAX_BYTES = 1 << 20

Point3 = tuple[float, float, float]
Rows3 = tuple[Point3, Point3, Point3]


class _Document(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    pass


class OrthographicTruth(_Document):
    """A :class:`geometry.camera.ScaledOrthographicCamera`."""

    kind: Literal["orthographic"] = "orthographic"
    scale_px_per_mm: float
    rotation: Rows3
    translation_px: Point3

    @property
    def camera(self) -> ScaledOrthographicCamera:
        """From the model frame (mm) to the picture (px)."""
        return ScaledOrthographicCamera(self.scale_px_per_mm, np.array(self.rotation), np.array(self.translation_px))


class PerspectiveTruth(_Document):
    """A :class:`geometry.camera.PerspectiveCamera`."""

    kind: Literal["perspective"] = "perspective"
    focal_px: float
    principal_point_px: tuple[float, float]
    rotation: Rows3
    translation_mm: Point3

    @property
    def camera(self) -> PerspectiveCamera:
        """From the model frame (mm) to the picture (px)."""
        return PerspectiveCamera(
            self.focal_px, np.array(self.principal_point_px), np.array(self.rotation), np.array(self.translation_mm)
        )


class PhongTruth(_Document):
    """Illum_Para and Color_Para, as the `.mat` has them."""

    kind: Literal["phong"] = "phong"
    illumination: tuple[float, ...] = Field(min_length=10, max_length=10)
    color: tuple[float, ...] = Field(min_length=7, max_length=7)


class HarmonicTruth(_Document):
    """A :class:`render.harmonic_light.HarmonicLight` and the picture's colours after it."""

    kind: Literal["harmonics"] = "harmonics"
    radiance: tuple[Point3, ...] = Field(min_length=9, max_length=9)
    lamp: Point3
    highlight: Point3
    color: tuple[float, ...] = Field(min_length=7, max_length=7)


class StudioTruth(_Document):
    """A :class:`render.physical_view.StudioLight` and the picture's colours after it."""

    kind: Literal["studio"] = "studio"
    lamp: Point3
    colour: Point3
    ambient: Point3
    color: tuple[float, ...] = Field(min_length=7, max_length=7)


class PictureTruth(_Document):
    """One picture: who, how, from where, in which light. Pixels: x right, y down, first pixel (0, 0)."""

    format: Literal["facefoundry truth"] = "facefoundry truth"
    format_version: Literal[1] = 1
    picture: str
    size_hw: tuple[int, int]
    split: Literal["train", "validation"]
    person: int = Field(ge=0)
    expression_number: int = Field(ge=0)
    view: int = Field(ge=0)
    model: ModelInfo
    identity: tuple[float, ...]
    expression: tuple[float, ...]
    """Coefficients in the model's own scaling: those of the `.mat`."""
    camera: Annotated[OrthographicTruth | PerspectiveTruth, Field(discriminator="kind")]
    light: Annotated[PhongTruth | HarmonicTruth | StudioTruth, Field(discriminator="kind")]
    landmarks_px: tuple[Point3, ...] = Field(min_length=N_LANDMARKS, max_length=N_LANDMARKS)
    """The model's 68 fixed landmarks through the true camera, seen or hidden."""
    hair: HairStyle
    glasses: Literal["none", "clear", "dark"]

    @property
    def coefficients(self) -> Coefficients:
        """Identity and expression."""
        return Coefficients(np.array(self.identity), np.array(self.expression))

    def project(self, model: MorphableModel) -> Float[np.ndarray, "v 3"]:
        """Every vertex of `model` in the picture: what a position map of it holds.

        Raises ValueError for another model than the one that was drawn.
        """
        if model.fingerprint != self.model.fingerprint:
            raise ValueError(
                f"{self.picture} was drawn from model {self.model.name} ({self.model.fingerprint[:8]}…), and this one "
                f"is {model.name} ({model.fingerprint[:8]}…): its coefficients mean nothing there"
            )
        return self.camera.camera.project(model.vertices(self.coefficients))


def read_truth(path: str | os.PathLike[str]) -> PictureTruth:
    """Read one file. Raises BadSample when it is damaged or of another kind, OSError when it cannot be read at all."""
    path = Path(path)
    try:
        return PictureTruth.model_validate_json(read_regular_file(path, limit_bytes=_MAX_BYTES))
    except BadSample as bad:
        raise bad.about(path) from None
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise BadSample(
            "truth.format", f"{path.name} is no truth of a rendered picture ({first}); draw it again"
        ) from None


def rows_of(matrix: Float[np.ndarray, "3 3"]) -> Rows3:
    """A matrix as the file holds it."""
    first, second, third = ((float(x), float(y), float(z)) for x, y, z in matrix)
    return first, second, third


def point_of(values: Float[np.ndarray, "3"]) -> Point3:
    """A triple as the file holds it."""
    x, y, z = (float(value) for value in values)
    return x, y, z

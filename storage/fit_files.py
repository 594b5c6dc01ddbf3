"""One fitted face as a file: ``<name>.fit.json``, beside its picture and the ``.mat`` that other tools read.

JSON, so that anything can read it and nothing in it is executed; numbers are written so that they come back bit for
bit. The picture (``<name>.jpg``, the square around the face) and the model are named and not held: the model by its
fingerprint, since coefficients mean nothing without it.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, Field, field_validator, model_validator

from geometry.camera import ScaledOrthographicCamera
from geometry.frames import Similarity2D
from geometry.landmarks import N_LANDMARKS
from geometry.morphable_model import Coefficients, MorphableModel
from storage.bad_sample import BadSample
from storage.json_files import read_json_object
from storage.manifest import ModelInfo
from storage.photographs import Origin
from storage.regular_files import read_regular_file
from storage.whole_files import write_atomically

SUFFIX = ".fit.json"
FOLDER_MARKER = "fits.json"
"""In a folder that was written from a data set of fits: which one, and on what terms its landmarks are there."""

_MAX_BYTES = 4 << 20

Point = tuple[float, float]
Point3 = tuple[float, float, float]
Row3 = Annotated[tuple[Point3, Point3, Point3], Field()]


class FitFile(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A fitted face: all numbers in pixels are those of the picture, x right, y down, first pixel (0, 0)."""

    format: Literal["facefoundry fit"] = "facefoundry fit"
    format_version: Literal[1] = 1
    source_id: str
    picture: str
    """The picture's file, beside this one."""
    picture_size_hw: tuple[int, int]
    picture_from_photograph: Row3
    photograph_size_hw: tuple[int, int]
    model: ModelInfo
    identity: tuple[float, ...]
    expression: tuple[float, ...]
    """Coefficients in the model file's own scaling."""
    scale_px_per_mm: float
    rotation: Row3
    translation_px: Point3
    """The scaled orthographic camera from the model frame (mm)."""
    scheme: str
    landmark_origin: Origin
    licence: str = ""
    """Terms that the landmarks come with."""
    landmarks_px: tuple[Point | None, ...]
    """As they were given; null: missing."""
    fitted_px: tuple[Point, ...]
    """Where the surface points fall that the fit holds against them; jaw points that marched lie on the contour."""
    residual_px: tuple[float | None, ...]
    """Distance from each of them to its fitted surface point."""
    model_landmarks_px: tuple[Point3, ...]
    """The model's 68 landmarks where the fit places them."""
    result: str
    pose_stddev_rad: Point3
    surface_stddev_mm: float
    """How sure the fit is of rotation (about the camera's axes) and shape (pose taken out)."""

    @field_validator("picture")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not name or name != os.path.basename(name) or name.startswith(".") or "\\" in name:
            raise ValueError(f"the picture {name!r} is no plain file name: it lies beside the fit's file")
        return name

    @model_validator(mode="after")
    def _belongs_together(self) -> "FitFile":
        if not len(self.landmarks_px) == len(self.fitted_px) == len(self.residual_px):
            counts = f"{len(self.fitted_px)} fitted points and {len(self.residual_px)} residuals"
            raise ValueError(f"{len(self.landmarks_px)} landmarks have {counts}")
        if all(value is None for value in self.residual_px):
            raise ValueError("the fit has no landmarks at all")
        if len(self.model_landmarks_px) != N_LANDMARKS:
            raise ValueError(f"{len(self.model_landmarks_px)} landmarks of the model where {N_LANDMARKS} are expected")
        return self

    @property
    def coefficients(self) -> Coefficients:
        """Identity and expression."""
        return Coefficients(np.array(self.identity), np.array(self.expression))

    @property
    def camera(self) -> ScaledOrthographicCamera:
        """From the model frame to the picture."""
        return ScaledOrthographicCamera(self.scale_px_per_mm, np.array(self.rotation), np.array(self.translation_px))

    @property
    def similarity(self) -> Similarity2D:
        """From the photograph to the picture."""
        return Similarity2D(np.array(self.picture_from_photograph))

    @property
    def given_px(self) -> Float[np.ndarray, "p 2"]:
        """The landmarks that were given, NaN where missing."""
        points = [(np.nan, np.nan) if point is None else point for point in self.landmarks_px]
        return np.array(points, dtype=np.float64).reshape(-1, 2)

    @property
    def residuals(self) -> Float[np.ndarray, " p"]:
        """The residuals (px), NaN where missing."""
        return np.array([np.nan if value is None else value for value in self.residual_px])

    @property
    def mean_residual_px(self) -> float:
        """Mean distance of the landmarks that are there from their surface points."""
        return float(np.nanmean(self.residuals))

    def check_model(self, model: MorphableModel) -> None:
        """Raise ValueError when the coefficients belong to another model."""
        if model.fingerprint != self.model.fingerprint:
            raise ValueError(
                f"the fit of {self.source_id} is one of the model {self.model.name} ({self.model.fingerprint}), not of "
                f"{model.name} ({model.fingerprint}): it would come out as another face. Give that model"
            )
        model.check(self.coefficients)


def write_fit_file(path: str | os.PathLike[str], fit: FitFile) -> None:
    """Write the file, whole or not at all; equal fits give equal bytes."""
    write_atomically(Path(path), (fit.model_dump_json(indent=1) + "\n").encode())


def read_fit_file(path: str | os.PathLike[str]) -> FitFile:
    """The fit of a file. Raises ValueError for one that is none, OSError when it cannot be read."""
    try:
        return FitFile.model_validate_json(read_regular_file(path, limit_bytes=_MAX_BYTES, follow_links=True))
    except BadSample as bad:
        raise ValueError(f"{path}: {bad.sentence}") from None
    except ValueError as error:
        first = getattr(error, "errors", lambda: [{"msg": str(error), "loc": ()}])()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path} is no fit file of format 1: {where} {first['msg']}") from None


def folder_record(folder: Path) -> dict[str, object] | None:
    """What :data:`FOLDER_MARKER` says of a folder that was written from fits, None where there is none.

    It has "licence" (a text) at least. Raises ValueError for a marker that is damaged: the terms of the landmarks would be lost.
    """
    record = read_json_object(folder / FOLDER_MARKER)
    if record is not None and not isinstance(record.get("licence"), str):
        raise ValueError(
            f'{folder / FOLDER_MARKER} does not say on what terms the landmarks are there (no text "licence"); write the '
            "folder again with `facefoundry fit-landmarks`"
        )
    return record

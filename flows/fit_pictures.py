"""Looking at fits, and taking their meshes away: sheets for people, OBJ, PLY and GLB for programs.

A stored fit, from a data set or from a file, is brought to one form first (:class:`SeenFit`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from jaxtyping import Float, Float32, UInt8

from flows.models_at_hand import MODELS_FOLDER
from geometry.camera import ScaledOrthographicCamera
from geometry.landmarks import (
    INNER_LIPS,
    JAW,
    LEFT_BROW,
    LEFT_EYE,
    NOSE_RIDGE,
    NOSTRILS,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_EYE,
)
from geometry.models import load_model
from geometry.morphable_model import Coefficients, MorphableModel
from render.fit_view import fit_panels, sheet
from render.preview import encode_png
from render.shaded_view import NoRenderer, shaded_view
from render.vertex_colors import vertex_colors
from storage.bad_sample import BadSample
from storage.dataset import ShardedDataset
from storage.decoding import MissingModel, find_model
from storage.fit_files import FitFile, read_fit_file
from storage.images import MAX_IMAGE_FILE_BYTES, decode_image
from storage.manifest import ModelInfo
from storage.mesh_export import Format, export_mesh, upright_from_picture
from storage.regular_files import read_regular_file
from storage.store import Place

Frame = Literal["picture", "head"]

TURNS = (-35.0, 0.0, 35.0)
"""Degrees by which a sheet shows the mesh turned, beside the pose of the photograph: none."""

_PARTS = {
    "jaw": (JAW,),
    "brows": (RIGHT_BROW, LEFT_BROW),
    "nose": (NOSE_RIDGE, NOSTRILS),
    "eyes": (RIGHT_EYE, LEFT_EYE),
    "mouth": (OUTER_LIPS, INNER_LIPS),
}


@dataclass(frozen=True, slots=True)
class SeenFit:
    """One fit with its picture; pixels are the picture's."""

    source_id: str
    picture: UInt8[np.ndarray, "h w 3"]
    coefficients: Coefficients
    camera: ScaledOrthographicCamera
    given_px: Float[np.ndarray, "p 2"]
    fitted_px: Float[np.ndarray, "p 2"]
    residual_px: Float[np.ndarray, " p"]

    @classmethod
    def of_sample(cls, sample: Mapping[str, np.ndarray]) -> "SeenFit":
        """From a sample of a data set of fits."""
        return cls(
            source_id=str(sample["source_id"]),
            picture=np.ascontiguousarray(sample["image"]),
            coefficients=Coefficients(np.asarray(sample["identity"]), np.asarray(sample["expression"])),
            camera=ScaledOrthographicCamera.of_pose(np.asarray(sample["pose"])),
            given_px=np.asarray(sample["landmarks_px"], dtype=np.float64),
            fitted_px=np.asarray(sample["fitted_px"], dtype=np.float64),
            residual_px=np.asarray(sample["residual_px"], dtype=np.float64),
        )

    @classmethod
    def of_file(cls, path: Path, fit: FitFile) -> "SeenFit":
        """From a fit's file and the picture beside it. Raises ValueError for a picture that is not the fit's."""
        try:
            content = read_regular_file(path.parent / fit.picture, limit_bytes=MAX_IMAGE_FILE_BYTES, follow_links=True)
            picture = decode_image(content, expected_hw=fit.picture_size_hw)
        except BadSample as bad:
            raise ValueError(f"{path.parent / fit.picture}: {bad.sentence}") from None
        return cls(
            source_id=fit.source_id,
            picture=picture,
            coefficients=fit.coefficients,
            camera=fit.camera,
            given_px=fit.given_px,
            fitted_px=np.array(fit.fitted_px),
            residual_px=fit.residuals,
        )

    def vertices_px(self, model: MorphableModel) -> Float[np.ndarray, "v 3"]:
        """The posed mesh over the picture."""
        return self.camera.project(model.vertices(self.coefficients).astype(np.float64))

    def part_residuals_px(self) -> dict[str, float]:
        """Mean residual of all, and of jaw, brows, nose, eyes and mouth (of 68 points), where any is known."""
        means = {"all": _mean(self.residual_px)}
        if len(self.residual_px) == INNER_LIPS.stop:
            for name, places in _PARTS.items():
                means[name] = _mean(np.concatenate([self.residual_px[place] for place in places]))
        return {name: value for name, value in means.items() if np.isfinite(value)}


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def fit_of_file(path: Path, model: str | Sequence[str] | None) -> tuple[SeenFit, MorphableModel]:
    """The fit of a file, and its model: `model`, or the one that lies in ``models`` beside it, or the built-in one."""
    fit = read_fit_file(path)
    found = _model_of(fit.model, path.parent / MODELS_FOLDER, model)
    fit.check_model(found)
    return SeenFit.of_file(path, fit), found


def fit_of_dataset(
    dataset: ShardedDataset, index: int, model: str | Sequence[str] | None
) -> tuple[SeenFit, MorphableModel]:
    """The fit of a sample of a data set of fits, and its model likewise."""
    info = dataset.manifest.model
    found = _model_of(info, dataset.path.parent.parent / MODELS_FOLDER, model)
    if found.fingerprint != info.fingerprint:
        raise ValueError(f"the fits are those of the model {info.name} ({info.fingerprint}), not of {found.name}")
    return SeenFit.of_sample(dataset[index]), found


def _model_of(info: ModelInfo, folder: Place, given: str | Sequence[str] | None) -> MorphableModel:
    if given is not None:
        return load_model(given)
    try:
        return find_model(info, folder)
    except MissingModel:
        raise ValueError(
            f"the fit belongs to the model {info.name} ({info.fingerprint}), which is not in {folder}: give its files "
            "with --model"
        ) from None


def fit_sheet(
    seen: SeenFit, model: MorphableModel, *, side: int = 384, turns: Sequence[float] = TURNS
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Photograph, residuals and mesh over it; below, the mesh with the photograph's colours, turned by each of `turns`.

    Turns are degrees about the head's own upright axis, positive to the viewer's left as 300W-LP's yaw. Without `turns`
    pyrender is not needed; with them NoRenderer is raised where it is not there.
    """
    vertices_px = seen.vertices_px(model)
    panels = fit_panels(
        seen.picture, vertices_px, model.triangles, given_px=seen.given_px, fitted_px=seen.fitted_px, side=side
    )
    titles = ["picture", f"red given, green fitted: {seen.part_residuals_px()['all']:.2f} px", "mesh"]
    if turns:
        colors, _ = vertex_colors(seen.picture, vertices_px, model.triangles)
        vertices = model.vertices(seen.coefficients).astype(np.float64)
        for turn in turns:
            panels.append(shaded_view(vertices, model.triangles, yaw=np.radians(turn), side=side, colors=colors))
            titles.append(f"the face, {turn:+.0f} degrees" if turn else "the face from the front")
    return sheet(panels, titles, title=seen.source_id, across=3)


class DrawnFit(TypedDict):
    """What was written of a fit, and what there is to say about it."""

    source_id: str
    path: Path
    mesh: Path | None
    residual_px: dict[str, float]
    notice: str


def draw_fit(
    seen: SeenFit,
    model: MorphableModel,
    path: Path,
    *,
    turn: float | None = None,
    export: Format | None = None,
    frame: Frame = "picture",
) -> DrawnFit:
    """Write a fit's sheet as a PNG and, with `export`, its mesh beside it.

    `turn` (degrees) is the one turned view, in place of :data:`TURNS`; these are left out, with a notice, where pyrender
    is not there. Raises NoRenderer when a turn was asked for.
    """
    notice = ""
    try:
        picture = fit_sheet(seen, model, turns=TURNS if turn is None else (turn,))
    except NoRenderer as missing:
        if turn is not None:
            raise
        notice, picture = f"no turned views: {missing}", fit_sheet(seen, model, turns=())
    path.write_bytes(encode_png(picture))
    mesh = None if export is None else path.with_suffix(f".{export}")
    if export is not None and mesh is not None:
        export_fit(seen, model, mesh, format=export, frame=frame)
    return DrawnFit(source_id=seen.source_id, path=path, mesh=mesh, residual_px=seen.part_residuals_px(), notice=notice)


def contact_sheet_of_fits(
    samples: Sequence[Mapping[str, np.ndarray]], model: MorphableModel, *, side: int = 224, across: int = 2
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Fits with picture, residuals and mesh, `across` in a row, each under its source id."""
    blocks = []
    for sample in samples:
        seen = SeenFit.of_sample(sample)
        panels = fit_panels(
            seen.picture,
            seen.vertices_px(model),
            model.triangles,
            given_px=seen.given_px,
            fitted_px=seen.fitted_px,
            side=side,
        )
        blocks.append((np.hstack(panels), seen.source_id))
    return sheet([block for block, _ in blocks], [name for _, name in blocks], title="fits", across=across)


def export_fit(
    seen: SeenFit, model: MorphableModel, path: Path, *, format: Format, frame: Frame = "picture"
) -> Float32[np.ndarray, "v 3"]:
    """Write the face as a mesh with the photograph's colours where it shows them, grey elsewhere; the vertices written.

    frame   "picture": posed as in the picture, its pixels, y upward from the lowest row; "head": the model's own axes,
            millimetres. Both are right-handed.
    """
    vertices_px = seen.vertices_px(model)
    colors, _ = vertex_colors(seen.picture, vertices_px, model.triangles)
    vertices = (
        upright_from_picture(vertices_px, height=len(seen.picture))
        if frame == "picture"
        else model.vertices(seen.coefficients).astype(np.float64)
    )
    export_mesh(path, vertices, model.triangles, colors=colors, format=format)
    return vertices.astype(np.float32)

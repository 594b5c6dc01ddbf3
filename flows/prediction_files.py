"""The files of one predicted face: its figures, pictures, dense arrays and mesh.

``NAME.json`` holds the figures, ``NAME.png`` the overlay, ``NAME.obj`` (``.ply``, ``.glb``) the reconstruction with the picture's
colours, ``NAME_depth.png``, ``NAME_uv.png`` and ``NAME_parts.png`` what the system knows of them, ``NAME.npz`` the dense
arrays.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from flows.prediction_pictures import pictures_of
from geometry.fit_result import Fit
from geometry.landmarks import N_LANDMARKS
from geometry.models import load_model
from render.field_fit import FieldFitter
from render.preview import encode_png
from render.vertex_colors import vertex_colors
from storage.json_files import plain
from storage.mesh_export import Format, export_mesh, upright_from_picture
from storage.whole_files import write_atomically

if TYPE_CHECKING:
    from train.prediction import Prediction, Predictor


@dataclass(frozen=True, slots=True)
class FaceFiles:
    """Writes the files of faces that one network finds.

    mesh    format of the reconstruction; None: none
    dan     of DenseReg: a DAN that starts from its landmarks, for the third row of them
    fitter  of DenseReg: fits the model that then is mesh and camera
    """

    predictor: "Predictor"
    out: Path
    mesh: Format | None = None
    dan: "Predictor | None" = None
    fitter: FieldFitter | None = None

    def write(
        self, name: str, picture: Path, image: UInt8[np.ndarray, "h w 3"], prediction: "Prediction", *, boxes: str
    ) -> dict[str, Any]:
        """The files of one face under `name`; the figures. `boxes` says where its box came from."""
        from train.prediction import landmark_rows

        system = self.predictor.system.name
        document = described(prediction) | {"picture": picture.name, "boxes": boxes, "system": system}
        if system == "densereg" and len(prediction.landmarks_px) == N_LANDMARKS:
            rows = landmark_rows(image, prediction, shapes=self.predictor.data.shapes, dan=self.dan)
            document["rows"] = {row: points.tolist() for row, points in rows.items()}
        surface = self.predictor.surface
        vertices, triangles = (None, None) if surface is None else (prediction.vertices_px, surface.triangles)
        if self.fitter is not None:
            fit = _fitted(self.fitter, prediction)
            document["fit"] = {"result": fit.result.value, "noise_px": fit.config.noise_px}
            if fit.result.has_face:
                model = self.fitter.model
                in_crop = fit.camera.project(np.asarray(model.vertices(fit.coefficients), dtype=np.float64))
                vertices, triangles = prediction.crop_from_image.inverse.apply(in_crop), model.triangles
        for ending, drawn in pictures_of(image, prediction, vertices, triangles, self.predictor).items():
            write_atomically(self.out / f"{name}{ending}.png", encode_png(drawn))
        arrays = {} if prediction.field is None else dict(prediction.field)
        if vertices is not None and triangles is not None:
            arrays |= {"vertices_px": vertices.astype(np.float32), "triangles": triangles}
            if self.mesh is not None:
                document["mesh"] = _write_mesh(self.out / f"{name}.{self.mesh}", image, vertices, triangles, self.mesh)
        if arrays:
            write_arrays(self.out / f"{name}.npz", arrays)
        path = self.out / f"{name}.json"
        write_atomically(path, (json.dumps(plain(document), indent=1) + "\n").encode())
        return document | {"file": str(path)}


def described(prediction: "Prediction") -> dict[str, Any]:
    """A prediction as plain values; NaN is null."""
    angles, camera = prediction.angles_deg, prediction.camera
    values: dict[str, Any] = plain(
        {
            "landmarks_px": prediction.landmarks_px.tolist(),
            "box_px": prediction.box_px.tolist() if prediction.found else None,
            "crop_from_image": prediction.crop_from_image.matrix.tolist(),
            "pose_deg": None if angles is None else dict(zip(("pitch", "yaw", "roll"), angles, strict=True)),
            "camera": None
            if camera is None
            else {
                "scale_px_per_mm": float(camera.scale),
                "rotation": camera.rotation.tolist(),
                "translation_px": camera.translation_px.tolist(),
            },
        }
    )
    return values


def write_arrays(path: Path, arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> None:
    """An NPZ, whole or not at all."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    write_atomically(path, stream.getvalue())


def field_fitter(predictor: "Predictor", model: str | list[str]) -> FieldFitter:
    """What fits `model` to the predictor's fields. Raises ValueError for another model than theirs."""
    template = predictor.data.template
    if template is None:
        raise ValueError(f"{predictor.restored.path} knows no template, so no model can be fitted to its fields")
    loaded = load_model(model)
    if loaded.fingerprint != predictor.data.model_fingerprint:
        raise ValueError(
            f"the fields are of {predictor.data.model_name} ({predictor.data.model_fingerprint[:8]}…) and {loaded.name} "
            f"({loaded.fingerprint[:8]}…) is given: another topology; give the model's files by --model"
        )
    return FieldFitter.of(loaded, template)


def _fitted(fitter: FieldFitter, prediction: "Prediction") -> Fit:
    """The model fitted to a predicted field, in pixels of the crop."""
    assert prediction.field is not None  # DenseReg's have one
    uv = prediction.field["uv"].astype(np.float64)
    return fitter.fit(np.nan_to_num(uv), np.asarray(np.isfinite(uv).all(axis=-1)))


def _write_mesh(
    path: Path,
    image: UInt8[np.ndarray, "h w 3"],
    vertices: Float[np.ndarray, "v 3"],
    triangles: Int[np.ndarray, "t 3"],
    format: Format,
) -> str:
    """The file's name, or why there is none."""
    colors, _ = vertex_colors(image, vertices, triangles)
    try:
        export_mesh(path, upright_from_picture(vertices, height=len(image)), triangles, colors=colors, format=format)
    except ValueError as error:
        return f"not written: {error}"
    return path.name

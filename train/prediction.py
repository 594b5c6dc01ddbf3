"""A trained system used on pictures: crops about boxes, landmarks, dense points, fields and pose, in pixels of the picture.

A crop is cut as the checkpoint's data set cut it: the square about the landmarks' box, `margin` times its side, or the
whole photograph for networks that learnt from whole photographs. Whatever a system predicts in the crop is carried back by the
crop's own similarity, depth by its scale.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32, Shaped, UInt8

from geometry.camera import ScaledOrthographicCamera
from geometry.frames import Similarity2D
from geometry.landmarks import N_LANDMARKS
from geometry.rotation import euler_from_rotation
from render.crop import warp_image
from render.preview import map_mesh
from render.surface_lookup import SurfaceLookup
from render.windows import Window, cut_picture
from train.dan import DAN
from train.densereg import DenseReg
from train.mesh_gcn import MeshGcn
from train.prnet import PRNet
from train.restore import Restored
from train.shape_model import ShapeModel, best_pose
from train.training_data import NEUTRAL_MAP

BATCH = 16
_SMOOTH_BELOW = 0.5
"""Crops that shrink the picture more are smoothed first; those of a training set were not, at their scales of 0.6 and more."""
_LEAST_BOX_PX = 4.0


class NoFace(ValueError):
    """There is nothing in a picture to predict on, or the network finds no face there."""


@dataclass(frozen=True, slots=True)
class Surface:
    """What a system's dense points are: their names do not change from picture to picture.

    name        what they are, for tables
    n_points    how many
    triangles   (T 3) counter-clockwise from outside once y points upward
    """

    name: str
    n_points: int
    triangles: Int32[np.ndarray, "t 3"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One face, in pixels of the picture (x right, y down, z toward the viewer; z up to an offset).

    landmarks_px     (p 2|3) NaN for points that the system does not know; p = 68 but for ears
    vertices_px      (V 3) dense points, of PRNet and mesh_gcn
    field            of DenseReg, in pixels of the **crop**: `uv` (S S 2), NaN where there is no face, `label`, `depth`, `part`
    crop             (S S 3) what the network saw
    """

    crop_from_image: Similarity2D
    crop: UInt8[np.ndarray, "s s 3"]
    landmarks_px: Float[np.ndarray, "p d"]
    vertices_px: Float[np.ndarray, "v 3"] | None = None
    field: Mapping[str, Shaped[np.ndarray, "..."]] | None = None
    camera: ScaledOrthographicCamera | None = None

    @property
    def found(self) -> bool:
        """Whether there is a face at all: a landmark, or of networks of parts a pixel that belongs to one."""
        return bool(np.isfinite(self.landmarks_px).any()) or self._parts_px is not None

    @property
    def box_px(self) -> Float[np.ndarray, "4"]:
        """The landmarks' box, or that of the parts: where to look in a video's next frame."""
        known = self.landmarks_px[np.isfinite(self.landmarks_px).all(axis=1), :2]
        if not len(known) and self._parts_px is not None:
            known = self._parts_px
        return np.concatenate([known.min(axis=0), known.max(axis=0)]).astype(np.float64)

    @property
    def _parts_px(self) -> Float[np.ndarray, "m 2"] | None:
        """The pixels of the parts in the picture; None where there is none, or where parts follow from u and v."""
        if self.field is None or "part" not in self.field or not (self.field["part"] > 0).any():
            return None
        rows, columns = np.nonzero(self.field["part"])
        return self.crop_from_image.inverse.apply(np.stack([columns, rows], axis=1).astype(np.float64))

    @property
    def angles_deg(self) -> tuple[float, float, float] | None:
        """Pitch, yaw and roll as 300W-LP counts them; None where the pose is not known."""
        if self.camera is None:
            return None
        pitch, yaw, roll = (float(np.degrees(angle)) for angle in euler_from_rotation(self.camera.rotation))
        return pitch, yaw, roll


class Predictor:
    """A restored system, its crops and its dense points."""

    def __init__(self, restored: Restored, *, device: torch.device | str = "cpu") -> None:
        self.restored, self.system, self.data = restored, restored.system, restored.data
        self.device = torch.device(device)
        self.system.network.to(self.device).eval()

    @property
    def n_landmarks(self) -> int:
        """68, or what the data set has (55 of an ear)."""
        return max(len(self.data.mean_landmarks), 1 + max(self.system.landmark_indices, default=-1))

    @property
    def knows(self) -> Bool[np.ndarray, " p"]:
        """Which of the landmarks the system gives."""
        known = np.zeros(self.n_landmarks, dtype=bool)
        known[list(self.system.landmark_indices)] = True
        return known

    @property
    def gives_landmarks(self) -> bool:
        """Whether there are landmarks at all: a network of parts gives none."""
        return not (isinstance(self.system, DenseReg) and self.system.config.kind == "parts")

    @cached_property
    def neutral_mm(self) -> Float[np.ndarray, "v 3"] | None:
        """The model's neutral face at the dense points (y up); None where the checkpoint does not hold it."""
        if isinstance(self.system, MeshGcn):
            return self.system.state()["vertices"].double().numpy()
        if isinstance(self.system, PRNet) and NEUTRAL_MAP in self.data.tables:
            return self.data.tables[NEUTRAL_MAP][self.texels].astype(np.float64)
        return None

    @cached_property
    def surface(self) -> Surface | None:
        """What :attr:`Prediction.vertices_px` are; None for systems without dense points."""
        if isinstance(self.system, PRNet):
            _, triangles = map_mesh(np.zeros((*self.texels.shape, 3)), self.texels)
            index = np.cumsum(self.texels.ravel(), dtype=np.int32) - 1
            n_texels = int(self.texels.sum())
            return Surface(f"{n_texels} texels with weight", n_texels, index[triangles])
        if isinstance(self.system, MeshGcn):
            state = self.system.state()
            n_vertices = len(state["vertices"])
            return Surface(f"all {n_vertices} vertices", n_vertices, state["triangles"].numpy())
        return None

    @cached_property
    def texels(self) -> Bool[np.ndarray, "s s"]:
        """Of PRNet: the texels that mean something, covered by the atlas and with weight in the loss. The neck has none."""
        tables = self.system.state()
        return (tables["atlas_covered"].numpy() > 0) & (tables["weight_mask"].numpy() > 0)

    # ------------------------------------------------------------------------------------------------- crops

    def crop_of_box(self, box_px: Float[np.ndarray, "4"]) -> Similarity2D:
        """The similarity to the crop about a box of landmarks (left, top, right, bottom).

        Raises NoFace for a box without area. Networks of whole photographs have none: :meth:`crop_of_picture`.
        """
        sides = box_px[2:] - box_px[:2]
        if not (np.isfinite(box_px).all() and (sides >= _LEAST_BOX_PX).all()):
            raise NoFace(
                f"the box {np.round(box_px, 1).tolist()} is no face: left, top, right, bottom in pixels are needed"
            )
        margin = 1.5 if self.data.margin is None else self.data.margin
        side = float(sides.mean() if self.data.margin_of == "mean" else sides.max()) * margin
        scale = (self.data.crop_px - 1) / side
        left, top = ((box_px[:2] + box_px[2:] - side) / 2).tolist()
        return Similarity2D.of(scale=scale, translation_px=(-scale * left, -scale * top))

    def crop_of_picture(self, size_hw: tuple[int, int]) -> Similarity2D:
        """The whole picture: its longer side fills the crop; smaller ones are not enlarged for networks of photographs."""
        longest = max(size_hw)
        target = self.data.crop_px if self.data.longest_px is None else min(self.data.longest_px, longest)
        scale = target / longest
        shift = 0.5 * (scale - 1)  # pixels have an area: x' + ½ = scale · (x + ½)
        return Similarity2D.of(scale=scale, translation_px=(shift, shift))

    def cut(self, picture: UInt8[np.ndarray, "h w 3"], crop: Similarity2D) -> UInt8[np.ndarray, "s s 3"]:
        """What the network sees of a picture."""
        size = self.data.crop_px
        if crop.scale < _SMOOTH_BELOW:
            return cut_picture(picture, Window(crop, (size, size)))
        return warp_image(picture, crop, size_px=size)

    # --------------------------------------------------------------------------------------------- prediction

    def predict(
        self, picture: UInt8[np.ndarray, "h w 3"], boxes_px: Sequence[Float[np.ndarray, "4"] | None], *, passes: int = 1
    ) -> list[Prediction]:
        """A prediction for each box; None is the whole picture.

        With more `passes` the crop is cut again about the landmarks that were found: what boxes by a rule, or by a detector,
        need (Kowalski et al. 2017, section 4.2, in two steps).
        """
        height, width = picture.shape[:2]
        crops = [self.crop_of_picture((height, width)) if b is None else self.crop_of_box(b) for b in boxes_px]
        found = self._predicted(picture, crops)
        for _ in range(passes - 1):
            again = [p.crop_from_image if not p.found else self._about(p) for p in found]
            found = self._predicted(picture, again)
        return found

    def _about(self, prediction: Prediction) -> Similarity2D:
        try:
            return self.crop_of_box(prediction.box_px)
        except NoFace:
            return prediction.crop_from_image

    def _predicted(self, picture: np.ndarray, crops: Sequence[Similarity2D]) -> list[Prediction]:
        cut = np.stack([self.cut(picture, crop) for crop in crops]) if crops else np.zeros((0, 8, 8, 3), np.uint8)
        return [self.carried(p, crop) for p, crop in zip(self.predict_crops(cut), crops, strict=True)]

    def carried(self, in_crop: Prediction, crop_from_image: Similarity2D) -> Prediction:
        """A crop's prediction in pixels of its picture."""
        back = crop_from_image.inverse
        landmarks = back.apply(in_crop.landmarks_px)
        vertices = None if in_crop.vertices_px is None else back.apply(in_crop.vertices_px)
        return Prediction(crop_from_image, in_crop.crop, landmarks, vertices, in_crop.field, self.camera_of(landmarks))

    @torch.inference_mode()
    def predict_crops(self, crops: UInt8[np.ndarray, "n s s 3"]) -> list[Prediction]:
        """Predictions in pixels of the crops themselves, without pose."""
        found: list[Prediction] = []
        for start in range(0, len(crops), BATCH):
            found += self._batch(crops[start : start + BATCH])
        return found

    def _batch(self, crops: np.ndarray) -> list[Prediction]:
        images = pictures_as_tensor(crops, self.device)
        landmarks = np.full((len(crops), self.n_landmarks, 2), np.nan)
        vertices = fields = None
        if isinstance(self.system, DenseReg):
            fields = self.system.predict_fields(images)
        elif isinstance(self.system, PRNet):
            maps = self.system.predict_maps(images).movedim(1, -1).double().cpu().numpy()
            vertices = maps[:, self.texels]
        elif isinstance(self.system, MeshGcn):
            vertices = self.system.predict_vertices(images).double().cpu().numpy()
        known = self.system.predict_landmarks(images).double().cpu().numpy()
        if known.shape[-1] == 3:
            landmarks = np.full((len(crops), self.n_landmarks, 3), np.nan)
        landmarks[:, list(self.system.landmark_indices)] = known
        split = [{} for _ in crops] if fields is None else _of_each(fields, len(crops))
        whole = Similarity2D.of()
        return [
            Prediction(whole, crop, points, None if vertices is None else vertices[i], split[i] or None)
            for i, (crop, points) in enumerate(zip(crops, landmarks, strict=True))
        ]

    def camera_of(self, landmarks_px: Float[np.ndarray, "p d"]) -> ScaledOrthographicCamera | None:
        """The pose under which the model's mean face comes nearest to the landmarks; None without model or face."""
        mean = self.data.mean_shape_mm
        if mean is None or len(landmarks_px) != N_LANDMARKS or np.isfinite(landmarks_px).all(axis=1).sum() < 6:
            return None
        return best_pose(mean, landmarks_px)

    def part_of_field(self, uv: Float[np.ndarray, "h w 2"]) -> UInt8[np.ndarray, "h w"] | None:
        """The template's parts at each pixel's u and v (section 4.2); None where the data set has no template."""
        template = self.data.template
        if template is None:
            return None
        size = len(template.part_map)
        face = np.isfinite(uv).all(axis=-1)
        column = np.rint(np.clip(np.where(face, uv[..., 0], 0), 0, 1) * (size - 1)).astype(np.int64)
        row = np.rint((1 - np.clip(np.where(face, uv[..., 1], 0), 0, 1)) * (size - 1)).astype(np.int64)
        return np.where(face, template.part_map[row, column], 0).astype(np.uint8)

    @cached_property
    def lookup(self) -> SurfaceLookup | None:
        """From u and v to the template's surface."""
        return None if self.data.template is None else SurfaceLookup.of_template(self.data.template)

    # ------------------------------------------------------------------------------------------------ latency

    def latency_ms(self, *, repeats: int = 10) -> float:
        """Median milliseconds from one cropped picture to geometry, on this device: what papers call the run time."""
        crop = np.full((1, self.data.crop_px, self.data.crop_px, 3), 127, dtype=np.uint8)
        seconds = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            self.predict_crops(crop)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            seconds.append(time.perf_counter() - start)
        return 1000 * float(np.median(seconds[1:]))  # the first one warms up


def landmark_rows(
    picture: UInt8[np.ndarray, "h w 3"], found: Prediction, *, shapes: ShapeModel | None, dan: Predictor | None
) -> dict[str, Float[np.ndarray, "68 2"]]:
    """DenseReg's three rows of landmarks (section 4.3): the field alone, with the shape model, a regressor started from that.

    The regressor is DAN here, in place of the paper's MDM. A row whose landmarks are not all known, or lie in one spot, has no
    next one.
    """
    field = found.landmarks_px[:, :2]
    rows = {"field": field}
    if shapes is None:
        return rows
    smooth = shapes.closest(field)
    rows["field + shape model"] = smooth
    if dan is not None and isinstance(dan.system, DAN) and np.isfinite(smooth).all():
        try:
            crop = dan.crop_of_box(np.concatenate([smooth.min(axis=0), smooth.max(axis=0)]))
        except NoFace:
            return rows
        images = pictures_as_tensor(dan.cut(picture, crop)[None], dan.device)
        starts = torch.from_numpy(crop.apply(smooth)[None]).to(images)
        with torch.inference_mode():
            moved = dan.system.predict_stages(images, starts)[-1]
        rows["field + shape model + DAN"] = crop.inverse.apply(moved[0].double().cpu().numpy())
    return rows


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pictures_as_tensor(
    pictures: UInt8[np.ndarray, "n h w 3"], device: torch.device | str = "cpu"
) -> Float32[torch.Tensor, "n 3 h w"]:
    """Pictures as networks take them, in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, 1))).to(device).float() / 255


def _of_each(fields: Mapping[str, torch.Tensor], n: int) -> list[dict[str, np.ndarray]]:
    arrays = {name: values.cpu().numpy() for name, values in fields.items()}
    if "uv" in arrays:
        arrays["uv"] = np.moveaxis(arrays["uv"], 1, -1)
    return [{name: np.ascontiguousarray(values[i]) for name, values in arrays.items()} for i in range(n)]

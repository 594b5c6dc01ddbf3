"""Errors of correspondence fields, and of the parts, depth and landmarks in them (Güler et al. 2017, sections 4.2 to 4.5).

Landmarks of the field alone are measured as every system's are. What stands here are those of the shapes that are fitted to
it: the paper's second row, a linear model of landmarks, and the morphable model of the data set's faces, of which the field is
the start (section 1; :mod:`render.field_fit`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int, Shaped

from geometry.landmarks import N_LANDMARKS
from render.correspondence import FieldTemplate, draw_field
from render.field_fit import FieldFitter
from render.quantization import IGNORE
from storage.dataset import ShardedDataset
from storage.decoding import MissingModel
from train import metrics
from train.densereg import DenseReg
from train.evaluation import MEAN_SHAPE, OURS, TRUE_POSE, Gathered, posed_means
from train.measures import Measure, Truth, measures_of
from train.prediction import Prediction, Predictor
from train.published import published
from train.shape_model import best_pose

TEMPLATE_CELLS = 64
N_CLASSES = 9
"""DenseReg's eight parts and the background."""

FITTED_CROPS = 120
"""So many crops of a set have the morphable model fitted to their fields, spread evenly; it takes a fifth of a second each."""

_CURVE_POINTS = 200_000
_FIT_POINTS = 300
_FACE = 1

Field = Mapping[str, Shaped[np.ndarray, "h w *c"]]


@dataclass(slots=True)
class _Collected:
    """What one method's fields come to.

    uv          errors of u and of v at the pixels of each picture, over the eyes' distance
    image       the mean distance of (u, v) in each picture; infinite where no face pixel was found
    wrong       the share of each picture's face pixels that have another part
    found       the share of each picture's face pixels that were found to be face
    """

    uv: dict[str, list[Float[np.ndarray, " m"]]] = field(default_factory=lambda: {"u": [], "v": []})
    image: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)
    found: list[float] = field(default_factory=list)
    depth: list[float] = field(default_factory=list)
    pooled: Int[np.ndarray, "c c"] = field(default_factory=lambda: np.zeros((N_CLASSES, N_CLASSES), dtype=np.int64))


class FieldErrors:
    """Correspondence fields, parts and depth of DenseReg, and of the mean face drawn in their place."""

    def __init__(
        self, predictor: Predictor, mean_face: "_MeanFace | None", targets: tuple[str, ...], n_crops: int
    ) -> None:
        """Use :meth:`of`."""
        system = predictor.system
        assert isinstance(system, DenseReg)
        self.predictor, self.targets, self._mean_face = predictor, targets, mean_face
        landmarks = system.tables["landmark_uv"].numpy()
        self._eyes = metrics.uv_interocular(landmarks) if len(landmarks) == N_LANDMARKS else 1.0
        self._methods = {OURS: _Collected()}
        if mean_face is not None:
            self._methods |= {MEAN_SHAPE: _Collected(), TRUE_POSE: _Collected()}
        self.painted = metrics.TemplateErrors(TEMPLATE_CELLS)
        self._shaped = None
        if mean_face is not None and predictor.data.shapes is not None and predictor.gives_landmarks:
            self._shaped = _ShapedLandmarks(predictor, mean_face.fitter, every=max(n_crops // FITTED_CROPS, 1))

    @classmethod
    def of(cls, predictor: Predictor, dataset: ShardedDataset) -> "FieldErrors | None":
        """None for other systems. Raises KeyError for a data set without fields."""
        system = predictor.system
        if not isinstance(system, DenseReg):
            return None
        needs = ["uv", "label"] + ["depth"] * ("depth" in system.targets)
        lacking = [name for name in needs if name not in dataset.schema.names]
        if lacking:
            raise KeyError(
                f"{dataset.manifest.name} has no {lacking[0]}, which fields are measured by; it has "
                f"{', '.join(dataset.schema.names)}: build it with --targets field"
            )
        return cls(predictor, _MeanFace.of(predictor, dataset), tuple(needs), len(dataset))

    def add(self, found: Prediction, sample: Mapping[str, np.ndarray]) -> None:
        """One sample."""
        assert found.field is not None
        self._compare(OURS, found.field, sample)
        if self._mean_face is not None:
            baselines = {
                MEAN_SHAPE: self._mean_face.in_the_middle,
                TRUE_POSE: self._mean_face.posed(sample["landmarks_px"]),
            }
            for method, drawn in baselines.items():
                self._compare(method, {name: drawn[name] for name in drawn.keys() & found.field.keys()}, sample)
        if self._shaped is not None and "uv" in found.field:
            self._shaped.add(found, sample["landmarks_px"])

    def _compare(self, method: str, found: Field, sample: Mapping[str, np.ndarray]) -> None:
        collected, label = self._methods[method], sample["label"]
        foreground = label == _FACE
        if "uv" in found:
            uv, true = found["uv"].astype(np.float64), sample["uv"].astype(np.float64)
            detected = np.isfinite(uv[..., 0])
            both = detected & foreground
            for axis, name in enumerate("uv"):
                error = metrics.uv_errors(uv[..., axis], true[..., axis], detected=detected, foreground=foreground)
                collected.uv[name].append(error / self._eyes)
            distances = np.linalg.norm(uv[both] - true[both], axis=-1) / self._eyes
            collected.image.append(float(distances.mean()) if len(distances) else float("inf"))
            collected.found.append(float(both.sum() / max(foreground.sum(), 1)))
            if method == OURS:
                self.painted.add(true[both], distances)
        true_parts = self.predictor.part_of_field(np.where(foreground[..., None], sample["uv"], np.nan))
        parts = found.get("part")
        if parts is None and "uv" in found:
            parts = self.predictor.part_of_field(found["uv"])
        if true_parts is not None and parts is not None:
            ignored = np.where(label == IGNORE, IGNORE, true_parts)
            collected.pooled += metrics.confusion(parts, ignored, n_classes=N_CLASSES)
            if foreground.any():
                collected.wrong.append(float((parts != true_parts)[foreground].mean()))
        if "depth" in found and "depth" in sample and foreground.any():
            collected.depth.append(metrics.depth_error(found["depth"], sample["depth"], foreground=foreground))

    # ------------------------------------------------------------------------------------------------ the tables

    def close(self, gathered: Gathered) -> None:
        """Put the tables beside the others. A CED of |û − u| is of pixels, as the paper's, and not of images."""
        eyes = "outer eye corners' distance in UV" if self._eyes != 1.0 else "the template's side"
        self._images(gathered, "uv_error of images", f"{eyes}; means over face pixels that are found", "image")
        self._images(gathered, "part_error of images", "face pixels: the share that has another part", "wrong")
        for axis in "uv":
            self._pixels(gathered, axis, eyes)
        self._plain(gathered, "face pixels that are found", "percent", "found", 100.0)
        self._plain(gathered, "depth, mean absolute error of [0, 1]", "mean", "depth", 1.0)
        self._parts(gathered)
        if self._shaped is not None:
            self._shaped.close(gathered)

    def _images(self, gathered: Gathered, name: str, unit: str, what: str) -> None:
        by_method = {method: np.array(getattr(one, what)) for method, one in self._methods.items()}
        if all(len(errors) for errors in by_method.values()):
            gathered.add(Measure(name, unit, lambda points, truth: np.zeros(0)), by_method, "")

    def _pixels(self, gathered: Gathered, axis: str, unit: str) -> None:
        name = f"|{axis} − true {axis}|"
        for method, one in self._methods.items():
            pixels = np.concatenate(one.uv[axis]) if one.uv[axis] else np.zeros(0)
            if not len(pixels):
                continue
            thin = pixels[:: max(len(pixels) // _CURVE_POINTS, 1)]
            gathered.errors.setdefault(name, {})[method] = thin
            gathered.results.setdefault(name, {})[method] = {
                "normaliser": f"{unit}; pixels",
                "n_pixels": len(pixels),
                "n_images": len(one.uv[axis]),
                "mean_percent": 100 * float(pixels.mean()),
                "median_percent": 100 * float(np.median(pixels)),
            }

    def _plain(self, gathered: Gathered, name: str, key: str, what: str, factor: float) -> None:
        for method, one in self._methods.items():
            if values := getattr(one, what):
                row = {key: factor * float(np.mean(values)), "n_images": len(values)}
                gathered.results.setdefault(name, {})[method] = row

    def _parts(self, gathered: Gathered) -> None:
        name = "parts, pooled IoU"
        for method, one in self._methods.items():
            if not one.pooled.sum():
                continue
            each = metrics.part_iou(one.pooled)
            gathered.results.setdefault(name, {})[method] = {
                "mean_of_8_percent": 100 * metrics.mean_part_iou(one.pooled),
                "each_percent": [None if np.isnan(iou) else 100 * float(iou) for iou in each],
                "n_images": len(one.wrong),
                "note": "classes 0 (background) to 8, of confusions pooled over the set; on other pictures than the paper's",
            }
        if name in gathered.results:
            gathered.results[name]["published"] = [dict(row) for row in published("parts", "iou")]


class _ShapedLandmarks:
    """Landmarks of shapes fitted to predicted fields; one that could not be fitted has none, and counts as a failure."""

    def __init__(self, predictor: Predictor, fitter: FieldFitter, *, every: int) -> None:
        self._predictor, self._fitter, self._every = predictor, fitter, every
        self._n_seen = 0
        self._rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"shape model": [], "morphable model": []}

    def add(self, found: Prediction, landmarks_px: Float[np.ndarray, "68 d"]) -> None:
        """One sample: (predicted, true) landmarks of every row that it is in."""
        shapes = self._predictor.data.shapes
        assert shapes is not None
        self._rows["shape model"].append((shapes.closest(found.landmarks_px[:, :2]), landmarks_px[:, :2]))
        if self._n_seen % self._every == 0:
            assert found.field is not None
            self._rows["morphable model"].append((self._fitted(found.field["uv"]), landmarks_px[:, :2]))
        self._n_seen += 1

    def _fitted(self, uv: Float[np.ndarray, "h w 2"]) -> Float[np.ndarray, "68 2"]:
        fit = self._fitter.fit(np.nan_to_num(uv.astype(np.float64)), np.isfinite(uv).all(axis=-1), n_points=_FIT_POINTS)
        if not fit.result.has_face:
            return np.full((N_LANDMARKS, 2), np.nan)
        model = self._fitter.model
        marks = model.vertices(fit.coefficients)[np.asarray(model.landmark_vertices)]
        return fit.camera.project(marks.astype(np.float64))[:, :2]

    def close(self, gathered: Gathered) -> None:
        """A row for each of the two, beside both baselines on the same crops."""
        plain = measures_of("dense-fits", n_points=N_LANDMARKS, depth=False)[0]
        for row, pairs in self._rows.items():
            ours, true = (np.stack(points) for points in zip(*pairs, strict=True))
            points = np.concatenate([true, np.full((*true.shape[:2], 1), np.nan)], axis=-1)
            truth = Truth(points, np.isfinite(true).all(axis=-1))
            mean = np.broadcast_to(self._predictor.data.mean_landmarks[None, :, :2], ours.shape)
            posed = posed_means(self._predictor, truth, None, False)
            methods = {OURS: ours, MEAN_SHAPE: mean} | ({} if posed is None else {TRUE_POSE: posed})
            by_method = {method: plain.apply(points, truth) for method, points in methods.items()}
            gathered.add(replace(plain, name=f"{plain.name}, field + {row}"), by_method, "")


@dataclass(frozen=True, slots=True)
class _MeanFace:
    """The model's mean face, drawn as a field: what a network that has learnt nothing would say."""

    neutral_mm: Float[np.ndarray, "v 3"]
    marks_mm: Float[np.ndarray, "68 3"]
    template: FieldTemplate
    size_px: int
    in_the_middle: Field
    fitter: FieldFitter

    @classmethod
    def of(cls, predictor: Predictor, dataset: ShardedDataset) -> "_MeanFace | None":
        """None where labels come from no model (ears), or the samples are no crops of one face."""
        data, template = predictor.data, predictor.data.template
        size = dataset.schema["image"].sample_shape
        if data.mean_shape_mm is None or template is None or "face_index" in dataset.schema.names:
            return None
        try:
            model = dataset.model()
        except (MissingModel, ValueError):
            return None
        neutral = np.asarray(model.vertices(model.neutral()), dtype=np.float64)
        if len(neutral) != len(template.uv):
            return None
        middle = _drawn(template, best_pose(data.mean_shape_mm, data.mean_landmarks).project(neutral), size[0])
        return cls(neutral, data.mean_shape_mm, template, size[0], middle, FieldFitter.of(model, template))

    def posed(self, landmarks_px: Float[np.ndarray, "68 3"]) -> Field:
        """The mean face under the true pose."""
        camera = best_pose(self.marks_mm, landmarks_px.astype(np.float64))
        return _drawn(self.template, camera.project(self.neutral_mm), self.size_px)


def _drawn(template: FieldTemplate, vertices_px: Float[np.ndarray, "v 3"], size_px: int) -> Field:
    drawn = draw_field(template, [vertices_px], size_hw=(size_px, size_px))
    uv = np.where(drawn.is_face[..., None], drawn.uv, np.nan)
    return {"uv": uv, "depth": drawn.depth, "part": drawn.part}

"""Predictions on pictures, folders and videos: landmarks, pose, meshes, fields, overlays, one set of files for each face.

``NAME.json`` holds the figures, ``NAME.png`` the overlay, ``NAME.obj`` (``.ply``, ``.glb``) the reconstruction with the picture's
colours, ``NAME_depth.png``, ``NAME_uv.png`` and ``NAME_parts.png`` what the system knows of them, ``NAME.npz`` the dense
arrays. Of a video there is one overlay video and one JSON line for each frame.

**Boxes**, in this order: the file that is given; landmarks beside the picture; dlib's detector, if it is installed; the whole
picture, whose crop is then cut a second time about what was found.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from flows.face_transfer import corresponding, transferred
from flows.prediction_pictures import draw_points, pictures_of
from geometry.landmarks import N_LANDMARKS
from render.preview import encode_png
from render.vertex_colors import vertex_colors
from storage.bad_sample import BadSample, Rejected
from storage.evaluation_boxes import read_boxes
from storage.images import MAX_IMAGE_FILE_BYTES, decode_image, decode_photograph
from storage.jpeg import write_atomically
from storage.landmark_files import LANDMARK_SUFFIXES, read_landmarks
from storage.mesh_export import Format, export_mesh, upright_from_picture
from storage.regular_files import read_regular_file

IMAGES = (".jpg", ".jpeg", ".png")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")

_LEAST_BOX_SHARE = 0.02
"""A tracked face smaller than this share of the frame's shorter side is lost."""

Box = Float[np.ndarray, "4"]


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What is asked for beside the landmarks.

    boxes       where faces are: a file (path, left, top, right, bottom), or "auto", "landmarks", "detector", "whole"
    mesh        format of the reconstruction; None: none
    fit         of DenseReg: the model fitted to the predicted field, as mesh and camera
    dan         of DenseReg: a DAN checkpoint that starts from its landmarks, for the third row
    model       of `fit`: the morphable model, where it is not the built-in one
    """

    out: Path
    boxes: str = "auto"
    passes: int = 1
    mesh: Format | None = None
    fit: bool = False
    dan: Path | None = None
    model: str | list[str] = "built-in"


@dataclass(slots=True)
class PredictOutcome:
    """What was written, what could not be predicted, and how long one crop takes."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)


def predict_here(
    checkpoint: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
    options: PredictOptions,
    *,
    progress: Callable[[int], None] = lambda n: None,
) -> PredictOutcome:
    """Predict on everything named; a picture without a face is a rejection and stops nothing.

    Raises BadCheckpoint, FileNotFoundError, ValueError for options that the system does not have, and NoDetector.
    """
    work = _Work(checkpoint, options)
    outcome = PredictOutcome(about=work.about())
    for path in listed(inputs):
        try:
            outcome.documents += work.video(path) if path.suffix.lower() in VIDEOS else work.picture(path)
        except BadSample as bad:
            outcome.rejected.append(Rejected.because(str(path), bad))
        except work.no_face as nothing:
            outcome.rejected.append(Rejected(str(path), "predict.no_face", str(nothing)))
        progress(1)
    return outcome


def transfer_here(
    checkpoint: str | os.PathLike[str],
    target: str | os.PathLike[str],
    source: str | os.PathLike[str],
    options: PredictOptions,
) -> Path:
    """Put the face of `source` onto the one of `target` through the template's coordinates; the PNG that was written.

    Beside it an NPZ with the correspondence itself: `target_px` and `source_px` (m 2), the same places of the face. Raises NoFace
    or BadSample for a picture without a face, ValueError for a system without dense correspondence.
    """
    work = _Work(checkpoint, options)
    first, second = (work.first_face(Path(path)) for path in (target, source))
    picture = transferred(*first, *second, surface=work.predictor.surface)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{Path(target).stem}-from-{Path(source).stem}.png"
    write_atomically(path, encode_png(picture))
    places = corresponding(*first, *second, surface=work.predictor.surface)
    pairs = dict(zip(("target_px", "source_px"), places, strict=True))
    _write_arrays(path.with_suffix(".npz"), {name: points.astype(np.float32) for name, points in pairs.items()})
    return path


def listed(inputs: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Pictures and videos named or in named folders, in order. Raises FileNotFoundError, ValueError for other files."""
    found: list[Path] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in (*IMAGES, *VIDEOS) and p.is_file())
            if not inside:
                raise ValueError(f"{path} holds no picture ({', '.join(IMAGES)}) and no video ({', '.join(VIDEOS)})")
            found += inside
        elif not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        elif path.suffix.lower() not in (*IMAGES, *VIDEOS):
            raise ValueError(f"{path} is no picture ({', '.join(IMAGES)}) and no video ({', '.join(VIDEOS)})")
        else:
            found.append(path)
    return found


class _Work:
    """A checkpoint, its options, and what is made once for all pictures."""

    def __init__(self, checkpoint: str | os.PathLike[str], options: PredictOptions) -> None:
        from train.prediction import NoFace, Predictor, best_device
        from train.restore import restore

        self.options, self.no_face = options, NoFace
        device = best_device()
        self.predictor = Predictor(restore(checkpoint, device=device), device=device)
        is_field = self.predictor.system.name == "densereg"
        if (options.fit or options.dan is not None) and not is_field:
            raise ValueError(
                f"--fit and --dan belong to DenseReg's fields, and {checkpoint} is a checkpoint of {self.predictor.system.name}"
            )
        self.dan = (
            None if options.dan is None else Predictor(restore(options.dan, system="dan", device=device), device=device)
        )
        self.boxes = None
        if options.boxes not in ("auto", "landmarks", "detector", "whole"):
            self.boxes = read_boxes(options.boxes)
        self.fitter: Any = _fitter(self.predictor, options) if options.fit else None
        self._detector: Any = None
        options.out.mkdir(parents=True, exist_ok=True)

    def about(self) -> dict[str, Any]:
        """Latency and size, beside the paper's."""
        from train.published import LATENCY_MS

        restored = self.predictor.restored
        return {
            "system": restored.system.name,
            "size_mb": round(restored.size_mb, 3),
            "n_parameters": restored.n_parameters,
            "latency_ms": round(self.predictor.latency_ms(), 3),
            "device": str(self.predictor.device),
            "in_the_paper": LATENCY_MS.get(restored.system.name, ""),
            "licences": list(restored.data.licences),
        }

    # ----------------------------------------------------------------------------------------------- pictures

    def picture(self, path: Path) -> list[dict[str, Any]]:
        """All faces of a picture that there are boxes for. Raises BadSample, NoFace."""
        image = self.read(path)
        boxes, source, passes = self.boxes_of(path, image)
        predictions = self.predictor.predict(image, boxes, passes=passes)
        documents = []
        for number, prediction in enumerate(predictions):
            if not prediction.found:
                raise self.no_face(f"{path}: the network finds no face; give a box (--boxes), or leave the picture out")
            name = path.stem if len(predictions) == 1 else f"{path.stem}_{number}"
            documents.append(self.write(name, path, image, prediction, source))
        return documents

    def first_face(self, path: Path) -> tuple[np.ndarray, Any]:
        """A picture and the prediction of its first face."""
        image = self.read(path)
        boxes, _, passes = self.boxes_of(path, image)
        (prediction,) = self.predictor.predict(image, boxes[:1], passes=passes)
        if not prediction.found:
            raise self.no_face(f"{path}: the network finds no face; give a box (--boxes)")
        return image, prediction

    def read(self, path: Path) -> UInt8[np.ndarray, "h w 3"]:
        """The picture: upright as EXIF says, or as its file stores it where boxes or landmarks count its pixels."""
        data = read_regular_file(path, limit_bytes=MAX_IMAGE_FILE_BYTES, follow_links=True)
        counted = self.boxes is not None or (self.options.boxes in ("auto", "landmarks") and _beside(path) is not None)
        return decode_image(data) if counted else decode_photograph(data)

    def boxes_of(self, path: Path, image: np.ndarray) -> tuple[list[Box | None], str, int]:
        """Boxes, where they come from, and how often the crop is cut. Raises BadSample without a face."""
        passes = self.options.passes
        if self.predictor.data.margin is None and self.boxes is None:
            return [None], "the whole photograph, as the network learnt", passes
        if self.boxes is not None:
            boxes = self.boxes.get(path.stem) or self.boxes.get(path.with_suffix("").as_posix())
            if not boxes:
                raise BadSample(
                    "boxes.missing", f"{self.options.boxes} has no box of this picture; add one, or leave it out"
                )
            return list(boxes), f"the file {Path(self.options.boxes).name}", passes
        wanted = self.options.boxes
        beside = _beside(path)
        if wanted == "landmarks" or (wanted == "auto" and beside is not None):
            if beside is None:
                raise BadSample("landmarks.missing", "there is no .pts, .json or .mat beside it; choose other boxes")
            points = read_landmarks(beside)
            known = points[np.isfinite(points).all(axis=1)]
            box = np.concatenate([known.min(axis=0), known.max(axis=0)])
            return [box], f"landmarks in {beside.name}", passes
        if wanted == "detector" or (wanted == "auto" and self.detector is not None):
            return [self.detect(image)], f"dlib {self.detector.version}", passes
        height, width = image.shape[:2]
        return [_middle_square(height, width)], "the whole picture", max(passes, 2)

    @property
    def detector(self) -> Any:
        """dlib's, or None where it is not installed and nobody asked for it. Raises NoDetector where somebody did."""
        if self._detector is None:
            from storage.detector import FaceDetector, NoDetector

            try:
                self._detector = FaceDetector()
            except NoDetector:
                if self.options.boxes == "detector":
                    raise
                self._detector = False
        return self._detector or None

    def detect(self, image: np.ndarray) -> Box:
        """The box of the largest face. Raises BadSample."""
        return np.asarray(self.detector.landmark_box(image), dtype=np.float64)

    def write(self, name: str, path: Path, image: np.ndarray, prediction: Any, source: str) -> dict[str, Any]:
        """The files of one face; their document."""
        from train.prediction import landmark_rows

        out = self.options.out
        document = described(prediction) | {"picture": path.name, "boxes": source, "system": self.predictor.system.name}
        surface = self.predictor.surface
        vertices, triangles = (None, None) if surface is None else (prediction.vertices_px, surface.triangles)
        if self.predictor.system.name == "densereg" and len(prediction.landmarks_px) == N_LANDMARKS:
            document["rows"] = {
                name: points.tolist()
                for name, points in landmark_rows(
                    image, prediction, shapes=self.predictor.data.shapes, dan=self.dan
                ).items()
            }
        if self.fitter is not None:
            fit = fitted(self.fitter, prediction)
            document["fit"] = {"result": fit.result.value, "noise_px": fit.config.noise_px}
            if fit.result.has_face:
                model = self.fitter.model
                in_crop = fit.camera.project(np.asarray(model.vertices(fit.coefficients), dtype=np.float64))
                vertices, triangles = prediction.crop_from_image.inverse.apply(in_crop), model.triangles
        pictures = pictures_of(image, prediction, vertices, triangles, self.predictor)
        for kind, picture in pictures.items():
            write_atomically(out / f"{name}{kind}.png", encode_png(picture))
        arrays = {} if prediction.field is None else dict(prediction.field)
        if vertices is not None and triangles is not None:
            arrays |= {"vertices_px": vertices.astype(np.float32), "triangles": triangles}
            if self.options.mesh is not None:
                document["mesh"] = _write_mesh(
                    out / f"{name}.{self.options.mesh}", image, vertices, triangles, self.options.mesh
                )
        if arrays:
            _write_arrays(out / f"{name}.npz", arrays)
        _write_json(out / f"{name}.json", document)
        return document | {"file": str(out / f"{name}.json")}

    # ------------------------------------------------------------------------------------------------- videos

    def video(self, path: Path) -> list[dict[str, Any]]:
        """A face through a video, by the box of the frame before; lost, it is looked for as in a picture."""
        lines: list[dict[str, Any]] = []
        writer: Any = None
        box: Box | None = None
        private = self.options.out / f".{path.stem}.partial.mp4"
        try:
            for number, (frame, rate) in enumerate(frames(path)):
                if writer is None:
                    size = (frame.shape[1], frame.shape[0])
                    writer = cv2.VideoWriter(str(private), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)  # type: ignore[attr-defined]
                prediction, source = self.tracked(path, frame, box)
                box = None if prediction is None else prediction.box_px
                shown = frame if prediction is None else draw_points(frame, prediction.landmarks_px)
                writer.write(np.ascontiguousarray(shown[:, :, ::-1]))
                lines.append({"frame": number, "boxes": source} | ({} if prediction is None else described(prediction)))
        finally:
            if writer is not None:
                writer.release()
        if all("landmarks_px" not in line for line in lines):
            private.unlink(missing_ok=True)
            raise self.no_face(f"{path}: no face in any of its {len(lines)} frames; give a box for the first (--boxes)")
        video = self.options.out / f"{path.stem}.mp4"
        os.replace(private, video)
        text = "".join(json.dumps(_plain(line)) + "\n" for line in lines)
        write_atomically(video.with_suffix(".jsonl"), text.encode())
        found = sum("landmarks_px" in line for line in lines)
        return [{"picture": path.name, "file": str(video), "frames": len(lines), "with_a_face": found}]

    def tracked(self, path: Path, frame: np.ndarray, box: Box | None) -> tuple[Any, str]:
        """The prediction on a frame, None where there is no face, and where its box came from."""
        least = _LEAST_BOX_SHARE * min(frame.shape[:2])
        if box is not None and (box[2:] - box[:2] >= least).all() and self.predictor.data.margin is not None:
            (prediction,) = self.predictor.predict(frame, [box])
            if prediction.found and _inside(prediction.box_px, frame.shape[:2]):
                return prediction, "the frame before"
        try:
            boxes, source, passes = self.boxes_of(path, frame)
            (prediction,) = self.predictor.predict(frame, boxes[:1], passes=passes)
        except (BadSample, self.no_face):
            return None, "no face"
        return (prediction, source) if prediction.found else (None, "no face")


# ------------------------------------------------------------------------------------------------- what is written


def described(prediction: Any) -> dict[str, Any]:
    """A prediction as plain values; NaN is null."""
    angles = prediction.angles_deg
    camera = prediction.camera
    values: dict[str, Any] = _plain(
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


def _fitter(predictor: Any, options: PredictOptions) -> Any:
    from geometry.models import load_model
    from render.field_fit import FieldFitter

    template = predictor.data.template
    if template is None:
        raise ValueError(f"{predictor.restored.path} knows no template, so no model can be fitted to its fields")
    model = load_model(options.model)
    if model.fingerprint != predictor.data.model_fingerprint:
        raise ValueError(
            f"the fields are of {predictor.data.model_name} ({predictor.data.model_fingerprint[:8]}…) and {model.name} "
            f"({model.fingerprint[:8]}…) is given: another topology; give the model's files by --model"
        )
    return FieldFitter.of(model, template)


def fitted(fitter: Any, prediction: Any) -> Any:
    """The model fitted to a predicted field, in pixels of the crop."""
    uv = prediction.field["uv"].astype(np.float64)
    return fitter.fit(np.nan_to_num(uv), np.isfinite(uv).all(axis=-1))


def frames(path: Path) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], float]]:
    """A video's frames, RGB, with its rate. Raises BadSample for a file that OpenCV cannot read."""
    capture = cv2.VideoCapture(str(path))
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    n_frames = 0
    try:
        while True:
            more, frame = capture.read()
            if not more:
                break
            n_frames += 1
            yield np.ascontiguousarray(frame[:, :, ::-1]), rate if 1 <= rate <= 1000 else 25.0
    finally:
        capture.release()
    if not n_frames:
        raise BadSample("video.unreadable", "OpenCV reads no frame of it: it is damaged, or in a format that it lacks")


def _beside(picture: Path) -> Path | None:
    """The landmark file of the picture's name."""
    return next((p for s in LANDMARK_SUFFIXES if (p := picture.with_suffix(f".{s}")).is_file()), None)


def _inside(box: Box, size_hw: tuple[int, ...]) -> bool:
    """Whether the middle of a box lies in the picture."""
    x, y = (box[:2] + box[2:]) / 2
    return bool(0 <= x < size_hw[1] and 0 <= y < size_hw[0])


def _middle_square(height: int, width: int) -> Box:
    """The box that a face would have that fills the picture: two thirds of its shorter side, in the middle."""
    side = min(height, width) / 1.5
    left, top = (width - 1 - side) / 2, (height - 1 - side) / 2
    return np.array([left, top, left + side, top + side])


def _write_mesh(path: Path, image: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, format: Format) -> str:
    colors, _ = vertex_colors(image, vertices, triangles)
    try:
        export_mesh(path, upright_from_picture(vertices, height=len(image)), triangles, colors=colors, format=format)
    except ValueError as error:
        return f"not written: {error}"
    return path.name


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    import io

    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    write_atomically(path, stream.getvalue())


def _write_json(path: Path, document: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(_plain(document), indent=1) + "\n").encode())


def _plain(value: Any) -> Any:
    from train.evaluation_report import plain

    return plain(value)

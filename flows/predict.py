"""Predictions on pictures, folders and videos: landmarks, pose, meshes, fields, overlays.

Of each face there is one set of files (:mod:`flows.prediction_files`), of a video one overlay video and one JSON line for
each frame. Where the faces are: :mod:`flows.picture_boxes`.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import UInt8

from flows.face_transfer import corresponding, transferred
from flows.picture_boxes import Box, PictureBoxes
from flows.prediction_files import FaceFiles, described, field_fitter, write_arrays
from flows.prediction_pictures import draw_points
from render.preview import encode_png
from storage.bad_sample import BadSample, Rejected
from storage.json_files import plain
from storage.mesh_export import Format
from storage.whole_files import write_atomically

if TYPE_CHECKING:
    from train.prediction import Prediction

IMAGES = (".jpg", ".jpeg", ".png")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")

_WITH_MESH = ("prnet", "mesh_gcn")
"""Systems that find a surface by themselves."""

_LEAST_BOX_SHARE = 0.02
"""A tracked face smaller than this share of the frame's shorter side is lost."""


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
    from train.processor import threads_for

    work = _Work(checkpoint, options)
    with threads_for(work.predictor.system.network, os.environ):
        outcome = PredictOutcome(about=work.about())
        for path, name in output_names(listed(inputs)).items():
            predict = work.video if path.suffix.lower() in VIDEOS else work.picture
            try:
                outcome.documents += predict(path, name)
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
    from train.processor import threads_for

    work = _Work(checkpoint, options)
    with threads_for(work.predictor.system.network, os.environ):
        first, second = (work.first_face(Path(path)) for path in (target, source))
    picture = transferred(*first, *second, surface=work.predictor.surface)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{Path(target).stem}-from-{Path(source).stem}.png"
    write_atomically(path, encode_png(picture))
    places = corresponding(*first, *second, surface=work.predictor.surface)
    pairs = dict(zip(("target_px", "source_px"), places, strict=True))
    write_arrays(path.with_suffix(".npz"), {name: points.astype(np.float32) for name, points in pairs.items()})
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


def output_names(paths: Sequence[Path]) -> dict[Path, str]:
    """What each file's predictions are called: its stem; where several have that stem, the folder's name comes before it."""
    stems = Counter(path.stem for path in dict.fromkeys(paths))
    names: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        name = plain_name = path.stem if stems[path.stem] == 1 else f"{path.absolute().parent.name}-{path.stem}"
        number = 0
        while name in names:  # of one folder's name.jpg and name.png, say
            number += 1
            name = f"{plain_name}+{number}"
        names[name] = path
    return {path: name for name, path in names.items()}


class _Work:
    """A checkpoint, its options, and what is made once for all pictures."""

    def __init__(self, checkpoint: str | os.PathLike[str], options: PredictOptions) -> None:
        from train.prediction import NoFace, Predictor, best_device
        from train.restore import restore

        self.options, self.no_face = options, NoFace
        device = best_device()
        self.predictor = Predictor(restore(checkpoint, device=device), device=device)
        system = self.predictor.system.name
        if (options.fit or options.dan is not None) and system != "densereg":
            raise ValueError(
                f"--fit and --dan belong to DenseReg's fields, and {checkpoint} is a checkpoint of {system}"
            )
        if options.mesh is not None and not options.fit and system not in _WITH_MESH:
            raise ValueError(
                f"--export takes {', '.join(_WITH_MESH)}, and densereg with --fit, and {checkpoint} is a checkpoint of {system}"
            )
        dan = (
            None if options.dan is None else Predictor(restore(options.dan, system="dan", device=device), device=device)
        )
        learnt_whole = self.predictor.data.margin is None
        self.boxes = PictureBoxes(options.boxes, passes=options.passes, learnt_whole=learnt_whole)
        fitter = field_fitter(self.predictor, options.model) if options.fit else None
        self.files = FaceFiles(self.predictor, options.out, mesh=options.mesh, dan=dan, fitter=fitter)
        options.out.mkdir(parents=True, exist_ok=True)

    def about(self) -> dict[str, Any]:
        """Latency and size, beside the paper's."""
        from train.processor import processor_name
        from train.published import LATENCY_MS

        restored = self.predictor.restored
        return {
            "system": restored.system.name,
            "size_mb": round(restored.size_mb, 3),
            "n_parameters": restored.n_parameters,
            "latency_ms": round(self.predictor.latency_ms(), 3),
            "device": str(self.predictor.device),
            "processor": processor_name(),
            "in_the_paper": LATENCY_MS.get(restored.system.name, ""),
            "licences": list(restored.data.licences),
        }

    # ----------------------------------------------------------------------------------------------- pictures

    def picture(self, path: Path, name: str) -> list[dict[str, Any]]:
        """All faces of a picture that there are boxes for. Raises BadSample, NoFace."""
        image = self.boxes.read(path)
        boxes, source, passes = self.boxes.of(path, image)
        predictions = self.predictor.predict(image, boxes, passes=passes)
        documents = []
        for number, prediction in enumerate(predictions):
            if not prediction.found:
                raise self.no_face(f"{path}: the network finds no face; give a box (--boxes), or leave the picture out")
            of_face = name if len(predictions) == 1 else f"{name}_{number}"
            documents.append(self.files.write(of_face, path, image, prediction, boxes=source))
        return documents

    def first_face(self, path: Path) -> "tuple[np.ndarray, Prediction]":
        """A picture and the prediction of its first face."""
        image = self.boxes.read(path)
        boxes, _, passes = self.boxes.of(path, image)
        (prediction,) = self.predictor.predict(image, boxes[:1], passes=passes)
        if not prediction.found:
            raise self.no_face(f"{path}: the network finds no face; give a box (--boxes)")
        return image, prediction

    # ------------------------------------------------------------------------------------------------- videos

    def video(self, path: Path, name: str) -> list[dict[str, Any]]:
        """A face through a video, by the box of the frame before; lost, it is looked for as in a picture."""
        lines: list[dict[str, Any]] = []
        writer: Any = None
        box: Box | None = None
        private = self.options.out / f".{name}.partial.mp4"
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
        video = self.options.out / f"{name}.mp4"
        os.replace(private, video)
        text = "".join(json.dumps(plain(line)) + "\n" for line in lines)
        write_atomically(video.with_suffix(".jsonl"), text.encode())
        found = sum("landmarks_px" in line for line in lines)
        return [{"picture": path.name, "file": str(video), "frames": len(lines), "with_a_face": found}]

    def tracked(self, path: Path, frame: np.ndarray, box: Box | None) -> "tuple[Prediction | None, str]":
        """The prediction on a frame, None where there is no face, and where its box came from."""
        least = _LEAST_BOX_SHARE * min(frame.shape[:2])
        if box is not None and (box[2:] - box[:2] >= least).all() and self.predictor.data.margin is not None:
            (prediction,) = self.predictor.predict(frame, [box])
            if prediction.found and _inside(prediction.box_px, frame.shape[:2]):
                return prediction, "the frame before"
        try:
            boxes, source, passes = self.boxes.of(path, frame)
            (prediction,) = self.predictor.predict(frame, boxes[:1], passes=passes)
        except (BadSample, self.no_face):
            return None, "no face"
        return (prediction, source) if prediction.found else (None, "no face")


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


def _inside(box: Box, size_hw: tuple[int, ...]) -> bool:
    """Whether the middle of a box lies in the picture."""
    x, y = (box[:2] + box[2:]) / 2
    return bool(0 <= x < size_hw[1] and 0 <= y < size_hw[0])

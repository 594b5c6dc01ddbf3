"""The index of a data set: one row a sample, of the small targets alone, to filter and sort by before reading the rest."""

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Int

from storage.dataset import ShardedDataset
from storage.source_groups import in_pieces, photograph_of

Index = Mapping[str, np.ndarray]

_AT_ONCE = 4096
_SMALL = ("source_id", "copy_index", "mirrored", "seed", "pose", "landmarks_px", "landmark_residual_px", "residual_px",
          "n_faces", "side", "result", "landmark_origin")  # fmt: skip


def sample_index(
    dataset: ShardedDataset, indices: Int[np.ndarray, " n"] | None = None, *, of: Collection[str] = _SMALL
) -> Index:
    """Columns of equal length, a row for each of `indices` (by default all samples); what a data set lacks is left out.

    `index` i64; `source_id` and `photograph` (texts); `pitch_deg`, `yaw_deg`, `roll_deg` f32 (of several faces the
    first); `residual_px` f32, the mean distance of the source's landmarks from the label's, NaN where there is none;
    `landmarks_px` f32 (n p d); `box_px` f32 (n 4), left, top, right, bottom of the landmarks; and `copy_index`,
    `mirrored`, `seed`, `n_faces`, `side`, `result`, `landmark_origin` as they are stored.
    Pictures and maps are not read, only the targets that columns are made `of`. Memory: about 1 kB a row, most of it the
    landmarks.
    """
    rows = np.arange(len(dataset)) if indices is None else np.asarray(indices, dtype=np.int64)
    names = [target.name for target in dataset.schema.targets if target.name in of]
    parts = [_part(dataset.read(rows[piece.start : piece.stop], names)) for piece in in_pieces(len(rows), _AT_ONCE)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    return {"index": rows.astype(np.int64), **columns}


def _part(read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    if "source_id" in read:
        columns["source_id"] = read["source_id"]
        columns["photograph"] = np.array([photograph_of(name) for name in read["source_id"].tolist()], dtype=np.str_)
    if "pose" in read:
        pose = read["pose"].reshape(len(read["pose"]), -1, 7)[:, 0]
        angles = np.degrees(pose[:, :3])
        wrapped = (angles + 180) % 360 - 180  # some published files hold angles beyond half a turn
        columns |= dict(zip(("pitch_deg", "yaw_deg", "roll_deg"), wrapped.astype(np.float32).T, strict=True))
    residual = read.get("landmark_residual_px", read.get("residual_px"))
    if residual is not None:
        columns["residual_px"] = _mean_of_known(residual)
    if "landmarks_px" in read:
        columns["landmarks_px"] = read["landmarks_px"]
        columns["box_px"] = _boxes(read["landmarks_px"])
    as_stored = ("copy_index", "mirrored", "seed", "n_faces", "side", "result", "landmark_origin")
    return columns | {name: read[name] for name in as_stored if name in read}


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(len(values), -1).astype(np.float64)
    known = np.isfinite(flat)
    count = known.sum(axis=1)
    total = np.where(known, flat, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _boxes(landmarks_px: np.ndarray) -> np.ndarray:
    points = landmarks_px.reshape(len(landmarks_px), -1, landmarks_px.shape[-1])[..., :2]
    known = np.isfinite(points).all(axis=-1, keepdims=True)
    low = np.where(known, points, np.inf).min(axis=1)
    high = np.where(known, points, -np.inf).max(axis=1)
    boxes = np.concatenate([low, high], axis=1)
    return np.where(np.isfinite(boxes), boxes, np.nan).astype(np.float32)

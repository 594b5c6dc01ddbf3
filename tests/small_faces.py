"""Small published data sets of position maps: a lopsided surface that turns with the yaw it is given, 32 pixels wide."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geometry.built_in import load_built_in
from storage.bad_sample import BadSample
from storage.dataset import ShardedDataset, open_dataset
from storage.face_targets import position_map_schema
from storage.manifest import DatasetPlan, ModelInfo, SourceInfo, table_digests
from storage.publish import builders_lock, draft_manifest, point_latest, publish, start_version
from storage.shards import ShardWriter

SIZE = 32
NAMES = (
    "AFW/AFW_11_1_0", "AFW/AFW_11_1_1", "AFW_Flip/AFW_11_1_0", "HELEN/HELEN_232194_1_0", "HELEN/HELEN_3057639344_1_0",
    "LFPW/LFPW_image_train_0001_0", "LFPW_Flip/LFPW_image_train_0001_3", "LFPW/LFPW_image_test_0002_0",
    "IBUG/IBUG_image_008_1_0", "IBUG_Flip/IBUG_image_008_1_2",
)  # fmt: skip


def tables() -> dict[str, np.ndarray]:
    """A coverage with a hole and a bare border, and weights."""
    covered = np.zeros((SIZE, SIZE), dtype=np.uint8)
    covered[2:29, 3:31] = 1
    covered[10:13, 6:11] = 0
    weights = np.linspace(0, 16, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)
    texels = np.stack([np.arange(68) % SIZE, np.arange(68) // 3], axis=1).astype(np.int32)
    return {"atlas_covered": covered, "face_mask": covered, "weight_mask": weights, "landmark_texels": texels}


def sample(number: int, name: str, *, yaw_deg: float, identity: int) -> dict[str, object]:
    """One sample: picture and map of their own, the identity of person `identity`."""
    rng = np.random.default_rng([3, number])
    model = load_built_in()
    row, column = np.mgrid[:SIZE, :SIZE].astype(np.float32) / (SIZE - 1)
    depth = 12 * np.sin(np.pi * column) * (1 - row) + 3 * column
    turn = np.radians(yaw_deg)
    x = 16 + 24 * (column - 0.5) * np.cos(turn) + 0.5 * depth * np.sin(turn)
    xyz = np.stack([x, 3 + 26 * row, depth], axis=-1)
    xyz[tables()["atlas_covered"] == 0] = 0
    picture = np.stack([255 * row, 255 * column, np.full_like(row, 8 * number)], axis=-1)
    landmarks = np.stack([np.linspace(4, 28, 68), np.linspace(5, 20, 68), np.zeros(68)], axis=-1)
    angles = [np.radians(4.0), turn, np.radians(-2.0)]
    return {
        "image": picture.astype(np.uint8),
        "position_map": xyz.astype(np.float32),
        "landmarks_px": landmarks.astype(np.float32),
        "landmark_residual_px": np.float32(np.nan if number % 4 == 3 else 0.25 * number),
        "identity": model.draw_identity(np.random.default_rng([5, identity])).astype(np.float32),
        "expression": model.draw_expression(rng).astype(np.float32),
        "pose": np.array([*angles, 10.0 * number, 20.0, 0.0, 0.1]),
        "crop_from_image": np.eye(3),
        "crop_from_model": rng.normal(size=(3, 4)),
        "z_offset_px": np.float64(-3.5),
        "mirrored": np.bool_(name.startswith("AFW_Flip")),
        "source_id": np.str_(name),
        "copy_index": np.int32(0),
        "seed": np.int64(number),
    }


def build(
    out: Path,
    *,
    dataset: str = "faces",
    names: Sequence[str] = NAMES,
    identities: Sequence[int] | None = None,
    holes: Sequence[int] = (),
    shard_size: int = 4,
    source_id_bytes: int = 64,
    source: SourceInfo | None = None,
    reason: str = "left out on purpose",
) -> ShardedDataset:
    """Publish one: yaw grows with the number, from −83 degrees in steps of 20."""
    model = load_built_in()
    plan = DatasetPlan(
        name=dataset,
        config={"size_px": SIZE, "note": "<b>bold</b> & {{script}}"},
        recipe_version=3,
        model=ModelInfo(name=model.name, fingerprint=model.fingerprint, licence=model.licence),
        sources=(
            source or SourceInfo(kind="300w-lp", n_files=2 * len(names), fingerprint="ab" * 32, licence="toy terms"),
        ),
        sample_schema=position_map_schema(
            image_size=SIZE,
            map_size=SIZE,
            n_identity=model.n_identity,
            n_expression=model.n_expression,
            maps="materialized",
            source_id_bytes=source_id_bytes,
        ),
        tables=table_digests(tables()),
        shard_size=shard_size,
        n_slots=len(names),
    )
    with builders_lock(out / plan.name) as store:
        version = store.folder(plan.version)
        start_version(version, plan, tables())
        for shard in range(plan.n_shards):
            writer = ShardWriter(version, plan, shard)
            for slot in plan.slots(shard):
                if slot in holes:
                    writer.reject(slot, names[slot], BadSample("toy.hole", reason))
                else:
                    person = slot if identities is None else identities[slot]
                    writer.add(slot, sample(slot, names[slot], yaw_deg=-83 + 20 * (slot % 9), identity=person))
            writer.finish({})
        statistics = {"landmark_readback_px": {"mean": 0.25, "worst_source_id": names[0]}}
        publish(version, draft_manifest(version, plan, statistics=statistics))
        point_latest(store, plan.version)
    return open_dataset(out / plan.name)

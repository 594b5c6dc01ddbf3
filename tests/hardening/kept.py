"""What is kept from this version, so that later ones are held to it: ``python -m tests.hardening.kept``.

In `tests/hardening/data`, all of it drawn from the built-in model or from numbers:

    faces/               two annotated pictures, the golden build's source
    golden.json, .npz    that build's objects by SHA-256, for one signature of machine and libraries; its values, for all others
    datasets/            two small published data sets: position maps, and one target of every code
    model.ffmodel.npz    a small morphable model
    checkpoint.pt        a small network
    kept.json            SHA-256 of everything that is read from them

The command writes what is missing and never overwrites: kept files are the promise, and are remade only when a format's number
is raised.
"""

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from flows.config import PosmapConfig
from flows.local import build_here
from render.crop import CropConfig
from storage.bad_sample import BadSample
from storage.byte_codes import FileBytes, Jpeg
from storage.codes import FixedPoint, Utf8
from storage.dataset import ShardedDataset, open_dataset
from storage.manifest import DatasetPlan, ModelInfo, SourceInfo, table_digests
from storage.publish import builders_lock, draft_manifest, point_latest, publish, start_version
from storage.schema import Schema, Target
from storage.shards import ShardWriter
from storage.synthetic import write_sample_folder

DATA = Path(__file__).with_name("data")
FACES, DATASETS = DATA / "faces", DATA / "datasets"
GOLDEN = PosmapConfig(
    name="golden", crop=CropConfig(size_px=64), copies=2, shard_size=2, targets=("posmap", "field", "heatmaps")
)
_LIBRARIES = ("numpy", "scipy", "opencv-python-headless", "numba", "llvmlite", "numcodecs", "zarr", "pydantic")

TOLERANCES: Mapping[str, float] = {
    "image": 2, "position_map": 1 / 16, "landmarks_px": 1e-2, "landmark_residual_px": 1e-2, "pose": 1e-5,
    "crop_from_image": 1e-6, "crop_from_model": 1e-4, "z_offset_px": 1e-2,
    "identity": 0, "expression": 0, "uv": 1e-3, "depth": 1e-3, "heatmap_center_px": 1e-2,
}  # fmt: skip
"""How far a value may lie from the golden one on another type of machine, in its own unit; targets that are not named: 0."""
OUTLIERS = 0.002
"""The share of a target's numbers that may lie farther: a pixel at an edge belongs to one side here, to the other there."""


def signature() -> dict[str, str]:
    """What decides the last bits of a product: machine, libraries, and the kernels that BLAS chose for this processor."""
    blas = {
        f"{info['internal_api']} {info.get('version')} {info.get('architecture', '')}"
        for info in threadpool_info()
        if info["user_api"] == "blas"
    }
    libraries = {name: version(name) for name in _LIBRARIES}
    return {
        "machine": platform.machine(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "blas": "; ".join(sorted(blas)),
        **libraries,
    }


def golden_build(out: Path, *, source: Path = FACES, workers: int = 1) -> ShardedDataset:
    """The golden data set, built anew."""
    return open_dataset(build_here(GOLDEN, source=source, out=out, workers=workers).path)


def objects_of(dataset: ShardedDataset) -> dict[str, str]:
    """Every published object's SHA-256, by its name, from the disk."""
    return {
        info.key: hashlib.sha256((dataset.path / info.key).read_bytes()).hexdigest()
        for info in dataset.manifest.objects
    }


def values_of(dataset: ShardedDataset) -> dict[str, np.ndarray]:
    """What is read of all samples; large targets thinned out."""
    everything = dataset.read(range(len(dataset)))
    numbers = {name: value for name, value in everything.items() if value.dtype.kind in "fiub"}
    return {
        name: value[:, ::4, ::4] if value.ndim >= 3 and value.shape[1] >= 64 else value
        for name, value in numbers.items()
    }


def differences(
    dataset: ShardedDataset, golden: Mapping[str, object], values: Mapping[str, np.ndarray], here: Mapping[str, str]
) -> list[str]:
    """What of a data set is not as the golden one: bytes on a machine of its signature, values within tolerances on others."""
    if golden["signature"] == here:
        kept: dict[str, str] = golden["objects"]  # type: ignore[assignment]
        found = objects_of(dataset)
        return [key for key in sorted(kept.keys() | found.keys()) if kept.get(key) != found.get(key)]
    found_values = values_of(dataset)
    wrong = sorted(values.keys() ^ found_values.keys())
    for name in values.keys() & found_values.keys():
        expected, value = np.asarray(values[name], np.float64), np.asarray(found_values[name], np.float64)
        if expected.shape != value.shape or (np.isnan(expected) != np.isnan(value)).mean() > OUTLIERS:
            wrong.append(name)
            continue
        far = np.abs(np.nan_to_num(value) - np.nan_to_num(expected)) > TOLERANCES.get(name, 0.0)
        if far.mean() > OUTLIERS:
            wrong.append(name)
    return wrong


# ------------------------------------------------------------------------------------------------------ data sets


def every_code(out: Path) -> ShardedDataset:
    """Seven samples and a hole, each with a target of every code, dtype and compression."""
    side = (24, 32)
    first = {"channels_first": True}
    picture, field = (*side, 3), (*side, 2)
    unit, file = FixedPoint(steps_per_unit=32768, offset=0), FileBytes(max_bytes=64)
    jpeg = Jpeg(quality=90, size_hw=side)
    targets = (
        Target(
            name="image",
            dtype="uint8",
            sample_shape=picture,
            description="pixels",
            compression="lz4_bitshuffle",
            **first,
        ),
        Target(name="jpeg", dtype="uint8", sample_shape=picture, description="a JPEG", code=jpeg, **first),
        Target(name="file", dtype="bytes", description="a file", code=file),
        Target(
            name="map",
            dtype="float32",
            sample_shape=picture,
            description="64ths",
            code=FixedPoint(),
            compression="lz4_shuffle",
            **first,
        ),
        Target(
            name="uv",
            dtype="float32",
            sample_shape=field,
            description="of 1",
            code=unit,
            compression="zstd_bitshuffle",
            **first,
        ),
        Target(name="text", dtype="str", description="a text", code=Utf8(max_bytes=24)),
        Target(name="known", dtype="float32", sample_shape=(3,), description="NaN is not known", allow_nan=True),
        Target(name="matrix", dtype="float64", sample_shape=(2, 3), description="a matrix"),
        Target(name="number", dtype="int64", description="a number"),
        Target(name="small", dtype="int32", description="a small one"),
        Target(name="yes", dtype="bool", description="yes or no"),
    )
    tables = {
        "weights": np.linspace(0, 16, 35, dtype=np.float32).reshape(5, 7),
        "texels": np.arange(68, dtype=np.int32).reshape(34, 2),
    }
    plan = DatasetPlan(
        name="every-code",
        config={"note": "kept"},
        recipe_version=1,
        model=ModelInfo(name="nobody", fingerprint="0" * 32),
        sources=(SourceInfo(kind="numbers", n_files=8, fingerprint="ab" * 32),),
        sample_schema=Schema(targets=targets),
        tables=table_digests(tables),
        shard_size=3,
        n_slots=8,
    )
    with builders_lock(out / plan.name) as store:
        folder = store.folder(plan.version)
        start_version(folder, plan, tables)
        for shard in range(plan.n_shards):
            writer = ShardWriter(folder, plan, shard)
            for slot in plan.slots(shard):
                if slot == 4:
                    writer.reject(slot, "hole", BadSample("toy.hole", "left out on purpose"))
                else:
                    writer.add(slot, _sample_of_every_code(slot, side))
            writer.finish({"n": len(plan.slots(shard))})
        publish(folder, draft_manifest(folder, plan, statistics={"mean": 1.5}))
        point_latest(store, plan.version)
    return open_dataset(out / plan.name)


def _sample_of_every_code(slot: int, side: tuple[int, int]) -> dict[str, object]:
    rng = np.random.default_rng([9, slot])
    row, column = np.mgrid[: side[0], : side[1]]
    picture = np.stack([20 * row, 15 * column, np.full_like(row, 9 * slot)], axis=-1).astype(np.uint8)
    return {
        "image": rng.integers(0, 256, (*side, 3), dtype=np.uint8),
        "jpeg": picture,
        "file": np.array(bytes(range(5 + slot)), dtype=object),
        "map": rng.uniform(-200, 700, (*side, 3)).astype(np.float32),
        "uv": rng.uniform(0, 1, (*side, 2)).astype(np.float32),
        "text": np.str_(f"übung {slot}"),
        "known": np.array([slot, np.nan, -0.5], dtype=np.float32),
        "matrix": rng.normal(size=(2, 3)),
        "number": np.int64(slot * 1_000_000_007),
        "small": np.int32(-slot),
        "yes": np.bool_(slot % 2),
    }


def read_digests(dataset: ShardedDataset) -> dict[str, str]:
    """A digest of every stored target and table as they are read, and of the holes."""
    everything = dataset.read(range(len(dataset)), tuple(target.name for target in dataset.schema.targets))
    found = {f"target {name}": _digest(value) for name, value in everything.items()}
    found |= {f"table {name}": _digest(dataset.table(name)) for name in dataset.manifest.plan.tables}
    holes = [[hole.index, hole.source_id, hole.code, hole.reason] for hole in dataset.manifest.rejected]
    return found | {"holes": hashlib.sha256(json.dumps(holes).encode()).hexdigest()}


def _digest(value: np.ndarray) -> str:
    if value.dtype.kind in "OUT":
        return hashlib.sha256(repr(value.tolist()).encode()).hexdigest()
    return hashlib.sha256(
        f"{value.dtype.str}{value.shape};".encode() + np.ascontiguousarray(value).tobytes()
    ).hexdigest()


# --------------------------------------------------------------------------------------------------------- writing


def _write(path: Path, content: bytes) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _keep_faces(work: Path) -> None:
    write_sample_folder(work / "drawn", n_identities=1, n_expressions=1, n_views=2)
    for name in ("AFW/AFW_7000001_1_0", "AFW_Flip/AFW_7000001_1_1"):
        for suffix in (".jpg", ".mat"):
            _write(FACES / f"{name}{suffix}", (work / "drawn" / f"{name}{suffix}").read_bytes())


def main() -> None:
    """Write what is missing."""
    from geometry import save_model
    from tests.hardening.fuzz_targets import small_checkpoint, small_model
    from tests.small_faces import build

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if not FACES.exists():
            _keep_faces(work)
        if not (DATA / "golden.json").exists():
            golden = golden_build(work / "golden")
            np.savez_compressed(DATA / "golden.npz", **values_of(golden))
            document = {"signature": signature(), "version": golden.manifest.version, "objects": objects_of(golden)}
            _write(DATA / "golden.json", (json.dumps(document, indent=1, sort_keys=True) + "\n").encode())
        if not DATASETS.exists():
            build(work / "kept", names=("AFW/a_0", "AFW/a_1", "AFW_Flip/a_0", "HELEN/b_0"), holes=(1,), shard_size=2)
            every_code(work / "kept")
            shutil.copytree(work / "kept", DATASETS, ignore=shutil.ignore_patterns(".lock"))
        if not (DATA / "model.ffmodel.npz").exists():
            save_model(small_model(), DATA / "model.ffmodel.npz")
        if not (DATA / "checkpoint.pt").exists():
            small_checkpoint(work / "checkpoint.pt", work)
            _write(DATA / "checkpoint.pt", (work / "checkpoint.pt").read_bytes())
    if not (DATA / "kept.json").exists():
        _write(DATA / "kept.json", (json.dumps(digests(), indent=1, sort_keys=True) + "\n").encode())


def digests() -> dict[str, object]:
    """Everything that is read from what is kept."""
    from geometry import open_model
    from train.restore import restore

    restored = restore(DATA / "checkpoint.pt")
    weights = restored.system.network.state_dict()
    return {
        **{name: read_digests(open_dataset(DATASETS / name)) for name in ("faces", "every-code")},
        "model": open_model(DATA / "model.ffmodel.npz", verify=True).fingerprint,
        "checkpoint": {name: _digest(weights[name].numpy()) for name in sorted(weights)},
    }


if __name__ == "__main__":
    main()

"""Many parametric samples: how they are listed, opened, verified and shuffled, and in how much memory.

    python tests/benchmarks/many_samples.py FOLDER [--samples 100000] [--shard-size 256] [--workers 2]

Writes a data set of synthetic coefficients and small pictures (32 × 32) by the builders' own way, plan, shards, receipts,
publishing, and keeps it in FOLDER. Each stage runs in a process of its own; printed are its seconds by the clock, its
processor time, and its highest resident memory, the imports' share taken off.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from flows.atlases import own_atlas
from flows.config import PosmapConfig
from flows.posmaps import PosmapRecipe
from geometry import load_model
from storage.dataset import open_dataset
from storage.face_targets import position_map_schema
from storage.manifest import DatasetPlan, ModelInfo, SourceInfo, table_digests
from storage.publish import draft_manifest, finished_shards, point_latest, publish, start_version
from storage.shards import ShardWriter
from storage.stores import store_at
from storage.verify import verify
from storage.versions import published_versions
from train.loader import make_loader

SIZE = 32
NAME = "many"
STAGES = (
    "list",
    "open",
    "open, index touched",
    "verify fast",
    "verify full",
    "shuffled epoch",
    "shuffled, maps decoded",
)
MAPS_DECODED = 4096


def planned(n_samples: int, shard_size: int) -> tuple[DatasetPlan, dict[str, np.ndarray]]:
    """The plan of samples that are numbers alone, and its tables."""
    model = load_model("built-in")
    config = PosmapConfig.model_validate({"maps": "parametric", "shard_size": shard_size, "name": NAME})
    tables = PosmapRecipe.of(config, model, own_atlas(model)).tables()
    schema = position_map_schema(
        image_size=SIZE, map_size=256, n_identity=model.n_identity, n_expression=model.n_expression, maps="parametric"
    )
    plan = DatasetPlan(
        name=NAME,
        config=config.model_dump(mode="json"),
        recipe_version=1,
        model=ModelInfo(name=model.name, fingerprint=model.fingerprint, licence=model.licence),
        sources=(SourceInfo(kind="synthetic", n_files=0, fingerprint="0" * 64, licence="CC0-1.0"),),
        sample_schema=schema,
        tables=table_digests(tables),
        shard_size=shard_size,
        n_slots=n_samples,
    )
    return plan, tables


def write_shard(folder: str, plan: DatasetPlan, shard: int) -> int:
    """One shard of draws, the same every time."""
    model = load_model("built-in")
    writer = ShardWriter(store_at(folder), plan, shard)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    for slot in plan.slots(shard):
        rng = np.random.default_rng([11, slot])
        pitch, yaw, roll = rng.normal(0, (0.2, 0.5, 0.1))
        identity = (rng.normal(size=model.n_identity) * model.identity_stddevs).astype(np.float32)
        color = rng.uniform(40, 215, 3)
        shade = np.clip(1 - (x - 0.5 - yaw / 4) ** 2 - (y - 0.5 + pitch / 4) ** 2, 0, 1)[..., None]
        writer.add(
            slot,
            {
                "image": (shade * color + rng.normal(0, 4, (SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8),
                "landmarks_px": rng.uniform(0, SIZE, (68, 3)).astype(np.float32),
                "landmark_residual_px": np.float32(np.nan),
                "identity": identity,
                "expression": (rng.normal(size=model.n_expression) * model.expression_stddevs).astype(np.float32),
                "pose": np.array([pitch, yaw, roll, 225, 225, 0, 1.2]),
                "crop_from_image": np.diag([0.5, 0.5, 1.0]),
                "crop_from_model": np.hstack([np.diag([0.15, -0.15, 0.15]), [[16.0], [16.0], [0.0]]]),
                "z_offset_px": np.float64(-12.0),
                "mirrored": np.bool_(False),
                "source_id": np.str_(f"drawn/{slot:08d}"),
                "copy_index": np.int32(0),
                "seed": np.int64(slot),
            },
        )
    writer.finish({})
    return shard


def write(folder: Path, n_samples: int, shard_size: int, workers: int) -> Path:
    """The published version."""
    plan, tables = planned(n_samples, shard_size)
    version = store_at(folder / NAME / plan.version)
    if not (folder / NAME / plan.version / "manifest.json").exists():
        start_version(version, plan, tables)
        missing = [shard for shard in range(plan.n_shards) if shard not in finished_shards(version, plan)]
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(partial(write_shard, str(folder / NAME / plan.version), plan), missing, chunksize=4))
        publish(version, draft_manifest(version, plan))
        point_latest(store_at(folder / NAME), plan.version)
    return folder / NAME / plan.version


def stage(name: str, path: Path) -> dict[str, object]:
    """What one stage gives."""
    if name == "list":
        return {"versions": len(published_versions(store_at(path.parent)))}
    if name.startswith("verify"):
        return {"findings": len(verify(store_at(path), full=name.endswith("full"), threads=2))}
    if name == "open":
        return {"samples": len(open_dataset(path))}
    if name == "open, index touched":
        return {"samples": len(open_dataset(path).read([0, -1], ["seed"])["seed"])}
    decoded = name.endswith("decoded")
    targets = ("image", "position_map") if decoded else ("image", "identity", "expression", "crop_from_model", "seed")
    loader = make_loader(path, batch_size=64, seed=5, targets=targets)
    seen, total = 0, 0
    for batch in loader:
        seen += len(batch["image"])
        total += 0 if decoded else int(batch["seed"].sum())
        if decoded and seen >= MAPS_DECODED:
            break
    if decoded:
        return {"samples": seen}
    if total != seen * (seen - 1) // 2:
        raise AssertionError("an epoch did not visit every sample once")
    return {"samples": seen}


def measured(work: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Seconds, processor seconds and memory of `work` in this process."""
    before, clock, cpu = _highest_mb(), time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu = time.perf_counter() - clock, time.process_time() - cpu
    numbers = {"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3)}
    return {**result, **numbers, "added_mb": round(_highest_mb() - before, 1), "highest_mb": round(_highest_mb(), 1)}


def _highest_mb() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--shard-size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stage", help="internal: one stage of the data set at FOLDER, in a process of its own")
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(measured(partial(stage, options.stage, options.folder))))
        return
    clock = time.perf_counter()
    path = write(options.folder, options.samples, options.shard_size, options.workers)
    files = [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    manifest = (path / "manifest.json").stat().st_size
    print(
        f"{path}: written or found in {time.perf_counter() - clock:.1f} s; {len(files)} objects, {size / 1e6:.0f} MB, "
    )
    print(f"{size / options.samples:.0f} bytes a sample, manifest {manifest / 1e6:.2f} MB")
    for name in STAGES:
        command = [sys.executable, __file__, str(path), "--stage", name]
        print(
            f"{name:24}", subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip(), flush=True
        )


if __name__ == "__main__":
    main()

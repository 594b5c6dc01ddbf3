"""A toy data set with every kind of target, small enough to break in every place."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from storage.bad_sample import BadSample
from storage.codes import FixedPoint, Utf8
from storage.manifest import DatasetManifest, DatasetPlan, ModelInfo, SourceInfo, read_manifest, table_digests
from storage.publish import (
    builders_lock,
    draft_manifest,
    finished_shards,
    is_published,
    point_latest,
    publish,
    start_version,
)
from storage.schema import DerivedTarget, Schema, Target
from storage.shards import ShardWriter
from storage.store import Place, Store

TABLES = {
    "atlas_covered": (np.arange(35).reshape(5, 7) % 3 > 0).astype(np.uint8),
    "weight_mask": np.linspace(0, 16, 35, dtype=np.float32).reshape(5, 7),
}
SCHEMA = Schema(
    targets=(
        Target(
            name="image", dtype="uint8", sample_shape=(6, 9, 3), axes=("row", "column", "channel"), unit="sRGB",
            description="a picture", compression="lz4_bitshuffle", channels_first=True,
        ),
        Target(
            name="position_map", dtype="float32", sample_shape=(5, 7, 3), unit="px", description="a map",
            code=FixedPoint(), compression="lz4_shuffle", channels_first=True,
        ),
        Target(name="landmarks_px", dtype="float32", sample_shape=(4, 3), description="some points", allow_nan=True),
        Target(name="crop_from_image", dtype="float64", sample_shape=(3, 3), description="a similarity"),
        Target(name="seed", dtype="int64", description="a number"),
        Target(name="mirrored", dtype="bool", description="a yes or no"),
        Target(name="source_id", dtype="str", description="a text", code=Utf8(max_bytes=24)),
    ),
    derived=(
        DerivedTarget(
            name="covered", dtype="bool", sample_shape=(5, 7), description="coverage", decoder="coverage_of_atlas"
        ),
    ),
)  # fmt: skip


def toy_plan(**changes: object) -> DatasetPlan:
    """Ten slots in shards of four: the last shard is short."""
    content = {
        "name": "toy",
        "config": {"size_px": 7, "jitter": 0.1},
        "recipe_version": 1,
        "model": ModelInfo(name="nobody", fingerprint="0" * 32),
        "sources": (SourceInfo(kind="numbers", n_files=20, fingerprint="ab" * 32),),
        "sample_schema": SCHEMA,
        "tables": table_digests(TABLES),
        "shard_size": 4,
        "n_slots": 10,
    }
    return DatasetPlan(**{**content, **changes})


def toy_sample(slot: int) -> dict[str, object]:
    """The sample of a slot: the same every time, different from every other."""
    rng = np.random.default_rng([7, slot])
    return {
        "image": rng.integers(0, 256, (6, 9, 3), dtype=np.uint8),
        "position_map": rng.uniform(-200, 700, (5, 7, 3)).astype(np.float32),
        "landmarks_px": np.where(rng.random((4, 3)) < 0.2, np.nan, rng.normal(size=(4, 3))).astype(np.float32),
        "crop_from_image": rng.normal(size=(3, 3)),
        "seed": np.int64(slot * 1_000_003),
        "mirrored": np.bool_(slot % 3 == 0),
        "source_id": f"AFW/übung_{slot}",
    }


def write_toy_shard(store: Store, plan: DatasetPlan, shard: int, holes: Iterable[int] = ()) -> None:
    """One whole shard; the slots in `holes` are rejected."""
    writer = ShardWriter(store, plan, shard)
    for slot in plan.slots(shard):
        if slot in holes:
            writer.reject(slot, f"AFW/übung_{slot}", BadSample("toy.hole", "left out on purpose"))
        else:
            full = toy_sample(slot)
            writer.add(slot, {target.name: full[target.name] for target in plan.sample_schema.targets})
    writer.finish({"n": len(plan.slots(shard))})


def build_toy(
    out: Place, *, holes: Iterable[int] = (3, 8), targets: Iterable[str] | None = None, **changes: object
) -> DatasetManifest:
    """The whole way from plan to the pointer, as a builder walks it: what is finished is not made again."""
    if targets is not None:
        changes["sample_schema"] = Schema(targets=tuple(SCHEMA[name] for name in targets))
    plan = toy_plan(**changes)
    tables = TABLES if plan.tables else {}
    with builders_lock(out / plan.name) as dataset:
        store = dataset.folder(plan.version)
        if not store.has_lock and is_published(store, plan):  # with a lock, doing it again is no error either
            return read_manifest(store)
        start_version(store, plan, tables)
        finished = finished_shards(store, plan)
        for shard in range(plan.n_shards):
            if shard not in finished:
                write_toy_shard(store, plan, shard, holes)
        manifest = publish(store, draft_manifest(store, plan, statistics={"mean": 1.5}))
        point_latest(dataset, plan.version)
    return manifest


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, but the lock, with its contents."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Syncing is for machines that lose power; the tests of killed builders watch it in processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def plan() -> Callable[..., DatasetPlan]:
    return toy_plan


@pytest.fixture(scope="session")
def sample() -> Callable[[int], dict[str, object]]:
    return toy_sample


@pytest.fixture(scope="session")
def write_shard() -> Callable[..., None]:
    return write_toy_shard


@pytest.fixture(scope="session")
def build() -> Callable[..., DatasetManifest]:
    return build_toy


@pytest.fixture(scope="session")
def tables() -> dict[str, np.ndarray]:
    return TABLES


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], dict[str, bytes]]:
    return tree

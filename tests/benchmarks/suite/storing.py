"""Rows of encoding, writing, reading and verifying samples of 256²: a picture of bytes and a map of floats."""

import hashlib
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from storage.shards import ShardWriter
from storage.stores import store_at
from storage.verify import verify
from tests.benchmarks import reading_speed
from tests.benchmarks.suite.material import Material
from tests.benchmarks.suite.rows import Baseline, Contender, Goal, Row, named, needing

PIXELS, FLOATS = 256 * 256 * 3 / 1e6, 256 * 256 * 3 * 4 / 1e6  # MB of a sample


def rows(material: Material) -> Iterator[Row]:
    """Encode, write, read in order, verify."""
    yield encode(material)
    yield write(material)
    yield read(material, "in order")
    yield verification(material)


def stored_megabytes(material: Material) -> float:
    """Of one sample on disk, picture and map."""
    return reading_speed.bytes_of(Path(str(material.dataset.path)), 1) / 1e3


def encode(material: Material) -> Row:
    dataset = material.dataset
    n = min(8, len(dataset))
    batch = dataset.read(range(n), reading_speed.TARGETS)
    pictures, maps = (list(batch[name]) for name in reading_speed.TARGETS)
    image, position_map = (dataset.schema[name] for name in reading_speed.TARGETS)

    def ours() -> None:
        for picture, xyz in zip(pictures, maps, strict=True):
            image.chunk.encode(image.encode(picture))
            position_map.chunk.encode(position_map.encode(xyz))

    def files(suffix: str) -> Callable[[], None]:
        def run() -> None:
            for picture, xyz in zip(pictures, maps, strict=True):
                reading_speed.encoded_picture(picture, suffix)
                np.save(io.BytesIO(), xyz)

        return run

    def zipped() -> None:
        for picture, xyz in zip(pictures, maps, strict=True):
            np.savez_compressed(io.BytesIO(), image=picture, position_map=xyz)

    return Row(
        "encode", "a picture and a map, in memory",
        Contender("schema and chunks", ours, n),
        (
            Contender("PNG and .npy", files(".png"), n),
            Contender("JPEG 95 and .npy", files(".jpg"), n),
            Contender("np.savez_compressed", zipped, n),
        ),
        why="Exact pictures by lz4 in place of PNG's deflate; maps checked, rounded to 1/128 px, compressed by lz4 and "
        "summed. A .npy is neither compressed nor checked.",
        megabytes=PIXELS + FLOATS + stored_megabytes(material),
    )  # fmt: skip


def write(material: Material) -> Row:
    plan = material.dataset.manifest.plan
    slots = plan.slots(0)
    names = [target.name for target in plan.sample_schema.targets]
    batch = material.dataset.read(range(len(slots)), names)
    stored = [{name: batch[name][i] for name in names} for i in range(len(slots))]
    samples = list(reading_speed.samples_of(material.dataset, len(slots)))
    room = material.folder / "write"

    def ours() -> None:
        folder = _fresh(room / "ours")
        writer = ShardWriter(store_at(folder), plan, 0)
        for slot, sample in zip(slots, stored, strict=True):
            writer.add(slot, sample)
        writer.finish()

    def by(name: str, work: Callable[[Path, list[reading_speed.Sample]], None]) -> Contender:
        return Contender(name, lambda: work(_fresh(room / "theirs"), samples), len(slots))

    return Row(
        "write", f"a sample to disk, {len(slots)} in a shard",
        Contender("ShardWriter", ours, len(slots)),
        (
            by("loose .jpg and .npy", reading_speed.write_loose),
            needing("webdataset", "webdataset", lambda: by("", reading_speed.write_tars), "WebDataset"),
            needing("lmdb", "lmdb", lambda: by("", reading_speed.write_lmdb), "LMDB"),
        ),
        why="Ours compresses, checks values, sums chunks, hashes objects and waits for the disk (fsync) before a receipt is "
        "written. LMDB waits for the disk, the others do not; all of them write JPEGs that are not exact and floats as "
        "they are, two to three times the bytes.",
        megabytes=stored_megabytes(material),
    )  # fmt: skip


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def read(material: Material, order: str) -> Row:
    """Batches of 32 as tensors of a torch DataLoader without workers, everything in the page cache."""
    from torch.utils.data import DataLoader

    from train.loader import make_loader

    n, is_shuffled = material.sizes.samples, order == "shuffled"
    batch_size = min(n, reading_speed.BATCH)

    def epochs(dataset: object) -> Contender:
        loader = DataLoader(dataset, batch_size=batch_size, **({"shuffle": is_shuffled} if _is_mapped(dataset) else {}))
        return Contender("", _epoch(lambda: loader), n)

    def written(name: str, work: Callable[..., None], **how: str) -> Path:
        folder = material.folder / "read-by-others" / name
        if not folder.exists():
            work(folder, reading_speed.samples_of(material.dataset, n), **how)
        return folder

    def lmdb(kind: str) -> Contender:
        folder = written(f"lmdb-{kind}", reading_speed.write_lmdb, kind=kind)
        return epochs(reading_speed.Lmdb(folder, n, is_raw=kind == "raw"))

    def tars() -> Contender:
        return epochs(reading_speed.tars_of(written("tars", reading_speed.write_tars), shuffled=is_shuffled))

    loose = epochs(reading_speed.LooseFiles(written("loose", reading_speed.write_loose), ".jpg", n))
    baselines: tuple[Baseline, ...] = (
        Contender("loose .jpg and .npy", loose.run, n),
        needing("webdataset", "webdataset", tars, "WebDataset"),
        needing("lmdb", "lmdb", lambda: lmdb("jpg"), "LMDB with JPEGs"),
        needing("lmdb", "lmdb", lambda: lmdb("raw"), "LMDB with raw pixels"),
    )
    best = named(baselines, "LMDB with raw pixels")  # exact, as ours is; JPEGs are not
    ours = make_loader(
        material.dataset, batch_size=batch_size, targets=reading_speed.TARGETS, shards_in_flight=8 if is_shuffled else 0
    )
    return Row(
        f"read {order}", "a sample, in batches of 32",
        Contender("make_loader", _epoch(lambda: ours._loader), n),
        baselines,
        why="Two files a sample are opened and a JPEG is decoded where ours decompresses lz4 into the batch's own place, and "
        "looks at a checksum of each chunk. LMDB with raw pixels only copies, out of a page cache that must hold 2.5 "
        "times the bytes, and checks nothing. docs/storage-speed.md has more formats, and workers.",
        goals=(
            Goal("loose", 2.0, limit="lz4 and a checksum of each chunk, where the loose files have none"),
            *((Goal(best, 1.0, limit="it copies 2.5 times the bytes, unchecked, while they lie in memory"),) if best else ()),
        ),
        megabytes=stored_megabytes(material) + PIXELS + FLOATS,
    )  # fmt: skip


def _is_mapped(dataset: object) -> bool:
    return hasattr(dataset, "__getitem__") and not hasattr(dataset, "pipeline")


def _epoch(batches: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in batches():  # type: ignore[attr-defined]
            pass

    return run


def verification(material: Material) -> Row:
    store = store_at(material.dataset.path)
    files = [path for path in Path(str(material.dataset.path)).rglob("*") if path.is_file()]

    def hashed() -> None:
        for path in files:
            hashlib.sha256(path.read_bytes()).hexdigest()

    n = len(material.dataset)
    return Row(
        "verify", "a stored sample, every byte",
        Contender("verify", lambda: verify(store, threads=1), n),
        (Contender("SHA-256 of the same files", hashed, n),),
        why="SHA-256 is what verifying is; ours reads the disk, past the page cache that the other's files are in, and opens "
        "each object.",
        megabytes=sum(path.stat().st_size for path in files) / n / 1e6,
    )  # fmt: skip

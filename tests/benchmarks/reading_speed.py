"""How fast batches are read: beside loose files, WebDataset and LMDB, the same samples, one run.

    python tests/benchmarks/reading_speed.py FOLDER [--source SOURCE] [--samples 1024] [--rounds 5] [--workers 0 1 2]

What is read is a batch of 32: pictures uint8 and position maps float32, both contiguous (32 3 256 256) tensors, given by
a torch DataLoader. FOLDER keeps what is written, about 5 GB for 1,024 samples, and is used again. All ways are timed in
turns, and the medians printed: samples a second by the clock, and processor time a sample of all processes together.

What the others hold is as their users have it, and made quick: maps are stored channels first as raw float32, pictures
as JPEG of quality 95 (or PNG, or raw), everything lies in the page cache, decoders run on one thread. None of them has
checksums, but for one row of LMDB: raw values, each with a crc32c of the kind that a chunk of ours has, compared on
every read.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import cv2
import google_crc32c
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from flows.local import build_here
from flows.presets import posmaps_300wlp
from storage.dataset import ShardedDataset, open_dataset
from train.loader import make_loader

BATCH = 32
TARGETS = ("image", "position_map")
TAR_SAMPLES = 256
ENVIRONMENTS = ("lmdb-jpg", "lmdb-raw", "lmdb-crc")
OURS = {
    "ours: lossless + fixed point": {},
    "ours: uncompressed + fixed point": {"images": "uncompressed", "maps": "uncompressed"},
    "ours: JPEG 95 + fixed point": {"images": "jpeg:95"},
    "ours: source's JPEG + fixed point": {"images": "source"},
    "ours: lossless + float32": {"maps": "float"},
    "ours: lossless + parameters": {"maps": "parametric"},
}


def decoded_jpeg(content: object) -> np.ndarray:
    """(3 S S) RGB."""
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    return np.ascontiguousarray(np.moveaxis(picture, -1, 0))


class LooseFiles(Dataset):
    """One .npy and one picture file a sample."""

    def __init__(self, folder: Path, suffix: str, n_samples: int) -> None:
        self.folder, self.suffix, self.n_samples = str(folder), suffix, n_samples

    def __len__(self) -> int:
        return self.n_samples

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        stem = f"{self.folder}/{index:06d}"
        with open(stem + self.suffix, "rb") as file:
            picture = decoded_jpeg(file.read())
        return torch.from_numpy(picture), torch.from_numpy(np.load(stem + ".npy"))


@lru_cache
def opened_lmdb(path: str) -> object:
    """An LMDB environment, which a process may open once."""
    import lmdb  # here, so that the others can be timed without it

    return lmdb.open(path, readonly=True, lock=False, readahead=False, subdir=True)


class Lmdb(Dataset):
    """Values in one LMDB environment, read in place; `is_raw` pictures are plain bytes."""

    def __init__(self, path: Path, n_samples: int, *, is_raw: bool) -> None:
        self.path, self.n_samples, self.is_raw = str(path), n_samples, is_raw

    def __len__(self) -> int:
        return self.n_samples

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with opened_lmdb(self.path).begin(buffers=True) as transaction:
            content, values = (self.checked(transaction.get(b"%c%06d" % (kind, index))) for kind in b"im")
            picture = (
                np.frombuffer(content, np.uint8).reshape(3, 256, 256).copy() if self.is_raw else decoded_jpeg(content)
            )
            xyz = np.frombuffer(values, np.float32).reshape(3, 256, 256).copy()
        return torch.from_numpy(picture), torch.from_numpy(xyz)

    def checked(self, value: memoryview) -> memoryview:
        """The value as it is."""
        return value


class CheckedLmdb(Lmdb):
    """Raw values with their crc32c before them, compared on every read."""

    def checked(self, value: memoryview) -> memoryview:
        """The value behind its checksum."""
        if google_crc32c.value(np.frombuffer(value, np.uint8)[4:]) != int.from_bytes(value[:4], "little"):
            raise ValueError("a value does not match its checksum")
        return value[4:]


def with_checksum(value: bytes) -> bytes:
    """As :class:`CheckedLmdb` reads it: four bytes in front keep floats aligned."""
    return google_crc32c.value(value).to_bytes(4, "little") + value


def from_tar(sample: dict[str, bytes]) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample of a tar."""
    xyz = np.frombuffer(sample["map"], np.float32).reshape(3, 256, 256).copy()
    return torch.from_numpy(decoded_jpeg(sample["jpg"])), torch.from_numpy(xyz)


def tars_of(folder: Path, *, shuffled: bool) -> IterableDataset:
    """WebDataset's pipeline; shuffled: the tars, and what a buffer holds."""
    import webdataset

    urls = sorted(str(path) for path in folder.glob("*.tar"))
    tars = webdataset.WebDataset(urls, shardshuffle=len(urls) if shuffled else False, empty_check=False)
    return (tars.shuffle(TAR_SAMPLES) if shuffled else tars).map(from_tar)


def one_thread(worker: int = 0) -> None:
    """Every process decodes on one thread."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


# ---------------------------------------------------------------------------------------------------------- what is written


def written(folder: Path, source: Path, n_samples: int) -> dict[str, Path]:
    """All formats of the same samples; those that are there stay."""
    copies = -(-n_samples // 386)
    paths = {}
    for name, changes in OURS.items():
        folder_name = name.removeprefix("ours: ").translate(str.maketrans(" '", "--", "+"))
        config = posmaps_300wlp(copies=copies, name=folder_name, **changes)
        paths[name] = Path(
            str(build_here(config, source=source, model="built-in", out=folder / "ours", workers=2).path)
        )
    for name in ("jpg", "png", "tar", *ENVIRONMENTS):
        paths[name] = folder / f"{name}-{n_samples}"
    if not (folder / f"done-{n_samples}").exists():
        dataset = open_dataset(paths["ours: lossless + fixed point"])
        for name in ("jpg", "png"):
            write_loose(paths[name], samples_of(dataset, n_samples), suffix=f".{name}")
        write_tars(paths["tar"], samples_of(dataset, n_samples))
        for name in ENVIRONMENTS:
            write_lmdb(paths[name], samples_of(dataset, n_samples), kind=name.removeprefix("lmdb-"))
        (folder / f"done-{n_samples}").touch()
    return paths


Sample = tuple[np.ndarray, np.ndarray]
"""A picture (S S 3) uint8 RGB and its map (3 S S) float32, contiguous."""


def samples_of(dataset: ShardedDataset, n_samples: int) -> Iterator[Sample]:
    """The first ones of a data set."""
    for first in range(0, n_samples, BATCH):
        batch = dataset.read(range(first, min(first + BATCH, n_samples)), TARGETS)
        for picture, xyz in zip(batch["image"], batch["position_map"], strict=True):
            yield picture, np.ascontiguousarray(np.moveaxis(xyz, -1, 0))


def encoded_picture(picture: np.ndarray, suffix: str = ".jpg") -> bytes:
    """As JPEG of quality 95 or as PNG."""
    bgr = np.ascontiguousarray(picture[..., ::-1])
    return cv2.imencode(suffix, bgr, [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix == ".jpg" else [])[1].tobytes()


def write_loose(folder: Path, samples: Iterable[Sample], *, suffix: str = ".jpg") -> None:
    """A picture file and a .npy each."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (picture, xyz) in enumerate(samples):
        (folder / f"{index:06d}{suffix}").write_bytes(encoded_picture(picture, suffix))
        np.save(folder / f"{index:06d}.npy", xyz)


def write_tars(folder: Path, samples: Iterable[Sample]) -> None:
    """JPEG and raw floats in WebDataset's tars."""
    import webdataset

    folder.mkdir(parents=True, exist_ok=True)
    with webdataset.ShardWriter(str(folder / "%04d.tar"), maxcount=TAR_SAMPLES, verbose=0) as tar:
        for index, (picture, xyz) in enumerate(samples):
            tar.write({"__key__": f"{index:06d}", "jpg": encoded_picture(picture), "map": xyz.tobytes()})


def write_lmdb(folder: Path, samples: Iterable[Sample], *, kind: str = "jpg") -> None:
    """One environment: JPEG and raw floats ("jpg"), raw pixels and floats ("raw"), the same with checksums ("crc")."""
    import lmdb

    folder.mkdir(parents=True, exist_ok=True)
    environment = lmdb.open(str(folder), map_size=1 << 36)
    numbered = enumerate(samples)
    while some := list(islice(numbered, BATCH)):
        with environment.begin(write=True) as transaction:
            for index, (picture, xyz) in some:
                raw = encoded_picture(picture) if kind == "jpg" else np.moveaxis(picture, -1, 0).tobytes()
                for name, content in (("i", raw), ("m", xyz.tobytes())):
                    value = with_checksum(content) if kind == "crc" else content
                    transaction.put(f"{name}{index:06d}".encode(), value)
    environment.close()


def bytes_of(path: Path, n_samples: int) -> float:
    """kB a sample of pictures and maps (or what they are decoded from)."""
    if (path / "manifest.json").exists():
        objects = open_dataset(path).manifest.objects
        parts = ("image/", "photograph/", "position_map/", "identity/", "expression/", "crop_from_model/")
        n_samples = len(open_dataset(path))
        has_map = any(info.key.startswith("position_map/") for info in objects)
        return sum(i.bytes for i in objects if i.key.startswith(parts[: 3 if has_map else 6])) / n_samples / 1e3
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / n_samples / 1e3


# ------------------------------------------------------------------------------------------------------------- what is timed

Epoch = Callable[[], Iterator[object]]


def ways(paths: dict[str, Path], n_samples: int, workers: int) -> dict[tuple[str, str], tuple[Epoch, object]]:
    """For each (way, order) what gives an epoch's batches, and the loader whose workers do it."""
    found: dict[tuple[str, str], tuple[Epoch, object]] = {}
    common = {"num_workers": workers, "persistent_workers": workers > 0, "worker_init_fn": one_thread,
              "multiprocessing_context": "forkserver" if workers else None}  # fmt: skip
    mapped = {
        "loose .npy + .jpg": LooseFiles(paths["jpg"], ".jpg", n_samples),
        "loose .npy + .png": LooseFiles(paths["png"], ".png", n_samples),
        "LMDB: JPEG + float32": Lmdb(paths["lmdb-jpg"], n_samples, is_raw=False),
        "LMDB: raw uint8 + float32": Lmdb(paths["lmdb-raw"], n_samples, is_raw=True),
        "LMDB: raw uint8 + float32, crc32c": CheckedLmdb(paths["lmdb-crc"], n_samples, is_raw=True),
    }
    for order in ("in order", "shuffled"):
        for name, dataset in mapped.items():
            loader = DataLoader(dataset, batch_size=BATCH, shuffle=order == "shuffled", **common)
            found[name, order] = (lambda loader=loader: iter(loader), loader)
        loader = DataLoader(tars_of(paths["tar"], shuffled=order == "shuffled"), batch_size=BATCH, **common)
        found["WebDataset: JPEG + float32", order] = (lambda loader=loader: iter(loader), loader)
        for name in OURS:
            shards = 8 if order == "shuffled" else 0
            ours = make_loader(paths[name], batch_size=BATCH, workers=workers, targets=TARGETS, shards_in_flight=shards)
            found[name, order] = (lambda ours=ours: ours._loader.__iter__(), ours._loader)
    return found


def cpu_seconds(loader: object) -> float:
    """Processor time of this process and the loader's workers."""
    ticks = 0
    for worker in getattr(getattr(loader, "_iterator", None), "_workers", []):
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def timed(epoch: Epoch, loader: object, n_samples: int) -> tuple[float, float]:
    """Samples a second, and processor milliseconds a sample, of the first `n_samples` after a warm first batch."""
    batches = epoch()
    next(batches)
    seen, cpu, clock = 0, cpu_seconds(loader), time.perf_counter()
    for batch in batches:
        picture, xyz = batch.values() if isinstance(batch, dict) else batch
        assert picture.shape[1:] == xyz.shape[1:] == (3, 256, 256)
        assert (picture.dtype, xyz.dtype) == (torch.uint8, torch.float32)
        assert all(tensor.is_contiguous() for tensor in (picture, xyz))
        seen += len(picture)
        if seen >= n_samples - BATCH:
            break
    seconds, cpu = time.perf_counter() - clock, cpu_seconds(loader) - cpu
    for _ in batches if getattr(loader, "num_workers", 0) else ():
        pass  # workers read ahead: an epoch that is left would go on under the next one's clock
    return seen / seconds, 1e3 * cpu / seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", type=Path, help="a 300W-LP-like folder; default: the sample, drawn there")
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=[""], help="only the ways whose names hold one of these texts")
    parser.add_argument("--memory-of", help="internal: peak memory of one of ours, in a process of its own")
    options = parser.parse_args()
    one_thread()
    if options.memory_of:
        print(json.dumps(peak_memory(Path(options.memory_of))))
        return
    paths = written(options.folder, options.source, options.samples)
    keys = {"loose .npy + .jpg": "jpg", "loose .npy + .png": "png", "LMDB: JPEG + float32": "lmdb-jpg",
            "LMDB: raw uint8 + float32": "lmdb-raw", "LMDB: raw uint8 + float32, crc32c": "lmdb-crc",
            "WebDataset: JPEG + float32": "tar"}  # fmt: skip
    for workers in options.workers:
        results: dict[tuple[str, str], list[tuple[float, float]]] = {}
        loaders = {
            way: found
            for way, found in ways(paths, options.samples, workers).items()
            if any(text in way[0] for text in options.ways)
        }
        for _ in range(options.rounds):
            for way, (epoch, loader) in loaders.items():
                if workers:  # a worker's first epoch maps what it reads into its memory, and is not timed
                    timed(epoch, loader, options.samples)
                results.setdefault(way, []).append(timed(epoch, loader, options.samples))
                if getattr(loader, "_iterator", None) is not None:
                    loader._iterator._shutdown_workers()
                    loader._iterator = None
        print(f"\n{workers} workers; samples/s and CPU ms/sample, medians of {options.rounds} rounds in turns")
        print("| way | kB | in order /s | CPU ms | shuffled /s | CPU ms |\n|---|---|---|---|---|---|")
        for name in dict.fromkeys(name for name, _ in results):
            row = [np.median(results[name, order], axis=0) for order in ("in order", "shuffled")]
            size = bytes_of(paths[keys.get(name, name)], options.samples)
            print(
                f"| {name} | {size:.0f} | " + " | ".join(f"{rate:.0f} | {cpu:.2f}" for rate, cpu in row) + " |",
                flush=True,
            )
    for name in OURS:
        command = [sys.executable, __file__, str(options.folder), "--memory-of", str(paths[name])]
        print(name, subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def peak_memory(path: Path) -> dict[str, float]:
    """MB that an epoch in this process adds to what the imports took, a loop that keeps nothing."""
    before = _highest_mb()
    for _ in make_loader(path, batch_size=BATCH, targets=TARGETS)._loader:
        pass
    return {"before_mb": before, "added_mb": _highest_mb() - before}


def _highest_mb() -> float:
    """The most resident memory so far; getrusage's number is inherited from the parent."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


if __name__ == "__main__":
    main()

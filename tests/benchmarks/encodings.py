"""What each encoding of pictures and position maps costs and loses; docs/storage-speed.md's tables.

    python tests/benchmarks/encodings.py FOLDER [--source SOURCE]

Builds the same pictures with exact encodings (lossless pictures, float32 maps), with parameters, and with the source's
files, keeps them in FOLDER, and holds every encoding and every candidate to them: kB, processor ms to encode and decode one (one
thread, in memory), and the error: px of maps, PSNR in dB and the largest difference in grey levels of pictures.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numcodecs.blosc as blosc
import numpy as np
from numcodecs.pcodec import PCodec

from flows.local import build_here
from flows.presets import posmaps_300wlp
from storage.byte_codes import Jpeg, unpacked
from storage.dataset import ShardedDataset, open_dataset
from storage.zarr_format import ChunkFormat

N = 96
CHUNKS = (("lz4", 5, "shuffle"), ("lz4", 5, "bitshuffle"), ("zstd", 1, "bitshuffle"), ("zstd", 3, "shuffle"))
SHUFFLES = {"shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}


def timed(work: Callable[[np.ndarray], object], items: Sequence[object]) -> tuple[float, list[object]]:
    """Processor milliseconds for each item (the best of three passes), and the results."""
    spent = []
    for _ in range(3):
        start = time.process_time()
        results = [work(item) for item in items]
        spent.append(1e3 * (time.process_time() - start) / len(items))
    return min(spent), results


def row(name: str, arrays: Sequence[np.ndarray], encode: Callable, decode: Callable, lost: Callable) -> None:
    """One line of a table."""
    encode_ms, encoded = timed(encode, arrays)
    decode_ms, decoded = timed(decode, encoded)
    size = np.mean([memoryview(content).nbytes for content in encoded]) / 1e3
    print(f"| {name} | {size:.1f} | {encode_ms:.2f} | {decode_ms:.2f} | {lost(arrays, decoded)} |", flush=True)


def with_blosc(library: str, level: int, shuffle: str, like: np.ndarray) -> tuple[Callable, Callable]:
    """Compression as a chunk has it, and the way back."""
    return (
        lambda a: blosc.compress(a, library.encode(), level, SHUFFLES[shuffle], 0, typesize=a.itemsize),
        lambda content: blosc.decompress(content, np.empty_like(like)),
    )


def pixels_off(maps: Sequence[np.ndarray], back: Sequence[np.ndarray]) -> str:
    """The largest and the typical distance of a coordinate."""
    off = np.abs(np.stack(back).astype(np.float64) - np.stack(maps))
    return f"{off.max():.5f} | {np.sqrt(np.square(off).mean()):.5f}"


def decibels(pictures: Sequence[np.ndarray], back: Sequence[np.ndarray]) -> str:
    """PSNR, mean and least of the pictures, and the largest difference."""
    off = np.stack(back).astype(np.float64) - np.stack(pictures)
    if not off.any():
        return "exact | | 0"
    psnr = 10 * np.log10(255**2 / np.square(off).mean(axis=(1, 2, 3)))
    return f"{psnr.mean():.1f} | {psnr.min():.1f} | {np.abs(off).max():.0f}"


def kilobytes(dataset: ShardedDataset, *names: str) -> float:
    """What the arrays of these names take on disk, a sample."""
    found = (info.bytes for info in dataset.manifest.objects if info.key.partition("/")[0] in names)
    return sum(found) / len(dataset) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", type=Path, help="a 300W-LP-like folder; default: the sample, drawn there")
    options = parser.parse_args()
    blosc.use_threads = False
    cv2.setNumThreads(0)

    def built(name: str, **changes: str) -> ShardedDataset:
        config = posmaps_300wlp(name=name, **changes)
        return open_dataset(str(build_here(config, source=options.source, out=options.folder, workers=2).path))

    exact, parametric = built("exact", maps="float"), built("parameters", maps="parametric")
    fixed, source = built("fixed"), built("source-files", images="source")
    chosen = np.linspace(0, len(exact) - 1, N).astype(int)
    truth = exact.read(chosen, ["image", "position_map"])
    pictures, maps = ([np.ascontiguousarray(np.moveaxis(one, -1, 0)) for one in truth[name]] for name in truth)

    print("| pictures | kB | encode ms | decode ms | PSNR mean dB | least | largest |\n|---|---|---|---|---|---|---|")
    for library, level, shuffle in CHUNKS:
        encode, decode = with_blosc(library, level, shuffle, pictures[0])
        row(f"lossless, {library} {level} {shuffle}", pictures, encode, decode, decibels)
    row(
        "uncompressed",
        pictures,
        bytes,
        lambda c: np.frombuffer(c, np.uint8).reshape(pictures[0].shape).copy(),
        decibels,
    )
    row(
        "lossless, PNG", pictures,
        lambda a: cv2.imencode(".png", np.moveaxis(a, 0, -1)[..., ::-1])[1],
        lambda c: np.moveaxis(cv2.imdecode(c, cv2.IMREAD_COLOR_RGB), -1, 0), decibels,
    )  # fmt: skip
    for quality in (80, 90, 95, 98, 100):
        code = Jpeg(quality=quality, size_hw=pictures[0].shape[1:])
        stored = ChunkFormat(*code.stored("uint8", (*pictures[0].shape[1:], 3)), "lz4_shuffle")
        padding = np.mean(
            [len(b"".join(stored.encode(code.encode(a)))) - unpacked(code.encode(a)).size for a in pictures]
        )
        name = f"jpeg:{quality} (padding costs {padding / 1e3:.1f} kB)"
        row(name, pictures, lambda a, code=code: unpacked(code.encode(a)), _jpeg_decode(code), decibels)
    start = time.process_time()
    back = source.read(chosen, ["image"])["image"]
    spent = 1e3 * (time.process_time() - start) / N
    print(f"| source | {kilobytes(source, 'photograph'):.1f} | – | {spent:.2f} | {decibels(truth['image'], back)} |")

    print("\n| maps | kB | encode ms | decode ms | largest error px | rms |\n|---|---|---|---|---|---|")
    for library, level, shuffle in CHUNKS:
        encode, decode = with_blosc(library, level, shuffle, maps[0])
        row(f"float32, {library} {level} {shuffle}", maps, encode, decode, pixels_off)
    row(
        "float32, pcodec 8", maps, PCodec(level=8).encode,
        lambda c: PCodec().decode(c).view("<f4").reshape(maps[0].shape), pixels_off,
    )  # fmt: skip
    code = fixed.schema["position_map"].code
    for library, level, shuffle in CHUNKS:
        encode, decode = with_blosc(library, level, shuffle, code.encode(maps[0]))
        row(
            f"fixed point, {library} {level} {shuffle}", maps,
            lambda a, encode=encode: encode(code.encode(a)),
            lambda c, decode=decode: code.decode(decode(c)), pixels_off,
        )  # fmt: skip
    row(
        "fixed point, uncompressed", maps, lambda a: bytes(code.encode(a)),
        lambda c: code.decode(np.frombuffer(c, "<u2").reshape(maps[0].shape)), pixels_off,
    )  # fmt: skip
    row(
        "fixed point, pcodec 8", maps,
        lambda a: PCodec(level=8).encode(code.encode(a)),
        lambda c: code.decode(PCodec().decode(c).view("<u2").reshape(maps[0].shape)), pixels_off,
    )  # fmt: skip
    row("float16", maps, lambda a: a.astype(np.float16), lambda a: a.astype(np.float32), pixels_off)
    parametric.read(chosen[:2], ["position_map"])
    start = time.process_time()
    back = parametric.read(chosen, ["position_map"])["position_map"]
    spent = 1e3 * (time.process_time() - start) / N
    size = kilobytes(parametric, "identity", "expression", "crop_from_model", "mirrored")
    print(f"| parametric | {size:.1f} | – | {spent:.2f} | {pixels_off(truth['position_map'], back)} |")


def _jpeg_decode(code: Jpeg) -> Callable:
    def decode(content: np.ndarray) -> np.ndarray:
        picture = np.empty((3, *code.size_hw), np.uint8)
        cv2.split(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB), list(picture))
        return picture

    return decode


if __name__ == "__main__":
    main()

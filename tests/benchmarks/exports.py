"""What exports, the data card and the index of `browse` cost: seconds and bytes on one published version.

python tests/benchmarks/exports.py datasets/300wlp-posmaps
"""

import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from storage import open_dataset
from storage.card import card_objects
from storage.card.shown_samples import rows
from storage.exports import meshes, parquet, prnet, webdataset

EXPORTS = {
    "webdataset": webdataset.export,
    "prnet": prnet.export,
    "huggingface": parquet.export_huggingface,
    "parquet (index)": parquet.export_index,
    "meshes (ply)": meshes.export,
}


def main() -> None:
    """Print a row for each."""
    dataset = open_dataset(sys.argv[1])
    sheet = cv2.imread(str(dataset.path / "contact_sheet.png"), cv2.IMREAD_COLOR_RGB)
    dataset.read([0])  # what is compiled is compiled
    card_objects(dataset, sheet)
    print(f"{len(dataset)} samples of {dataset.manifest.name} {dataset.manifest.version}")
    for name, export in EXPORTS.items():
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            export(dataset, Path(folder) / "out")
            seconds = time.perf_counter() - start
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        print(f"{name:16}  {len(dataset) / seconds:8.0f} samples/s  {size / len(dataset) / 1e3:8.1f} kB a sample")
    start = time.process_time()
    card = card_objects(dataset, sheet)
    print(f"card: {time.process_time() - start:.2f} s of processor, {len(card['card.html']) / 1e6:.2f} MB")
    start = time.perf_counter()
    n_rows = sum(1 for _ in rows(dataset, np.arange(len(dataset))))
    print(f"index: {(time.perf_counter() - start) / n_rows * 1e6:.0f} µs a sample")


if __name__ == "__main__":
    main()

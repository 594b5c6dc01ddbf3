"""WebDataset: tar files that are read from beginning to end, a sample's members side by side under one key.

``<name>-000000.tar`` holds ``000000000.image.png``, ``000000000.position_map.npy``, ``000000000.json`` and so on:
pictures as PNG (lossless), other arrays as NumPy's files, numbers and texts in the JSON. The same data set gives the
same bytes. Keys are the samples' numbers; a view's, those in the view.
"""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from render.preview import encode_png
from storage.dataset import ShardedDataset
from storage.exports.common import (
    Progress,
    exported_targets,
    json_value,
    new_folder,
    npy_bytes,
    samples_of,
    write_about,
    write_tables,
)

SAMPLES_PER_TAR = 256


def export(
    dataset: ShardedDataset,
    folder: Path,
    *,
    samples_per_tar: int = SAMPLES_PER_TAR,
    progress: Progress = lambda n: None,
) -> int:
    """Write the tars into the new `folder`, with `dataset.json` and the constant tables; how many tars there are."""
    starts = range(0, len(dataset), samples_per_tar)
    with new_folder(folder) as private:
        write_about(dataset, private)
        write_tables(dataset, private)
        for number, start in enumerate(starts):
            stop = min(start + samples_per_tar, len(dataset))
            with tarfile.open(
                private / f"{dataset.manifest.name}-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT
            ) as tar:
                for index, sample in samples_of(dataset, exported_targets(dataset), progress, first=start, stop=stop):
                    for suffix, content in members(sample):
                        entry = tarfile.TarInfo(f"{index:09d}.{suffix}")  # time 0, nobody's, mode 644
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
    return len(starts)


def members(sample: dict[str, Any]) -> list[tuple[str, bytes]]:
    """(what follows the key and a dot, contents) of a sample, in the order of its targets; the JSON comes last."""
    found, plain = [], {}
    for name, value in sample.items():
        if np.ndim(value) == 0:
            plain[name] = json_value(value)
        elif value.dtype == np.uint8 and value.ndim == 3 and value.shape[-1] == 3:
            found.append((f"{name}.png", encode_png(np.ascontiguousarray(value))))
        else:
            found.append((f"{name}.npy", npy_bytes(value)))
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return [*found, ("json", text.encode())]

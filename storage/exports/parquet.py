"""Parquet: the index of a data set, to filter and read on, and a folder that Hugging Face's `datasets` opens.

Needs the extra `parquet`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from render.preview import encode_png
from storage.dataset import ShardedDataset
from storage.exports.common import (
    Progress,
    arrow,
    exported_targets,
    new_folder,
    samples_of,
    write_about,
    write_tables,
)
from storage.sample_index import sample_index
from storage.source_groups import in_pieces
from storage.views import manifests_of

INDEX = "index.parquet"
SAMPLES_PER_FILE = 512
_ROWS_IN_MEMORY = 32
_INDEX_ROWS = 65536


def export_index(dataset: ShardedDataset, folder: Path, *, progress: Progress = lambda n: None) -> int:
    """Write `index.parquet` into the new `folder`, a row a sample (:func:`storage.sample_index.sample_index`).

    Filter it with whatever reads Parquet, and read the rows of the column `index`: ``ds.select(rows)``. Raises
    MissingExtra.
    """
    pa = arrow()
    with new_folder(folder) as private:
        write_about(dataset, private)
        writer = None
        for piece in in_pieces(len(dataset), _INDEX_ROWS):
            columns = sample_index(dataset, np.array(piece))
            arrays = {name: _column(pa, values) for name, values in columns.items()}
            schema = pa.schema([pa.field(name, array.type) for name, array in arrays.items()], _about(dataset))
            writer = writer or pa.parquet.ParquetWriter(private / INDEX, schema, compression="zstd")
            writer.write_table(pa.table(arrays, schema=schema))
            progress(len(piece))
        if writer:
            writer.close()
    return 1


def export_huggingface(
    dataset: ShardedDataset,
    folder: Path,
    *,
    samples_per_file: int = SAMPLES_PER_FILE,
    progress: Progress = lambda n: None,
) -> int:
    """Write ``data/train-00000-of-00003.parquet`` … and a `README.md` into the new `folder`; how many files.

    Pictures are PNG inside the rows, with the features named as `datasets` expects them; other arrays are nested lists,
    so ``load_dataset(folder)`` decodes both. Raises MissingExtra.
    """
    pa = arrow()
    targets = exported_targets(dataset)
    features = {name: _feature(dataset.schema[name]) for name in targets}
    starts = range(0, len(dataset), samples_per_file)
    with new_folder(folder) as private:
        write_about(dataset, private)
        write_tables(dataset, private)
        (private / "README.md").write_text(_readme(dataset))
        (private / "data").mkdir()
        metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode(), **_about(dataset)}
        for number, start in enumerate(starts):
            path = private / "data" / f"train-{number:05d}-of-{len(starts):05d}.parquet"
            writer = None
            stop = min(start + samples_per_file, len(dataset))
            for first in range(start, stop, _ROWS_IN_MEMORY):
                last = min(first + _ROWS_IN_MEMORY, stop)
                rows = [sample for _, sample in samples_of(dataset, targets, progress, first=first, stop=last)]
                arrays = {name: _stacked(pa, name, [row[name] for row in rows], features) for name in targets}
                schema = pa.schema([pa.field(name, array.type) for name, array in arrays.items()], metadata)
                writer = writer or pa.parquet.ParquetWriter(path, schema, compression="zstd")
                writer.write_table(pa.table(arrays, schema=schema))
            if writer:
                writer.close()
    return len(starts)


def _is_picture(shape: tuple[int, ...], dtype: str) -> bool:
    return dtype == "uint8" and len(shape) == 3 and shape[-1] == 3


def _feature(target: Any) -> dict[str, Any]:
    """A target as `datasets` describes it in JSON."""
    dtype = {"str": "string"}.get(target.dtype, target.dtype)
    shape = target.sample_shape
    if _is_picture(shape, target.dtype):
        return {"_type": "Image"}
    feature: dict[str, Any] = {"dtype": dtype, "_type": "Value"}
    for _ in shape:
        feature = {"feature": feature, "_type": "Sequence"}
    return feature


def _stacked(pa: Any, name: str, values: list[Any], features: dict[str, Any]) -> Any:
    if features[name]["_type"] != "Image":
        return _column(pa, np.stack(values))
    pictures = [encode_png(np.ascontiguousarray(value)) for value in values]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": picture, "path": None} for picture in pictures], type=kind)


def _column(pa: Any, values: np.ndarray) -> Any:
    """An array (n …) as an Arrow column: scalars, or lists in lists; without a copy in Python's objects."""
    if values.dtype.kind == "U":
        return pa.array(values.tolist(), type=pa.string())
    column = pa.array(np.ascontiguousarray(values).reshape(-1))
    for axis in range(values.ndim - 1, 0, -1):
        length, n_lists = values.shape[axis], int(np.prod(values.shape[:axis]))
        column = pa.ListArray.from_arrays(pa.array(np.arange(n_lists + 1, dtype=np.int32) * length), column)
    return column


def _about(dataset: ShardedDataset) -> dict[bytes, bytes]:
    manifest = dataset.manifest
    return {b"facefoundry": json.dumps({"dataset": manifest.name, "version": manifest.version}).encode()}


def _readme(dataset: ShardedDataset) -> str:
    """The folder's card: where the files are, and the terms of what they were made from."""
    manifest = dataset.manifest
    terms = sorted({source.licence for one in manifests_of(dataset) for source in one.sources if source.licence})
    quoted = "\n".join(f"> {' '.join(term.split())}" for term in terms)
    return (
        f"---\npretty_name: {json.dumps(manifest.name)}\nlicense: other\nlicense_name: see-below\n"
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet\n---\n\n"
        f"# {manifest.name}\n\n{len(dataset)} samples of version {manifest.version}, exported by facefoundry. "
        "`dataset.json` says what every column holds and what it was made from; `tables/` holds what all samples share."
        f"\n\nTerms of the sources:\n\n{quoted}\n"
    )

"""Loose files as PRNet's and face3d's scripts name them: ``NAME.jpg``, ``NAME.npy`` and, to look at, ``NAME_posmap.jpg``.

Folders are those of the source ids (``AFW/…``, ``AFW_Flip/…``). A map is float32 (S S 3) in pixels of its picture, as
PRNet's are. Beside them lie ``uv-data/uv_kpt_ind.txt`` (texel columns, then rows, of the 68 landmarks) and
``uv-data/uv_weight_mask.png`` and ``uv_face_mask.png``, and the list of all pictures, ``files.txt``.
"""

from pathlib import Path

import numpy as np

from render.preview import color_position_map, encode_png
from storage.dataset import ShardedDataset
from storage.exports.common import Progress, loose_name, new_folder, npy_bytes, samples_of, write_about, write_tables
from storage.jpeg import encode_jpeg
from storage.store import MissingObject

NEEDED = ("image", "position_map", "covered", "source_id")


def export(dataset: ShardedDataset, folder: Path, *, progress: Progress = lambda n: None) -> int:
    """Write the files into the new `folder`; how many pictures there are.

    Pictures become JPEG of quality 92, as the recipe's are; WebDataset and Parquet keep them lossless. Raises ValueError
    for data sets without position maps, and for a view with a sample twice.
    """
    require(dataset, NEEDED, "loose PRNet files")
    copies = ["copy_index"] if "copy_index" in dataset.schema.names else []
    listed: list[str] = []
    seen: set[str] = set()
    with new_folder(folder) as private:
        write_about(dataset, private)
        write_tables(dataset, private)
        _write_uv_data(dataset, private / "uv-data")
        for _, sample in samples_of(dataset, [*NEEDED, *copies], progress):
            name = loose_name(str(sample["source_id"]), int(sample.get("copy_index", 0)))
            if name in seen:
                raise ValueError(f"{name} is in the view twice, and would be written over itself; export each once")
            seen.add(name)
            path = private / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shown = color_position_map(sample["position_map"], sample["covered"])
            path.with_name(f"{path.name}.jpg").write_bytes(encode_jpeg(np.ascontiguousarray(sample["image"])))
            path.with_name(f"{path.name}.npy").write_bytes(npy_bytes(sample["position_map"]))
            path.with_name(f"{path.name}_posmap.jpg").write_bytes(encode_jpeg(shown))
            listed.append(f"{name}.jpg")
        (private / "files.txt").write_text("".join(f"{name}\n" for name in listed))
    return len(listed)


def require(dataset: ShardedDataset, targets: tuple[str, ...], what: str) -> None:
    """Raise ValueError for a data set that lacks one of `targets`."""
    missing = [name for name in targets if name not in dataset.schema.names]
    if missing:
        raise ValueError(
            f"{what} need the targets {', '.join(targets)}, and {dataset.manifest.name} has no {', '.join(missing)}"
        )


def _write_uv_data(dataset: ShardedDataset, folder: Path) -> None:
    folder.mkdir()
    try:
        texels = dataset.table("landmark_texels")
        masks = {name: dataset.table(name) for name in ("weight_mask", "face_mask")}
    except MissingObject:
        return
    np.savetxt(folder / "uv_kpt_ind.txt", texels.T.astype(np.float64))
    for name, mask in masks.items():
        grey = np.rint(mask / mask.max() * 255).astype(np.uint8)
        (folder / f"uv_{name}.png").write_bytes(encode_png(np.repeat(grey[..., None], 3, axis=-1)))

"""Files of models, atlases and checkpoints: pickles, headers that lie, other byte orders, other bases."""

import io
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from geometry import save_model
from geometry.atlas_files import open_atlas
from geometry.npz_files import NpzError
from tests.hardening.bad_inputs.lab import MEMORY_LIMIT_MB, Lab, peak_mb
from tests.hardening.bad_inputs.mat_bytes import matrix, nested_cells
from tests.hardening.bad_inputs.rows import REFUSED, other
from tests.hardening.fuzz_targets import small_basel, small_model


class Payload:
    """What a pickle would run when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def archive_with(
    path: Path, name: str, content: bytes, *, compression: int = zipfile.ZIP_STORED, announced: int = 0
) -> Path:
    """Our own model file with one member in the place of its own."""
    save_model(small_model(), path)
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression, compresslevel=1) as archive:
        for member, data in members.items():
            if member != f"{name}.npy":
                archive.writestr(member, data)
            elif announced:
                with archive.open(member, "w", force_zip64=True) as stream:
                    stream.write(content)
                    for _ in range(announced >> 24):
                        stream.write(bytes(1 << 24))
            else:
                archive.writestr(member, content)
    return path


def npy(array: np.ndarray, **how: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **how)
    return stream.getvalue()


def npy_header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def import_is_refused(lab: Lab, path: Path, *words: str) -> None:
    """`facefoundry model import` ends with one line, and there is no model."""
    lab.run("model", "import", path, "--out", lab.out).complains(1, re.escape(path.name), *words)
    assert not (lab.out / "models").exists()


def _raises(kind: type[Exception], call: Callable[[], object], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


@other(
    17,
    "`.npy` of objects with a payload, alone and inside an `.npz` model",
    REFUSED + "; the payload never runs",
    "1",
)
def _(lab: Lab) -> None:
    mark = lab.folder / "ran"
    objects = npy(np.array([Payload(mark)], dtype=object), allow_pickle=True)
    alone = lab.folder / "model.npy"
    alone.write_bytes(objects)
    import_is_refused(lab, alone)
    import_is_refused(lab, archive_with(lab.folder / "a.ffmodel.npz", "mean", objects), "holds object")
    atlas = lab.folder / "atlas.npz"
    with zipfile.ZipFile(atlas, "w") as archive:
        archive.writestr("uv.npy", objects)
        archive.writestr("triangles.npy", npy(np.zeros((1, 3), np.int32)))
    _raises(NpzError, lambda: open_atlas(atlas), "allow_pickle=False")
    assert not mark.exists()


@other(18, "`.npy` header of 1 TiB inside a model", REFUSED + "; nothing is allocated", "1")
def _(lab: Lab) -> None:
    lying = npy_header((1 << 37, 3)) + bytes(64)
    import_is_refused(
        lab, archive_with(lab.folder / "a.ffmodel.npz", "mean", lying), "has 64 bytes", "import the model again"
    )


@other(19, "big-endian, or column by column, arrays inside a model", REFUSED, "1")
def _(lab: Lab) -> None:
    mean = small_model().mean
    for array in (mean.astype(">f4"), np.asfortranarray(mean)):
        import_is_refused(
            lab, archive_with(lab.folder / "a.ffmodel.npz", "mean", npy(array)), "where the format has <f4"
        )


@other(20, "`.npz` of 2 MB that unpacks to 2 GiB: a model, an atlas", REFUSED + "; nothing is unpacked", "1")
def _(lab: Lab) -> None:
    head = npy_header((1 << 31,), "|u1")
    how = {"compression": zipfile.ZIP_DEFLATED, "announced": 1 << 31}
    model = archive_with(lab.folder / "a.ffmodel.npz", "mean", head, **how)
    import_is_refused(lab, model, "compressed")
    atlas = lab.folder / "atlas.npz"
    shutil.copy(model, atlas)
    before = peak_mb(reset=True)
    _raises(NpzError, lambda: open_atlas(atlas), "would unpack to")
    assert peak_mb() - before < MEMORY_LIMIT_MB


@other(21, "`BFM.pkl` with a payload", REFUSED + "; the payload never runs", "1")
def _(lab: Lab) -> None:
    import pickle  # to make what is never opened

    mark = lab.folder / "ran"
    path = lab.folder / "BFM.pkl"
    path.write_bytes(pickle.dumps(Payload(mark)))
    import_is_refused(lab, path, "pickle", "Take the published")
    assert not mark.exists()


@other(22, "checkpoint with a payload", REFUSED + "; the payload never runs", "1")
def _(lab: Lab) -> None:
    import torch

    mark = lab.folder / "ran"
    path = lab.folder / "best.pt"
    torch.save({"facefoundry_checkpoint": 1, "system": "prnet", "w": Payload(mark)}, path)
    ended = lab.run("predict", path, lab.good.source / "AFW", "--out", lab.folder / "predicted")
    ended.complains(1, re.escape(path.name), "take last.pt or best.pt")
    assert not mark.exists()


@other(50, "models whose indices count from the wrong base", REFUSED, "1")
def _(lab: Lab) -> None:
    import h5py

    paths = small_basel(lab.folder)
    contents = scipy.io.loadmat(paths["shape.mat"])
    variables = {name: value for name, value in contents.items() if not name.startswith("__")}
    scipy.io.savemat(paths["shape.mat"], {**variables, "tri": variables["tri"] - 1})
    import_is_refused(lab, paths["shape.mat"], "holds index 0", "Add one")
    with h5py.File(paths["bfm2017.h5"], "r+") as file:
        cells = file["shape/representer/cells"][()] + 1
        del file["shape/representer/cells"]
        file["shape/representer/cells"] = cells
    import_is_refused(lab, paths["bfm2017.h5"], "counts vertices from one", "Subtract one")


@other(
    51,
    "model files with nested cells, and with numbers of type 8 (SciPy's reader ends its process)",
    REFUSED,
    "1",
)
def _(lab: Lab) -> None:
    base = small_basel(lab.folder)["plain.mat"].read_bytes()
    for name, more in (
        ("nested.mat", nested_cells("tri_mouth", 20_000)),
        ("type8.mat", matrix("tri_mouth", (1, 1), bytes(8), kind=8)),
    ):
        (lab.folder / name).write_bytes(base + more)
        import_is_refused(lab, lab.folder / name, "signal", "download it again")

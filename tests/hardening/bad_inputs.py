"""Bad inputs, one row each: how it is made, what was promised, and the check that it ends so.

The rows are the table of `docs/bad-inputs.md`; ``python -m tests.hardening.bad_inputs`` prints it. Each is run by
`test_bad_inputs.py`: a bad file lies beside good ones, and a real command is given the folder.
"""

import contextlib
import io
import json
import os
import re
import shutil
import struct
import sys
import tarfile
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from flows.command_line import main
from flows.config import PosmapConfig
from flows.local import build_here
from geometry import load_model, save_model
from geometry.atlas_files import open_atlas
from geometry.npz_files import NpzError
from render.crop import CropConfig
from storage.dataset import open_dataset
from storage.phases import Phase, observed
from storage.sources import open_source
from storage.store import DamagedObject, MissingObject
from tests.hardening.fuzz_targets import big_endian_mat, png_chunk, small_basel, small_model
from tests.hardening.kept import FACES

GOOD_STEM, BAD_STEM = "AFW_7000001_1_0", "AFW_7000009_1_0"
BAD_ID = f"AFW/{BAD_STEM}"
BUILD = ("build", "300wlp-posmaps", "--size", "128", "--workers", "1")
MEMORY_LIMIT_MB = 300
TIME_LIMIT_S = 20.0
_ALIVE = re.compile(r"^[\w ]+: \d+ s\n", re.MULTILINE)
"""What a command in a pipe says every five seconds: a slow machine hears it before the one line that counts."""

Variables = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, what it said, and what it took."""

    code: int
    out: str
    err: str
    seconds: float
    grown_mb: float

    def complains(self, code: int, *words: str) -> None:
        """It ended with this code and one line, which has these words in it."""
        assert self.code == code, (self.code, self.out, self.err[-2000:])
        said = _ALIVE.sub("", self.err)
        assert said.startswith("facefoundry: "), self.err
        assert said.count("\n") == 1, self.err
        for word in words:
            assert re.search(word, said), (word, self.err)


@dataclass(frozen=True, slots=True)
class Good:
    """Good samples: their folder, what is made of them, and one of them in parts to make bad ones of."""

    source: Path
    jpeg: bytes
    mat: bytes
    variables: Variables
    expected: Mapping[str, dict[str, np.ndarray]]
    """Every target of every good sample by its id, as a build without anything bad gives them."""

    @property
    def pixels(self) -> np.ndarray:
        """(450 450 3) of the good picture."""
        return np.array(Image.open(io.BytesIO(self.jpeg)))


@dataclass(slots=True)
class Lab:
    """A folder for one row: a copy of the good samples, and an output folder."""

    folder: Path
    good: Good

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def afw(self) -> Path:
        return self.source / "AFW"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def put(
        self, *, mat: bytes | None = None, jpeg: bytes | None = None, stem: str = BAD_STEM, suffix: str = ".jpg"
    ) -> None:
        """A sample beside the good ones; what is not given is the good one's."""
        (self.afw / f"{stem}.mat").write_bytes(self.good.mat if mat is None else mat)
        (self.afw / f"{stem}{suffix}").write_bytes(self.good.jpeg if jpeg is None else jpeg)

    def run(self, *arguments: str | Path) -> Ended:
        """The command line in this process, from arguments to the exit code."""
        out, err = io.StringIO(), io.StringIO()
        previous, sys.argv = sys.argv, ["facefoundry", *map(str, arguments)]
        before, start = _peak_mb(reset=True), time.process_time()
        code = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main()
                except SystemExit as ended:
                    code = int(ended.code or 0)
        finally:
            sys.argv = previous
        ended_after = time.process_time() - start
        ended = Ended(code, out.getvalue(), err.getvalue(), ended_after, _peak_mb() - before)
        assert ended.seconds < TIME_LIMIT_S, ended.seconds
        assert ended.grown_mb < MEMORY_LIMIT_MB, ended.grown_mb
        return ended

    def build(self, *more: str) -> Ended:
        return self.run(*BUILD, "--source", self.source, "--out", self.out, "--json", *more)

    def samples(self, ended: Ended) -> dict[str, dict[str, np.ndarray]]:
        assert ended.code == 0, ended.err[-2000:]
        return samples_of(Path(json.loads(ended.out)["path"]))

    def good_ones_are_untouched(self, samples: Mapping[str, dict[str, np.ndarray]]) -> None:
        """Every good sample is there, bit by bit as without anything bad beside it."""
        for name, expected in self.good.expected.items():
            for target, value in expected.items():
                found = samples[name][target]
                assert found.dtype == value.dtype, target
                assert found.tobytes() == value.tobytes(), (name, target)


def samples_of(place: Path) -> dict[str, dict[str, np.ndarray]]:
    dataset = open_dataset(place)
    everything = dataset.read(range(len(dataset)))
    ids = [str(name) for name in everything.pop("source_id")]
    return {
        name: {target: np.asarray(values[row]) for target, values in everything.items()} for row, name in enumerate(ids)
    }


def _peak_mb(*, reset: bool = False) -> float:
    """The most memory that this process has had, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def make_good(folder: Path) -> Good:
    """The kept faces, built once."""
    source = folder / "source"
    shutil.copytree(FACES, source)
    mat = (source / "AFW" / f"{GOOD_STEM}.mat").read_bytes()
    stored = scipy.io.loadmat(io.BytesIO(mat))
    good = Good(
        source=source,
        jpeg=(source / "AFW" / f"{GOOD_STEM}.jpg").read_bytes(),
        mat=mat,
        variables={name: value for name, value in stored.items() if not name.startswith("__")},
        expected={},
    )
    lab = Lab(folder / "alone", good)
    shutil.copytree(source, lab.source)
    return Good(source, good.jpeg, mat, good.variables, lab.samples(lab.build()))


# ----------------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table; `run` makes the input, gives it to the program, and asserts how it ends."""

    number: int
    what: str
    promise: str
    seen: str
    run: Callable[[Lab], None] = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.number:02d}"

    @property
    def line(self) -> str:
        """Of the table in the docs."""
        return f"| {self.number} | {self.what} | {self.promise} | {self.seen} | `test_bad_input[{self.name}]` |"


ROWS: list[Row] = []
QUARANTINED: dict[int, tuple[Callable[[Lab], None], Mapping[str, str]]] = {}
"""Of the rows whose samples are set aside: what puts them into a lab, and the code of each by its id."""

SET_ASIDE = "set aside"


def _id_of(name: str) -> str:
    """`bad` is the first bad sample, `bad_1` the view 1 of the same photograph, `AFW_2_0` one of that stem."""
    return f"AFW/{name}" if name.startswith("AFW") else BAD_ID + name.removeprefix("bad")


def quarantined(number: int, what: str, *words: str, promise: str = SET_ASIDE, **codes: str):
    """A row whose maker puts bad samples beside the good ones; `codes` says what becomes of each.

    First the build is held to its usual cap, and ends with exit code 3 and one line. Then the cap is raised; the same build
    goes on, and publishes the good samples, bit for bit as they are without the bad ones.
    """

    def decorate(make: Callable[[Lab], None]) -> Callable[[Lab], None]:
        def run(lab: Lab) -> None:
            make(lab)
            first = lab.build()
            first.complains(3, "raise --max-bad", *words)
            again = lab.build("--max-bad", "0.9")
            samples = lab.samples(again)
            found = {hole.source_id: hole.code for hole in open_dataset(lab.out / "300wlp-posmaps").manifest.rejected}
            assert found == {_id_of(name): code for name, code in codes.items()}
            assert json.loads(again.out)["rejected"] == len(codes)
            assert samples.keys() == lab.good.expected.keys()
            lab.good_ones_are_untouched(samples)

        seen = "3; 0 with the cap raised: " + ", ".join(f"`{code}`" for code in dict.fromkeys(codes.values()))
        ROWS.append(Row(number, what, promise, seen, run))
        QUARANTINED[number] = make, {_id_of(name): code for name, code in codes.items()}
        return make

    return decorate


def read_right(number: int, what: str, seen: str, *, promise: str = "read right"):
    """A row that only looks bad: a check is given the bad sample and the good one that it was made of."""

    def decorate(make: Callable[[Lab], Callable[[dict, dict], None]]) -> object:
        def run(lab: Lab) -> None:
            check = make(lab)
            ended = lab.build()
            samples = lab.samples(ended)
            assert json.loads(ended.out)["rejected"] == 0
            lab.good_ones_are_untouched(samples)
            check(samples[BAD_ID], lab.good.expected[f"AFW/{GOOD_STEM}"])

        ROWS.append(Row(number, what, promise, seen, run))
        return make

    return decorate


def other(number: int, what: str, promise: str, seen: str):
    """A row that runs what it likes."""

    def decorate(run: Callable[[Lab], None]) -> Callable[[Lab], None]:
        ROWS.append(Row(number, what, promise, seen, run))
        return run

    return decorate


REFUSED = "refused"


# ---------------------------------------------------------------------------------------------- annotation files


def saved(variables: Mapping[str, object], **how: object) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, dict(variables), **how)
    return stream.getvalue()


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(name: str, shape: tuple[int, ...], data: bytes, *, kind: int = 9, class_number: int = 6) -> bytes:
    body = element(6, struct.pack("<II", class_number, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, body + element(1, name.encode()) + element(kind, data))


def nested_cells(name: str, depth: int) -> bytes:
    inner = matrix("", (1, 1), bytes(8))
    heads, length = [], len(inner)
    for level in range(depth):
        own = name.encode() if level == depth - 1 else b""
        start = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, own)
        heads.append(struct.pack("<II", 14, len(start) + length) + start)
        length += len(heads[-1])
    return b"".join(reversed(heads)) + inner


def zeros_bomb(name: str, n_bytes: int) -> bytes:
    """A compressed variable of so many zeros."""
    whole = matrix(name, (1, n_bytes // 8), b"")[:-8]
    head = struct.pack("<II", 14, len(whole) - 8 + 8 + n_bytes) + whole[8:] + struct.pack("<II", 9, n_bytes)
    packer, block = zlib.compressobj(1), bytes(1 << 24)
    packed = packer.compress(head) + b"".join(packer.compress(block) for _ in range(n_bytes >> 24)) + packer.flush()
    return struct.pack("<II", 15, len(packed)) + packed


def plain_mat(lab: Lab, **changes: object) -> bytes:
    """The good annotation, uncompressed, with other or (None) fewer variables."""
    variables = {name: value for name, value in {**lab.good.variables, **changes}.items() if value is not None}
    return saved(variables)


@quarantined(1, "`.mat` cut in half", "bytes", bad="mat.truncated")
def _(lab: Lab) -> None:
    lab.put(mat=lab.good.mat[: len(lab.good.mat) // 2])


@quarantined(
    2, "`.mat` of 0 bytes, of a word, of zeros, of a web page", bad="file.empty", bad_1="mat.not_matlab",
    bad_2="mat.not_matlab", bad_3="mat.not_matlab",
)  # fmt: skip
def _(lab: Lab) -> None:
    contents = (b"", b"hello", bytes(1 << 20), b"<!DOCTYPE html><html><body>rate limited</body></html>" * 20)
    for number, content in enumerate(contents):
        lab.put(mat=content, stem=BAD_STEM + (f"_{number}" if number else ""))


@quarantined(3, "MATLAB 7.3 (HDF5)", "-v7", bad="mat.v73")
def _(lab: Lab) -> None:
    lab.put(mat=b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n" + bytes(64))


@quarantined(4, "MATLAB 4, which keeps no number types", "-v7", bad="mat.v4")
def _(lab: Lab) -> None:
    lab.put(mat=saved({name: value.astype("f8") for name, value in lab.good.variables.items()}, format="4"))


@quarantined(5, "the first variable claims 2 GB", "lacks its last", bad="mat.truncated")
def _(lab: Lab) -> None:
    plain = plain_mat(lab)
    lab.put(mat=plain[:128] + struct.pack("<II", 14, 0x7FFFFFFF) + plain[136:])


@quarantined(6, "40,000 × 40,000 numbers announced, 8 bytes there", "40000×40000", bad="mat.too_large")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Shape_Para=None) + matrix("Shape_Para", (40000, 40000), bytes(8)))


@quarantined(7, "negative dimensions", "-199×1", bad="mat.shape")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Shape_Para=None) + matrix("Shape_Para", (-199, 1), bytes(8)))


@quarantined(8, "cells nested 5,000 deep (SciPy's reader ends its process)", "a cell array", bad="mat.class")
def _(lab: Lab) -> None:
    packed = zlib.compress(nested_cells("Shape_Para", 5000))
    lab.put(mat=plain_mat(lab, Shape_Para=None) + struct.pack("<II", 15, len(packed)) + packed)


@quarantined(9, "numbers of type 8 (SciPy's reader ends its process)", "no number type", bad="mat.corrupt")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Exp_Para=None) + matrix("Exp_Para", (1, 1), bytes(8), kind=8))


@quarantined(
    10,
    "1 MB that inflates to 256 MB, under a name that is read and one that is not",
    bad="mat.too_large",
    bad_1="mat.missing_key",
)
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Shape_Para=None) + zeros_bomb("Shape_Para", 1 << 28))
    lab.put(mat=plain_mat(lab, Shape_Para=None) + zeros_bomb("x", 1 << 28), stem=BAD_STEM + "_1")


@quarantined(11, "cell or struct for `Shape_Para`", bad="mat.class", bad_1="mat.class")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Shape_Para=np.array([np.zeros(3), "x"], dtype=object)))
    lab.put(mat=plain_mat(lab, Shape_Para={"a": 1}), stem=BAD_STEM + "_1")


@quarantined(12, "complex `Exp_Para`", "imaginary", bad="mat.complex")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Exp_Para=np.zeros((29, 1)) + 1j))


@quarantined(13, "NaN or infinity in `Pose_Para`, `Shape_Para`", "nan", bad="param.nonfinite", bad_1="param.nonfinite")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Pose_Para=np.full((1, 7), np.nan, "f4")))
    shape = lab.good.variables["Shape_Para"].copy()
    shape[7] = np.inf
    lab.put(mat=plain_mat(lab, Shape_Para=shape), stem=BAD_STEM + "_1")


@quarantined(
    14, "arrays turned or too short: `pt2d` 68×2, `Exp_Para` 28×1, `Shape_Para` 1×199",
    bad="mat.shape", bad_1="param.count", bad_2="mat.shape",
)  # fmt: skip
def _(lab: Lab) -> None:
    good = lab.good.variables
    lab.put(mat=plain_mat(lab, pt2d=good["pt2d"].T))
    lab.put(mat=plain_mat(lab, Exp_Para=good["Exp_Para"][:28]), stem=BAD_STEM + "_1")
    lab.put(mat=plain_mat(lab, Shape_Para=good["Shape_Para"].T), stem=BAD_STEM + "_2")


@quarantined(
    15,
    "coefficients of another model: larger than a face's, or of a face elsewhere than its landmarks",
    promise=SET_ASIDE + " (beyond 15 standard deviations; landmarks off by a tenth of the face's box)",
    bad="param.range",
    AFW_7000010_1_0="landmarks.disagree",
)
def _(lab: Lab) -> None:
    good = lab.good.variables
    strange = np.zeros_like(good["Shape_Para"])
    strange[:40, 0] = 3e6 * np.random.default_rng(1).normal(size=40)
    lab.put(mat=plain_mat(lab, Shape_Para=strange))
    lab.put(mat=plain_mat(lab, pt2d=good["pt2d"] + 60), stem="AFW_7000010_1_0")


@contextlib.contextmanager
def changed_after_the_plan(path: Path, content: bytes) -> Iterator[None]:
    """Rot, or somebody's copying, between the plan and the shards."""

    def strike(phase: Phase, what: str) -> None:
        if phase is Phase.PLAN:
            path.write_bytes(content)

    with observed(strike):
        yield


def one_bit_changed(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 4
    return bytes(changed)


def _rots_after_the_plan(lab: Lab, path: Path) -> None:
    """The build stops and names the file; the whole version is not published."""
    right = path.read_bytes()
    with changed_after_the_plan(path, one_bit_changed(right)):
        ended = lab.build("--max-bad", "0.9")
    ended.complains(1, re.escape(path.name), "has changed since this build was planned", "start the build again")
    assert not (lab.out / "300wlp-posmaps" / "latest").exists()
    path.write_bytes(right)
    lab.good_ones_are_untouched(lab.samples(lab.build()))


ROT = (
    "noticed by the plan's SHA-256: the build stops and names the file, nothing is published; with it mended it goes on"
)


@other(16, "one bit of an uncompressed `.mat` turns while the build runs", ROT, "1")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab))
    _rots_after_the_plan(lab, lab.afw / f"{BAD_STEM}.mat")


# ------------------------------------------------------------------------------------- arrays, models, checkpoints


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
    before = _peak_mb(reset=True)
    _raises(NpzError, lambda: open_atlas(atlas), "would unpack to")
    assert _peak_mb() - before < MEMORY_LIMIT_MB


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


# --------------------------------------------------------------------------------------------------------- pictures


def encoded(pixels: np.ndarray | Image.Image, kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(stream, kind, **how)
    return stream.getvalue()


def zeros_png(width: int, height: int, *, before: bytes = b"", grey: bool = True) -> bytes:
    """A PNG of zeros that takes some hundred kilobytes."""
    packer = zlib.compressobj(1)
    row = bytes(1 + (width if grey else 3 * width))
    block = row * max(1, (1 << 22) // len(row))
    n_blocks, rest = divmod(height * len(row), len(block))
    packed = b"".join(packer.compress(block) for _ in range(n_blocks)) + packer.compress(bytes(rest)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if grey else 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + before
        + png_chunk(b"IDAT", packed)
        + png_chunk(b"IEND", b"")
    )


@quarantined(23, "half a JPEG (OpenCV fills it with grey)", "copy", bad="image.truncated")
def _(lab: Lab) -> None:
    lab.put(jpeg=lab.good.jpeg[: len(lab.good.jpeg) // 2])


@other(24, "one bit of a JPEG's data turns while the build runs (decoders see nothing)", ROT, "1")
def _(lab: Lab) -> None:
    lab.put()
    _rots_after_the_plan(lab, lab.afw / f"{BAD_STEM}.jpg")


def the_same_picture(sample: dict, good: dict) -> None:
    for target, value in good.items():
        if target != "seed":  # each id has its own
            np.testing.assert_array_equal(sample[target], value, err_msg=target)


@read_right(
    25,
    "EXIF says that the picture is turned",
    "the same sample as without",
    promise="ignored: annotations count the pixels as they are stored",
)
def _(lab: Lab) -> Callable[[dict, dict], None]:
    exif = Image.Exif()
    exif[0x0112] = 6
    tag = b"Exif\0\0" + exif.tobytes()[6:] if exif.tobytes().startswith(b"Exif\0\0") else b"Exif\0\0" + exif.tobytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(tag) + 2) + tag
    lab.put(jpeg=lab.good.jpeg[:2] + segment + lab.good.jpeg[2:])
    return the_same_picture


@quarantined(26, "CMYK JPEG (decoders disagree)", "CMYK", "save it as RGB", bad="image.cmyk")
def _(lab: Lab) -> None:
    lab.put(jpeg=encoded(Image.fromarray(lab.good.pixels).convert("CMYK"), "JPEG"))


@read_right(
    27,
    "grey picture",
    "three equal channels; palette and one bit: `tests/storage/test_images.py`",
    promise="becomes RGB",
)
def _(lab: Lab) -> Callable[[dict, dict], None]:
    lab.put(jpeg=encoded(Image.fromarray(lab.good.pixels).convert("L"), "PNG"))

    def check(sample: dict, good: dict) -> None:
        picture = sample["image"].astype(int)
        assert np.ptp(picture, axis=-1).max() == 0
        assert abs(picture.mean() - good["image"].mean()) < 10
        np.testing.assert_array_equal(sample["position_map"], good["position_map"])

    return check


@read_right(
    28, "16-bit PNG (Pillow clips it)", "the same sample as of 8 bits", promise="scaled by 1/257, never clipped"
)
def _(lab: Lab) -> Callable[[dict, dict], None]:
    pixels = lab.good.pixels
    height, width, _ = pixels.shape
    rows = pixels.astype(">u2") * 257
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows.astype(">u2")))
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    lab.put(
        jpeg=b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
    )

    def check(sample: dict, good: dict) -> None:
        # Pillow's JPEG decoder, which made these pixels, may differ from OpenCV's by a few levels.
        assert np.abs(sample["image"].astype(int) - good["image"]).max() <= 4
        np.testing.assert_array_equal(sample["position_map"], good["position_map"])

    return check


@quarantined(29, "RGBA with alpha 0", "transparent", bad="image.alpha")
def _(lab: Lab) -> None:
    lab.put(jpeg=encoded(np.dstack([lab.good.pixels, np.zeros((450, 450), np.uint8)]), "PNG"))


@quarantined(30, "GIF named `.jpg`", "GIF", bad="image.format")
def _(lab: Lab) -> None:
    lab.put(jpeg=encoded(lab.good.pixels, "GIF"))


@quarantined(
    31,
    "PostScript named `.jpg` (Pillow reaches for Ghostscript), and a web page",
    "PostScript",
    bad="image.format",
    bad_1="image.not_image",
)
def _(lab: Lab) -> None:
    lab.put(jpeg=b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n")
    lab.put(jpeg=b"<html>rate limited</html>", stem=BAD_STEM + "_1")


@quarantined(
    32,
    "PNG of 169 and of 400 megapixels (164 and 389 kB; OpenCV opens both)",
    "13000×13000",
    bad="image.too_large",
    bad_1="image.too_large",
)
def _(lab: Lab) -> None:
    lab.put(jpeg=zeros_png(13000, 13000))
    lab.put(jpeg=zeros_png(20000, 20000), stem=BAD_STEM + "_1")


@quarantined(33, "PNG with a text that inflates to 200 MB", "compressed text", bad="image.corrupt")
def _(lab: Lab) -> None:
    text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(b"A" * (200 << 20), 1))
    lab.put(jpeg=zeros_png(450, 450, before=text, grey=False))


@quarantined(
    34, "a picture of 1×1, and one whose header says 449 for 450", "450×450", bad="image.size", bad_1="image.size"
)
def _(lab: Lab) -> None:
    lab.put(jpeg=encoded(np.zeros((1, 1, 3), np.uint8), "JPEG"))
    lying = bytearray(lab.good.jpeg)
    frame = next(at for at in range(len(lying)) if lying[at : at + 2] in (b"\xff\xc0", b"\xff\xc2"))
    lying[frame + 7 : frame + 9] = struct.pack(">H", 449)
    lab.put(jpeg=bytes(lying), stem=BAD_STEM + "_1")


# --------------------------------------------------------------------------------------------- archives and folders


def archives_are_refused(lab: Lab, path: Path) -> None:
    """No archive is ever unpacked: as a source it is told to be no folder, as a model what it is."""
    before = sorted(lab.folder.rglob("*"))
    ended = lab.run(*BUILD, "--source", path, "--out", lab.out)
    ended.complains(1, re.escape(path.name), "unpack the archive and give the folder")
    lab.run("model", "import", path, "--out", lab.out).complains(1, re.escape(path.name))
    assert [found for found in sorted(lab.folder.rglob("*")) if not found.is_relative_to(lab.out)] == before
    assert not [found for found in lab.out.rglob("*") if found.is_file()]


NOT_UNPACKED = "refused: archives are never unpacked, so nothing can be written anywhere"


@other(35, "zip with `../`, absolute, linked, doubled names and ones that differ in case", NOT_UNPACKED, "1")
def _(lab: Lab) -> None:
    with zipfile.ZipFile(lab.folder / "source.zip", "w") as archive:
        for name in ("../../slip", "/tmp/absolute", "a.jpg", "A.JPG"):
            archive.writestr(name, "x")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    archives_are_refused(lab, lab.folder / "source.zip")


@other(36, "zip of 1 MB that unpacks to 256 MB", NOT_UNPACKED, "1")
def _(lab: Lab) -> None:
    with (
        zipfile.ZipFile(lab.folder / "source.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("z", "w", force_zip64=True) as member,
    ):
        for _ in range(16):
            member.write(bytes(1 << 24))
    archives_are_refused(lab, lab.folder / "source.zip")


@other(37, "tar with `../`, absolute names, a link that is written through, a device", NOT_UNPACKED, "1")
def _(lab: Lab) -> None:
    with tarfile.open(lab.folder / "source.tar", "w") as archive:
        for name, settings in (
            ("../slip", {}), ("/tmp/absolute", {}), ("l", {"type": tarfile.SYMTYPE, "linkname": "/"}), ("l/through", {}),
            ("n", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            for key, value in settings.items():
                setattr(member, key, value)
            archive.addfile(member)
    archives_are_refused(lab, lab.folder / "source.tar")


def put_what_is_no_file(lab: Lab) -> dict[str, str]:
    """Five things under pictures' and folders' names; their codes by id."""
    (lab.afw / f"{BAD_STEM}.mat").write_bytes(lab.good.mat)
    os.mkfifo(lab.afw / f"{BAD_STEM}.jpg")
    (lab.afw / "zero.jpg").symlink_to("/dev/zero")
    (lab.afw / "loop.jpg").symlink_to("loop.jpg")
    (lab.afw / "folder.jpg").mkdir()
    (lab.source / "circle").symlink_to(lab.source, target_is_directory=True)
    for name in ("zero", "loop", "folder"):
        (lab.afw / f"{name}.mat").write_bytes(lab.good.mat)
    return {
        f"AFW/{BAD_STEM}.jpg": "file.not_regular",
        "AFW/zero.jpg": "file.link",
        "AFW/loop.jpg": "file.link",
        "AFW/folder.jpg": "file.not_regular",
        "circle": "file.link",
    }


@other(
    38, "a pipe, a link to `/dev/zero`, a link to itself, a folder, each named as a picture; folders that link in a circle",
    SET_ASIDE + "; none is opened or followed", "3; 0 with the cap raised: `file.not_regular`, `file.link`",
)  # fmt: skip
def _(lab: Lab) -> None:
    expected = put_what_is_no_file(lab)
    lab.build().complains(3, "raise --max-bad")
    again = lab.build("--max-bad", "0.9")
    lab.good_ones_are_untouched(lab.samples(again))
    found = {hole.source_id: hole.code for hole in open_dataset(lab.out / "300wlp-posmaps").manifest.rejected}
    assert found == expected


@other(
    39, "YAML of deployments with a Python tag, aliases without end, a doubled key, `1e-3`, `no`",
    "refused; numbers and words are read as they are written", "1; 0.001, “no”",
)  # fmt: skip
def _(lab: Lab) -> None:
    from flows.deploy import AUTOMATIONS_FILE, PREFECT_FILE
    from flows.plain_yaml import read_document

    infra = lab.folder / "infra"
    infra.mkdir()
    (infra / AUTOMATIONS_FILE).write_text("automations: []\n")
    mark = lab.folder / "ran"
    laughs = "a: &a [x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    bad = {
        f"x: !!python/object/apply:os.system ['touch {mark}']\n": "python/object",
        laughs: "alias",
        "deployments: []\nname: a\nname: b\n": "there twice",
        "[" * 5000 + "]" * 5000: "not YAML",
        "deployments: \xff\n": "",
    }
    for text, words in bad.items():
        (infra / PREFECT_FILE).write_bytes(text.encode("latin-1"))
        lab.run("deploy", "--infra", infra).complains(1, re.escape(PREFECT_FILE), words)
    assert not mark.exists()
    (infra / PREFECT_FILE).write_text("rate: 1e-3\nsplit: no\nversion: 010\ntime: 12:30:45\nyes: true\n")
    assert read_document(infra / PREFECT_FILE) == {
        "rate": 0.001,
        "split": "no",
        "version": 10,
        "time": "12:30:45",
        "yes": True,
    }


@other(
    40, "a data set with two shards swapped, one missing, a shape of 2⁴⁰, a pickling filter in its metadata",
    "`verify` names each object; reading gives the right sample or an error", "1, each named; errors on reading",
)  # fmt: skip
def _(lab: Lab) -> None:
    def damaged(name: str, damage: Callable[[Path], None], *keys: str) -> None:
        config = PosmapConfig(crop=CropConfig(size_px=128), shard_size=1)
        version = Path(build_here(config, source=lab.source, out=lab.folder / name, workers=1).path)
        damage(version)
        ended = lab.run("verify", version)
        assert ended.code == 1, ended.out + ended.err
        for key in keys:
            assert key in ended.out + ended.err, (key, ended.out, ended.err)
        for index in range(2):
            try:
                found = open_dataset(version)[index]
            except (DamagedObject, MissingObject):
                continue
            expected = lab.good.expected[str(found["source_id"])]
            for target, value in expected.items():
                np.testing.assert_array_equal(np.asarray(found[target]).astype(value.dtype), value, err_msg=target)

    def swap(version: Path) -> None:
        first, second = (version / "image" / f"c.{shard}.0.0.0" for shard in (0, 1))
        first.rename(version / "kept")
        second.rename(first)
        (version / "kept").rename(second)

    def edit(change: Callable[[dict], None]) -> Callable[[Path], None]:
        def damage(version: Path) -> None:
            path = version / "image" / "zarr.json"
            content = json.loads(path.read_text())
            change(content)
            path.write_text(json.dumps(content))

        return damage

    damaged("swapped", swap, "image/c.0.0.0.0", "image/c.1.0.0.0")
    damaged("missing", lambda version: (version / "position_map" / "c.1.0.0.0").unlink(), "position_map/c.1.0.0.0")
    damaged("huge", edit(lambda content: content["shape"].__setitem__(0, 1 << 40)), "image/zarr.json")
    damaged("filter", edit(lambda content: content.update(codecs=[{"name": "numcodecs.pickle"}])), "image/zarr.json")


# ------------------------------------------------------------------------------------------- what the report lacks


@read_right(41, "`.mat` of the other byte order", "the same sample")
def _(lab: Lab) -> Callable[[dict, dict], None]:
    lab.put(mat=big_endian_mat(lab.good.variables))
    return the_same_picture


@read_right(
    42, "PNG named `.jpg`", "the same sample but for the JPEG's rounding", promise="its first bytes count, not its name"
)
def _(lab: Lab) -> Callable[[dict, dict], None]:
    lab.put(jpeg=encoded(lab.good.pixels, "PNG"))

    def check(sample: dict, good: dict) -> None:
        assert np.abs(sample["image"].astype(int) - good["image"]).max() <= 4
        np.testing.assert_array_equal(sample["position_map"], good["position_map"])

    return check


@read_right(43, "`Exp_Para` of type uint8, all zero (34 files of AFLW2000-3D)", "expression 0")
def _(lab: Lab) -> Callable[[dict, dict], None]:
    lab.put(mat=plain_mat(lab, Exp_Para=np.zeros((29, 1), np.uint8)))

    def check(sample: dict, good: dict) -> None:
        assert not sample["expression"].any()
        np.testing.assert_array_equal(sample["identity"], good["identity"])

    return check


def _turned(lab: Lab, pose: np.ndarray) -> None:
    """The good face in another pose; its `pt2d` is left out, since it would belong to the old one."""
    lab.put(mat=plain_mat(lab, Pose_Para=pose.astype(np.float32), pt2d=None))


@read_right(44, "angles beyond 99° (31 files of AFLW2000-3D)", "the angles as they are in the file")
def _(lab: Lab) -> Callable[[dict, dict], None]:
    pose = lab.good.variables["Pose_Para"].astype(np.float64)
    pose[0, :3] = np.radians([10, 130, -200])
    _turned(lab, pose)

    def check(sample: dict, good: dict) -> None:
        from geometry.rotation import rotation_from_euler

        np.testing.assert_allclose(
            rotation_from_euler(*sample["pose"][:3]), rotation_from_euler(*pose[0, :3]), atol=1e-6
        )
        assert np.isfinite(sample["position_map"]).all()

    return check


@read_right(45, "a negative scale (one file of AFLW2000-3D)", "the scale as it is in the file")
def _(lab: Lab) -> Callable[[dict, dict], None]:
    pose = lab.good.variables["Pose_Para"].astype(np.float64)
    pose[0, 6] *= -1
    _turned(lab, pose)

    def check(sample: dict, good: dict) -> None:
        np.testing.assert_allclose(sample["pose"][6], -good["pose"][6], rtol=1e-6)
        assert np.isfinite(sample["position_map"]).all()

    return check


@other(
    46,
    "names: a face, Arabic, decomposed umlauts, a newline, bytes that are no text",
    "read, composed (NFC), or set aside and printable",
    "3; 0 with the cap raised: `source.name`",
)
def _(lab: Lab) -> None:
    fine = ("😀_0", "وجه_0", unicodedata.normalize("NFD", "übung_0"), "with space_0")
    for stem in fine:
        lab.put(stem=stem)
    for name in (b"new\nline_0", b"no\xfftext_0"):
        for suffix, content in ((b".jpg", lab.good.jpeg), (b".mat", lab.good.mat)):
            (Path(os.fsdecode(os.path.join(os.fsencode(lab.afw), name + suffix)))).write_bytes(content)
    lab.build().complains(3, "rename both files")
    samples = lab.samples(lab.build("--max-bad", "0.9"))
    lab.good_ones_are_untouched(samples)
    assert {f"AFW/{unicodedata.normalize('NFC', stem)}" for stem in fine} <= samples.keys()
    holes = open_dataset(lab.out / "300wlp-posmaps").manifest.rejected
    assert [hole.code for hole in holes] == ["source.name"] * 2
    assert all(hole.source_id.isprintable() for hole in holes)


@other(
    47, "two pictures of one stem, names that differ in case or composition alone",
    "one is taken, by a rule that no disk decides; the others are set aside",
    "3; 0 with the cap raised: `source.duplicate`",
)  # fmt: skip
def _(lab: Lab) -> None:
    (lab.afw / f"{GOOD_STEM}.png").write_bytes(lab.good.jpeg)
    for stem in ("FACE_0", "face_0", "\u00fc_0", "u\u0308_0"):
        lab.put(stem=stem)
    lab.build().complains(3, "keep one|rename one")
    samples = lab.samples(lab.build("--max-bad", "0.9"))
    lab.good_ones_are_untouched(samples)
    holes = open_dataset(lab.out / "300wlp-posmaps").manifest.rejected
    assert {hole.source_id for hole in holes} == {"AFW/face_0", f"AFW/{GOOD_STEM}.png", "AFW/\u00fc_0"}
    assert {hole.code for hole in holes} == {"source.duplicate"}
    assert {"AFW/FACE_0", "AFW/\u00fc_0"} <= samples.keys()


@other(48, "an empty folder, one of pictures alone, one that is not there", REFUSED, "1")
def _(lab: Lab) -> None:
    (lab.folder / "empty").mkdir()
    (lab.folder / "pictures").mkdir()
    (lab.folder / "pictures" / "a.jpg").write_bytes(lab.good.jpeg)
    for name, words in (("empty", "holds no picture"), ("pictures", "holds no picture"), ("nowhere", "does not exist")):
        lab.run(*BUILD, "--source", lab.folder / name, "--out", lab.out).complains(1, name, words, "[Gg]ive the folder")
    assert not (lab.out / "300wlp-posmaps").exists()


@other(
    49,
    "a folder of a million names",
    "listed within a minute and 1.5 GB; what has nothing to do with samples is passed over",
    "the two samples in it are found",
)
def _(lab: Lab) -> None:
    crowd = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else lab.folder
    folder = crowd / f"facefoundry-crowd-{os.getpid()}"
    folder.mkdir()
    try:
        for suffix in (".jpg", ".mat"):
            shutil.copy(lab.good.source / "AFW" / f"{GOOD_STEM}{suffix}", folder)
        for number in range(1_000_000):
            os.mknod(f"{folder}/{number}.txt")
        start, before = time.process_time(), _peak_mb(reset=True)
        source = open_source(folder)
        assert [item.source_id for item in source.items] == [GOOD_STEM]
        assert time.process_time() - start < 60
        assert _peak_mb() - before < 1500
    finally:
        shutil.rmtree(folder)


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


@other(
    52,
    "the folder's `model.json` or `fits.json`: a pipe, no JSON, nested without end, without a licence",
    REFUSED,
    "1",
)
def _(lab: Lab) -> None:
    for name, place in (("model.json", lab.afw), ("fits.json", lab.source)):
        path = place / name
        os.mkfifo(path)
        lab.build().complains(1, name, "not a regular file")
        path.unlink()
        for content in (b"<html>", b"[" * 100_000, b"{}"):
            path.write_bytes(content)
            lab.build().complains(1, name)
        path.unlink()
    assert not (lab.out / "300wlp-posmaps" / "latest").exists()


@other(53, "the folder's `model.json` names another model", REFUSED, "1")
def _(lab: Lab) -> None:
    sidecar = {"model": "BFM 2009", "fingerprint": "0" * 32, "n_identity": 199, "n_expression": 29}
    (lab.afw / "model.json").write_text(json.dumps(sidecar))
    lab.build().complains(1, "other people's", load_model("built-in").fingerprint)


def _raises(kind: type[Exception], call: Callable[[], object], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


HEADER = ("| # | input | promised end | seen end | test |", "|---|---|---|---|---|")


def table() -> list[str]:
    """The lines of the table in the docs."""
    return [*HEADER, *(row.line for row in sorted(ROWS, key=lambda row: row.number))]


if __name__ == "__main__":
    print("\n".join(table()))

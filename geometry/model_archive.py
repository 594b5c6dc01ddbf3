"""Our own morphable model file: one uncompressed `.npz` whose arrays are mapped into memory, not read.

The file is a zip that `numpy.load` reads too. Every array's first byte lies on a 64-byte boundary (a zip extra field
pads its header), so a process that opens it maps the bases and shares their pages with all others: 145 MB of BFM cost
nothing until they are used, and once on a machine. `meta.json` in it holds format, name, licence, units, landmark
scheme and the model's fingerprint, which is taken from there: hashing on every open would cost more than the map.
"""

import errno
import io
import json
import math
import mmap
import os
import secrets
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from geometry.model_checks import ModelFileError
from geometry.morphable_model import DenseModel, fingerprint_of

FORMAT = 1
SUFFIX = ".ffmodel.npz"
_KIND = "facefoundry morphable model"
_META = "meta.json"
_ALIGNMENT = 64
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # of a zip member (PKWARE's APPNOTE 4.3.7)
_EXTRA_HEADER = struct.Struct("<HH")
_PADDING_ID = 0xD935  # the extra field that Android's zipalign pads with; readers skip it
# What zipfile and NumPy raise for changed bytes, by where they lie.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    SyntaxError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    EOFError,
)
_FIELDS = {
    "mean": "<f4",
    "identity_basis": "<f4",
    "expression_basis": "<f4",
    "identity_stddevs": "<f8",
    "expression_stddevs": "<f8",
    "triangles": "<i4",
    "landmark_vertices": "<i4",
    "regions": "|u1",
    "closing_triangles": "<i4",
    "mirror": "<i4",
    "uv": "<f8",
}
_OPTIONAL = ("mirror", "uv")


def save_model(model: DenseModel, path: Path | str) -> Path:
    """Write `model` to `path` (named `*.ffmodel.npz`) in one step: a reader sees the whole file or none.

    The same model gives the same bytes. Raises ValueError for another suffix or for arrays of other types.
    """
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise ValueError(f"{path.name}: a converted model is named *{SUFFIX}, so that every reader knows it")
    arrays = {name: value for name in _FIELDS if (value := getattr(model, name)) is not None}
    for name, array in arrays.items():
        if array.dtype != np.dtype(_FIELDS[name]):
            raise ValueError(f"{name} is {array.dtype} and the file keeps {_FIELDS[name]}: convert it first")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                _write_member(archive, file, _META, _meta(model), b"")
                for name, array in arrays.items():
                    _write_member(archive, file, f"{name}.npy", *_encoded(array))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return path


def open_model(path: Path | str, *, verify: bool = False) -> DenseModel:
    """Map a file written by :func:`save_model`; `verify` reads all of it and compares the fingerprint.

    Raises ModelFileError when the file is cut short, damaged, of a newer format, or not such a file.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = {member.filename: member for member in archive.infolist()}
                if len(members) < len(archive.infolist()):
                    raise ModelFileError(
                        f"{path.name} holds two members of one name: it is damaged; import the model again"
                    )
                meta = _checked_meta(path, archive, members)
        except ModelFileError:
            raise
        except (*_BROKEN, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a place before the file's beginning
                raise
            raise ModelFileError(
                f"{path.name} is not a whole model file ({error}): its {path.stat().st_size:,} bytes are cut short or "
                "damaged; import the model again"
            ) from error
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
    arrays: dict[str, Any] = {name: _mapped_member(path, mapped, members.get(f"{name}.npy"), name) for name in _FIELDS}
    try:
        model = DenseModel(name=meta["name"], licence=meta["licence"], **arrays)
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"{path.name} is damaged ({error}); import the model again") from error
    if verify:
        _verify(path, model, meta["fingerprint"])
    # Where functools.cached_property keeps what it computed.
    object.__setattr__(model, "fingerprint", meta["fingerprint"])
    return model


def is_archive(path: Path | str) -> bool:
    """Whether a file is one of ours, whole or not, by its first member."""
    with Path(path).open("rb") as file:
        head = file.read(_LOCAL_HEADER.size + len(_META))
    return head.startswith(b"PK\x03\x04") and head.endswith(_META.encode())


# ---------------------------------------------------------------- writing


def _meta(model: DenseModel) -> bytes:
    meta = {
        "kind": _KIND,
        "format": FORMAT,
        "name": model.name,
        "licence": model.licence,
        "units": "mm",
        "axes": "x right, y up, z toward the viewer",
        "landmarks": "iBUG 68",
        "fingerprint": model.fingerprint,
    }
    return json.dumps(meta, indent=1, ensure_ascii=False).encode()


def _encoded(array: np.ndarray) -> tuple[bytes, memoryview]:
    """The `.npy` header (its length is a multiple of 64) and the bytes."""
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue(), array.reshape(-1).view(np.uint8).data


def _write_member(archive: zipfile.ZipFile, file: BinaryIO, name: str, header: bytes, data: bytes | memoryview) -> None:
    """Append one member, stored as it is, its content on a 64-byte boundary and nothing of the clock in it."""
    member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    member.create_system, member.external_attr = 3, 0o644 << 16
    member.file_size = len(header) + len(data)
    start = file.tell() + _LOCAL_HEADER.size + len(name.encode()) + _EXTRA_HEADER.size
    padding = -start % _ALIGNMENT
    member.extra = _EXTRA_HEADER.pack(_PADDING_ID, padding) + bytes(padding)
    with archive.open(member, "w") as stream:
        stream.write(header)
        stream.write(data)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- reading


def _checked_meta(path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> dict[str, Any]:
    if _META not in members:
        raise ModelFileError(f"{path.name} has no {_META}: it is not a file that `facefoundry model import` wrote")
    try:
        meta = json.loads(archive.read(_META))
        kind, version = meta["kind"], meta["format"]
        wanted = {key: meta[key] for key in ("name", "licence", "fingerprint")}
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path.name}: {_META} is damaged ({error!r}); import the model again") from error
    if kind != _KIND:
        raise ModelFileError(f"{path.name} says that it is a {kind!r}, not a {_KIND!r}")
    if version != FORMAT:
        raise ModelFileError(
            f"{path.name} has format {version} and this version of facefoundry reads {FORMAT}: update facefoundry, or "
            "import the model again"
        )
    return wanted


def _mapped_member(path: Path, mapped: np.ndarray, member: zipfile.ZipInfo | None, name: str) -> np.ndarray | None:
    """A read-only view into the map, after checking the member's place, size, type and shape against the file."""
    if member is None:
        if name in _OPTIONAL:
            return None
        raise ModelFileError(f"{path.name} lacks {name}: it is damaged; import the model again")
    header_end = member.header_offset + _LOCAL_HEADER.size
    if member.compress_type != zipfile.ZIP_STORED or header_end > len(mapped):
        raise ModelFileError(f"{path.name}: {name} is compressed or outside the file, so it cannot be mapped")
    *_, name_length, extra_length = _LOCAL_HEADER.unpack(mapped[member.header_offset : header_end].tobytes())
    start = header_end + name_length + extra_length
    content = mapped[start : start + member.file_size]
    head = io.BytesIO(content[:4096].tobytes())
    try:
        if np.lib.format.read_magic(head) != (1, 0):
            raise ValueError("another version of the .npy format")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(head)
    except _BROKEN as error:
        raise ModelFileError(f"{path.name}: {name} is not an array ({error}); import the model again") from error
    if dtype != np.dtype(_FIELDS[name]) or fortran_order:
        raise ModelFileError(f"{path.name}: {name} holds {dtype}, where the format has {_FIELDS[name]}; refused")
    data = content[head.tell() :]
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ModelFileError(
            f"{path.name}: {name} should be {shape} of {dtype} but has {len(data):,} bytes: the file is cut short or "
            "damaged; import the model again"
        )
    return data.view(dtype).reshape(shape)


def _verify(path: Path, model: DenseModel, stored: str) -> None:
    actual = fingerprint_of(tuple(getattr(model, name) for name in _FIELDS))
    if actual != stored:
        raise ModelFileError(
            f"{path.name}: its content has fingerprint {actual} but it was written with {stored}: "
            "the file was changed or damaged; import the model again"
        )

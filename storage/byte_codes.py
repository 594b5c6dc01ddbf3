"""Codes of variable length: JPEG pictures and whole files, each in the room that the schema gives it.

Zarr's chunks have one shape, so what is stored is u8: four bytes of length (little-endian), the bytes, zeros. The
zeros compress to nothing. What is longer than its room is refused, never cut.
"""

from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt8
from pydantic import BaseModel, Field

from storage.bad_sample import BadSample
from storage.zarr_format import DamagedBytes

LENGTH_BYTES = 4


def packed(content: bytes, room_bytes: int) -> UInt8[np.ndarray, " b"]:
    """`content` with its length before it and zeros behind. Raises BadSample when it has more than `room_bytes`."""
    if len(content) > room_bytes:
        raise BadSample(
            "target.bytes", f"{len(content)} bytes do not fit into the {room_bytes} that the plan has room for"
        )
    stored = np.zeros(LENGTH_BYTES + room_bytes, dtype=np.uint8)
    stored[:LENGTH_BYTES] = np.frombuffer(len(content).to_bytes(LENGTH_BYTES, "little"), dtype=np.uint8)
    stored[LENGTH_BYTES : LENGTH_BYTES + len(content)] = np.frombuffer(content, dtype=np.uint8)
    return stored


def unpacked(stored: UInt8[np.ndarray, " b"]) -> UInt8[np.ndarray, " n"]:
    """The content, as a view. Raises DamagedBytes for a length that is more than there is."""
    length = int.from_bytes(stored[:LENGTH_BYTES].tobytes(), "little")
    if length > len(stored) - LENGTH_BYTES:
        raise DamagedBytes(f"says that {length} bytes follow where there is room for {len(stored) - LENGTH_BYTES}")
    return stored[LENGTH_BYTES : LENGTH_BYTES + length]


class FileBytes(BaseModel, frozen=True, extra="forbid"):
    """A file, byte for byte."""

    kind: Literal["file_bytes"] = "file_bytes"
    max_bytes: int = Field(ge=1, le=1 << 30)

    def stored(self, dtype: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape on disk of one sample of the given dtype and shape."""
        if dtype != "bytes" or shape:
            raise ValueError(f"the file_bytes code holds one file a sample, not {dtype} of shape {shape}")
        return "uint8", (LENGTH_BYTES + self.max_bytes,)

    def encode(self, values: Shaped[np.ndarray, ""]) -> UInt8[np.ndarray, " b"]:
        """One file (shape (), of Python's bytes). Raises BadSample when it is longer than its room."""
        return packed(values.item(), self.max_bytes)

    def decode(self, stored: UInt8[np.ndarray, "n b"]) -> Shaped[np.ndarray, " n"]:
        """The files as an array of Python's bytes."""
        files = np.empty(len(stored), dtype=object)
        for place, row in enumerate(stored):
            files[place] = unpacked(row).tobytes()
        return files


class Jpeg(BaseModel, frozen=True, extra="forbid"):
    """RGB pictures, channels first in memory, as baseline JPEG files; colour at half resolution, as most files have it.

    Each has room for as many bytes as its pixels have. How much is lost depends on the picture: a build measures it.
    Decoders may differ by a grey level.
    """

    kind: Literal["jpeg"] = "jpeg"
    quality: int = Field(ge=1, le=100)
    size_hw: tuple[int, int]

    @property
    def max_bytes(self) -> int:
        """The longest file that has room."""
        return self.size_hw[0] * self.size_hw[1] * 3

    def stored(self, dtype: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape on disk of one sample of the given dtype and shape."""
        if dtype != "uint8" or shape != (*self.size_hw, 3):
            raise ValueError(f"this jpeg code holds uint8 of shape {(*self.size_hw, 3)}, not {dtype} of shape {shape}")
        return "uint8", (LENGTH_BYTES + self.max_bytes,)

    def encode(self, values: UInt8[np.ndarray, "3 h w"]) -> UInt8[np.ndarray, " b"]:
        """One picture. Raises BadSample where its JPEG would be longer than its pixels."""
        from storage.jpeg import encode_jpeg  # here, because a schema needs no OpenCV

        picture = np.ascontiguousarray(np.moveaxis(values, 0, -1))
        return packed(encode_jpeg(picture, self.quality), self.max_bytes)

    def decode(self, stored: UInt8[np.ndarray, "n b"]) -> UInt8[np.ndarray, "n 3 h w"]:
        """The pictures. Raises DamagedBytes."""
        values = np.empty((len(stored), 3, *self.size_hw), dtype=np.uint8)
        for row, picture in zip(stored, values, strict=True):
            self.decode_into(row, picture)
        return values

    def decode_into(self, stored: UInt8[np.ndarray, " b"], values: UInt8[np.ndarray, "3 h w"]) -> None:
        """Write one picture into `values`. Raises DamagedBytes."""
        import cv2

        content = unpacked(stored)
        picture = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) if content.size else None
        if picture is None or picture.shape[:2] != self.size_hw:
            raise DamagedBytes(f"holds {content.size} bytes that are no JPEG of {self.size_hw[1]} × {self.size_hw[0]}")
        cv2.split(picture, list(values))

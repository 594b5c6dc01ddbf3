"""`.mat` files byte by byte, as no writer would write them."""

import io
import struct
import zlib
from collections.abc import Mapping

import scipy.io


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

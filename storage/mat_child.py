"""The child process that opens MATLAB files of unknown origin: ``python -m storage.mat_child``.

SciPy's reader is not hardened (its own words): a crafted file of ten kilobytes ends the process, and lies about a
file's length are taken for its end. So annotation files are parsed here, in a process that has limits on memory and
time and nothing to lose, by a reader that knows just what annotation files are made of: MATLAB 5, two-dimensional real
numeric arrays of a few known names, compressed or not. It is plain Python over `zlib` and `struct`, checks every length
before it is used, never inflates more than it was promised, and skips variables of other names unread. SciPy's reader
is its reference in the tests.

A request on stdin is (u32 length, bytes of a file), an answer on stdout (u32 length, payload), in the same order. The
child ends with its parent: when stdin does. It imports the standard library alone, so that it starts in 30
milliseconds.

Source of the format: MathWorks, "MAT-File Format", R2019b, chapter 1.
"""

import os
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

KNOWN_NAMES = frozenset(
    ("pt2d", "pt3d_68", "roi", "Pose_Para", "Shape_Para", "Exp_Para", "Tex_Para", "Illum_Para", "Color_Para")
    + ("pts_2d", "pts_3d")  # the release's landmark files (storage.contour_landmarks)
)
MAX_FILE_BYTES = 4 << 20
"""A real file has about 4 kB; one with all of its arrays uncompressed about 8."""
MAX_ARRAY_BYTES = 64 << 10
"""Two thousand coefficients in float64 take 16 kB."""
MAX_VARIABLES = 1000
_INFLATE_LIMIT = MAX_ARRAY_BYTES + 1024  # with tags and a name; one byte more than announced is noticed

MEMORY_LIMIT_BYTES = 512 << 20
CPU_LIMIT_S = 10

READY = b"facefoundry mat child, protocol 1"

_TYPE_CODES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC_CLASSES = range(6, 16)  # double, single, int8 … uint64
_OTHER_CLASSES = {1: "a cell array", 2: "a struct", 3: "an object", 4: "text", 5: "a sparse matrix", 16: "a function"}
_OPAQUE = 17  # an object of a newer class: its header is built otherwise, and it is never one of ours
_COMPLEX = 0x0800
_FLAGS_TAG = (6, 8)  # two words of type uint32


class BadMat(Exception):
    """What is wrong with a file: a code for counting and a sentence."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code, sentence)
        self.code = code
        self.sentence = sentence


class RawArray(NamedTuple):
    """A real matrix as the file stores it: `data` column by column, in the byte order of `type_code`."""

    name: str
    type_code: str  # NumPy's, with byte order: "<f8"
    rows: int
    columns: int
    data: bytes


def parse(data: bytes) -> list[RawArray]:
    """The known variables of a MATLAB 5 file. Raises BadMat for anything that is not as it should be."""
    order = _byte_order(data)
    words = struct.Struct(order + "II")
    arrays: dict[str, RawArray] = {}
    position, n_variables = 128, 0
    while position < len(data):
        if len(data) - position < 8:
            raise BadMat("mat.truncated", f"the file ends at byte {len(data)}, within a variable's tag; copy it again")
        tag, length = words.unpack_from(data, position)
        start, position = position + 8, position + 8 + length
        if position > len(data):
            missing = position - len(data)
            raise BadMat("mat.truncated", f"a variable of {length} bytes lacks its last {missing}; copy the file again")
        n_variables += 1
        if n_variables > MAX_VARIABLES:
            raise BadMat("mat.too_large", f"more than {MAX_VARIABLES} variables; an annotation file has about nine")
        if tag == _COMPRESSED:
            array = _compressed_matrix(data[start:position], order, words)
        elif tag == _MATRIX:
            array = _matrix(data[start:position], order, words, length)
        else:
            raise BadMat("mat.corrupt", f"an element of type {tag} stands where a variable should; copy the file again")
        if array is None:
            continue
        if array.name in arrays:
            raise BadMat("mat.duplicate_key", f"{array.name} stands in the file twice; which one is meant is unknown")
        arrays[array.name] = array
    return list(arrays.values())


def _byte_order(data: bytes) -> str:
    """ "<" or ">" of a MATLAB 5 file; everything else is refused by its right name."""
    if not data:
        raise BadMat("mat.empty", "the file is empty; copy it again")
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data[512:520] == b"\x89HDF\r\n\x1a\n" or data[:19] == b"MATLAB 7.3 MAT-file":
        raise BadMat("mat.v73", "a MATLAB 7.3 (HDF5) file is not read; save it again with save(…, '-v7')")
    if len(data) < 128:
        if data[:10] == b"MATLAB 5.0":
            raise BadMat("mat.truncated", f"the file ends after {len(data)} bytes, within its header; copy it again")
        raise BadMat("mat.not_matlab", f"{len(data)} bytes that are no MATLAB file, beginning with {data[:16]!r}")
    mark = data[124:128]
    if mark == b"\x00\x01IM":
        return "<"
    if mark == b"\x01\x00MI":
        return ">"
    if mark in (b"\x00\x02IM", b"\x02\x00MI"):
        raise BadMat("mat.v73", "a MATLAB 7.3 (HDF5) file is not read; save it again with save(…, '-v7')")
    if _looks_like_version_4(data):
        raise BadMat("mat.v4", "a MATLAB 4 file is not read: it does not keep number types; save it again with '-v7'")
    raise BadMat("mat.not_matlab", f"this is no MATLAB 5 file; it begins with {data[:16]!r}")


def _looks_like_version_4(data: bytes) -> bool:
    for order in "<>":
        kind, rows, columns, is_complex, name_length = struct.unpack_from(order + "5i", data)
        if 0 <= kind < 5000 and rows > 0 and columns > 0 and is_complex in (0, 1) and 1 < name_length < 64:
            return True
    return False


def _compressed_matrix(compressed: bytes, order: str, words: struct.Struct) -> RawArray | None:
    """The array in a compressed element, None when its name is not ours; at most `_INFLATE_LIMIT` is inflated."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(compressed, _INFLATE_LIMIT)
    except zlib.error as error:
        raise BadMat("mat.corrupt", f"a compressed variable does not inflate ({error}); copy the file again") from None
    if len(content) < 8:
        raise BadMat("mat.truncated", "a compressed variable ends within its tag; copy the file again")
    tag, length = words.unpack_from(content)
    if tag != _MATRIX:
        raise BadMat("mat.corrupt", f"a compressed element holds type {tag} and not a variable; copy the file again")
    array = _matrix(content[8:], order, words, length)
    if array is None:
        return None
    if len(content) > 8 + length:
        raise BadMat("mat.too_large", f"{array.name} inflates to more than the {length} bytes it announces")
    if not stream.eof:  # the checksum, which stands at the end, has not been compared
        raise BadMat("mat.truncated", f"the compressed {array.name} has no end; copy the file again")
    return array


def _matrix(body: bytes, order: str, words: struct.Struct, announced: int) -> RawArray | None:
    """The array in `body`, of which `announced` bytes should be there; None when its name is not ours."""
    size = len(body)
    if size < 16 or words.unpack_from(body) != _FLAGS_TAG:
        raise BadMat("mat.corrupt", "a variable does not begin with its flags; copy the file again")
    flags, _ = words.unpack_from(body, 8)
    class_number = flags & 0xFF
    if class_number == _OPAQUE:
        return None
    dimensions_type, dimensions_length, dimensions_start = _subelement(body, 16, words)
    name_type, name_length, start = _subelement(body, dimensions_start + dimensions_length, words)
    name = body[start : start + name_length].decode("latin-1")
    if dimensions_type != 5 or name_type != 1 or len(name) < name_length:
        raise BadMat("mat.corrupt", "a variable has no dimensions or no name; copy the file again")
    if name not in KNOWN_NAMES:
        return None
    if class_number not in _NUMERIC_CLASSES:
        what = _OTHER_CLASSES.get(class_number, f"of class {class_number}")
        raise BadMat("mat.class", f"{name} is {what}, not a numeric array; save it as numbers")
    if flags & _COMPLEX:
        raise BadMat(
            "mat.complex", f"{name} is complex; its imaginary part has no meaning here and is not dropped silently"
        )
    if dimensions_length != 8:
        raise BadMat("mat.shape", f"{name} has {dimensions_length // 4} dimensions and not two")
    rows, columns = struct.unpack_from(order + "ii", body, dimensions_start)
    if rows < 0 or columns < 0:
        raise BadMat("mat.shape", f"{name} announces {rows}×{columns} numbers; copy the file again")
    if announced > MAX_ARRAY_BYTES or 8 * rows * columns > MAX_ARRAY_BYTES:
        raise BadMat(
            "mat.too_large", f"{name} announces {rows}×{columns} numbers; at most {MAX_ARRAY_BYTES} bytes are expected"
        )
    data_type, data_length, start = _subelement(body, start + name_length, words)
    code = _TYPE_CODES.get(data_type)
    if code is None:
        raise BadMat("mat.corrupt", f"{name} stores its numbers as type {data_type}, which is no number type")
    if data_length != rows * columns * int(code[1]):
        raise BadMat(
            "mat.corrupt", f"{name} is {rows}×{columns} but stores {data_length} bytes of {code}; copy the file again"
        )
    end = start + data_length
    if end > size or announced > size:
        raise BadMat("mat.truncated", f"{name} lacks its last {max(end, announced) - size} bytes; copy the file again")
    if announced > _aligned(end):
        raise BadMat("mat.corrupt", f"{name} is followed by bytes that belong to nothing; copy the file again")
    return RawArray(name, order + code, rows, columns, body[start:end])


def _subelement(body: bytes, position: int, words: struct.Struct) -> tuple[int, int, int]:
    """Type, length and start of the data element at or after `position`; type 0 when there is none.

    Elements begin at multiples of eight; one of at most four bytes may have type and length in one word and its bytes
    in the other.
    """
    position = _aligned(position)
    if position + 8 > len(body):
        return 0, 0, position
    kind, length = words.unpack_from(body, position)
    if kind < 0x10000:
        return kind, length, position + 8
    return (kind & 0xFFFF, kind >> 16, position + 4) if kind >> 16 <= 4 else (0, 0, position)


def _aligned(position: int) -> int:
    return (position + 7) & ~7


# --- the two ends of the pipe ---


def encode_answer(arrays: list[RawArray]) -> bytes:
    """Arrays as bytes: a count, then name, type, rows, columns and data of each, every length before its bytes."""
    parts = [struct.pack("<BB", 1, len(arrays))]
    for array in arrays:
        name = array.name.encode()
        parts.append(
            struct.pack("<B3sIII", len(name), array.type_code.encode(), array.rows, array.columns, len(array.data))
        )
        parts += [name, array.data]
    return b"".join(parts)


def encode_refusal(bad: BadMat) -> bytes:
    """A refusal as bytes."""
    code, sentence = bad.code.encode(), bad.sentence.encode()[:2000]
    return struct.pack("<BB", 0, len(code)) + code + sentence


def serve(requests: BinaryIO, answers: BinaryIO, parse_file: Callable[[bytes], list[RawArray]]) -> None:
    """Answer requests until there are no more."""
    limit_processor_time = _renewed_time_limit()
    answers.write(struct.pack("<I", len(READY)) + READY)
    answers.flush()
    while True:
        prefix = requests.read(4)
        if len(prefix) < 4:
            return
        (length,) = struct.unpack("<I", prefix)
        data = requests.read(length)
        if len(data) < length:
            return
        limit_processor_time()
        try:
            payload = encode_answer(parse_file(data))
        except BadMat as bad:
            payload = encode_refusal(bad)
        except MemoryError:
            payload = encode_refusal(
                BadMat("mat.memory", "reading it takes more memory than a file of this kind may need")
            )
        answers.write(struct.pack("<I", len(payload)) + payload)
        answers.flush()


def _renewed_time_limit() -> Callable[[], None]:
    """A function that grants `CPU_LIMIT_S` more seconds from now; the kernel counts from the process's start."""
    granted = -1

    def renew() -> None:
        nonlocal granted
        used = int(time.process_time())
        if used != granted:
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            wanted = used + CPU_LIMIT_S
            resource.setrlimit(
                resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
            )
            granted = used

    return renew


def limit_this_process() -> None:
    """No more memory than a file of this kind can need, no core dumps, no files written."""
    for what, limit in (
        (resource.RLIMIT_AS, MEMORY_LIMIT_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        _, hard = resource.getrlimit(what)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (limit, limit))


def main() -> None:
    """Serve the parent that holds the other ends of stdin and stdout."""
    limit_this_process()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else writes to stdout cannot reach the answers
    serve(sys.stdin.buffer, answers, parse)


if __name__ == "__main__":
    main()

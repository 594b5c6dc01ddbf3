"""Decoding pictures of unknown origin into u8 RGB, by rules that are written down.

* What a file is, its first bytes say, not its name: JPEG or PNG, nothing else.
* Size, kind and completeness are read from the header and the markers, before a decoder allocates anything.
* **Orientation.** Annotations count pixels as they are stored, so :func:`decode_image` ignores EXIF's orientation, as
  MATLAB did when they were made. A photograph without annotation is turned upright: :func:`decode_photograph`.
* Grey, palette and 1-bit pictures become RGB; 16 bits become 8 by round(v / 257), never by clipping.
* Transparency is refused unless every pixel is opaque: what lies beneath was not meant to be seen, and there is no true
  colour to put there. CMYK is refused: decoders disagree about it.
* Colour profiles, gamma and comments are ignored. Of a PNG only the chunks that hold the picture reach the decoder, so
  that none of the others can be inflated.

A JPEG that lost part of its data is found by walking its blocks (:mod:`storage.jpeg_scan`), since decoders fill what is
missing and say nothing: all that are cut short, and nine in ten with 300 bytes blanked. What keeps the number of blocks
(most single changed bytes), and lost data of progressive files, only the source's sha256 can tell.
"""

import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from storage.bad_sample import BadSample
from storage.jpeg_scan import check_scans

MAX_PIXELS = 16_000_000
MAX_IMAGE_FILE_BYTES = 64 << 20

_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_UPRIGHT = cv2.IMREAD_COLOR_RGB

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_FOREIGN = {
    b"GIF8": "GIF",
    b"%!PS": "PostScript",
    b"%PDF": "PDF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"\x00\x00\x00": "HEIC, AVIF or JPEG 2000",
}
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive: what every decoder reads alike
_ALL_FRAMES = tuple(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC))
_MAX_SEGMENTS = 1000
_MAX_SCANS = 100  # a progressive picture has about ten; each costs a pass over all of it

_PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"eXIf")
_TEXT_CHUNKS = (b"zTXt", b"iTXt", b"iCCP")
_MAX_CHUNKS = 100_000
_MAX_TEXT_BYTES = 64 << 10


def decode_image(data: bytes, *, expected_hw: tuple[int, int] | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a JPEG or PNG as they are stored, RGB, contiguous. Raises BadSample for anything but a whole one.

    `expected_hw` is the size that it must have: 450 × 450 for 300W-LP, whose annotations mean nothing in another one.
    """
    return _decode(data, _STORED, expected_hw)


def decode_image_again(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The same pixels of a picture that :func:`decode_image` has taken, whose bytes are known not to have changed.

    Its data are not looked through for lost content once more, which takes half as long as decoding.
    """
    return _decode(data, _STORED, None, is_known_whole=True)


def decode_photograph(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The same, turned upright as EXIF's orientation says: for photographs that nobody has annotated yet."""
    return _decode(data, _UPRIGHT, None)


def stored_size(data: bytes) -> tuple[int, int]:
    """(height, width) of a JPEG or PNG as it is stored, from its header alone. Raises BadSample."""
    if data.startswith(_JPEG):
        header = _jpeg_header(data)
    elif data.startswith(_PNG):
        header, _ = _png_picture(data)
    else:
        raise _not_a_picture(data)
    return header.height, header.width


@dataclass(frozen=True, slots=True)
class _Header:
    height: int
    width: int
    bits: int = 8
    has_alpha: bool = False


def _decode(
    data: bytes, flags: int, expected_hw: tuple[int, int] | None, *, is_known_whole: bool = False
) -> UInt8[np.ndarray, "h w 3"]:
    if len(data) > MAX_IMAGE_FILE_BYTES:
        raise BadSample(
            "image.too_large", f"the picture's file has {len(data)} bytes; at most {MAX_IMAGE_FILE_BYTES} are read"
        )
    if data.startswith(_JPEG):
        header = _jpeg_header(data)
    elif data.startswith(_PNG):
        header, data = _png_picture(data)
    else:
        raise _not_a_picture(data)
    height, width = header.height, header.width
    if height * width > MAX_PIXELS:
        raise BadSample(
            "image.too_large", f"the picture has {width}×{height} pixels; more than {MAX_PIXELS} are not decoded"
        )
    if expected_hw is not None and (height, width) != expected_hw:
        raise BadSample(
            "image.size",
            f"the picture is {width}×{height} where {expected_hw[1]}×{expected_hw[0]} is expected: its annotation "
            "counts pixels of that size; take the release's own file",
        )
    if data.startswith(_JPEG) and not is_known_whole:
        check_scans(data)
    if header.has_alpha:
        alpha = _imdecode(data, cv2.IMREAD_UNCHANGED)[..., 3]
        if alpha.min() != np.iinfo(alpha.dtype).max:
            raise BadSample(
                "image.alpha", "the picture is transparent in places; save it opaque, over the colour that is meant"
            )
    pixels = _imdecode(data, flags | (cv2.IMREAD_ANYDEPTH if header.bits == 16 else 0))
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if sorted(pixels.shape[:2]) != sorted((height, width)) or pixels.shape[2:] != (3,) or pixels.dtype != np.uint8:
        raise BadSample(
            "image.corrupt",
            f"the picture decodes to {pixels.shape} {pixels.dtype}, not to the {width}×{height} of its header",
        )
    return np.ascontiguousarray(pixels)


def _imdecode(data: bytes, flags: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BadSample("image.corrupt", f"the picture does not decode ({error.err}); copy the file again") from None
    if pixels is None:
        raise BadSample("image.corrupt", "the picture does not decode; copy the file again")
    return pixels


def _not_a_picture(data: bytes) -> BadSample:
    if not data:
        return BadSample("image.empty", "the picture's file is empty; copy it again")
    for magic, name in _FOREIGN.items():
        if data.startswith(magic):
            return BadSample(
                "image.format", f"the file holds {name}, whatever its name says; only JPEG and PNG are read"
            )
    return BadSample(
        "image.not_image", f"the file holds no picture but {data[:24]!r}…; a failed download? fetch it again"
    )


def _jpeg_header(data: bytes) -> _Header:
    """Size from the frame header, and that the data have an end. Raises BadSample.

    Within a scan's data no 0xFF is followed by 0xD9 but in the end marker itself, so looking for it after the first
    scan's beginning is exact: a file cut short has none. Decoders fill what is missing with grey and, some of them, say
    nothing.
    """
    header, position = None, 2
    for _ in range(_MAX_SEGMENTS):
        while data[position : position + 2] == b"\xff\xff":  # fill bytes
            position += 1
        if position + 4 > len(data) or data[position] != 0xFF:
            raise BadSample("image.truncated", f"the JPEG's header breaks off at byte {position}; copy the file again")
        marker = data[position + 1]
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker == 0xDA:
            break
        if marker in _ALL_FRAMES:
            header = _jpeg_frame(data, position, marker)
        position += 2 + length
    else:
        raise BadSample("image.corrupt", f"the JPEG has more than {_MAX_SEGMENTS} segments before its picture")
    if header is None:
        raise BadSample("image.corrupt", "the JPEG has no frame header before its picture; copy the file again")
    if not data.endswith(b"\xff\xd9") and data.find(b"\xff\xd9", position) < 0:
        raise BadSample("image.truncated", f"the JPEG's {len(data)} bytes have no end marker; copy the file again")
    if data.count(b"\xff\xda", position) > _MAX_SCANS:
        raise BadSample(
            "image.too_large", f"the JPEG has more than {_MAX_SCANS} scans; save it again as a baseline JPEG"
        )
    return header


def _jpeg_frame(data: bytes, position: int, marker: int) -> _Header:
    if position + 10 > len(data):
        raise BadSample("image.truncated", "the JPEG ends within its frame header; copy the file again")
    bits, height, width, n_components = struct.unpack_from(">BHHB", data, position + 4)
    if n_components == 4:
        raise BadSample("image.cmyk", "the JPEG is CMYK, which decoders turn into different colours; save it as RGB")
    if marker not in _HUFFMAN_FRAMES or bits != 8 or n_components not in (1, 3):
        raise BadSample(
            "image.format",
            f"a JPEG of kind 0xFF{marker:02X} with {n_components} components of {bits} bits is not read by "
            "every decoder; save it as a baseline JPEG",
        )
    if not height or not width:
        raise BadSample("image.size", f"the JPEG announces {width}×{height} pixels")
    return _Header(height, width)


def _png_picture(data: bytes) -> tuple[_Header, bytes]:
    """Size and kind of a PNG, and the file reduced to the chunks that hold the picture. Raises BadSample."""
    kept, position, header = [_PNG], len(_PNG), None
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(data):
            raise BadSample(
                "image.truncated", f"the PNG ends after {len(data)} bytes without its last chunk; copy the file again"
            )
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise BadSample("image.truncated", f"the PNG lacks its last {end - len(data)} bytes; copy the file again")
        chunk = data[position:end]
        if header is None:
            header = _png_header(name, chunk)
        if name == b"tRNS":
            raise BadSample(
                "image.alpha", "the PNG has a transparent colour; save it opaque, over the colour that is meant"
            )
        if name in _TEXT_CHUNKS and length > _MAX_TEXT_BYTES:
            raise BadSample(
                "image.corrupt", f"the PNG carries {length} bytes of compressed text or profile; save it without"
            )
        if name in _PICTURE_CHUNKS:
            if zlib.crc32(chunk[4:-4]) != struct.unpack_from(">I", chunk, len(chunk) - 4)[0]:
                raise BadSample(
                    "image.corrupt", f"the PNG's {name.decode()} does not match its checksum; copy the file again"
                )
            kept.append(chunk)
        position = end
        if name == b"IEND":
            return header, b"".join(kept)
    raise BadSample("image.corrupt", f"the PNG has more than {_MAX_CHUNKS} chunks")


def _png_header(name: bytes, chunk: bytes) -> _Header:
    if name != b"IHDR" or len(chunk) != 25:
        raise BadSample("image.corrupt", f"the PNG begins with {name!r} and not with its header; copy the file again")
    width, height, bits, color_type = struct.unpack_from(">IIBB", chunk, 8)
    if not height or not width:
        raise BadSample("image.size", f"the PNG announces {width}×{height} pixels")
    return _Header(height, width, bits, has_alpha=color_type in (4, 6))

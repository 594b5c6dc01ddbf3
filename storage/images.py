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

A JPEG that lost part of its data is refused. Decoders fill what is missing, and most keep to themselves that they did;
simplejpeg passes on what libjpeg-turbo noticed: all that are cut short; of those with 300 bytes blanked nine in ten, or
three in four of progressive ones. What keeps the number of blocks (most single changed bytes) only the source's sha256
can tell.
"""

import math
import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8

from storage.bad_sample import BadSample

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

_NOT_OF_THE_DATA = ("JFIF revision", "color transform", "subsampling")
"""Complaints of simplejpeg about headers that others read: such pictures are OpenCV's, and lost data in them unnoticed."""

_NO_MEMORY = "Insufficient memory"
"""What libjpeg says of the machine and not of the picture: progressive ones are kept whole before they are decoded."""

_PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"eXIf")
_TEXT_CHUNKS = (b"zTXt", b"iTXt", b"iCCP")
_MAX_CHUNKS = 100_000
_MAX_TEXT_BYTES = 64 << 10


class PictureRoom:
    """Memory that pictures are decoded into, one after another.

    A picture's worth of new memory comes from the system page by page, which takes half as long as decoding.
    """

    def __init__(self) -> None:
        self._bytes = np.empty(0, dtype=np.uint8)

    def of(self, shape: tuple[int, int, int]) -> UInt8[np.ndarray, "h w c"]:
        """The room for one picture, in place of the last one. What is in it is of no account."""
        n_bytes = math.prod(shape)
        if len(self._bytes) < n_bytes:
            self._bytes = np.empty(n_bytes, dtype=np.uint8)
        return self._bytes[:n_bytes].reshape(shape)


def decode_image(data: bytes, *, expected_hw: tuple[int, int] | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a JPEG or PNG as they are stored, RGB, contiguous. Raises BadSample for anything but a whole one.

    `expected_hw` is the size that it must have: 450 × 450 for 300W-LP, whose annotations mean nothing in another one.
    """
    header, data = _checked(data, expected_hw)
    return _png_pixels(data, header, _STORED) if data.startswith(_PNG) else _jpeg_pixels(data, header)


def decode_rgba(
    data: bytes, *, room: PictureRoom, expected_hw: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "h w 4"]:
    """The same pixels and an opaque fourth channel, which OpenCV warps in half the time, in `room`: until its next picture.

    Raises as :func:`decode_image`.
    """
    header, data = _checked(data, expected_hw)
    pixels = room.of((header.height, header.width, 4))
    if data.startswith(_JPEG):
        return _jpeg_pixels(data, header, pixels)
    return cv2.cvtColor(_png_pixels(data, header, _STORED), cv2.COLOR_RGB2RGBA, dst=pixels)


def decode_photograph(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The same, turned upright as EXIF's orientation says: for photographs that nobody has annotated yet."""
    header, data = _checked(data, None)
    if data.startswith(_PNG):
        return _png_pixels(data, header, _UPRIGHT)
    pixels = _jpeg_pixels(data, header)
    return _as_announced(_imdecode(data, _UPRIGHT), header) if b"Exif" in data else pixels


def stored_size(data: bytes) -> tuple[int, int]:
    """(height, width) of a JPEG or PNG as it is stored, from its header alone. Raises BadSample."""
    header, _ = _picture(data)
    return header.height, header.width


@dataclass(frozen=True, slots=True)
class _Header:
    height: int
    width: int
    bits: int = 8
    has_alpha: bool = False


def _checked(data: bytes, expected_hw: tuple[int, int] | None) -> tuple[_Header, bytes]:
    """Header and content of a picture that may be decoded, as far as can be told without decoding. Raises BadSample."""
    if len(data) > MAX_IMAGE_FILE_BYTES:
        raise BadSample(
            "image.too_large", f"the picture's file has {len(data)} bytes; at most {MAX_IMAGE_FILE_BYTES} are read"
        )
    header, data = _picture(data)
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
    return header, data


def _picture(data: bytes) -> tuple[_Header, bytes]:
    """Size and kind from the header, and the file as a decoder may see it. Raises BadSample."""
    if data.startswith(_JPEG):
        return _jpeg_header(data), data
    if data.startswith(_PNG):
        return _png_picture(data)
    raise _not_a_picture(data)


def _jpeg_pixels(
    data: bytes, header: _Header, out: UInt8[np.ndarray, "h w 4"] | None = None
) -> UInt8[np.ndarray, "h w c"]:
    """RGB, or with `out` RGBA in it. Raises BadSample where the decoder missed or skipped anything."""
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB" if out is None else "RGBA", buffer=out)
    except ValueError as error:
        said = str(error)
        if _NO_MEMORY in said:
            raise MemoryError(f"of a {header.width}×{header.height} JPEG: {said}") from None
        if not any(word in said for word in _NOT_OF_THE_DATA):
            code = "image.truncated" if "premature end" in said.lower() else "image.corrupt"
            raise BadSample(code, f"the JPEG's data were damaged ({said}); copy the file again") from None
        pixels = _imdecode(data, _STORED)
        pixels = pixels if out is None else cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA, dst=out)
    return _as_announced(pixels, header, n_channels=3 if out is None else 4)


def _png_pixels(data: bytes, header: _Header, flags: int) -> UInt8[np.ndarray, "h w 3"]:
    if header.has_alpha:
        alpha = _imdecode(data, cv2.IMREAD_UNCHANGED)[..., 3]
        if alpha.min() != np.iinfo(alpha.dtype).max:
            raise BadSample(
                "image.alpha", "the picture is transparent in places; save it opaque, over the colour that is meant"
            )
    pixels = _imdecode(data, flags | (cv2.IMREAD_ANYDEPTH if header.bits == 16 else 0))
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.ascontiguousarray(_as_announced(pixels, header))


def _as_announced(pixels: np.ndarray, header: _Header, *, n_channels: int = 3) -> np.ndarray:
    """The pixels, if they are as many as the header says. Raises BadSample."""
    height, width = header.height, header.width
    as_many = sorted(pixels.shape[:2]) == sorted((height, width)) and pixels.shape[2:] == (n_channels,)
    if not as_many or pixels.dtype != np.uint8:
        raise BadSample(
            "image.corrupt",
            f"the picture decodes to {pixels.shape} {pixels.dtype}, not to the {width}×{height} of its header",
        )
    return pixels


def _imdecode(data: bytes, flags: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from None
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

"""Pictures: cut off, turned, of other colours or formats, of too many pixels."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from tests.hardening.bad_inputs.lab import BAD_STEM, Lab
from tests.hardening.bad_inputs.rows import ROT, other, quarantined, read_right, rots_after_the_plan, the_same_picture
from tests.hardening.fuzz_targets import png_chunk


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
    rots_after_the_plan(lab, lab.afw / f"{BAD_STEM}.jpg")


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


@read_right(
    42, "PNG named `.jpg`", "the same sample but for the JPEG's rounding", promise="its first bytes count, not its name"
)
def _(lab: Lab) -> Callable[[dict, dict], None]:
    lab.put(jpeg=encoded(lab.good.pixels, "PNG"))

    def check(sample: dict, good: dict) -> None:
        assert np.abs(sample["image"].astype(int) - good["image"]).max() <= 4
        np.testing.assert_array_equal(sample["position_map"], good["position_map"])

    return check

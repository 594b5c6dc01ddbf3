"""Pictures: what is decoded, what is refused, and by which rule."""

import io
import resource
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from storage.bad_sample import BadSample
from storage.images import MAX_IMAGE_FILE_BYTES, PictureRoom, decode_image, decode_photograph, decode_rgba

ROWS, COLUMNS = np.mgrid[:300, :450]
PICTURE = np.stack([COLUMNS // 2, ROWS // 2, (COLUMNS + ROWS) // 4], axis=2).astype(np.uint8)  # lopsided on purpose


def encoded(pixels: np.ndarray | Image.Image = PICTURE, mode: str | None = None, **options: object) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(stream, **{"format": "JPEG", "quality": 95, **options})
    return stream.getvalue()


def png(pixels: np.ndarray | Image.Image = PICTURE, mode: str | None = None, **options: object) -> bytes:
    return encoded(pixels, mode, format="PNG", **options)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_by_hand(
    width: int, height: int, rows: bytes, *, bits: int = 8, color_type: int = 0, extra: bytes = b""
) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def turned_by_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # the picture's first row is its right-hand side
    return exif


# --- what is decoded ---


def test_a_jpeg_is_what_the_field_decodes():
    decoded = decode_image(encoded(), expected_hw=(300, 450))
    assert decoded.shape == (300, 450, 3)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    reference = np.asarray(Image.open(io.BytesIO(encoded())))
    assert np.abs(decoded.astype(int) - reference).max() <= 1
    assert np.abs(decoded.astype(int) - PICTURE).max() <= 4, "channels are red, green, blue"


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"optimize": True}])
def test_all_usual_jpegs_are_read(options):
    assert np.abs(decode_image(encoded(**options)).astype(int) - PICTURE).max() <= 4


def test_a_png_is_exact():
    np.testing.assert_array_equal(decode_image(png()), PICTURE)
    np.testing.assert_array_equal(decode_image(png(optimize=True)), PICTURE)


@pytest.mark.parametrize("mode", ["L", "1"])
@pytest.mark.parametrize("encode", [png, encoded])
def test_grey_becomes_rgb(mode, encode):
    if encode is encoded and mode == "1":
        mode = "L"
    decoded = decode_image(encode(mode=mode))
    grey = np.asarray(Image.fromarray(PICTURE).convert(mode).convert("L"))
    assert decoded.shape == (300, 450, 3)
    assert (decoded[..., 0] == decoded[..., 1]).all()
    assert (decoded[..., 1] == decoded[..., 2]).all()
    assert np.abs(decoded[..., 0].astype(int) - grey).max() <= 4


def test_a_palette_becomes_rgb():
    picture = Image.fromarray(PICTURE).convert("P")
    np.testing.assert_array_equal(decode_image(png(picture)), np.asarray(picture.convert("RGB")))


def test_sixteen_bits_are_scaled_and_not_clipped():
    values = (COLUMNS * 145).astype(np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    decoded = decode_image(png(Image.fromarray(values)))
    np.testing.assert_array_equal(decoded, np.repeat(expected[..., None], 3, axis=2))


def test_sixteen_bits_of_colour_keep_their_channels():
    values = np.stack([COLUMNS * 145, ROWS * 100, COLUMNS + ROWS], axis=2).astype(">u2")
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))
    decoded = decode_image(png_by_hand(450, 300, rows, bits=16, color_type=2))
    np.testing.assert_array_equal(decoded, np.rint(values / 257).astype(np.uint8))


def test_names_and_comments_do_not_matter():
    extra = chunk(b"tEXt", b"k\0words") + chunk(b"gAMA", struct.pack(">I", 10000)) + chunk(b"prIv", b"x")
    data = png()
    np.testing.assert_array_equal(decode_image(data[:33] + extra + data[33:]), PICTURE)
    jpeg = encoded(comment=b"\xff\xd9" * 100)
    np.testing.assert_array_equal(decode_image(jpeg), decode_image(encoded()))
    np.testing.assert_array_equal(decode_image(jpeg + b"junk after the end"), decode_image(jpeg))


def test_orientation_is_ignored_for_annotated_pictures_and_obeyed_for_photographs():
    for encode in (encoded, png):
        data = encode(exif=turned_by_exif())
        as_stored = decode_image(data, expected_hw=(300, 450))
        np.testing.assert_array_equal(as_stored, decode_image(encode()))
        np.testing.assert_array_equal(decode_photograph(data), np.rot90(as_stored, -1))


def test_an_opaque_alpha_channel_is_dropped():
    opaque = np.dstack([PICTURE, np.full((300, 450), 255, np.uint8)])
    np.testing.assert_array_equal(decode_image(png(opaque)), PICTURE)
    grey = np.asarray(Image.fromarray(PICTURE).convert("L"))
    np.testing.assert_array_equal(decode_image(png(Image.fromarray(opaque).convert("LA")))[..., 0], grey)


# --- data that were lost ---

NOISE = np.random.default_rng(4).integers(0, 256, (75, 133, 3), dtype=np.uint8).repeat(3, axis=0).repeat(3, axis=1)
JPEG_KINDS = [
    {"quality": 100}, {"quality": 40}, {"optimize": True}, {"subsampling": 0}, {"subsampling": 1}, {"mode": "L"},
    {"restart_marker_rows": 1}, {"restart_marker_blocks": 7}, {"quality": 75, "subsampling": 0, "optimize": True},
    {"progressive": True}, {"progressive": True, "mode": "L"},
]  # fmt: skip


@pytest.mark.parametrize("options", JPEG_KINDS)
def test_whole_jpegs_of_every_kind_and_odd_size_pass_and_halved_ones_do_not(options):
    for pixels in (NOISE, NOISE[:7, :5], NOISE[:1, :33], NOISE[:161, :16]):
        data = encoded(np.ascontiguousarray(pixels), **options)
        assert_as_opencv_decodes(data)
        middle = data.index(b"\xff\xda") + (len(data) - data.index(b"\xff\xda")) // 2
        if len(data) - middle > 100:
            with pytest.raises(BadSample) as caught:
                decode_image(data[:middle] + b"\xff\xd9")
            assert caught.value.code in ("image.truncated", "image.corrupt")


def assert_as_opencv_decodes(data: bytes) -> None:
    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    decoded, with_fourth = decode_image(data), decode_rgba(data, room=PictureRoom())
    np.testing.assert_array_equal(decoded, reference)
    np.testing.assert_array_equal(with_fourth, np.dstack([reference, np.full_like(reference[..., 0], 255)]))


def test_the_header_of_another_program_is_no_loss():
    data = encoded(NOISE)
    revision = data.index(b"JFIF\0") + 5
    assert_as_opencv_decodes(data[:revision] + b"\x03" + data[revision + 1 :])
    one_row = encoded(NOISE, subsampling=1)  # a unit of it has two blocks of the first component, one of the others
    first, second = (one_row.index(b"\xff\xc0") + place for place in (11, 14))
    swapped = bytearray(one_row)
    swapped[first], swapped[second] = one_row[second], one_row[first]
    assert_as_opencv_decodes(bytes(swapped))


def test_a_room_holds_one_picture_after_another():
    room = PictureRoom()
    for pixels in (PICTURE[:20, :30], PICTURE, PICTURE[:50]):
        pixels = np.ascontiguousarray(pixels)
        decoded = decode_rgba(png(pixels), room=room, expected_hw=pixels.shape[:2])
        assert np.shares_memory(decoded, room.of((1, 1, 1)))
        np.testing.assert_array_equal(decoded[..., :3], pixels)
    with pytest.raises(BadSample, match="450×300 where 7×7 is expected"):
        decode_rgba(encoded(), room=room, expected_hw=(7, 7))


def refusal(data: bytes) -> str | None:
    try:
        decode_image(data)
    except BadSample as bad:
        return bad.code
    return None


def test_most_losses_of_300_bytes_are_found_and_nothing_but_a_bad_sample_is_raised():
    rng = np.random.default_rng(5)
    found, tries = 0, 300
    for data in (encoded(NOISE, quality=75), encoded(NOISE, restart_marker_rows=2), encoded(NOISE, progressive=True)):
        first = data.index(b"\xff\xda") + 20
        for start in rng.integers(first, len(data) - 302, tries // 3):
            found += refusal(data[:start] + bytes(300) + data[start + 300 :]) is not None
    assert found >= 0.9 * tries


def test_a_header_of_any_content_is_read_or_refused():
    rng = np.random.default_rng(6)
    data = encoded(NOISE)
    for _ in range(1500):
        changed = bytearray(data)
        for place in rng.integers(2, 640, rng.integers(1, 4)):
            changed[place] = rng.integers(0, 256)
        cut = changed[: rng.integers(3, len(data))] if rng.random() < 0.3 else changed
        code = refusal(bytes(cut))
        assert code is None or code.startswith("image.")


# --- what is refused ---


def with_frame_size(data: bytes, height: int, width: int) -> bytes:
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def blanked(data: bytes, n_bytes: int) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(n_bytes) + data[middle + n_bytes :]


def flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 0xFF
    return bytes(changed)


def with_an_empty_scan(jpeg: bytes) -> bytes:
    """A scan of no components before the one that is there."""
    scan = jpeg.index(b"\xff\xda")
    return jpeg[:scan] + b"\xff\xda\x00\x06\x00\x00\x3f\x00" + jpeg[scan:]


def with_a_short_table(jpeg: bytes) -> bytes:
    """A Huffman table of which three bytes are there."""
    scan = jpeg.index(b"\xff\xda")
    return jpeg[:scan] + b"\xff\xc4\x00\x05\x00\x00\x01" + jpeg[scan:]


def bad_pictures() -> dict[str, tuple[bytes, str]]:
    jpeg, whole_png = encoded(), png()
    transparent = np.dstack([PICTURE, np.zeros((300, 450), np.uint8)])
    almost = np.dstack([PICTURE, np.full((300, 450), 255, np.uint8)])
    almost[299, 449, 3] = 254
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(jpeg[:3000]) + 2) + jpeg[:3000] + b"\xff\xd9"
    return {
        "half a JPEG": (jpeg[: len(jpeg) // 2], "image.truncated"),
        "a JPEG without its last bytes": (jpeg[:-10], "image.truncated"),
        "a JPEG padded with zeros": (jpeg[: len(jpeg) // 2] + bytes(len(jpeg) // 2), "image.truncated"),
        "half a JPEG with a whole thumbnail": (jpeg[:2] + thumbnail + jpeg[2 : len(jpeg) // 2], "image.truncated"),
        "half a JPEG with an end marker": (jpeg[: len(jpeg) // 2] + b"\xff\xd9", "image.truncated"),
        "a JPEG with 300 bytes blanked": (blanked(jpeg, 300), "image.truncated"),
        "a JPEG with 300 bytes left out": (jpeg[: len(jpeg) // 2] + jpeg[len(jpeg) // 2 + 300 :], "image.truncated"),
        "a JPEG with data to spare": (jpeg[:-2] + bytes(40) + jpeg[-2:], "image.corrupt"),
        "a JPEG's first bytes": (jpeg[:20], "image.truncated"),
        "a JPEG's header": (jpeg[: jpeg.index(b"\xff\xc0") + 6], "image.truncated"),
        "a JPEG without a frame": (b"\xff\xd8\xff\xda\x00\x08\x00\x00\x00\x00\x00\x00\xff\xd9", "image.corrupt"),
        "a JPEG of very many segments": (b"\xff\xd8" + b"\xff\xe0\x00\x02" * 5000, "image.corrupt"),
        "a JPEG of very many scans": (jpeg[:-2] + b"\xff\xda" * 200 + b"\xff\xd9", "image.too_large"),
        "a JPEG whose scan has no colours": (with_an_empty_scan(jpeg), "image.corrupt"),
        "a JPEG whose last table is cut short": (with_a_short_table(jpeg), "image.corrupt"),
        "an arithmetic JPEG": (jpeg.replace(b"\xff\xc0", b"\xff\xc9", 1), "image.format"),
        "CMYK": (encoded(mode="CMYK"), "image.cmyk"),
        "a JPEG of 64 MP": (with_frame_size(jpeg, 8000, 8000), "image.too_large"),
        "a JPEG of no height": (with_frame_size(jpeg, 0, 450), "image.size"),
        "half a PNG": (whole_png[: len(whole_png) // 2], "image.truncated"),
        "a PNG without its last chunk": (whole_png[:-12], "image.truncated"),
        "a byte flipped in a PNG": (flipped(whole_png), "image.corrupt"),
        "a PNG that ends early within": (png_by_hand(450, 300, zlib.compress(bytes(1000))), "image.corrupt"),
        "a PNG that does not begin with its header": (whole_png[:8] + whole_png[33:], "image.corrupt"),
        "a PNG of 400 MP": (png_by_hand(20000, 20000, b""), "image.too_large"),
        "a PNG with a large text": (
            png_by_hand(16, 16, zlib.compress(bytes(17 * 16)), extra=chunk(b"zTXt", b"k\0\0" + bytes(200_000))),
            "image.corrupt",
        ),
        "hidden colours": (png(transparent), "image.alpha"),
        "one pixel almost opaque": (png(almost), "image.alpha"),
        "a transparent palette entry": (png(Image.fromarray(PICTURE).convert("P"), transparency=0), "image.alpha"),
        "empty": (b"", "image.empty"),
        "a web page": (b"<html>rate limited</html>", "image.not_image"),
        "GIF": (encoded(mode="P", format="GIF"), "image.format"),
        "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n", "image.format"),
        "BMP": (encoded(format="BMP"), "image.format"),
        "TIFF": (encoded(format="TIFF"), "image.format"),
        "WebP": (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image.format"),
    }


@pytest.mark.parametrize("what", bad_pictures())
def test_a_bad_picture_is_refused_by_its_right_name(what):
    data, code = bad_pictures()[what]
    for decode in (decode_image, decode_photograph):
        with pytest.raises(BadSample) as caught:
            decode(data)
        assert caught.value.code == code, caught.value.sentence
        assert len(caught.value.sentence) > 20


@pytest.mark.parametrize("data", [encoded(PICTURE[:1, :1]), with_frame_size(encoded(), 300, 449), png(PICTURE[:299])])
def test_a_picture_of_another_size_is_refused(data):
    with pytest.raises(BadSample, match="where 450×300 is expected") as caught:
        decode_image(data, expected_hw=(300, 450))
    assert caught.value.code == "image.size"


def test_a_picture_turned_on_its_side_is_of_another_size():
    with pytest.raises(BadSample, match="300×450 where 450×300 is expected"):
        decode_image(encoded(np.ascontiguousarray(np.rot90(PICTURE))), expected_hw=(300, 450))


def test_bombs_are_refused_before_memory_is_taken():
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 << 20)) for _ in range(169)) + packer.flush()
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"A" * (40 << 20), 9))
    small = zlib.compress(bytes(17 * 16))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadSample, match="13000×13000"):
        decode_image(png_by_hand(13000, 13000, rows))
    assert decode_image(png_by_hand(16, 16, small, extra=text)).max() == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 << 10


def test_an_oversized_file_is_not_looked_at():
    with pytest.raises(BadSample, match="at most"):
        decode_image(encoded() + bytes(MAX_IMAGE_FILE_BYTES))

"""The compiled walk through a JPEG's blocks, against one that follows the standard bit by bit (ITU-T T.81, F.2.2)."""

import random

import cv2
import numpy as np
import pytest

from storage import jpeg_scan, jpeg_scan_kernel
from storage.bad_sample import BadSample

SETTINGS = {
    "usual": [],
    "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 3],
    "long codes and many 0xFF": [cv2.IMWRITE_JPEG_QUALITY, 100],
    "tables of its own": [cv2.IMWRITE_JPEG_QUALITY, 60, cv2.IMWRITE_JPEG_OPTIMIZE, 1],
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_walk_agrees_with_the_standard_on_whole_and_on_damaged_data(setting, monkeypatch):
    answers: list[int] = []
    walk = jpeg_scan_kernel.walk_scan

    def compared(data, start, codes, short_steps, blocks, n_units, restart_interval):
        found, position = walk(data, start, codes, short_steps, blocks, n_units, restart_interval)
        assert found == by_the_bit(bytes(data), start, codes, blocks, n_units, restart_interval)
        answers.append(found)
        return found, position

    monkeypatch.setattr(jpeg_scan_kernel, "walk_scan", compared)
    whole = picture(SETTINGS[setting])
    jpeg_scan.check_scans(whole)
    assert answers == [jpeg_scan_kernel.WHOLE]
    rng = random.Random(setting)
    for _ in range(120):
        try:
            jpeg_scan.check_scans(damaged(whole, rng))
        except BadSample:
            continue
    assert {jpeg_scan_kernel.WHOLE, jpeg_scan_kernel.ENDED_EARLY, jpeg_scan_kernel.TOO_LONG} <= set(answers)


def picture(settings: list[int]) -> bytes:
    """A lopsided picture of 41 × 27 pixels, half of it noise, as JPEG."""
    rng = np.random.default_rng(4)
    pixels = np.full((27, 41, 3), (30, 160, 90), np.uint8)
    pixels[5:, 17:] = rng.integers(0, 256, (22, 24, 3))
    return cv2.imencode(".jpg", pixels, settings)[1].tobytes()


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """A byte changed, some lost, some too many, or the end lost; the end marker stays."""
    content, end = bytearray(whole[:-2]), whole[-2:]
    first = content.find(b"\xff\xda") + 14
    place, length = rng.randrange(first, len(content)), rng.randrange(1, 9)
    match rng.randrange(4):
        case 0:
            content[place] = rng.randrange(256)
        case 1:
            del content[place : place + length]
        case 2:
            content[place:place] = rng.randbytes(length)
        case 3:
            del content[place:]
    return bytes(content) + end


def by_the_bit(data: bytes, start: int, codes: np.ndarray, blocks: np.ndarray, n_units: int, interval: int) -> int:
    """What :func:`storage.jpeg_scan_kernel.walk_scan` finds, one bit after another."""
    k = jpeg_scan_kernel
    bits, position = segment(data, start)
    for unit in range(n_units):
        if interval and unit and unit % interval == 0:
            if len(bits) // 8 > k.STRAY_BYTES:
                return k.TOO_LONG
            if data[position + 1 : position + 2] != bytes([0xD0 + (unit // interval - 1) % 8]):
                return k.WRONG_RESTART
            bits, position = segment(data, position + 2)
        for first, others in blocks:
            coefficient, table = 0, first
            while coefficient < 64:
                code = int(codes[table, int((bits + "0" * 16)[:16], 2)])
                if code == 0:
                    return k.ENDED_EARLY if len(bits) < 16 else k.NOT_A_CODE
                run, size = divmod(code & 0xFF, 16)
                if len(bits) < (code >> 8) + size:
                    return k.ENDED_EARLY
                bits = bits[(code >> 8) + size :]
                if coefficient == 0:
                    coefficient, table = 1, others
                elif size:
                    coefficient += run + 1
                    if coefficient > 64:
                        return k.NOT_A_CODE
                else:
                    coefficient = coefficient + 16 if run == 15 else 64
    return k.TOO_LONG if len(bits) // 8 > k.STRAY_BYTES else k.WHOLE


def segment(data: bytes, start: int) -> tuple[str, int]:
    """The bits up to the next marker, without stuffing, and where the marker stands."""
    found, position = [], start
    while data[position] != 0xFF or data[position + 1] == 0:
        found.append(f"{data[position]:08b}")
        position += 2 if data[position] == 0xFF else 1
    while data[position + 1] == 0xFF:  # fill bytes
        position += 1
    return "".join(found), position

"""Whether a JPEG's data hold the whole picture, which decoders do not say: they fill what is missing with grey.

The Huffman codes of every block are read and dropped (ITU-T T.81, F.2.2), which takes less than decoding. A file is
whole when the blocks end where the data do: data cut off, blanked or shifted give codes that do not exist, or too few
blocks, or too many. What is damaged and still gives the right number of blocks is not found, such as one changed byte.
Progressive files keep a block's data in several places and are not walked.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import UInt16, UInt32

from storage.bad_sample import BadSample

_BASELINE_FRAMES = (0xC0, 0xC1)
_FRAMES = tuple(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC))
_HUFFMAN_TABLES, _END, _SCAN, _RESTART_INTERVAL = 0xC4, 0xD9, 0xDA, 0xDD

Table = tuple[bytes, bytes]
"""A Huffman table as its file has it: how many codes have 1 … 16 bits, and their symbols."""


@dataclass(frozen=True, slots=True)
class _Frame:
    height: int
    width: int
    factors: dict[int, tuple[int, int]]
    """Sampling factors (across, down) by component."""


def check_scans(data: bytes) -> None:
    """Raise BadSample where a baseline JPEG's data hold fewer or more blocks than its picture, or no code.

    The header is assumed to be checked (:mod:`storage.images`). Files that are not baseline, or leave out their Huffman
    tables, pass.
    """
    try:
        _walk(data)
    except (struct.error, IndexError, KeyError, ZeroDivisionError):
        raise BadSample("image.corrupt", "the JPEG's segments contradict each other; copy the file again") from None


def _walk(data: bytes) -> None:
    frame, restart_interval, position = None, 0, 2
    tables: dict[int, Table] = {}
    seen: set[int] = set()
    while True:
        while data[position : position + 2] == b"\xff\xff":  # fill bytes
            position += 1
        marker = data[position + 1]
        if data[position] != 0xFF:
            raise BadSample("image.corrupt", f"the JPEG has no marker at byte {position}; copy the file again")
        if marker == _END:
            break
        (length,) = struct.unpack_from(">H", data, position + 2)
        content = data[position + 4 : position + 2 + length]
        position += 2 + length
        if marker in _FRAMES:
            if marker not in _BASELINE_FRAMES:
                return
            frame = _frame(content)
        elif marker == _HUFFMAN_TABLES:
            tables |= _tables(content)
        elif marker == _RESTART_INTERVAL:
            (restart_interval,) = struct.unpack(">H", content)
        elif marker == _SCAN:
            if frame is None:
                raise BadSample("image.corrupt", "the JPEG has no frame header before its picture")
            components = {content[1 + 2 * i]: content[2 + 2 * i] for i in range(content[0])}
            if not components:
                raise BadSample("image.corrupt", "a scan of the JPEG has no colours; copy the file again")
            if any({pair >> 4, 16 | pair & 15} - tables.keys() for pair in components.values()):
                return
            position = _walk_scan(data, position, frame, components, tables, restart_interval)
            seen |= components.keys()
    if frame is None or frame.factors.keys() - seen:
        raise _lost("some colours are not in it at all")


def _walk_scan(
    data: bytes,
    start: int,
    frame: _Frame,
    components: dict[int, int],
    tables: dict[int, Table],
    restart_interval: int,
) -> int:
    """The place of the marker behind the scan. Raises BadSample."""
    from storage import jpeg_scan_kernel as kernel  # here, because listing folders needs no compiler

    across, down = (max(factors) for factors in zip(*frame.factors.values(), strict=True))
    if len(components) == 1:  # a scan of its own: a unit is one block, and only those that the picture needs are there
        ((component, pair),) = components.items()
        own = frame.factors[component]
        n_units = _units(frame.width, own[0], across) * _units(frame.height, own[1], down)
        blocks = [pair]
    else:
        n_units = _units(frame.width, 1, across) * _units(frame.height, 1, down)
        blocks = [
            pair for name, pair in components.items() for _ in range(frame.factors[name][0] * frame.factors[name][1])
        ]
    names = sorted({name for pair in blocks for name in (pair >> 4, 16 | pair & 15)})
    tables_of_blocks = np.array([(names.index(pair >> 4), names.index(16 | pair & 15)) for pair in blocks], np.uint8)
    codes, steps = _codes(kernel.STEP_BITS, sum(name < 16 for name in names), *(tables[name] for name in names))
    found, position = kernel.walk_scan(
        np.frombuffer(data, np.uint8), start, codes, steps, tables_of_blocks, n_units, restart_interval
    )
    if found == kernel.ENDED_EARLY:
        raise BadSample("image.truncated", "the JPEG's data end before its picture does; copy the file again")
    if found != kernel.WHOLE:
        raise _lost("they hold more than the picture" if found == kernel.TOO_LONG else "they hold what is no code")
    return int(position)


def _units(pixels: int, factor: int, largest: int) -> int:
    own_pixels = -(-pixels * factor // largest)
    return -(-own_pixels // 8)


def _lost(how: str) -> BadSample:
    return BadSample("image.corrupt", f"the JPEG's data were damaged ({how}); copy the file again")


def _frame(content: bytes) -> _Frame:
    height, width, n_components = struct.unpack_from(">HHB", content, 1)
    factors = {content[6 + 3 * i]: divmod(content[7 + 3 * i], 16) for i in range(n_components)}
    if any(not 1 <= factor <= 4 for pair in factors.values() for factor in pair):
        raise BadSample("image.corrupt", "the JPEG's sampling factors are not between 1 and 4; copy the file again")
    return _Frame(height, width, factors)


def _tables(content: bytes) -> dict[int, Table]:
    tables = {}
    while content:
        counts = content[1:17]
        if len(counts) < 16:
            raise BadSample("image.corrupt", "a Huffman table of the JPEG is cut short; copy the file again")
        end = 17 + sum(counts)
        tables[content[0]] = (counts, content[17:end])
        content = content[end:]
    return tables


@lru_cache(maxsize=16)  # most files have the same four tables
def _codes(
    step_bits: int, n_first: int, *tables: Table
) -> tuple[UInt16[np.ndarray, "n 65536"], UInt32[np.ndarray, "n s"]]:
    """For every 16 bits the length × 256 + symbol of the code that they begin with, or 0 (T.81, annex C).

    Beside it the steps of :func:`storage.jpeg_scan_kernel.walk_scan`. The first `n_first` tables are those of blocks'
    first coefficients, of which each block has one.
    """
    codes = np.zeros((len(tables), 65536), np.uint16)
    for row, (counts, symbols) in zip(codes, tables, strict=True):
        lengths = np.repeat(np.arange(1, 17), list(counts))
        filled = 1 << (16 - lengths)
        if len(symbols) != len(lengths) or filled.sum() > 65536:
            raise BadSample("image.corrupt", "a Huffman table of the JPEG is damaged; copy the file again")
        entries = lengths * 256 + np.frombuffer(symbols, np.uint8)
        row[: filled.sum()] = np.repeat(entries, filled)
    steps = [_steps(row, step_bits, at_most=1 if i < n_first else step_bits) for i, row in enumerate(codes)]
    return codes, np.stack(steps)


def _steps(codes: UInt16[np.ndarray, "65536"], step_bits: int, *, at_most: int) -> UInt32[np.ndarray, " s"]:
    """What every `step_bits` bits hold in whole codes with their values, `at_most` so many."""
    windows = np.arange(1 << step_bits)
    bits, coefficients, ends = (np.zeros(len(windows), np.int64) for _ in range(3))
    for _ in range(at_most):
        code = codes[(windows << bits << (16 - step_bits)) & 0xFFFF].astype(np.int64)
        symbol = code & 0xFF
        length = (code >> 8) + (symbol & 15)
        fits = (code > 0) & (bits + length <= step_bits) & (ends == 0)
        bits += np.where(fits, length, 0)
        if at_most == 1:
            return np.where(fits, bits | 1 << 8, 0).astype(np.uint32)
        is_end = fits & (symbol & 15 == 0) & (symbol != 0xF0)
        ends |= is_end
        coefficients += np.where(fits & ~is_end, (symbol >> 4) + 1, 0)
    return (bits | coefficients << 8 | ends << 16).astype(np.uint32)

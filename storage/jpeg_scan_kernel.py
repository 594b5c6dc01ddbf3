"""The compiled loop of :mod:`storage.jpeg_scan`: Huffman codes read and dropped, one block after another."""

import typing

import numpy as np
from numba import njit

WHOLE, ENDED_EARLY, NOT_A_CODE, TOO_LONG, WRONG_RESTART = range(5)

STRAY_BYTES = 3
"""Bytes that may stand between the last block and the marker: some cameras fill up; lost blocks leave more."""

STEP_BITS = 12
"""So many bits are looked up at once, in tables that stay in the nearest cache: they hold two codes on average."""

ENDS_BLOCK = 1 << 16


@njit(cache=True, nogil=True)
@typing.no_type_check
def walk_scan(data, start, codes, steps, tables_of_blocks, n_units, restart_interval):
    """Walk `n_units` units (MCUs) from byte `start`: (one of the constants above, place of the marker behind).

    data uint8 (n,); codes uint16 (tables, 65536): for the next 16 bits a code's length × 256 + its symbol, 0 where
    there is none; steps uint32 (tables, 2^STEP_BITS): what the next bits hold in whole codes, each with the value behind
    it: their bits, coefficients × 256, and ENDS_BLOCK where the last one ends the block (0: not one whole code);
    tables_of_blocks uint8 (blocks of a unit, 2): for the first coefficient and for the others. Bits beyond a marker read
    as 0 and are counted as borrowed.
    """
    size = np.int64(data.shape[0])
    position = np.int64(start)
    bits, n_bits, borrowed = np.uint64(0), np.int64(0), np.int64(0)
    restarts = 0
    for unit in range(n_units):
        if restart_interval and unit and unit % restart_interval == 0:
            position, stray = _next_marker(data, position, (n_bits - borrowed) >> 3)
            if stray > STRAY_BYTES:
                return TOO_LONG, position
            if position + 1 >= size or data[np.uint64(position + 1)] != 0xD0 + restarts % 8:
                return WRONG_RESTART, position
            position += 2
            bits, n_bits, borrowed = np.uint64(0), np.int64(0), np.int64(0)
            restarts += 1
        for block in range(np.uint32(tables_of_blocks.shape[0])):
            table, others = tables_of_blocks[block, 0], tables_of_blocks[block, 1]
            k = 0
            while k < 64:
                if n_bits < 31 and position + 4 < size:  # four bytes at once, where none of them is 0xFF
                    at = np.uint64(position)
                    four = np.uint32(data[at]) << np.uint32(24) | np.uint32(data[at + np.uint64(1)]) << np.uint32(16)
                    four |= np.uint32(data[at + np.uint64(2)]) << np.uint32(8) | np.uint32(data[at + np.uint64(3)])
                    # a byte of `rest` is 0 where that byte is 0xFF; the lowest such byte borrows from its own top bit
                    rest = np.uint32(~four)
                    if (np.uint32(rest - np.uint32(0x01010101)) & four & np.uint32(0x80808080)) == 0:
                        bits = (bits << np.uint64(32)) | np.uint64(four)
                        n_bits += 32
                        position += 4
                while n_bits < 31:  # a code and what follows it
                    byte = np.uint64(0)
                    if position >= size:
                        borrowed += 8
                    elif data[np.uint64(position)] != 0xFF:
                        byte = np.uint64(data[np.uint64(position)])
                        position += 1
                    elif position + 1 < size and data[np.uint64(position + 1)] == 0:
                        byte = np.uint64(0xFF)
                        position += 2
                    else:
                        borrowed += 8
                    bits = (bits << np.uint64(8)) | byte
                    n_bits += 8
                step = steps[table, (bits >> np.uint64(n_bits - STEP_BITS)) & np.uint64((1 << STEP_BITS) - 1)]
                after = k + np.int64((step >> np.uint32(8)) & np.uint32(0xFF))
                if step != 0 and after + np.int64(step >> np.uint32(16)) <= 64:
                    n_bits -= np.int64(step & np.uint32(0xFF))
                    if n_bits < borrowed:
                        return ENDED_EARLY, position
                    if k == 0:
                        table = others
                    k = 64 if step & np.uint32(ENDS_BLOCK) else after
                    continue
                code = codes[table, (bits >> np.uint64(n_bits - 16)) & np.uint64(0xFFFF)]
                if code == 0:
                    return (ENDED_EARLY if n_bits - borrowed < 16 else NOT_A_CODE), position
                symbol = np.int64(code & 0xFF)
                n_bits -= np.int64(code >> 8) + (symbol & 15)
                if n_bits < borrowed:
                    return ENDED_EARLY, position
                if k == 0:
                    k, table = 1, others
                elif symbol & 15:
                    k += (symbol >> 4) + 1
                    if k > 64:
                        return NOT_A_CODE, position
                elif symbol == 0xF0:
                    k += 16
                else:  # the end of the block
                    k = 64
    position, stray = _next_marker(data, position, (n_bits - borrowed) >> 3)
    return (TOO_LONG if stray > STRAY_BYTES else WHOLE), position


@njit(cache=True, nogil=True)
@typing.no_type_check
def _next_marker(data, position, unread_bytes):
    """The place of the next marker, and how many bytes nobody read stand before it."""
    stray = unread_bytes
    while position + 1 < data.shape[0]:
        if data[np.uint64(position)] != 0xFF:
            stray += 1
        elif data[np.uint64(position + 1)] == 0:
            stray += 1
            position += 1
        elif data[np.uint64(position + 1)] != 0xFF:
            return position, stray
        position += 1
    return np.int64(data.shape[0]), stray

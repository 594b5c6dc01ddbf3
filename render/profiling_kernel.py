"""Compiled loops over the pixels of a turned picture."""

import typing

import numba as nb


@nb.njit(cache=True, nogil=True)
@typing.no_type_check
def mark_steps(shown, limit, steps):
    """steps[y, x] = 1 where a neighbour's place in `shown` (h w 2) lies farther than `limit` in x or y; returns how many."""
    height, width = steps.shape
    steps[:] = 0
    for y in range(height):
        for x in range(width):
            if x + 1 < width and (
                abs(shown[y, x + 1, 0] - shown[y, x, 0]) > limit or abs(shown[y, x + 1, 1] - shown[y, x, 1]) > limit
            ):
                steps[y, x] = 1
                steps[y, x + 1] = 1
            if y + 1 < height and (
                abs(shown[y + 1, x, 0] - shown[y, x, 0]) > limit or abs(shown[y + 1, x, 1] - shown[y, x, 1]) > limit
            ):
                steps[y, x] = 1
                steps[y + 1, x] = 1
    return steps.sum()


@nb.njit(cache=True, nogil=True)
@typing.no_type_check
def put_over(picture, painted):
    """picture ← picture · (1 − share) + colour, with `painted` (h w 4) = (share · colour, share); rounds and clips."""
    height, width = picture.shape[:2]
    for y in range(height):
        for x in range(width):
            share = painted[y, x, 3]
            if share > 0:
                for c in range(3):
                    value = picture[y, x, c] * (1 - share) + painted[y, x, c]
                    picture[y, x, c] = int(min(max(value, 0.0), 255.0) + 0.5)

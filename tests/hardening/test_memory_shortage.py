"""Where memory runs out, a picture is not called damaged, and a sample is not stored otherwise: the work is right or it stops."""

import os
import subprocess
import sys
from collections import Counter

import pytest

SHORT_OF_MEMORY = """
import os, random, resource, sys
import cv2
import numpy as np
from storage.images import PictureRoom, decode_image, decode_photograph, decode_rgba
from storage.zarr_format import ChunkFormat

rows, columns = np.mgrid[:450, :450]
picture = np.stack([columns // 2, rows // 2, (rows + columns) // 4], axis=2).astype(np.uint8)
picture += np.random.default_rng(0).integers(0, 4, picture.shape).astype(np.uint8)
jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
png = cv2.imencode(".png", picture)[1].tobytes()
deep_png = cv2.imencode(".png", picture.astype(np.uint16) * 257)[1].tobytes()
chunk = ChunkFormat("uint8", picture.shape, "zstd_bitshuffle")
WORKS = {
    "jpeg": lambda: decode_image(jpeg),
    "jpeg rgba": lambda: decode_rgba(jpeg, room=PictureRoom()),
    "png": lambda: decode_photograph(png),
    "16-bit png": lambda: decode_image(deep_png),
    "zstd": lambda: np.frombuffer(b"".join(chunk.encode(picture)), np.uint8),
}
work = WORKS[sys.argv[1]]
answers = os.dup(1)
os.dup2(2, 1)  # Blosc complains there
right = work()


def end_of(n_free):
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 20), resource.RLIM_INFINITY))
    taken = []
    for size in (8 << 20, 1 << 20, 1 << 16, 1 << 14):
        try:
            while True:
                taken.append(bytearray(size))
        except MemoryError:
            continue
    random.Random(n_free).shuffle(taken)
    while n_free > 0 and taken:
        n_free -= len(taken.pop())
    try:
        made = work()
    except BaseException as error:
        taken.clear()
        return type(error).__name__
    taken.clear()
    return "right" if np.array_equal(made, right) else "wrong"


for n_free in range(0, 12_000_000, 240_000):
    child = os.fork()
    if not child:
        os.write(answers, (end_of(n_free) + "\\n").encode())
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("work", ["jpeg", "jpeg rgba", "png", "16-bit png", "zstd"])
def test_with_little_memory_left_a_result_is_right_or_a_memory_error(work):
    ended = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, work],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "OFF"},
    )
    ends = Counter(ended.stdout.split())
    assert set(ends) == {"right", "MemoryError"}, (ends, ended.stderr)

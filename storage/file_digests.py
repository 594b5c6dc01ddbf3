"""The sha256 of many files, by several processes: of a source's 122,000 small files in a third of the time.

Threads would wait for each other's lock at each of the five system calls that a small file takes: two of them take as
long as one and half as much processor time again. So many files go to children, which import the standard library alone
and start in 50 milliseconds. A request is a line of JSON on stdin, the answer one on stdout. A child ends with its parent:
when stdin does.
"""

import hashlib
import json
import queue
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

from storage.bad_sample import BadSample
from storage.processes import usable_cores
from storage.regular_files import read_regular_file

LimitedFile = tuple[str, int]
"""A file's path, and how many bytes it may have."""
Digest = tuple[str, int]
"""A file's sha256 in hexadecimal, and its length."""

_AT_ONCE = 256
_FEW = 2048
"""Samples that are hashed before other processes have started."""
_MOST_PROCESSES = 4
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent
_PROGRAM = (
    f"import sys; sys.path[:] = [*sys.path[1:], {str(_PACKAGE_ROOT)!r}]; from storage.file_digests import main; main()"
)
_SAME_NAMES = f"utf8={sys.flags.utf8_mode}"
"""Files are to be called alike: -E forgets PYTHONUTF8, which may say otherwise than the locale."""
_COMMAND = (sys.executable, "-E", "-s", "-S", "-X", _SAME_NAMES, "-c", _PROGRAM)  # here, where paths may count from


def file_digests(
    samples: Sequence[Sequence[LimitedFile]], *, processes: int | None = None
) -> list[list[Digest] | BadSample]:
    """The digests of each sample's files, in order; of a sample with a file that may not be read, why.

    `processes` are by default one for each core, where that is worth it; one is this process. Raises OSError for a file
    that is missing or unreadable.
    """
    if processes is None:
        processes = min(usable_cores(), _MOST_PROCESSES) if len(samples) > _FEW else 1
    if processes == 1:
        return _digests(samples)
    children = queue.SimpleQueue[subprocess.Popen[bytes]]()

    def by_child(some: Sequence[Sequence[LimitedFile]]) -> list[list[Digest] | BadSample]:
        child = children.get()
        try:
            return _answer(child, some)
        finally:
            children.put(child)

    with ExitStack() as stack:
        for _ in range(processes):
            child = subprocess.Popen(
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,  # a Ctrl-C at the terminal is the parent's affair
            )
            children.put(stack.enter_context(child))
            stack.callback(_end, child)  # when all is there, or nobody wants it any more
        pool = stack.enter_context(ThreadPoolExecutor(processes))
        parts = [samples[start : start + _AT_ONCE] for start in range(0, len(samples), _AT_ONCE)]
        return [one for part in pool.map(by_child, parts) for one in part]


def _answer(child: subprocess.Popen[bytes], samples: Sequence[Sequence[LimitedFile]]) -> list[list[Digest] | BadSample]:
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(samples).encode() + b"\n")
        child.stdin.flush()
        answer = json.loads(child.stdout.readline())
    except (BrokenPipeError, ValueError):  # half a line, or none
        raise RuntimeError(
            "a process that hashes files was killed, perhaps for want of memory: start again what wanted it"
        ) from None
    if isinstance(answer, dict):
        raise OSError(answer["errno"], answer["problem"], answer["file"])
    return [BadSample(*one["bad"]) if isinstance(one, dict) else [(sha256, n) for sha256, n in one] for one in answer]


def _end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.kill()
    with suppress(BrokenPipeError):  # of what it had not read
        child.stdin.close()


def _digests(samples: Sequence[Sequence[LimitedFile]]) -> list[list[Digest] | BadSample]:
    found: list[list[Digest] | BadSample] = []
    for files in samples:
        try:
            contents = [read_regular_file(path, limit_bytes=limit_bytes) for path, limit_bytes in files]
        except BadSample as bad:
            found.append(bad)
            continue
        found.append([(hashlib.sha256(content).hexdigest(), len(content)) for content in contents])
    return found


def main() -> None:
    """Serve the parent that holds the other ends of stdin and stdout."""
    for line in sys.stdin.buffer:
        try:
            found = _digests(json.loads(line))
            answer: object = [{"bad": [one.code, one.sentence]} if isinstance(one, BadSample) else one for one in found]
        except OSError as error:
            answer = {"errno": error.errno, "problem": error.strerror, "file": error.filename}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()

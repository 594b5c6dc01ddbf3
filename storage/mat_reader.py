"""The parent's side of the child process that opens MATLAB files (:mod:`storage.mat_child`).

    with MatReader() as reader:
        reader.submit(files)            # bytes that the parent has read and hashed: what was hashed is what is parsed
        ...                             # decode pictures meanwhile
        variables = reader.results()    # one dict of arrays, or one BadSample, for every file, in order

The pipe carries lengths, names and raw numbers; nothing that comes out of it is ever executed, and the parent checks it
as it would check a file. A file that ends the child, or keeps it busy for too long, costs itself alone: the child is
replaced, and the file is named bad when it ends the second one too (the first may have been somebody else's doing).
"""

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np

from storage.bad_sample import BadSample
from storage.mat_child import KNOWN_NAMES, MAX_ARRAY_BYTES, MAX_FILE_BYTES, READY

Variables = dict[str, np.ndarray]
"""The known variables of a file, as stored: real matrices (rows, columns), read-only, native byte order."""

TIMEOUT_S = 10.0
_START_TIMEOUT_S = 60.0
_MAX_STARTS = 3  # in a row without a ready child: one may be killed, three have a common cause
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent
_COMMAND = (
    sys.executable,
    "-E",
    "-s",
    "-S",
    "-m",
    "storage.mat_child",
)  # the standard library alone: 30 ms instead of 300
_MAX_ANSWER_BYTES = len(KNOWN_NAMES) * (MAX_ARRAY_BYTES + 256) + 4096
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031  # Linux; elsewhere the pipe keeps its size


@dataclass(slots=True)
class _Request:
    place: int
    data: bytes
    failures: int = 0


@dataclass(slots=True)
class _Child:
    """A running child and what is under way to and from it."""

    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    answers: IO[bytes]
    complaints: IO[bytes]
    stop: Callable[[], object]
    ready: bool = False
    outgoing: deque[memoryview] = field(default_factory=deque)
    incoming: bytearray = field(default_factory=bytearray)


class MatReader:
    """Reads MATLAB annotation files in one long-lived child process. One reader belongs to one thread at a time."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S, command: Sequence[str] = _COMMAND) -> None:
        """`timeout_s` bounds the time without progress; `command` starts the child (tests have worse ones)."""
        self._timeout_s = timeout_s
        self._command = tuple(command)
        self._child: _Child | None = None
        self._failed_starts = 0
        self._owner = os.getpid()
        self._pending: deque[_Request] = deque()
        self._results: list[Variables | BadSample | None] = []

    def __enter__(self) -> "MatReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def child_pid(self) -> int | None:
        """The child's process id; None before the first file."""
        return self._child.process.pid if self._child else None

    def submit(self, files: Sequence[bytes]) -> None:
        """Hand over the bytes of files; returns as soon as the pipe has taken what it can."""
        self._after_fork()
        new = []
        for data in files:
            place = len(self._results)
            self._results.append(None)
            if len(data) > MAX_FILE_BYTES:
                sentence = (
                    f"{len(data)} bytes; an annotation file has about 4,000, and at most {MAX_FILE_BYTES} are read"
                )
                self._results[place] = BadSample("mat.too_large", sentence)
                continue
            new.append(_Request(place, data))
        if not new:
            return
        self._pending += new
        if self._child is None:
            self._start()  # sends all that is pending
        else:
            self._send(new)
        self._exchange(wait_s=0.0)

    def results(self) -> list[Variables | BadSample]:
        """Wait for all that was submitted since the last call; answers stand in the order of the files."""
        while self._pending:
            if not self._exchange(wait_s=self._timeout_s if self._child and self._child.ready else _START_TIMEOUT_S):
                self._replace_child("mat.timeout", f"reading it was not done after {self._timeout_s:g} s")
        answers = [answer for answer in self._results if answer is not None]
        self._results = []
        return answers

    def read_many(self, files: Sequence[bytes]) -> list[Variables | BadSample]:
        """`submit` and `results` in one."""
        self.submit(files)
        return self.results()

    def close(self) -> None:
        """End the child. What was submitted and not fetched is forgotten; the reader can be used again."""
        if self._child is not None:
            self._child.stop()
        self._child = None
        self._pending.clear()
        self._results = []

    @property
    def _running(self) -> _Child:
        assert self._child is not None, "files are pending, so a child was started"
        return self._child

    # --- the exchange ---

    def _send(self, requests: Sequence[_Request]) -> None:
        message = b"".join(part for r in requests for part in (struct.pack("<I", len(r.data)), r.data))
        self._running.outgoing.append(memoryview(message))

    def _exchange(self, *, wait_s: float) -> bool:
        """Move bytes both ways as long as that needs no waiting; False when nothing moved within `wait_s`."""
        moved = False
        while self._pending:
            child = self._running
            poll = select.poll()
            poll.register(child.answers, select.POLLIN)
            if child.outgoing:
                poll.register(child.requests, select.POLLOUT)
            events = dict(poll.poll(0 if moved else wait_s * 1000))
            if not events:
                return moved
            moved = True
            if events.get(child.requests.fileno()):
                self._write(child)
            if events.get(child.answers.fileno()) and not self._read(child):
                self._replace_child("mat.crash", "the process that read it ended")
        return moved

    def _write(self, child: _Child) -> None:
        try:
            written = os.write(child.requests.fileno(), child.outgoing[0])
        except BlockingIOError:
            return
        except BrokenPipeError:  # the child is gone; the other pipe says so too, after its last answers
            child.outgoing.clear()
            return
        rest = child.outgoing.popleft()[written:]
        if rest:
            child.outgoing.appendleft(rest)

    def _read(self, child: _Child) -> bool:
        """Take in answers; False when the child has ended, or does not answer as it should."""
        chunk = os.read(child.answers.fileno(), _PIPE_BYTES)
        if not chunk:
            return False
        child.incoming += chunk
        position, end = 0, len(child.incoming)
        while end - position >= 4:
            (length,) = struct.unpack_from("<I", child.incoming, position)
            if length > _MAX_ANSWER_BYTES:
                return False
            if end - position < 4 + length:
                break
            payload = bytes(memoryview(child.incoming)[position + 4 : position + 4 + length])
            position += 4 + length
            if not child.ready:
                if payload != READY:
                    return False
                child.ready = True
                self._failed_starts = 0
                continue
            if not self._pending:
                return False
            try:
                answer = _decode(payload)
            except (ValueError, IndexError, struct.error):
                return False
            self._results[self._pending.popleft().place] = answer
        del child.incoming[:position]
        return True

    # --- the child's life ---

    def _start(self) -> None:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=_PACKAGE_ROOT,
            process_group=0,  # a Ctrl-C at the terminal is the parent's affair
        )
        requests, answers, complaints = process.stdin, process.stdout, process.stderr
        assert requests is not None
        assert answers is not None
        assert complaints is not None
        for stream in (requests, answers):
            os.set_blocking(stream.fileno(), False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(stream.fileno(), _F_SETPIPE_SZ, _PIPE_BYTES)
        stop = weakref.finalize(self, _end, process, os.getpid())
        self._child = _Child(process, requests, answers, complaints, stop)
        self._send(self._pending)

    def _replace_child(self, code: str, what_happened: str) -> None:
        """After the child's end: blame the file it was at if that has ended two children, and send the rest again."""
        child, suspect = self._running, self._pending[0]
        os.set_blocking(child.complaints.fileno(), False)
        said = child.complaints.read() or b""
        child.stop()
        status = child.process.returncode
        if not child.ready:
            self._failed_starts += 1
            if self._failed_starts < _MAX_STARTS:  # killed from outside, perhaps for want of memory
                self._start()
                return
            self._failed_starts = 0
            self.close()
            raise RuntimeError(
                f"the process that reads annotation files does not start (exit status {status}, {_MAX_STARTS} attempts): "
                f"{' '.join(self._command)}\n{said.decode(errors='replace')[-2000:]}"
            )
        suspect.failures += 1
        if suspect.failures > 1:
            self._pending.popleft()
            sentence = f"{what_happened} (exit status {status}), twice; the file is damaged or hostile: "
            self._results[suspect.place] = BadSample(code, sentence + "copy it again, or remove it")
        self._child = None
        if self._pending:
            self._start()

    def _after_fork(self) -> None:
        if self._owner != os.getpid():  # the pipes are the other process's: two writers would mix their files
            self._child, self._pending, self._results = None, deque(), []
            self._owner = os.getpid()


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """Close the pipes, which ends a healthy child; end any other; leave no zombie."""
    if owner != os.getpid():
        return
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


def _decode(payload: bytes) -> Variables | BadSample:
    """An answer's arrays. Raises ValueError, IndexError or struct.error when it is not what the child would say."""
    if payload[0] == 0:
        code_end = 2 + payload[1]
        return BadSample(payload[2:code_end].decode("ascii"), payload[code_end:].decode(errors="replace"))
    variables = {}
    position = 2
    for _ in range(payload[1]):
        name_length, code, rows, columns, length = struct.unpack_from("<B3sIII", payload, position)
        position += 16
        name = payload[position : position + name_length].decode("ascii")
        position += name_length
        dtype = _DTYPES.get(code)
        if dtype is None or name not in KNOWN_NAMES or length != rows * columns * dtype.itemsize:
            raise ValueError("not an answer")
        array = np.frombuffer(payload, dtype, rows * columns, position).reshape((columns, rows)).T
        variables[name] = array if dtype.isnative else array.astype(dtype.newbyteorder("="))
        position += length
    if position != len(payload):
        raise ValueError("not an answer")
    return variables


_DTYPES = {
    f"{order}{code}".encode(): np.dtype(order + code)
    for order in "<>"
    for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
}


@lru_cache(maxsize=1)
def process_reader() -> MatReader:
    """The child that this process keeps for the shards it makes: it is handed many files at once."""
    return MatReader()


_shared: MatReader | None = None
_shared_lock = threading.Lock()


def read_mat(data: bytes) -> Variables:
    """One file through a child that this process keeps for all such calls. Raises BadSample.

    For single files, from any thread; builders take :func:`process_reader`.
    """
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = MatReader()
        (answer,) = _shared.read_many([data])
    if isinstance(answer, BadSample):
        raise answer
    return answer

"""An S3 server on loopback, a process of its own (moto), behind a door that can be made unreliable.

The door is a proxy: of the requests that pass, a share is answered with 5xx (before or after the server did what was
asked), with 404, with half a body, with one flipped bit, or with nothing at all until the client has given up.
"""

import contextlib
import http.client
import http.server
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

FAULTS = (*3 * ("503", "503 after", "404", "cut", "flip"), "hang")  # a hang costs the client's whole patience
_ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>injected</Message></Error>"
_BODILESS = ("content-length", "transfer-encoding", "connection")


class S3Server:
    """moto and the door before it; `injected` counts what the door has done."""

    def __init__(self) -> None:
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self._port = chosen.getsockname()[1]
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.injected: Counter[str] = Counter()
        self._share, self._kinds, self._hang_s = 0.0, FAULTS, 0.0
        self._rng, self._lock = random.Random(0), threading.Lock()
        self._door = _Door(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._door.serve_forever, args=(0.05,), daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._door.server_address[1]}"
        self.past_the_door = f"http://127.0.0.1:{self._port}"
        self._wait()
        self.ask("PUT", "/faces")

    def close(self) -> None:
        """End both."""
        self._door.shutdown()
        self._door.server_close()
        self._process.terminate()
        self._process.wait()

    @contextlib.contextmanager
    def unreliable(
        self, share: float, *, seed: int | None = None, kinds: Sequence[str] = FAULTS, hang_s: float = 0.5
    ) -> Iterator[None]:
        """While the block runs, `share` of all requests meet one of `kinds`; without `seed` the draws go on."""
        before = self._share, self._kinds, self._hang_s
        self._share, self._kinds, self._hang_s = share, tuple(kinds), hang_s
        if seed is not None:
            self._rng = random.Random(seed)
        try:
            yield
        finally:
            self._share, self._kinds, self._hang_s = before

    @contextlib.contextmanager
    def calm(self) -> Iterator[None]:
        """While the block runs, all is well."""
        with self.unreliable(0.0):
            yield

    def fault(self) -> str:
        """What happens to the next request; empty: nothing."""
        with self._lock:
            if self._rng.random() >= self._share:
                return ""
            return self._rng.choice(self._kinds)

    def count(self, fault: str) -> None:
        """A request met this."""
        with self._lock:
            self.injected[fault] += 1

    def hang(self) -> None:
        """Wait until the client has given up."""
        time.sleep(self._hang_s)

    def flip(self, data: bytes) -> bytes:
        """One bit of it otherwise."""
        flipped = bytearray(data)
        with self._lock:
            flipped[self._rng.randrange(len(flipped))] ^= 1 << self._rng.randrange(8)
        return bytes(flipped)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """A request to the server itself, past the door."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _wait(self) -> None:
        for _ in range(600):
            with contextlib.suppress(OSError):
                self.ask("GET", "/")
                return
            time.sleep(0.05)
        raise TimeoutError("moto did not begin to listen within 30 seconds")


class _Door(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        """A client that hung up is part of the game."""


def _handler(server: S3Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_) -> None:
            """Nothing."""

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)) or None
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            fault = server.fault()
            if fault == "503":
                return self.refuse(fault, 503, b"SlowDown")
            if fault == "403":
                return self.refuse(fault, 403, b"InvalidAccessKeyId")
            if fault == "404" and self.command in ("GET", "HEAD") and "list-type" not in self.path:
                return self.refuse(fault, 404, b"NoSuchKey")
            if fault == "hang":
                server.count(fault)
                server.hang()
                self.close_connection = True
                return None
            status, found, data = server.ask(self.command, self.path, body, headers)
            if fault == "503 after":
                return self.refuse(fault, 503, b"InternalError")
            if fault == "flip" and data and self.command == "GET":
                server.count(fault)
                data = server.flip(data)
            self.send_response(status)
            for name, value in found:
                if name.lower() not in _BODILESS:
                    self.send_header(name, value)
            length = str(len(data)) if self.command != "HEAD" else dict(found).get("Content-Length", "0")
            self.send_header("Content-Length", length)
            self.end_headers()
            if fault == "cut" and data and self.command == "GET":
                server.count(fault)
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif self.command != "HEAD":
                self.wfile.write(data)
            return None

        def refuse(self, fault: str, status: int, code: bytes) -> None:
            server.count(fault)
            data = b"" if self.command == "HEAD" else _ERROR % code
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    return Handler

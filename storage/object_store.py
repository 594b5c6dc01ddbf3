"""A folder of S3, or of anything that speaks its protocol, as a :class:`~storage.store.Store`.

Only this file knows obstore. Credentials, region and endpoint come from the environment (``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``, …) in whatever process asks: the store itself is an
address, so that no pickle, manifest or message holds any of them.

What S3 promises is used: an object is there whole or not at all, reading follows writing, and ``If-None-Match`` and
``If-Match`` make one of several writers win; an object that is held open is read with ``If-Match`` too, so that bytes of
another one that took its place are never given out. What a network does is guarded against here: every object carries
its SHA-256 and the token of the call that wrote it (user metadata), so that a whole object with other bytes is asked
for again, and a conditional write whose answer was lost is recognised as one's own.
"""

import hashlib
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import repeat
from typing import Any, TypeVar
from urllib.parse import urlsplit

from storage.store import (
    Bytes,
    DamagedObject,
    ExchangedObject,
    MissingObject,
    ObjectReader,
    Store,
    StoreUrl,
    check_key,
    is_key,
)

T = TypeVar("T")

ATTEMPTS = 6
"""How often bytes that fail their checksum are asked for."""

_CALLS = 3
"""How often obstore is called again after all its own retries."""

_NO_BUCKET = "NoSuchBucket"
_SHA256, _TOKEN = "facefoundry-sha256", "facefoundry-token"
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_SIGNS = (
    ("kind: Timeout|TimedOut", "silence for longer than AWS_TIMEOUT"),
    ("dns error", "its name is not known"),
    ("ConnectionRefused", "the connection was refused"),
    ("(?i)certificate|HandshakeFailure|InvalidContentType|InvalidMessage", "no encrypted connection could be made"),
    ("IncompleteMessage|ConnectionReset|UnexpectedEof|kind: (Decode|Body)", "it hung up"),
    ("NetworkUnreachable|HostUnreachable", "there is no way to it"),
    ("kind: Connect", "there was no connection"),
)
"""What obstore's errors hold in their details, and what it means."""
_YES = ("1", "true", "on", "yes", "y")
_process_of_the_runtime: int | None = None


class ObjectStoreFailed(OSError):
    """The object store refused, or did not answer in time. Says which object and what the server said, never secrets."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How obstore repeats requests. How long one may take is in the environment: ``AWS_TIMEOUT``, by default 30s."""

    max_retries: int = 5
    """Of one request after 5xx, lost connections and, for reading, timeouts."""
    first_pause_s: float = 0.1
    longest_pause_s: float = 15.0


class ObjectStore(Store):
    """``s3://bucket/prefix``. Picklable; not to be used in a process that was forked from one that has used it."""

    attempts = ATTEMPTS
    has_lock = False

    def __init__(self, url: str, patience: Patience = Patience()) -> None:  # frozen
        self.url, self.patience = StoreUrl(url), patience
        self._opened: Any = None
        self._lock = threading.Lock()

    def __getstate__(self) -> tuple[str, Patience]:
        return str(self.url), self.patience

    def __setstate__(self, state: tuple[str, Patience]) -> None:
        ObjectStore.__init__(self, *state)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectStore) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"ObjectStore({str(self.url)!r})"

    def __str__(self) -> str:
        return str(self.url)

    @property
    def place(self) -> StoreUrl:  # noqa: D102
        return self.url

    def folder(self, name: str) -> "ObjectStore":  # noqa: D102
        check_key(name)
        return ObjectStore(self.url / name, self.patience)

    def folders(self) -> Sequence[str]:  # noqa: D102
        found = self._told_twice(lambda s3: s3.list_with_delimiter("")["common_prefixes"])
        names = (str(prefix).rstrip("/").rpartition("/")[2] for prefix in found)
        return sorted(name for name in names if is_key(name))

    def get(self, key: str, range: tuple[int, int] | None = None) -> bytes:  # noqa: D102
        check_key(key)
        if range is not None:
            return self.part(key, *range)
        for _ in repeat(None, ATTEMPTS):
            data, attributes = self._present(key, _get_whole)
            stated = attributes.get(_SHA256)
            if stated is None or stated == hashlib.sha256(data).hexdigest():  # None: another program's copy
                return data
        raise DamagedObject(key, "does not match the SHA-256 that it was written with")

    def open(self, key: str) -> ObjectReader:  # noqa: D102
        return _RangeReader(self, key)

    def put(self, key: str, data: Bytes | Sequence[Bytes]) -> None:  # noqa: D102
        self._put(key, _joined(data), "overwrite")

    def put_if_absent(self, key: str, data: Bytes | Sequence[Bytes]) -> bool:  # noqa: D102
        return self._put(key, _joined(data), "create")

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:  # noqa: D102
        if expected is None:
            return self.put_if_absent(key, data)
        try:
            tag = self._present(key, lambda s3, path: s3.head(path)["e_tag"])
            if self.get(key) != expected:
                return False
        except MissingObject:
            return False
        return self._put(key, data, {"e_tag": tag})

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:  # noqa: D102
        folder = prefix.rpartition("/")[0]
        if folder:
            check_key(folder)

        def everything(s3: Any) -> list[tuple[str, int]]:
            return [(thing["path"], thing["size"]) for page in s3.list(folder or None) for thing in page]

        return iter(sorted(found for found in self._told_twice(everything) if found[0].startswith(prefix)))

    def delete(self, key: str) -> None:  # noqa: D102
        check_key(key)
        self._call(key, lambda s3: s3.delete(key), absent=None)

    def size(self, key: str) -> int:  # noqa: D102
        check_key(key)
        return int(self._present(key, lambda s3, path: s3.head(path)["size"]))

    def size_and_tag(self, key: str) -> tuple[int, str | None]:
        """How many bytes the object has, and its ETag, which another object of that name would not have."""
        check_key(key)

        def ask(s3: Any, path: str) -> tuple[int, str | None]:
            said = s3.head(path)
            return said["size"], said["e_tag"]

        return self._present(key, ask)

    def modified(self, key: str) -> float:  # noqa: D102
        check_key(key)
        return float(self._present(key, lambda s3, path: s3.head(path)["last_modified"].timestamp()))

    def part(self, key: str, start: int, stop: int, tag: str | None = None) -> bytes:
        """Exactly the bytes [start, stop). With `tag`, of the object with this ETag; ExchangedObject if it is another."""
        if start == stop:
            self.size(key)
            return b""
        options = {"range": (start, stop)} | ({"if_match": tag} if tag else {})

        def ask(s3: Any, path: str) -> bytes:
            answer = s3.get(path, options=options)
            if tag and answer.meta["e_tag"] != tag:  # a server that does not know the condition
                raise ExchangedObject(key)
            return bytes(answer.bytes())

        for _ in repeat(None, ATTEMPTS):  # a reply may be cut short without a word
            data = self._present(key, ask, taken=[None])
            if data is None:
                raise ExchangedObject(key)
            if len(data) == stop - start:
                return data
            if self.size(key) < stop:
                break
        raise DamagedObject(key, f"has {self.size(key)} bytes, and bytes {start} to {stop} were asked for")

    def _put(self, key: str, data: bytes, mode: str | dict[str, Any]) -> bool:
        """Whether this call wrote the object. Said twice, a conditional write refuses itself: the token tells."""
        check_key(key)
        token = secrets.token_hex(16)
        attributes = {_SHA256: hashlib.sha256(data).hexdigest(), _TOKEN: token}

        def write(s3: Any) -> bool:
            s3.put(key, data, attributes=attributes, mode=mode, use_multipart=False)
            return True

        return self._call(key, write, taken=False) or self._was_written_by(key, token)

    def _was_written_by(self, key: str, token: str) -> bool:
        try:
            return bool(self._present(key, lambda s3, path: s3.get(path).attributes).get(_TOKEN) == token)
        except MissingObject:
            return False

    def _present(self, key: str, ask: Callable[[Any, str], T], **answers: Any) -> T:
        """What `ask` gives; MissingObject when it is told twice that there is no such object."""
        for _ in repeat(None, 2):
            found: list[T] = self._call(key, lambda s3: [ask(s3, key)], absent=[], **answers)
            if found:
                return found[0]
        raise MissingObject(key)

    def _told_twice(self, ask: Callable[[Any], T]) -> T:
        """A listing, which has no checksum: believed when the next one is the same, unless others are writing."""
        found = self._call("", ask)
        for _ in repeat(None, ATTEMPTS):
            found, before = self._call("", ask), found
            if found == before:
                break
        return found

    def _call(self, key: str, act: Callable[[Any], T], **answers: T) -> T:
        """``act(s3)``; `absent` and `taken` are what to answer when the object is not there, or is and should not be.

        Called again where nothing is known of what became of the request: every request here may be repeated, the
        conditional ones because they know their own token.
        """
        for _ in repeat(None, _CALLS - 1):
            try:
                return self._call_once(key, act, **answers)
            except _NoAnswer:
                pass
        return self._call_once(key, act, **answers)

    def _call_once(self, key: str, act: Callable[[Any], T], **answers: T) -> T:
        from obstore import exceptions as told

        try:
            return act(self._s3())
        except FileNotFoundError as error:
            if "absent" in answers and _NO_BUCKET not in str(error):
                return answers["absent"]
            failure = self._failure(key, error)
        except (told.AlreadyExistsError, told.PreconditionError) as error:
            if "taken" in answers:
                return answers["taken"]
            failure = ObjectStoreFailed(f"{self.url}/{key}: {_sentence(error)}")
        except told.BaseError as error:
            failure = self._failure(key, error)
        raise failure from None  # obstore's own text repeats the request, signature and all

    def _failure(self, key: str, error: BaseException) -> ObjectStoreFailed:
        """What no repetition mends, and :class:`_NoAnswer` for the rest. A listing's errors have no class of their own."""
        from obstore import exceptions as told

        sentence = _sentence(error)
        if _NO_BUCKET in sentence:
            return ObjectStoreFailed(
                f"{self.url}/{key}: {sentence}; make the bucket, or look at its name, AWS_REGION and AWS_ENDPOINT_URL"
            )
        denied = isinstance(error, told.PermissionDeniedError | told.UnauthenticatedError)
        if denied or re.search(r"answered 40[13]\b", sentence):
            return ObjectStoreFailed(
                f"{self.url}/{key} may not be used with these credentials ({sentence}): look at "
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL, and at the bucket's policy"
            )
        return _NoAnswer(f"{self.url}/{key}: {sentence}; the same command goes on where it stopped")

    def _s3(self) -> Any:
        with self._lock:
            _refuse_forked()
            if self._opened is None:
                self._opened = self._connected()
            return self._opened

    def _connected(self) -> Any:
        from obstore.store import S3Store

        if not any(os.environ.get(name) for name in _CREDENTIALS):
            raise ObjectStoreFailed(
                f"{self.url} needs credentials in the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a web "
                "identity; nothing else is asked, and AWS_SKIP_SIGNATURE=true reads what is public"
            )
        _check_endpoints()
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        patience = self.patience
        return S3Store(
            bucket,
            prefix=prefix or None,
            retry_config={
                "max_retries": patience.max_retries,
                "backoff": {
                    "init_backoff": timedelta(seconds=patience.first_pause_s),
                    "max_backoff": timedelta(seconds=patience.longest_pause_s),
                },
            },
        )


class _NoAnswer(ObjectStoreFailed):
    """Nothing is known of what became of the request."""


class _RangeReader(ObjectReader):
    """One request a read, as without the condition: the server compares the ETag of the object that was opened."""

    attempts = ATTEMPTS
    piece_bytes = 8 << 20  # a request each

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store, self._key = store, key
        self.size, self._tag = store.size_and_tag(key)

    def read(self, start: int, stop: int) -> Bytes:
        return self._store.part(self._key, start, stop, self._tag)


def _get_whole(s3: Any, key: str) -> tuple[bytes, dict[str, str]]:
    answer = s3.get(key)
    return bytes(answer.bytes()), {name.lower(): value for name, value in answer.attributes.items()}


def _joined(data: Bytes | Sequence[Bytes]) -> bytes:
    return bytes(data) if isinstance(data, bytes | bytearray | memoryview) else b"".join(data)


def _sentence(error: BaseException) -> str:
    """What happened, without the body of the answer, which may repeat key, signature and canonical request."""
    first = str(error).partition("\n\nDebug source")[0]
    code = re.search(r"<Code>(\w+)</Code>", first)
    what = re.search(r"non-2xx status code: (\d+ [A-Za-z -]+)", first)
    if what:
        return f"the server answered {what[1].strip()}" + (f", {code[1]}" if code else "")
    told = str(error)
    reason = next((reason for sign, reason in _SIGNS if re.search(sign, told)), type(error).__name__)
    advice = "" if "hung up" in reason else f"; look at {' and '.join([*_endpoints(), 'the network'])}"
    return f"no whole answer came from {_server()} ({reason}){advice}"


def _endpoints() -> dict[str, str]:
    """The settings that name a server other than Amazon's, as far as they are there."""
    return {name: os.environ[name] for name in _ENDPOINTS if os.environ.get(name)}


def _server() -> str:
    """Who is asked, without the user and password that an address may hold."""
    for address in _endpoints().values():
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return f"Amazon S3 in {os.environ.get('AWS_REGION') or os.environ.get('AWS_DEFAULT_REGION') or 'us-east-1'}"


def _check_endpoints() -> None:
    """What obstore would panic about, which no `except` of ours would see."""
    for name, address in _endpoints().items():
        if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", address):
            raise ObjectStoreFailed(
                f"{name} is no address of a server: it should be like https://host or http://host:port"
            )
        if address.startswith("http:") and os.environ.get("AWS_ALLOW_HTTP", "").lower() not in _YES:
            raise ObjectStoreFailed(
                f"{name} is an address without encryption, {_server()}; AWS_ALLOW_HTTP=true says that it is meant so"
            )


def _refuse_forked() -> None:
    """obstore's threads do not survive a fork: a forked child would wait for them for ever, or crash."""
    global _process_of_the_runtime
    if _process_of_the_runtime is None:
        _process_of_the_runtime = os.getpid()
    if _process_of_the_runtime != os.getpid():
        raise RuntimeError(
            "an object store was used before this process was forked, and cannot be used in it: start workers with "
            "forkserver or spawn"
        )

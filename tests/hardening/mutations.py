"""Damage to files: any valid file and a number give one damaged file, the same every time.

Most of it is blind (bits, cuts, splices, numbers that are too large); what is JSON or lines of text is also changed by
somebody who knows the format: nested without end, doubled, of another type, with numbers that no type holds.
"""

import json
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_HUGE = (0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0xFFFF, 0x10000, 1 << 30, 0, 1)
_WORDS = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1", "0", "9" * 400, "null", "true", '""', "[]", "{}", '"\\u0000"',
    '"../../../etc/passwd"', '"/etc/passwd"', '"\\ud800"', "[[[[]]]]", '{"a": 1}', "1e-400", "0.5", "2147483648", '"x"',
)  # fmt: skip
_CELLS = (
    b"",
    b"nan",
    b"inf",
    b"-inf",
    b"1e999",
    b"-1",
    b"9" * 400,
    b"\xff\xfe",
    b"\x00",
    b'"',
    b"0x10",
    b"1_000",
    b"\xd9\xa3",
)


@dataclass(frozen=True, slots=True)
class Mutation:
    """What was done, and what came of it. `keeps_checksums`: no part was moved or made anew, so checksums must notice."""

    kind: str
    data: bytes

    @property
    def keeps_checksums(self) -> bool:
        """Whether a checksum of before would notice: single bits and bytes changed, and nothing else."""
        return self.kind in ("bits", "bytes")


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random, *, is_text: bool) -> Mutation:
    """One damaged version of `data`; `others` are valid files of the same format, to splice with."""
    kinds: list[tuple[str, Callable[[], bytes]]] = [
        ("bits", lambda: _bits(data, rng)),
        ("bits", lambda: _bits(data, rng)),
        ("bytes", lambda: _bytes(data, rng)),
        ("cut", lambda: data[: rng.randrange(len(data) + 1)]),
        ("header cut", lambda: data[: rng.randrange(min(len(data), 256) + 1)]),
        ("hole", lambda: _hole(data, rng)),
        ("zeros", lambda: _zeros(data, rng)),
        ("repeat", lambda: _repeat(data, rng)),
        ("splice", lambda: _splice(data, rng.choice(others or [data]), rng)),
        ("huge", lambda: _huge(data, rng)),
        ("appended", lambda: data + rng.randbytes(rng.randrange(1, 64))),
    ]
    if is_text:
        kinds += [("cells", lambda: _cells(data, rng))] * 4
        kinds += [("line", lambda: _line(data, rng))] * 2
        kinds += [("deep", lambda: _deep(data, rng))]
        if data[:1] in (b"{", b"["):
            kinds += [("json", lambda: changed_json(data, rng))] * 8
    name, change = rng.choice(kinds)
    return Mutation(name, change())


def _place(data: bytes, rng: random.Random) -> int:
    """Anywhere, half of the time within the first 512 bytes, where headers are."""
    end = min(len(data), 512) if rng.random() < 0.5 else len(data)
    return rng.randrange(max(end, 1))


def _bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 1, 4, 16))):
        changed[_place(changed, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 4))):
        changed[_place(changed, rng)] = rng.randrange(256)
    return bytes(changed)


def _hole(data: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    return data[:start] + data[start + rng.choice((1, 2, 4, 8, 64, 512)) :]


def _zeros(data: bytes, rng: random.Random) -> bytes:
    start, n = _place(data, rng), rng.choice((4, 8, 64, 512))
    return data[:start] + bytes(min(n, len(data) - start)) + data[start + n :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    start, n = _place(data, rng), rng.choice((8, 64, 1024))
    return data[: start + n] + data[start : start + n] * rng.choice((1, 2, 50)) + data[start + n :]


def _splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)] + other[_place(other, rng) :]


def _huge(data: bytes, rng: random.Random) -> bytes:
    start, number, order = _place(data, rng) & ~3, rng.choice(_HUGE), rng.choice("<>")
    packed = struct.pack(order + rng.choice("IQ"), number)
    return data[:start] + packed + data[start + len(packed) :]


def _cells(data: bytes, rng: random.Random) -> bytes:
    """Numbers and words of a text exchanged for ones that no number type holds."""
    words = data.replace(b",", b" , ").split(b" ")
    for _ in range(rng.choice((1, 1, 3))):
        place = rng.randrange(len(words))
        word = words[place].strip()
        words[place] = words[place].replace(word, rng.choice(_CELLS)) if word else rng.choice(_CELLS)
    return b" ".join(words).replace(b" , ", b",")


def _line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, lines[rng.randrange(len(lines))])
        case 2:
            lines[place] = lines[place] * rng.choice((2, 3000))
        case _:
            rng.shuffle(lines)
    return b"\n".join(lines)


def _deep(data: bytes, rng: random.Random) -> bytes:
    """Nested a hundred thousand deep, in the place of the whole or of a part."""
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    n = rng.choice((500, 100_000))
    deep = opening * n + b"1" + closing * n
    return deep if rng.random() < 0.5 else data[: _place(data, rng)] + deep


def changed_json(data: bytes, rng: random.Random) -> bytes:
    """The same JSON with one to three values exchanged, doubled, renamed or left out."""
    try:
        content = json.loads(data)
    except ValueError:
        return _bits(data, rng)
    marks: dict[str, str] = {}
    for number in range(rng.choice((1, 1, 1, 3))):
        content = _changed_value(content, rng, marks, number)
    text = json.dumps(content, indent=rng.choice((None, 1)), ensure_ascii=rng.random() < 0.5)
    for mark, word in marks.items():
        text = text.replace(f'"{mark}"', word)
    return text.encode(errors="surrogatepass")


def _changed_value(content: object, rng: random.Random, marks: dict[str, str], number: int) -> object:
    places: list[tuple[dict | list, object]] = []
    _walk(content, places)
    mark = f"@mark {number}@"
    marks[mark] = rng.choice(_WORDS)
    if not places:
        return mark
    parent, key = rng.choice(places)
    match rng.randrange(5):
        case 0 if isinstance(parent, dict):
            del parent[key]
        case 0:
            del parent[key]  # type: ignore[index]
        case 1 if isinstance(parent, dict):
            parent[f"{key}x"] = parent.pop(key)  # type: ignore[call-overload]
        case 1 | 2:
            other, other_key = rng.choice(places)
            parent[key] = json.loads(json.dumps(other[other_key]))  # type: ignore[index, call-overload]
        case _:
            parent[key] = mark  # type: ignore[index, call-overload]
    return content


def _walk(content: object, places: list[tuple[dict | list, object]]) -> None:
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        places.append((content, key))  # type: ignore[arg-type]
        _walk(content[key], places)  # type: ignore[index]

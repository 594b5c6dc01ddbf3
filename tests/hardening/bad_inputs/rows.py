"""The rows of the table: what is tried, what was promised, and the three ways to end."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from storage.dataset import open_dataset
from storage.phases import Phase, observed
from tests.hardening.bad_inputs.lab import BAD_ID, GOOD_STEM, Lab

SET_ASIDE = "set aside"
REFUSED = "refused"
ROT = (
    "noticed by the plan's SHA-256: the build stops and names the file, nothing is published; with it mended it goes on"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table; `run` makes the input, gives it to the program, and asserts how it ends."""

    number: int
    what: str
    promise: str
    seen: str
    run: Callable[[Lab], None] = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.number:02d}"

    @property
    def line(self) -> str:
        """Of the table in the docs."""
        return f"| {self.number} | {self.what} | {self.promise} | {self.seen} | `test_bad_input[{self.name}]` |"


ROWS: list[Row] = []
QUARANTINED: dict[int, tuple[Callable[[Lab], None], Mapping[str, str]]] = {}
"""Of the rows whose samples are set aside: what puts them into a lab, and the code of each by its id."""


def _id_of(name: str) -> str:
    """`bad` is the first bad sample, `bad_1` the view 1 of the same photograph, `AFW_2_0` one of that stem."""
    return f"AFW/{name}" if name.startswith("AFW") else BAD_ID + name.removeprefix("bad")


def quarantined(number: int, what: str, *words: str, promise: str = SET_ASIDE, **codes: str):
    """A row whose maker puts bad samples beside the good ones; `codes` says what becomes of each.

    First the build is held to its usual cap, and ends with exit code 3 and one line. Then the cap is raised; the same build
    goes on, and publishes the good samples, bit for bit as they are without the bad ones.
    """

    def decorate(make: Callable[[Lab], None]) -> Callable[[Lab], None]:
        def run(lab: Lab) -> None:
            make(lab)
            first = lab.build()
            first.complains(3, "raise --max-bad", *words)
            again = lab.build("--max-bad", "0.9")
            samples = lab.samples(again)
            found = {hole.source_id: hole.code for hole in open_dataset(lab.out / "300wlp-posmaps").manifest.rejected}
            assert found == {_id_of(name): code for name, code in codes.items()}
            assert again.json["rejected"] == len(codes)
            assert samples.keys() == lab.good.expected.keys()
            lab.good_ones_are_untouched(samples)

        seen = "3; 0 with the cap raised: " + ", ".join(f"`{code}`" for code in dict.fromkeys(codes.values()))
        ROWS.append(Row(number, what, promise, seen, run))
        QUARANTINED[number] = make, {_id_of(name): code for name, code in codes.items()}
        return make

    return decorate


def read_right(number: int, what: str, seen: str, *, promise: str = "read right"):
    """A row that only looks bad: a check is given the bad sample and the good one that it was made of."""

    def decorate(make: Callable[[Lab], Callable[[dict, dict], None]]) -> object:
        def run(lab: Lab) -> None:
            check = make(lab)
            ended = lab.build()
            samples = lab.samples(ended)
            assert ended.json["rejected"] == 0
            lab.good_ones_are_untouched(samples)
            check(samples[BAD_ID], lab.good.expected[f"AFW/{GOOD_STEM}"])

        ROWS.append(Row(number, what, promise, seen, run))
        return make

    return decorate


def other(number: int, what: str, promise: str, seen: str):
    """A row that runs what it likes."""

    def decorate(run: Callable[[Lab], None]) -> Callable[[Lab], None]:
        ROWS.append(Row(number, what, promise, seen, run))
        return run

    return decorate


def the_same_picture(sample: dict, good: dict) -> None:
    for target, value in good.items():
        if target != "seed":  # each id has its own
            np.testing.assert_array_equal(sample[target], value, err_msg=target)


@contextlib.contextmanager
def changed_after_the_plan(path: Path, content: bytes) -> Iterator[None]:
    """Rot, or somebody's copying, between the plan and the shards."""

    def strike(phase: Phase, what: str) -> None:
        if phase is Phase.PLAN:
            path.write_bytes(content)

    with observed(strike):
        yield


def one_bit_changed(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 4
    return bytes(changed)


def rots_after_the_plan(lab: Lab, path: Path) -> None:
    """The build stops and names the file; the whole version is not published."""
    right = path.read_bytes()
    with changed_after_the_plan(path, one_bit_changed(right)):
        ended = lab.build("--max-bad", "0.9")
    ended.complains(1, re.escape(path.name), "has changed since this build was planned", "start the build again")
    assert not (lab.out / "300wlp-posmaps" / "latest").exists()
    path.write_bytes(right)
    lab.good_ones_are_untouched(lab.samples(lab.build()))

"""Damaged files without end: ``python -m tests.hardening.fuzz --minutes 10 --seed 3 --target images``.

Each example takes a valid file, damages it (:mod:`tests.hardening.mutations`) and gives it to its reader
(:mod:`tests.hardening.fuzz_targets`). It must be read right or refused by this project's own error, within the limits of time and
memory. Everything else is a find: another exception, a killed process, a hang, memory without end, or other values than were
written where there is a checksum.

Examples run in a child with limits, in order; an example is known by target, seed and number, and ``--only N`` runs one of them
alone, in this process. With ``--keep FOLDER`` the files of finds are kept.
"""

import argparse
import json
import linecache
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import storage
from tests.hardening.fuzz_targets import ROOT, TARGETS, Seed, fresh_seeds
from tests.hardening.mutations import Mutation, mutated

TIME_LIMIT_S = 10.0
"""Of the processor."""
MEMORY_LIMIT_BYTES = 1 << 30
"""More than the process has when it begins."""
_OWN = ("geometry", "render", "storage", "train", "flows")
_HOME = Path(storage.__file__).parents[1]
"""Where the packages lie: in the checkout, or where a wheel was installed."""
_START_LIMIT_S, _CHILD_LIMIT_S = 600.0, 300.0


@dataclass(frozen=True, slots=True)
class Find:
    """An example that ended as none may."""

    target: str
    seed: int
    number: int
    name: str
    kind: str
    what: str


@dataclass(slots=True)
class Tally:
    """What has come of the examples so far."""

    n: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    finds: list[Find] = field(default_factory=list)


class TooSlow(BaseException):
    """The time of one example is over; no reader may catch it."""


def example(seeds: Sequence[Seed], target: str, seed: int, number: int) -> tuple[Seed, Mutation]:
    """The example of that number: the same file every time."""
    rng = random.Random(f"{target} {seed} {number}")
    chosen = seeds[rng.randrange(len(seeds))]
    others = [s.data for s in seeds if s.family == chosen.family and s is not chosen]
    return chosen, mutated(chosen.data, others, rng, is_text=chosen.is_text)


def outcome_of(seed: Seed, mutation: Mutation, right: str) -> tuple[str, str]:
    """("read" | "same" | "refused" | "find", what happened)."""
    try:
        found = seed.read(mutation.data)
    except (TooSlow, KeyboardInterrupt):
        raise
    except BaseException as error:
        return ("refused", "") if is_own_refusal(error) else ("find", _described(error))
    if found == right:
        return "same", ""
    if seed.checksummed and mutation.keeps_checksums and not _is_part(found, right):
        return "find", "other values than were written, though there is a checksum"
    return "read", ""


def is_own_refusal(error: BaseException) -> bool:
    """Whether it is an error class of this project, or a ValueError that a line of this project raised on purpose."""
    if isinstance(error, AssertionError) or not isinstance(error, Exception):
        return False
    if type(error).__module__.partition(".")[0] in _OWN:
        return True
    return type(error) is ValueError and _raised_by_us(error)


def _raised_by_us(error: BaseException) -> bool:
    """Whether the innermost frame is a `raise` of ours, and not a call that failed."""
    last = list(traceback.walk_tb(error.__traceback__))[-1:]
    if not last:
        return False
    frame, line = last[0]
    path = Path(frame.f_code.co_filename)
    own = path.is_relative_to(ROOT / "tests") or any(path.is_relative_to(_HOME / name) for name in _OWN)
    return own and linecache.getline(str(path), line).lstrip().startswith("raise ")


def _is_part(found: str, right: str) -> bool:
    """Whether everything that was found is as it was: a variable may have gone, none may have changed."""
    return " " in right and set(found.split()) <= set(right.split())


def _described(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if any(Path(frame.filename).is_relative_to(_HOME / name) for name in _OWN)]
    where = f" in {Path(own[-1].filename).relative_to(_HOME)}:{own[-1].lineno}" if own else ""
    return f"{type(error).__name__}: {str(error)[:160]}{where}"


# ---------------------------------------------------------------------------------------------------------- running


def run_examples(target: str, seed: int, numbers: Iterator[int] | range, folder: Path, report=lambda *_: None) -> Tally:
    """Run these examples in this process, under its limits; `report(number)` is called before each."""
    warnings.simplefilter("ignore")
    seeds = fresh_seeds(target, folder)
    rights = {id(one): _right(one) for one in seeds}
    tally = Tally()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGPROF, _ring)
    try:
        for number in numbers:
            report(number)
            chosen, mutation = example(seeds, target, seed, number)
            signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT_S)
            try:
                outcome, what = outcome_of(chosen, mutation, rights[id(chosen)])
            except TooSlow:
                outcome, what = "find", f"not done after {TIME_LIMIT_S:g} s"
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if peak > used + MEMORY_LIMIT_BYTES // 1024:
                outcome, what, used = "find", f"memory grew by {(peak - used) // 1024} MB", peak
            tally.n += 1
            tally.outcomes[outcome] += 1
            if outcome == "find":
                tally.finds.append(Find(target, seed, number, chosen.name, mutation.kind, what))
    finally:
        signal.signal(signal.SIGPROF, previous)
    return tally


def _right(seed: Seed) -> str:
    try:
        return seed.read(seed.data)
    except Exception as error:
        if is_own_refusal(error):  # a file of a kind that is refused: no damage may make it worse
            return "refused"
        raise


def _ring(*_: object) -> None:
    raise TooSlow


def _child(
    target: str, seed: int, first: int, until: float, place: Path, told: "multiprocessing.connection.Connection"
) -> None:
    def numbers() -> Iterator[int]:
        number = first
        while time.monotonic() < until:
            yield number
            number += 1

    last_told = 0.0

    def report(number: int) -> None:
        nonlocal last_told
        (place / "number").write_text(str(number))
        if time.monotonic() > last_told + 5:
            last_told = time.monotonic()
            told.send(("alive", number))

    with open(place / "stderr", "a") as complaints:  # decoders talk
        os.dup2(complaints.fileno(), 2)
    told.send(("done", run_examples(target, seed, numbers(), place / "work", report)))


def run_for(target: str, seed: int, seconds: float, folder: Path, first: int = 0) -> Tally:
    """Run examples for so long, in children: one that is killed or hangs costs one example, which is a find."""
    tally = Tally()
    until = time.monotonic() + seconds
    context = multiprocessing.get_context("spawn")
    number = first
    folder.mkdir(parents=True, exist_ok=True)
    while time.monotonic() < until:
        told, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(target, seed, number, until, folder, theirs))
        child.start()
        theirs.close()
        done, reason, began = None, "", False
        try:
            while done is None:
                if not told.poll(_CHILD_LIMIT_S if began else _START_LIMIT_S):
                    child.kill()
                    reason = f"nothing was heard for {_CHILD_LIMIT_S:g} s: a hang that no alarm ends"
                    break
                kind, value = told.recv()
                began = True
                done = value if kind == "done" else None
        except EOFError:
            pass
        child.join()
        if done is not None:
            tally.n += done.n
            tally.outcomes += done.outcomes
            tally.finds += done.finds
            break
        if not began:
            raise RuntimeError(f"no example of {target} was run: {(folder / 'stderr').read_text()[-2000:]}")
        at = int((folder / "number").read_text() or number) if (folder / "number").exists() else number
        tally.n += at - number + 1
        tally.outcomes["find"] += 1
        tally.finds.append(Find(target, seed, at, "?", "?", reason or f"the process ended with {child.exitcode}"))
        number = at + 1
    return tally


def main() -> int:
    """Run until the time is over; print every find, and a line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first example")
    parser.add_argument("--target", choices=TARGETS, action="append", help="default: all, the time shared")
    parser.add_argument("--only", type=int, help="run this example alone, here, and show what it does")
    parser.add_argument("--keep", type=Path, help="folder for the files of finds")
    options = parser.parse_args()
    targets = options.target or list(TARGETS)
    with tempfile.TemporaryDirectory(prefix="facefoundry-fuzz-") as folder:
        if options.only is not None:
            return _only(targets[0], options.seed, options.only, Path(folder))
        total = Tally()
        for target in targets:
            place = Path(folder) / target
            tally = run_for(target, options.seed, 60 * options.minutes / len(targets), place, options.first)
            for find in tally.finds:
                print(f"{find.target} {find.seed} {find.number}: {find.name} ({find.kind}): {find.what}", flush=True)
            if options.keep and tally.finds:
                _keep(tally.finds, place / "again", options.keep)
            print(json.dumps({"target": target, "examples": tally.n, **tally.outcomes}), flush=True)
            total.n, total.outcomes, total.finds = (
                total.n + tally.n,
                total.outcomes + tally.outcomes,
                total.finds + tally.finds,
            )
        print(json.dumps({"seed": options.seed, "examples": total.n, "finds": len(total.finds)}))
    return 1 if total.finds else 0


def _only(target: str, seed: int, number: int, folder: Path) -> int:
    seeds = fresh_seeds(target, folder / "work")
    chosen, mutation = example(seeds, target, seed, number)
    print(f"{chosen.name}, {mutation.kind}: {len(mutation.data)} bytes, beginning with {mutation.data[:80]!r}")
    print(chosen.read(mutation.data))
    return 0


def _keep(finds: Sequence[Find], work: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    seeds = fresh_seeds(finds[0].target, work)
    for find in finds:
        _, mutation = example(seeds, find.target, find.seed, find.number)
        (folder / f"{find.target}-{find.seed}-{find.number}").write_bytes(mutation.data)


if __name__ == "__main__":
    sys.exit(main())

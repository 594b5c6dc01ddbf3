"""An object store that fails from a phase of a build on: each kind of failure at each phase.

``python -m tests.hardening.store_faults`` tries all of it. From the phase on, one request in five meets the fault, until the
build has ended one way or the other; then all is well again, and the same build must end with the bytes of one on a disk.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from flows.errors import ShardsDamaged
from flows.local import build_here
from storage.dataset import open_dataset
from storage.manifest import Unpublished
from storage.object_store import ObjectStoreFailed
from storage.phases import observed
from storage.publish import AlreadyBuilding, BeingRemoved
from storage.store import DamagedObject, MissingObject
from storage.stores import store_at
from tests.hardening.build_faults import BUILD_PHASES, Undisturbed
from tests.hardening.builders import SMALL, digest_of_sample, forkserver

SHARE = 0.2
KINDS = ("503", "503 after", "404", "403", "cut", "flip", "hang")
LOUD = (
    ShardsDamaged,
    ObjectStoreFailed,
    DamagedObject,
    MissingObject,
    Unpublished,
    AlreadyBuilding,
    BeingRemoved,
    ValueError,
    OSError,
)
"""What a build on a failing store may end in; ValueError: a listing with a flipped bit names what is no object."""


@dataclass(frozen=True, slots=True)
class StoreTrial:
    """How it ended: "whole", or the name of the error; and how many requests met the fault."""

    end: str
    struck: int
    seconds: float


def trial(kind: str, phase: str, undisturbed: Undisturbed, server: Any, prefix: str, local: Path) -> StoreTrial:
    """One kind of failure from one phase on. Raises AssertionError for a wrong sample, half a version, or other bytes."""
    out, before = f"s3://faces/{prefix}", sum(server.injected.values())
    dataset, begin, end = f"{out}/{SMALL.name}", time.monotonic(), "whole"
    with contextlib.chdir(local), contextlib.ExitStack() as trouble:
        begun = False

        def fail_from_here(reached: str, what: str) -> None:
            nonlocal begun
            if reached == phase and not begun:
                begun = True
                trouble.enter_context(server.unreliable(SHARE, seed=7, kinds=(kind,), hang_s=1.5))

        try:
            with observed(fail_from_here):
                build_here(SMALL, source=undisturbed.source, out=out, workers=1)
        except LOUD as error:
            end = type(error).__name__
    seconds, struck = time.monotonic() - begin, sum(server.injected.values()) - before
    with server.calm(), contextlib.chdir(local):
        with contextlib.suppress(Unpublished):
            opened = open_dataset(dataset, undisturbed.version)
            for index, promised in enumerate(undisturbed.samples):
                assert digest_of_sample(opened[index]) == promised, f"sample {index} is wrong, and nothing said so"
        build_here(SMALL, source=undisturbed.source, out=out, workers=1)
        ours = {key: digest for key, digest in undisturbed.files.items() if key.startswith(f"{SMALL.name}/")}
        other = sorted(dict(ours.items() ^ stored(out).items()))
        assert not other, f"other bytes than on a disk: {other[:5]}"
    return StoreTrial(end, struck, seconds)


def stored(out: str) -> Mapping[str, str]:
    """The digest of every object by its key."""
    store = store_at(out)
    return {key: hashlib.sha256(store.get(key)).hexdigest() for key in store.list(f"{SMALL.name}/")}


def server_module() -> ModuleType:
    """tests/s3_server.py."""
    path = Path(__file__).resolve().parents[1] / "s3_server.py"
    specification = importlib.util.spec_from_file_location("s3_server", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def main() -> int:
    """Try everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="some kinds")
    given, wrong = parser.parse_args(), 0
    server = server_module().S3Server()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
        "AWS_ENDPOINT_URL": server.endpoint, "AWS_TIMEOUT": "1s",
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="store-faults-") as name:
        undisturbed = Undisturbed.made(Path(name) / "undisturbed", forkserver())
        for kind in given.only or KINDS:
            for phase in BUILD_PHASES:
                try:
                    seen = trial(kind, phase, undisturbed, server, f"{kind}/{phase}".replace(" ", "-"), Path(name))
                    told, right = f"{seen.end}, {seen.struck} requests struck, {seen.seconds:.1f} s", seen.struck > 0
                except AssertionError as error:
                    told, right = f"AssertionError: {error}", False
                wrong += not right
                print(f"{'  ' if right else '! '}{kind:10} {phase:8} {told}", flush=True)
    server.close()
    print(f"{wrong} trials ended otherwise than promised")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

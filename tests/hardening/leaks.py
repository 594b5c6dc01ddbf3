"""What many rebuilds and readings in one process leave behind: nothing.

``python -m tests.hardening.leaks --rebuilds 1000``
"""

import argparse
import os
import sys
import tempfile
import threading
from pathlib import Path

from flows.local import build_here
from storage.dataset import open_dataset
from storage.manifest import MANIFEST_KEY
from storage.synthetic import write_sample_folder
from tests.hardening.builders import SMALL


def rebuild(source: Path, out: Path, *, shards_too: bool) -> None:
    """Build what is missing, read all of it in two threads, and unpublish it again; `shards_too`: forget the shards."""
    published = build_here(SMALL, source=source, out=out, workers=1)
    dataset = open_dataset(published.path)
    dataset.read(range(len(dataset)), threads=2)
    del dataset
    (published.path / MANIFEST_KEY).unlink()
    if shards_too:
        for receipt in published.path.glob("receipts/*.json"):
            receipt.unlink()


def taken(out: Path) -> dict[str, object]:
    """What this process has of the machine now; resident memory is not among it, since allocators keep what they had."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
        n_children = len(children.read().split())
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "children": n_children,
        "temporary files": sorted(path.name for path in Path(tempfile.gettempdir()).iterdir()),
        "half objects": sorted(str(path) for path in out.rglob(".*") if path.name != ".lock"),
    }


def main() -> int:
    """Rebuild so often, and say every now and then what is taken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rebuilds", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leaks-") as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder / "tmp")
        write_sample_folder(folder / "source", n_identities=1, n_expressions=1, n_views=1)
        rebuild(folder / "source", folder / "out", shards_too=True)
        before = taken(folder / "out")
        for number in range(1, given.rebuilds + 1):
            rebuild(folder / "source", folder / "out", shards_too=number % 4 == 0)
            now = taken(folder / "out")
            if number % 25 == 0 or now != before:
                pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
                print(
                    f"{number}: {'as before' if now == before else now}, {pages * 4 // 1024} MiB resident", flush=True
                )
            if now != before:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
